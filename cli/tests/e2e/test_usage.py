"""What calls used: every call counts once, whatever dies, and a budget that is used up refuses calls at every gateway."""

import csv
import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone

import pytest
from conftest import deployed
from harness import guests
from harness.cluster import eventually
from harness.paths import Cli


@pytest.fixture
def shop(namespace, cli, api, cluster):
    """A function that answers at both gateways, and the command in its namespace."""
    api.deploy(namespace, "pay", guests.answer("paid"))

    class Shop:
        path, name = f"/{namespace}/pay/", namespace
        callers = [cluster.http(gateway) for gateway in (0, 1)]
        # Those that wait for the function count as well.
        made = 0

        def ok(self, *arguments):
            return cli.ok("--namespace", namespace, *arguments)

        def __call__(self, *arguments):
            return cli("--namespace", namespace, *arguments)

        def usage(self, *arguments):
            return json.loads(self.ok("usage", *arguments, "-o", "json").out)

        def call(self, gateway, **options):
            answer = self.callers[gateway].get(self.path, **options)
            self.made += answer.status_code == 200
            return answer

    shop = Shop()
    for gateway in (0, 1):
        eventually(lambda: shop.call(gateway).status_code == 200, seconds=30, what="the function")
    return shop


def counted(shop):
    return sum(line["invocations"] for line in shop.usage())


def test_every_call_at_two_gateways_counts_once_and_by_key(cluster, api, shop):
    api.deploy(shop.name, "closed", guests.answer("private"), public=False)
    key = json.loads(shop.ok("key", "create", "till", "-o", "json").out)
    header = {"X-Api-Key": key["secret"]}
    for gateway in (0, 1):
        eventually(lambda: cluster.http(gateway).get(f"/{shop.name}/closed/").status_code == 401, what="the private function")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: shop.callers[n % 2].get(shop.path), range(150)))
        closed = list(pool.map(lambda n: shop.callers[n % 2].get(f"/{shop.name}/closed/", headers=header), range(30)))
    assert {answer.status_code for answer in answers + closed} == {200}
    shop.made += len(answers)
    eventually(lambda: counted(shop) == shop.made + 30, what=f"{shop.made + 30} calls")
    time.sleep(2.5)
    lines = {line["function"]: line for line in shop.usage()}
    assert lines["pay"]["invocations"] == shop.made and lines["closed"]["invocations"] == 30, lines
    assert lines["pay"]["cpu_ms"] > 0 and lines["pay"]["memory_byte_seconds"] > 0 and lines["pay"]["bytes_out"] == 4 * shop.made, lines
    by_key = {line["key"]: line["invocations"] for line in shop.usage("--by", "key")}
    assert by_key == {None: shop.made, key["key"]["id"]: 30}
    hours = shop.usage("--by", "hour")
    assert sum(line["invocations"] for line in hours) == shop.made + 30 and all(line["hour"].endswith(":00:00.000Z") for line in hours)
    # The same for other programs; a deleted function's calls stay.
    shop.ok("delete", f"{shop.name}/closed", "-y")
    with cluster.rest() as client:
        answer = client.get(f"/api/v1/namespaces/{shop.name}/usage.csv")
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert sum(int(row["invocations"]) for row in rows) == shop.made + 30
        assert {(row["function"], row["version"]) for row in rows} == {("pay", "1"), ("closed", "1")}
        page = client.get(f"/api/v1/namespaces/{shop.name}/usage", params={"by": "version"}).json()
        assert {line["function"]: line["version"] for line in page["usage"]} == {"pay": 1, "closed": 1}
    told = list(csv.DictReader(io.StringIO(shop.ok("usage", "--by", "hour,version,key", "-o", "csv").out)))
    assert [row["invocations"] for row in told] == [row["invocations"] for row in rows]


@pytest.mark.expects_log("a budget is used")
def test_a_budget_refuses_at_every_gateway_once_it_is_used_up(cluster, shop):
    eventually(lambda: counted(shop) == shop.made, what="the first calls")
    allowed = shop.made + 20
    shown = json.loads(shop.ok("budget", "set", "--calls", f"{allowed}/month", "--warn", "50", "--enforce", "-o", "json").out)
    assert shown["calls"]["used"] == shop.made and shown["enforce"] is True, shown
    began, last = time.monotonic(), [None, None]

    def refused():
        for gateway in (0, 1):
            last[gateway] = shop.call(gateway)
        time.sleep(0.3)
        return all(answer.status_code == 429 for answer in last)

    eventually(refused, seconds=20, what="refusals at both gateways")
    # No more than seven calls a second were made. What is used is known a second later, and told at once; a process may stand
    # still for some seconds more.
    assert allowed <= shop.made <= allowed + 30, (allowed, shop.made, time.monotonic() - began)
    for answer in last:
        error = answer.json()["error"]
        limit = error["limit"]
        assert (limit["kind"], limit["of"], limit["allowed"]) == ("budget", f"namespace {shop.name}", allowed), error
        assert allowed <= limit["current"] and "dunlin budget set" in error["hint"], error
        now = datetime.now(timezone.utc)
        month = datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=timezone.utc)
        assert abs(int(answer.headers["retry-after"]) - (month - now).total_seconds()) < 10, answer.headers
    eventually(lambda: counted(shop) == shop.made, what="refused calls do not count")
    budget = json.loads(shop.ok("budget", "show", "-o", "json").out)
    assert (budget["calls"]["used"], budget["calls"]["state"]) == (shop.made, "used_up"), budget
    assert "used up: calls are refused" in shop.ok("describe", "pay").out
    shop.ok("budget", "delete", "-y")
    eventually(lambda: shop.call(0).status_code == 200 and shop.call(1).status_code == 200, what="calls without a budget")
    assert shop("budget", "show").code == 3


