"""Callers that mean harm to the gateway itself, by what no client library sends: connections that stall, heads and bodies without
end, forged fields (T30, T31, T35, T36). Each attack goes on beside callers who must not notice. Requests that could be read in
two ways and frames of HTTP/2 are in test_edge_frames.py."""

import contextlib
import itertools
import ssl
import uuid

import httpx
import pytest

from harness import guests
from harness.cluster import eventually
from harness.edge import LIMITS, a_namespace, all_at_once, both, edge, holds, started, unharmed  # noqa: F401
from harness.paths import Cli
from harness.wire import DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, SETTINGS, Answer, Http2, connect, exchange, frame, push, read_all


# T30: connections that stall.

STALLS = [b"", b"G", b"PRI * HTTP/2.0\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS), b"GET / HTTP/1.1\r\nHost: h\r\nX-A", b"\x16\x03\x01",
          b"GET /.well-known/dunlin/live HTTP/1.1\r\nHost: h\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS) + frame(HEADERS, 0, 1, b"\x82"),
          b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(DATA, 0, 1, bytes(100))[:50]]


@both
def test_t30_connections_that_stall_are_closed(edge, holds, listener):
    def stall(first):
        with connect(getattr(edge, listener), seconds=30) as stream:
            stream.sendall(first)
            return read_all(stream)

    all_at_once(stall, STALLS * 10)


@both
def test_t30_a_head_that_trickles_is_answered_and_closed(edge, holds, listener):
    def trickle(piece):
        with connect(getattr(edge, listener), seconds=30) as stream:
            stream.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n")
            stream.settimeout(0.1)
            for _ in range(100):
                with contextlib.suppress(TimeoutError):
                    return stream.recv(65536) + read_all(stream)
                stream.sendall(piece)
        raise AssertionError("it went on for half a minute")

    for answer in all_at_once(trickle, [b"X-A: b\r\n", b"x"] * 10):
        assert Answer(answer).status == 408 and Answer(answer).code == "request_timeout", answer


