"""Requests that could be divided in two ways (T32), and frames of HTTP/2 that cost their sender next to nothing (T33), against a
gateway that goes on serving others."""

import contextlib
import itertools
import struct

import pytest

from harness.cluster import eventually
from harness.edge import all_at_once, both, edge, holds  # noqa: F401
from harness.wire import (ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, Answer, Http2, exchange, frame,
                          push)


# T32: requests that could be divided in two ways.

SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
N = len(SMUGGLED)
ODD = [
    ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", f"0\r\n\r\n{SMUGGLED}"),
    ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", f"0\r\n\r\n{SMUGGLED}"),
    (f"transfer-encoding: chunked\r\ncontent-length: {N + 5}\r\n", f"0\r\n\r\n{SMUGGLED}"),
    (f"Content-Length: {N}\r\nContent-Length: 0\r\n", SMUGGLED),
    (f"Content-Length: {N}\r\nContent-Length: {N}\r\n", SMUGGLED),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", f"0\r\n\r\n{SMUGGLED}"),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", f"0\r\n\r\n{SMUGGLED}"),
    *((f"Content-Length: {value}\r\n", SMUGGLED) for value in (f"+{N}", "-1", f"0x{N:x}", f"{N}, {N}", f"0,{N}", f"{N} {N}", "", f"{N};", "1e1", f"{N}.0", "9" * 30, f"\x0b{N}", f'"{N}"')),
    *((f"Transfer-Encoding: {value}\r\n", f"0\r\n\r\n{SMUGGLED}") for value in
      ("identity", "gzip, chunked", "chunked, identity", "chunked, chunked", "xchunked", "chunkedx", '"chunked"', "chunked;q=1", "\x0bchunked", "", "chunked,")),
    (f"Content-Length : {N}\r\n", SMUGGLED), (f"Content-Length\t: {N}\r\n", SMUGGLED), ("Transfer-Encoding : chunked\r\n", f"0\r\n\r\n{SMUGGLED}"),
    (f" Content-Length: {N}\r\n", SMUGGLED), (f"X-A: b\r\n Content-Length: {N}\r\n", SMUGGLED), (f"X-A: b\r\n\tfolded\r\nContent-Length: {N}\r\n", SMUGGLED),
    (f"Content-Length:\r\n {N}\r\n", SMUGGLED), ("Transfer-Encoding:\r\n chunked\r\n", f"0\r\n\r\n{SMUGGLED}"),
    (f"X-A: b\nContent-Length: {N}\r\n", SMUGGLED), (f"X-A: b\rContent-Length: {N}\r\n", SMUGGLED), (f"X-A: b\0Content-Length: {N}\r\n", SMUGGLED), (f"Content-Length\0: {N}\r\n", SMUGGLED),
    ("no colon\r\n", SMUGGLED), (": no name\r\n", SMUGGLED), ("\x7f: x\r\n", SMUGGLED), ("Host: other\r\n", SMUGGLED), ("Host: h\r\n", SMUGGLED),
    *(("Transfer-Encoding: chunked\r\n", f"{size}{SMUGGLED}") for size in
      ("-1\r\n", "+0\r\n\r\n", "0x0\r\n\r\n", " 0\r\n\r\n", "0 \r\n\r\n", "0\t\r\n\r\n", "\r\n0\r\n\r\n", "g\r\n", "0\n\n", "0\n\r\n", "0\r\n\n", "0;\n\r\n", "1;x=\ny\r\na\r\n0\r\n\r\n", "f" * 17 + "\r\n",
       "1" + "0" * 16 + "\r\n", "0\r\r\n\r\n", "5\r\nhello0\r\n\r\n", "5\r\nhello\n0\r\n\r\n", "5\r\nhelloXX0\r\n\r\n", "2,2\r\nab\r\n0\r\n\r\n", "0_0\r\n\r\n")),
]
LINES = ["POST {path} HTTP/1.1\nHost: h\r\n", "POST  {path} HTTP/1.1\r\nHost: h\r\n", "POST {path}  HTTP/1.1\r\nHost: h\r\n", "POST\t{path} HTTP/1.1\r\nHost: h\r\n", "POST {path} HTTP/1.1 \r\nHost: h\r\n", "POST {path}\r\nHost: h\r\n",
         "POST {path} HTTP/2.0\r\nHost: h\r\n", "POST {path} HTTP/1.2\r\nHost: h\r\n", "POST {path} http/1.1\r\nHost: h\r\n", "PO ST {path} HTTP/1.1\r\nHost: h\r\n", "POST {path} HTTP/1.1\r\n",
         "POST http://other{path} HTTP/1.1\r\nHost: h\r\n", "POST http://user@h{path} HTTP/1.1\r\nHost: h\r\n", "POST {path}#f HTTP/1.1\r\nHost: h\nX: y\r\n", "POST {path} HTTP/1.1\r\nHost: h@other\r\n",
         "POST {path} HTTP/1.1\r\nHost: \r\n", "POST {path} HTTP/1.1\r\nHost : h\r\n", "POST {path} HTTP/1.1\r\nHost: h, other\r\n", "POST {path} HTTP/1.1\r\nHost: h other\r\n", "POST {path} HTTP/1.0\r\nTransfer-Encoding: chunked\r\nHost: h\r\n"]


