"""What is measured: a cluster of separate processes, `dunlin up`, and `wasmtime serve`; each ends with its `with` block."""

import calendar
import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

from .tools import REPO, TOOLS, WASMTIME, eventually, output, run, say

QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


class Server:
    """Somewhere to send calls, and the processes whose time and memory they cost."""

    def __init__(self, base, processes, token=None):
        self.base, self.processes, self.token = base, processes, token

    def url(self, function, path=""):
        return f"{self.base}/{function}/{path}"


class Dunlin(Server):
    """A Dunlin of which we are the operator."""

    def __init__(self, base, processes, binaries, environment):
        super().__init__(base, processes)
        self.binaries, self.environment = binaries, os.environ | environment | {"DUNLIN_NAMESPACE": "default"}

    def deploy(self, wasm, name, folder, *, idempotent=False, **tables):
        """Deploys a component as a private function; `tables` are those of a manifest, such as scaling={"max_sandboxes": 1000}."""
        folder = Path(folder) / f"deploy-{name}"
        folder.mkdir(exist_ok=True)
        shutil.copy(wasm, folder / "function.wasm")
        text = f'name = "{name}"\nsource = "function.wasm"\nidempotent = {json.dumps(idempotent)}\n'
        for table, fields in tables.items():
            text += f"[{table}]\n" + "".join(f"{field} = {json.dumps(value)}\n" for field, value in fields.items())
        (folder / "dunlin.toml").write_text(text)
        run(self.binaries / "dunlin", "deploy", folder, "--no-build", "--private", env=self.environment, **QUIET)
        self.token = self.token or output(
            self.binaries / "dunlin", "token", "create", "--call", env=self.environment, stderr=subprocess.DEVNULL
        )
        wait_until_answers(self.url(name), self.token)


class Cluster(Dunlin):
    """Separate processes, run by deploy/cluster."""

    def __init__(self, folder, binaries):
        self.folder = folder
        facts = self.facts
        gateway = facts["gateways"][0]
        self.admin, self.operator_token = gateway["admin"], facts["operator_token"]
        environment = {"DUNLIN_URL": self.admin, "DUNLIN_TOKEN": self.operator_token, "XDG_CONFIG_HOME": str(folder / "home")}
        processes = {name.removesuffix("-1"): process["pid"] for name, process in facts["processes"].items()}
        super().__init__(f"{gateway['functions']}/default", processes, binaries, environment)

    @property
    def facts(self):
        return json.loads((self.folder / "cluster.json").read_text())

    def workers(self):
        """The workers, each with the versions that it holds, as the gateway shows them."""
        return get(f"{self.admin}/api/v1/cluster", self.operator_token)["workers"]

    def loaded(self):
        """How many versions workers have in memory."""
        versions = [version for worker in self.workers() for version in worker["versions"]]
        return sum(version["state"] in ("ready", "loading", "fetching") and not version.get("standby") for version in versions)

    def wait_until_evicted(self, seconds=120):
        eventually(lambda: self.loaded() == 0, seconds, "every function evicted")

    def kill(self, name):
        os.kill(self.facts["processes"][name]["pid"], signal.SIGKILL)

    def restart(self, name):
        """Ends a process and starts it again; it may have been killed."""
        run(REPO / "deploy/cluster", "restart", name, "--dir", self.folder, **QUIET)
        self.processes[name.removesuffix("-1")] = self.facts["processes"][name]["pid"]

    def wait_until_ready(self, count=1, seconds=60):
        """Waits until so many workers are connected, ready, and were heard of after now."""
        began = time.time()

        def ready():
            heard = [worker for worker in self.workers() if worker["state"] == "ready" and seconds_of(worker["heard_time"]) > began]
            return len(heard) >= count

        eventually(ready, seconds, f"{count} workers ready")


class NotStarted(SystemExit):
    """The cluster did not come up; its logs are in the message."""


