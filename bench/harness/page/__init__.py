"""The sections of the page of results: each makes its text and its plots from the figures of one JSON file."""

from collections.abc import Callable
from dataclasses import dataclass

from .functions import chaos, cold, density
from .gateway import gateway
from .observe import observe
from .peers import latest, profile, side_by_side
from .scale import simulator
from .schedule import open_loop


@dataclass
class Section:
    title: str
    command: str
    make: Callable


ALL = {
    "latest": Section("One machine, one call", "run", latest),
    "side-by-side": Section("Side by side", "side-by-side", side_by_side),
    "profile": Section("Where the time goes", "profile", profile),
    "open-loop": Section("Under load", "open-loop", open_loop),
    "gateway": Section("In front of functions", "gateway", gateway),
    "observe": Section("Seeing what happens", "observe", observe),
    "cold": Section("First calls", "cold", cold),
    "density": Section("Many functions", "density", density),
    "chaos": Section("While workers are killed", "chaos", chaos),
    "simulator": Section("A thousand workers", "simulate", simulator),
}
