"""Limits of calls in a time: all gateways together keep to them, and a refusal says which limit it was."""

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from harness import guests
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


def until_known(cluster, path):
    """Waits until each gateway has a part of what may be admitted; for the first one, a call waits for half a second."""
    for gateway in (0, 1):
        with cluster.http(gateway) as caller:
            eventually(lambda: caller.get(path).status_code == 200, what=f"{path} at gateway {gateway}")


def test_two_gateways_admit_what_a_rate_allows_and_no_more(cluster, api, cli, namespace, probe):
    rate = {"requests": 50, "period": "RATE_PERIOD_SECOND", "burst": 25}
    api.deploy(namespace, "paced", probe, spec={"limits": {"rate": rate}})
    until_known(cluster, f"/{namespace}/paced/")
    assert "50/s with a burst of 25" in cli.ok("describe", f"{namespace}/paced").out
    for rates in [(35, 35), (65, 5), (0, 70)]:
        together(cluster, f"/{namespace}/paced/", rates, 2)
        # More than once where a process stood still meanwhile: what could have been admitted then is lost.
        for _ in range(4):
            admitted, seconds, made = together(cluster, f"/{namespace}/paced/", rates, 4)
            assert admitted <= 25 + 50 * seconds, (rates, admitted, seconds)
            # A machine that is busy with other things makes fewer calls than it should.
            if admitted >= min(0.95 * 50 * 4, 0.75 * made):
                break
        else:
            raise AssertionError((rates, admitted, made))


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


def test_quotas_of_functions_and_namespaces_are_one_for_all_gateways(cluster, api, cli, namespace, call_when_ready):
    """The namespace's is the smaller one: what it refuses uses up nothing of the function's."""
    quota = {"requests": "400", "period": "QUOTA_PERIOD_DAY"}
    api.deploy(namespace, "metered", guests.answer("paid"), spec={"limits": {"quota": quota}})
    api.deploy(namespace, "other", guests.answer("paid"))
    path = f"/{namespace}/metered/"
    callers = [cluster.http(gateway) for gateway in (0, 1)]
    for caller in callers:
        for name in ("metered", "other"):
            eventually(lambda: caller.get(f"/{namespace}/{name}/").status_code == 200, seconds=30, what="the functions")
    changed = json.loads(cli.ok("namespace", "update", namespace, "--quota", "60/day", "-o", "json").out)
    assert (changed["quota"]["quota"], changed["quota"]["on_unknown"]) == ("60/day", "allow"), changed
    # From here on no call is admitted because the scheduler stands still for a moment.
    cli.ok("namespace", "update", namespace, "--quota", "60/day", "--on-unknown", "refuse")
    others = [[], []]

    def known():
        for own, caller in zip(others, callers):
            own.append(caller.get(f"/{namespace}/other/").status_code)
        return json.loads(cli.ok("namespace", "show", namespace, "-o", "json").out)["quota_usage"]["used"] > 0

    eventually(known, seconds=10, what="the namespace's quota at both gateways")

    def answer(n):
        while (got := callers[n % 2].get(path)).status_code == 503:
            time.sleep(0.1)
        return got

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(answer, range(200)))
    admitted = sum(answer.status_code == 200 for answer in answers)
    refused = [answer for answer in answers if answer.status_code == 429]
    assert admitted + len(refused) == 200 and 20 <= admitted <= 60, admitted
    limit = refused[-1].json()["error"]["limit"]
    assert (limit["kind"], limit["of"], limit["allowed"]) == ("quota", f"namespace {namespace}", 60), limit
    assert refused[-1].headers["ratelimit-policy"] == '"namespace-quota";q=60;w=86400'
    assert "dunlin namespace update --quota" in refused[-1].json()["error"]["hint"]
    # Also a function that has no quota of its own.
    assert all(caller.get(f"/{namespace}/other/").status_code == 429 for caller in callers)
    shown = cli.ok("namespace", "show", namespace).out
    assert "of 60/day used until" in shown, shown
    described = cli.ok("describe", f"{namespace}/metered").out
    assert "failing: " in described and "quota of 60/day is used up" in described and "dunlin namespace show" in described, described
    assert "400/day" in described, described
    with cluster.rest() as client:
        at = f"/api/v1/namespaces/{namespace}"
        space = client.get(at).json()
        assert space["quota"] == {"requests": 60, "period": "day", "on_unknown": "refuse"}, space

        def uses():
            own = client.get(f"{at}/functions/metered").json()["quota_usage"]
            return own["used"] + own["lent"] <= 400 and admitted <= own["used"] <= admitted + len(callers) * 3 and own

        # What the namespace refused was not counted of the function's. The calls that found it ready were.
        eventually(uses, seconds=10, what="what the function has used")
        assert client.patch(at, json={"quota": {"requests": 0, "period": "day"}}).status_code == 400
        assert client.patch(at, json={"quota": None}).json()["quota"] is None
    eventually(lambda: all(caller.get(path).status_code == 200 for caller in callers), seconds=10, what="no quota")
    for wrong in ("0/day", "5/week", "many"):
        assert "is no quota" in cli("namespace", "update", namespace, "--quota", wrong).err


