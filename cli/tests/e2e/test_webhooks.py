"""Webhooks on a real cluster: what a receiver gets is signed and what it says it is, and nothing is lost with the scheduler."""

import json
import time

import httpx
import pytest
from harness import guests
from harness.cluster import eventually
from harness.paths import Cli
from harness.receiver import Receiver

from conftest import new_namespace


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def hooked(broken, tmp_path, receiver):
    """A cluster whose operator allows receivers on this machine, with a namespace that has one."""
    (tmp_path / "scheduler.toml").write_text("[webhooks]\nallow_private = true\n\n[rollout]\nmin_step_seconds = 1\nmin_step_calls = 50\n")
    cluster = broken(f"--scheduler-arg=--config={tmp_path / 'scheduler.toml'}")

    class Hooked:
        api, name = cluster.api(), new_namespace(cluster.api())

        def __init__(self):
            self.cluster, self._cli = cluster, Cli(tmp_path, cluster.admin, cluster.token)

        def __call__(self, *arguments):
            return self._cli("--namespace", self.name, *arguments)

        def ok(self, *arguments):
            return self._cli.ok("--namespace", self.name, *arguments)

        def shown(self):
            return json.loads(self.ok("webhook", "show", "-o", "json").out)

        def states(self):
            return {delivery["id"]: delivery["state"] for delivery in self.shown()["deliveries"]}

    hooked = Hooked()
    receiver.secrets.append(hooked.ok("webhook", "set", receiver.url).out.strip())
    return hooked


def test_events_come_signed_and_with_both_secrets_after_a_rotation(hooked, receiver):
    assert "has taken event" in hooked.ok("webhook", "test").err
    hooked.api.deploy(hooked.name, "pay", guests.answer("one"))
    hooked.api.deploy(hooked.name, "pay", guests.answer("two"))
    hooked.ok("rollback", "pay", "-y")
    eventually(lambda: len(receiver.seen) == 2, what="the rollback")
    first, second = receiver.events()
    assert (first["type"], first["subject"]) == ("dev.dunlin.test", f"namespaces/{hooked.name}/webhook")
    assert (second["type"], second["subject"]) == ("dev.dunlin.rollback", f"namespaces/{hooked.name}/functions/pay")
    assert second["data"]["functions"] == [{"function": "pay", "from": 2, "to": 1}] and not second["data"]["automatic"]
    old = receiver.secrets.pop()
    receiver.secrets.append(hooked.ok("webhook", "rotate-secret").out.strip())
    hooked.ok("webhook", "test")
    headers, body = receiver.seen[-1]
    assert receiver.verify(old, headers, body) and receiver.verify(receiver.secrets[0], headers, body)
    receiver.secrets.append(old)
    assert len(receiver.events()) == 3


def test_budgets_are_told_once(hooked, receiver):
    hooked.api.deploy(hooked.name, "pay", guests.answer("paid"))
    hooked.ok("budget", "set", "--calls", "20/day", "--warn", "50", "--enforce")
    with hooked.cluster.http() as caller:
        eventually(lambda: caller.get(f"/{hooked.name}/pay/").status_code == 429, seconds=30, what="the budget being used up")
    eventually(lambda: receiver.events()[-1]["type"] == "dev.dunlin.budget.used_up", what="the budget being told of")
    before = receiver.events()
    assert [event["data"]["limit"] for event in before] == ["calls"] * len(before) and len(before) <= 2, before
    hooked.cluster.kill("scheduler")
    hooked.cluster.restart("scheduler")
    eventually(lambda: hooked.ok("webhook", "test"), seconds=30, what="the scheduler")
    eventually(lambda: receiver.events()[-1]["type"] == "dev.dunlin.test", what="the test")
    assert len(receiver.events()) == len(before) + 1, "the same is told once"


