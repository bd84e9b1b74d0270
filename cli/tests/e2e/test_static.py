"""What goes on without the scheduler, and how fast work moves when a worker dies or freezes: real processes under steady load."""

import signal
import statistics
import threading
import time

import httpx
import pytest

from conftest import deployed
from harness import guests
from harness.cluster import eventually

IDLE = {"spec": {"scaling": {"idle_timeout": "1s"}}}
CUT = "cut short"  # The answer had begun to reach the caller when its worker ended: nothing but its connection can say so.
LOST = {"worker_lost", CUT}
REST = 3.5  # Longer than the idle timeout and the scheduler's decision after it.


class Load:
    """Calls a path from several threads; remembers when each call began and ended, and how."""

    def __init__(self, cluster, path, threads=8, every=0.02, gateways=2):
        self.seen, self._stop = [], threading.Event()
        self._clients = [cluster.http(n % gateways) for n in range(threads)]
        self._threads = [threading.Thread(target=self._run, args=(client, path, every), daemon=True) for client in self._clients]

    def _run(self, client, path, every):
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                answer = client.get(path, timeout=20)
                how = answer.status_code if answer.status_code == 200 else answer.json()["error"]["code"]
            except httpx.RemoteProtocolError as error:
                how = CUT if "complete message body" in str(error) else str(error)
            except Exception as error:
                how = type(error).__name__
            self.seen.append((began, time.monotonic(), how))
            self._stop.wait(every)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(25)
        for client in self._clients:
            client.close()

    def failures(self, since=0.0):
        """The calls that began at a time or later and went wrong."""
        return [(round(began - since, 2), round(ended - began, 2), how) for began, ended, how in self.seen if began >= since and how != 200]

    def good(self, since, until):
        """Calls that went well, by the second."""
        return sum(since <= ended < until and how == 200 for _, ended, how in self.seen) / (until - since)


def timed(client, path):
    began = time.monotonic()
    answer = client.get(path, timeout=15)
    assert answer.status_code == 200, answer.text
    return (time.monotonic() - began) * 1000


@pytest.mark.timeout(180)
def test_cold_and_warm_calls_go_on_without_the_scheduler_also_after_restarts(broken):
    cluster = broken("--workers", "3")
    cold, warm = deployed(cluster, name="cold", **IDLE), deployed(cluster, name="warm")
    time.sleep(REST)
    cluster.kill("scheduler")
    with cluster.http() as client:
        first = timed(client, cold)
        assert first < 3000, f"the first call after idleness took {first:.0f} ms"
        timed(client, warm)
    time.sleep(2.5)
    cluster.restart("gateway-1")
    with cluster.http() as client:
        eventually(lambda: client.get("/.well-known/dunlin/health").status_code == 200, what="the gateway")
        for path in (cold, warm):
            took = timed(client, path)
            assert took < 4000, f"{path} took {took:.0f} ms"
    for worker in ("worker-1", "worker-2", "worker-3"):
        cluster.kill(worker)
        cluster.restart(worker)
    with cluster.http() as client:
        for path in (cold, warm):
            took = timed(client, path)
            print(f"without the scheduler, after all were restarted: {took:.0f} ms")
    cluster.restart("scheduler")
    eventually(lambda: list(cluster.worker_states().values()) == ["ready"] * 3, seconds=15, what="everybody being back")
    print(f"a cold call without the scheduler took {first:.1f} ms")


