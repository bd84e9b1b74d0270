"""Traces, as a collector gets them: one that has nothing of ours but the messages of OTLP."""

import concurrent.futures
import gzip
import os
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import httpx
import pytest
from conftest import new_namespace
from harness import guests
from harness.cluster import Cluster, eventually
from harness.paths import Cli
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from test_up import Up, curl_lines

SERVER, ERROR = 2, 2
SECRET = "Bearer collectors-own-secret"
# Slower than a call by a machine that stands still for a moment.
SLOW = "3s"


def plain(value):
    return getattr(value, value.WhichOneof("value"))


class Span:
    def __init__(self, wire, resource):
        self.id, self.parent, self.trace = wire.span_id.hex(), wire.parent_span_id.hex(), wire.trace_id.hex()
        self.name, self.kind, self.status, self.state = wire.name, wire.kind, wire.status, wire.trace_state
        self.start, self.end = wire.start_time_unix_nano, wire.end_time_unix_nano
        self.attributes = {pair.key: plain(pair.value) for pair in wire.attributes}
        self.resource = {pair.key: plain(pair.value) for pair in resource.attributes}


class Collector:
    """Takes spans by OTLP over HTTP, and can go away and come back at the same address."""

    def __init__(self):
        self.spans, self.refused, self.status, self.port = [], 0, 200, 0
        self.start()

    def start(self):
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf"
                if collector.status != 200 or self.headers["Authorization"] != SECRET:
                    collector.refused += 1
                    self.send_response(collector.status if collector.status != 200 else 401)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                body = gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body
                collector.take(ExportTraceServiceRequest.FromString(body))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._http.daemon_threads = True
        self.port = self._http.server_port
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def stop(self):
        self._http.shutdown()
        self._http.server_close()

    def take(self, request):
        # At once, for a trace has spans of several places, and whoever finds one of them looks for the others.
        self.spans += [Span(span, place.resource) for place in request.resource_spans for scope in place.scope_spans for span in scope.spans]

    def trace(self, name):
        """The trace of the invocation with this id, once it is here."""
        def found():
            root = next((span for span in list(self.spans) if span.attributes.get("faas.invocation_id") == name), None)
            return root and [span for span in self.spans if span.trace == root.trace]

        return eventually(found, seconds=15, what=f"the trace of {name}")

    def has(self, name):
        return any(span.attributes.get("faas.invocation_id") == name for span in list(self.spans))


class GrpcCollector(Collector):
    """Takes spans by OTLP over gRPC and TLS."""

    def __init__(self, authority):
        certificate, key = authority.pair("localhost")
        self._credentials = grpc.ssl_server_credentials([(key, certificate)])
        super().__init__()

    def start(self):
        method = grpc.unary_unary_rpc_method_handler(self._export, ExportTraceServiceRequest.FromString, ExportTraceServiceResponse.SerializeToString)
        self._grpc = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        self._grpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("opentelemetry.proto.collector.trace.v1.TraceService", {"Export": method}),))
        self.port = self._grpc.add_secure_port(f"localhost:{self.port}", self._credentials)
        self._grpc.start()

    def stop(self):
        self._grpc.stop(0).wait()

    def _export(self, request, context):
        if dict(context.invocation_metadata()).get("authorization") != SECRET:
            self.refused += 1
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
        self.take(request)
        return ExportTraceServiceResponse()


@pytest.fixture(scope="module")
def collector():
    made = Collector()
    yield made
    made.stop()


def small(folder, collector, ratio, *options, to="endpoint = 'http://127.0.0.1:{port}'"):
    """A cluster of one gateway and one worker that takes this part of traces."""
    headers, config = folder / "headers", folder / "gateway.toml"
    headers.write_text(f"Authorization: {SECRET}\n")
    headers.chmod(0o600)
    config.write_text(f"[tracing]\n{to.format(port=collector.port)}\nheaders_file = '{headers}'\nratio = {ratio}\nslow = '{SLOW}'\ncallers_per_second = 3\n")
    return Cluster(folder, "--sqlite", "--gateways", 1, "--workers", 1, f"--gateway-arg=--config={config}", *options)


