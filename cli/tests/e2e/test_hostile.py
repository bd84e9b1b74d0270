"""Guests that mean harm, on a live cluster, while a function of another tenant keeps answering. Ids are those of the threats."""

import re
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from conftest import CANARY, new_namespace
from harness import guests
from harness.cluster import eventually
from harness.servers import Authority, Server, reply

pytestmark = pytest.mark.usefixtures("processes_survive", "neighbour")


def limits(**values):
    return {"limits": values}


@pytest.fixture
def attack(api, namespace, call_when_ready):
    """Deploys a guest and calls it once; returns its answer and how long that took."""
    def run(name, wasm, method="GET", spec=None, **options):
        api.deploy(namespace, name, wasm, spec=spec or {})
        began = time.monotonic()
        answer = call_when_ready(f"/{namespace}/{name}/", method, **options)
        return answer, time.monotonic() - began

    return run


def error(answer):
    found = answer.json()["error"]
    assert set(found) >= {"code", "message", "request_id"} and found["message"], found
    return found


def test_t01_an_endless_loop_ends_when_its_cpu_time_is_up(attack):
    answer, took = attack("spin", guests.LOOP, spec=limits(cpu_time="0.5s", timeout="20s"))
    assert answer.status_code == 504 and error(answer)["code"] == "deadline_exceeded", answer.text
    assert took < 15, f"took {took:.1f} s, and the wall time is up after 20"


def test_t01_an_endless_loop_ends_when_its_wall_time_is_up(attack):
    answer, took = attack("spin", guests.LOOP, spec=limits(timeout="1s"))
    assert answer.status_code == 504 and took < 8, f"took {took:.1f} s, and the CPU time is up after 10"


def test_t01_many_endless_loops_leave_room_for_others(cluster, api, namespace, call_when_ready, neighbour):
    api.deploy(namespace, "spin", guests.LOOP, spec=limits(cpu_time="0.3s", timeout="20s"))
    call_when_ready(f"/{namespace}/spin/")
    with ThreadPoolExecutor(32) as pool, cluster.http() as client:
        answers = list(pool.map(lambda _: client.get(f"/{namespace}/spin/").status_code, range(32)))
    assert set(answers) <= {504, 429, 503} and 504 in answers
    assert neighbour.calls > 0


def test_t02_a_blocked_host_call_ends_when_the_time_is_up(attack):
    answer, took = attack("sleep", guests.SLEEP, spec=limits(timeout="1s"))
    assert answer.status_code == 504 and error(answer)["code"] == "deadline_exceeded"
    assert 0.9 < took < 15, f"took {took:.1f} s, where it would have slept for an hour"


def test_t02_host_calls_without_end_are_cut(attack):
    answer, took = attack("calls", guests.HOST_CALLS, spec=limits(cpu_time="0.5s", timeout="20s"))
    assert answer.status_code == 504 and took < 15, f"{answer.status_code} took {took:.1f} s"


def test_t03_filling_memory_over_and_over_is_cut(attack):
    answer, took = attack("fill", guests.MEMORY_FILL, spec=limits(cpu_time="0.5s", timeout="20s"))
    assert answer.status_code == 504 and took < 15, f"{answer.status_code} took {took:.1f} s"


def test_t04_a_memory_bomb_gets_its_limit_and_no_more(cluster, attack):
    before = {name: cluster.memory(name) for name in ("worker-1", "worker-2")}
    answer, _ = attack("bomb", guests.MEMORY_BOMB, spec=limits(memory_bytes=64 << 20))
    assert answer.status_code == 502 and error(answer)["code"] == "memory_exceeded", answer.text
    for name, memory in before.items():
        assert cluster.memory(name) - memory < 200, f"{name} grew from {memory:.0f} to {cluster.memory(name):.0f} MiB"


def test_t05_a_stack_overflow_is_the_guests_own_end(attack, caller, namespace):
    answer, _ = attack("deep", guests.STACK)
    assert answer.status_code == 502 and error(answer)["code"] == "function_failed", answer.text
    for _ in range(50):
        assert caller.get(f"/{namespace}/deep/").status_code == 502


def test_t06_a_table_does_not_grow_without_end(attack):
    answer, _ = attack("table", guests.TABLE)
    assert answer.status_code == 200 and answer.text.startswith("ffffffff") or answer.status_code == 502, answer.text


