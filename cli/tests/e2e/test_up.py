"""The first thing that anybody does: `dunlin up`, a call, a look around; and all of the command against it."""

import json
import os
import re
import signal
import socket
import subprocess
import time

import httpx
import pytest

from harness import guests
from harness.cluster import eventually
from harness.logs import PANIC
from harness.paths import BINARIES, REPO, TOOLS, Cli, plain_environment


class Up:
    """A running `dunlin up` in a folder of its own."""

    def __init__(self, home):
        self.home = home
        probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        self.functions, self.admin = (f"http://127.0.0.1:{probe.getsockname()[1]}" for probe in probes)
        for probe in probes:
            probe.close()
        self.cli = Cli(home, self.admin)
        self.output = open(home / "up.log", "wb")
        self.start()

    def command(self):
        return [BINARIES / "dunlin", "up", "--data-dir", self.home / "data", "--functions", self.functions.removeprefix("http://"), "--admin", self.admin.removeprefix("http://")]

    def start(self):
        self.started = time.monotonic()
        self.process = subprocess.Popen(self.command(), env=self.cli.environment, cwd=self.home, stdin=subprocess.DEVNULL, stdout=self.output, stderr=subprocess.STDOUT)

    @property
    def said(self):
        return (self.home / "up.log").read_text(errors="replace")

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(40)


def curl_lines(text):
    """The URLs of the lines that are ready to paste."""
    return [match.group(1).strip("'\"") for match in re.finditer(r"^\s*(?:\$ )?curl\b.*?(http://\S+)", text, re.M)]


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    started = Up(tmp_path_factory.mktemp("up"))
    try:
        yield started
    finally:
        code = started.stop()
        assert not PANIC.search(started.said), started.said
        assert code == 0, f"dunlin up ended with {code}: {started.said[-2000:]}"


@pytest.fixture(scope="module")
def sample(up):
    """The address of the function that is there from the start, as the command printed it."""
    def found():
        assert up.process.poll() is None, up.said
        urls = [url for url in curl_lines(up.said) if url.startswith(up.functions)]
        return urls and httpx.get(urls[0], trust_env=False).status_code == 200 and urls[0]

    url = eventually(found, seconds=60, every=0.01, what="the sample answering")
    print(f"\ndunlin up answered its first call {time.monotonic() - up.started:.2f} s after its start (debug build)")
    return url


@pytest.fixture
def signed_in(up, sample):
    """The command as `dunlin up` leaves it for whoever started it: without any token named."""
    return up.cli


