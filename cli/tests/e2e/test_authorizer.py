"""Routes whose callers a function lets in: what it is asked, what its verdicts do, how long they count, and what a failure lets in."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.api import ApiError
from harness.cluster import eventually

pytestmark = pytest.mark.usefixtures("processes_survive")


@pytest.fixture
def dunlin(cli, namespace):
    """The command, at work in the test's namespace."""
    return lambda *arguments: cli.ok("-n", namespace, *arguments)


@pytest.fixture
def site(api, namespace, probe, dunlin, caller):
    """A function behind an authorizer."""
    api.deploy(namespace, "probe", probe)
    api.deploy(namespace, "verify", probe, public=False)
    dunlin("route", "add", "own", "/own/{what}", "--function", "probe", "--rewrite", "/{what}", "--auth", "function:verify", "--auth-credential", "header:X-Token")

    class Site:
        path = f"/{namespace}/own/headers"

        def __call__(self, token=None, path="headers", **more):
            headers = more.pop("headers", {}) | ({"X-Token": token} if token is not None else {})
            return caller.get(f"/{namespace}/own/{path}", headers=headers, **more)

        def principal(self, token):
            answer = self(token)
            assert answer.status_code == 200, answer.text
            return next(line for line in answer.text.splitlines() if line.startswith("dunlin-principal: "))

    site = Site()
    eventually(lambda: site("nobody").status_code == 403, seconds=30, what="the authorizer")
    eventually(lambda: caller.get(f"/{namespace}/own/none").status_code == 401, seconds=5, what="the route")
    return site


def test_who_is_let_in_is_known_to_the_function_and_its_credential_is_not(site, namespace):
    answer = site("zoe", headers={"dunlin-principal": "root", "dunlin-claims": "{}", "X-Other": "kept", "dunlin-authorizer-route": "own"}, params={"a": "b"})
    assert answer.status_code == 200, answer.text
    headers = dict(line.split(": ", 1) for line in answer.text.splitlines())
    assert headers["dunlin-principal"].startswith("zoe ") and headers["x-other"] == "kept" and "x-token" not in headers
    assert "dunlin-authorizer-route" not in headers
    question = json.loads(headers["dunlin-claims"])["question"]
    assert (question["credential"], question["route"], question["method"], question["query"]) == ("zoe", "own", "GET", "a=b")
    assert question["path"] == f"/{namespace}/own/headers" and question["source_ip"] == "127.0.0.1" and question["scheme"] == "http"
    assert question["headers"]["x-token"] == "zoe" and question["headers"]["x-other"] == "kept"
    assert not any(name.startswith("dunlin-") for name in question["headers"])
    assert question["request_id"] == answer.headers["dunlin-request-id"]


def test_who_is_not_let_in_gets_the_platforms_word(site, api, namespace):
    for token, status, code in [
        (None, 401, "unauthenticated"),
        ("", 401, "unauthenticated"),
        ("unknown", 401, "unauthenticated"),
        ("nobody", 403, "permission_denied"),
        ("refused", 403, "permission_denied"),
        ("nonsense", 502, "function_failed"),
        ("broken", 502, "function_failed"),
        ("huge", 502, "function_failed"),
        ("abort", 502, "function_failed"),
    ]:
        answer = site(token)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), (token, answer.text)
        assert "guest" not in answer.text
    called = len(api.call("InvocationService.ListInvocations", parent=f"namespaces/{namespace}/functions/probe").get("invocations", []))
    assert called == 0, "nobody got to the function"