def test_t09_a_log_flood_is_cut_and_counted(api, namespace, attack):
    answer, _ = attack("flood", guests.LOG_FLOOD, spec=limits(cpu_time="20s"))
    assert answer.status_code == 200, answer.text
    name = f"namespaces/{namespace}/functions/flood"
    read = lambda: [event["line"] for event in api.stream("LogService.ReadLogs", parent=name, lines=10_000) if "line" in event]  # noqa: E731
    # Lines are written after the answer, with how much was dropped.
    lines = eventually(lambda: (lines := read()) and sum(int(line["dropped_bytes"]) for line in lines) > 1 << 20 and lines, what="what was dropped being counted")
    assert sum(len(line["text"]) for line in lines) <= 65 << 10
    assert max(len(line["text"]) for line in lines) <= 16 << 10


def test_t10_an_endless_answer_is_cut_at_its_limit(cluster, api, namespace, call_when_ready):
    api.deploy(namespace, "endless", guests.ENDLESS_ANSWER, spec=limits(response_body_bytes=1 << 20))
    call_when_ready(f"/{namespace}/endless/", "HEAD")
    received = 0
    with cluster.http() as client:
        try:
            with client.stream("GET", f"/{namespace}/endless/") as answer:
                if answer.status_code != 200:
                    assert answer.status_code == 502
                for chunk in answer.iter_bytes():
                    received += len(chunk)
                assert answer.status_code == 502, "an answer that was cut must not look complete"
        except httpx.HTTPError:
            pass
    assert received <= (1 << 20) + (64 << 10)
    name = f"namespaces/{namespace}/functions/endless"
    records = eventually(lambda: [r for r in api.call("InvocationService.ListInvocations", parent=name)["invocations"] if r["method"] == "GET"], what="the record")
    assert records[0]["outcome"] == "response_too_large"


def test_t10_empty_writes_without_end_are_cut(cluster, attack):
    before = cluster.memory("worker-1"), cluster.memory("worker-2")
    began = time.monotonic()
    try:
        attack("empty", guests.EMPTY_WRITES, spec=limits(cpu_time="1s", timeout="5s"))
    except httpx.HTTPError:
        pass  # The answer had begun, so that it can only be broken off.
    assert time.monotonic() - began < 30, "it was not cut, deploy and all"
    after = cluster.memory("worker-1"), cluster.memory("worker-2")
    assert all(b - a < 100 for a, b in zip(before, after)), f"{before} became {after}"


def test_t10_a_reader_that_does_not_read_holds_back_only_itself(cluster, api, namespace, call_when_ready):
    big = guests.command("(local $i i32) (call $head) (loop $on (call $say (i32.const 1024) (i32.const 60000))"
                         " (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $on (i32.lt_u (local.get $i) (i32.const 90))))")
    api.deploy(namespace, "big", big)
    assert len(call_when_ready(f"/{namespace}/big/").content) == 90 * 60000
    with cluster.http() as slow, cluster.http() as quick:
        with slow.stream("GET", f"/{namespace}/big/") as answer:
            next(answer.iter_bytes())
            for _ in range(10):
                assert len(quick.get(f"/{namespace}/big/").content) == 90 * 60000


BAD_ANSWERS = {
    "not cgi": b"just text, no head",
    "no empty line": b"Content-Type: text/plain\r\n",
    "bad header": b"Bad Header: x\r\n\r\nbody",
    "null in a value": b"X-A: a\0b\r\n\r\nbody",
    "informational": b"Status: 101 Switching\r\nUpgrade: websocket\r\n\r\n",
    "status beyond": b"Status: 999999\r\n\r\n",
    "huge head": b"X-A: " + b"a" * (200 << 10) + b"\r\n\r\n",
    "many headers": b"".join(b"X-%d: 1\r\n" % i for i in range(5000)) + b"\r\n",
}


@pytest.mark.parametrize("what", BAD_ANSWERS)
def test_t11_a_malformed_answer_becomes_a_clear_502(attack, what):
    answer, _ = attack("bad", guests.raw(BAD_ANSWERS[what]))
    assert answer.status_code == 502 and error(answer)["code"] == "function_failed", answer.text


def test_t11_framing_is_the_gateways_and_not_the_guests(cluster, api, namespace, call_when_ready):
    lies = {
        "long": b"Content-Type: text/plain\r\nContent-Length: 500\r\n\r\nshort",
        "chunked": b"Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "hop": b"Content-Type: text/plain\r\nConnection: close, x-secret\r\nKeep-Alive: timeout=1\r\nX-Secret: 1\r\n\r\nbody",
    }
    for name, output in lies.items():
        api.deploy(namespace, name, guests.raw(output))
    with cluster.http() as client:
        call_when_ready(f"/{namespace}/chunked/", client=client)
        chunked = client.get(f"/{namespace}/chunked/")
        assert chunked.content == b"5\r\nhello\r\n0\r\n\r\n" or chunked.status_code == 502
        hop = call_when_ready(f"/{namespace}/hop/", client=client)
        assert hop.text == "body" and "keep-alive" not in hop.headers and "close" not in hop.headers.get("connection", "")
        try:
            assert call_when_ready(f"/{namespace}/long/", client=client).status_code == 502
        except httpx.RemoteProtocolError:
            pass  # Broken off: what the caller got must not look complete.
        assert client.get(f"/{namespace}/hop/").text == "body", "the connection, or a new one, is sound"