def resident(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS:"))


def test_what_it_prints_can_be_pasted(up, sample):
    said = up.said
    assert str(up.home / "data") in said and up.admin in said and up.functions in said
    answer = httpx.get(sample, trust_env=False)
    assert answer.status_code == 200 and answer.text
    print(f"\ndunlin up at rest: {resident(up.process.pid):.0f} MiB resident (debug build)")
    for line in said.splitlines():
        if line.strip().removeprefix("$ ").startswith("curl "):
            ran = subprocess.run(["sh", "-c", line.strip().removeprefix("$ ")], env=plain_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
            assert ran.returncode == 0 and ran.stdout, f"{line}: {ran}"


def test_it_stays_on_loopback_and_its_folder_is_private(up, sample):
    listening = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True).stdout
    ours = [line.split()[3] for line in listening.splitlines() if f"pid={up.process.pid}," in line]
    assert all(address.startswith(("127.0.0.1:", "[::1]:")) for address in ours), ours
    assert (up.home / "data").stat().st_mode & 0o777 == 0o700
    for file in (up.home / "data").rglob("*"):
        if "key" in str(file.relative_to(up.home)) or "secret" in file.name:
            assert file.stat().st_mode & 0o077 == 0, file


def test_a_second_one_says_what_is_in_the_way(up, sample, tmp_path):
    ran = subprocess.run(up.command(), env=up.cli.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    assert ran.returncode != 0 and "in use by another process" in ran.stderr + ran.stdout
    command = up.command()
    command[command.index("--data-dir") + 1] = tmp_path / "other"
    ran = subprocess.run(command, env=up.cli.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    assert ran.returncode != 0 and up.functions.removeprefix("http://") in ran.stderr + ran.stdout, ran


def test_the_developers_day(signed_in, up, sample, tmp_path):
    """Deploy, call, look, change, roll back, delete: each by the command, as tables and as JSON."""
    cli = signed_in
    (tmp_path / "hello.wasm").write_bytes(guests.LOG)
    (tmp_path / "dunlin.toml").write_text('name = "day"\nsource = "hello.wasm"\ndescription = "A day"\n[limits]\ntimeout = "5s"\n')
    deployed = cli.ok("deploy", tmp_path, "-o", "json")
    assert deployed.json and deployed.err, "progress and talk are on standard error"
    assert guests.LINE.decode().strip() in cli.ok("invoke", "day").out
    listed = cli.ok("list")
    assert "day" in listed.out and len({line.index("day") for line in listed.out.splitlines() if line.strip().startswith("day")}) <= 1
    assert any("day" in str(row) for row in as_rows(cli.ok("list", "-o", "json").json))
    described = cli.ok("describe", "day")
    assert "A day" in described.out and "5s" in described.out
    lines = eventually(lambda: cli.ok("logs", "day").out, what="a log line")
    assert guests.LINE.decode().strip() in lines
    (tmp_path / "hello.wasm").write_bytes(guests.ECHO)
    cli.ok("deploy", tmp_path, "--note", "second")
    (tmp_path / "body.json").write_text('{"a": 1}')
    echoed = cli.ok("invoke", "day", "-d", f"@{tmp_path / 'body.json'}")
    assert echoed.out.strip() == '{"a": 1}', echoed
    assert len(as_rows(cli.ok("versions", "day", "-o", "json").json)) == 2
    cli.ok("rollback", "day", "--yes")
    assert guests.LINE.decode().strip() in eventually(lambda: (r := cli.ok("invoke", "day")).out, what="version 1")
    records = as_rows(cli.ok("invocations", "-o", "json").json)
    assert records
    cli.ok("delete", "day", "--yes")
    gone = cli("describe", "day")
    assert gone.code == 3 and "day" in gone.err, gone


def as_rows(found):
    """The rows of a JSON answer, whether it is a list or an object around one."""
    return found if isinstance(found, list) else next(value for value in found.values() if isinstance(value, list))


def test_keys_and_tokens_by_the_command(signed_in, up, tmp_path):
    cli = signed_in
    (tmp_path / "fn.wasm").write_bytes(guests.answer("private"))
    deployed = cli.ok("deploy", tmp_path / "fn.wasm", "--name", "locked", "--private", "-o", "json")
    namespace = re.search(r"namespaces/([a-z0-9-]+)", deployed.out).group(1)
    path = f"{up.functions}/{namespace}/locked/"
    eventually(lambda: httpx.get(path, trust_env=False).status_code == 401, what="the private function")
    made = cli.ok("key", "create", "mine", "-o", "json").json
    secret = made["secret"]
    eventually(lambda: httpx.get(path, headers={"X-Api-Key": secret}, trust_env=False).text == "private", what="the key")
    listed = cli.ok("key", "list")
    assert "mine" in listed.out and secret not in listed.out
    cli.ok("key", "revoke", re.search(r"keys/([^\"/]+)", json.dumps(made)).group(1), "--yes")
    eventually(lambda: httpx.get(path, headers={"X-Api-Key": secret}, trust_env=False).status_code == 401, what="the revocation")
    token = cli.ok("token", "create", "--call").out.strip().splitlines()[-1]
    assert httpx.get(path, headers={"Authorization": f"Bearer {token}"}, trust_env=False).text == "private"


def test_contexts_and_signing_in(up, sample, signed_in, tmp_path):
    token = signed_in.ok("token", "create", "--role", "operator").out.strip().splitlines()[-1]
    stranger = Cli(tmp_path)
    nobody = stranger("list", "--url", up.admin)
    assert nobody.code == 4 and "dunlin login" in nobody.err, nobody
    stranger.ok("login", up.admin, "--token-stdin", stdin=token + "\n")
    assert stranger.ok("list").code == 0
    contexts = stranger.ok("context", "list")
    assert up.admin in contexts.out and token not in contexts.out
    saved = [file for file in tmp_path.rglob("*") if file.is_file() and token in file.read_text(errors="ignore")]
    assert saved and all(file.stat().st_mode & 0o077 == 0 for file in saved), "the token is kept privately"
    bad = stranger("login", up.admin, "--token-stdin", stdin="nonsense\n")
    assert bad.code == 4, bad


def test_the_command_explains_itself_and_its_errors(signed_in, up, tmp_path):
    for command in ("", "deploy", "invoke", "logs", "token create", "key create", "worker", "up"):
        assert "Usage" in signed_in.ok(*command.split(), "--help").out
    for shell in ("bash", "zsh", "fish"):
        assert len(signed_in.ok("completion", shell).out) > 500
    unreachable = Cli(tmp_path, "http://127.0.0.1:9", "x")("list")
    assert unreachable.code == 5 and "127.0.0.1:9" in unreachable.err, unreachable
    assert signed_in("frobnicate").code == 2
    missing = signed_in("invoke", "nothing-here")
    assert missing.code == 3 and "nothing-here" in missing.err
    not_wasm = tmp_path / "text.wasm"
    not_wasm.write_text("hello")
    refused = signed_in("deploy", not_wasm, "--name", "text")
    assert refused.code in (2, 7) and "text.wasm" in refused.err, refused


def test_doctor_finds_what_is_wrong_and_says_the_fix(signed_in, up, tmp_path):
    well = signed_in("doctor")
    assert up.admin in well.out + well.err
    ill = Cli(tmp_path, "http://127.0.0.1:9", "x")
    ill.environment["PATH"] = "/usr/bin:/bin"
    found = ill("doctor")
    assert found.code != 0 and "127.0.0.1:9" in found.out + found.err and re.search(r"dunlin up|start|reach", found.out + found.err), found


def test_new_makes_a_project_for_each_language(signed_in, tmp_path):
    for template in ("rust", "javascript", "python", "c"):
        signed_in.ok("new", "-t", template, f"my-{template}", cwd=tmp_path)
        manifest = tmp_path / f"my-{template}/dunlin.toml"
        assert f'name = "my-{template}"' in manifest.read_text()
    again = signed_in("new", "-t", "rust", "my-rust", cwd=tmp_path)
    assert again.code == 2 and "my-rust" in again.err, "it overwrites nothing"
    assert signed_in("new", "-t", "cobol", "x", cwd=tmp_path).code == 2


@pytest.mark.timeout(240)
def test_a_new_c_project_builds_deploys_and_answers(signed_in, up, tmp_path):
    cli = Cli(up.home, up.admin)
    cli.environment |= {"PATH": f"{TOOLS / 'bin'}:{os.environ['PATH']}", "ZIG_GLOBAL_CACHE_DIR": os.path.expanduser("~/.cache/zig")}
    cli.ok("new", "-t", "c", "mine", cwd=tmp_path)
    cli.ok("deploy", tmp_path / "mine", timeout=200)
    assert cli.ok("invoke", "mine").out


def test_it_comes_back_with_everything_it_had(tmp_path):
    first = Up(tmp_path)
    try:
        eventually(lambda: curl_lines(first.said), seconds=60, what="the addresses")
        (tmp_path / "kept.wasm").write_bytes(guests.answer("kept"))
        first.cli.ok("deploy", tmp_path / "kept.wasm", "--name", "kept", "--public")
        first.stop(signal.SIGKILL)
        first.start()
        eventually(lambda: first.cli("invoke", "kept").out == "kept", seconds=60, what="the function after a crash")
    finally:
        assert first.stop() == 0
    assert not PANIC.search(first.said)


def test_the_readmes_first_command_is_this_one():
    readme = REPO / "README.md"
    assert "dunlin" in readme.read_text().splitlines()[0].lower()
    head = "\n".join(readme.read_text().splitlines()[:45])
    assert re.search(r"cargo run .*\bup\b", head) and ".ci/test" in head
