"""Processes trust each other by certificates (T47): who has none, another's, an expired one or one of another role gets nowhere."""

import base64
import json
import shutil
import socket
import ssl
import subprocess
import tempfile
import time

import grpc
import h2.config
import h2.connection
import h2.events
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from conftest import new_namespace
from harness import guests
from harness.cluster import Cluster, eventually
from harness.paths import BINARIES, Cli, plain_environment
from harness.tokens import unsealed

UNAUTHENTICATED, DENIED, UNIMPLEMENTED = "16", "7", "12"


def run(binary, *arguments, seconds=20, **options):
    ran = subprocess.run([BINARIES / binary, *map(str, arguments)], env=plain_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, **options)
    return ran.returncode, ran.stdout.strip(), ran.stderr.strip()


def readable(member):
    """The same key and certificates with the key as OpenSSL reads it: in the clear, PKCS #8 without the public half (RFC 5208, not 5958)."""
    text, end = member.read_text(), "-----END DUNLIN ENCRYPTED PRIVATE KEY-----"
    sealed = base64.b64decode("".join(text.partition(end)[0].splitlines()[1:]))
    der = unsealed(sealed, member.parent.parent / "storage.key", "member")
    seed = der[der.index(b"\x04\x22\x04\x20") + 4:][:32]
    key = Ed25519PrivateKey.from_private_bytes(seed).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file = tempfile.NamedTemporaryFile(suffix=".pem", delete=False)
    file.write(key + text.partition(end)[2].lstrip().encode())
    file.close()
    return file.name


def call(url, path, member=None):
    """The gRPC status that a method gives to somebody with this key and certificate; raises where there is no connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if member:
        context.load_cert_chain(readable(member))
    host, port = url.rpartition("/")[2].split(":")
    with socket.create_connection((host, int(port)), timeout=5) as raw, context.wrap_socket(raw) as stream:
        http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        http.initiate_connection()
        http.send_headers(1, [(":method", "POST"), (":scheme", "https"), (":authority", "x"), (":path", path), ("content-type", "application/grpc"), ("te", "trailers")])
        http.send_data(1, b"\0" * 5, end_stream=True)
        stream.sendall(http.data_to_send())
        while True:
            received = stream.recv(65536)
            if not received:
                raise ConnectionError("the connection was closed")
            for event in http.receive_data(received):
                if isinstance(event, (h2.events.ResponseReceived, h2.events.TrailersReceived)):
                    status = dict(event.headers).get(b"grpc-status")
                    if status is not None:
                        return status.decode()
            stream.sendall(http.data_to_send())


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Another cluster, whose workers may come and go."""
    made = Cluster(tmp_path_factory.mktemp("small"), "--sqlite", "--gateways", 1, "--workers", 1)
    yield made
    made.stop()


SESSION, LOGS = "/dunlin.internal.v1.SessionService/OpenSession", "/dunlin.internal.v1.WorkerLogService/ReadWorkerLogs"
RECORDS, SYNC = "/dunlin.internal.v1.InvocationRecordService/ListRecords", "/dunlin.internal.v1.SyncService/SyncWorker"
FUNCTIONS, CODE = "/dunlin.v1.FunctionService/ListFunctions", "/dunlin.internal.v1.ArtifactService/FetchCode"


@pytest.mark.expects_log("an internal call is refused")
def test_t47_each_listener_hears_those_alone_whose_role_it_is_for(cluster):
    scheduler, worker, peer = cluster.facts["scheduler"], cluster.facts["workers"][0]["address"], cluster.gateways[0]["peer"]
    a_worker, a_gateway = cluster.folder / "worker-2/trust/member.pem", cluster.folder / "gateway-2/trust/member.pem"
    for url, path, member in ((worker, SESSION, a_worker), (worker, LOGS, a_worker), (peer, RECORDS, a_worker), (scheduler, SYNC, a_gateway),
                              (scheduler, FUNCTIONS, a_worker), (scheduler, CODE, a_gateway)):
        assert call(url, path, member) == DENIED, f"{path} with {member}"
    for url, path, member in ((worker, LOGS, a_gateway), (peer, RECORDS, a_gateway), (scheduler, FUNCTIONS, a_gateway), (scheduler, CODE, a_worker)):
        assert call(url, path, member) not in (UNAUTHENTICATED, DENIED, UNIMPLEMENTED), f"{path} with {member}"
    assert call(scheduler, FUNCTIONS) == UNAUTHENTICATED
    for url, path in ((worker, SESSION), (peer, RECORDS)):
        with pytest.raises(OSError):
            call(url, path)


@pytest.mark.expects_log("an internal call is refused")
def test_t47_nobody_is_heard_without_tls(cluster):
    for url in (cluster.facts["scheduler"], cluster.facts["workers"][0]["address"], cluster.gateways[0]["peer"]):
        with grpc.insecure_channel(url.rpartition("/")[2], [("grpc.enable_http_proxy", 0)]) as channel:
            for metadata in ((), (("dunlin-cluster-secret", "0" * 64),), (("authorization", f"Bearer {cluster.token}"),)):
                with pytest.raises(grpc.RpcError) as refused:
                    channel.unary_unary(FUNCTIONS)(b"", timeout=5, metadata=metadata)
                assert refused.value.code() == grpc.StatusCode.UNAVAILABLE, url


