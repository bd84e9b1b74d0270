"""What auditors find who look at TLS from outside: sslyze with Mozilla's profile, and testssl. By hand it is tested in test_tls.py."""

import datetime
import json
import subprocess

import pytest

from harness.paths import TOOLS, plain_environment
from harness.secure import running
from harness.servers import Authority

# What testssl holds against the certificate of these tests, which is not the gateway's to choose.
OF_THE_CERTIFICATE = {"cert_revocation": "its authority publishes no revocations"}
SERIOUS = ("MEDIUM", "HIGH", "CRITICAL", "FATAL")
# All but client simulations and ciphers one by one, which take a minute and find nothing that these don't.
CHECKS = ["--protocols", "--std", "--server-preference", "--server-defaults", "--headers", "--vulnerable"]


@pytest.fixture(scope="module")
def audited(tmp_path_factory, authority):
    """A process whose certificates are signed by an intermediate authority and hold for as long as usual ones."""
    home = tmp_path_factory.mktemp("audited")
    intermediate = Authority(home, above=authority)
    with running(home, authority, lambda *hosts: intermediate.pair(*hosts, valid=datetime.timedelta(days=89))) as started:
        yield started


def run(*command):
    return subprocess.run(list(map(str, command)), env=plain_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("listener", ["functions", "admin"])
def test_t34_sslyze_finds_what_mozilla_asks_for(audited, tmp_path, listener):
    found = tmp_path / "found.json"
    port = audited.port if listener == "functions" else audited.admin
    ran = run(TOOLS / "sslyze/bin/python", "-m", "sslyze", "--mozilla_config=intermediate", "--http_headers", f"--certinfo_ca_file={audited.authority.file}", f"--json_out={found}", f"localhost:{port}")
    assert ran.returncode == 0 and "OK - Compliant" in ran.stdout, ran.stdout + ran.stderr
    server = json.loads(found.read_text())["server_scan_results"][0]
    results = {name: scan["result"] for name, scan in server["scan_result"].items()}
    for old in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"):
        assert not results[f"{old}_cipher_suites"]["accepted_cipher_suites"], old
    for new in ("tls_1_2", "tls_1_3"):
        names = [suite["cipher_suite"]["name"] for suite in results[f"{new}_cipher_suites"]["accepted_cipher_suites"]]
        assert len(names) == 3 and all("GCM" in name or "CHACHA20" in name for name in names), names
    deployment = results["certificate_info"]["certificate_deployments"][0]
    assert len(deployment["received_certificate_chain"]) == 2 and deployment["received_chain_has_valid_order"] and not deployment["received_chain_contains_anchor_certificate"]
    assert deployment["verified_certificate_chain"]
    assert results["http_headers"]["strict_transport_security_header"]["max_age"] == 365 * 86_400


def test_t34_testssl_finds_nothing_that_matters(audited, tmp_path):
    found = tmp_path / "found.json"
    ran = run(TOOLS / "bin/testssl", "--quiet", "--warnings", "off", "--color", 0, "--add-ca", audited.authority.file, "--jsonfile", found, *CHECKS, f"localhost:{audited.port}")
    findings = {finding["id"]: finding for finding in json.loads(found.read_text())}
    serious = [finding for finding in findings.values() if finding["severity"] in SERIOUS and finding["id"] not in OF_THE_CERTIFICATE]
    assert ran.returncode >= 0 and not serious, f"{serious}\n{ran.stdout}"
    said = {name: findings[name]["finding"] for name in ("TLS1_2", "TLS1_3", "ALPN_HTTP2", "ALPN", "cert_chain_of_trust", "heartbleed", "cipher_order")}
    assert said["TLS1_2"] == "offered" and said["TLS1_3"] == "offered with final" and said["ALPN_HTTP2"] == "h2" and "http/1.1" in said["ALPN"], said
    assert said["cert_chain_of_trust"] == "passed." and said["heartbleed"].startswith("not vulnerable") and said["cipher_order"] == "server", said
