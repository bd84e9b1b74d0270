"""Limits of calls in a time: all gateways together keep to them, and a refusal says which limit it was."""

import asyncio
import json
import time
from urllib.parse import urlsplit

from harness.cluster import eventually


async def paced(address, path, per_second, until):
    """Calls so many times a second, whatever becomes of the calls; returns their statuses."""
    async def call():
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
            return int((await asyncio.wait_for(reader.read(), 30)).split()[1])
        finally:
            writer.close()

    calls, due = [], time.monotonic()
    while due < until:
        calls.append(asyncio.create_task(call()))
        due += 1 / per_second
        await asyncio.sleep(max(0, due - time.monotonic()))
    return await asyncio.gather(*calls)


def together(cluster, path, rates, seconds):
    """How many calls were admitted in how long, with so many a second at each gateway, and how many were made."""
    async def run():
        until = time.monotonic() + seconds
        gateways = [urlsplit(gateway["functions"]) for gateway in cluster.gateways]
        return await asyncio.gather(*(paced(*pair, until) for pair in [(g, path, r) for g, r in zip(gateways, rates) if r]))

    began = time.monotonic()
    statuses = [status for some in asyncio.run(run()) for status in some]
    assert set(statuses) <= {200, 429}, set(statuses)
    return statuses.count(200), time.monotonic() - began, len(statuses)


def test_two_gateways_admit_what_a_rate_allows_and_no_more(cluster, api, cli, namespace, probe, call_when_ready):
    rate = {"requests": 50, "period": "RATE_PERIOD_SECOND", "burst": 25}
    api.deploy(namespace, "paced", probe, spec={"limits": {"rate": rate}})
    call_when_ready(f"/{namespace}/paced/")
    assert "50/s with a burst of 25" in cli.ok("describe", f"{namespace}/paced").out
    for rates in [(35, 35), (65, 5), (0, 70)]:
        together(cluster, f"/{namespace}/paced/", rates, 2)
        admitted, seconds, made = together(cluster, f"/{namespace}/paced/", rates, 4)
        assert admitted <= 25 + 50 * seconds, (rates, admitted, seconds)
        # A machine that is busy with other things makes fewer calls than it should.
        assert admitted >= min(0.95 * 50 * 4, 0.75 * made), (rates, admitted, made)


def test_a_small_rate_is_one_for_all_gateways_and_a_refusal_says_so(cluster, api, cli, namespace, probe, call_when_ready):
    api.deploy(namespace, "rare", probe)
    call_when_ready(f"/{namespace}/rare/")
    changed = json.loads(cli.ok("namespace", "update", namespace, "--rate", "2/m", "--burst", "2", "-o", "json").out)
    assert changed["rate"] == {"rate": "2/m", "burst": 2}, changed
    callers = [cluster.http(gateway) for gateway in range(2)]
    answers = []

    def refused():
        answers.append([caller.get(f"/{namespace}/rare/") for caller in callers])
        return all(answer.status_code == 429 for answer in answers[-1])

    eventually(refused, seconds=20, what="both gateways refuse")
    refusal = answers[-1][1]
    assert 1 <= int(refusal.headers["retry-after"]) <= 30
    assert refusal.headers["ratelimit-policy"] == '"namespace-rate";q=2;w=60'
    assert refusal.headers["ratelimit"].startswith('"namespace-rate";r=0;t='), refusal.headers
    error = refusal.json()["error"]
    assert error["code"] == "too_many_requests" and f"namespace {namespace} has reached its rate of 2/m" in error["message"], error
    limit = error["limit"]
    assert (limit["kind"], limit["of"], limit["allowed"], limit["period_seconds"]) == ("rate", f"namespace {namespace}", 2, 60)
    with cluster.rest() as client:
        shown = client.get(f"/api/v1/namespaces/{namespace}").json()
        assert shown["rate"] == {"requests": 2, "period": "minute", "burst": 2}, shown
        wrong = client.patch(f"/api/v1/namespaces/{namespace}", json={"rate": {"requests": 0, "period": "minute"}})
        assert wrong.status_code == 400, wrong.text
        assert client.patch(f"/api/v1/namespaces/{namespace}", json={"rate": None}).json()["rate"] is None
    eventually(lambda: all(caller.get(f"/{namespace}/rare/").status_code == 200 for caller in callers), seconds=20, what="no limit")


def test_what_is_no_rate_is_refused(cli, namespace):
    for rate, part in [("100", "write it as 100/s"), ("0/s", "must allow 1 to"), ("5/week", "write it as 100/s")]:
        ran = cli("namespace", "update", namespace, "--rate", rate)
        assert ran.code != 0 and part in ran.err, ran
    ran = cli("namespace", "update", namespace, "--rate", "5/s", "--burst", "0")
    assert ran.code != 0 and "namespace.rate" in ran.err, ran
