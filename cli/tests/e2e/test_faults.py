"""What happens when something dies, stalls or goes away: a cluster of its own for each story, so that no other test suffers."""

import json
import os
import secrets
import signal
import subprocess
import threading
import time
import urllib.parse

import pytest

from conftest import deployed, new_namespace
from harness import guests
from harness.api import ApiError
from harness.cluster import Cluster, eventually
from harness.paths import Cli
from harness.servers import Cable

DATABASE = os.environ.get("DUNLIN_TEST_POSTGRES")
# A worker that is not heard is out of placement within two seconds. As long again for whoever says so, or looks, to be stopped by the machine.
OUT = 4.5


class Caller:
    """Calls a path over and over; remembers when each call ended and how."""

    def __init__(self, cluster, path, gateway=0, every=0.02):
        self.seen, self._stop = [], threading.Event()
        self._client, self._path, self._every = cluster.http(gateway), path, every
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self._stop.is_set():
            try:
                status = self._client.get(self._path, timeout=10).status_code
            except Exception as error:
                status = type(error).__name__
            self.seen.append((time.monotonic(), status))
            self._stop.wait(self._every)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(15)
        self._client.close()

    def failures(self, since=0.0):
        return [(round(at, 2), status) for at, status in self.seen if at >= since and status != 200]


def state_within(cluster, worker, state, seconds):
    began = time.monotonic()
    eventually(lambda: cluster.worker_states().get(worker, "gone") in state, seconds=seconds, what=f"{worker} being {state}")
    return time.monotonic() - began


def test_f01_a_killed_worker_is_out_at_once_and_back_after_its_return(broken):
    cluster = broken()
    path = deployed(cluster)
    with Caller(cluster, path, 0) as one, Caller(cluster, path, 1) as two:
        time.sleep(0.5)
        assert not one.failures() and not two.failures()
        cluster.kill("worker-1")
        killed = time.monotonic()
        took = state_within(cluster, "worker-1", ("lost", "gone"), OUT)
        time.sleep(1)
        for caller in (one, two):
            assert not caller.failures(killed + 2), "calls failed although another worker was there"
            # A call that was running on the dead worker may fail; it must say so and not hang.
            assert all(status in (502, 503) for _, status in caller.failures(killed)), caller.failures(killed)
        cluster.restart("worker-1")
        state_within(cluster, "worker-1", ("ready",), 10)
        back = time.monotonic()
        time.sleep(1)
        assert not one.failures(back) and not two.failures(back)
    print(f"a killed worker was out of placement after {took:.2f} s")


def test_f02_a_silent_worker_is_out_within_two_seconds_and_back_when_it_speaks(broken):
    cluster = broken()
    path = deployed(cluster)
    with cluster.frozen("worker-2"):
        frozen = time.monotonic()
        took = state_within(cluster, "worker-2", ("lost", "gone"), OUT)
        # Gateways hear of it with the next placements.
        time.sleep(max(0.5, frozen + 2.2 - time.monotonic()))
        with cluster.http() as client:
            for _ in range(20):
                answer = client.get(path, timeout=5)
                assert answer.status_code == 200, answer.text
    state_within(cluster, "worker-2", ("ready",), 10)
    with cluster.http() as client:
        assert all(client.get(path).status_code == 200 for _ in range(20))
    print(f"a silent worker was out of placement after {took:.2f} s")


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_f03_a_scheduler_that_restarts_loses_nothing_and_nobody_else_restarts(broken, how):
    cluster = broken()
    path = deployed(cluster)
    namespace = path.split("/")[1]
    name = f"namespaces/{namespace}/functions/fn"
    pids = {process: cluster.pid(process) for process in ("gateway-1", "gateway-2", "worker-1", "worker-2")}
    before = cluster.api().call("FunctionService.GetFunction", name=name)
    with Caller(cluster, path, 0) as one, Caller(cluster, path, 1) as two:
        cluster.signal("scheduler", getattr(signal, how))
        eventually(lambda: not cluster.is_alive("scheduler"), seconds=35, what="the scheduler's end")
        time.sleep(2.5)
        cluster.restart("scheduler")
        eventually(lambda: set(cluster.worker_states().values()) == {"ready"} and len(cluster.worker_states()) == 2, seconds=15, what="the workers coming back")
        assert not one.failures() and not two.failures(), "warm calls do not need the scheduler"
    assert cluster.api().call("FunctionService.GetFunction", name=name) == before
    assert cluster.api().deploy(namespace, "fn", guests.answer("second"))["number"] == 2
    with cluster.http() as client:
        eventually(lambda: client.get(path).text == "second", what="the new version")
    assert {process: cluster.pid(process) for process in pids} == pids and all(map(cluster.is_alive, pids))