@both
def test_t32_no_request_hides_in_another(edge, holds, listener):
    """Behind each attack, on the same connection, comes somebody else's request, which must not be answered with what is not its own."""
    url, path = getattr(edge, listener), edge.path("echo") if listener == "functions" else "/api/v1/identity"
    victim = "GET /victim HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    attacks = [f"POST {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n{rest}{victim}" for fields, rest in ODD]
    attacks += [line.format(path=path) + f"Content-Length: 0\r\n\r\n{SMUGGLED}{victim}" for line in LINES]
    wrong = []
    for attack, received in zip(attacks, itertools.chain.from_iterable(all_at_once(lambda attack: exchange(url, attack.encode("latin-1")), part) for part in batches(attacks, 20))):
        # One answer, which says so, or none at all. (405 is said of a head before what is odd in its body has come.)
        if received and (received.count(b"HTTP/1.1 ") != 1 or Answer(received).status not in (400, 405, 502) or b"/smuggled" in received or b"/victim" in received):
            wrong.append((attack[:-len(victim)], received[:600]))
    assert not wrong, "\n".join(map(str, wrong))
    if listener == "functions":
        assert not [record for record in edge.invocations("echo") if record["outcome"] == "ok" and record["method"] == "POST" and record["path"] != "/"]


def batches(items, size):
    return [items[at:at + size] for at in range(0, len(items), size)]


def test_t32_what_is_said_in_one_way_is_understood(edge, holds):
    """All spellings that RFC 9112 allows, twice on one connection and then a last request."""
    bodies = [("Content-Length: 5", "hello"), ("content-length:   5\t", "hello"), ("Content-Length: 0005", "hello"), ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"), ("TRANSFER-ENCODING:chunked", "0005\r\nhello\r\n0\r\n\r\n"),
              ("Transfer-Encoding: Chunked", "5;x\r\nhello\r\n0;y=z\r\n\r\n"), ("Transfer-Encoding: chunked", '5;x="y;z"\r\nhello\r\n000\r\n\r\n'), ("Transfer-Encoding: chunked", "2\r\nhe\r\n3\r\nllo\r\n0\r\nX-Trailer: y\r\n\r\n")]
    for field, body in bodies:
        request = f"POST {edge.path('echo')} HTTP/1.1\r\nHost: h\r\n{field}\r\n\r\n{body}"
        last = f"GET {edge.path('environment')} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        received = exchange(edge.functions, f"{request}{request}\r\n{last}".encode())
        assert received.count(b"HTTP/1.1 200 OK") == 3 and received.count(b"hello") == 2 and b"REQUEST_METHOD=GET" in received, f"{field} {body}: {received}"
    absolute = f"GET http://h{edge.path('environment')} HTTP/1.1\r\nHost: H\r\nConnection: close\r\n\r\n"
    assert Answer(exchange(edge.functions, absolute.encode())).status == 200


def refusal(edge, path, more=()):
    """How a request over HTTP/2 is refused: a status, or nothing where its stream or connection was ended."""
    with Http2(edge.functions) as attack:
        attack.send(attack.request(1, path, more=more))
        first = attack.until(HEADERS, RST_STREAM, GOAWAY)
        return attack.status(1) if first and first[0] == HEADERS else None


def test_t32_nothing_odd_gets_through_http2(edge, holds):
    path = edge.path("environment")
    fields = [[("connection", "close")], [("transfer-encoding", "chunked")], [("X-Upper", "1")], [("x-a", "b\r\nx-evil: 1")], [("x-a", "b\0c")], [("x:a", "b")], [("x a", "b")], [("x-a", " b")], [("x-a", "b\t")], [("te", "gzip")],
              [("content-length", "5")], [("content-length", "0"), ("content-length", "5")], [(":path", "/other")], [(":status", "200")], [("host", "other")]]
    for odd, refused in zip(fields, all_at_once(lambda more: refusal(edge, path, more), fields)):
        assert refused in (None, 400), f"{odd}: {refused}"
    paths = ["", "*", "no-slash", "/a b", "/\x01", "http://other/"]
    for odd, refused in zip(paths, all_at_once(lambda path: refusal(edge, path), paths)):
        assert refused in (None, 400, 404), f"{odd!r}: {refused}"


# T33: frames of HTTP/2.


def ended(attack, seconds=20):
    """Whether the gateway puts an end to it."""
    return attack.closed or attack.until(GOAWAY, seconds=seconds) is not None or attack.is_ended(1)


@both
def test_t33_rapid_resets_end_their_connection(edge, holds, listener):
    path = edge.path("sleep") if listener == "functions" else "/api/v1/identity"
    with Http2(getattr(edge, listener)) as attack:
        for stream in range(1, 20_001, 2):
            if not attack.send(attack.request(stream, path) + frame(RST_STREAM, 0, stream, struct.pack(">I", 8))):
                break
            attack.read(0)
        if listener == "functions":
            assert ended(attack), "ten thousand calls were begun and taken back"
    if listener == "functions":
        eventually(lambda: edge.api.call("ClusterService.ListWorkers")["workers"][0]["in_flight"] < 3, what="the worker being free again")


def test_t33_resets_that_the_gateway_is_made_to_send_end_their_connection(edge, holds):
    for provoke in (lambda stream: frame(WINDOW_UPDATE, 0, stream, bytes(4)), lambda stream: frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 2**31 - 1)),
                    lambda stream: frame(DATA, END_STREAM, stream, b"x"), lambda stream: frame(HEADERS, END_STREAM | END_HEADERS, stream, b"\x82")):
        with Http2(edge.functions) as attack:
            for stream in range(1, 10_001, 2):
                if not attack.send(attack.request(stream, edge.path("sleep")) + provoke(stream)):
                    break
                attack.read(0)
            assert ended(attack)


