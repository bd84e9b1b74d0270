"""Limits of calls at once: all gateways together keep to them, whichever has the calls, and whatever becomes of gateways."""

import asyncio
import re
import struct
import time
from urllib.parse import urlsplit

from conftest import deployed
from harness.cluster import eventually
from test_overload import get


class Calls:
    """What callers of two gateways saw: when each call ran in its guest, by gateway, and how many were refused."""

    def __init__(self):
        self.ran, self.refused = [], 0

    def most(self):
        """The most that ran at the same moment."""
        moments = sorted(moment for _, began, ended in self.ran for moment in [(began, 1), (ended, -1)])
        now = most = 0
        for _, change in moments:
            now += change
            most = max(most, now)
        return most

    def mean(self, gateway, since, until):
        """How many of a gateway's ran on average in this time."""
        seconds = [max(0, min(ended, until) - max(began, since)) for at, began, ended in self.ran if at == gateway]
        return sum(seconds) / (until - since)


def flood(cluster, path, callers, seconds, ms=100):
    """So many callers at each gateway, who call again and again."""
    calls, until = Calls(), time.monotonic() + seconds

    async def caller(gateway, address):
        while time.monotonic() < until:
            status, body = await get(address, f"{path}between?ms={ms}")
            if status == 200:
                began, ended = (int(part) / 1e9 for part in re.findall(r"\d{18,}", body))
                calls.ran.append((gateway, began, ended))
            else:
                assert status == 429, (status, body)
                calls.refused += 1
                await asyncio.sleep(0.02)

    async def run():
        addresses = [urlsplit(gateway["functions"]) for gateway in cluster.gateways]
        await asyncio.gather(*(caller(number, addresses[number]) for number, count in enumerate(callers) for _ in range(count)))

    asyncio.run(run())
    return calls


def test_all_of_a_limit_is_there_for_whichever_gateway_has_the_calls(cluster, api, namespace, probe, call_when_ready):
    api.deploy(namespace, "shifting", probe, spec={"scaling": {"max_concurrency": 8}})
    path = f"/{namespace}/shifting/"
    for gateway in range(2):
        with cluster.http(gateway) as client:
            call_when_ready(path, client=client)

    def means(callers):
        """How many ran on average at each gateway, in the last two seconds."""
        calls = flood(cluster, path, callers, 4)
        assert calls.most() <= 8, (callers, calls.most())
        now = time.time()
        return [calls.mean(gateway, now - 2, now - 0.3) for gateway in range(2)]

    for callers in [(12, 0), (0, 12), (12, 12), (12, 1)]:
        end, ran = time.monotonic() + 15, means(callers)
        # A machine that is busy with other things is slow to call again; where it stops us for one of these seconds, others tell.
        while sum(ran) < 5 or not all(mean > 0.4 for mean, count in zip(ran, callers) if count):
            assert time.monotonic() < end, (callers, ran)
            ran = means(callers)


def test_one_call_at_once_goes_to_one_gateway_after_the_other(cluster, api, namespace, probe, call_when_ready):
    api.deploy(namespace, "single", probe, spec={"scaling": {"max_concurrency": 1}})
    path = f"/{namespace}/single/"
    call_when_ready(path)
    calls = flood(cluster, path, (2, 2), 6, ms=30)
    assert calls.most() == 1
    counts = [sum(at == gateway for at, _, _ in calls.ran) for gateway in range(2)]
    assert min(counts) >= 10, (counts, calls.refused)


def test_a_namespaces_limit_and_what_is_reserved_of_it_hold_over_gateways(cluster, api, cli, namespace, probe, call_when_ready):
    cli.ok("namespace", "update", namespace, "--max-concurrency", "6")
    api.deploy(namespace, "vital", probe, spec={"scaling": {"reserved_concurrency": 2}})
    api.deploy(namespace, "greedy", probe)
    for function in ("vital", "greedy"):
        call_when_ready(f"/{namespace}/{function}/")
    greedy = flood(cluster, f"/{namespace}/greedy/", (8, 8), 4)
    assert 3 <= greedy.most() <= 4, greedy.most()
    vital = flood(cluster, f"/{namespace}/vital/", (8, 8), 4)
    assert 5 <= vital.most() <= 6, vital.most()


def test_a_killed_gateways_calls_can_run_at_another_and_shares_outlive_a_restart_without_the_scheduler(broken, probe):
    cluster = broken()
    path = deployed(cluster, probe, spec={"scaling": {"max_concurrency": 6}})
    eventually(lambda: flood(cluster, path, (0, 10), 1).most() == 6, seconds=20, what="the second one having all")
    cluster.kill("gateway-2")
    eventually(lambda: flood(cluster, path, (10, 0), 1).most() == 6, seconds=20, what="the first one having all")
    # `HeldRate.burst` in `sync.proto`.
    six = b"\x19" + struct.pack("<d", 6)
    eventually(lambda: six in (cluster.folder / "gateway-1/limits.snapshot").read_bytes(), what="the first one having set that down")
    cluster.kill("scheduler")
    cluster.kill("gateway-1")
    cluster.restart("gateway-1")
    eventually(lambda: flood(cluster, path, (1, 0), 0.2).ran, seconds=20, what="the first one serves")
    assert flood(cluster, path, (10, 0), 1).most() == 6
