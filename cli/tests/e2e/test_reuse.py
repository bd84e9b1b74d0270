"""Sandboxes that serve several calls: asked for by the manifest, tried at deploy, seen in what a function remembers."""

import json
import subprocess

import pytest

from harness import guests
from harness.cluster import eventually
from harness.paths import REPO, TOOLS, plain_environment


@pytest.fixture
def folder(tmp_path):
    """A function's folder: its file, and a manifest that asks for reuse in these words."""
    def make(wasm, reuse="{}"):
        (tmp_path / "function.wasm").write_bytes(wasm)
        (tmp_path / "dunlin.toml").write_text(f'name = "fn"\nsource = "function.wasm"\npublic = true\nreuse = {reuse}\n')
        return tmp_path

    return make


@pytest.fixture(scope="module")
def javascript():
    """The JavaScript example, built by its own toolchain."""
    ran = subprocess.run([REPO / "examples/build", "javascript"], env=plain_environment(DUNLIN_TOOLS=str(TOOLS)), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr[-3000:]
    with open(ran.stdout.strip().splitlines()[-1], "rb") as file:
        return file.read()


def described(cli, namespace):
    return cli.ok("describe", f"{namespace}/fn").out


def test_a_function_that_asks_for_it_remembers_its_calls(cli, api, namespace, probe, folder, call_when_ready):
    ran = cli.ok("deploy", folder(probe, '{ max_calls = 1000, max_idle = "1m" }'), "--namespace", namespace)
    assert "reuse is off" not in ran.err, ran.err
    call_when_ready(f"/{namespace}/fn/count")
    # An answer may reach its caller a moment before its sandbox is back, so that the next call finds another one.
    eventually(lambda: int(call_when_ready(f"/{namespace}/fn/count").text) >= 10, every=0, what="a sandbox that remembers ten calls")
    assert "1000 calls a sandbox, one at a time, idle 1m" in described(cli, namespace)
    records = lambda: api.call("InvocationService.ListInvocations", parent=f"namespaces/{namespace}/functions/fn")["invocations"]  # noqa: E731
    eventually(lambda: any(record["receipt"]["reused"] for record in records()), what="a record of a call in a sandbox that had served others")


def test_a_function_that_does_not_forgets_them(api, namespace, probe, call_when_ready):
    api.deploy(namespace, "fn", probe)
    assert {call_when_ready(f"/{namespace}/fn/count").text for _ in range(10)} == {"0"}


@pytest.mark.timeout(900)
def test_javascript_answers_once_and_so_gets_a_fresh_sandbox_for_every_call(cli, api, namespace, javascript, folder, call_when_ready):
    ran = cli.ok("deploy", folder(javascript), "--namespace", namespace, timeout=240)
    assert "reuse is off: every call gets a fresh sandbox: after a call on trial, the sandbox could serve no other" in ran.err, ran.err
    for _ in range(5):
        answer = call_when_ready(f"/{namespace}/fn/")
        assert answer.status_code == 200 and "JavaScript" in answer.json()["message"], answer.text
    assert "off: after a call on trial" in described(cli, namespace)
    version = json.loads(cli.ok("versions", f"{namespace}/fn", "-o", "json").out)[0]
    assert version["reuse_refusal"].startswith("after a call on trial") and version["spec"]["reuse"]["max_calls"] == 100
    stored = api.call("FunctionService.GetVersion", name=f"namespaces/{namespace}/functions/fn/versions/1")["version"]
    assert stored["reuse_refusal"] == version["reuse_refusal"]


def test_what_can_not_be_used_again_is_refused_with_the_reason(cli, namespace, folder):
    command = cli("deploy", folder(guests.answer("hello")), "--namespace", namespace)
    assert command.code != 0 and "this artifact is a WASI command" in command.err, command
    several = cli("deploy", folder(guests.answer("hello"), "{ max_concurrent = 8 }"), "--namespace", namespace)
    assert several.code != 0 and "dunlin.toml:4:" in several.err and "not supported" in several.err, several