@pytest.fixture(scope="module")
def all_traced(tmp_path_factory, collector):
    made = small(tmp_path_factory.mktemp("traced"), collector, 1.0)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def untraced(tmp_path_factory, collector):
    made = small(tmp_path_factory.mktemp("untraced"), collector, 0.0)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def grpc_collector(authority):
    made = GrpcCollector(authority)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def by_grpc(tmp_path_factory, grpc_collector, authority):
    made = small(tmp_path_factory.mktemp("grpc"), grpc_collector, 1.0, f"--env=SSL_CERT_FILE={authority.file}",
                 to="protocol = 'grpc'\nendpoint = 'https://localhost:{port}'")
    yield made
    made.stop()


def deployed(cluster, wasm, **options):
    """Where a new function answers."""
    api = cluster.api()
    namespace = new_namespace(api)
    api.deploy(namespace, "pay", wasm, **options)
    path = f"/{namespace}/pay/"
    with cluster.http() as client:
        eventually(lambda: client.get(path).status_code != 404, seconds=30, what=path)
    return path


def call(cluster, path, flags=None, **options):
    headers = {} if flags is None else {"traceparent": f"00-{os.urandom(16).hex()}-b7ad6b7169203331-{flags}"}
    with cluster.http() as client:
        answer = client.get(path, headers=headers, **options)
    return answer, answer.headers["dunlin-request-id"], headers.get("traceparent")


def sent_on(collector, name):
    """Whether the trace of this call comes within a few seconds."""
    try:
        return eventually(lambda: collector.has(name), seconds=4, what=name)
    except AssertionError:
        return False


def slowly():
    yield b"first"
    time.sleep(3.3)
    yield b"last"


def metric(cluster, name):
    page = cluster.rest().get("/metrics").text
    return float(re.search(rf"^{name} (\S+)$", page, re.M).group(1))


def test_spans_repeat_what_the_callers_systems_say_of_its_trace(all_traced, collector):
    path = deployed(all_traced, guests.answer("hi"))
    parent, state = f"00-{os.urandom(16).hex()}-b7ad6b7169203331-01", "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
    for headers, expected in [({"traceparent": parent, "tracestate": state}, state), ({"tracestate": state}, "")]:
        with all_traced.http() as client:
            name = client.get(path, headers=headers).headers["dunlin-request-id"]
        assert {span.state for span in collector.trace(name)} == {expected}
    with all_traced.http() as client:
        lost = client.get(path + "%zz", headers={"traceparent": parent, "tracestate": state})
    assert lost.status_code == 400
    assert {span.state for span in collector.trace(lost.headers["dunlin-request-id"])} == {state}


def test_a_call_is_a_tree_of_spans_from_gateway_to_worker(all_traced, collector):
    path = deployed(all_traced, guests.answer("hi"))
    answer, name, _ = call(all_traced, path + "x?card=4111")
    assert answer.status_code == 200
    spans = {span.name: span for span in collector.trace(name)}
    root = spans["GET pay"]
    assert (root.kind, root.parent, root.status.code) == (SERVER, "", 0)
    said = root.attributes
    assert (said["http.request.method"], said["http.response.status_code"], said["url.path"], said["url.scheme"]) == ("GET", 200, "/x", "http")
    assert (said["network.protocol.version"], said["faas.version"], said["faas.trigger"]) == ("1.1", "1", "http")
    assert said["faas.name"].endswith("/functions/pay") and isinstance(said["faas.coldstart"], bool)
    assert not [span for span in spans.values() if "4111" in repr(span.attributes) or "127.0.0.1" in repr(span.attributes)]
    assert root.resource["service.name"] == "dunlin-gateway"
    assert spans["invoke"].resource["service.name"] == "dunlin-worker" == spans["run"].resource["service.name"]
    assert {spans["queue"].parent, spans["invoke"].parent} == {root.id} and spans["run"].parent == spans["invoke"].id
    by_id = {span.id: span for span in spans.values()}
    for span in spans.values():
        above = by_id.get(span.parent, span)
        assert above.start <= span.start <= span.end <= above.end, span.name


