"""The load client, bench/src, as functions: each returns what the client printed."""

import json
import tempfile

from .tools import CLIENT, output


def _watched(server, processes):
    names = server.processes if processes is None else processes
    return [argument for name, pid in names.items() for argument in ("--process", f"{name}={pid}")]


def _token(server):
    return ["--token", server.token] if server.token else []


def closed(server, url, connections, seconds, *, body=0, warm_up=0.5, processes=None):
    return json.loads(
        output(
            CLIENT,
            "closed",
            url,
            "--connections",
            connections,
            "--seconds",
            seconds,
            "--warm-up",
            warm_up,
            "--body",
            body,
            *_token(server),
            *_watched(server, processes),
        )
    )


def open_loop(server, url, steps, *, connections=1000, window=100, processes=None):
    """Steps are pairs of rate and seconds."""
    each = [argument for rate, seconds in steps for argument in ("--step", f"{rate:.3f}:{seconds}")]
    return json.loads(
        output(CLIENT, "open", url, *each, "--connections", connections, "--window", window, *_token(server), *_watched(server, processes))
    )


def paced(server, url, pace, seconds, *, connections=100):
    """At one pace, after a moment to get there."""
    return open_loop(server, url, [(pace, 0.5), (pace, seconds)], connections=connections)["steps"][-1]


def once(server, urls, connections, *, processes=None):
    """Calls each URL once."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("".join(f"{url}\n" for url in urls))
        file.flush()
        return json.loads(output(CLIENT, "once", file.name, "--connections", connections, *_token(server), *_watched(server, processes)))


def summary(figure):
    """One line for whoever watches."""
    refused = {status: count for status, count in figure["statuses"].items() if status != "200"}
    more = "".join(f"  {name} {figure[name]}" for name in ("failures", "skipped") if figure[name]) + (
        f"  refused {refused}" if refused else ""
    )
    return f"{figure['per_second']:>8.0f}/s  p50 {figure['p50_us'] / 1000:>8.2f} ms  p99 {figure['p99_us'] / 1000:>8.2f} ms{more}"