def test_what_is_no_rate_is_refused(cli, namespace):
    for rate, part in [("100", "write it as 100/s"), ("0/s", "must allow 1 to"), ("5/week", "write it as 100/s")]:
        ran = cli("namespace", "update", namespace, "--rate", rate)
        assert ran.code != 0 and part in ran.err, ran
    ran = cli("namespace", "update", namespace, "--rate", "5/s", "--burst", "0")
    assert ran.code != 0 and "namespace.burst" in ran.err, ran


def messages(cluster):
    """What the gateways have asked and told the scheduler about limits so far."""
    pages = [cluster.rest(gateway=gateway).get("/metrics").text for gateway in (0, 1)]
    return sum(float(line.rpartition(" ")[2]) for page in pages for line in page.splitlines() if line.startswith("dunlin_gateway_limit_messages_total "))


def test_a_hundred_admissions_cost_the_scheduler_a_message_at_the_most_and_refusals_none(cluster, api, namespace):
    """Under a rate and a quota at once, at two gateways, while more is called than is allowed."""
    rate, quota = {"requests": 200, "period": "RATE_PERIOD_SECOND", "burst": 100}, {"requests": "1000000", "period": "QUOTA_PERIOD_DAY"}
    api.deploy(namespace, "busy", guests.answer("busy"), spec={"limits": {"rate": rate, "quota": quota}})
    path = f"/{namespace}/busy/"
    until_known(cluster, path)
    together(cluster, path, (140, 110), 3)
    found = []
    # More than once where a process stood still meanwhile: that callers came more slowly and then faster is news.
    while len(found) < 3 and not any(admitted > 1000 and spent <= admitted / 100 for spent, admitted, _ in found):
        before = messages(cluster)
        admitted, _, made = together(cluster, path, (140, 110), 8)
        found.append((messages(cluster) - before, admitted, made))
        assert found[-1][0] <= admitted / 50, found
    print(f"\nmessages, admissions and calls: {found}")
    spent, admitted, _ = found[-1]
    assert admitted > 1000 and spent <= admitted / 100, found


def test_what_is_refused_all_the_time_costs_the_scheduler_nothing(cluster, api, namespace, call_when_ready):
    """By a rate that is too small to divide, and by a quota that is used up."""
    api.deploy(namespace, "rare", guests.answer("rare"), spec={"limits": {"rate": {"requests": 1, "period": "RATE_PERIOD_HOUR", "burst": 1}}})
    api.deploy(namespace, "spent", guests.answer("spent"), spec={"limits": {"quota": {"requests": "5", "period": "QUOTA_PERIOD_MONTH"}}})
    callers = [cluster.http(gateway) for gateway in (0, 1)]
    paths = [f"/{namespace}/rare/", f"/{namespace}/spent/"]
    for path in paths:
        call_when_ready(path)
        eventually(lambda: [caller.get(path).status_code for caller in callers] == [429, 429], seconds=20, what=f"both gateways refuse {path}")
    # What is left is told within a few seconds.
    time.sleep(4)
    before = messages(cluster)
    statuses = {caller.get(path).status_code for _ in range(100) for caller in callers for path in paths}
    assert statuses == {429} and messages(cluster) - before <= 2, (statuses, messages(cluster) - before)
