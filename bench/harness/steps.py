"""What stands in front of a function costs its gateway: calls with and without it, in alternating runs of one cluster in which many
routes are loaded. The calls are of two kinds: those that a worker runs, and those that the gateway answers from its cache, where
nothing but the gateway's own work is in the figure."""

import hashlib
import json
import sqlite3
import statistics
import subprocess
import urllib.request
from pathlib import Path

from . import load, observed, servers
from .tools import component, eventually, output, run, say

MOST = "1000000/s"
# Routes of a namespace.
EACH = 900
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
TOKEN, KEY = "route, token, two rates", "route, key, three rates, quota"


class Caller(servers.Server):
    """The same cluster as somebody else calls it, in another namespace or at another gateway."""

    def __init__(self, cluster, token, gateway=0, namespace="default"):
        super().__init__(cluster.base, cluster.processes, token)
        self.base = f"{cluster.facts['gateways'][gateway]['functions']}/{namespace}"


def dunlin(cluster, *command, namespace="default"):
    return output(
        cluster.binaries / "dunlin", *command, "-o", "json", env=cluster.environment | {"DUNLIN_NAMESPACE": namespace}, stderr=subprocess.DEVNULL
    )


def put_route(cluster, name, path, function=None, namespace="default"):
    """Over JSON, which is quicker than a process for each."""
    target = {"kind": "function", "function": function} if function else {"kind": "response", "body": ""}
    body = {"path": path, "target": target}
    url = f"{cluster.admin}/api/v1/namespaces/{namespace}/routes/{name}"
    headers = {"Authorization": f"Bearer {cluster.operator_token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="PUT")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.status


def without(cluster, folder):
    """A namespace without limits, in which everything is for everybody."""
    dunlin(cluster, "namespace", "create", "open")
    environment = cluster.environment | {"DUNLIN_NAMESPACE": "open"}
    for name in ("bare", "stored"):
        run(cluster.binaries / "dunlin", "deploy", Path(folder) / f"deploy-{name}", "--no-build", "--public", env=environment, **QUIET)
    dunlin(cluster, "route", "add", "stored", "/stored", "--function", "stored", "--cache", "--auth", "public", namespace="open")
    return Caller(cluster, None, namespace="open")


def sides(cluster, folder):
    """Who calls what, by kind; what a kind begins with is what the others are compared to."""
    for wasm, name in ((component("examples/rust"), "bare"), (component("bench/guests/rust"), "stored")):
        cluster.deploy(wasm, name, folder)
    plain = without(cluster, folder)
    cluster.deploy(component("examples/rust"), "routed", folder, limits={"rate": MOST})
    cluster.deploy(component("bench/guests/rust"), "kept", folder, limits={"rate": MOST})
    dunlin(cluster, "namespace", "update", "default", "--rate", MOST)
    dunlin(cluster, "plan", "set", "most", "--rate", MOST, "--quota", "1000000000/month")
    key = json.loads(dunlin(cluster, "key", "create", "bench", "--plan", "most"))["secret"]
    put_route(cluster, "routed", "/r7/{id}/n7", function="routed")
    dunlin(cluster, "route", "add", "kept", "/kept", "--function", "kept", "--cache")
    routed, kept = f"{cluster.base}/r7/abc/n7", f"{cluster.base}/kept?bytes=1024"
    tokened, keyed = Caller(cluster, cluster.token), Caller(cluster, key)
    return {
        "run": {"nothing": (plain, plain.url("bare")), TOKEN: (tokened, routed), KEY: (keyed, routed)},
        "stored": {"route": (plain, f"{plain.base}/stored?bytes=1024"), TOKEN: (tokened, kept), KEY: (keyed, kept)},
    }


def measure(cluster, folder, options):
    kinds = sides(cluster, folder)
    put_route(cluster, "pattern", "/pattern/{id}")
    write(cluster, lambda rows: many_routes(rows, options.routes))
    return {"routes": options.routes, **{kind: compared(kind, calls, options) for kind, calls in kinds.items()}}


def compared(kind, calls, options):
    """Rounds in which each takes its turn, beginning with another one each time; the first round warms up.

    What is stored is asked for at one pace, half of what the first can do: a gateway that is never idle wakes nobody for the next
    call, and one that is a little slower would pay for its callers' waking as well. Where a worker runs the calls, the gateway is
    half idle anyway, and callers who never pause keep what it does warm."""
    for caller, url in calls.values():
        servers.wait_until_answers(url, caller.token)
    (caller, url), names, rounds = next(iter(calls.values())), list(calls), []
    fastest = load.closed(caller, url, 32, options.seconds)["per_second"]
    pace = fastest / 2 if kind == "stored" else None
    for number in range(options.pairs + 1):
        first = number % len(names)
        rounds.append({name: cost(kind, name, *calls[name], pace, options) for name in names[first:] + names[:first]})
    rounds, base = rounds[1:], names[0]
    more = {name: observed.interval([row[name] - row[base] for row in rounds]) for name in names[1:]}
    say(f"  more than {base}: {more}")
    us = {name: statistics.median(row[name] for row in rounds) for name in names}
    return {"pace": pace and round(pace), "us_per_call": us, "more_us": more, "rounds": rounds}


def cost(kind, name, caller, url, pace, options):
    found = load.paced(caller, url, pace, options.seconds) if pace else load.closed(caller, url, 32, options.seconds)
    if set(found["statuses"]) != {"200"}:
        raise SystemExit(f"error: not all calls were answered: {found['statuses']}")
    us = found["cpu_us_per_call"]["gateway"]
    say(f"  {kind:<6} {name:<32} {load.summary(found)}  gateway {us:.1f} us")
    return us


def many_keys(rows, count):
    digest = lambda number: hashlib.sha256(str(number).encode()).hexdigest()  # noqa: E731
    rows.executemany(
        "INSERT INTO api_keys (id, namespace, secret_sha256, display_name, functions, creator, create_time, plan) "
        "VALUES (?, 'default', ?, '', '[]', 'bench', 1, 'most')",
        ((f"{number:012}", digest(number)) for number in range(count)),
    )


def many_routes(rows, count):
    """Copies of one that answers by itself, under other paths, over as many namespaces as they need."""
    spec = rows.execute("SELECT spec FROM routes WHERE name = 'pattern'").fetchone()[0]
    for first in range(0, count, EACH):
        rows.execute("INSERT INTO namespaces (name, description, create_time) VALUES (?, '', 1)", (f"of-{first // EACH}",))
    path = lambda number: spec.replace("/pattern/{id}", f"/r{number % 100}/{{id}}/n{number}")  # noqa: E731
    rows.executemany(
        "INSERT INTO routes (namespace, name, spec, creator, create_time, update_time) VALUES (?, ?, ?, 'bench', 1, 1)",
        ((f"of-{number // EACH}", f"r{number}", path(number)) for number in range(count)),
    )


def write(cluster, change):
    """Changes the scheduler's database behind its back, then has it read all of it."""
    with sqlite3.connect(next(cluster.folder.rglob("dunlin.db")), timeout=30) as rows:
        change(rows)
        rows.execute("UPDATE counters SET value = value + 1 WHERE name = 'config'")
    cluster.restart("scheduler")

    def answers():
        try:
            return all(worker["state"] == "ready" for worker in cluster.workers())
        except OSError:
            return False

    eventually(answers, 60, "the scheduler answers")