@both
def test_t33_headers_that_continue_without_end_are_cut(edge, holds, listener):
    for piece in (b"", bytes(1), b"\x40\x01a\x01b" * 3000):
        with Http2(getattr(edge, listener)) as attack:
            attack.send(frame(HEADERS, END_STREAM, 1, b"\x82\x86"))
            continued = frame(CONTINUATION, 0, 1, piece)
            per_send = max(1, 65_536 // len(continued))
            push(attack.stream, continued * per_send, 3000)
            assert attack.is_ended(30), f"{len(piece)} bytes a frame went on"


FLOODS = {
    "settings": frame(SETTINGS),
    "settings that change a table": frame(SETTINGS, payload=struct.pack(">HI", 1, 0)) + frame(SETTINGS, payload=struct.pack(">HI", 1, 4096)),
    "pings": frame(PING, payload=bytes(8)),
    "answers to pings": frame(PING, ACK, payload=bytes(8)),
    "windows": frame(WINDOW_UPDATE, payload=struct.pack(">I", 1)),
    "priorities": frame(2, 0, 1, struct.pack(">IB", 3, 1)),
    "frames that nobody knows": frame(0xBE, payload=bytes(8)),
}


@both
@pytest.mark.parametrize("what", FLOODS)
def test_t33_frames_without_a_request_are_cheap(edge, holds, listener, what):
    """A hundred thousand frames to somebody who reads no answer to them: they are taken, or the connection is not read on or ended."""
    with Http2(getattr(edge, listener), receive_buffer=4096) as attack:
        push(attack.stream, FLOODS[what] * 1000, 100)


def test_t33_empty_pieces_of_a_body_are_cheap(edge, holds):
    """To a function that reads them, and to one that does not."""
    for function in ("sink", "sleep"):
        for flags, payload in ((0, b""), (8, bytes(1)), (8, b"\xff" + bytes(255))):
            with Http2(edge.functions) as attack:
                attack.send(attack.request(1, edge.path(function), "POST", end=False))
                push(attack.stream, frame(DATA, flags, 1, payload) * 1000, 100)


def test_t33_windows_of_nothing_hold_nothing_for_long(edge, holds):
    """Three hundred megabytes are asked for, and none is taken, by a caller that answers every ping."""
    with contextlib.ExitStack() as held:
        attacks = [held.enter_context(Http2(edge.functions, settings=[(4, 0)])) for _ in range(4)]
        for attack in attacks:
            for stream in range(1, 33, 2):
                attack.send(attack.request(stream, edge.path("big")))
        ends = all_at_once(lambda attack: attack.is_ended(40), attacks)
        assert all(ends), ends
        assert not [got for attack in attacks for got in attack.frames if got[0] == DATA and got[3]]


def test_t33_a_window_too_large_is_an_error_of_its_own_connection(edge, holds):
    for broken in (frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 2**31 - 1)), frame(WINDOW_UPDATE, 0, 0, bytes(4)), frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 2**31)), frame(SETTINGS, 0, 0, b"x"), frame(DATA, 0, 0, b"x"),
                   frame(HEADERS, END_HEADERS, 2, b"\x82"), frame(HEADERS, END_HEADERS, 1, b"\xff" * 20), frame(PING, 0, 0, b"x"), frame(PING, 0, 1, bytes(8)), frame(CONTINUATION, END_HEADERS, 1, b"\x82"),
                   b"\xff\xff\xff" + frame(DATA)[3:]):
        with Http2(edge.functions) as attack:
            attack.send(broken)
            assert ended(attack), broken


def test_t33_a_slow_reader_of_a_large_answer_holds_back_only_itself(edge, holds):
    with Http2(edge.functions) as attack:
        attack.send(attack.request(1, edge.path("big")))
        assert attack.status(1) == 200
        taken = 0
        for _ in range(14):
            attack.send(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 20_000)) + frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 20_000)))
            taken = sum(len(got[3]) for got in attack.read(0.05).frames if got[0] == DATA)
        assert 0 < taken <= 65_535 + 14 * 20_000 and not attack.closed
