"""Callers and administration by TLS: `dunlin up` with certificates from files, driven by curl, by Python's ssl (which is
OpenSSL) and by the command itself."""

import re
import signal
import ssl
import subprocess
import threading
import time

import httpx
import pytest

from harness.cluster import eventually
from harness.paths import BINARIES, Cli, plain_environment
from harness.secure import replace, up  # noqa: F401

def test_what_it_prints_can_be_pasted(up):
    assert f"https://localhost:{up.admin}" in up.said
    url = next(match.group(1) for match in re.finditer(r"^\s*curl (https://\S+)$", up.said, re.M))
    path = url.split("/", 3)[3]
    for version, option in [("2", "--http2"), ("1.1", "--http1.1")]:
        ran = up.curl(option, "--write-out", "\n%{http_code} %{http_version}", f"{up.url}/{path}")
        assert ran.returncode == 0 and ran.stdout.endswith(f"\n200 {version}"), ran
    headers = up.curl("--head", "--resolve", f"x.fn.localhost:{up.port}:127.0.0.1", f"https://x.fn.localhost:{up.port}/{path}").stdout
    assert re.search("^strict-transport-security: max-age=31536000$", headers, re.M | re.I), headers


def test_the_session_is_kept_by_https_and_this_host_alone(up):
    token = up.cli.ok("token", "create", "--role", "operator").out.strip().splitlines()[-1]
    url = f"https://localhost:{up.admin}"
    with httpx.Client(base_url=url, verify=up.context(), trust_env=False, headers={"Origin": url, "Sec-Fetch-Site": "same-origin"}) as browser:
        cookie = browser.post("/sign-in", data={"token": token}).headers["set-cookie"]
        name, *attributes = (part.strip() for part in cookie.split(";"))
        assert name == f"__Host-dunlin-session={token}", cookie
        # A cookie with the prefix is taken by browsers only so (RFC 6265bis 4.1.3.2): no Domain, Path=/, Secure.
        assert {"Secure", "HttpOnly", "SameSite=Strict", "Path=/"} <= set(attributes) and not any(it.lower().startswith("domain") for it in attributes), cookie
        assert browser.get("/session").status_code == 200
        # One that a page of plain HTTP, or of another host, could have set is none.
        stranger = {"Cookie": f"dunlin-session={token}"}
        assert httpx.get(f"{url}/session", headers=stranger, verify=up.context(), trust_env=False).status_code == 303
        ended = browser.post("/sign-out").headers.get_list("set-cookie")
        assert any(each.startswith("__Host-dunlin-session=;") and "Secure" in each for each in ended), ended


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken(up, version):
    with up.connect(version=version) as stream:
        assert stream.version() == version.name.replace("_", ".")


def test_tls_1_1_is_refused(up):
    with pytest.raises(ssl.SSLError, match="(?i)alert"):
        up.connect(version=ssl.TLSVersion.TLSv1_1).close()


def test_each_name_has_its_certificate_and_its_connections(up):
    for name in ("localhost", "other.test", "y.fn.localhost"):
        with up.connect(name) as stream:
            names = [value for _, value in stream.getpeercert()["subjectAltName"]]
            assert name in names or f"*.{name.partition('.')[2]}" in names
    with pytest.raises(ssl.SSLCertVerificationError):
        up.connect("nobody.test").close()
    ran = up.curl("--header", "Host: other.test", f"{up.url}/default/hello/")
    assert "misdirected_request" in ran.stdout, ran
    ran = up.curl("--connect-to", f"other.test:{up.port}:127.0.0.1:{up.port}", f"https://other.test:{up.port}/default/hello/", "--write-out", "%{http_code}")
    assert ran.stdout.endswith("200"), ran


def test_http_in_the_clear_is_sent_to_https(up):
    answer = httpx.get(f"http://127.0.0.1:{up.port}/default/hello/", trust_env=False)
    assert answer.status_code == 400 and "https://" in answer.json()["error"]["hint"]
    answer = httpx.post(f"http://localhost:{up.redirect}/default/hello/?a=b", trust_env=False)
    assert (answer.status_code, answer.headers["location"]) == (308, f"{up.url}/default/hello/?a=b")
    assert "strict-transport-security" not in answer.headers
    ran = up.curl("--location", "--data", "x", f"http://localhost:{up.redirect}/default/hello/", "--write-out", "\n%{http_code}")
    assert ran.stdout.endswith("\n200"), ran


def serial(up):
    with up.connect() as stream:
        return stream.getpeercert()["serialNumber"]


class Callers:
    """Call on new connections and on one that stays, and remember what failed."""

    def __init__(self, up):
        self.up, self.calls, self.failures, self._stop = up, 0, [], threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(keep,), daemon=True) for keep in (False, False, True)]

    def _run(self, keep):
        kept = httpx.Client(verify=self.up.context(), trust_env=False, timeout=20)
        while not self._stop.is_set():
            client = kept if keep else httpx.Client(verify=self.up.context(), trust_env=False, timeout=20)
            try:
                answer = client.get(f"{self.up.url}/default/hello/")
                if answer.status_code != 200:
                    self.failures.append((answer.status_code, answer.text))
            except httpx.HTTPError as error:
                self.failures.append(repr(error))
            self.calls += 1

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


