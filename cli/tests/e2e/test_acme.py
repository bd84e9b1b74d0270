"""Certificates of domains, got by ACME from a real authority: Let's Encrypt's Pebble, which asks the gateways as any authority does,
by HTTP and by TLS. Its certificates live for some seconds, so that they are renewed while we look."""

import base64
import contextlib
import json
import re
import signal
import socket
import ssl
import subprocess
import threading

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, load_pem_private_key

from harness.cluster import Cluster, eventually
from harness.logs import PANIC
from harness.paths import TOOLS, Cli, plain_environment
from harness.receiver import Receiver

LIFE = 24

GATEWAY = """
path_addressing = true
domain = "fn.localhost"

[tls]
redirect = "127.0.0.1:0"

[[tls.certificates]]
certificate = "{folder}/files.pem"
key = "{folder}/files.key"
passphrase = "{folder}/files.passphrase"
"""

SCHEDULER = """
[acme]
directory = "https://localhost:{port}/dir"
contact = ["mailto:ops@example.com"]
terms_agreed = true
ca_file = "{ca}"
retry_seconds = 1

[webhooks]
allow_private = true
"""


class Balancer:
    """A port whose connections go to several others in turn, as behind a load balancer; or to nobody."""

    def __init__(self, targets):
        self.targets, self.open, self.turn, self.connections = targets, True, 0, 0
        self.hold = threading.Event()
        self.hold.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection:
            if not self.open:
                return
            self.hold.wait(60)
            ports = self.targets()
            self.turn += 1
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", ports[self.turn % len(ports)])) as other:
                back = threading.Thread(target=self._copy, args=(other, connection), daemon=True)
                back.start()
                self._copy(connection, other)
                back.join()

    @staticmethod
    def _copy(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


class Pebble:
    """The authority. What it knows is in its memory: after a restart it knows nobody."""

    def __init__(self, folder, authority, names, ports):
        self.folder, self.authority = folder, authority
        self.port, self.management = ports
        certificate, key = authority.pair("localhost")
        (folder / "pebble.pem").write_bytes(certificate)
        (folder / "pebble.key").write_bytes(key)
        self.names = names

    def start(self, http, tls):
        config = {"listenAddress": f"127.0.0.1:{self.port}", "managementListenAddress": f"127.0.0.1:{self.management}", "httpPort": http, "tlsPort": tls,
                  "certificate": str(self.folder / "pebble.pem"), "privateKey": str(self.folder / "pebble.key"), "ocspResponderURL": "",
                  "externalAccountBindingRequired": False, "certificateValidityPeriod": LIFE}
        (self.folder / "pebble.json").write_text(json.dumps({"pebble": config}))
        with open(self.folder / "pebble.log", "ab") as log:
            environment = plain_environment(PEBBLE_VA_NOSLEEP="1", PEBBLE_AUTHZREUSE="0")
            command = [TOOLS / "bin/pebble", "-config", self.folder / "pebble.json", "-dnsserver", self.names.address]
            self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        eventually(lambda: self.root(), what="pebble answering")

    def root(self):
        """What its certificates are trusted by; another after each start."""
        trusted = ssl.create_default_context(cafile=self.authority.file)
        return httpx.get(f"https://localhost:{self.management}/roots/0", verify=trusted, trust_env=False).text

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)