def test_t12_the_hosts_environment_and_files_are_out_of_sight(attack, call_when_ready, api, namespace):
    answer, _ = attack("env", guests.ENVIRONMENT, spec={"environment": {"DECLARED": "yes"}})
    variables = dict(entry.split("=", 1) for entry in answer.text.split("\0") if entry)
    assert variables.pop("DECLARED") == "yes"
    known = re.compile(r"(GATEWAY_INTERFACE|SERVER_\w+|REQUEST_\w+|SCRIPT_NAME|PATH_INFO|PATH_TRANSLATED|QUERY_STRING|CONTENT_\w+|REMOTE_\w+|HTTP_\w+)$")
    assert not [name for name in variables if not known.match(name)], variables
    assert CANARY not in answer.text and "HTTP_PROXY" not in variables
    api.deploy(namespace, "host", guests.HOST)
    codes = call_when_ready(f"/{namespace}/host/").text.split()
    assert int(codes[0], 16) == 8, "there is no folder to begin with (EBADF)"
    assert all(int(code, 16) != 0 for code in codes[1:7]), f"a file was opened: {codes}"


def test_t12_a_proxy_header_does_not_become_a_variable(attack):
    answer, _ = attack("env", guests.ENVIRONMENT, headers={"Proxy": "http://evil/", "X_Under": "1", "X-Fine": "2"})
    assert "HTTP_PROXY" not in answer.text and "HTTP_X_FINE=2" in answer.text and "HTTP_X_UNDER" not in answer.text


def test_t14_nothing_of_another_tenant_is_left_in_a_sandbox(cluster, api, namespace, call_when_ready):
    other = new_namespace(api)
    api.deploy(namespace, "leave", guests.LEAVE)
    api.deploy(other, "scan", guests.SCAN, spec=limits(cpu_time="20s"))
    call_when_ready(f"/{namespace}/leave/")
    call_when_ready(f"/{other}/scan/")
    with cluster.http() as client:
        for _ in range(20):
            assert client.get(f"/{namespace}/leave/").status_code == 502
            found, looked = (int(word, 16) for word in client.get(f"/{other}/scan/").text.split())
            assert looked == 4915200 and found == 0, f"{found} words were left behind"


@pytest.mark.parametrize("guest,said", [("TRAP", "function_failed"), ("EXIT", "function_failed"), ("SILENT", "function_failed")])
def test_a_guest_that_fails_is_told_apart_from_the_platform(attack, guest, said):
    answer, _ = attack("fails", getattr(guests, guest))
    assert answer.status_code == 502 and error(answer)["code"] == said


# Outbound requests, by the guest that fetches what it is asked to.


@pytest.fixture
def fetch(api, namespace, call_when_ready, probe):
    """Lets a guest with these allowed hosts call a URL; returns the status and what it said."""
    deployed = {}

    def run(url, allowed, **parameters):
        key = tuple(allowed)
        if key not in deployed:
            deployed[key] = f"fetch-{len(deployed)}"
            api.deploy(namespace, deployed[key], probe, spec={"allowed_outbound_hosts": list(allowed)})
        return call_when_ready(f"/{namespace}/{deployed[key]}/fetch", params={"url": url, **parameters})

    return run


@pytest.fixture
def upstream():
    """Where nobody may come, and where an operator's permission lets guests go."""
    forbidden = Server(lambda request: reply(request, b"secrets"), "127.0.0.1")
    permitted = Server(lambda request: reply(request, b"welcome"), "127.0.0.2")
    yield forbidden, permitted
    forbidden.close()
    permitted.close()


def test_an_allowed_host_can_be_called_and_no_other(fetch, upstream):
    _, permitted = upstream
    answer = fetch(permitted.url, [permitted.url])
    assert answer.status_code == 200 and answer.text == "welcome", answer.text
    assert fetch(permitted.url, []).text.startswith("refused")
    assert fetch(permitted.url, ["http://127.0.0.2:1"]).text.startswith("refused")
    assert len(permitted.requests) == 1