def test_a_budget_that_was_used_up_before_is_told_as_the_webhook_is_set(hooked, receiver):
    hooked.ok("webhook", "delete", "-y")
    hooked.api.deploy(hooked.name, "pay", guests.answer("paid"))
    hooked.ok("budget", "set", "--calls", "5/day", "--enforce")
    with hooked.cluster.http() as caller:
        eventually(lambda: caller.get(f"/{hooked.name}/pay/").status_code == 429, seconds=30, what="the budget being used up")
    assert not receiver.seen
    receiver.secrets = [hooked.ok("webhook", "set", receiver.url).out.strip()]
    eventually(lambda: receiver.seen, what="the budget being told of")
    assert [event["type"] for event in receiver.events()] == ["dev.dunlin.budget.used_up"]
    # Its receiver knows; another one does not.
    hooked.ok("webhook", "set", receiver.url)
    hooked.ok("webhook", "test")
    hooked.ok("webhook", "set", receiver.url + "/other")
    eventually(lambda: len(receiver.seen) == 3, what="the other receiver being told")
    assert [event["type"].removeprefix("dev.dunlin.") for event in receiver.events()] == ["budget.used_up", "test", "budget.used_up"]


def test_what_is_not_taken_comes_again_and_redirects_lead_nowhere(hooked, receiver):
    receiver.answers += [500, 302]
    failed = hooked("webhook", "test")
    assert failed.code == 1 and "500" in failed.err, failed.err
    delivery = hooked.shown()["deliveries"][0]
    assert delivery["state"] == "pending" and delivery["tries"] == 1 and delivery["next_time"], delivery
    eventually(lambda: hooked.shown()["deliveries"][0]["state"] == "delivered", seconds=30, what="the third attempt")
    assert len(receiver.seen) == 3 and len(receiver.events()) == 1
    # A slow one is not waited for longer than ten seconds, and gets the same again.
    receiver.answers += ["slow"]
    slow = hooked("webhook", "test")
    assert slow.code == 1 and "did not answer within 10 s" in slow.err, slow.err
    eventually(lambda: set(hooked.states().values()) == {"delivered"}, seconds=30, what="the slow one's second attempt")
    receiver.answers += [410]
    gone = hooked("webhook", "test")
    assert gone.code == 1 and "gone" in gone.err
    assert hooked("webhook", "test").code == 7
    assert hooked.ok("webhook", "set", receiver.url).out == ""
    hooked.ok("webhook", "test")


def test_what_is_not_taken_is_said_where_a_function_is_described(hooked, receiver):
    hooked.api.deploy(hooked.name, "pay", guests.answer("paid"))
    health = lambda: json.loads(hooked.ok("describe", "pay", "-o", "json").out)["health"]  # noqa: E731
    assert health()["webhook"] == {"pending": 0, "last_failure": None, "gone_time": None, "dropped": 0}
    receiver.answers += [500, 500, 500]
    hooked("webhook", "test")
    found = health()
    assert found["webhook"]["pending"] == 1 and found["webhook"]["last_failure"]["status"] == 500, found
    problem = next(problem for problem in found["problems"] if "webhook" in problem["command"])
    assert "1 event waits for the webhook: the receiver answered 500" in problem["text"], problem
    assert "500" in hooked.ok(*problem["command"].split()[1:]).out
    assert receiver.url not in json.dumps(found)
    hooked.ok("webhook", "delete", "-y")
    assert health()["webhook"] is None and "none; set one up" in hooked.ok("describe", "pay").out


