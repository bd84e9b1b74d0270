"""Limits while a gateway is frozen, and while one is cut off from the scheduler and goes on: under calls that come at their own pace,
all gateways together keep to them. What a lost gateway has is lent again after a while, and only then may there be more, by as much
as it has."""

import asyncio
import contextlib
import re
import threading
import time
from urllib.parse import urlsplit

import httpx
import pytest

from conftest import deployed
from harness.cluster import Cluster, eventually
from harness.logs import PANIC
from harness.servers import Cable

# So long a gateway that is not heard keeps its shares; it takes up to ten seconds until one is found to be frozen.
KEPT = 6
# As much more may be seen than was admitted at once: a call's time is taken a moment before it is admitted.
BLUR = 3


class Load:
    """So many calls a second at each gateway, whatever becomes of them, until it ends."""

    def __init__(self, cluster, path, rates):
        self.answers, self._stop, self._path = [], threading.Event(), path
        self._callers = [(urlsplit(gateway["functions"]), rate) for gateway, rate in zip(cluster.gateways, rates, strict=True)]
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(60)

    async def _run(self):
        await asyncio.gather(*(self._pace(number, address, rate) for number, (address, rate) in enumerate(self._callers)))

    async def _pace(self, number, address, rate):
        calls, due = set(), time.monotonic()
        while not self._stop.is_set():
            call = asyncio.create_task(self._call(number, address))
            calls.add(call)
            call.add_done_callback(calls.discard)
            due += 1 / rate
            await asyncio.sleep(max(0, due - time.monotonic()))
        if calls:
            await asyncio.wait(calls, timeout=10)

    async def _call(self, number, address):
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            try:
                writer.write(f"GET {self._path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
                answer = await asyncio.wait_for(reader.read(), 60)
            finally:
                writer.close()
            if answer:
                head, _, body = answer.partition(b"\r\n\r\n")
                self.answers.append((number, int(head.split()[1]), head.decode().lower(), body.decode()))

    def admitted(self, gateway=None):
        """When calls came that were admitted: their ids say it."""
        ids = [re.search(r"dunlin-request-id: ([0-9a-f-]+)", head).group(1) for at, status, head, _ in self.answers if status == 200 and gateway in (None, at)]
        return sorted(int(ident.replace("-", "")[:12], 16) / 1000 for ident in ids)

    def ran(self, gateway=None):
        """From when to when calls ran in their guests."""
        return [between_times(body) for at, status, _, body in self.answers if status == 200 and gateway in (None, at)]

    def statuses(self, gateway):
        return {status for at, status, _, _ in self.answers if at == gateway}


def beyond(moments, rate, burst):
    """By how many calls these are more, in any time, than burst and rate allow in it."""
    left, last, worst = burst, None, 0
    for moment in moments:
        left = min(burst, left + rate * (moment - (last or moment))) - 1
        last, worst = moment, min(worst, left)
    return -worst


def between(moments, since, until):
    return [moment for moment in moments if since <= moment < until]


def pace(moments, since, until):
    return len(between(moments, since, until)) / (until - since)


def between_times(body):
    """When a call of the probe's `/between` began and ended in its guest."""
    return tuple(int(part) / 1e9 for part in re.findall(r"\d{18,}", body))


def at_once(calls, since=0.0, until=float("inf")):
    """The most calls that ran at the same moment, of those that began in this time."""
    calls = [call for call in calls if since <= call[0] < until]
    now = most = 0
    for _, change in sorted(moment for began, ended in calls for moment in [(began, 1), (ended, -1)]):
        now += change
        most = max(most, now)
    return most


class Story:
    """A cluster whose second gateway reaches the scheduler by a cable, and what is done to that gateway."""

    def __init__(self, folder):
        config = folder / "scheduler.toml"
        config.write_text(f'keep_share_seconds = {KEPT}\n\n[metrics]\nlisten = "127.0.0.1:0"\n')
        self.cluster = Cluster(folder / "cluster", f"--scheduler-arg=--config={config}")
        scheduler = urlsplit(self.cluster.facts["scheduler"])
        self.cable = Cable(scheduler.hostname, scheduler.port)
        self.cluster.restart_with("gateway-2", "--scheduler", f"{scheduler.scheme}://127.0.0.1:{self.cable.port}")
        self.until_together()

    def until_together(self):
        eventually(lambda: self.gateways() == 2, seconds=40, what="both gateways with the scheduler")

    def metric(self, series):
        page = httpx.get(f"http://{self.cluster.metrics_of('scheduler')}/metrics", trust_env=False).text
        return next(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(series + " "))

    def gateways(self):
        return self.metric("dunlin_scheduler_gateways")

    def lost(self, kind):
        return self.metric(f'dunlin_scheduler_limit_shares_lost_total{{kind="{kind}"}}')

    @contextlib.contextmanager
    def cut_off(self):
        self.cable.pull()
        try:
            yield
        finally:
            self.cable.put_back()

    def frozen(self):
        return self.cluster.frozen("gateway-2")

    def tell(self, fault, path, rates, kind, before, lent):
        """Calls before, during and after a fault of the second gateway; the load, and when what happened.

        The fault begins once `before` is true of the load and the last two seconds, and ends once `lent` is, which is also given when the
        fault began and until when shares were kept: a process that stood still for a moment has caught up by then."""
        with Load(self.cluster, path, rates) as load:
            time.sleep(4)
            eventually(lambda: before(load, (now := time.time()) - 2, now), seconds=20, what="all of it being used before")
            lost = self.lost(kind)
            with getattr(self, fault)():
                began = kept = time.time()
                while self.lost(kind) == lost:
                    kept = time.time()
                    assert kept < began + 40, "its share is not lent again"
                    time.sleep(0.1)
                assert kept - began >= KEPT - 1.5, "its share is lent again too early"
                time.sleep(4)
                eventually(lambda: lent(load, began, kept, (now := time.time()) - 2, now), seconds=20, what="the first one having more of it")
            self.until_together()
            together = time.time() + 3
            time.sleep(6)
        assert self.lost(kind) > lost
        return load, (began, kept, together)

    def stop(self):
        self.cable.close()
        for log in self.cluster.logs():
            assert log.stem == "postgres" or not PANIC.search(log.read_text(errors="replace")), log
        self.cluster.stop()


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    made = Story(tmp_path_factory.mktemp("lost"))
    yield made
    made.stop()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", ["cut_off", "frozen"])
def test_a_rate_holds_until_what_a_lost_gateway_has_is_lent_again(story, probe, fault):
    rate, burst = 50, 25
    spec = {"limits": {"rate": {"requests": rate, "period": "RATE_PERIOD_SECOND", "burst": burst}}}
    path = deployed(story.cluster, probe, spec=spec)

    def before(load, since, until):
        return pace(load.admitted(), since, until) >= 0.75 * rate

    def lent(load, began, kept, since, until):
        return pace(load.admitted(0), since, until) >= 0.7 * rate

    load, (began, kept, together) = story.tell(fault, path, (40, 40), "rate", before, lent)
    first, second, both = load.admitted(0), load.admitted(1), load.admitted()
    assert load.statuses(0) == {200, 429}, load.statuses(0)
    # The first one has its own share still, and so has the second one, where it runs.
    assert beyond([moment for moment in both if moment < kept], rate, burst) <= BLUR
    assert 0.3 * rate <= pace(first, began, kept) <= 0.75 * rate, pace(first, began, kept)
    assert (pace(second, began, kept) >= 0.3 * rate) == (fault == "cut_off"), pace(second, began, kept)
    # Then the first one has all of it, as it was waited for, and both together as much more as the second one had.
    assert beyond(both, 1.6 * rate, 1.6 * burst) <= BLUR, beyond(both, 1.6 * rate, 1.6 * burst)
    after = [moment for moment in both if moment >= together]
    assert beyond(after, rate, burst) <= BLUR, beyond(after, rate, burst)
    assert between(second, together, together + 3), "the second one has a share again"


@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", ["cut_off", "frozen"])
def test_no_more_run_at_once_until_what_a_lost_gateway_has_is_lent_again(story, probe, fault):
    limit = 6
    path = deployed(story.cluster, probe, spec={"scaling": {"max_concurrency": limit}})

    def before(load, since, until):
        return at_once(load.ran(), since, until) > 0

    def lent(load, began, kept, since, until):
        return at_once(load.ran(0), since, until) > at_once(load.ran(0), began, kept)

    load, (began, kept, together) = story.tell(fault, f"{path}between?ms=150", (40, 40), "concurrency", before, lent)
    first, second, both = load.ran(0), load.ran(1), load.ran()
    assert load.statuses(0) == {200, 429}, load.statuses(0)
    assert at_once(both, until=kept) <= limit
    own = at_once(first, began, kept)
    assert own < limit, own
    assert (at_once(second, began + 1, kept) > 0) == (fault == "cut_off")
    # Then the first one has more of it, as it was waited for.
    # What it has is less than all.
    assert at_once(both) < 2 * limit, at_once(both)
    assert at_once(both, since=together) <= limit
    assert at_once(second, since=together) > 0, "the second one has a share again"


@pytest.mark.timeout(120)
def test_what_a_gateway_takes_for_itself_while_it_is_cut_off_is_counted(story, probe):
    path = deployed(story.cluster, probe)
    # Limited from now on, and the second one has not been called since.
    namespace, function = path.strip("/").split("/")
    story.cluster.api().deploy(namespace, function, probe, spec={"limits": {"rate": {"requests": 100, "period": "RATE_PERIOD_SECOND"}}})

    def second(series):
        page = story.cluster.rest(gateway=1).get("/metrics").text
        return next(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(series + " "))

    taken = second("dunlin_gateway_limit_parts_taken_total")
    with story.cut_off():
        eventually(lambda: second("dunlin_gateway_scheduler_connected") == 0, seconds=40, what="the second one is cut off")
        # It begins with nothing saved up.
        eventually(lambda: story.cluster.http(gateway=1).get(path).status_code == 200, what="its own part")
        assert second("dunlin_gateway_limit_parts_taken_total") == taken + 1
    story.until_together()