def test_a_verdict_counts_for_its_credential_until_the_authorizer_or_the_route_changes(site, api, namespace, probe, dunlin):
    first = site.principal("long")
    assert site.principal("long") == first
    assert site.principal("once") != site.principal("once")
    assert site.principal("zoe") != first
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: site.principal("long"), range(40)))) == 1
    api.deploy(namespace, "verify", probe, public=False)
    eventually(lambda: site.principal("long") != first, seconds=10, what="the new version of the authorizer")
    second = site.principal("long")
    again = ["route", "add", "own", "/own/{what}", "--function", "probe", "--rewrite", "/{what}", "--auth", "function:verify", "--auth-credential", "header:X-Token", "--replace"]
    dunlin(*again, "--auth-ttl", "2s")
    eventually(lambda: site.principal("long") != second, seconds=5, what="the changed route")
    third = site.principal("long")
    eventually(lambda: site.principal("long") != third, seconds=10, what="the end of the verdict")
    dunlin(*again, "--auth-ttl", "0s")
    eventually(lambda: site.principal("long") != site.principal("long"), seconds=5, what="each request being asked about")


def test_a_disabled_authorizer_lets_nobody_in_and_one_in_use_stays(site, api, namespace, dunlin):
    site.principal("long")
    with pytest.raises(ApiError) as used:
        api.call("FunctionService.DeleteFunction", name=f"namespaces/{namespace}/functions/verify")
    assert used.value.reason == "failed_precondition" and "named by the routes own" in used.value.message
    dunlin("function", "disable", "verify")
    eventually(lambda: site("long").status_code == 503, seconds=5, what="nobody being let in")
    assert "authorizer of the route own failed" in site("long").json()["error"]["message"]
    dunlin("function", "enable", "verify")
    eventually(lambda: site("long").status_code == 200, seconds=5, what="callers being let in again")
    with pytest.raises(ApiError) as missing:
        api.call(
            "RouteService.PutRoute",
            route={
                "name": f"namespaces/{namespace}/routes/other",
                "path": "/other",
                "function": {"function": "probe"},
                "auth": "ROUTE_AUTH_AUTHORIZER",
                "authorizer": {"function": "missing"},
            },
        )
    assert missing.value.reason == "not_found" and "missing" in missing.value.message


def test_a_credential_in_a_cookie_or_query_goes_no_further(site, namespace, dunlin, caller):
    for name, place in (("by-cookie", "cookie:session"), ("by-query", "query:token")):
        dunlin("route", "add", name, f"/{name}/{{what}}", "--function", "probe", "--rewrite", "/{what}", "--auth", "function:verify", "--auth-credential", place)
    path = f"/{namespace}/by-cookie/headers"
    eventually(lambda: caller.get(path, headers={"Cookie": "session=zoe"}).status_code == 200, seconds=5, what="the route with a cookie")
    answer = caller.get(path, headers={"Cookie": "a=b; session=zoe; c=d"})
    cookies = [line for line in answer.text.splitlines() if line.startswith("cookie: ")]
    assert cookies == ["cookie: a=b; c=d"], answer.text
    assert caller.get(path, headers={"Cookie": "session=zoe; session=nobody"}).status_code == 401
    said = f"/{namespace}/by-query/say"
    eventually(lambda: caller.get(said, params={"token": "zoe"}).status_code == 200, seconds=5, what="the route with a query")
    assert caller.get(said).status_code == 401 and caller.get(said + "?token=zoe&token=nobody").status_code == 401


def test_what_is_stored_is_for_those_who_are_let_in(site, namespace, dunlin, caller):
    dunlin("route", "add", "stored", "/stored/{what}", "--function", "probe", "--rewrite", "/{what}", "--auth", "function:verify", "--auth-credential", "header:X-Token", "--cache")
    path = f"/{namespace}/stored/say"

    def said(token, control):
        return caller.get(path, params={"cache-control": control}, headers={"X-Token": token})

    eventually(lambda: said("zoe", "no-store").status_code == 200, seconds=5, what="the route")
    assert said("zoe", "max-age=60").text != said("zoe", "max-age=60").text, "answers to who has a credential are private unless they say otherwise"
    assert said("zoe", "public, max-age=60").text == said("long", "public, max-age=60").text
    assert said("nobody", "public, max-age=60").status_code == 403
