"""Routes on a real cluster: a function behind a path of its own, on both gateways, changed under load, on domains of a namespace."""

import base64
import threading
import time
import uuid

import grpc
import pytest

from harness import guests
from harness.api import ApiError
from harness.cluster import eventually

pytestmark = pytest.mark.usefixtures("processes_survive")


@pytest.fixture
def dunlin(cli, namespace):
    """The command, at work in the test's namespace."""
    return lambda *arguments: cli.ok("-n", namespace, *arguments)


def everywhere(cluster, path, check, host=None):
    """Waits until both gateways answer as `check` wants; a change must have reached them within a second."""
    headers = {"Host": host} if host else {}
    for gateway in (0, 1):
        with cluster.http(gateway) as client:
            eventually(lambda: check(client.get(path, headers=headers)), what=f"{path} on gateway {gateway}")


def put(api, namespace, name, path, replace=False, **route):
    return api.call("RouteService.PutRoute", route={"name": f"namespaces/{namespace}/routes/{name}", "path": path, **route}, replace=replace)["route"]


def test_a_function_is_served_on_its_routes_alone(cluster, api, namespace, probe, dunlin, call_when_ready):
    api.deploy(namespace, "probe", probe)
    assert call_when_ready(f"/{namespace}/probe/headers").status_code == 200
    said = dunlin("route", "add", "users", "/users/:id", "--function", "probe", "--rewrite", "/headers", "-m", "GET")
    assert "GET /users/{id} -> function probe as /headers" in said.err
    everywhere(cluster, f"/{namespace}/users/7", lambda answer: "dunlin-path-id: 7\n" in answer.text)
    everywhere(cluster, f"/{namespace}/probe/headers", lambda answer: answer.status_code == 404 and "routes alone" in answer.text)
    with cluster.http() as client:
        answer = client.post(f"/{namespace}/users/7")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
        assert client.head(f"/{namespace}/users/7/").status_code == 200
    listed = dunlin("route", "list", "-o", "json").json
    assert [(route["name"], route["target"]["function"]) for route in listed] == [("users", "probe")]
    urls = api.call("FunctionService.GetFunction", name=f"namespaces/{namespace}/functions/probe")["function"]["urls"]
    assert urls and all(url.endswith(f"/{namespace}/users/{{id}}") for url in urls)
    dunlin("route", "remove", "users", "-y")
    everywhere(cluster, f"/{namespace}/probe/headers", lambda answer: answer.status_code == 200)
    everywhere(cluster, f"/{namespace}/users/7", lambda answer: answer.status_code == 404)


def test_a_route_that_can_not_be_is_refused_with_the_reason_and_nothing_changes(cluster, api, namespace, cli):
    put(api, namespace, "one", "/users/{id}", response={"body": "b25l"})
    for route, reason, words in [
        ({"name": "two", "path": "/users/:name"}, "already_exists", ("route two (/users/{name})", "route one (/users/{id})")),
        ({"name": "one", "path": "/other"}, "already_exists", ("route one exists already",)),
        ({"name": "two", "path": "users"}, "invalid_argument", ("must begin with a slash",)),
        ({"name": "two", "path": "/x", "host": "api.example.com"}, "failed_precondition", ("is on no domain of namespace",)),
        ({"name": "two", "path": "/x", "function": {"function": "missing"}}, "not_found", ("functions/missing was not found",)),
    ]:
        target = {} if "function" in route else {"response": {}}
        with pytest.raises(ApiError) as refused:
            put(api, namespace, **route, **target)
        assert refused.value.reason == reason and all(word in refused.value.message for word in words), refused.value
    ran = cli("-n", namespace, "route", "add", "two", "/users/{x}", "--respond", "two")
    assert ran.code == 7 and "route one (/users/{id})" in ran.err and "hint" in ran.err.lower(), ran
    names = [route["name"].rsplit("/", 1)[1] for route in api.call("RouteService.ListRoutes", parent=f"namespaces/{namespace}")["routes"]]
    assert names == ["one"]
    with pytest.raises(ApiError) as used:
        api.deploy(namespace, "fn", guests.answer("x"))
        put(api, namespace, "fn", "/fn", function={"function": "fn"})
        api.call("FunctionService.DeleteFunction", name=f"namespaces/{namespace}/functions/fn")
    assert used.value.reason == "failed_precondition" and "named by the routes fn" in used.value.message


