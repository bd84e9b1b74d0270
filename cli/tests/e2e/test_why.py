"""`dunlin why`: what became of a request, whichever gateway served or refused it."""

import json
import os
import subprocess
import uuid
from pathlib import Path

import pytest

from harness import guests
from harness.cluster import eventually
from harness.paths import TOOLS, plain_environment

TRAP = guests.command("(call $charge)", "(func $charge (call $card)) (func $card unreachable)")
SPIN = guests.command("(call $turning)", "(func $turning (loop (br 0)))")
ID = "dunlin-request-id"


@pytest.fixture
def why(cli, namespace):
    """Explains a request, as soon as its record is filed."""
    def ask(id, code=0):
        def known():
            ran = cli("--namespace", namespace, "why", id, "-o", "json")
            return ran if ran.code == code else None

        return json.loads(eventually(known, seconds=10, what=f"why {id}").out)

    return ask


def stages(explanation):
    return [step["stage"] for step in explanation["steps"]]


def text_of(explanation, stage):
    return next(step["text"] for step in explanation["steps"] if step["stage"] == stage)


def test_a_good_call_is_told_step_by_step_with_its_lines(api, cli, namespace, call_when_ready, why):
    api.deploy(namespace, "pay", guests.LOG)
    path = f"/{namespace}/pay/x"
    call_when_ready(path)
    trace = "0af7651916cd43dd8448eb211c80319c"
    answer = call_when_ready(path, headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01", "X-Request-Id": "order-7"})
    told = why(answer.headers[ID])
    assert told["summary"].startswith("GET /x of pay v1 answered 200 after "), told
    assert stages(told)[:4] == ["accepted", "route", "caller", "limits"] and stages(told)[-1] == "answer", told
    assert {"worker", "sandbox", "run"} <= set(stages(told)), told
    assert text_of(told, "caller") == "anybody may call it"
    assert "GET /x from 127.0.0.1, by gateway " in text_of(told, "accepted")
    call = told["invocation"]
    assert (call["trace_id"], call["remote_address"], call["tries"], call["refused"]) == (trace, "127.0.0.1", 1, False), call
    assert call["endpoint"].startswith(call["worker"] + "/") and call["worker_choice"] in ("ready", "standby"), call
    at = [step["at_ms"] for step in told["steps"]]
    assert at == sorted(at), told
    # A worker that stands still for a second has no line to tell.
    told = eventually(lambda: (found := why("order-7")) and "log" in stages(found) and found, seconds=10, what="its line")
    assert told["invocation"]["id"] == answer.headers[ID] and text_of(told, "log") == guests.LINE.decode().strip(), "by the caller's own id"
    shown = cli.ok("--namespace", namespace, "why", answer.headers[ID]).out
    assert " accepted  " in shown and " answer  " in shown, shown


def test_a_cold_call_says_what_it_waited_for(api, namespace, call_when_ready, why):
    api.deploy(namespace, "cold", guests.answer("hi"))
    answer = call_when_ready(f"/{namespace}/cold/")
    told = why(answer.headers[ID])
    receipt = told["invocation"]["receipt"]
    spent = receipt["fetch_ms"] + receipt["load_ms"] + receipt["gateway_queue_ms"]
    assert spent <= receipt["queue_ms"] + 0.01, receipt
    # Where a deploy has it loaded before the first call, only the sandbox is left to make.
    assert {"load", "sandbox"} & set(stages(told)), told


def test_a_trap_is_shown_with_the_names_of_its_functions(cluster, api, cli, namespace, call_when_ready, why):
    api.deploy(namespace, "trap", TRAP)
    answer = call_when_ready(f"/{namespace}/trap/")
    assert answer.status_code == 502
    told = why(answer.headers[ID])
    assert told["backtrace"][:2] == ["card", "charge"], told
    assert "function_failed" in told["summary"] and "unreachable" in text_of(told, "failed"), told
    assert "dunlin logs trap" in told["advice"]
    assert "at card" in cli.ok("--namespace", namespace, "why", answer.headers[ID]).out
    with cluster.rest() as client:
        listed = client.get(f"/api/v1/namespaces/{namespace}/invocations", params={"status": "5xx", "version": 1}).json()
        assert answer.headers[ID] in [call["id"] for call in listed["invocations"]], listed
        none = client.get(f"/api/v1/namespaces/{namespace}/invocations", params={"status": "404"}).json()
        assert none["invocations"] == [], none
        assert client.get(f"/api/v1/namespaces/{namespace}/invocations", params={"status": "9xx"}).status_code == 400


ZIG = [TOOLS / "bin/zig", "cc", "--target=wasm32-wasi", "-fno-sanitize=undefined"]
RUST = [TOOLS / "wasm-rust/bin/rustc", "--target=wasm32-wasip2"]


def built(compiler, source, to):
    """A guest of guests/lines, built where its source is."""
    folder = Path(__file__).parent / "guests/lines"
    environment = plain_environment(ZIG_GLOBAL_CACHE_DIR=os.environ.get("ZIG_GLOBAL_CACHE_DIR", os.path.expanduser("~/.cache/zig")))
    ran = subprocess.run([*compiler, source, "-o", to], cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, f"{source} could not be built (was .ci/setup run?):\n{ran.stderr}"
    return to.read_bytes()


@pytest.mark.parametrize("compiler, source, expected", [
    ([*ZIG, "-g", "-O0"], "src/pay.c", ["card (src/pay.c:6)", "charge (src/pay.c:10)", "main (src/pay.c:15)"]),
    ([*ZIG, "-gdwarf-5", "-O0"], "src/pay.c", ["card (src/pay.c:6)", "charge (src/pay.c:10)", "main (src/pay.c:15)"]),
    ([*RUST, "-g"], "src/pay.rs", ["pay::card (src/pay.rs:5)", "pay::charge (src/pay.rs:10)", "pay::main (src/pay.rs:15)"]),
    ([*RUST, "-O", "-Cdebuginfo=line-tables-only"], "src/pay.rs", ["pay::card (src/pay.rs:5)", "pay::charge (src/pay.rs:10)", "pay::main (src/pay.rs:15)"]),
    ([*RUST, "-O", "-Cdebuginfo=line-tables-only"], "src/inlined.rs", ["inlined::card (src/inlined.rs:5)", "inlined::main (src/inlined.rs:10)"]),
], ids=["c", "c-dwarf-5", "rust", "rust-optimised", "rust-inlined"])
def test_a_trap_is_shown_with_its_source_lines_where_the_artifact_carries_them(compiler, source, expected, api, cli, namespace, call_when_ready, why, tmp_path):
    api.deploy(namespace, "lines", built(compiler, source, tmp_path / "pay.wasm"))
    answer = call_when_ready(f"/{namespace}/lines/")
    assert answer.status_code == 502 and "pay." not in answer.text, answer.text
    told = why(answer.headers[ID])
    assert [frame for frame in told["backtrace"] if f"({source}:" in frame] == expected, told
    shown = cli.ok("--namespace", namespace, "why", answer.headers[ID]).out
    assert f"at {expected[0]}" in shown, shown


def test_who_is_over_a_limit_learns_of_which(api, cli, namespace, call_when_ready, caller, why):
    api.deploy(namespace, "pay", guests.answer("paid"), public=False)
    cli.ok("--namespace", namespace, "plan", "set", "slow", "--rate", "1/m", "--burst", "1")
    key = json.loads(cli.ok("--namespace", namespace, "key", "create", "till", "--plan", "slow", "-o", "json").out)

    def refused():
        answer = caller.get(f"/{namespace}/pay/", headers={"X-Api-Key": key["secret"]})
        return answer if answer.status_code == 429 else None

    told = why(eventually(refused, seconds=30, what="a refusal").headers[ID])
    assert told["invocation"]["refused"] and told["invocation"]["worker"] == "", told
    assert told["invocation"]["caller"]["key"] == key["key"]["id"], told
    assert stages(told)[-1] == "refused" and "429 too_many_requests" in text_of(told, "refused"), told
    assert key["secret"] not in json.dumps(told)


def test_who_has_no_credential_learns_what_to_send_asked_at_the_other_gateway(cluster, api, namespace, why):
    api.deploy(namespace, "pay", guests.answer("paid"), public=False)
    # The command asks the first gateway.
    with cluster.http(1) as other:
        def refused():
            answer = other.get(f"/{namespace}/pay/x")
            return answer if answer.status_code == 401 else None

        answer = eventually(refused, seconds=30, what="a refusal")
    told = why(answer.headers[ID])
    assert told["summary"].startswith("GET ") and "refused with 401 before any function ran" in told["summary"], told
    assert told["advice"] and told["invocation"]["path"] == f"/{namespace}/pay/x", told
    with cluster.http(1) as other:
        missing = other.get(f"/{namespace}/no-such-function/")
    assert missing.status_code == 404
    assert "refused with 404" in why(missing.headers[ID])["summary"]
    upgrade = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    with cluster.http(1) as other:
        for status, method, path, headers in [(501, "GET", "x", upgrade), (405, "TRACE", "x", {}), (414, "GET", "x" * 17_000, {})]:
            refused = other.request(method, f"/{namespace}/pay/{path}", headers=headers)
            assert refused.status_code == status, refused
            assert f"refused with {status}" in why(refused.headers[ID])["summary"]


def test_an_operator_learns_of_a_request_for_no_namespace(cluster, namespace, why):
    for path in ("/", "/there-is-no-such-namespace/pay"):
        with cluster.http(1) as other:
            answer = eventually(lambda: (got := other.get(path)).status_code == 404 and got, seconds=30, what="an answer")
        told = why(answer.headers[ID])
        assert f"GET {path} was refused with 404 before any function ran" in told["summary"], told
        assert told["invocation"]["function"] == "" and told["advice"], told


def test_the_last_of_many_refusals_is_kept(api, cli, namespace, caller, why):
    api.deploy(namespace, "pay", guests.answer("paid"), public=False)
    eventually(lambda: caller.get(f"/{namespace}/pay/").status_code == 401, seconds=30, what="the function")
    last = [caller.get(f"/{namespace}/pay/") for _ in range(60)][-1]
    assert "refused with 401" in why(last.headers[ID])["summary"]
    listed = json.loads(cli.ok("--namespace", namespace, "invocations", "--status", "401", "-o", "json").out)
    ids = {call["id"] for call in (listed["invocations"] if isinstance(listed, dict) else listed)}
    assert last.headers[ID] in ids, listed


def test_a_loop_that_was_stopped_is_shown_where_it_was(api, namespace, call_when_ready, why):
    api.deploy(namespace, "spin", SPIN, spec={"limits": {"cpu_time": "0.2s"}})
    answer = call_when_ready(f"/{namespace}/spin/")
    assert answer.status_code == 504 and "turning" not in answer.text, answer.text
    told = why(answer.headers[ID])
    assert told["backtrace"][:1] == ["turning"], told


def test_a_call_is_explained_by_a_gateway_that_did_not_serve_it(cluster, api, namespace, why):
    api.deploy(namespace, "pay", guests.answer("paid"))
    with cluster.http(1) as other:
        answer = eventually(lambda: (got := other.get(f"/{namespace}/pay/")).status_code == 200 and got, seconds=30, what="the function")
    told = why(answer.headers[ID])
    assert told["invocation"]["gateway"] == cluster.gateways[1].get("name", told["invocation"]["gateway"]), told
    assert stages(told)[-1] == "answer", told


def test_what_is_not_kept_is_said_to_be_so_with_its_group(api, namespace, call_when_ready, why):
    api.deploy(namespace, "pay", guests.answer("paid"))
    answer = call_when_ready(f"/{namespace}/pay/")
    why(answer.headers[ID])
    near = str(uuid.UUID(int=uuid.UUID(answer.headers[ID]).int ^ 0xFFFF))
    told = why(near, code=3)
    assert told["invocation"] is None and near in told["summary"], told
    assert {"function": "pay", "outcome": "ok"} in [{name: group[name] for name in ("function", "outcome")} for group in told["group"]], told
    assert why("nobody-sent-this", code=3)["group"] == []


def test_an_answer_of_500_or_above_is_among_the_failed(api, cli, namespace, call_when_ready, why):
    api.deploy(namespace, "sorry", guests.answer("later", head=b"Status: 503\r\n\r\n"))
    api.deploy(namespace, "lost", guests.answer("nothing", head=b"Status: 404\r\n\r\n"))
    found = {}
    for name, status in (("sorry", 503), ("lost", 404)):
        # The platform answers 503, too, while there is no worker; only the function's own has no error.
        def answered():
            answer = call_when_ready(f"/{namespace}/{name}/")
            return answer if answer.text in ("later", "nothing") else None

        answer = eventually(answered, seconds=30, what=name)
        assert answer.status_code == status
        found[name] = answer.headers[ID]
        why(found[name])
    failed = json.loads(cli.ok("--namespace", namespace, "invocations", "--failed", "-o", "json").out)
    ids = {call["id"] for call in (failed["invocations"] if isinstance(failed, dict) else failed)}
    assert found["sorry"] in ids and found["lost"] not in ids, failed


@pytest.mark.expects_log("records of invocations are being lost")
def test_calls_go_on_and_are_explained_where_the_disk_takes_no_records(cluster, api, cli, namespace, call_when_ready, why):
    # A file stands where the namespace's folder would be made.
    taken = [cluster.folder / name / "records" / namespace for name in ("gateway-1", "gateway-2")]
    for path in taken:
        path.write_bytes(b"")
    try:
        api.deploy(namespace, "pay", guests.answer("paid"))
        call_when_ready(f"/{namespace}/pay/")
        with cluster.http() as client:
            answers = [client.get(f"/{namespace}/pay/") for _ in range(200)]
        assert {answer.status_code for answer in answers} == {200}
        # The newest are in memory.
        assert why(answers[-1].headers[ID])["invocation"]["outcome"] == "ok"
    finally:
        for path in taken:
            path.unlink()