def seconds_of(text):
    whole, _, fraction = text.rstrip("Z").partition(".")
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float(f"0.{fraction or 0}")


@contextlib.contextmanager
def cluster(binaries, folder, *options, workers=1):
    folder = Path(folder) / "cluster"
    try:
        run(
            REPO / "deploy/cluster",
            "start",
            "--dir",
            folder,
            "--binaries",
            binaries,
            "--sqlite",
            "--gateways",
            1,
            "--workers",
            workers,
            "--ports",
            "random",
            "--log-filter",
            "warn",
            *options,
            **QUIET,
        )
    except subprocess.CalledProcessError:
        logs = "\n".join(log.read_text(errors="replace")[-2000:] for log in (folder / "logs").glob("*.log"))
        raise NotStarted(f"error: the cluster did not start:\n{logs}") from None
    try:
        yield Cluster(folder, binaries)
    finally:
        subprocess.run([REPO / "deploy/cluster", "stop", "--dir", folder, "--grace", "20"], stdin=subprocess.DEVNULL, **QUIET)


@contextlib.contextmanager
def one_process(binaries, folder):
    """`dunlin up`: everything in one process."""
    functions, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
    context = {"XDG_CONFIG_HOME": str(folder / "up-home")}
    command = [binaries / "dunlin", "up", "--data-dir", folder / "up", "--functions", functions, "--admin", admin, "--no-sample"]
    with process(*command, env=os.environ | context) as up:
        wait_until_answers(f"http://{functions}/.well-known/dunlin/health")
        yield Dunlin(f"http://{functions}/default", {"dunlin": up.pid}, binaries, context)


class Wasmtime(Server):
    """One `wasmtime serve` for each component: it knows no functions."""

    def __init__(self, addresses, processes):
        super().__init__("", processes)
        self.addresses = addresses

    def url(self, function, path=""):
        return f"http://{self.addresses[function]}/{path}"


@contextlib.contextmanager
def wasmtime(program, components, *flags):
    """Serves each of these components by its name."""
    with contextlib.ExitStack() as stack:
        addresses, processes = {}, {}
        for name, file in components.items():
            addresses[name] = f"127.0.0.1:{free_port()}"
            serving = stack.enter_context(process(program, "serve", "--addr", addresses[name], "-S", "cli", *flags, file))
            processes[f"wasmtime {name}"] = serving.pid
        for address in addresses.values():
            wait_until_answers(f"http://{address}/")
        yield Wasmtime(addresses, processes)


def install_wasmtime():
    """`wasmtime` of the pinned version, installed at the first run."""
    program = TOOLS / "peers/bin/wasmtime"
    if not program.exists() or WASMTIME not in output(program, "--version"):
        say(f"installing wasmtime-cli {WASMTIME}; this takes some minutes")
        run("cargo", "install", "--quiet", "--locked", "--root", TOOLS / "peers", "--version", WASMTIME, "wasmtime-cli")
    return program


@contextlib.contextmanager
def process(*command, **options):
    started = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, **QUIET, **options)
    try:
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        started.wait(30)


def free_port():
    """A free port below those that outgoing connections use."""
    for port in range(18_300, 20_000):
        if port not in free_port.given:
            free_port.given.add(port)
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise SystemExit("error: no port between 18300 and 20000 is free")


free_port.given = set()


@functools.cache
def opener():
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


def get(url, token):
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    with opener().open(request, timeout=60) as answer:
        return json.load(answer)


def answers(url, token=None):
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with opener().open(request, timeout=30) as answer:
            return answer.status == 200
    except OSError:
        return False


def wait_until_answers(url, token=None, seconds=90):
    eventually(lambda: answers(url, token), seconds, f"an answer of {url}")


def memory_kib(pid):
    """Resident memory of a process that no other one shares with it, and all of it: [private, resident], in KiB."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    number = lambda name: int(fields[name].split()[0])  # noqa: E731
    return {"private": number("Private_Clean") + number("Private_Dirty"), "resident": number("Rss")}