class World:
    """A cluster of two gateways behind one address, and the authority."""

    def __init__(self, folder, authority, names):
        self.folder, self.names = folder, names
        (folder / "gateway.toml").write_text(self.gateway_config(authority))
        self.cluster = None
        self.http, self.tls = Balancer(self.plain_ports), Balancer(self.tls_ports)
        self.pebble = Pebble(folder, authority, names, free_ports(2))
        self.pebble.start(self.http.port, self.tls.port)
        (folder / "scheduler.toml").write_text(SCHEDULER.format(port=self.pebble.port, ca=authority.file))
        self.cluster = Cluster(folder / "cluster", f"--gateway-arg=--config={folder / 'gateway.toml'}", f"--scheduler-arg=--config={folder / 'scheduler.toml'}", "--workers", 1)
        self.cli = Cli(folder, self.cluster.admin, self.cluster.token)

    def gateway_config(self, authority):
        certificate, key = authority.pair("*.fn.localhost", "files.example")
        (self.folder / "files.pem").write_bytes(certificate)
        # A key that a passphrase opens.
        key = load_pem_private_key(key, None).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open sesame"))
        for name, content in (("files.key", key), ("files.passphrase", b"open sesame\n")):
            (self.folder / name).write_bytes(content)
            (self.folder / name).chmod(0o600)
        return GATEWAY.format(folder=self.folder)

    def tls_ports(self):
        return [int(gateway["functions"].rpartition(":")[2]) for gateway in self.cluster.gateways]

    def plain_ports(self):
        """Where the gateways redirect: they say so in their logs when they start."""
        logs = [(self.cluster.folder / f"logs/{gateway['name']}.log").read_text() for gateway in self.cluster.gateways]
        return [int(re.findall(r'"redirect":"Some\(127\.0\.0\.1:(\d+)\)"', log)[-1]) for log in logs]

    def domain(self, name, *options):
        """A new domain that leads to the gateways, with a route that answers."""
        self.names.addresses[name] = [["127.0.0.1"]]
        self.cli.ok("domain", "add", name, "--vouch", *options)
        route = {"name": f"namespaces/default/routes/{name.replace('.', '-')}", "path": "/", "host": name, "response": {"status": 200, "body": base64.b64encode(b"served").decode()}}
        self.cluster.api().call("RouteService.PutRoute", route=route, replace=True)

    def state(self, name):
        return self.cli.ok("domain", "show", name, "-o", "json").json["certificate"]

    def shown(self, name, gateway=0):
        """The certificate that a gateway shows to whoever asks for this name."""
        context = ssl._create_unverified_context()
        with socket.create_connection(("127.0.0.1", self.tls_ports()[gateway]), timeout=20) as plain, context.wrap_socket(plain, server_hostname=name) as stream:
            return x509.load_der_x509_certificate(stream.getpeercert(binary_form=True))

    def is_for(self, name, gateway=0):
        names = self.shown(name, gateway).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return names.get_values_for_type(x509.DNSName) == [name]

    def call(self, name, gateway=0):
        """Calls a domain by TLS as a browser does, trusting the authority alone."""
        context = ssl.create_default_context(cadata=self.pebble.root())
        with socket.create_connection(("127.0.0.1", self.tls_ports()[gateway]), timeout=20) as plain, context.wrap_socket(plain, server_hostname=name) as stream:
            stream.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while data := stream.recv(65536):
                answer += data
        return answer

    def stop(self):
        self.pebble.stop()
        for log in self.cluster.logs():
            assert not PANIC.search(log.read_text(errors="replace")), log
        self.cluster.stop()


def free_ports(count):
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


@pytest.fixture(scope="module")
def world(tmp_path_factory, authority, names):
    made = World(tmp_path_factory.mktemp("acme"), authority, names)
    yield made
    made.stop()


@pytest.fixture
def issued(world):
    """A domain that has its certificate on both gateways."""
    if "first.example" not in world.names.addresses:
        world.domain("first.example")
    eventually(lambda: all(world.is_for("first.example", gateway) for gateway in (0, 1)), seconds=30, what="the first certificate")
    # A test before may have kept it from being renewed.
    eventually(lambda: world.state("first.example")["failures"] == 0, seconds=60, what="a renewal that succeeds")
    return "first.example"


def test_a_domain_gets_a_certificate_by_http_and_every_gateway_shows_it(world, issued):
    for gateway in (0, 1):
        answer = world.call(issued, gateway)
        assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"served"), answer
    state = world.state(issued)
    assert "Pebble" in state["issuer"] and state["failures"] == 0 and state["error"] == "", state
    assert state["start_time"] < state["next_attempt_time"] < state["expire_time"]
    assert "left" in world.cli.ok("domain", "list").out
    listed = world.cluster.rest().get("/api/v1/namespaces/default/domains").json()["domains"]
    assert [domain["certificate"]["issuer"] for domain in listed if domain["domain"] == issued] == [state["issuer"]]
    assert world.http.connections > 0, "the authority asked by HTTP"


def test_files_win_for_their_names_and_strangers_see_the_first(world, issued):
    files = x509.load_pem_x509_certificate((world.folder / "files.pem").read_bytes()).serial_number
    assert world.shown("a--b.fn.localhost").serial_number == files
    assert world.shown("nobody.example").serial_number == files
    world.domain("files.example", "--tls", "none")
    assert world.shown("files.example").serial_number == files
    assert world.state("files.example") is None


