"""Aliases, divided traffic, previews and rollbacks on a real cluster: both gateways decide alike, and at once."""

import threading
import time

import pytest

from harness import guests
from harness.api import ApiError
from harness.cluster import eventually

pytestmark = pytest.mark.usefixtures("processes_survive")


@pytest.fixture
def dunlin(cli, namespace):
    """The command, at work in the test's namespace."""
    return lambda *arguments: cli.ok("-n", namespace, *arguments)


@pytest.fixture
def versions(api, namespace):
    """Deploys `till` so many times, each version answering its number; the first gets the traffic."""
    def deploy(count):
        for number in range(1, count + 1):
            api.deploy(namespace, "till", guests.answer(f"v{number}"), hold_traffic=number > 1)
    return deploy


def shares(api, namespace, alias="live"):
    listed = api.call("AliasService.ListAliases", parent=f"namespaces/{namespace}/functions/till")["aliases"]
    found = next(entry for entry in listed if entry["name"].endswith(f"/{alias}"))
    return {share["version"]: share["percent"] for share in found["traffic"]}


def texts(cluster, path, headers, gateways=(0, 1)):
    """What each gateway answers, for each of these headers."""
    answers = []
    for gateway in gateways:
        with cluster.http(gateway) as client:
            answers.append([client.get(path, headers=one).raise_for_status().text for one in headers])
    return answers


def test_callers_divide_alike_on_both_gateways_and_move_only_forwards(cluster, namespace, versions, dunlin):
    versions(2)
    users = [{"X-User": f"user-{number}"} for number in range(200)]
    path = f"/{namespace}/till/"
    seen = []
    for weight in (10, 40, 80):
        said = dunlin("traffic", "set", "till", f"v1={100 - weight},v2={weight}", "--sticky", "header:X-User")
        assert f"v1 {100 - weight}%, v2 {weight}%" in said.err
        # The command has returned: both gateways know, without a wait.
        one, other = texts(cluster, path, users)
        assert one == other, "both gateways send a caller to the same version"
        share = one.count("v2") / len(one) * 100
        assert abs(share - weight) < 15, f"{share} % of few callers got the newer version, of {weight} %"
        seen.append(one)
    for before, after in zip(seen, seen[1:]):
        assert all(then >= was for was, then in zip(before, after)), "nobody moves back"
    said = dunlin("promote", "till")
    assert f"all calls of {namespace}/till go to version 2" in said.err
    assert texts(cluster, path, users[:20]) == [["v2"] * 20] * 2


def test_a_cookie_keeps_a_browser_where_it_is(cluster, namespace, versions, dunlin):
    versions(2)
    dunlin("traffic", "set", "till", "v1=50,v2=50", "--sticky", "cookie")
    found = set()
    # So many that all of them get the same version once in ten million times.
    for _ in range(24):
        with cluster.http() as first, cluster.http(1) as second:
            answer = first.get(f"/{namespace}/till/")
            assert "HttpOnly" in answer.headers["set-cookie"]
            cookie = {"Cookie": f"dunlin-caller={first.cookies['dunlin-caller']}"}
            again = second.get(f"/{namespace}/till/", headers=cookie)
            assert again.text == answer.text and "set-cookie" not in again.headers
            found.add(answer.text)
    assert found == {"v1", "v2"}


def test_routes_name_aliases_and_an_alias_that_is_named_stays(cluster, api, namespace, versions, dunlin, cli):
    versions(3)
    dunlin("alias", "set", "till", "beta", "v3")
    dunlin("route", "add", "beta", "/beta", "--function", "till:beta", "--auth", "public")
    dunlin("route", "add", "main", "/main", "--function", "till", "--auth", "public")
    with cluster.http(1) as client:
        eventually(lambda: client.get(f"/{namespace}/beta").text == "v3" and client.get(f"/{namespace}/main").text == "v1")
        dunlin("alias", "set", "till", "beta", "v2")
        assert client.get(f"/{namespace}/beta").text == "v2" and client.get(f"/{namespace}/main").text == "v1"
    used = cli("-n", namespace, "alias", "delete", "till", "beta", "-y")
    assert used.code == 7 and "named by the routes beta" in used.err, used
    assert shares(api, namespace, "beta") == {2: 100}
    missing = cli("-n", namespace, "route", "add", "gamma", "/gamma", "--function", "till:gamma")
    assert missing.code == 3 and "aliases/gamma was not found" in missing.err, missing
    dunlin("route", "remove", "beta", "-y")
    dunlin("alias", "delete", "till", "beta", "-y")
    assert [alias["alias"] for alias in cluster.rest().get(f"/api/v1/namespaces/{namespace}/functions/till/aliases").json()["aliases"]] == ["live"]


