"""The public API as a stranger finds it: by reflection and health checks, then used by its documented habits."""

import hashlib
import threading
import uuid

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from harness import guests
from harness.api import ApiError
from harness.cluster import eventually

SERVICES = ["AliasService", "ClusterService", "DomainService", "FunctionService", "InvocationService", "KeyService", "LogService",
            "NamespaceService", "PlanService", "ReleaseService", "RouteService", "TokenService"]


def test_reflection_lists_the_public_services_and_nothing_internal(api):
    services = api.services()
    assert set(services) >= {f"dunlin.v1.{name}" for name in SERVICES} | {"grpc.health.v1.Health"}
    assert not [name for name in services if "internal" in name]
    with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
        api.reflection.FindFileByName("dunlin/internal/v1/session.proto")
    method = api.pool.FindServiceByName("dunlin.v1.FunctionService").methods_by_name["UploadArtifact"]
    assert method.client_streaming and not method.server_streaming


def test_health_is_serving_on_every_gateway_and_can_be_watched(cluster):
    for gateway in (0, 1):
        stub = health_pb2_grpc.HealthStub(cluster.api(gateway=gateway).channel)
        serving = health_pb2.HealthCheckResponse.SERVING
        assert stub.Check(health_pb2.HealthCheckRequest(service=""), timeout=5).status == serving
        assert stub.Check(health_pb2.HealthCheckRequest(service="dunlin.v1.FunctionService"), timeout=5).status == serving
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=""), timeout=5)
        assert next(watch).status == serving
        watch.cancel()
        with pytest.raises(grpc.RpcError) as unknown:
            stub.Check(health_pb2.HealthCheckRequest(service="no.such.Service"), timeout=5)
        assert unknown.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_deploy_shows_its_progress_and_ends_with_the_version(api, namespace, call_when_ready):
    # Code that nobody has compiled yet: a known artifact skips stages.
    version = api.deploy(namespace, "greeter", guests.answer(namespace), note="first", spec={"environment": {"A": "b"}})
    stages = [progress["stage"] for progress in version["progress"]]
    order = ["DEPLOY_STAGE_QUEUED", "DEPLOY_STAGE_COMPILING", "DEPLOY_STAGE_STORING", "DEPLOY_STAGE_PLACING", "DEPLOY_STAGE_ACTIVATING"]
    assert "DEPLOY_STAGE_COMPILING" in stages and stages == sorted(stages, key=order.index)
    assert all(progress["message"] for progress in version["progress"])
    assert version["name"] == f"namespaces/{namespace}/functions/greeter/versions/1"
    assert version["number"] == 1 and version["kind"] == "FUNCTION_KIND_COMMAND"
    assert version["note"] == "first" and version["spec"]["environment"] == {"A": "b"}
    assert int(version["compiled_size_bytes"]) > 0 and version["creator"]
    function = api.call("FunctionService.GetFunction", name=f"namespaces/{namespace}/functions/greeter")["function"]
    assert function["traffic"] == [{"version": 1, "percent": 100}] and function["latest_version"] == 1 and function["urls"]
    assert uuid.UUID(function["uid"]).version == 7
    assert call_when_ready(f"/{namespace}/greeter/").text == namespace


def test_a_version_has_the_documented_defaults(api, namespace):
    api.deploy(namespace, "plain", guests.answer("x"))
    spec = api.call("FunctionService.GetVersion", name=f"namespaces/{namespace}/functions/plain/versions/1")["version"]["spec"]
    limits = spec["limits"]
    assert int(limits["memory_bytes"]) == 128 << 20 and limits["timeout"] == "30s" and limits["cpu_time"] == "10s"
    assert int(limits["request_body_bytes"]) == int(limits["response_body_bytes"]) == 6 << 20 and int(limits["log_bytes"]) == 64 << 10


def test_a_repeated_request_id_makes_nothing_new(api, namespace):
    request_id = str(uuid.uuid4())
    wasm = guests.answer("once")
    first = api.deploy(namespace, "once", wasm, request_id=request_id)
    again = api.deploy(namespace, "once", wasm, request_id=request_id)
    assert (first["number"], first["name"]) == (again["number"], again["name"])
    assert len(api.call("FunctionService.ListVersions", parent=f"namespaces/{namespace}/functions/once")["versions"]) == 1
    assert api.deploy(namespace, "once", wasm)["number"] == 2


def test_six_deploys_at_once_get_six_numbers(api, namespace):
    wasm, numbers = guests.answer("many"), []
    threads = [threading.Thread(target=lambda: numbers.append(api.deploy(namespace, "many", wasm)["number"])) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 7))


