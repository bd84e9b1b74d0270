"""A gateway with low limits, for those who attack it: what it serves, whom it must go on serving meanwhile, and what that may cost it."""

import contextlib
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from . import guests
from .cluster import Cluster, eventually
from .logs import PANIC
from .wire import Answer, Beside, Expense, exchange

# Low, so that each attack is soon over. Callers beside say all that they have to say at once; what concerns them leaves the machine
# time to stop one of them, or the gateway, in the middle of it.
LIMITS = """
[limits]
connections = 1000
connections_per_address = 300
header_timeout = "2s"
idle_timeout = "2s"
body_patience = "400ms"
answer_patience = "2s"
"""
# What an attack may cost: far more than it does, far less than it would.
MEMORY, CPU = 80, 3

# Five megabytes, as fast as they are taken.
BIG = guests.command("(local $i i32) (call $head) (loop $on (call $say (i32.const 1024) (i32.const 60000))"
                     " (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $on (i32.lt_u (local.get $i) (i32.const 84))))")
STREAM = b"Content-Type: text/event-stream\r\n\r\ndata: first\n\n"
# An event, and another one twenty seconds later.
EVENTS = guests.command(f"""
  (call $say (i32.const 4096) (i32.const {len(STREAM)}))
  (i32.store (i32.const 1040) (i32.const 1))
  (i64.store (i32.const 1048) (i64.const 20000000000))
  (drop (call $poll_oneoff (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 8)))
  (call $say (i32.const 4160) (i32.const 14))""", data={4096: STREAM, 4160: b"data: second\n\n"})


def a_namespace(api):
    name = "t-" + uuid.uuid4().hex[:8]
    api.call("NamespaceService.CreateNamespace", namespace_id=name)
    return name


class Edge:
    """A cluster with one gateway, and functions of two tenants."""

    def __init__(self, cluster):
        self.cluster, self.api = cluster, cluster.api()
        self.functions, self.admin = cluster.gateways[0]["functions"], cluster.gateways[0]["admin"]
        self.namespace = a_namespace(self.api)
        self.neighbour = a_namespace(self.api)
        self.api.deploy(self.neighbour, "fine", guests.answer("fine"))
        everything = {"echo": guests.ECHO, "sleep": guests.SLEEP, "big": BIG, "environment": guests.ENVIRONMENT, "events": EVENTS, "sink": guests.SINK}
        for name, wasm in everything.items():
            self.api.deploy(self.namespace, name, wasm, spec={"limits": {"request_body_bytes": 1 << 20}})
        eventually(self.call_neighbour_and_see, what="the neighbour")
        eventually(lambda: self.get("environment").status == 200, what="the functions")

    def path(self, function, rest=""):
        return f"/{self.namespace}/{function}/{rest}"

    def get(self, function, rest="", headers=""):
        return Answer(exchange(self.functions, f"GET {self.path(function, rest)} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n".encode()))

    def call_neighbour(self):
        answer = exchange(self.functions, f"GET /{self.neighbour}/fine/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
        return None if b" 200 OK" in answer[:20] and b"fine" in answer else answer

    def call_neighbour_and_see(self):
        return self.call_neighbour() is None

    def call_admin(self):
        answer = exchange(self.admin, f"GET /api/v1/identity HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer {self.cluster.token}\r\n\r\n".encode())
        return None if b" 200 OK" in answer[:20] else answer

    def invocations(self, function):
        return self.api.call("InvocationService.ListInvocations", parent=f"namespaces/{self.namespace}/functions/{function}", page_size=1000)["invocations"]


def started(folder, config):
    (folder / "gateway.toml").write_text(config)
    return Cluster(folder, "--sqlite", "--gateways", 1, "--workers", 1, f"--gateway-arg=--config={folder / 'gateway.toml'}")


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    cluster = started(tmp_path_factory.mktemp("edge"), LIMITS)
    try:
        yield Edge(cluster)
        panics = [line for log in cluster.logs() for line in log.read_text(errors="replace").splitlines() if PANIC.search(line)]
        assert not panics, "\n".join(panics)
    finally:
        cluster.stop()


@contextlib.contextmanager
def unharmed(pid, *calls):
    """Whatever happens within, other callers are served, and the gateway spends and keeps little."""
    expense = Expense(pid)
    with Beside(*calls) as beside:
        yield expense
        memory, cpu = expense.memory, expense.cpu
    assert not beside.failures, f"{len(beside.failures)} of {beside.calls} calls beside failed: {beside.failures[:3]}"
    assert beside.slowest < 5, f"a call beside took {beside.slowest:.1f} s"
    assert memory < MEMORY and cpu < CPU, f"the gateway took {memory:.0f} MiB and {cpu:.1f} s of a processor"
    eventually(lambda: expense.connections < 20, seconds=20, what="the end of the attack's connections")


@pytest.fixture
def holds(edge):
    with unharmed(edge.cluster.pid("gateway-1"), edge.call_neighbour, edge.call_admin) as expense:
        yield expense


both = pytest.mark.parametrize("listener", ["functions", "admin"])


def all_at_once(work, items):
    items = list(items)
    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(work, items))