def test_what_does_not_add_up_or_is_not_there_changes_nothing(api, namespace, versions, cli):
    versions(2)
    ran = cli("-n", namespace, "traffic", "set", "till", "v1=90,v2=20")
    assert ran.code == 2 and "add up to 110" in ran.err, ran
    name = f"namespaces/{namespace}/functions/till/aliases"
    for alias, targets, reason, words in [
        ("live", [(1, 90), (2, 20)], "invalid_argument", "sum to 110"),
        ("live", [(1, 100), (1, 100)], "invalid_argument", "twice"),
        ("live", [(1, 90), (7, 10)], "not_found", "versions/7"),
        ("Beta", [(1, 100)], "invalid_argument", "alias"),
    ]:
        traffic = [{"version": version, "percent": percent} for version, percent in targets]
        with pytest.raises(ApiError) as refused:
            api.call("AliasService.SetAlias", alias={"name": f"{name}/{alias}", "traffic": traffic})
        assert refused.value.reason == reason and words in refused.value.message, refused.value
    with pytest.raises(ApiError) as refused:
        api.call("AliasService.DeleteAlias", name=f"{name}/live")
    assert refused.value.reason == "invalid_argument"
    assert shares(api, namespace) == {1: 100}


def test_a_version_without_traffic_is_seen_by_developers_alone(cluster, namespace, versions, dunlin, secrets_seen):
    versions(2)
    made = [dunlin("token", "create", *purpose).out.strip() for purpose in (["--role", "developer"], ["--role", "viewer"], ["--call"])]
    secrets_seen += made
    developer, viewer, call = ({"Authorization": f"Bearer {token}"} for token in made)
    host = {"Host": f"v2--till--{namespace}.fn.localhost"}
    for gateway in (0, 1):
        with cluster.http(gateway) as client:
            eventually(lambda: client.get(f"/{namespace}/till/").text == "v1")
            # Nobody waited for gateways to know of a version without traffic.
            eventually(lambda: client.get(f"/{namespace}/till@2/", headers=developer).text == "v2", what="the second version")
            assert client.get("/", headers=host | developer).text == "v2"
            for headers, status in [({}, 401), (call, 401), (viewer, 403)]:
                assert client.get(f"/{namespace}/till@2/", headers=headers).status_code == status, headers
                assert client.get("/", headers=host | headers).status_code == status, headers
            assert client.get(f"/{namespace}/till@9/", headers=developer).status_code == 404
            assert client.get(f"/{namespace}/till/").text == "v1", "a preview gives it no traffic"


def test_deploys_leave_traffic_or_take_a_part(cluster, api, namespace, tmp_path, dunlin, cli):
    def deploy(number, *options):
        file = tmp_path / "till.wasm"
        file.write_bytes(guests.answer(f"v{number}"))
        return cli("-n", namespace, "deploy", str(file), "--public", *options)

    assert deploy(1).code == 0
    held = deploy(2, "--no-traffic")
    assert held.code == 0 and "without traffic" in held.err and shares(api, namespace) == {1: 100}
    canary = deploy(3, "--canary", "10")
    assert canary.code == 0 and "10% of the traffic" in canary.err and shares(api, namespace) == {1: 90, 3: 10}
    refused = deploy(4, "--canary", "10")
    assert refused.code == 7 and "v1=90,v3=10" in refused.err and "dunlin promote" in refused.err, refused
    dunlin("promote", "till")
    assert shares(api, namespace) == {3: 100}
    dunlin("rollback", "till", "-y")
    assert shares(api, namespace) == {1: 100}
    dunlin("rollback", "till", "2", "-y")
    assert texts(cluster, f"/{namespace}/till/", [{}] * 3) == [["v2"] * 3] * 2