def test_changes_of_routes_reach_every_gateway_within_a_second_and_drop_no_request(cluster, api, namespace):
    put(api, namespace, "page", "/page", response={"body": "MA=="})
    everywhere(cluster, f"/{namespace}/page", lambda answer: answer.text == "0")
    stop, failures, seen = threading.Event(), [], set()

    def call(gateway):
        with cluster.http(gateway) as client:
            while not stop.is_set():
                answer = client.get(f"/{namespace}/page")
                seen.add(answer.text)
                if answer.status_code != 200:
                    failures.append(answer.text)

    callers = [threading.Thread(target=call, args=(gateway,)) for gateway in (0, 1)]
    for caller in callers:
        caller.start()
    try:
        took = []
        for number in range(1, 6):
            body = base64.b64encode(str(number).encode()).decode()
            put(api, namespace, "page", "/page", replace=True, response={"body": body})
            began = time.monotonic()
            everywhere(cluster, f"/{namespace}/page", lambda answer: answer.text == str(number))
            took.append(time.monotonic() - began)
            eventually(lambda: str(number) in seen, what=f"answer {number} at a caller")
        # The middle one, since a stall of the machine is none of the platform.
        assert sorted(took)[2] < 1, f"a change takes a second at the most: {took}"
    finally:
        stop.set()
        for caller in callers:
            caller.join(60)
    assert not failures, failures[:3]


def test_a_route_is_served_at_every_gateway_once_its_change_returns(cluster, namespace):
    target = {"kind": "response", "status": 200, "body": "here"}
    with cluster.rest() as admin, cluster.http(0) as first, cluster.http(1) as second:
        for number in range(20):
            here = f"/api/v1/namespaces/{namespace}/routes/r{number}"
            admin.put(here, json={"path": f"/r{number}", "target": target}).raise_for_status()
            assert [gateway.get(f"/{namespace}/r{number}").status_code for gateway in (first, second)] == [200, 200]
            admin.delete(here).raise_for_status()
            assert [gateway.get(f"/{namespace}/r{number}").status_code for gateway in (first, second)] == [404, 404]


def test_a_domain_belongs_to_the_namespace_that_asks_first(cluster, api, namespace, dunlin, cli):
    domain = f"{uuid.uuid4().hex[:12]}.example"
    dunlin("domain", "add", domain, "--vouch")
    dunlin("route", "add", "root", "/", "--respond", "the shop", "--cors-origin", "*")
    dunlin("route", "add", "api", "/v/{path+}", "--redirect", "https://api.example.com/{path}", "--host", f"*.{domain}")
    everywhere(cluster, "/", lambda answer: answer.text == "the shop", host=domain)
    everywhere(cluster, "/v/1/2?x", lambda answer: answer.headers.get("location") == "https://api.example.com/1/2?x", host=f"www.{domain}")
    with cluster.http() as client:
        assert client.get("/v/1", headers={"Host": domain}).status_code == 404
        assert client.get("/", headers={"Host": domain}).headers["access-control-allow-origin"] == "*"
    other = "t-" + uuid.uuid4().hex[:8]
    api.call("NamespaceService.CreateNamespace", namespace_id=other)
    for wanted in (domain, f"www.{domain}"):
        ran = cli("-n", other, "domain", "add", wanted, "--vouch")
        assert ran.code == 7 and "belongs to another namespace" in ran.err and namespace not in ran.err, ran
    for wanted in ("fn.localhost", "probe--shop.fn.localhost"):
        ran = cli("-n", other, "domain", "add", wanted, "--vouch")
        assert ran.code == 7 and "all namespaces share" in ran.err, ran
    ran = cli("-n", namespace, "domain", "remove", domain, "-y")
    assert ran.code == 7 and "named by the routes api" in ran.err, ran
    dunlin("route", "remove", "api", "-y")
    dunlin("domain", "remove", domain, "-y")
    everywhere(cluster, "/", lambda answer: answer.status_code in (404, 421), host=domain)
    cli.ok("-n", other, "domain", "add", domain, "--vouch")


