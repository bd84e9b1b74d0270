"""What people send by mistake or on purpose: each gets an error that says what, where and what to do, and others are served."""

import hashlib
import os
import socket
import subprocess
import threading
import time
import uuid

import grpc
import httpx
import pytest

from harness import guests
from harness.api import ApiError
from harness.cluster import eventually
from harness.paths import BINARIES, plain_environment

pytestmark = pytest.mark.usefixtures("processes_survive", "neighbour")


def refusal(api, namespace, wasm, function="bad"):
    with pytest.raises(ApiError) as refused:
        api.deploy(namespace, function, wasm)
    return refused.value


WHOLE = guests.answer("whole")
BROKEN = {
    "empty": (b"", ()),
    "text": (b"#!/bin/sh\necho hello\n", ("webassembly",)),
    "an ELF program": (b"\x7fELF\x02\x01\x01" + bytes(500), ()),
    "precompiled": (guests.precompiled(), ("precompiled",)),
    "precompiled, disguised": (b"\0asm\x01\0\0\0" + guests.precompiled(), ()),
    "text format": (b'(module (func (export "_start")))', ("text",)),
    "gzip": (b"\x1f\x8b\x08" + bytes(100), ()),
    "truncated": (WHOLE[:-20], ()),
    "only a head": (b"\0asm\x01\0\0\0", ()),
    "a future version": (b"\0asm\x63\0\0\0" + WHOLE[8:], ()),
    "a library": (guests.LIBRARY, ()),
    "noise": (b"\0asm\x01\0\0\0" + os.urandom(5000), ()),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_no_function_is_refused_by_name(api, namespace, what):
    wasm, words = BROKEN[what]
    error = refusal(api, namespace, wasm)
    assert error.code == grpc.StatusCode.INVALID_ARGUMENT, error
    assert error.reason == ("invalid_argument" if what == "empty" else "invalid_artifact") or what == "empty", error
    assert error.message and all(word in (error.message + str(error.hint)).lower() for word in words), error
    assert len(error.message) < 2000
    with pytest.raises(ApiError) as nothing:
        api.call("FunctionService.GetFunction", name=f"namespaces/{namespace}/functions/bad")
    assert nothing.value.reason == "not_found", "a failed first deploy leaves nothing behind"


def test_t26_an_import_that_is_not_offered_is_named(api, namespace):
    error = refusal(api, namespace, guests.FOREIGN_COMPONENT)
    assert error.reason == "invalid_artifact" and "acme:billing/ledger@1.0.0" in error.message, error
    error = refusal(api, namespace, guests.FOREIGN_MODULE)
    assert error.reason == "invalid_artifact" and "env" in error.message and "launch_missiles" in error.message, error


def test_a_bad_deploy_leaves_the_version_before_it_serving(api, namespace, call_when_ready, caller):
    api.deploy(namespace, "steady", guests.answer("one"))
    assert call_when_ready(f"/{namespace}/steady/").text == "one"
    refusal(api, namespace, WHOLE[:-20], "steady")
    assert caller.get(f"/{namespace}/steady/").text == "one"
    assert api.deploy(namespace, "steady", guests.answer("two"))["number"] == 2


def test_an_artifact_of_100_megabytes_is_refused_before_it_is_sent(api, namespace, cluster, cli, tmp_path):
    announced = {"start": {"parent": f"namespaces/{namespace}", "digest": "sha256:" + "0" * 64, "size_bytes": 100 << 20}}
    sent = []

    def parts():
        yield announced
        for _ in range(400):
            sent.append(1)
            yield bytes(256 << 10)

    with pytest.raises(ApiError) as refused:
        api.upload_parts(parts())
    assert refused.value.reason == "payload_too_large" and "64" in refused.value.message, refused.value
    assert len(sent) < 400
    file = tmp_path / "huge.wasm"
    with open(file, "wb") as opened:
        opened.write(b"\0asm\x01\0\0\0")
        opened.truncate(100 << 20)
    ran = cli("deploy", file, "--name", "huge", "--namespace", namespace)
    assert ran.code in (2, 7) and "64 MiB" in ran.err, ran


def test_an_upload_without_end_stops_at_what_was_announced(api, namespace):
    start = {"start": {"parent": f"namespaces/{namespace}", "digest": "sha256:" + "0" * 64, "size_bytes": 1000}}

    def parts():
        yield start
        while True:
            yield bytes(64 << 10)

    with pytest.raises(ApiError) as refused:
        api.upload_parts(parts(), timeout=20)
    assert refused.value.code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE), refused.value


