"""Stored answers on a real cluster: used again without the function, of many callers at once one goes, each gateway for itself."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.api import ApiError
from harness.cluster import eventually

pytestmark = pytest.mark.usefixtures("processes_survive")
FRESH = "/say?cache-control=max-age%3D600"


@pytest.fixture
def dunlin(cli, namespace):
    """The command, at work in the test's namespace."""
    return lambda *arguments: cli.ok("-n", namespace, *arguments)


@pytest.fixture
def cached(cluster, api, namespace, probe, dunlin):
    """A function on a route that stores answers; its path."""
    api.deploy(namespace, "probe", probe)
    dunlin("route", "add", "all", "/{path*}", "--function", "probe", "--cache")
    assert dunlin("route", "list", "-o", "json").json[0]["cache"] is True
    for gateway in (0, 1):
        with cluster.http(gateway) as client:
            eventually(lambda: "cache-status" in client.get(f"/{namespace}/headers").headers, seconds=10, what=f"the route on gateway {gateway}")
    return f"/{namespace}"


def test_an_answer_is_used_again_on_the_gateway_that_has_it(cluster, cached):
    with cluster.http(0) as one, cluster.http(1) as other:
        first = one.get(cached + FRESH)
        assert first.headers["cache-status"] == "dunlin; fwd=uri-miss; stored; ttl=600"
        again = one.get(cached + FRESH)
        assert again.text == first.text and again.headers["cache-status"].startswith("dunlin; hit; ttl=")
        assert int(again.headers["age"]) < 600
        assert one.head(cached + FRESH).headers["content-length"] == str(len(first.text))
        assert other.get(cached + FRESH).text != first.text, "each gateway stores for itself"
        assert one.delete(cached + FRESH).status_code == 200
        assert one.get(cached + FRESH).text != first.text, "it has been changed"


def test_who_has_a_credential_shares_nothing_that_is_not_public(cluster, cached):
    with cluster.http() as client:
        for headers in ({"Authorization": "Bearer x"}, {"Cookie": "session=x"}):
            texts = {client.get(cached + FRESH + "&mine", headers=headers).text for _ in range(2)}
            assert len(texts) == 2
            public = cached + "/say?cache-control=public,max-age%3D600&" + next(iter(headers))
            assert len({client.get(public, headers=headers).text for _ in range(2)}) == 1


def test_of_many_callers_at_once_one_goes_to_the_function(cluster, cached):
    def get(_):
        with cluster.http() as client:
            return client.get(cached + FRESH + "&many")

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(get, range(64)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert sum("stored" in answer.headers["cache-status"] for answer in answers) == 1


def test_a_new_version_starts_with_nothing_stored(cluster, api, namespace, probe, cached):
    with cluster.http() as client:
        before = client.get(cached + FRESH).text
        assert client.get(cached + FRESH).text == before
        api.deploy(namespace, "probe", probe)
        eventually(lambda: client.get(cached + FRESH).text != before, seconds=10, what="an answer of the new version")


def test_a_purge_reaches_both_gateways_before_it_returns(cluster, api, dunlin, namespace, cached):
    paths = [cached + FRESH, cached + FRESH + "&x"]
    with cluster.http(0) as one, cluster.http(1) as other:
        def texts():
            return [client.get(path).text for client in (one, other) for path in paths]

        for arguments in (("--path", "/say"), ("--prefix", "/s"), ("--route", "all"), ("--all",)):
            before = texts()
            assert texts() == before
            dunlin("cache", "purge", "--path", "/other")
            assert texts() == before
            assert dunlin("cache", "purge", *arguments, "-o", "json").json == {"lagging_gateways": []}
            assert not set(texts()) & set(before), arguments
    with pytest.raises(ApiError) as refused:
        api.call("RouteService.PurgeCache", parent=f"namespaces/{namespace}", route="none")
    assert refused.value.reason == "not_found"


def test_stored_answers_count_against_the_quota_of_their_caller(cluster, api, dunlin, namespace, probe):
    api.deploy(namespace, "shut", probe, public=False)
    dunlin("route", "add", "shut", "/{path*}", "--function", "shut", "--cache")
    dunlin("plan", "set", "few", "--quota", "20/day")
    headers = {"X-Api-Key": dunlin("key", "create", "till", "--plan", "few", "-o", "json").json["secret"]}
    path = f"/{namespace}/say?cache-control=public,max-age%3D600"
    with cluster.http() as client:
        eventually(lambda: client.get(path, headers=headers).headers.get("cache-status", "").startswith("dunlin; hit"), seconds=15, what="a hit")
        # While the scheduler does not answer, calls are admitted and counted later.
        refused = eventually(lambda: (answer := client.get(path, headers=headers)).status_code == 429 and answer, what="the end of the quota")
        assert refused.json()["error"]["limit"]["kind"] == "quota", refused.text
        assert client.get(path).status_code == 401, "who is not let in gets nothing that is stored"
