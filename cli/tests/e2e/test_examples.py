"""Every example, built from its real toolchain, deployed by the command, called through both gateways, with its log and its receipt."""

import json
import os
import subprocess
import tomllib

import pytest

from harness.cluster import eventually
from harness.paths import REPO, TOOLS, plain_environment

EXAMPLES = sorted(file.parent.name for file in (REPO / "examples").glob("*/dunlin.toml"))


@pytest.fixture(scope="module")
def built(request):
    """The file that an example's own build command makes."""
    def build(example):
        ran = subprocess.run([REPO / "examples/build", example], env=plain_environment(DUNLIN_TOOLS=str(TOOLS)), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
        assert ran.returncode == 0, ran.stderr[-3000:]
        return ran.stdout.strip().splitlines()[-1]

    return build


def test_there_is_an_example_for_each_promised_language():
    assert {"rust", "rust-p3", "javascript", "python", "c"} <= set(EXAMPLES) and len(EXAMPLES) >= 6


@pytest.mark.timeout(900)
@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_works_from_its_source(cluster, cli, api, namespace, built, example):
    built(example)
    folder = REPO / "examples" / example
    manifest = tomllib.loads((folder / "dunlin.toml").read_text())
    function = manifest["name"]
    cli.ok("deploy", folder, "--no-build", "--namespace", namespace, timeout=240)
    for gateway in (0, 1):
        with cluster.http(gateway) as client:
            got = eventually(lambda: (a := client.get(f"/{namespace}/{function}/some/path?name=you")).status_code != 404 and a, what="the function")
            assert got.status_code == 200, got.text
            answer = got.json()
            assert answer["method"] == "GET" and answer["path"] == "/some/path", answer
            assert manifest.get("environment", {}).get("GREETING", "") in answer["message"]
            for body in (b"", b"hello", json.dumps({"n": list(range(1000))}).encode(), os.urandom(300_000) if example in ("rust", "rust-p3") else b"x" * 300_000):
                posted = client.post(f"/{namespace}/{function}/", content=body, headers={"Content-Type": "application/octet-stream"})
                assert posted.status_code == 200 and posted.content == body, f"{posted.status_code} {posted.content[:200]}"
            assert client.put(f"/{namespace}/{function}/").status_code == 405
    name = f"namespaces/{namespace}/functions/{function}"
    records = eventually(lambda: [r for r in api.call("InvocationService.ListInvocations", parent=name)["invocations"] if r["path"] == "/some/path"], what="a record")
    assert records[0]["outcome"] == "ok" and float(records[0]["receipt"]["run"].rstrip("s")) > 0 and int(records[0]["receipt"]["peak_memory_bytes"]) >= 65536
    # Each worker's lines come in their own time.
    eventually(lambda: any("/some/path" in e["line"]["text"] for e in api.stream("LogService.ReadLogs", parent=name) if "line" in e), what="the call's log line")


@pytest.mark.parametrize("example", [name for name in EXAMPLES if name in ("rust", "c")])
def test_dunlin_build_makes_the_same(cli, built, example):
    expected = built(example)
    os.utime(expected, (0, 0))
    cli.environment |= {"DUNLIN_TOOLS": str(TOOLS), "RUSTC": str(TOOLS / "wasm-rust/bin/rustc"), "PATH": f"{TOOLS / 'bin'}:{cli.environment['PATH']}"}
    # The command's home is a new one; what toolchains keep in a home is not to be made again.
    for name, place in (("CARGO_HOME", "~/.cargo"), ("RUSTUP_HOME", "~/.rustup"), ("ZIG_GLOBAL_CACHE_DIR", "~/.cache/zig")):
        cli.environment[name] = os.environ.get(name, os.path.expanduser(place))
    ran = cli.ok("build", REPO / "examples" / example, timeout=300)
    assert expected in ran.out + ran.err or os.path.basename(expected) in ran.out + ran.err