@pytest.mark.timeout(120)
def test_a_first_call_after_idleness_is_answered_in_milliseconds(broken):
    cluster = broken()
    paths = [deployed(cluster, guests.answer(f"number {n}"), name=f"fn{n}", **IDLE) for n in range(8)]
    took = []
    for _ in range(2):
        time.sleep(REST)
        with cluster.http() as client:
            timed(client, "/.well-known/dunlin/health")
            took += sorted(timed(client, path) for path in paths)
    middle = sorted(took)[len(took) // 2]
    print("first calls after idleness:", " ".join(f"{ms:.1f}" for ms in took), "ms")
    assert middle < 200, took


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_calls_move_within_a_second_when_a_worker_is(broken, how):
    cluster = broken()
    path = deployed(cluster)
    with Load(cluster, path) as load:
        time.sleep(3)
        cluster.signal("worker-1", signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        hit = time.monotonic()
        time.sleep(8)
    if how == "frozen":
        cluster.signal("worker-1", signal.SIGCONT)
    # What had begun on the worker may be lost, and says so; everything else is nobody's concern.
    assert {code for _, _, code in load.failures()} <= LOST, load.failures(hit)
    assert not load.failures(hit + 1), load.failures(hit)
    # More than a machine that stands still for a moment explains; a call that waits for a frozen worker waits until the end.
    slow = [(round(began - hit, 2), round(ended - began, 2)) for began, ended, _ in load.seen if began > hit + 1 and ended - began > 3]
    assert not slow, slow
    lost = load.failures(hit - 1)
    # The threads that wait for a frozen worker call nothing else meanwhile.
    before = load.good(hit - 2, hit)
    # The middle of the seconds from the second one on, since in one or two of them the machine may stand still.
    seconds = [load.good(hit + second, hit + second + 1) for second in range(1, 8)]
    after = statistics.median(seconds)
    at_work = 8 - (len(lost) if how == "frozen" else 0)
    print(f"{how}: {before:.0f} calls/s before, {after:.0f} from the second second on; lost {lost}")
    assert after > 0.6 * before * at_work / 8
    assert max(seconds[-3:]) > 0.7 * before, seconds


@pytest.mark.timeout(180)
def test_workers_killed_every_five_seconds_lose_nothing_that_had_not_begun(broken):
    cluster = broken("--workers", "3")
    path = deployed(cluster)
    with Load(cluster, path, threads=6, every=0.01) as load:
        for n in range(5):
            worker = f"worker-{n % 3 + 1}"
            time.sleep(4)
            cluster.kill(worker)
            time.sleep(1)
            cluster.restart(worker)
    failures = load.failures()
    assert {code for _, _, code in failures} <= LOST, failures
    assert len(failures) <= 5 * 6, "no more than were running"
    print(f"{len(load.seen)} calls while 5 workers were killed: {len(failures)} lost after they had begun")


@pytest.mark.timeout(120)
def test_a_rollout_under_load_has_no_cold_call(broken):
    cluster = broken()
    path = deployed(cluster, guests.answer("one"))
    namespace = path.split("/")[1]
    with Load(cluster, path, threads=4, every=0.005) as load:
        time.sleep(1)
        for text in ("two", "three"):
            cluster.api().deploy(namespace, "fn", guests.answer(text))
            with cluster.http() as client:
                eventually(lambda: client.get(path).text == text, what=text)
        time.sleep(0.5)
    assert not load.failures(), load.failures()
    print(f"the slowest of {len(load.seen)} calls during two rollouts took {max(ended - began for began, ended, _ in load.seen) * 1000:.0f} ms")


def test_workers_of_a_zone_share_nothing_that_another_zone_could_have(broken):
    cluster = broken("--workers", "4", "--zones", "2")
    path = deployed(cluster)
    namespace = path.split("/")[1]
    api = cluster.api()
    for n in range(4):
        api.deploy(namespace, f"fn{n}", guests.answer(str(n)))

    def holders():
        found = {}
        for worker in cluster.rest().get("/api/v1/cluster").json()["workers"]:
            for version in worker.get("versions", []):
                found.setdefault(version["version"], set()).add(int(worker["worker"].rpartition("-")[2]) % 2)
        return found

    # A deploy waits for the first worker that has it, and workers say twice a second what they have.
    eventually(lambda: len(holders()) == 5 and all(zones == {0, 1} for zones in holders().values()), what="every version being in both zones")