@pytest.mark.expects_log("a budget is used")
def test_a_budget_of_cpu_time_refuses_what_computes(cluster, api, shop):
    burn = """(local $n i32)
      (loop $on
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $on (i32.lt_u (local.get $n) (i32.const 200000000))))
      (call $head)"""
    api.deploy(shop.name, "burn", guests.command(burn))
    shown = json.loads(shop.ok("budget", "set", "--cpu", "2s/month", "--enforce", "-o", "json").out)
    assert shown["calls"] is None and shown["enforce"] is True, shown
    answers = []

    def refused():
        answers.append(shop.callers[len(answers) % 2].get(f"/{shop.name}/burn/"))
        return answers[-1].status_code == 429

    # With a pause after each, so that little is used while what is used is on its way.
    eventually(refused, seconds=60, every=0.3, what="a refusal")
    error = answers[-1].json()["error"]
    assert error["limit"]["kind"] == "budget" and "dunlin budget set" in error["hint"], error
    # Functions that compute nothing are refused, too: the budget is the namespace's.
    eventually(lambda: all(shop.call(gateway).status_code == 429 for gateway in (0, 1)), what="refusals at both gateways")
    spent = sum(line["cpu_ms"] for line in shop.usage())
    made = sum(answer.status_code == 200 for answer in answers)
    # One after another they take less than a processor, and what is used is known a second later.
    assert made >= 2 and 2_000 <= spent < 5_000, (made, spent)
    assert json.loads(shop.ok("budget", "show", "-o", "json").out)["cpu_seconds"]["state"] == "used_up"
    shop.ok("budget", "delete", "-y")


def test_a_killed_gateway_loses_a_second_at_most_and_nothing_counts_twice(broken, tmp_path):
    cluster = broken()
    path = deployed(cluster)
    namespace = path.split("/")[1]
    cli = Cli(tmp_path, cluster.admin, cluster.token)

    def counted():
        lines = json.loads(cli.ok("--namespace", namespace, "usage", "-o", "json").out)
        return sum(line["invocations"] for line in lines)

    # Each gateway has answered once, before calls are counted here.
    before, times = eventually(lambda: counted() == 2 and 2, what="the first calls"), []
    with cluster.http(1) as client:
        until = time.monotonic() + 3

        def stood_still():
            """Whether a process did lately: then it may not have reported for more than a second."""
            return any(after - at > 0.4 for at, after in zip(times, times[1:]) if after > times[-1] - 2.5)

        while time.monotonic() < until or time.monotonic() < until + 20 and stood_still():
            assert client.get(path).status_code == 200
            times.append(time.monotonic())
        cluster.kill("gateway-2")
        killed = time.monotonic()
    made = len(times)
    # A report a second, and a moment for it to be written.
    late = sum(1 for at in times if at > killed - 1.6)
    time.sleep(2)
    after = counted() - before
    assert made - late <= after <= made, (made, late, after)
    cluster.restart("gateway-2")
    with cluster.http(1) as client:
        eventually(lambda: client.get(path).status_code == 200, seconds=20, what="the gateway")
    eventually(lambda: counted() - before == after + 1, what="its first call")
    # Without the scheduler, calls are counted and reported later, once.
    cluster.kill("scheduler")
    with cluster.http(0) as client:
        for _ in range(40):
            assert client.get(path).status_code == 200
        time.sleep(2.5)
        for _ in range(40):
            assert client.get(path).status_code == 200
    cluster.restart("scheduler")
    eventually(lambda: counted() - before == after + 81, seconds=30, what="the calls without the scheduler")
    time.sleep(2)
    assert counted() - before == after + 81


def test_a_gateway_killed_while_the_scheduler_is_away_reports_later_and_once(broken, tmp_path):
    cluster = broken()
    path = deployed(cluster)
    cli = Cli(tmp_path, cluster.admin, cluster.token)
    unsent = cluster.folder / "gateway-2/usage.unsent"

    def counted():
        lines = json.loads(cli.ok("--namespace", path.split("/")[1], "usage", "-o", "json").out)
        return sum(line["invocations"] for line in lines)

    # Each gateway has answered once, before calls are counted here.
    before, made = eventually(lambda: counted() == 2 and 2, what="the first calls"), 0
    eventually(lambda: not unsent.exists(), what="no file, since what is reported at once needs none")
    cluster.kill("scheduler")
    # Twice, so that the second process has to keep what it was left by the first.
    for _ in range(2):
        with cluster.http(1) as client:
            eventually(lambda: client.get("/none/none/").status_code == 404, seconds=20, what="the gateway")
            for _ in range(30):
                made += client.get(path).status_code == 200
        time.sleep(3)
        cluster.kill("gateway-2")
        assert unsent.stat().st_mode & 0o777 == 0o600
        cluster.restart("gateway-2")
    assert made >= 30
    cluster.restart("scheduler")
    eventually(lambda: counted() - before == made, seconds=30, what=f"{made} calls")
    eventually(lambda: not unsent.exists(), what="nothing waits")
    time.sleep(2)
    assert counted() - before == made
    # What nobody can read is set aside, and the gateway starts.
    cluster.kill("gateway-2")
    unsent.write_bytes(b"damaged")
    cluster.restart("gateway-2")
    with cluster.http(1) as client:
        eventually(lambda: client.get(path).status_code == 200, seconds=20, what="the gateway")
    eventually(lambda: counted() - before == made + 1, what="its first call")
    assert unsent.with_suffix(".damaged").read_bytes() == b"damaged"
