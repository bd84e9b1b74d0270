"""What the gateway stores and uses again, judged by tests of HTTP caches that others wrote (npm's http-cache-tests, RFC 9111).

The suite's client calls a route that stores answers; behind it is a function that passes every request on to the suite's server.
Each test is required, or looks whether a cache is as good as it may be (`optimal`), or only looks how it behaves (`check`).
"""

import contextlib
import json
import os
import socket
import subprocess
import uuid
from pathlib import Path

import pytest

from harness.cluster import eventually
from harness.paths import TOOLS, plain_environment

pytestmark = pytest.mark.usefixtures("processes_survive")
SUITE = TOOLS / "cache-tests/node_modules/http-cache-tests"
HERE = Path(__file__).parent / "cache_suite/here.cjs"
FROM = "127.0.0.2"
# Required tests that are not passed, and why: none of them is something that RFC 9111 asks for.
AGE = "RFC 9111 5.1: what is no number is ignored, and of several values the first counts; the suite is older"
COOKIES = "answers with Set-Cookie are never stored, for they are one caller's; storing is never a duty (RFC 9111 3)"
FAILED = "a function that fails is answered for with 502, as it must be; for the suite, all answers that are not its server's are stored ones"
EXCEPTIONS = {
    "304-etag-update-response-ETag": "a 304 with another ETag than the one that was asked about makes nothing fresh (RFC 9111 4.3.4)",
    "304-etag-update-response-Set-Cookie": COOKIES,
    "headers-store-Set-Cookie": COOKIES,
    "headers-omit-headers-listed-in-Connection": "functions cannot say Connection, which WASI keeps from them",
    "partial-use-headers": "ranges are the function's to answer, also of what is stored whole, which RFC 9111 3.3 leaves open",
    **dict.fromkeys(("age-parse-nonnumeric", "age-parse-negative", "age-parse-float", "age-parse-parameter", "age-parse-numeric-parameter",
                     "age-parse-dup-0", "age-parse-dup-0-twoline", "age-parse-dup-old", "age-parse-prefix-twoline"), AGE),
    **dict.fromkeys((f"stale-close-{directive}" for directive in ("must-revalidate", "no-cache", "proxy-revalidate", "s-maxage=2")), FAILED),
}


def node(script, **settings):
    environment = plain_environment() | {"PATH": f"{TOOLS / 'bin'}:{os.environ['PATH']}"}
    environment |= {f"npm_package_config_{name}": str(value) for name, value in settings.items()}
    return {"args": ["node", "--no-warnings", "--require", str(HERE), str(SUITE / script)], "env": environment, "cwd": SUITE, "stdin": subprocess.DEVNULL}


@pytest.fixture
def server(tmp_path):
    """The suite's server; its port."""
    with contextlib.closing(socket.create_server((FROM, 0))) as probe:
        port = probe.getsockname()[1]
    with open(tmp_path / "server.log", "wb") as log:
        running = subprocess.Popen(**node("server/server.mjs", protocol="http", port=port, pidfile=tmp_path / "pid"), stdout=log, stderr=log)
    try:
        eventually(lambda: socket.create_connection((FROM, port), timeout=1).close() is None, seconds=20, what="the suite's server")
        yield port
    finally:
        running.kill()
        running.wait()


def kinds():
    """What each test of the suite is."""
    script = ("import('./tests/index.mjs').then(m => console.log(JSON.stringify(m.default.flatMap(s => s.tests)"
              ".map(t => [t.id, t.kind ?? 'required']))))")
    ran = subprocess.run(["node", "-e", script], cwd=SUITE, stdout=subprocess.PIPE, env=node("")["env"], check=True)
    return dict(json.loads(ran.stdout))


@pytest.mark.timeout(450)
def test_a_suite_of_others_finds_no_fault(cluster, api, namespace, probe, cli, server, tmp_path):
    host = f"{uuid.uuid4().hex[:12]}.example"
    origin = f"http://{FROM}:{server}"
    api.deploy(namespace, "probe", probe, spec={"environment": {"FORWARD_TO": origin}, "allowed_outbound_hosts": [origin]})
    cli.ok("-n", namespace, "domain", "add", host, "--vouch")
    cli.ok("-n", namespace, "route", "add", "all", "/{path*}", "--function", "probe", "--cache", "--host", host)
    with cluster.http() as client:
        eventually(lambda: client.get("/state/none", headers={"Host": host}).status_code == 404, seconds=20, what="the suite's server through the gateway")
    base = f"http://{host}:{cluster.facts['gateways'][0]['functions'].rsplit(':', 1)[1]}"
    ran = subprocess.run(**node("cli.mjs", base=base, id=""), stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=400)
    assert ran.returncode == 0, ran.stderr.decode()
    results = json.loads(ran.stdout[ran.stdout.index(b"{"):])
    required = {name: results[name] for name, kind in kinds().items() if kind == "required" and name in results}
    assert len(required) > 150, "the suite did not run"
    missed = {name: result for name, result in required.items() if result is not True}
    unexpected = missed.keys() - EXCEPTIONS.keys()
    assert not unexpected, "\n".join(f"{name}: {missed[name]}" for name in sorted(unexpected))
    assert not EXCEPTIONS.keys() - missed.keys(), "these are passed, and no exceptions any more"