def test_a_cold_start_shows_its_phases(all_traced, collector):
    # Where a deploy has it loaded before the first call, only the sandbox is left to make.
    path = deployed(all_traced, guests.answer("hi"))
    owner = path.split("/")[1]
    first = eventually(lambda: next((span for span in collector.spans if span.attributes.get("faas.name", "").startswith(f"namespaces/{owner}/")), None), seconds=15, what="the first call's trace")
    names = [span.name for span in collector.trace(first.attributes["faas.invocation_id"])]
    assert first.attributes["faas.coldstart"] == bool({"fetch", "load", "sandbox"} & set(names)), names


def test_a_callers_trace_goes_on_and_the_function_sees_its_gateway_as_parent(all_traced, collector):
    path = deployed(all_traced, guests.ENVIRONMENT)
    answer, name, sent = call(all_traced, path, "01")
    _, trace, parent, _ = sent.split("-")
    spans = collector.trace(name)
    root = next(span for span in spans if span.kind == SERVER)
    assert (root.trace, root.parent) == (trace, parent)
    assert f"00-{trace}-{root.id}-01" in answer.text, answer.text


def test_without_a_ratio_only_a_few_callers_who_ask_get_traces(untraced, collector):
    path = deployed(untraced, guests.answer("hi"))
    quiet = [call(untraced, path)[1] for _ in range(5)] + [call(untraced, path, "00")[1] for _ in range(5)]
    asked = [call(untraced, path, "01")[1] for _ in range(40)]
    eventually(lambda: any(map(collector.has, asked)), seconds=15, what="a trace that was asked for")
    # What is exported later was called later.
    eventually(lambda: sent_on(collector, call(untraced, path, "01")[1]), seconds=30, what="a trace of a later call")
    assert not any(map(collector.has, quiet))
    assert 1 <= sum(map(collector.has, asked)) < 30


def test_failed_and_slow_calls_are_traced_although_nobody_asked(untraced, collector):
    path = deployed(untraced, guests.TRAP)
    answer, name, _ = call(untraced, path)
    assert answer.status_code == 502
    root = next(span for span in collector.trace(name) if span.kind == SERVER)
    assert root.status.code == ERROR and root.attributes["error.type"] == "function_failed" and "unreachable" in root.status.message
    path = deployed(untraced, guests.LOOP, spec={"limits": {"timeout": "0.4s"}})
    answer, name, _ = call(untraced, path)
    assert answer.status_code == 504, answer.text
    root = next(span for span in collector.trace(name) if span.kind == SERVER)
    assert root.end - root.start >= 300_000_000 and root.attributes["error.type"] == "deadline_exceeded"
    path = deployed(untraced, guests.ECHO)
    with untraced.http() as client:
        answer = client.post(path, content=slowly())
    assert answer.status_code == 200
    root = next(span for span in collector.trace(answer.headers["dunlin-request-id"]) if span.kind == SERVER)
    assert root.end - root.start >= 3_000_000_000 and root.status.code == 0


def refused(collector, name):
    """The spans of a request that was refused, by their names, with the root, and its part that refused it."""
    spans = {span.name: span for span in collector.trace(name)}
    root = next(span for span in spans.values() if span.kind == SERVER)
    parts = [span for span in spans.values() if span is not root]
    assert {span.parent for span in parts} == {root.id} and all(root.start <= span.start <= span.end <= root.end for span in parts)
    return set(spans), root, next(span for span in parts if span.status.code == ERROR)


def test_refused_requests_leave_the_spans_of_their_gateway(untraced, collector):
    path = deployed(untraced, guests.answer("hi"), public=False)
    answer, name, sent = call(untraced, path + "x?card=4111", "01")
    assert answer.status_code == 401
    names, root, part = refused(collector, name)
    _, trace, parent, _ = sent.split("-")
    assert (root.trace, root.parent, names) == (trace, parent, {"GET pay", "route", "authenticate"})
    said = root.attributes
    assert (said["http.response.status_code"], said["error.type"], said["dunlin.refused"]) == (401, "unauthenticated", True)
    # That of a server is no error where its caller is wrong; the part that found it is.
    assert root.status.code == 0 and (part.name, part.attributes["error.type"]) == ("authenticate", "unauthenticated")
    assert "4111" not in repr(said) and "127.0.0.1" not in repr(said)
    namespace = path.split("/")[1]
    answer, name, _ = call(untraced, f"/{namespace}/nothing/", "01")
    assert answer.status_code == 404
    names, root, part = refused(collector, name)
    assert (names, part.name, root.attributes["http.response.status_code"]) == ({"GET", "route"}, "route", 404)
    path = deployed(untraced, guests.SINK, spec={"limits": {"request_body_bytes": 10}})
    with untraced.http() as client:
        answer = client.post(path, content=b"x" * 100, headers={"traceparent": f"00-{os.urandom(16).hex()}-b7ad6b7169203331-01"})
    assert answer.status_code == 413
    names, root, part = refused(collector, answer.headers["dunlin-request-id"])
    assert (names, part.name) == ({"POST pay", "route", "limits", "validate"}, "validate")
    path = deployed(untraced, guests.answer("hi"), spec={"limits": {"rate": {"requests": 1, "period": "RATE_PERIOD_MINUTE", "burst": 1}}})
    answer, name, _ = eventually(lambda: (made := call(untraced, path, "01"))[0].status_code == 429 and made, what="a call too many")
    names, root, part = refused(collector, name)
    assert (names, part.name, root.attributes["error.type"]) == ({"GET pay", "route", "limits"}, "limits", "too_many_requests")


