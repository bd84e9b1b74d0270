"""`dunlin up` that speaks TLS to callers and administration, with certificates from files that tests may replace."""

import contextlib
import os
import signal
import socket
import ssl
import subprocess

import pytest

from .cluster import eventually
from .logs import PANIC
from .paths import BINARIES, Cli, plain_environment

CONFIG = """
[gateway.tls]
admin = true
redirect = "127.0.0.1:{redirect}"
hsts = "365days"
reload = "100ms"

[[gateway.tls.certificates]]
certificate = "{home}/first.pem"
key = "{home}/first.key"

[[gateway.tls.certificates]]
certificate = "{home}/second.pem"
key = "{home}/second.key"
"""


def free_ports(count):
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


def replace(path, content):
    """Writes a file as tools do that renew certificates: whole or not at all."""
    unfinished = path.with_suffix(".new")
    unfinished.write_bytes(content)
    unfinished.chmod(0o600)
    os.replace(unfinished, path)


class Up:
    """A running `dunlin up` that speaks TLS as `localhost` and as `other.test`."""

    def __init__(self, home, authority, pair=None):
        self.home, self.authority, self._pair = home, authority, pair or authority.pair
        self.port, self.admin, self.redirect = free_ports(3)
        self.url = f"https://localhost:{self.port}"
        self.renew("first", "localhost", "*.fn.localhost")
        self.renew("second", "other.test", "shop.test")
        (home / "up.toml").write_text(CONFIG.format(home=home, redirect=self.redirect))
        self.cli = Cli(home)
        self.cli.environment["SSL_CERT_FILE"] = str(authority.file)
        command = [BINARIES / "dunlin", "up", "--data-dir", home / "data", "--config", home / "up.toml", "--functions", f"127.0.0.1:{self.port}", "--admin", f"127.0.0.1:{self.admin}"]
        self.output = open(home / "up.log", "wb")
        self.process = subprocess.Popen(command, env=self.cli.environment, cwd=home, stdin=subprocess.DEVNULL, stdout=self.output, stderr=subprocess.STDOUT)

    def renew(self, name, *hosts):
        certificate, key = self._pair(*hosts)
        replace(self.home / f"{name}.key", key)
        replace(self.home / f"{name}.pem", certificate)

    @property
    def said(self):
        return (self.home / "up.log").read_text(errors="replace")

    def context(self, version=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.authority.file)
        if version:
            # Old versions are not even tried otherwise.
            context.set_ciphers("DEFAULT@SECLEVEL=0")
            context.minimum_version = context.maximum_version = version
        return context

    def connect(self, name="localhost", version=None):
        return self.context(version).wrap_socket(socket.create_connection(("127.0.0.1", self.port), timeout=20), server_hostname=name)

    def curl(self, *arguments):
        return subprocess.run(["curl", "--silent", "--show-error", "--cacert", self.authority.file, *arguments], env=plain_environment(), stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=30)


@contextlib.contextmanager
def running(home, authority, pair=None):
    """Such a process, which must end well; `pair` makes its certificates where the authority itself does not."""
    started = Up(home, authority, pair)
    try:
        eventually(lambda: "Deploy your own" in started.said, seconds=60, what="dunlin up greeting")
        yield started
    finally:
        started.process.send_signal(signal.SIGTERM)
        code = started.process.wait(40)
    assert not PANIC.search(started.said) and code == 0, started.said[-2000:]


@pytest.fixture(scope="module")
def up(tmp_path_factory, authority):
    with running(tmp_path_factory.mktemp("tls"), authority) as started:
        yield started