@pytest.mark.timeout(200)
@pytest.mark.expects_log("did not survive an artifact")
def test_t20_a_compile_bomb_is_stopped_while_others_deploy_and_call(cluster, api, namespace, neighbour):
    """Small to send, and without end to compile; another tenant's deploy goes on meanwhile."""
    before = cluster.memory("scheduler")
    outcome = {}

    def explode():
        try:
            outcome["version"] = api.deploy(namespace, "bomb", guests.bomb(), timeout=150)
        except ApiError as error:
            outcome["error"] = error

    thread = threading.Thread(target=explode)
    thread.start()
    time.sleep(2)
    began = time.monotonic()
    assert cluster.api(gateway=1).deploy(namespace, "small", guests.answer("still here"))["number"] == 1
    waited = time.monotonic() - began
    thread.join(150)
    assert outcome, "neither finished nor refused"
    error = outcome.get("error")
    assert error and error.reason == "invalid_artifact" and error.message, outcome
    assert waited < 100, f"a small deploy waited {waited:.0f} s"
    assert cluster.memory("scheduler") - before < 150
    children = subprocess.run(["ps", "--ppid", str(cluster.pid("scheduler")), "-o", "pid="], capture_output=True, text=True).stdout.split()
    assert not children, "the compiler was left running"


BAD_NAMES = ["../etc", "..", "a/../b", "a%2f..%2fb", "..%2fadmin", "UPPER", "ünïcode", "名前", "a" * 33, "-a", "a-", "a--b", "1a", "a b", "a\tb", "a\nb", "", "a.b", "a_b", "a\0b",
             "'; DROP TABLE functions; --", "a\u202eb", "\u0430dmin"]


@pytest.mark.parametrize("bad", BAD_NAMES)
def test_t24_names_are_plain_everywhere(cluster, api, namespace, bad):
    for call in (
        lambda: api.call("NamespaceService.CreateNamespace", namespace_id=bad),
        lambda: api.call("FunctionService.GetFunction", name=f"namespaces/{namespace}/functions/{bad}"),
        lambda: api.call("FunctionService.ListFunctions", parent=f"namespaces/{bad}"),
        lambda: list(api.stream("FunctionService.CreateVersion", parent=f"namespaces/{namespace}/functions/{bad}", artifact_digest="sha256:" + "0" * 64, request_id=str(uuid.uuid4()))),
    ):
        with pytest.raises(ApiError) as refused:
            call()
        assert refused.value.code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND), refused.value
        assert refused.value.message
    if bad.isprintable():
        with cluster.http() as client:
            assert client.get(f"/{namespace}/{bad}/").status_code in (400, 404)