@pytest.mark.expects_log("an internal call is refused")
def test_t47_another_clusters_certificate_is_refused(cluster, small, tmp_path):
    for url, path, member in ((cluster.facts["scheduler"], SYNC, "worker-1"), (cluster.facts["workers"][0]["address"], SESSION, "gateway-1")):
        with pytest.raises(OSError):
            call(url, path, small.folder / member / "trust/member.pem")
    token = cluster.api().call("ClusterService.CreateJoinToken", role="JOIN_ROLE_WORKER")["token"]
    code, _, said = run("dunlin-worker", "join", token, "--scheduler", small.facts["scheduler"], "--data-dir", tmp_path / "data")
    assert code == 1 and "another cluster" in said, said


def test_t47_a_machine_joins_with_a_token_from_the_operator_once(small, tmp_path):
    cluster, cli = small, Cli(tmp_path, small.admin, small.token)
    made = cli("join-token", "create", "worker", "--lifetime", "5m")
    assert made.code == 0 and jwt.decode(made.out.strip(), options={"verify_signature": False})["role"] == "worker", made
    token, data = made.out.strip(), tmp_path / "data"
    arguments = ("worker", "join", token, "--scheduler", cluster.facts["scheduler"])
    joined = cli(*arguments, "--name", "joined-1", "--data-dir", data, "-o", "json")
    assert joined.code == 0 and json.loads(joined.out)["name"] == "joined-1", joined
    member = data / "trust/member.pem"
    assert member.stat().st_mode & 0o777 == 0o600 and member.parent.stat().st_mode & 0o777 == 0o700
    certificate = x509.load_pem_x509_certificate(member.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://dunlin/worker/joined-1"]
    again = cli(*arguments, "--name", "joined-2", "--data-dir", tmp_path / "again")
    assert again.code != 0 and "used already" in again.err and "join-token create" in again.err, again
    with subprocess.Popen([BINARIES / "dunlin-worker", "--data-dir", data, "--scheduler", cluster.facts["scheduler"], "--listen", "127.0.0.1:0"], env=plain_environment(),
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: cluster.worker_states().get("joined-1") == "ready", what="the new worker")
            taken = run("dunlin-worker", "--data-dir", data, "--name", "joined-3")
            assert taken[0] == 1 and "in use" in taken[2]
        finally:
            process.terminate()
            process.wait(30)
    wrong = run("dunlin-worker", "--data-dir", data, "--name", "joined-3", "--scheduler", cluster.facts["scheduler"])
    assert wrong[0] == 1 and "joined-1" in wrong[2] and "--data-dir" in wrong[2], wrong


def test_t47_bad_join_tokens_are_refused_with_the_way_out(small, tmp_path):
    cluster = small

    def join(token, *more):
        code, _, said = run("dunlin-worker", "join", token, "--scheduler", cluster.facts["scheduler"], "--data-dir", tmp_path / "data", *more)
        assert code == 1 and "panicked" not in said, said
        return said

    def made(*arguments):
        code, out, err = run("dunlin-scheduler", "join-token", *arguments, "--data-dir", cluster.folder / "scheduler")
        assert code == 0, err
        return out

    assert "join-token create" in join("garbage") and "join-token create" in join(cluster.token)
    assert "for a gateway" in join(made("gateway"))
    short = made("worker", "--lifetime", "1s")
    time.sleep(2.1)  # expiry counts in whole seconds
    assert "expired" in join(short)
    assert "worker-1" in join(made("worker"), "--name", "worker-1"), "its name is taken"
    assert "for the worker a" in join(made("worker", "--name", "a"), "--name", "b")
    good = made("worker").split(".")
    forged = ".".join([good[0], good[1], "A" * 86])
    assert "join-token create" in join(forged)
    code, _, said = run("dunlin-worker", "join", made("worker"), "--scheduler", "https://127.0.0.1:1", "--data-dir", tmp_path / "data")
    assert code == 1 and "127.0.0.1:1" in said
    assert run("dunlin-scheduler", "join-token", "scheduler", "--data-dir", cluster.folder / "scheduler")[0] != 0
    assert run("dunlin-scheduler", "join-token", "worker", "--name", "Not A Name", "--data-dir", cluster.folder / "scheduler")[0] != 0


@pytest.mark.timeout(150)
def test_t47_certificates_are_renewed_under_load_and_expired_ones_refused(tmp_path):
    """Certificates of 10 s, so that all of them are renewed while calls run; a worker that was away for longer must join again."""
    cluster = Cluster(tmp_path / "brief", "--sqlite", "--gateways", 1, "--workers", 2, "--env", "DUNLIN_SCHEDULER_CERTIFICATE_SECONDS=10")
    try:
        namespace = new_namespace(cluster.api())
        cluster.api().deploy(namespace, "fn", guests.answer("alive"))
        members = [cluster.folder / name / "trust/member.pem" for name in ("gateway-1", "worker-1", "worker-2")]
        before = [file.read_bytes() for file in members]
        old = tmp_path / "old/trust/member.pem"
        old.parent.mkdir(parents=True)
        shutil.copy(members[0], old)
        shutil.copy(members[0].parent.parent / "storage.key", tmp_path / "old/storage.key")
        with cluster.http() as client:
            eventually(lambda: client.get(f"/{namespace}/fn/").status_code == 200, what="the function")
            until, codes = time.monotonic() + 14, []
            while time.monotonic() < until:
                codes.append(client.get(f"/{namespace}/fn/").status_code)
                time.sleep(0.02)
        assert set(codes) == {200} and len(codes) > 200, {code: codes.count(code) for code in codes}
        assert all(file.read_bytes() != then for file, then in zip(members, before)), "a certificate was not renewed"
        with pytest.raises(OSError):
            call(cluster.facts["workers"][0]["address"], LOGS, old)
        cluster.restart("gateway-1")
        with cluster.http() as client:
            eventually(lambda: client.get(f"/{namespace}/fn/").status_code == 200, what="the function after a restart")
    finally:
        cluster.stop()