def test_an_artifact_is_uploaded_once_and_not_shared_between_namespaces(api, namespace):
    wasm = guests.answer(f"only {namespace}")
    assert not api.upload(namespace, wasm)["already_present"]
    assert api.upload(namespace, wasm)["already_present"]
    digest = "sha256:" + hashlib.sha256(wasm).hexdigest()
    start = {"start": {"parent": f"namespaces/{namespace}", "digest": digest, "size_bytes": len(wasm)}}
    assert api.upload_parts([start])["already_present"], "the first message alone is enough"
    # Knowing a digest gives nothing: another tenant has to have the bytes.
    other = "t-" + uuid.uuid4().hex[:8]
    api.call("NamespaceService.CreateNamespace", namespace_id=other)
    with pytest.raises(ApiError) as refused:
        list(api.stream("FunctionService.CreateVersion", parent=f"namespaces/{other}/functions/thief", artifact_digest=digest, request_id=str(uuid.uuid4())))
    assert refused.value.code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT)


@pytest.mark.parametrize("what", ["wrong digest", "too short", "too long", "big chunk", "no start", "start twice", "nothing"])
def test_an_upload_must_be_what_it_announces(api, namespace, what):
    wasm = guests.answer(what)
    digest = "sha256:" + hashlib.sha256(wasm).hexdigest()
    start = {"start": {"parent": f"namespaces/{namespace}", "digest": digest, "size_bytes": len(wasm)}}
    parts = {
        "wrong digest": [start, bytes(len(wasm))],
        "too short": [start, wasm[:-1]],
        "too long": [start, wasm + b"x"],
        "big chunk": [{"start": start["start"] | {"size_bytes": 300 << 10}}, bytes(300 << 10)],
        "no start": [wasm],
        "start twice": [start, start],
        "nothing": [],
    }[what]
    with pytest.raises(ApiError) as refused:
        api.upload_parts(parts)
    assert refused.value.code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE), refused.value
    assert refused.value.message


def test_pages_follow_each_other_without_gaps(api, namespace):
    wasm = guests.answer("page")
    for name in ("a", "b", "c", "d", "e"):
        api.deploy(namespace, name, wasm)
    seen, token = [], ""
    while True:
        page = api.call("FunctionService.ListFunctions", parent=f"namespaces/{namespace}", page_size=2, page_token=token)
        assert len(page["functions"]) <= 2
        seen += [function["name"].rpartition("/")[2] for function in page["functions"]]
        token = page["next_page_token"]
        if not token:
            break
    assert seen == ["a", "b", "c", "d", "e"]
    for bad in ({"page_token": "nonsense"}, {"page_size": -1}):
        with pytest.raises(ApiError) as refused:
            api.call("FunctionService.ListFunctions", parent=f"namespaces/{namespace}", **bad)
        assert refused.value.code == grpc.StatusCode.INVALID_ARGUMENT and refused.value.field == next(iter(bad))


def test_an_update_changes_what_its_mask_names_and_guards_by_etag(api, namespace):
    api.deploy(namespace, "fn", guests.answer("x"), description="before")
    name = f"namespaces/{namespace}/functions/fn"
    etag = api.call("FunctionService.GetFunction", name=name)["function"]["etag"]
    update = {"name": name, "description": "after", "public": False, "etag": etag}
    changed = api.call("FunctionService.UpdateFunction", function=update, update_mask="description")["function"]
    assert changed["description"] == "after" and changed["public"] is True and changed["etag"] != etag
    with pytest.raises(ApiError) as stale:
        api.call("FunctionService.UpdateFunction", function=update, update_mask="description")
    assert stale.value.reason == "failed_precondition"
    with pytest.raises(ApiError) as unknown:
        api.call("FunctionService.UpdateFunction", function={"name": name}, update_mask="uid")
    assert unknown.value.code == grpc.StatusCode.INVALID_ARGUMENT


def test_traffic_divides_and_rolls_back(api, namespace, call_when_ready, caller):
    name = f"namespaces/{namespace}/functions/split"
    api.deploy(namespace, "split", guests.answer("one"))
    api.deploy(namespace, "split", guests.answer("two"), hold_traffic=True)
    assert call_when_ready(f"/{namespace}/split/").text == "one", "a held version gets no traffic"
    half = {"name": name, "traffic": [{"version": 1, "percent": 50}, {"version": 2, "percent": 50}]}
    api.call("FunctionService.UpdateFunction", function=half, update_mask="traffic")
    eventually(lambda: {caller.get(f"/{namespace}/split/").text for _ in range(30)} == {"one", "two"}, what="both versions answering")
    rolled = api.call("FunctionService.RollbackFunction", name=name, version=1, reason="two is bad", request_id=str(uuid.uuid4()))
    assert rolled["version"] == 1 and rolled["function"]["traffic"] == [{"version": 1, "percent": 100}]
    eventually(lambda: {caller.get(f"/{namespace}/split/").text for _ in range(10)} == {"one"}, what="the rollback")
    for bad in ([{"version": 1, "percent": 99}], [{"version": 9, "percent": 100}], [{"version": 1, "percent": 50}] * 2, []):
        with pytest.raises(ApiError):
            api.call("FunctionService.UpdateFunction", function={"name": name, "traffic": bad}, update_mask="traffic")