def test_certificates_are_replaced_under_load(up):
    with Callers(up) as callers:
        for how in ("files", "signal"):
            before = serial(up)
            up.renew("first", "localhost", "*.fn.localhost")
            if how == "signal":
                up.process.send_signal(signal.SIGHUP)
            eventually(lambda: serial(up) != before, what="the new certificate")
        # What does not belong together changes nothing, and is told once.
        before, key = serial(up), (up.home / "first.key").read_bytes()
        told = up.said.count("those from before stay in force")
        replace(up.home / "first.key", up.authority.pair("localhost")[1])
        eventually(lambda: up.said.count("those from before stay in force") > told, what="a word about it")
        again = up.said.count("those from before stay in force")
        called = callers.calls
        eventually(lambda: callers.calls > called + 50, seconds=60, what="calls")
        assert serial(up) == before
        assert up.said.count("those from before stay in force") == again
        assert "is not that of the certificate in" in up.said
        replace(up.home / "first.key", key)
    assert callers.calls > 50 and not callers.failures, callers.failures[:3]
    print(f"\n{callers.calls} calls while certificates were replaced, none of which failed")


def test_the_command_reaches_administration_by_its_name(up):
    assert "hello" in up.cli.ok("list").out
    stranger = Cli(up.home, f"https://localhost:{up.admin}", "a.b.c")
    ran = stranger("list")
    assert ran.code != 0 and "SSL_CERT_FILE" in ran.err, ran
    stranger.environment["SSL_CERT_FILE"] = str(up.authority.file)
    stranger.environment["DUNLIN_URL"] = f"https://127.0.0.1:{up.admin}"
    ran = stranger("list")
    assert ran.code != 0 and "certificate" in ran.err, ran
    answer = httpx.get(f"https://localhost:{up.admin}/sign-in", verify=up.context(), trust_env=False)
    assert answer.status_code == 200 and "token" in answer.text


def test_certificates_from_files_are_shown(up):
    up.cli.ok("domain", "add", "shop.test", "--vouch")
    up.cli.ok("domain", "add", "bare.test", "--vouch")
    try:
        found = {domain["domain"]: domain["file_certificate"] for domain in up.cli.ok("domain", "list", "-o", "json").json}
        assert found["bare.test"] is None and found["shop.test"]["names"] == ["other.test", "shop.test"], found
        assert "From a file" in up.cli.ok("domain", "show", "shop.test").out
        token = up.cli.ok("token", "create", "--role", "operator").out.strip().splitlines()[-1]
        url = f"https://localhost:{up.admin}"
        with httpx.Client(base_url=url, verify=up.context(), trust_env=False, headers={"Origin": url}) as browser:
            assert browser.post("/sign-in", data={"token": token}).status_code == 303
            page = browser.get("/namespaces/default/routes").text
            answer = browser.get("/api/v1/namespaces/default/domains", headers={"Authorization": f"Bearer {token}"}).json()
        for text in ("Certificates from files", "*.fn.localhost", "from a file, by", "ends soon"):
            assert text in page, text
        told = {domain["domain"]: domain["file_certificate"] for domain in answer["domains"]}
        assert told["bare.test"] is None and told["shop.test"]["expire_time"] > told["shop.test"]["start_time"], told
    finally:
        up.cli.ok("domain", "remove", "shop.test", "--yes")
        up.cli.ok("domain", "remove", "bare.test", "--yes")


def test_what_is_wrong_is_said_before_anything_has_begun(tmp_path, authority):
    for name in ("a", "b"):
        certificate, key = authority.pair(f"{name}.test")
        replace(tmp_path / f"{name}.pem", certificate)
        replace(tmp_path / f"{name}.key", key)

    def refused(*arguments):
        began = time.monotonic()
        ran = subprocess.run([BINARIES / "dunlin-gateway", "--data-dir", tmp_path / "data", "--functions", "127.0.0.1:0", *arguments], env=plain_environment(), cwd=tmp_path,
                             stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
        assert ran.returncode != 0 and not (tmp_path / "data").exists() and time.monotonic() - began < 20, ran
        return ran.stderr

    assert "b.key is not that of the certificate in a.pem" in refused("--tls-cert", "a.pem", "--tls-key", "b.key")
    assert "cannot read c.pem" in refused("--tls-cert", "c.pem", "--tls-key", "b.key")
    (tmp_path / "a.key").chmod(0o644)
    assert "chmod o= a.key" in refused("--tls-cert", "a.pem", "--tls-key", "a.key")
    assert "--tls-key" in refused("--tls-cert", "a.pem")
    assert "--tls-cert" in refused("--admin", "0.0.0.0:0")
