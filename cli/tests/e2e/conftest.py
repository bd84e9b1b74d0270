"""One cluster for all tests, a namespace of its own for each, and a look at the platform's logs after each.

The cluster is deploy/cluster's: a scheduler on PostgreSQL, two gateways, two workers, each a process. Run a single module by
`.tools/venv/bin/pytest cli/tests/e2e/test_tokens.py`, with binaries from `cargo build` and a database from
`.ci/tools/with-postgres`.
"""

import secrets
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness import guests  # noqa: E402
from harness.cluster import Cluster, eventually  # noqa: E402
from harness.logs import PANIC, Logs, files_with  # noqa: E402
from harness.paths import BINARIES, REPO, TOOLS, Cli, plain_environment  # noqa: E402
from harness.servers import Authority, Issuer, NameServer  # noqa: E402

# Set in the environment of every process of the cluster; no guest and no log may ever show it.
CANARY = "canary-" + secrets.token_hex(16)

GATEWAY_CONFIG = """
domain = "fn.localhost"
path_addressing = true

[[oidc]]
issuer = "{issuer}"
audience = "{audience}"
allow_private = true

[oidc.sign_in]
name = "Issuer of the tests"
client_id = "{client}"
client_secret_file = "{secret}"

[[oidc]]
issuer = "{issuer}"
audience = "{audience}-calls"
purpose = "call"
namespace_claim = "namespace"
allow_private = true
"""


def pytest_configure():
    missing = [name for name in ("dunlin", "dunlin-scheduler", "dunlin-gateway", "dunlin-worker") if not (BINARIES / name).exists()]
    if missing:
        pytest.exit(f"{', '.join(missing)} not found in {BINARIES}; run: cargo build", returncode=2)


@pytest.fixture(scope="session")
def issuer():
    made = Issuer()
    yield made
    made.close()