def test_https_needs_a_certificate_for_that_name_from_somebody_trusted(fetch, names, authority, tmp_path):
    def served(host, signer):
        names.addresses[host] = [["127.0.0.2"]]
        return Server(lambda request: reply(request, b"in private"), "127.0.0.2", tls=signer.context(host))

    good, stranger = served("good.test", authority), served("stranger.test", Authority(tmp_path))
    names.addresses["other.test"] = [["127.0.0.2"]]
    everything = ["https://*:*"]
    answer = fetch(f"https://good.test:{good.port}/", everything)
    assert answer.text == "in private", answer.text
    for url in (f"https://stranger.test:{stranger.port}/", f"https://other.test:{good.port}/"):
        refused = fetch(url, everything)
        assert refused.text.startswith("refused") and "TlsCertificateError" in refused.text, f"{url}: {refused.text}"
    assert len(good.requests) == 1 and not stranger.requests
    good.close()
    stranger.close()


SPELLINGS = ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0.0.0.0", "localhost", "localhost.", "[::1]", "[::]",
             "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "127.0.0.1.", "0"]
METADATA = ["169.254.169.254", "[::ffff:169.254.169.254]", "[fd00:ec2::254]", "2852039166", "metadata.google.internal", "100.100.100.200", "192.168.0.1",
            "10.0.0.1", "172.16.0.1", "100.64.0.1", "[fe80::1]", "[fc00::1]", "224.0.0.1", "255.255.255.255"]


def test_t60_no_spelling_of_a_private_address_is_reached(fetch, upstream, names):
    forbidden, _ = upstream
    names.addresses["metadata.google.internal"] = [["169.254.169.254"]]
    everything = ["http://*:*", "https://*:*"]
    for host in SPELLINGS:
        answer = fetch(f"http://{host}:{forbidden.port}/", everything)
        assert answer.status_code == 200 and answer.text.startswith("refused"), f"{host}: {answer.text}"
    for host in METADATA:
        began = time.monotonic()
        answer = fetch(f"http://{host}/latest/meta-data/", everything)
        assert answer.text.startswith("refused"), f"{host}: {answer.text}"
        assert time.monotonic() - began < 4.5, f"{host} was tried, which is given up after 5 s"
    assert forbidden.requests == []


def test_t61_a_name_that_changes_its_mind_is_not_followed(fetch, upstream, names):
    forbidden, permitted = upstream
    everything = ["http://*:*"]
    names.addresses["inside.test"] = [["127.0.0.1"]]
    names.addresses["mixed.test"] = [["127.0.0.2", "127.0.0.1"]]
    names.addresses["rebind.test"] = [["127.0.0.2"], ["127.0.0.1"]]
    assert fetch(f"http://inside.test:{forbidden.port}/", everything).text.startswith("refused")
    assert fetch(f"http://mixed.test:{forbidden.port}/", everything).text.startswith("refused")
    first = fetch(f"http://rebind.test:{permitted.port}/", everything)
    assert first.text == "welcome", first.text
    for _ in range(20):
        answer = fetch(f"http://rebind.test:{forbidden.port}/", everything)
        assert answer.text.startswith("refused"), answer.text
    assert forbidden.requests == []


def test_t62_neither_redirects_nor_headers_lead_elsewhere(fetch, upstream):
    forbidden, permitted = upstream
    redirecting = Server(lambda request: reply(request, b"moved", status=302, headers=[("Location", forbidden.url)]), "127.0.0.2")
    answer = fetch(redirecting.url, [redirecting.url])
    assert answer.text == "moved", "the guest gets the redirect and decides"
    fetch(permitted.url, [permitted.url], host=f"127.0.0.1:{forbidden.port}")
    fetch(f"http://user@{forbidden.host}:{forbidden.port}@127.0.0.2:{permitted.port}/", [permitted.url])
    assert forbidden.requests == []
    assert all(headers["Host"] == f"127.0.0.2:{permitted.port}" for _, headers in permitted.requests), "the platform says which host it is"
    redirecting.close()


def test_t02_an_upstream_that_never_answers_does_not_outlive_the_invocation(api, namespace, call_when_ready, probe):
    silent = Server(lambda request: time.sleep(30), "127.0.0.2")
    api.deploy(namespace, "waits", probe, spec={"allowed_outbound_hosts": [silent.url], "limits": {"timeout": "1s"}})
    began = time.monotonic()
    answer = call_when_ready(f"/{namespace}/waits/fetch", params={"url": silent.url})
    assert answer.status_code == 504 and time.monotonic() - began < 15