def test_a_flood_of_refusals_does_not_flood_the_collector_or_hide_calls(untraced, collector):
    path = deployed(untraced, guests.answer("hi"), public=False)
    quiet = [call(untraced, path)[1] for _ in range(5)] + [call(untraced, path, "00")[1] for _ in range(5)]
    flood = [call(untraced, path, "01") for _ in range(60)]
    assert {answer.status_code for answer, _, _ in flood} == {401}
    other = deployed(untraced, guests.answer("hi"))
    eventually(lambda: sent_on(collector, call(untraced, other, "01")[1]), seconds=30, what="the trace of a call")
    taken = sum(collector.has(name) for _, name, _ in flood)
    assert 1 <= taken < 40 and not any(map(collector.has, quiet)), taken


def goes_away_and_comes_back(cluster, collector):
    """Calls go on while a collector is away; what is lost is counted, said once, and over when it is back."""
    path = deployed(cluster, guests.answer("hi"))
    collector.trace(call(cluster, path)[1])
    lost = metric(cluster, "dunlin_gateway_trace_spans_dropped_total")
    collector.stop()
    try:
        for _ in range(20):
            assert call(cluster, path)[0].status_code == 200
        eventually(lambda: metric(cluster, "dunlin_gateway_trace_spans_dropped_total") > lost, seconds=30, what="lost spans")
    finally:
        collector.start()
    eventually(lambda: sent_on(collector, call(cluster, path)[1]), seconds=30, what="traces again")
    said = "".join(log.read_text(errors="replace") for log in cluster.logs() if log.stem.startswith("gateway"))
    assert said.count("traces are lost") == 1 and SECRET not in said


def test_a_collector_that_is_away_costs_spans_and_no_calls(all_traced, collector):
    goes_away_and_comes_back(all_traced, collector)


def test_the_same_goes_by_grpc_and_tls(by_grpc, grpc_collector):
    path = deployed(by_grpc, guests.answer("hi"))
    answer, name, sent = call(by_grpc, path, "01")
    spans = grpc_collector.trace(name)
    assert {"route", "limits", "queue", "invoke", "run"} <= {span.name for span in spans}
    root = next(span for span in spans if span.kind == SERVER)
    assert (root.trace, root.attributes["http.response.status_code"]) == (sent.split("-")[1], 200)
    assert {span.resource["service.name"] for span in spans} == {"dunlin-gateway", "dunlin-worker"} and not grpc_collector.refused
    goes_away_and_comes_back(by_grpc, grpc_collector)


def test_a_trace_that_is_asked_for_is_exported_and_shown(untraced, collector, tmp_path):
    namespace = deployed(untraced, guests.answer("hi")).split("/")[1]
    cli = Cli(tmp_path, untraced.admin, untraced.token)
    called = lambda *options: cli("--namespace", namespace, "invoke", *options)
    ran = called("pay", "--trace", "-o", "json")
    assert ran.code == 0, ran
    told, name = ran.json["trace"], ran.json["invocation"]["id"]
    assert told["exported"] and not told["note"], told
    spans = collector.trace(name)
    assert [span["name"] for span in told["spans"]][:4] == ["GET pay", "route", "limits", "queue"] and len(spans) == len(told["spans"])
    assert {span.trace for span in spans} == {told["trace_id"]}
    shown = called("pay", "--trace")
    assert shown.out == "hi" and re.search(r"^GET pay 200 .*\n├─ route .*\n├─ limits .*\n├─ queue ", shown.err, re.M), shown
    # Three a second are taken, whoever asks; the tree is there in any case.
    with concurrent.futures.ThreadPoolExecutor(12) as many:
        asked = list(many.map(lambda _: called("pay", "--trace", "-o", "json").json["trace"], range(12)))
    assert all(trace["spans"] for trace in asked)
    refused = [trace for trace in asked if not trace["exported"]]
    assert all("callers_per_second" in trace["note"] for trace in refused), refused


