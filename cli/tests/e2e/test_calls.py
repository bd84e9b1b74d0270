"""Calls that are more than one request and one answer: trailers both ways, over both versions of HTTP, and limits of concurrency."""

import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events
import pytest

from harness.cluster import eventually


@pytest.fixture
def echo(api, namespace, probe, call_when_ready):
    """The path of a function that echoes body and trailers."""
    api.deploy(namespace, "echo", probe)
    call_when_ready(f"/{namespace}/echo/")
    return f"/{namespace}/echo/trailers"


def connect(cluster):
    address = urlsplit(cluster.gateways[0]["functions"])
    return socket.create_connection((address.hostname, address.port), timeout=20)


def read_all(stream):
    received = b""
    while data := stream.recv(65536):
        received += data
    return received


@pytest.mark.parametrize("when", ["", "?late"])
@pytest.mark.parametrize("te,sent", [("TE: trailers\r\n", True), ("", False)])
def test_trailers_pass_both_ways_over_http1_where_the_caller_takes_them(cluster, echo, te, sent, when):
    with connect(cluster) as stream:
        stream.sendall(f"POST {echo}{when} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{te}Trailer: x-asked\r\nTransfer-Encoding: chunked\r\n\r\n"
                       "5\r\nhello\r\n0\r\nX-Asked: why not\r\n\r\n".encode())
        answer = read_all(stream).decode().lower()
    head, _, body = answer.partition("\r\n\r\n")
    assert head.startswith("http/1.1 200") and "transfer-encoding: chunked" in head, answer
    assert body.startswith("5\r\nhello\r\n0\r\n"), answer
    assert ("x-asked: why not" in body and "x-length: 5" in body) == sent, answer


def test_trailers_pass_both_ways_over_http2(cluster, echo):
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    connection.initiate_connection()
    connection.send_headers(1, [(":method", "POST"), (":scheme", "http"), (":authority", "h"), (":path", echo)])
    connection.send_data(1, b"hello")
    # T44: what only a head may say stays behind.
    forged = [("dunlin-principal", "root"), ("x-forwarded-for", "1.2.3.4"), ("x-api-key", "k"), ("cookie", "a=b")]
    connection.send_headers(1, [("x-asked", "why not"), *forged], end_stream=True)
    seen = []
    with connect(cluster) as stream:
        while not any(isinstance(event, h2.events.StreamEnded) for event in seen):
            stream.sendall(connection.data_to_send())
            data = stream.recv(65536)
            assert data, seen
            seen += connection.receive_data(data)
    trailers = [dict(event.headers) for event in seen if isinstance(event, h2.events.TrailersReceived)]
    assert b"".join(event.data for event in seen if isinstance(event, h2.events.DataReceived)) == b"hello"
    assert trailers == [{"x-asked": "why not", "x-length": "5"}]


def test_more_calls_than_a_function_may_have_at_once_are_refused_with_429(cluster, api, namespace, probe, call_when_ready):
    api.deploy(namespace, "narrow", probe, spec={"scaling": {"max_sandboxes": 1, "max_workers": 1}})
    call_when_ready(f"/{namespace}/narrow/")
    # So many that some find no room also where the machine stops the callers while the first calls are served.
    with ThreadPoolExecutor(24) as pool, cluster.http() as client:
        answers = list(pool.map(lambda _: client.get(f"/{namespace}/narrow/hold", params={"ms": "300"}), range(24)))
    refused = [answer for answer in answers if answer.status_code != 200]
    # One runs, ten wait in line for it.
    assert len(answers) - len(refused) >= 11 and refused, [answer.status_code for answer in answers]
    for answer in refused:
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (429, "too_many_requests") and "limit of 1 sandbox" in error["message"], answer.text
        assert int(answer.headers["retry-after"]) >= 1
    eventually(lambda: call_when_ready(f"/{namespace}/narrow/").status_code == 200, what="a free place")