def test_only_tokens_in_force_are_answered_and_nothing_else_is_reserved(world, issued):
    for port in world.plain_ports():
        answer = httpx.get(f"http://127.0.0.1:{port}/.well-known/acme-challenge/x", headers={"Host": issued}, trust_env=False)
        assert answer.status_code == 308, "it is redirected as everything else"
    context = ssl._create_unverified_context()
    context.set_alpn_protocols(["acme-tls/1"])
    with socket.create_connection(("127.0.0.1", world.tls_ports()[0]), timeout=20) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname=issued)


def test_where_one_way_is_closed_the_other_is_taken_and_the_owner_is_told(world):
    world.http.open = False
    # The other way leads nowhere until the failure was seen: its success is the end of that.
    world.tls.hold.clear()
    try:
        before = world.tls.connections
        world.domain("second.example")
        failed = eventually(lambda: (state := world.state("second.example")) and state["failures"] and state, seconds=30, what="a failure")
        assert "the authority refuses" in failed["error"] and failed["hint"], failed
        world.tls.hold.set()
        eventually(lambda: world.is_for("second.example", 0) and world.is_for("second.example", 1), seconds=60, what="the certificate by TLS")
        assert world.tls.connections > before, "the authority asked by TLS"
        assert world.call("second.example").endswith(b"served")
    finally:
        world.http.open = True
        world.tls.hold.set()


def test_a_certificate_is_renewed_and_no_connection_notices(world, issued):
    first, seen, stop, failures = world.shown(issued).serial_number, set(), threading.Event(), []

    def connect():
        while not stop.is_set():
            try:
                seen.add(world.shown(issued, len(seen) % 2).serial_number)
            except OSError as error:
                failures.append(error)

    thread = threading.Thread(target=connect)
    thread.start()
    try:
        eventually(lambda: all(world.shown(issued, gateway).serial_number != first for gateway in (0, 1)), seconds=3 * LIFE, what="the renewal")
        assert world.call(issued).endswith(b"served")
        eventually(lambda: len(seen) >= 2 or failures, what="the connections going on")
    finally:
        stop.set()
        thread.join()
    assert not failures and len(seen) >= 2, failures


def test_a_gateway_that_starts_without_scheduler_shows_what_it_had(world, issued):
    sealed = world.cluster.folder / "gateway-1/certificates.sealed"
    kept = eventually(sealed.read_bytes, what="the certificates on disk")
    assert sealed.stat().st_mode & 0o777 == 0o600
    assert issued.encode() not in kept and b"BEGIN" not in kept
    world.cluster.kill("scheduler")
    world.cluster.restart("gateway-1")
    try:
        eventually(lambda: world.is_for(issued, 0), what="the certificate from its disk")
    finally:
        world.cluster.restart("scheduler")
    eventually(lambda: world.state(issued)["failures"] == 0 and world.cluster.rest().get("/api/v1/cluster").status_code == 200, seconds=60,
               what="the scheduler again")


def test_an_order_that_a_restart_interrupts_is_made_again(world):
    ways = (world.http, world.tls)
    for way in ways:
        way.hold.clear()
    try:
        before = sum(way.connections for way in ways)
        world.domain("third.example")
        eventually(lambda: sum(way.connections for way in ways) > before, seconds=30, what="the authority asking")
        world.cluster.restart("scheduler")
    finally:
        for way in ways:
            way.hold.set()
    eventually(lambda: world.cli("domain", "list").code == 0, seconds=30, what="the scheduler again")
    eventually(lambda: world.is_for("third.example", 0) and world.is_for("third.example", 1), seconds=60, what="the certificate")


def test_while_the_authority_is_away_the_owner_is_told_and_it_is_asked_again(world, issued):
    world.pebble.stop()
    world.domain("fourth.example")
    failed = eventually(lambda: (state := world.state("fourth.example")) and state["failures"] and state, seconds=30, what="a failure")
    assert "can't be asked" in failed["error"] and "acme.directory" in failed["hint"], failed
    text = world.cli.ok("domain", "show", "fourth.example").out
    assert "failing" in text and "can't be asked" in text, text
    # A webhook that is set only now is told of it, and of certificates that could not be renewed.
    eventually(lambda: world.state("fourth.example")["failures"] >= 3, seconds=30, what="three failures")
    eventually(lambda: world.state(issued)["failures"] >= 3, seconds=60, what="renewals that fail")
    receiver = Receiver()
    receiver.secrets.append(world.cli.ok("webhook", "set", receiver.url).out.strip())
    told = lambda: {(event["type"].rpartition(".")[2], event["data"]["domain"]) for event in receiver.events()}  # noqa: E731
    eventually(lambda: {("failed", "fourth.example"), ("failed", issued)} <= told(), what="the failures being told of")
    world.cli.ok("webhook", "delete", "-y")
    receiver.close()
    # It comes back and does not know us any more.
    world.pebble.start(world.http.port, world.tls.port)
    eventually(lambda: world.is_for("fourth.example", 0), seconds=90, what="the certificate")
    assert world.call("fourth.example").endswith(b"served")
    assert eventually(lambda: (state := world.state("fourth.example"))["failures"] == 0 and state, what="the success")["error"] == ""