def test_only_an_operator_gives_domains_where_any_host_leads_to_every_namespace(cluster, api, namespace):
    token = api.call("TokenService.CreateToken", subject="zoe", purpose="TOKEN_PURPOSE_ADMINISTRATION",
                     grants=[{"namespace": namespace, "role": "ROLE_ADMIN"}])["token"]
    with pytest.raises(ApiError) as refused:
        cluster.api(token).call("DomainService.CreateDomain", parent=f"namespaces/{namespace}", domain="zoe.example")
    assert refused.value.code == grpc.StatusCode.PERMISSION_DENIED and "--shared-host" in refused.value.hint


def test_a_disabled_function_answers_503_on_every_gateway_until_it_is_enabled(cluster, api, namespace, dunlin, call_when_ready):
    api.deploy(namespace, "fn", guests.answer("alive"))
    assert call_when_ready(f"/{namespace}/fn/").text == "alive"
    began = time.monotonic()
    dunlin("function", "disable", "fn")
    for gateway in (0, 1):
        with cluster.http(gateway) as client:
            answer = eventually(lambda: (got := client.get(f"/{namespace}/fn/")).status_code == 503 and got, what="503")
            assert answer.json()["error"]["code"] == "unavailable" and "is disabled" in answer.text
    assert time.monotonic() - began < 10
    with pytest.raises(ApiError) as refused:
        api.call("InvocationService.Invoke", name=f"namespaces/{namespace}/functions/fn", method="GET", path="/")
    assert "is disabled" in refused.value.message
    dunlin("function", "enable", "fn")
    everywhere(cluster, f"/{namespace}/fn/", lambda answer: answer.text == "alive")


def test_a_route_compresses_what_callers_accept_and_streams_go_on_streaming(cluster, api, namespace, probe, dunlin, call_when_ready):
    api.deploy(namespace, "probe", probe)
    call_when_ready(f"/{namespace}/probe/headers")
    dunlin("route", "add", "all", "/{path*}", "--function", "probe", "--compress", "--add-request-header", f"x-long: {'a' * 1000}")
    everywhere(cluster, f"/{namespace}/headers", lambda answer: answer.headers.get("content-encoding") in ("gzip", "br"))
    assert dunlin("route", "list", "-o", "json").json[0]["compress"] is True
    with cluster.http() as client:
        for accepted in ("gzip", "br", "identity"):
            answer = client.get(f"/{namespace}/headers", headers={"Accept-Encoding": accepted})
            assert answer.headers.get("content-encoding", "identity") == accepted and answer.headers["vary"] == "accept-encoding"
            # The client knows no Brotli: it leaves that as it came.
            whole = len(answer.content) < 1000 if accepted == "br" else f"x-long: {'a' * 1000}" in answer.text
            assert whole and answer.headers["server-timing"]
        with client.stream("GET", f"/{namespace}/trickle?n=30&ms=100", headers={"Accept-Encoding": "gzip"}) as answer:
            assert answer.headers["content-encoding"] == "gzip"
            arrived = [time.monotonic() for piece in answer.iter_bytes() if piece]
        # Three seconds, so that it is seen also where a process stands still for a part of them.
        assert len(arrived) > 3 and arrived[-1] - arrived[0] > 0.5, "what the function has sent is not kept back"