def test_a_stored_answer_and_a_key_show_in_the_trace(all_traced, collector, tmp_path):
    stored = b"Status: 200 OK\r\nCache-Control: public, max-age=600\r\n\r\n"
    path = deployed(all_traced, guests.answer("hi", stored))
    namespace = path.split("/")[1]
    cli = Cli(tmp_path, all_traced.admin, all_traced.token)
    cli.ok("--namespace", namespace, "route", "add", "all", "/{path*}", "--function", "pay", "--cache")
    answer = lambda: call(all_traced, f"/{namespace}/x")
    eventually(lambda: answer()[0].headers.get("cache-status", "").startswith("dunlin; hit"), seconds=15, what="a stored answer")
    spans = {span.name: span for span in collector.trace(answer()[1])}
    assert set(spans) == {"GET /{path*}", "route", "limits", "cache"}, spans.keys()
    assert spans["cache"].attributes["dunlin.cache"] == "hit" and spans["route"].attributes["http.route"] == "/{path*}"
    private = deployed(all_traced, guests.answer("hi"), public=False)
    key = cli.ok("--namespace", private.split("/")[1], "key", "create", "till", "-o", "json").json["secret"]
    with all_traced.http() as client:
        asked = lambda: client.get(private, headers={"X-Api-Key": key})
        name = eventually(lambda: (found := asked()).status_code == 200 and found.headers["dunlin-request-id"], seconds=15, what="a call with a key")
    spans = {span.name: span for span in collector.trace(name)}
    assert spans["authenticate"].attributes == {"dunlin.credential": "key"}
    assert not [span for span in spans.values() if key in repr(span.attributes)]


def test_a_call_that_fails_has_a_trace_to_show(untraced, tmp_path):
    namespace = deployed(untraced, guests.TRAP).split("/")[1]
    ran = Cli(tmp_path, untraced.admin, untraced.token)("--namespace", namespace, "invoke", "pay", "--trace")
    assert ran.code == 6 and ran.out == "" and ran.err.startswith("GET pay 502 ") and "unreachable" in ran.err, ran


class TracedUp(Up):
    def command(self):
        return [*super().command(), "--trace"]


def test_up_prints_where_the_time_of_each_call_went(tmp_path):
    up = TracedUp(tmp_path)
    try:
        url = eventually(lambda: curl_lines(up.said), seconds=60, what="the sample")[0]
        assert eventually(lambda: httpx.get(url, trust_env=False).status_code == 200, seconds=30, what=url)
        tree = re.compile(r"^GET \S+ 200 [0-9.]+ [um]?s  invocation [0-9a-f-]{36} trace [0-9a-f]{32}\n├─ route +[0-9.]+ [um]?s\n├─ limits +[0-9.]+ [um]?s\n├─ queue +[0-9.]+ [um]?s\n└─ invoke +.*\n(   ├─ .*\n)*   └─ run +[0-9.]+ [um]?s$", re.M)
        eventually(lambda: tree.search(up.said), seconds=10, what="a tree")
        assert httpx.get(url.replace("/hello/", "/nobodys/"), trust_env=False).status_code == 404
        refused = re.compile(r"^GET 404 [0-9.]+ [um]?s  invocation [0-9a-f-]{36} trace [0-9a-f]{32}\n└─ route +[0-9.]+ [um]?s\n.*nobodys.*$", re.M)
        eventually(lambda: refused.search(up.said), seconds=10, what="the tree of what was refused")
        assert "\x1b[" not in up.said, "colours are for terminals"
    finally:
        assert up.stop() == 0, up.said
