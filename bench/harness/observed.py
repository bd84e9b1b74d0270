"""Clusters whose calls are recorded, logged, counted and traced, and the same with all of that off; and stores that are full."""

import contextlib
import json
import math
import os
import statistics
import threading
import time
import urllib.request
import uuid
from pathlib import Path

from . import servers
from .tools import CLIENT

# A sample of the calls is traced, as the default is.
RATIO = 0.01


@contextlib.contextmanager
def collector():
    """Somebody who takes traces and does nothing with them, at little cost."""
    listen = f"127.0.0.1:{servers.free_port()}"
    with servers.process(CLIENT, "serve", listen, "--bytes", 0):
        servers.wait_until_answers(f"http://{listen}/")
        yield f"http://{listen}"


def settings(folder, role, text):
    """The argument that gives every process of a role these settings."""
    file = Path(folder) / f"{role}.toml"
    file.write_text(text)
    return f"--{role}-arg=--config={file}"


@contextlib.contextmanager
def pair(binaries, folder, first="on"):
    """Two clusters on one machine: `on`, and `off`, which has receipts and nothing else. One of them is started first."""
    with collector() as endpoint, contextlib.ExitStack() as stack:
        sides = {
            "on": (f'[tracing]\nendpoint = "{endpoint}"\nratio = {RATIO}\n', ""),
            "off": ("[records]\nenabled = false\n", "log_rate_bytes = 0\n"),
        }
        clusters = {}
        for name, (gateway, worker) in sorted(sides.items(), key=lambda side: side[0] != first):
            place = Path(folder) / name
            place.mkdir()
            options = [settings(place, "gateway", gateway), settings(place, "worker", worker)]
            clusters[name] = stack.enter_context(servers.cluster(binaries, place, *options))
        yield clusters


@contextlib.contextmanager
def scraped(cluster, every=5):
    """Reads the gateway's metrics every few seconds, as Prometheus does."""
    ended = threading.Event()

    def read():
        while not ended.wait(every):
            request = urllib.request.Request(f"{cluster.admin}/metrics", headers={"Authorization": f"Bearer {cluster.operator_token}"})
            with urllib.request.urlopen(request, timeout=5) as answer:
                answer.read()

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def interval(values):
    """The median with its 95 % interval, from the order of the values alone (the sign test)."""
    ordered, count = sorted(values), len(values)
    below = [sum(math.comb(count, k) for k in range(rank + 1)) / 2**count for rank in range(count // 2)]
    rank = max((rank for rank, chance in enumerate(below) if chance <= 0.025), default=0)
    return {"median": statistics.median(ordered), "low": ordered[rank], "high": ordered[-1 - rank], "count": count}


def fill(folder, line, functions, count, file_bytes):
    """Writes so many records into files as the gateway does, copies of one with other functions, ids and times over the last day."""
    template, now = json.loads(line), time.time()
    folder.mkdir(parents=True, exist_ok=True)
    number, room, file = 0, 0, None
    for place in range(count):
        began = now - 86_400 * (1 - place / count)
        template["id"] = str(uuid.UUID(int=(int(began * 1000) << 80) | (7 << 76) | (2 << 62) | place))
        template["function"] = f"namespaces/default/functions/{functions[place % len(functions)]}"
        template["start_time"] = {"secs_since_epoch": int(began), "nanos_since_epoch": int(began % 1 * 1e9)}
        text = json.dumps(template, separators=(",", ":")) + "\n"
        if len(text) > room:
            if file:
                written(file, began)
            number, room = number + 1, file_bytes
            file = (folder / f"{number:08}.jsonl").open("w")
        room -= len(text)
        file.write(text)
    written(file, now)
    return number


def written(file, when):
    """Closes a file as if it had been written when its last record was."""
    file.close()
    os.utime(file.name, (when, when))


def size(folder):
    return sum(file.stat().st_size for file in Path(folder).rglob("*.jsonl"))