def test_a_rollout_that_goes_back_by_itself_is_told(hooked, receiver):
    hooked.api.deploy(hooked.name, "till", guests.answer("old"))
    hooked.api.deploy(hooked.name, "till", guests.command("unreachable"), hold_traffic=True)
    hooked.ok("rollout", "start", "till", "--steps", "50", "--step-time", "1s", "--step-calls", "50")
    with hooked.cluster.http() as caller:
        def told():
            for _ in range(20):
                caller.get(f"/{hooked.name}/till/")
            return receiver.seen

        eventually(told, seconds=60, what="the rollout going back")
    event, shown = receiver.events()[0], json.loads(hooked.ok("rollout", "show", "till", "-o", "json").out)
    assert (event["type"], event["subject"]) == ("dev.dunlin.rollback", f"namespaces/{hooked.name}/functions/till")
    data = event["data"]
    assert data["automatic"] and data["functions"] == [{"function": "till", "from": 2, "to": 1}], data
    assert shown["state"] == "back" and data["reason"] == shown["reason"] != "", (data, shown)


def test_a_fresh_version_that_is_put_in_quarantine_is_told(hooked, receiver):
    path = f"/{hooked.name}/till/"
    hooked.api.deploy(hooked.name, "till", guests.answer("good"))
    hooked.api.deploy(hooked.name, "till", guests.command("unreachable"))
    url = hooked.cluster.http().base_url
    # One caller alone brings nothing about.
    callers = [httpx.Client(base_url=url, transport=httpx.HTTPTransport(local_address=f"127.0.0.{last}")) for last in (1, 2, 3)]

    def told():
        for caller in callers:
            for _ in range(10):
                caller.get(path)
        return receiver.seen

    eventually(told, seconds=60, what="the quarantine")
    eventually(lambda: all(caller.get(path).text == "good" for caller in callers), what="the version before it")
    for caller in callers:
        caller.close()
    event, shown = receiver.events()[0], json.loads(hooked.ok("rollout", "show", "till", "-o", "json").out)
    assert (event["type"], event["subject"]) == ("dev.dunlin.quarantine", f"namespaces/{hooked.name}/functions/till")
    data = event["data"]
    assert data["automatic"] and data["functions"] == [{"function": "till", "from": 2, "to": 1}], data
    assert shown["state"] == "quarantined" and "trapped" in data["reason"], (data, shown)
    time.sleep(2)
    assert len(receiver.events()) == 1, "it is told once"


@pytest.mark.timeout(240)
def test_a_killed_scheduler_loses_nothing(hooked, receiver):
    hooked.api.deploy(hooked.name, "pay", guests.answer("one"))
    hooked.api.deploy(hooked.name, "pay", guests.answer("two"))
    made = 0
    for round_ in range(3):
        receiver.answers += ["slow", 503]
        for version in (1, 2, 1, 2):
            hooked.api.call("FunctionService.RollbackFunction", name=f"namespaces/{hooked.name}/functions/pay", version=version)
            made += 1
        time.sleep(0.7 * (round_ + 1))
        hooked.cluster.kill("scheduler")
        hooked.cluster.restart("scheduler")
        eventually(lambda: hooked.states(), seconds=30, what="the scheduler")
    eventually(lambda: set(hooked.states().values()) == {"delivered"}, seconds=120, what="everything being delivered")
    events = receiver.events()
    assert len(events) == made == len(hooked.states()), (len(events), made)
    assert {event["id"] for event in events} == set(hooked.states()), "the same events have the same ids"
    assert sorted(event["data"]["functions"][0]["to"] for event in events) == [1] * (made // 2) + [2] * (made // 2)


def test_an_operator_who_allows_nothing_has_no_private_receivers(namespace, cli, receiver):
    refused = cli("--namespace", namespace, "webhook", "set", receiver.url)
    assert refused.code == 7 and "https://" in refused.err, refused.err
    refused = cli("--namespace", namespace, "webhook", "set", f"https://127.0.0.1:{receiver.port}/")
    assert refused.code == 7 and "private address" in refused.err, refused.err
    cli.ok("--namespace", namespace, "webhook", "set", f"https://localhost:{receiver.port}/")
    failed = cli("--namespace", namespace, "webhook", "test")
    assert failed.code == 1 and "no public address" in failed.err, failed.err
    assert not receiver.seen