def test_errors_carry_details_that_any_client_can_read(api, namespace):
    with pytest.raises(ApiError) as missing:
        api.call("FunctionService.GetFunction", name=f"namespaces/{namespace}/functions/nothing")
    assert (missing.value.code, missing.value.reason, missing.value.domain) == (grpc.StatusCode.NOT_FOUND, "not_found", "dunlin.v1")
    assert "nothing" in missing.value.message
    with pytest.raises(ApiError) as invalid:
        api.call("NamespaceService.CreateNamespace", namespace_id="Not_A_Name")
    assert invalid.value.reason == "invalid_argument" and invalid.value.field == "namespace_id"
    with pytest.raises(ApiError) as taken:
        api.call("NamespaceService.CreateNamespace", namespace_id=namespace)
    assert taken.value.code == grpc.StatusCode.ALREADY_EXISTS


def test_a_deleted_function_is_gone_and_may_come_again_as_another(api, namespace, call_when_ready, caller):
    name = f"namespaces/{namespace}/functions/phoenix"
    api.deploy(namespace, "phoenix", guests.answer("first"))
    uid = api.call("FunctionService.GetFunction", name=name)["function"]["uid"]
    assert call_when_ready(f"/{namespace}/phoenix/").text == "first"
    with pytest.raises(ApiError) as full:
        api.call("NamespaceService.DeleteNamespace", name=f"namespaces/{namespace}")
    assert full.value.reason == "failed_precondition"
    api.call("FunctionService.DeleteFunction", name=name)
    eventually(lambda: caller.get(f"/{namespace}/phoenix/").status_code == 404, what="the function being gone")
    assert api.deploy(namespace, "phoenix", guests.answer("second"))["number"] == 1
    assert api.call("FunctionService.GetFunction", name=name)["function"]["uid"] != uid
    eventually(lambda: caller.get(f"/{namespace}/phoenix/").text == "second", what="the second one answering")
    api.call("FunctionService.DeleteFunction", name=name)
    api.call("NamespaceService.DeleteNamespace", name=f"namespaces/{namespace}")


def test_an_invocation_leaves_a_record_and_log_lines_on_both_gateways(cluster, api, namespace, call_when_ready):
    api.deploy(namespace, "logger", guests.LOG)
    answer = call_when_ready(f"/{namespace}/logger/some/path?q=1", headers={"X-Request-Id": "mine-1"})
    assert answer.status_code == 200 and "server-timing" in answer.headers
    name = f"namespaces/{namespace}/functions/logger"
    for gateway in (0, 1):
        seen = cluster.api(gateway=gateway)
        record = eventually(lambda: seen.call("InvocationService.ListInvocations", parent=name)["invocations"], what="the record")[0]
        assert (record["outcome"], record["status"], record["path"], record["version"]) == ("ok", 200, "/some/path", 1)
        assert record["worker"] and record["gateway"] and record["request_id"] == "mine-1"
        receipt = record["receipt"]
        assert float(receipt["run"].rstrip("s")) > 0 and int(receipt["peak_memory_bytes"]) >= 65536 and int(receipt["bytes_out"]) == len(guests.LINE)
        identifier = record["name"].rpartition("/")[2]
        assert uuid.UUID(identifier).version == 7
        # Who is asked by the other gateway has a second to answer.
        assert eventually(lambda: seen.call("InvocationService.GetInvocation", name=record["name"])["invocation"], what="the record by its name")["outcome"] == "ok"
        lines = eventually(lambda: [event["line"] for event in seen.stream("LogService.ReadLogs", parent=name) if "line" in event], what="the log line")
        assert lines[0]["text"] == guests.LINE.decode().rstrip("\n") and lines[0]["stream"] == "LOG_STREAM_STDERR"
        assert lines[0]["invocation"] == identifier
        for request_id in (identifier, "mine-1"):
            eventually(lambda: any("line" in event for event in seen.stream("LogService.ReadLogs", parent=name, request_id=request_id)), what=f"the log line by {request_id}")


def test_a_log_can_be_followed(api, namespace, call_when_ready):
    api.deploy(namespace, "tail", guests.LOG)
    stream = api.stream("LogService.ReadLogs", parent=f"namespaces/{namespace}/functions/tail", follow=True, timeout=20)
    calls = threading.Timer(0.5, lambda: call_when_ready(f"/{namespace}/tail/"))
    calls.start()
    assert next(event["line"] for event in stream if "line" in event)["text"] == guests.LINE.decode().rstrip("\n")
    calls.join()
    stream.close()


def test_a_function_can_be_invoked_through_administration(api, namespace):
    api.deploy(namespace, "echo", guests.ECHO, public=False)
    # A gateway may hear of the deploy a moment after whoever deployed.
    answer = eventually(lambda: api.call("InvocationService.Invoke", name=f"namespaces/{namespace}/functions/echo", body="aGVsbG8="))
    assert answer["status"] == 200 and answer["body"] == "aGVsbG8=" and answer["invocation"]["outcome"] == "ok"
    answer = api.call("InvocationService.Invoke", name=f"namespaces/{namespace}/functions/echo/versions/1", method="PUT", path="/x?y=z", body="aGk=")
    assert answer["status"] == 200 and answer["invocation"]["method"] == "PUT" and answer["invocation"]["path"] == "/x"