@pytest.mark.parametrize("framing", [b"Content-Length: 1000\r\n\r\nhalf", b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", b"Transfer-Encoding: chunked\r\n\r\nff"])
def test_t30_a_body_that_stalls_is_answered_and_closed(edge, holds, framing):
    """That of a function's caller, of the JSON API with a token, and of a form that needs none."""
    json = f"Content-Type: application/json\r\nAuthorization: Bearer {edge.cluster.token}\r\n"
    form = "Content-Type: application/x-www-form-urlencoded\r\nOrigin: http://h\r\n"
    calls = [(edge.functions, edge.path("sink"), ""), (edge.admin, "/api/v1/namespaces", json), (edge.admin, "/sign-in", form)]

    def stall(call):
        url, path, headers = call
        return exchange(url, f"POST {path} HTTP/1.1\r\nHost: h\r\n{headers}".encode() + framing, seconds=30)

    for (_, path, _), answer in zip(calls * 5, all_at_once(stall, calls * 5)):
        assert Answer(answer).status == 408, f"{path}: {answer}"
        assert path == "/sign-in" or Answer(answer).code == "request_timeout", answer


def test_t30_http2_bodies_that_stall_are_answered(edge, holds):
    with Http2(edge.functions) as attack:
        for stream in range(1, 41, 2):
            attack.send(attack.request(stream, edge.path("sink"), "POST", end=False) + frame(DATA, 0, stream, b"half"))
        assert attack.status(1) == 408
        eventually(lambda: len({got[2] for got in attack.read(0.1).frames if got[0] == HEADERS}) == 20, seconds=20, what="an answer on each stream")


@both
def test_t30_a_flood_of_connections_from_one_address_leaves_room(edge, listener):
    """The caller beside comes from another address."""
    url = getattr(edge, listener)
    from_elsewhere = httpx.HTTPTransport(local_address="127.0.0.9")
    with httpx.Client(transport=from_elsewhere, headers={"Connection": "close"}, timeout=20) as client:
        def call():
            answer = client.get(edge.functions + f"/{edge.neighbour}/fine/")
            return None if answer.text == "fine" else answer.text

        with unharmed(edge.cluster.pid("gateway-1"), call) as expense:
            def flood():
                with contextlib.ExitStack() as held:
                    for _ in range(600):
                        stream = held.enter_context(connect(url))
                        with contextlib.suppress(ConnectionError):
                            stream.sendall(b"G")
                    eventually(lambda: expense.connections <= 330, what="what is over the limit being closed")
                    return listener == "admin" or Answer(exchange(edge.functions, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")).status == 0

            # Where the machine stops us in between, the heads have taken too long by then, and places are free again.
            eventually(flood, what="this address having no place for one more")
    eventually(edge.call_neighbour_and_see, seconds=20, what="this address having places again")


def test_t30_callers_that_read_nothing_lose_their_connection(edge, holds):
    """Long answers over HTTP/1.1, one after the other, to somebody who takes none of them."""
    request = f"GET {edge.path('big')} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
    with contextlib.ExitStack() as held:
        streams = [held.enter_context(connect(edge.functions, receive_buffer=4096)) for _ in range(20)]
        for stream in streams:
            stream.sendall(request * 3)
        assert all(stream.recv(1) for stream in streams), "the answers do not begin"
        eventually(lambda: holds.connections < 10, seconds=30, what="the end of the connections")


@pytest.fixture(scope="module")
def secured(tmp_path_factory, authority):
    """A gateway with TLS: its cluster, how it is trusted, and a function's path."""
    folder = tmp_path_factory.mktemp("secured")
    certificate, key = authority.pair("localhost")
    for name, content in (("edge.pem", certificate), ("edge.key", key)):
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    cluster = started(folder, LIMITS + f'\n[[tls.certificates]]\ncertificate = "{folder}/edge.pem"\nkey = "{folder}/edge.key"\n')
    try:
        trust = ssl.create_default_context(cafile=authority.file)
        yield cluster, trust, deployed_by_tls(cluster, trust)
    finally:
        cluster.stop()


def test_t30_tls_handshakes_that_stop_half_way_are_ended(secured):
    cluster, trust, path = secured
    url, incoming, hello = cluster.gateways[0]["functions"], ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        trust.wrap_bio(incoming, hello, server_hostname="localhost").do_handshake()
    hello = hello.read()

    def stall(first):
        with connect(url, seconds=30) as stream:
            if first == "a whole handshake":
                stream = trust.wrap_socket(stream, server_hostname="localhost")
            elif first:
                stream.sendall(first)
            with contextlib.suppress(ssl.SSLError):
                return read_all(stream)

    def call():
        answer = tls_call(url, trust, path)
        return None if b"alive" in answer else answer

    with unharmed(cluster.pid("gateway-1"), call):
        all_at_once(stall, [b"", hello[:1], hello[:5], hello[:-1], hello, hello + b"\x16\x03\x03\x10\x00", "a whole handshake"] * 10)


def tls_call(url, trust, path):
    with connect(url) as stream, trust.wrap_socket(stream, server_hostname="localhost") as secure:
        secure.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        return read_all(secure)


def deployed_by_tls(cluster, trust):
    api = cluster.api()
    namespace = a_namespace(api)
    api.deploy(namespace, "fn", guests.answer("alive"))
    path = f"/{namespace}/fn/"
    eventually(lambda: b"alive" in tls_call(cluster.gateways[0]["functions"], trust, path), what="the function")
    return path


# T31: what is too large.


def request_with(path, fields="", method="GET"):
    return f"{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{fields}\r\n".encode()


TOO_LARGE = {
    "a long target": (lambda path: request_with(path + "?" + "a" * 20_000), 414, "uri_too_long"),
    "a target beyond what is read": (lambda path: request_with(path + "?" + "a" * 70_000), 414, "uri_too_long"),
    "many fields": (lambda path: request_with(path, "".join(f"x-{n}: 1\r\n" for n in range(150))), 431, "headers_too_large"),
    "more fields than are read": (lambda path: request_with(path, "".join(f"x-{n}: 1\r\n" for n in range(5000))), 431, "headers_too_large"),
    "a hundred thousand tiny fields": (lambda path: request_with(path, "a:\r\n" * 100_000), 431, "headers_too_large"),
    "large fields": (lambda path: request_with(path, "".join(f"x-{n}: {'a' * 8000}\r\n" for n in range(5))), 431, "headers_too_large"),
    "one field without end": (lambda path: request_with(path, "x: " + "a" * (1 << 20)), 431, "headers_too_large"),
}


@both
@pytest.mark.parametrize("what", TOO_LARGE)
def test_t31_heads_over_a_limit_are_refused(edge, holds, listener, what):
    make, status, code = TOO_LARGE[what]
    request = make(edge.path("echo") if listener == "functions" else "/api/v1/identity")
    for answer in all_at_once(lambda _: Answer(exchange(getattr(edge, listener), request)), range(40)):
        # What is sent on after the refusal can make the kernel drop it.
        assert answer.status == status or (answer.status == 0 and len(request) > 128 << 10), answer.text
        assert not answer.status or (answer.code == code and answer.error["request_id"]), answer.text


def test_t31_heads_at_the_limit_pass_and_one_more_does_not(edge, holds):
    path = edge.path("echo")
    for target, status in ((16 << 10, 200), ((16 << 10) + 1, 414)):
        assert Answer(exchange(edge.functions, request_with(path + "?" + "a" * (target - len(path) - 1)))).status == status
    for count, status in ((100, 200), (101, 431)):
        assert Answer(exchange(edge.functions, request_with(path, "".join(f"x-{n}: 1\r\n" for n in range(count - 2))))).status == status
    used = len("hosth") + len("connectionclose") + len("x-a")
    for size, status in ((32 << 10, 200), ((32 << 10) + 1, 431)):
        assert Answer(exchange(edge.functions, request_with(path, f"x-a: {'a' * (size - used)}\r\n"))).status == status


def test_t31_a_body_at_the_limit_passes_and_floods_are_refused(edge, holds):
    def post(body, framing):
        return Answer(exchange(edge.functions, request_with(edge.path("sink"), framing, "POST") + body))

    assert post(bytes(1 << 20), f"Content-Length: {1 << 20}\r\n").status == 200
    for answer in all_at_once(lambda length: post(b"", f"Content-Length: {length}\r\n"), [(1 << 20) + 1, 1 << 40, (1 << 63) - 1]):
        assert answer.status == 413 and answer.code == "payload_too_large", answer.text

    def flood(_):
        with connect(edge.functions) as stream:
            stream.sendall(request_with(edge.path("sink"), "Transfer-Encoding: chunked\r\n", "POST"))
            sent = push(stream, b"10000\r\n" + bytes(65_536) + b"\r\n", 3000)
            return sent, read_all(stream)

    for sent, answer in all_at_once(flood, range(3)):
        assert sent < 3000 and (not answer or Answer(answer).status == 413), f"{sent}: {answer[:500]}"


def test_t31_a_table_of_http2_fields_does_not_blow_up(edge, holds):
    """One field of four kilobytes, kept in the table, and then named again in a byte, thousands of times."""
    for _ in range(5):
        with Http2(edge.functions) as attack:
            block = attack.request(1, edge.path("echo"), more=[("x-bomb", "a" * 3900)])[9:]
            for stream in range(1, 200, 2):
                attack.send(frame(HEADERS, END_STREAM | END_HEADERS, stream, block if stream == 1 else b"\x82\x86" + b"\xbe" * 16_000))
            attack.read(1)
            assert attack.until(GOAWAY, RST_STREAM, HEADERS) or attack.closed


# T35 and what else is said of a request.


def test_t35_nothing_that_a_caller_says_of_itself_is_believed(edge, holds):
    forged = "".join(f"{name}: {value}\r\n" for name, value in [
        ("X-Forwarded-For", "6.6.6.6"), ("x-forwarded-for", "7.7.7.7"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "evil.test"), ("X-Forwarded-Port", "666"), ("X-Forwarded-Server", "evil.test"),
        ("X-Forwarded-User", "root"), ("Forwarded", "for=6.6.6.6;host=evil.test"), ("X-Real-IP", "6.6.6.6"), ("Dunlin-Request-Id", "evil"), ("dunlin-claim-sub", "root"), ("DUNLIN-Path-Id", "evil"), ("Proxy", "http://evil.test")])
    seen = edge.get("environment", headers=forged).text
    assert "6.6.6.6" not in seen and "7.7.7.7" not in seen and "evil" not in seen and "root" not in seen and "=666" not in seen, seen
    assert "HTTP_X_FORWARDED_FOR=127.0.0.1\0" in seen and "HTTP_X_FORWARDED_PROTO=http\0" in seen and "HTTP_X_FORWARDED_HOST=h\0" in seen, seen
    assert "REMOTE_ADDR=127.0.0.1\0" in seen
    with Http2(edge.functions) as caller:
        caller.send(caller.request(1, edge.path("environment"), more=[("x-forwarded-for", "6.6.6.6"), ("forwarded", "for=6.6.6.6"), ("dunlin-request-id", "evil")]))
        caller.until(DATA)
        seen = b"".join(got[3] for got in caller.frames if got[0] == DATA)
    assert b"HTTP_X_FORWARDED_FOR=127.0.0.1\0" in seen and b"6.6.6.6" not in seen and b"evil" not in seen


@pytest.mark.parametrize("own", ["order-7", "a" * 128, "~!#$%&'*+/=?^`{|}<b>\"7\"", "0198c5b2-7a43-7000-8000-3f1f6d1c1a2b"])
def test_a_callers_own_request_id_is_repeated_and_found(edge, own, cli_of):
    answer = edge.get("echo", headers=f"X-Request-Id: {own}\r\n")
    platform = answer.headers["dunlin-request-id"]
    assert answer.status == 200 and answer.headers["x-request-id"] == own and uuid.UUID(platform).version == 7 and platform != own
    name = f"namespaces/{edge.namespace}/functions/echo"
    for request_id in (own, platform):
        found = eventually(lambda: edge.api.call("InvocationService.ListInvocations", parent=name, request_id=request_id)["invocations"], what="the record")
        assert [(record["name"].rpartition("/")[2], record["request_id"]) for record in found] == [(platform, own)]
    with edge.cluster.rest() as rest:
        found = rest.get(f"/api/v1/namespaces/{edge.namespace}/invocations", params={"request_id": own}).json()["invocations"]
        assert [record["request_id"] for record in found] == [own]
        assert rest.get(f"/api/v1/namespaces/{edge.namespace}/invocations", params={"request_id": "x" * 129}).status_code == 400
    assert [call["request_id"] for call in cli_of(edge).ok("invocations", "echo", "--namespace", edge.namespace, "--request-id", own, "-o", "json").json] == [own]


@pytest.fixture
def cli_of(tmp_path):
    return lambda edge: Cli(tmp_path, edge.admin, edge.cluster.token)


@pytest.mark.parametrize("own", ["", "a" * 129, "a b", "a\tb", "\xe9"])
def test_a_request_id_that_is_too_long_or_odd_is_as_none(edge, own):
    answer = Answer(exchange(edge.functions, f"GET {edge.path('echo')} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX-Request-Id: {own}\r\n\r\n".encode("latin-1")))
    platform = answer.headers["dunlin-request-id"]
    assert answer.status == 200 and answer.headers["x-request-id"] == platform and uuid.UUID(platform).version == 7
    record = eventually(lambda: edge.api.call("InvocationService.ListInvocations", parent=f"namespaces/{edge.namespace}/functions/echo", request_id=platform)["invocations"], what="the record")[0]
    assert record["request_id"] == ""


@both
def test_an_error_repeats_the_callers_id_and_has_the_platforms(edge, listener):
    answer = Answer(exchange(getattr(edge, listener), request_with("/api/v1/nothing", "X-Request-Id: mine\r\n")))
    assert answer.status == 404 and answer.headers["x-request-id"] == "mine", answer.text
    assert answer.error["request_id"] == answer.headers["dunlin-request-id"] and uuid.UUID(answer.error["request_id"]).version == 7


@both
def test_a_websocket_is_refused_with_a_hint(edge, listener):
    upgrade = "Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    request = f"GET {edge.path('echo')} HTTP/1.1\r\nHost: h\r\nConnection: close, Upgrade\r\n{upgrade}\r\n"
    answer = Answer(exchange(getattr(edge, listener), request.encode()))
    assert (answer.status, answer.code) == (501, "not_implemented") and "text/event-stream" in answer.error["hint"], answer.text


@pytest.mark.parametrize("version", [1, 2])
def test_events_pass_as_they_come(edge, version):
    """The second one is made twenty seconds later."""
    if version == 2:
        with Http2(edge.functions) as caller:
            caller.send(caller.request(1, edge.path("events")))
            assert caller.until(DATA, seconds=10)[3] == b"data: first\n\n"
        return
    with connect(edge.functions, seconds=10) as stream:
        stream.sendall(f"GET {edge.path('events')} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        received = b""
        while b"data: first\n\n" not in received:
            received += stream.recv(65536)
        assert b"text/event-stream" in received.lower() and b"second" not in received


# T36: credentials that are tried out.


def test_t36_bad_keys_cost_no_more_than_good_ones(edge, holds):
    """Four hundred keys that nobody has at a function, and as many tokens at administration: each a 401, none expensive."""
    edge.api.deploy(edge.namespace, "private", guests.answer("x"), public=False)
    eventually(lambda: edge.get("private").status == 401, what="the function")

    def guess(worker):
        statuses = []
        with httpx.Client(timeout=20) as client:
            for n in range(40):
                statuses.append(client.get(edge.functions + edge.path("private"), headers={"X-Api-Key": f"dk_{worker:08}{n:024}"}).status_code)
                statuses.append(client.get(edge.admin + "/api/v1/identity", headers={"Authorization": f"Bearer {worker}.{n}.x"}).status_code)
        return statuses

    statuses = list(itertools.chain.from_iterable(all_at_once(guess, range(10))))
    assert set(statuses) <= {401, 429} and 401 in statuses
