"""Releases on a real cluster: every change is one, and going back is one step on both gateways with nothing built."""

import json
import time

import pytest

from harness import guests
from harness.api import ApiError

pytestmark = pytest.mark.usefixtures("processes_survive")


@pytest.fixture
def dunlin(cli, namespace):
    """The command, at work in the test's namespace."""
    return lambda *arguments: cli.ok("-n", namespace, *arguments)


@pytest.fixture
def releases(dunlin):
    """What was done, the newest last."""
    return lambda: [release["cause"] for release in reversed(json.loads(dunlin("release", "list", "-o", "json").out))]


def get(cluster, path):
    """Status and text of what each gateway answers."""
    answers = []
    for gateway in (0, 1):
        with cluster.http(gateway) as client:
            answer = client.get(path)
            answers.append((answer.status_code, answer.text if answer.status_code == 200 else ""))
    return answers


def test_a_release_comes_back_whole_at_once_and_nothing_is_built(cluster, api, namespace, dunlin, releases):
    main, other = f"/{namespace}/main", f"/{namespace}/other"
    for number in (1, 2):
        api.deploy(namespace, "till", guests.answer(f"v{number}"), hold_traffic=number > 1)
    dunlin("route", "add", "main", "/main", "--function", "till", "--auth", "public")
    dunlin("alias", "set", "till", "beta", "v2")
    dunlin("route", "add", "other", "/other", "--function", "till:beta", "--auth", "public")
    old = len(releases())
    assert releases() == ["deploy till@1", "put route main", "divide till:beta: v2=100", "put route other"]
    dunlin("promote", "till")
    dunlin("route", "remove", "other", "-y")
    dunlin("alias", "delete", "till", "beta", "-y")
    dunlin("route", "add", "main", "/changed", "--function", "till", "--auth", "public", "--replace")
    new = len(releases())
    assert new == old + 4

    diff = json.loads(dunlin("release", "diff", str(new), "--from", str(old), "-o", "json").out)["differences"]
    lines = {(line["subject"], line["field"], line["before"], line["after"]) for line in diff}
    assert {
        ("functions/till", "traffic", "v1=100", "v2=100"),
        ("functions/till/aliases/beta", "traffic", "v2=100", ""),
        ("routes/other", "path", "/other", ""),
        ("routes/main", "path", "/main", "/changed"),
    } <= lines, lines
    assert any(line["subject"] == "functions/till/versions/2" and line["field"] == "artifact" for line in diff), diff

    versions = api.call("FunctionService.ListVersions", parent=f"namespaces/{namespace}/functions/till")["versions"]
    took = []
    for number in (old, new, old, new, old):
        began = time.monotonic()
        back = api.call("ReleaseService.RollbackRelease", name=f"namespaces/{namespace}/releases/{number}")
        took.append(time.monotonic() - began)
        assert not back.get("lagging_gateways"), back
        # The call has returned: both gateways know, without a wait.
        if number == old:
            assert [get(cluster, path) for path in (main, other)] == [[(200, "v1")] * 2, [(200, "v2")] * 2]
        else:
            assert [status for status, _ in get(cluster, main) + get(cluster, other)] == [404] * 4
            assert get(cluster, f"/{namespace}/changed") == [(200, "v2")] * 2
    assert min(took) < 1, f"going back took {took} s"
    again = api.call("FunctionService.ListVersions", parent=f"namespaces/{namespace}/functions/till")["versions"]
    assert again == versions, "no version was made"
    assert len(releases()) == new + 5 and releases()[-1] == f"roll back to release {old}"
    # What callers get already is no release.
    assert f"release {new + 5}" in dunlin("release", "rollback", str(old), "-y").err
    assert len(releases()) == new + 5


def test_what_is_gone_does_not_come_back_and_all_stays(cluster, api, namespace, dunlin, cli, releases):
    api.deploy(namespace, "till", guests.answer("v1"))
    api.deploy(namespace, "stock", guests.answer("stock"))
    dunlin("route", "add", "stock", "/stock", "--function", "stock", "--auth", "public")
    old = len(releases())
    dunlin("route", "remove", "stock", "-y")
    dunlin("delete", "stock", "-y")
    api.deploy(namespace, "till", guests.answer("v2"))
    new = len(releases())
    refused = cli("-n", namespace, "release", "rollback", str(old), "-y")
    assert refused.code == 7 and "the function stock has been deleted since" in refused.err, refused
    for number in (new + 1, 4_000_000_000):
        missing = cli("-n", namespace, "release", "rollback", str(number), "-y")
        assert missing.code == 3, missing
    assert len(releases()) == new
    with pytest.raises(ApiError) as wrong:
        api.call("ReleaseService.RollbackRelease", name=f"namespaces/{namespace}/releases/0")
    assert wrong.value.reason == "invalid_argument"
    shown = json.loads(dunlin("release", "show", str(new), "-o", "json").out)
    assert [function["name"] for function in shown["functions"]] == ["till"] and shown["routes"] == []
    assert shown["creator"], "it is said who did it"


def test_readers_look_and_developers_go_back(cluster, api, namespace, cli, releases):
    api.deploy(namespace, "till", guests.answer("v1"))
    count = len(releases())
    rest = cluster.rest()
    listed = rest.get(f"/api/v1/namespaces/{namespace}/releases?page_size=1").json()
    assert [release["number"] for release in listed["releases"]] == [count]
    diff = rest.get(f"/api/v1/namespaces/{namespace}/releases/1/diff").json()
    assert diff["from"] == 0 and any(line["field"] == "traffic" for line in diff["differences"])
    back = rest.post(f"/api/v1/namespaces/{namespace}/releases/{count}/rollback", json={})
    assert back.status_code == 200 and back.json()["release"]["number"] == count, back.text


def test_a_dry_run_shows_what_a_deploy_would_change(cluster, api, namespace, dunlin, releases, tmp_path):
    api.deploy(namespace, "till", guests.answer("v1"))
    file = tmp_path / "till.wasm"
    file.write_bytes(guests.answer("v2"))
    count = len(releases())
    shown = json.loads(dunlin("deploy", str(file), "--dry-run", "--private", "-e", "MODE=fast", "-o", "json").out)
    lines = {(line["subject"], line["field"], line["before"], line["after"]) for line in shown["differences"]}
    assert {
        ("functions/till", "traffic", "v1=100", "v2=100"),
        ("functions/till", "public", "true", "false"),
        ("functions/till/versions/2", "environment.MODE", "", "a value"),
    } <= lines and shown["version"] == 2, shown
    assert len(releases()) == count
    assert get(cluster, f"/{namespace}/till/") == [(200, "v1")] * 2
    versions = api.call("FunctionService.ListVersions", parent=f"namespaces/{namespace}/functions/till")["versions"]
    assert [version["number"] for version in versions] == [1]
