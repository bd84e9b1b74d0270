"""First calls, many functions, and killed workers."""

from .. import plot
from ..plot import number
from .words import NAMES, image, ms, refusals, series_of, table


def cold(figures):
    distinct, crowd = figures["distinct functions"], figures["a thousand at once"]
    kinds = list(dict.fromkeys(kind for kinds in figures["languages"].values() for kind in kinds))
    rows = [
        [NAMES[name], *(f"{number(kinds[kind]['p50'])} / {number(kinds[kind]['max'])}" for kind in kinds)]
        for name, kinds in figures["languages"].items()
    ]
    text = (
        "One call of a function that is not in memory, in milliseconds: median and most. *Evicted* functions have their compiled code on the worker's disk; "
        "the last kind fetches it from the scheduler first.\n\n" + image("cold", "First calls") + "\n" + table(["language", *kinds], rows)
    )
    rows = [
        [name, number(found["per_second"]), ms(found["p50_us"]), ms(found["p99_us"]), refusals(found)]
        for name, found in distinct.items()
        if "in flight" in name
    ]
    text += (
        f"\n### Many functions\n\n{number(distinct['functions'])} functions of distinct code, all evicted, each called once.\n\n"
        + table(["calls", "cold starts/s", "p50 ms", "p99 ms", "not answered"], rows)
    )
    text += (
        f"\n### A thousand first calls at once\n\nOf one function that is nowhere: all answered within {ms(crowd['max_us'])} ms, p50 {ms(crowd['p50_us'])} ms; "
        f"not answered: {refusals(crowd)}.\n"
    )
    groups = {NAMES[name]: {kind: found["p50"] for kind, found in kinds.items()} for name, kinds in figures["languages"].items()}
    return text, {
        "cold": plot.bars(
            "First calls",
            "median milliseconds on a logarithmic scale, over a connection that is open; shorter is better",
            groups,
            unit=" ms",
            logarithmic=True,
        )
    }


def density(figures):
    rows = []
    for name, found in figures.items():
        if name != "asleep":
            used, further = found["kib_per_function"], found["kib_per_further_function"]
            rows.append(
                [
                    name,
                    number(found["functions"]),
                    number(found["loaded"]),
                    *(f"{number(used[process]['private'])} / {number(further[process]['private'])}" for process in ("worker", "gateway", "scheduler")),
                    number(found["deploys_per_second"]),
                    ms(found["first_calls_of_100"]["p50_us"]),
                ]
            )
    asleep = figures["asleep"]
    used, limits = asleep["kib_per_sandbox"], asleep["limits"]
    text = (
        "Memory that each deployed function adds to a process, in KiB that no other process shares: on average of all, and on average of the "
        "second half, whose first half has paid for what is there once.\n\n"
        + table(["functions", "deployed", "in memory", "worker KiB", "gateway KiB", "scheduler KiB", "deploys/s", "next call p50 ms"], rows)
        + f"\n### Sandboxes asleep\n\n{number(asleep['asleep_at_once'])} of {number(asleep['asked'])} calls slept at once on one worker: {number(used['worker']['private'])} KiB each in the worker, "
        f"{number(used['gateway']['private'])} KiB in the gateway. "
        + ("" if not asleep["calls"] else f"Not answered: {refusals(asleep['calls'])}. ")
        + f"The largest capacity with which a worker started here is {number(limits['largest_capacity_that_started'])}: its pool reserves address space for every memory. "
        f"Other bounds: {number(limits['max_sandboxes_of_a_version'])} sandboxes of a version, {number(limits['connections_of_a_gateway'])} connections of a gateway, {number(limits['open_files'])} open files.\n"
    )
    return text, {}


def chaos(figures):
    during, quiet = figures["during"], figures["without_kills"]
    marks = [(kill["at_seconds"], "kill") for kill in figures["kills"]]
    text = (
        f"{number(figures['calls'])} calls at half the capacity of {figures['workers']} workers, of which one is killed (SIGKILL) every few seconds, {len(figures['kills'])} times: "
        f"**{number(figures['lost'])} calls without their answer** ({refusals(during)}). p99 is {ms(during['p99_us'])} ms, and {ms(quiet['p99_us'])} ms without kills.\n\n"
        + image("chaos", "Latency while workers are killed")
    )
    return text, {
        "chaos": plot.lines(
            "Latency while workers are killed",
            f"windows of {figures['series']['window_ms']} ms",
            series_of(figures["series"], ["p50_us", "p99_us"]),
            logarithmic=True,
            x_label="seconds",
            y_label="ms",
            marks=marks,
        )
    }