def test_what_a_deploy_says_of_its_function_counts_with_the_calls(cluster, api, namespace, dunlin):
    """A function stays public, or private, for those who get the old version."""
    path, shown = f"/{namespace}/till/", lambda: dunlin("describe", "till").out
    api.deploy(namespace, "till", guests.answer("v1"), public=True)
    api.deploy(namespace, "till", guests.answer("v2"), public=False, hold_traffic=True)
    dunlin("traffic", "set", "till", "v1=50,v2=50")
    for gateway in (0, 1):
        with cluster.http(gateway) as client:
            eventually(lambda: client.get(path).status_code == 200, what="the function")
            assert {client.get(path).status_code for _ in range(20)} == {200}
    assert "public = false, once version 2 has all calls" in shown()
    before = api.call("ReleaseService.ListReleases", parent=f"namespaces/{namespace}")["releases"][0]["name"].rpartition("/")[2]
    dunlin("promote", "till", "2")
    for gateway in (0, 1):
        with cluster.http(gateway) as client:
            assert client.get(path).status_code == 401
    assert "has all calls" not in shown()
    dunlin("release", "rollback", before, "-y")
    for gateway in (0, 1):
        with cluster.http(gateway) as client:
            assert {client.get(path).status_code for _ in range(20)} == {200}


def test_changes_drop_no_call_and_return_when_all_gateways_know(cluster, namespace, versions, dunlin):
    versions(2)
    with cluster.http() as client:
        eventually(lambda: client.get(f"/{namespace}/till/").text == "v1")
    dunlin("traffic", "set", "till", "v1=50,v2=50")
    stop, failures = threading.Event(), []

    def call(gateway):
        with cluster.http(gateway) as client:
            while not stop.is_set():
                answer = client.get(f"/{namespace}/till/")
                if answer.status_code != 200:
                    failures.append(answer.text)

    callers = [threading.Thread(target=call, args=(gateway,)) for gateway in (0, 1)]
    for caller in callers:
        caller.start()
    try:
        all_took = []
        for version in (2, 1, 2, 1):
            began = time.monotonic()
            answer = cluster.rest().post(f"/api/v1/namespaces/{namespace}/functions/till/rollback", json={"version": version})
            all_took.append(time.monotonic() - began)
            assert answer.status_code == 200 and answer.json()["lagging_gateways"] == [], answer.text
            assert texts(cluster, f"/{namespace}/till/", [{}] * 3) == [[f"v{version}"] * 3] * 2
        assert sorted(all_took)[1] < 1, f"rollbacks took {all_took} s"
    finally:
        stop.set()
        for caller in callers:
            caller.join(60)
    assert not failures, failures[:3]


def test_a_gateway_that_does_not_know_is_named(broken):
    cluster = broken()
    api = cluster.api()
    for number in (1, 2):
        api.deploy("default", "till", guests.answer(f"v{number}"), public=True)
    traffic = [{"version": 1, "percent": 100}]
    change = {"alias": {"name": "namespaces/default/functions/till/aliases/live", "traffic": traffic}}
    with cluster.frozen("gateway-2"):
        began = time.monotonic()
        answer = api.call("AliasService.SetAlias", **change)
        assert answer["lagging_gateways"] == ["gateway-2"] and time.monotonic() - began < 10
        with cluster.http() as client:
            assert client.get("/default/till/").text == "v1"
    with cluster.http(1) as client:
        eventually(lambda: client.get("/default/till/").text == "v1", seconds=10)
    eventually(lambda: not api.call("AliasService.SetAlias", **change).get("lagging_gateways"), seconds=20)
