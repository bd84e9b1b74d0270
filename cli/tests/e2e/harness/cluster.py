"""A cluster of real processes for tests: started, restarted and ended by deploy/cluster, the script that people use too."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time

import httpx

from .api import Api, ApiError
from .paths import BINARIES, REPO, plain_environment


class Cluster:
    """A running cluster and the ways into it."""

    def __init__(self, folder, *options):
        self.folder = folder
        self._script("start", "--ports", "random", "--binaries", BINARIES, "--log-format", "json", *options, timeout=150)
        self._apis = {}

    def _script(self, command, *options, timeout=90):
        environment = plain_environment()
        if "DUNLIN_TEST_POSTGRES" in os.environ:
            environment["DUNLIN_TEST_POSTGRES"] = os.environ["DUNLIN_TEST_POSTGRES"]
        ran = subprocess.run([REPO / "deploy/cluster", command, "--dir", self.folder, *map(str, options)], env=environment,
                             stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
        assert ran.returncode == 0, f"deploy/cluster {command} failed:\n{ran.stdout}{ran.stderr}"
        return ran

    @property
    def facts(self):
        return json.loads((self.folder / "cluster.json").read_text())

    @property
    def token(self):
        return self.facts["operator_token"]

    @property
    def gateways(self):
        return self.facts["gateways"]

    @property
    def admin(self):
        return self.gateways[0]["admin"]

    def api(self, token=None, gateway=0):
        """The gRPC API of a gateway, as the operator where no token is given; token="" sends none."""
        token = self.token if token is None else token
        address = self.gateways[gateway]["admin"]
        if (address, token) not in self._apis:
            self._apis[address, token] = Api(address, token)
        return self._apis[address, token]

    def http(self, gateway=0, **options):
        """A caller of functions."""
        return httpx.Client(base_url=self.gateways[gateway]["functions"], trust_env=False, timeout=60, **options)

    def rest(self, token=None, gateway=0):
        """A client of the dashboard's endpoints, as the operator where no token is given."""
        token = self.token if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.gateways[gateway]["admin"], headers=headers, trust_env=False, timeout=30)

    # Processes, by name: scheduler, gateway-1, worker-2...

    def pid(self, name):
        return self.facts["processes"][name]["pid"]

    def signal(self, name, number):
        os.kill(self.pid(name), number)

    def kill(self, name):
        self.signal(name, signal.SIGKILL)

    @contextlib.contextmanager
    def frozen(self, name):
        self.signal(name, signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(name, signal.SIGCONT)

    def restart(self, name, grace=40):
        self._script("restart", name, "--grace", grace)

    def restart_with(self, name, flag, value):
        """Starts a process anew with another value of a flag that it has."""
        facts = self.facts
        command = facts["processes"][name]["command"]
        command[command.index(flag) + 1] = value
        (self.folder / "cluster.json").write_text(json.dumps(facts))
        self.restart(name)

    def metrics_of(self, name):
        """Where a process serves metrics that takes any free port: its log says so."""
        lines = (self.folder / f"logs/{name}.log").read_text().splitlines()
        said = [line for line in lines if "serving metrics" in line]
        return re.search(r"127\.0\.0\.1:\d+", said[-1]).group()

    def is_alive(self, name):
        try:
            with open(f"/proc/{self.pid(name)}/stat") as file:
                return file.read().rpartition(")")[2].split()[0] not in "ZX"
        except OSError:
            return False

    def memory(self, name):
        """A process's resident memory in MiB."""
        with open(f"/proc/{self.pid(name)}/status") as file:
            return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS:"))

    def logs(self):
        return sorted((self.folder / "logs").glob("*.log"))

    def worker_states(self):
        return {worker["worker"]: worker["state"] for worker in self.rest().get("/api/v1/cluster").json()["workers"]}

    def stop(self):
        self._script("stop", "--grace", 20)


def eventually(check, seconds=10, every=0.05, what="this"):
    """Waits until `check` gives something true without raising, and returns it."""
    deadline = time.monotonic() + seconds
    error = None
    while True:
        try:
            found = check()
            if found:
                return found
            error = f"the last value was {found!r}"
        except (AssertionError, ApiError, httpx.HTTPError, OSError, KeyError, IndexError) as raised:
            error = f"the last error was {raised!r}"
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} was not true within {seconds} s; {error}")
        time.sleep(every)