@pytest.fixture(scope="session")
def names():
    made = NameServer()
    yield made
    made.close()


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """Signs for servers that guests may trust."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def secrets_seen():
    """Credentials that tests came by: at the end, none of them may be in any file that the platform wrote."""
    return [CANARY]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory, issuer, names, authority, secrets_seen):
    folder = tmp_path_factory.mktemp("cluster")
    config = folder / "gateway.toml"
    secret = tmp_path_factory.mktemp("client") / "secret"
    secret.touch(0o600)
    secret.write_text(issuer.SECRET)
    config.write_text(GATEWAY_CONFIG.format(issuer=issuer.url, audience=issuer.AUDIENCE, client=issuer.CLIENT, secret=secret))
    (folder / "scheduler.toml").write_text("compiler_memory_mib = 2048\n\n[rollout]\nmin_step_seconds = 1\nmin_step_calls = 50\n")
    made = Cluster(folder, f"--scheduler-arg=--config={folder / 'scheduler.toml'}", "--env", f"DUNLIN_TEST_CANARY={CANARY}", f"--gateway-arg=--config={config}",
                   f"--worker-arg=--dns-server={names.address}", "--worker-arg=--outbound-allow-private=127.0.0.2/32", f"--worker-arg=--outbound-ca={authority.file}")
    issuer.redirects |= {f"{gateway['admin']}/sign-in/callback" for gateway in made.gateways}
    secrets_seen += [issuer.SECRET, made.token, *(file.read_text().strip() for file in (folder / "tokens").iterdir())]
    try:
        yield made
        leaked = files_with(secrets_seen, folder, except_for=("tokens", "cluster.json", "cluster.env", "postgres"))
        assert not leaked, f"secrets were written to files: {leaked}"
    finally:
        made.stop()


@pytest.fixture
def logs(request):
    """Fails a test during which the platform logged what a person would have to look at."""
    cluster = request.getfixturevalue("cluster")
    watched = Logs(cluster.logs)
    yield watched
    patterns = [mark.args[0] for mark in request.node.iter_markers("expects_log")]
    time.sleep(0.05)
    unexpected = watched.unexpected(patterns)
    assert not unexpected, "the platform logged:\n" + "\n".join(unexpected[:20])


@pytest.fixture(autouse=True)
def _watch_logs(request):
    if "cluster" in request.fixturenames:
        request.getfixturevalue("logs")


@pytest.fixture
def api(cluster):
    return cluster.api()


@pytest.fixture
def namespace(api):
    """A new namespace, named after nothing; it stays, for the cluster goes in the end."""
    return new_namespace(api)


def new_namespace(api):
    name = "t-" + uuid.uuid4().hex[:8]
    api.call("NamespaceService.CreateNamespace", namespace_id=name)
    return name


@pytest.fixture
def cli(cluster, tmp_path):
    """The `dunlin` command, signed in as the operator."""
    return Cli(tmp_path, cluster.admin, cluster.token)


@pytest.fixture
def caller(cluster):
    """A caller at the first gateway."""
    with cluster.http() as client:
        yield client


@pytest.fixture
def call_when_ready(caller):
    """Calls a path until the gateway knows the function: deploys reach gateways in a moment, not at once."""
    def call(path, method="GET", client=None, **options):
        deadline = time.monotonic() + 5
        while True:
            answer = (client or caller).request(method, path, **options)
            if answer.status_code != 404 or time.monotonic() > deadline:
                return answer
            time.sleep(0.02)

    return call


@pytest.fixture(scope="session")
def probe():
    """The guest that does what it is asked to, built from guests/probe."""
    folder = Path(__file__).parent / "guests/probe"
    built = subprocess.run([REPO / ".ci/tools/cargo-wasm", "build", "--quiet", "--locked", "--target", "wasm32-wasip2", "--release"], cwd=folder,
                           env=plain_environment(DUNLIN_TOOLS=str(TOOLS)), stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert built.returncode == 0, f"the probe could not be built (was .ci/setup run?):\n{built.stderr}"
    return (folder / "target/wasm32-wasip2/release/probe.wasm").read_bytes()


class Neighbour:
    """A function of another tenant that is called all the time, and must not notice what others do."""

    def __init__(self, client, path):
        self._client, self._path, self._stop = client, path, threading.Event()
        self.slowest, self.calls, self.failures = 0.0, 0, []
        self._thread = threading.Thread(target=self._call, daemon=True)

    def _call(self):
        while not self._stop.is_set():
            began = time.monotonic()
            answer = self._client.get(self._path)
            self.slowest, self.calls = max(self.slowest, time.monotonic() - began), self.calls + 1
            if answer.status_code != 200:
                self.failures.append((answer.status_code, answer.text))
            self._stop.wait(0.02)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(60)


@pytest.fixture
def neighbour(cluster, api, call_when_ready):
    """Runs beside the test; at its end every one of its calls must have been answered, and none slowly."""
    name = new_namespace(api)
    api.deploy(name, "neighbour", guests.answer("fine"))
    with cluster.http(gateway=1) as client:
        call_when_ready(f"/{name}/neighbour/", client=client)
        with Neighbour(client, f"/{name}/neighbour/") as beside:
            yield beside
        assert beside.calls > 0 and not beside.failures, f"{len(beside.failures)} of {beside.calls} calls failed: {beside.failures[:3]}"
        assert beside.slowest < 5, f"a neighbour's call took {beside.slowest:.1f} s"


@pytest.fixture
def processes_survive(cluster):
    """No process of the cluster may end or be replaced during the test."""
    before = {name: cluster.pid(name) for name in cluster.facts["processes"]}
    yield
    assert {name: cluster.pid(name) for name in before} == before
    dead = [name for name in before if not cluster.is_alive(name)]
    assert not dead, f"{dead} died"


@pytest.fixture
def broken(tmp_path_factory, request):
    """Makes clusters that may be broken. No process of theirs may ever panic, whatever is done to it."""
    made = []

    def start(*options):
        made.append(Cluster(tmp_path_factory.mktemp("faults"), *options))
        return made[-1]

    yield start
    panics = []
    for cluster in made:
        for log in cluster.logs():
            panics += [f"{log.name}: {line}" for line in log.read_text(errors="replace").splitlines() if log.stem != "postgres" and PANIC.search(line)]
        cluster.stop()
    assert not panics, "\n".join(panics)


def deployed(cluster, wasm=None, name="fn", **options):
    """A function that answers on both gateways; its path."""
    api = cluster.api()
    namespace = new_namespace(api)
    api.deploy(namespace, name, wasm or guests.answer("alive"), **options)
    path = f"/{namespace}/{name}/"
    for gateway in (0, 1):
        with cluster.http(gateway) as client:
            eventually(lambda: client.get(path).status_code == 200, what=f"{path} answering")
    return path