def test_a_certificate_that_ends_without_a_new_one_is_told_once(world, issued):
    receiver = Receiver()
    receiver.secrets.append(world.cli.ok("webhook", "set", receiver.url).out.strip())
    ends = lambda: [event["data"]["expire_time"] for event in receiver.events() if event["type"] == "dev.dunlin.certificate.expiring" and event["data"]["domain"] == issued]  # noqa: E731
    try:
        world.pebble.stop()
        eventually(ends, seconds=3 * LIFE, what="the end being told of")
        failures = world.state(issued)["failures"]
        world.cluster.kill("scheduler")
        world.cluster.restart("scheduler")
        eventually(lambda: world.cli("domain", "list").code == 0, seconds=30, what="the scheduler again")
        eventually(lambda: world.state(issued)["failures"] >= failures + 2, seconds=60, what="renewals that fail")
        # A webhook that is set again knows.
        world.cli.ok("webhook", "set", receiver.url)
        world.cli.ok("webhook", "test")
        told = ends()
        assert len(told) == 1 and told[0][:19] == world.shown(issued).not_valid_after_utc.isoformat()[:19], told
    finally:
        world.cli("webhook", "delete", "-y")
        receiver.close()
        world.pebble.start(world.http.port, world.tls.port)
    eventually(lambda: world.state(issued)["failures"] == 0, seconds=90, what="the renewal")


def test_a_domain_that_is_given_back_is_not_served_any_more(world, issued):
    world.cluster.api().call("RouteService.DeleteRoute", name=f"namespaces/default/routes/{issued.replace('.', '-')}")
    world.cli.ok("domain", "remove", issued, "-y")
    files = x509.load_pem_x509_certificate((world.folder / "files.pem").read_bytes()).serial_number
    eventually(lambda: world.shown(issued).serial_number == files, what="the certificate being gone")


def test_no_private_key_lies_in_the_clear(world):
    """Neither in files of the platform nor in its logs: only encrypted, as text or as bytes (RFC 5958 begins a key of Ed25519 so)."""
    for file in (path for path in world.cluster.folder.rglob("*") if path.is_file()):
        kept = file.read_bytes()
        assert b"BEGIN PRIVATE KEY" not in kept and b"\x06\x03\x2b\x65\x70\x04\x22\x04\x20" not in kept, file


ALONE = """
path_addressing = true
domain = "fn.localhost"

[tls]
acme = true
redirect = "127.0.0.1:0"
"""


class Alone(World):
    """The same without any certificate from a file."""

    def gateway_config(self, authority):
        return ALONE


@pytest.fixture
def alone(tmp_path_factory, authority, names):
    made = Alone(tmp_path_factory.mktemp("acme-alone"), authority, names)
    yield made
    made.stop()


def refused_name(world, name, gateway):
    """What a gateway says to whoever asks for a name that has no certificate."""
    with pytest.raises(ssl.SSLError) as refused:
        world.shown(name, gateway)
    return refused.value.reason


def test_gateways_without_any_file_get_their_certificates_by_either_way(alone):
    for gateway in (0, 1):
        assert "UNRECOGNIZED_NAME" in refused_name(alone, "fifth.example", gateway)
    alone.domain("fifth.example")
    eventually(lambda: all(served(alone, "fifth.example", gateway) for gateway in (0, 1)), seconds=60, what="the certificate by HTTP")
    assert alone.http.connections > 0
    alone.http.open = False
    alone.domain("sixth.example")
    eventually(lambda: all(served(alone, "sixth.example", gateway) for gateway in (0, 1)), seconds=60, what="the certificate by TLS")
    assert alone.tls.connections > 0
    for gateway in (0, 1):
        assert "UNRECOGNIZED_NAME" in refused_name(alone, "nobody.example", gateway)


def served(world, name, gateway):
    try:
        return world.is_for(name, gateway) and world.call(name, gateway).endswith(b"served")
    except ssl.SSLError:
        return False