def test_a_small_rate_is_admitted_again_soon_after_the_scheduler_is_back(broken):
    cluster = broken()
    path = deployed(cluster)
    namespace = path.split("/")[1]
    cluster.rest().patch(f"/api/v1/namespaces/{namespace}", json={"rate": {"requests": 20, "period": "second"}}).raise_for_status()

    def calls(seconds):
        """A few calls at each gateway, far below the rate; their statuses."""
        statuses, until = [], time.monotonic() + seconds
        while time.monotonic() < until:
            for gateway in (0, 1):
                with cluster.http(gateway) as client:
                    statuses.append(client.get(path).status_code)
            time.sleep(0.4)
        return statuses

    # For a first part of a rate, the scheduler is asked while the call waits for half a second.
    eventually(lambda: set(calls(2)) == {200}, seconds=20, what="the calls being admitted")
    cluster.kill("scheduler")
    assert 200 in calls(4)
    cluster.restart("scheduler")
    eventually(lambda: all(cluster.rest(gateway=gateway).get("/api/v1/cluster").status_code == 200 for gateway in (0, 1)), seconds=30, what="the scheduler being back")
    # They join, give back what they took, and ask again.
    calls(4)
    assert set(calls(5)) == {200}


def test_a_killed_gateway_is_named_by_whoever_asks_for_its_records_until_it_is_back(broken):
    cluster = broken()
    path = deployed(cluster)
    namespace = path.split("/")[1]
    with cluster.http(1) as other:
        id = other.get(path).headers["dunlin-request-id"]
    with cluster.rest() as client:
        listed = lambda: client.get(f"/api/v1/namespaces/{namespace}/invocations").json()
        why = lambda: client.get(f"/api/v1/namespaces/{namespace}/requests/{id}/why").json()
        eventually(lambda: why()["invocation"], what="its record")
        cluster.kill("gateway-2")
        # Once the scheduler has buried it, and not only before.
        eventually(lambda: len(client.get("/api/v1/cluster").json()["gateways"]) == 1, seconds=30, what="the gateway being gone")
        assert listed()["unreachable"] == ["gateway-2"] and why()["unreachable"] == ["gateway-2"]
        cluster.restart("gateway-2")
        eventually(lambda: why()["invocation"] and listed()["unreachable"] == [], seconds=30, what="its record again")


def test_a_gateway_that_restarts_while_the_scheduler_is_away_serves_from_its_disk(broken):
    cluster = broken()
    path = deployed(cluster)
    cluster.kill("scheduler")
    time.sleep(0.5)
    cluster.restart("gateway-1")
    with cluster.http() as client:
        eventually(lambda: client.get(path, timeout=12).status_code == 200, seconds=20, what="the restarted gateway serving")
    cluster.restart("scheduler")
    eventually(lambda: len(cluster.worker_states()) == 2, seconds=15, what="the cluster being whole again")


def test_how_a_function_does_is_said_while_the_scheduler_is_away(broken, tmp_path):
    cluster = broken()
    path = deployed(cluster)
    name, cli = path.strip("/"), Cli(tmp_path, cluster.admin, cluster.token)
    with cluster.http() as client:
        eventually(lambda: client.get(path).status_code == 200, what="the first call")
    whole = json.loads(cli.ok("describe", name, "-o", "json").out)
    assert whole["function"]["name"] and whole["health"]["unreachable"] == [], whole
    cluster.kill("scheduler")
    found = json.loads(cli.ok("describe", name, "-o", "json").out)
    health = found["health"]
    assert health["state"] == "healthy" and health["activity"]["calls"] >= 1, health
    assert health["unreachable"] == ["the scheduler"] and found["function"] is None, found
    assert [(version["version"], version["percent"]) for version in health["versions"]] == [(1, 100)], health
    assert [problem["command"] for problem in health["problems"] if "the scheduler" in problem["text"]] == ["dunlin doctor"], health
    page = cli.ok("describe", name)
    assert page.out.startswith("healthy: ") and "the scheduler did not answer" in page.err, page
    unknown = cli("describe", name + "-not")
    assert unknown.code == 5 and not unknown.out, unknown
    cluster.restart("scheduler")
    eventually(lambda: cli("describe", name + "-not").code == 3, seconds=30, what="the scheduler's answer")


