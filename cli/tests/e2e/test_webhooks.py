"""Webhooks on a real cluster: what a receiver gets is signed and what it says it is, and nothing is lost with the scheduler."""

import base64
import hashlib
import hmac
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from harness import guests
from harness.cluster import eventually
from harness.paths import Cli

from conftest import new_namespace


class Receiver:
    """Takes events; answers as it is told, 204 otherwise. Verifies by the text of the Standard Webhooks specification."""

    def __init__(self):
        self.seen, self.answers, self.secrets = [], [], []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.seen.append((dict(self.headers), body))
                answer = receiver.answers.pop(0) if receiver.answers else 204
                if answer == "slow":
                    time.sleep(12)
                    answer = 204
                self.send_response(answer)
                if answer == 302:
                    self.send_header("location", f"http://127.0.0.1:{receiver.port}/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()

    def ids(self):
        return [headers["webhook-id"] for headers, _ in self.seen]

    def events(self):
        """What has come, each event once, verified and in the order of the first attempts."""
        found = {}
        for headers, body in list(self.seen):
            assert any(self.verify(secret, headers, body) for secret in self.secrets), headers
            event = json.loads(body)
            assert event["specversion"] == "1.0" and event["id"] == headers["webhook-id"], event
            assert headers["content-type"].startswith("application/cloudevents+json"), headers
            assert found.setdefault(event["id"], event) == event, "an event changed between attempts"
        return list(found.values())

    @staticmethod
    def verify(secret, headers, body):
        assert abs(time.time() - int(headers["webhook-timestamp"])) < 300
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return any(hmac.compare_digest(given, expected) for given in headers["webhook-signature"].split(" "))


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def hooked(broken, tmp_path, receiver):
    """A cluster whose operator allows receivers on this machine, with a namespace that has one."""
    (tmp_path / "scheduler.toml").write_text("[webhooks]\nallow_private = true\n")
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
