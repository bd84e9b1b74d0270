"""Rollouts on a real cluster: what is no worse gets all calls, what is worse goes back, and what traps at once is taken out."""

import time

import httpx
import pytest

from harness import guests
from harness.cluster import eventually

pytestmark = pytest.mark.usefixtures("processes_survive")

TRAP = guests.command("unreachable")


@pytest.fixture
def dunlin(cli, namespace):
    return lambda *arguments: cli.ok("-n", namespace, *arguments)


@pytest.fixture
def deploy(api, namespace):
    def version(wasm, **more):
        return api.deploy(namespace, "till", wasm, **more)
    return version


def rollout(dunlin):
    return dunlin("rollout", "show", "till", "-o", "json").json


def texts(cluster, path, count=20):
    """What both gateways answer, call by call."""
    answers = []
    for gateway in (0, 1):
        with cluster.http(gateway) as client:
            answers += [client.get(path).text for _ in range(count)]
    return answers


def until_over(cluster, path, dunlin, seconds=60):
    """Calls both gateways until the rollout is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        texts(cluster, path)
        if (found := rollout(dunlin))["state"] != "running":
            return found
    pytest.fail(f"the rollout is not over: {rollout(dunlin)}")


def test_what_is_no_worse_gets_all_calls_step_by_step(cluster, namespace, deploy, dunlin):
    deploy(guests.answer("old"))
    deploy(guests.answer("new"), hold_traffic=True)
    said = dunlin("rollout", "start", "till", "--steps", "30,60", "--step-time", "1s", "--step-calls", "50")
    assert f"30 % of the calls of {namespace}/till go to version 2" in said.err
    path = f"/{namespace}/till/"
    assert {"old", "new"} == set(texts(cluster, path, 40)), "calls are divided as soon as the command has returned"

    def counted():
        texts(cluster, path)
        found = rollout(dunlin)
        return found["state"] != "running" or found["new_tally"]["calls"] > 0

    eventually(counted, what="counts of the new version")
    found = until_over(cluster, path, dunlin)
    assert found["state"] == "promoted" and found["step"] == 3, found
    # The scheduler did it by itself: gateways hear of it a moment later.
    eventually(lambda: set(texts(cluster, path)) == {"new"}, what="the new version on both gateways")
    shown = dunlin("rollout", "show", "till").out
    assert "promoted" in shown and "no worse" in shown


def test_what_fails_more_often_goes_back_and_the_reason_is_kept(cluster, api, namespace, deploy, dunlin):
    deploy(guests.answer("old"))
    deploy(TRAP, hold_traffic=True)
    dunlin("rollout", "start", "till", "--steps", "50", "--step-time", "1s", "--step-calls", "50")
    path = f"/{namespace}/till/"
    found = until_over(cluster, path, dunlin)
    assert found["state"] == "back" and "calls of the new version failed" in found["reason"], found
    assert eventually(lambda: set(texts(cluster, path)) == {"old"}, what="the old version on both gateways")
    traffic = api.call("FunctionService.GetFunction", name=f"namespaces/{namespace}/functions/till")["function"]["traffic"]
    assert traffic == [{"version": 1, "percent": 100}]
    again = dunlin("rollout", "start", "till", "2", "--steps", "50")
    assert "version 2" in again.err
    stopped = dunlin("rollout", "stop", "till", "-o", "json").json
    assert stopped["state"] == "stopped" and set(texts(cluster, path)) == {"old"}


def test_traffic_that_somebody_divides_ends_a_rollout(cluster, namespace, deploy, dunlin):
    deploy(guests.answer("old"))
    deploy(guests.answer("new"), hold_traffic=True)
    dunlin("rollout", "start", "till")
    dunlin("traffic", "set", "till", "v1=100")
    eventually(lambda: rollout(dunlin)["state"] == "superseded", what="the end of the rollout")
    assert set(texts(cluster, f"/{namespace}/till/")) == {"old"}


@pytest.fixture
def app(api, namespace, dunlin):
    """Deploys two functions of a shop that tell callers apart by the same header, and then their next versions without calls."""
    def deploy(**wasm):
        for name in wasm:
            api.deploy(namespace, name, guests.answer("old"))
            dunlin("alias", "set", name, "live", "1", "--sticky", "header:X-User")
        for name, code in wasm.items():
            api.deploy(namespace, name, code, hold_traffic=True)
    return deploy


def sides(cluster, namespace, users, path="/"):
    """What each caller gets of both functions, from gateways in turn."""
    found = {}
    for gateway in (0, 1):
        with cluster.http(gateway) as client:
            for user in users:
                texts = [client.get(f"/{namespace}/{name}{path}", headers={"X-User": user}).text for name in ("till", "mail")]
                found.setdefault(user, set()).update(texts)
    return found


def test_functions_move_together_and_a_caller_gets_the_new_ones_of_all_or_of_none(cluster, namespace, api, dunlin, app):
    app(till=guests.answer("new"), mail=guests.answer("new"))
    users = [f"user-{number}" for number in range(100)]
    said = dunlin("rollout", "start", "till", "mail=2", "--steps", "30,70", "--step-time", "1s", "--step-calls", "100000")
    assert f"30 % of the calls go to the new versions in {namespace}: mail v1 to v2, till v1 to v2" in said.err
    first = sides(cluster, namespace, users)
    assert all(len(texts) == 1 for texts in first.values()), "a caller has one side, of all functions and at both gateways"
    moved = [user for user in users if first[user] == {"new"}]
    assert 10 < len(moved) < 60, len(moved)
    found = rollout(dunlin)
    assert [part["function"] for part in found["functions"]] == ["mail", "till"] and found["function"] == "till"
    before = dunlin("release", "list", "-o", "json").json
    stopped = dunlin("rollout", "stop", "mail", "--promote", "-o", "json").json
    assert stopped["state"] == "stopped"
    assert all(texts == {"new"} for texts in sides(cluster, namespace, users[:10]).values())
    after = dunlin("release", "list", "-o", "json").json
    assert after[0]["number"] == before[0]["number"] + 1, "all functions were promoted in one release"


def test_one_function_that_is_worse_takes_all_back(cluster, namespace, dunlin, app):
    app(till=guests.answer("new"), mail=TRAP)
    dunlin("rollout", "start", "--all", "--steps", "50", "--step-time", "1s", "--step-calls", "50")
    users = [f"user-{number}" for number in range(40)]

    def over():
        sides(cluster, namespace, users)
        return rollout(dunlin)["state"] != "running"

    eventually(over, seconds=60, what="the end of the rollout")
    found = rollout(dunlin)
    assert found["state"] == "back" and found["reason"].startswith("mail: "), found
    assert dunlin("rollout", "show", "mail", "-o", "json").json["reason"] == found["reason"]
    assert eventually(lambda: all(texts == {"old"} for texts in sides(cluster, namespace, users[:5]).values()), what="old versions of both")


def test_functions_that_are_no_worse_are_promoted_together(cluster, namespace, dunlin, app):
    app(till=guests.answer("new"), mail=guests.answer("new"))
    dunlin("rollout", "start", "--all", "--steps", "40", "--step-time", "1s", "--step-calls", "50")
    users = [f"user-{number}" for number in range(50)]

    def over():
        sides(cluster, namespace, users)
        return rollout(dunlin)["state"] != "running"

    eventually(over, seconds=60, what="the end of the rollout")
    assert rollout(dunlin)["state"] == "promoted"
    eventually(lambda: all(texts == {"new"} for texts in sides(cluster, namespace, users[:10]).values()), what="new versions of both on both gateways")
    newest = dunlin("release", "list", "-o", "json").json[0]
    assert newest["cause"] == "promote mail@2, till@2", newest


@pytest.mark.parametrize("arguments, said", [(("--steps", "50,10"), "must rise"), (("--step-calls", "1"), "50 calls at least"), (("--step-time", "100ms"), "1s at least")])
def test_steps_that_make_no_sense_are_refused(cli, namespace, deploy, arguments, said):
    deploy(guests.answer("old"))
    deploy(guests.answer("new"), hold_traffic=True)
    refused = cli("-n", namespace, "rollout", "start", "till", *arguments)
    assert refused.code != 0 and said in refused.err, refused


def call_from(cluster, address, path, count):
    transport = httpx.HTTPTransport(local_address=address)
    with cluster.http() as usual, httpx.Client(base_url=usual.base_url, transport=transport) as client:
        return [client.get(path).status_code for _ in range(count)]


def test_a_fresh_version_that_traps_for_several_callers_is_taken_out_of_traffic(cluster, namespace, deploy, dunlin):
    deploy(guests.answer("good"))
    path = f"/{namespace}/till/"
    eventually(lambda: set(texts(cluster, path, 2)) == {"good"}, what="the first version")
    deploy(TRAP)
    eventually(lambda: "good" not in texts(cluster, path, 2), what="the second version")
    # One caller alone brings nothing about, however often its calls trap.
    time.sleep(1.5)
    assert set(call_from(cluster, "127.0.0.1", path, 60)) == {502}
    time.sleep(2.5)
    assert set(call_from(cluster, "127.0.0.1", path, 5)) == {502}

    def good_again():
        for address in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
            call_from(cluster, address, path, 10)
        return set(texts(cluster, path, 2)) == {"good"}

    eventually(good_again, seconds=20, what="the version before it")
    found = rollout(dunlin)
    assert (found["state"], found["old_version"], found["new_version"]) == ("quarantined", 1, 2)
    assert "trapped" in found["reason"]