def test_sigterm_lets_running_calls_finish_and_takes_no_new_ones(broken, probe):
    cluster = broken()
    path = deployed(cluster, probe)
    for process in ("worker-1", "gateway-2"):
        gateway = 1 if process.startswith("gateway") else 0
        running, held = [], []
        with cluster.http(gateway) as client:
            def hold():
                with client.stream("GET", f"{path}trickle?n=25&ms=100") as answer:
                    pieces = answer.iter_lines()
                    running.append(next(pieces))
                    held.append((answer.status_code, list(pieces)[-1]))

            threads = [threading.Thread(target=hold) for _ in range(8)]
            for thread in threads:
                thread.start()
            eventually(lambda: len(running) == 8, what="all calls running")
            cluster.signal(process, signal.SIGTERM)
            began = time.monotonic()
            if process.startswith("worker"):
                time.sleep(0.3)
                with cluster.http(1) as other:
                    assert all(other.get(f"{path}hold?ms=0").status_code == 200 for _ in range(10)), "the other worker takes what comes"
            for thread in threads:
                thread.join()
        assert held == [(200, "piece 24")] * 8, f"{process}: {held}"
        eventually(lambda: not cluster.is_alive(process), seconds=10, what=f"{process} leaving after its work")
        assert time.monotonic() - began < 12, f"{process} left only after {time.monotonic() - began:.1f} s"
        cluster.restart(process)
        eventually(lambda: set(cluster.worker_states().values()) == {"ready"} and len(cluster.worker_states()) == 2, seconds=15, what="everybody being back")


@pytest.mark.skipif(not DATABASE, reason="needs DUNLIN_TEST_POSTGRES: run under .ci/tools/with-postgres")
def test_f11_a_database_that_goes_away_takes_no_warm_call_with_it(broken):
    server = urllib.parse.urlsplit(DATABASE)
    cable = Cable(server.hostname, server.port)
    database = server._replace(netloc=f"{server.username}@127.0.0.1:{cable.port}", path=fresh_database()).geturl()
    cable.pull()
    began = time.monotonic()
    threading.Timer(4, cable.put_back).start()
    cluster = broken("--database", database)
    waited = time.monotonic() - began
    assert waited >= 3.5, "it cannot have started without its database"
    log = next(log for log in cluster.logs() if log.stem == "scheduler").read_text()
    assert "database" in log.lower() and "WARN" in log, "it says that it waits"
    path = deployed(cluster)
    namespace = path.split("/")[1]
    with Caller(cluster, path, 0) as one, Caller(cluster, path, 1) as two:
        cable.pull()
        time.sleep(3)
        with pytest.raises(ApiError) as refused:
            cluster.api().deploy(namespace, "later", guests.answer("x"), timeout=40)
        assert refused.value.reason in ("unavailable", "deadline_exceeded"), refused.value
        time.sleep(1)
        cable.put_back()
        eventually(lambda: deploys(cluster, namespace), seconds=30, every=0.5, what="deploys working again")
        assert not one.failures() and not two.failures(), "warm calls need no database"
    cable.close()


def deploys(cluster, namespace):
    try:
        return cluster.api().deploy(namespace, "later", guests.answer("later"))["number"] >= 1
    except ApiError:
        return False


def fresh_database():
    name = "faults_" + secrets.token_hex(4)
    subprocess.run(["psql", "-X", "-q", "-c", f"CREATE DATABASE {name}", DATABASE], check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return "/" + name


def test_f22_a_workers_damaged_code_is_fetched_again_and_never_loaded(broken):
    """T23: every file of compiled code that the worker keeps is changed while it is away."""
    cluster = broken("--workers", "1")
    path = deployed(cluster)
    cluster.signal("worker-1", signal.SIGTERM)
    eventually(lambda: not cluster.is_alive("worker-1"), seconds=35, what="the worker's end")
    damaged = 0
    for file in (cluster.folder / "worker-1").rglob("*"):
        if file.is_file() and file.stat().st_size > 4096 and "log" not in str(file.relative_to(cluster.folder / "worker-1")):
            data = bytearray(file.read_bytes())
            for at in (100, len(data) // 3, len(data) // 2, len(data) - 50):
                data[at] ^= 0xFF
            file.chmod(0o600)
            file.write_bytes(data)
            damaged += 1
    assert damaged, "the worker kept no compiled code"
    cluster.restart("worker-1")
    with cluster.http() as client:
        eventually(lambda: client.get(path, timeout=12).text == "alive", seconds=20, what="the function answering again")
    assert cluster.is_alive("worker-1")


def test_the_script_runs_a_cluster_on_sqlite_too(broken):
    cluster = broken("--sqlite", "--gateways", "1", "--workers", "1")
    api = cluster.api()
    namespace = new_namespace(api)
    api.deploy(namespace, "fn", guests.answer("lite"))
    with cluster.http() as client:
        eventually(lambda: client.get(f"/{namespace}/fn/").text == "lite", what="the function")
    assert api.call("ClusterService.GetCluster")["store"] == "sqlite"
    cluster.kill("scheduler")
    cluster.restart("scheduler")
    eventually(lambda: api.call("FunctionService.ListFunctions", parent=f"namespaces/{namespace}")["functions"], what="the function's row")