def test_a_path_is_made_canonical_before_it_is_matched(cluster, api, namespace, call_when_ready):
    api.deploy(namespace, "echo", guests.ENVIRONMENT)
    call_when_ready(f"/{namespace}/echo/")
    with socket_of(cluster) as raw:
        for target in (f"/{namespace}/echo/../../other", f"/{namespace}/../{namespace}/echo/%2e%2e/%2e%2e/x", "//evil/x", f"/{namespace}//echo", "/..", "/%00", f"/{namespace}/echo/%zz"):
            status, _ = raw(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            assert status in (200, 308, 400, 404), f"{target}: {status}"


def socket_of(cluster):
    """A way to send what no client would."""
    address = cluster.gateways[0]["functions"].removeprefix("http://").split(":")

    class Raw:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def __call__(self, request):
            with socket.create_connection((address[0], int(address[1])), timeout=15) as connection:
                connection.sendall(request)
                answer = b""
                while chunk := connection.recv(65536):
                    answer += chunk
                    if b"\r\n\r\n" in answer and b"connection: close" not in request.lower():
                        break
            head, _, body = answer.partition(b"\r\n\r\n")
            return int(head.split(b" ")[1]) if head else 0, body

    return Raw()


@pytest.mark.parametrize("what,request_text,statuses", [
    ("two lengths", "POST {p} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", (400,)),
    ("length and chunks", "POST {p} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n", (400,)),
    ("no host", "GET {p} HTTP/1.1\r\nConnection: close\r\n\r\n", (400,)),
    ("two hosts", "GET {p} HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n", (400,)),
    ("space before colon", "GET {p} HTTP/1.1\r\nHost : x\r\nConnection: close\r\n\r\n", (400,)),
    ("not HTTP", "HELO example.com\r\n\r\n", (400,)),
    ("a huge header", "GET {p} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-A: " + "a" * (100 << 10) + "\r\n\r\n", (431,)),
    ("many headers", "GET {p} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + "".join(f"X-{i}: 1\r\n" for i in range(500)) + "\r\n", (431,)),
    ("a long target", "GET {p}" + "a" * (20 << 10) + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", (414, 431, 400)),
])
def test_t31_t32_malformed_requests_are_refused(cluster, api, namespace, what, request_text, statuses):
    with socket_of(cluster) as raw:
        try:
            status, _ = raw(request_text.replace("{p}", f"/{namespace}/any/").encode())
        except ConnectionError:
            status = 0
    assert status in statuses or status == 0, f"{what}: {status}"


def test_a_body_over_its_limit_is_refused_however_it_is_sent(cluster, api, namespace, call_when_ready):
    api.deploy(namespace, "small", guests.SINK, spec={"limits": {"request_body_bytes": 1000}})
    assert call_when_ready(f"/{namespace}/small/", "POST", content=b"x" * 1000).status_code == 200

    def endless():
        for _ in range(100):
            yield b"x" * 1000

    for content in (b"x" * 1001, bytes(20 << 20), endless()):
        with cluster.http() as client:
            try:
                answer = client.post(f"/{namespace}/small/", content=content)
            except httpx.TransportError:
                continue  # It was refused while it was still being sent, and this client only reads afterwards.
            assert answer.status_code == 413 and answer.json()["error"]["code"] == "payload_too_large", answer.text
    curled = subprocess.run(["curl", "--silent", "--data-binary", "@-", "-H", "Transfer-Encoding: chunked", "-w", "%{http_code}", cluster.gateways[0]["functions"] + f"/{namespace}/small/"],
                            input=bytes(100_000), capture_output=True, env=plain_environment())
    assert curled.stdout.endswith(b"413"), curled


def test_a_client_that_leaves_in_the_middle_costs_nothing_more(cluster, api, namespace, call_when_ready, probe):
    api.deploy(namespace, "slow", probe)
    call_when_ready(f"/{namespace}/slow/hold?ms=0")
    with cluster.http() as client:
        with pytest.raises(httpx.TimeoutException):
            client.get(f"/{namespace}/slow/hold?ms=20000", timeout=2)
        with client.stream("GET", f"/{namespace}/slow/trickle?n=200&ms=50") as answer:
            assert next(answer.iter_text()).startswith("piece 0"), "an answer is passed on as it comes"
    name = f"namespaces/{namespace}/functions/slow"

    def left():
        records = api.call("InvocationService.ListInvocations", parent=name)["invocations"]
        return [record["outcome"] for record in records].count("cancelled") == 2

    eventually(left, what="both records saying that the caller left")
    workers = lambda: sum(worker["in_flight"] for worker in api.call("ClusterService.ListWorkers")["workers"])  # noqa: E731
    eventually(lambda: workers() <= 1, what="the workers being free again")
    with socket_of(cluster) as raw, pytest.raises((ConnectionError, IndexError, ValueError, TimeoutError)):
        raw(f"POST /{namespace}/slow/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf".encode())
        raise ConnectionError


def test_answers_name_each_kind_of_refusal(cluster, api, namespace, call_when_ready):
    api.deploy(namespace, "fn", guests.answer("x"))
    call_when_ready(f"/{namespace}/fn/")
    with cluster.http() as client:
        for path, status, code in ((f"/{namespace}/nothing/", 404, "not_found"), ("/", 404, "not_found"), ("/only-one", 404, "not_found")):
            answer = client.get(path)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (status, code) and error["request_id"] and answer.headers["content-type"].startswith("application/json")
        assert client.get("/x/", headers={"Host": "elsewhere.example"}).status_code in (404, 421)
        hosted = client.get("/", headers={"Host": f"fn--{namespace}.fn.localhost"})
        assert hosted.text == "x"


# Starting processes wrongly.


def start(binary, *arguments, seconds=20):
    ran = subprocess.run([BINARIES / binary, *map(str, arguments)], env=plain_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds)
    return ran.returncode, ran.stdout + ran.stderr


@pytest.fixture
def spare(cluster, tmp_path):
    """Arguments with which each role would start beside the cluster."""
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef" * 4)
    secret.chmod(0o600)
    common = ["--cluster-secret", secret, "--scheduler", "http://127.0.0.1:1", "--data-dir", tmp_path / "data"]
    return {
        "dunlin-gateway": [*common, "--name", "spare", "--functions", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--peer", "127.0.0.1:0"],
        "dunlin-worker": [*common, "--name", "spare", "--listen", "127.0.0.1:0"],
        "dunlin-scheduler": [*common[:2], *common[4:], "--name", "spare", "--listen", "127.0.0.1:0"],
    }


def test_a_port_that_is_taken_is_named_with_the_way_out(cluster, spare):
    gateway, worker = cluster.gateways[0], cluster.facts["workers"][0]
    for binary, flag, url in (("dunlin-gateway", "--functions", gateway["functions"]), ("dunlin-gateway", "--admin", gateway["admin"]),
                              ("dunlin-worker", "--listen", worker["address"]), ("dunlin-scheduler", "--listen", cluster.facts["scheduler"])):
        address = url.rpartition("/")[2]
        arguments = list(spare[binary])
        arguments[arguments.index(flag) + 1] = address
        code, said = start(binary, *arguments)
        assert code != 0 and address in said and flag in said, f"{binary}: {said}"
        assert "panicked" not in said


def test_a_data_folder_in_use_is_named(cluster, spare):
    for binary, used in (("dunlin-gateway", "gateway-1"), ("dunlin-worker", "worker-1"), ("dunlin-scheduler", "scheduler")):
        arguments = list(spare[binary])
        arguments[arguments.index("--data-dir") + 1] = cluster.folder / used
        code, said = start(binary, *arguments)
        assert code != 0 and "in use by another process" in said and str(cluster.folder / used) in said, f"{binary}: {said}"


def test_wrong_settings_are_named_before_anything_starts(cluster, spare, tmp_path):
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('grace = "5s"\ncolour = "blue"\n')
    short = tmp_path / "short-secret"
    short.write_text("hello")
    short.chmod(0o600)
    open_secret = tmp_path / "open-secret"
    open_secret.write_text("0" * 64)
    open_secret.chmod(0o644)
    for binary, arguments in spare.items():
        for more, words in ((["--config", wrong], ["colour", "line 2"]), (["--cluster-secret", short], ["short-secret"]), (["--cluster-secret", open_secret], ["chmod 600"]),
                            (["--cluster-secret", tmp_path / "none"], [str(tmp_path / "none")]), (["--no-such-flag"], ["--no-such-flag"])):
            merged = list(arguments)
            if more[0] in merged:
                merged[merged.index(more[0]) + 1] = more[1]
            else:
                merged += more
            code, said = start(binary, *merged)
            assert code != 0 and all(word in said for word in words), f"{binary} {more}: {said}"
    for flag, binary in (("--admin", "dunlin-gateway"), ("--peer", "dunlin-gateway"), ("--listen", "dunlin-worker"), ("--listen", "dunlin-scheduler")):
        arguments = list(spare[binary])
        arguments[arguments.index(flag) + 1] = "192.0.2.1:0"
        code, said = start(binary, *arguments)
        assert code != 0 and "loopback" in said, f"{binary} {flag}: {said}"


# The manifest.


def test_a_manifest_with_an_unknown_field_names_it_and_its_line(cli, namespace, tmp_path):
    (tmp_path / "hello.wasm").write_bytes(WHOLE)
    (tmp_path / "dunlin.toml").write_text('name = "hello"\nsource = "hello.wasm"\npubilc = true\n')
    ran = cli("deploy", tmp_path, "--namespace", namespace)
    assert ran.code == 2 and "pubilc" in ran.err and ("line 3" in ran.err or ":3" in ran.err), ran
    assert "dunlin.toml" in ran.err and "public" in ran.err, "it says which file, and what was meant"


@pytest.mark.parametrize("text,word", [
    ('name = "hello"\nsource = "no-such-file.wasm"\n', "no-such-file.wasm"),
    ('name = "Hello World"\nsource = "hello.wasm"\n', "Hello World"),
    ('name = "hello"\nsource = "hello.wasm"\nallowed_outbound_hosts = ["ftp://x"]\n', "ftp://x"),
    ('name = "hello"\nsource = "hello.wasm"\n[limits]\nmemory = "lots"\n', "lots"),
    ('name = "hello"\nsource = 3\n', "source"),
    ("not toml at all", "dunlin.toml:1:5"),
])
def test_a_manifest_that_is_wrong_says_where(cli, namespace, tmp_path, text, word):
    (tmp_path / "hello.wasm").write_bytes(WHOLE)
    (tmp_path / "dunlin.toml").write_text(text)
    ran = cli("deploy", tmp_path, "--namespace", namespace)
    assert ran.code in (2, 7) and word in ran.err, ran


@pytest.mark.parametrize("spec,field", [
    ({"limits": {"memory_bytes": 1 << 40}}, "memory"),
    ({"limits": {"memory_bytes": 1}}, "memory"),
    ({"limits": {"timeout": "0s"}}, "timeout"),
    ({"limits": {"timeout": "901s"}}, "timeout"),
    ({"limits": {"timeout": "-5s"}}, "timeout"),
    ({"scaling": {"min_sandboxes": 10, "max_sandboxes": 5}}, "sandboxes"),
    ({"environment": {"": "x"}}, "environment"),
    ({"environment": {"A=B": "x"}}, "environment"),
    ({"environment": {"A": "x\0y"}}, "environment"),
    ({"allowed_outbound_hosts": ["not a host"]}, "allowed_outbound_hosts"),
    ({"allowed_outbound_hosts": ["http://*:*:*"]}, "allowed_outbound_hosts"),
])
def test_a_version_with_impossible_settings_is_refused_by_field(api, namespace, spec, field):
    with pytest.raises(ApiError) as refused:
        api.deploy(namespace, "impossible", WHOLE, spec=spec)
    assert refused.value.reason == "invalid_argument" and field in f"{refused.value.field} {refused.value.message}", refused.value


@pytest.mark.parametrize("changes,reason", [
    ({"artifact_digest": "sha256:" + hashlib.sha256(b"never sent").hexdigest()}, ("not_found", "failed_precondition")),
    ({"artifact_digest": "md5:abc"}, ("invalid_argument",)),
    ({"request_id": "not-a-uuid"}, ("invalid_argument",)),
    ({"note": "x" * 100_000}, ("invalid_argument",)),
    ({"description": "x" * 1025}, ("invalid_argument",)),
])
def test_a_deploy_request_that_cannot_be_is_refused(api, namespace, changes, reason):
    with pytest.raises(ApiError) as refused:
        api.deploy(namespace, "fn", WHOLE, **changes)
    assert refused.value.reason in reason, refused.value
