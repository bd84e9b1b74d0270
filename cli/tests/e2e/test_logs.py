"""`dunlin logs` and what is behind it: every line once, in order, and where one is missing, a gap that says so."""

import json
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from conftest import deployed, new_namespace
from harness import guests
from harness.api import ApiError
from harness.cluster import eventually
from harness.paths import BINARIES, Cli

# Writes its request's body to standard error.
COPY = """
  (local $read i32)
  (call $head)
  (block $end (loop $next
    (i32.store (i32.const 0) (i32.const 4096))
    (i32.store (i32.const 4) (i32.const 60000))
    (br_if $end (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (local.set $read (i32.load (i32.const 8)))
    (br_if $end (i32.eqz (local.get $read)))
    (call $write (i32.const 2) (i32.const 4096) (local.get $read))
    (br $next)))"""
PRINT = guests.command(COPY)
# Does the same, and answers that it failed.
FAIL = guests.command(COPY, data={64: guests.HEAD.replace(b"200 OK", b"500 No")})


class Printing:
    """Has a function print numbers, one a call, through both gateways."""

    def __init__(self, cluster, path):
        self.cluster, self.path = cluster, path
        self.answered, self._next, self._stop, self._lock = [], 0, threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(n % 2,), daemon=True) for n in range(4)]

    def _run(self, gateway):
        with self.cluster.http(gateway) as client:
            while not self._stop.is_set():
                with self._lock:
                    number, self._next = self._next, self._next + 1
                try:
                    if client.post(self.path, content=f"number {number}\n", timeout=10).status_code == 200:
                        self.answered.append(number)
                except Exception:
                    pass
                self._stop.wait(0.01)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(15)


class Follower:
    """`dunlin logs -f -o json`, and the objects that it has printed."""

    def __init__(self, home, cluster, *arguments, gateway=0):
        cli = Cli(home, cluster.gateways[gateway]["admin"], cluster.token)
        self.file = open(home / f"follower-{time.monotonic_ns()}", "w+b")
        self.process = subprocess.Popen([BINARIES / "dunlin", "logs", "-f", "-o", "json", *map(str, arguments)], cwd=home, env=cli.environment,
                                        stdin=subprocess.DEVNULL, stdout=self.file, stderr=subprocess.PIPE, text=False)

    def told(self):
        with open(self.file.name, "rb") as file:
            whole = file.read()
        return [json.loads(line) for line in whole[:whole.rfind(b"\n") + 1].splitlines()]

    def texts(self):
        return [entry["text"] for entry in self.told() if "gap" not in entry]

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def following(tmp_path):
    made = []

    def start(cluster, *arguments, **options):
        made.append(Follower(tmp_path, cluster, *arguments, **options))
        return made[-1]

    yield start
    for follower in made:
        follower.kill()


def checked(told):
    """Nothing twice, in order on each worker, and every hole in the numbers is told; returns the texts and the gaps."""
    at, texts, gaps = {}, [], []
    for entry in told:
        worker, boot, sequence = entry["worker"], int(entry["boot"]), int(entry["sequence"])
        gap = "gap" in entry
        last = at.get(worker)
        assert last is None or (boot, sequence) > last, f"{entry} after {last}"
        if gap:
            gaps.append(entry)
        else:
            texts.append(entry["text"])
            if last is not None:
                assert (boot, sequence) == (last[0], last[1] + 1), f"a hole nobody spoke of: {entry} after {last}"
        at[worker] = (boot, sequence)
    assert len(set(texts)) == len(texts), "a line came twice"
    return texts, gaps


def grpc_lines(api, told, **request):
    """Follows by grpcio, and keeps what comes in the shape of the command's."""
    def run():
        try:
            for event in api.stream("LogService.ReadLogs", follow=True, **request):
                if "line" in event:
                    told.append(event["line"])
                elif "gap" in event:
                    told.append(event["gap"] | {"gap": event["gap"]["reason"]})
        except ApiError:
            pass

    threading.Thread(target=run, daemon=True).start()


def test_a_worker_killed_while_its_log_is_followed_leaves_a_gap_and_nothing_twice(broken, following):
    cluster = broken()
    path = deployed(cluster, PRINT)
    namespace = path.strip("/").split("/")[0]
    by_grpc = []
    grpc_lines(cluster.api(gateway=1), by_grpc, parent=f"namespaces/{namespace}", lines=1)
    command = following(cluster, "--namespace", namespace)
    with Printing(cluster, path) as printing:
        eventually(lambda: len(command.texts()) > 50 and len(by_grpc) > 50, seconds=20, what="lines at both followers")
        busy = max(set(line["worker"] for line in command.told()), key=[line["worker"] for line in command.told()].count)
        cluster.kill(busy)
        time.sleep(1)
        cluster.restart(busy)
        began = len(printing.answered)
        eventually(lambda: len(printing.answered) > began + 100, seconds=30, what="calls after the restart")
        time.sleep(4)
    last = f"number {printing.answered[-1]}"
    eventually(lambda: last in command.texts(), seconds=15, what="the last line at the command")
    eventually(lambda: last in [line.get("text") for line in by_grpc], seconds=15, what="the last line by gRPC")
    for told in (command.told(), list(by_grpc)):
        texts, gaps = checked(told)
        assert [(gap["gap"].rpartition("_")[2].lower(), gap["worker"]) for gap in gaps] == [("restart", busy)], gaps
        first = int(texts[0].split()[1])
        missing = [number for number in printing.answered if number > first + 8 and f"number {number}" not in set(texts)]
        # At most what came in 100 ms.
        assert len(missing) <= 50, missing


def test_a_follower_outlives_the_gateway_that_it_follows_through(broken, following):
    cluster = broken()
    path = deployed(cluster, PRINT)
    command = following(cluster, "--namespace", path.strip("/").split("/")[0], gateway=0)
    with Printing(cluster, path) as printing:
        eventually(lambda: len(command.texts()) > 20, seconds=20, what="lines at the follower")
        cluster.kill("gateway-1")
        began = len(printing.answered)
        eventually(lambda: len(printing.answered) > began + 20, seconds=20, what="calls through the other gateway")
        cluster.restart("gateway-1")
    first = int(command.texts()[0].split()[1])
    every = {f"number {number}" for number in printing.answered if number > first + 8}
    # Not the last one alone: of two workers, one may be behind.
    eventually(lambda: every <= set(command.texts()), seconds=30, what="all lines at the follower")
    assert command.process.poll() is None
    texts, gaps = checked(command.told())
    assert not gaps and every <= set(texts)


def test_a_follower_that_was_killed_goes_on_by_its_cursor(cluster, api, cli, namespace, call_when_ready, following):
    api.deploy(namespace, "print", PRINT)
    path = f"/{namespace}/print/"
    call_when_ready(path, "POST", content=b"number -1\n")
    follower, before = following(cluster, "--namespace", namespace), []
    with Printing(cluster, path) as printing:
        for gateway in (1, 0, 1):
            eventually(lambda: len(follower.texts()) > 20, seconds=15, what="lines")
            follower.kill()
            before += follower.told()
            time.sleep(0.5)
            follower = following(cluster, "--namespace", namespace, "--cursor", before[-1]["cursor"], gateway=gateway)
    every = {f"number {number}" for number in printing.answered} - {entry.get("text") for entry in before}
    eventually(lambda: every <= set(follower.texts()), seconds=15, what="all lines")
    time.sleep(0.5)
    told = before + follower.told()
    texts, gaps = checked(told)
    assert gaps == [] and {f"number {number}" for number in printing.answered} <= set(texts)
    # The same by pages, over JSON.
    with cluster.rest() as client:
        cursor, paged = told[0]["cursor"], [told[0]["text"]]
        while True:
            page = client.get(f"/api/v1/namespaces/{namespace}/logs", params={"cursor": cursor, "lines": 17}).json()
            assert page["gaps"] == [] and len(page["lines"]) <= 17
            if not page["lines"]:
                break
            paged += [line["text"] for line in page["lines"]]
            cursor = page["cursor"]
        assert sorted(paged) == sorted(texts)
        refused = client.get(f"/api/v1/namespaces/{namespace}/logs", params={"cursor": "here"})
        assert refused.status_code == 400 and "cursor" in refused.text, refused.text


def test_lines_are_found_by_what_they_are_of(cluster, api, cli, namespace, call_when_ready):
    api.deploy(namespace, "print", PRINT)
    path = f"/{namespace}/print/"
    call_when_ready(path, "POST", content=b"of one\n", headers={"X-Request-Id": "order-1"})
    api.deploy(namespace, "print", PRINT, description="the second")
    with cluster.rest() as client:
        def of(**params):
            return client.get(f"/api/v1/namespaces/{namespace}/logs", params=params).json()["lines"]

        eventually(lambda: any(line["version"] == 2 for line in (call_when_ready(path, "POST", content=b'{"level":"WARN","n":{"a":1}}\n') and of())),
                   seconds=20, what="a line of version 2")
        assert [line["text"] for line in of(version=1, search="of one")] == ["of one"]
        assert {line["version"] for line in of(version=2)} == {2}
        assert [line["text"] for line in of(request_id="order-1")] == ["of one"]
        structured = of(version=2)[0]
        assert (structured["level"], structured["fields"]) == ("warn", {"level": "WARN", "n": {"a": 1}}), structured
        worker = structured["worker"]
        assert {line["worker"] for line in of(worker=worker)} == {worker} and of(worker="nobody") == []
        assert client.get(f"/api/v1/namespaces/{namespace}/logs", params={"version": "x"}).status_code == 400
    listed = [json.loads(line) for line in cli.ok("--namespace", namespace, "logs", "--version", 2, "-o", "json").out.splitlines()]
    assert listed and all(line["version"] == 2 and line["fields"]["level"] == "WARN" for line in listed)
    assert cli.ok("--namespace", namespace, "logs", "--worker", "nobody").out == ""
    assert cli("--namespace", namespace, "logs", "--cursor", "here").code in (2, 7)


def test_a_call_is_found_by_its_line_behind_thousands_of_newer_ones(cluster, api, cli, namespace, call_when_ready):
    api.deploy(namespace, "print", PRINT)
    path = f"/{namespace}/print/"
    made = [call_when_ready(path, "POST", content=b"stock is low: none\n").headers["dunlin-request-id"]]
    with cluster.http() as client:
        for _ in range(3):
            answer = client.post(path, content=b"".join(b"stock is low: %d\n" % n for n in range(600)))
            assert answer.status_code == 200
            made.append(answer.headers["dunlin-request-id"])
    with cluster.rest() as client:
        newer = eventually(lambda: (found := client.get(f"/api/v1/namespaces/{namespace}/logs", params={"lines": 10_000, "search": "stock is low"}).json()["lines"]) and len(found) == 1_801 and found,
                           seconds=10, what="all lines")
        assert newer[-1]["invocation"] != made[0]

        def pages():
            ids, token = [], {}
            while True:
                page = client.get(f"/api/v1/namespaces/{namespace}/invocations", params={"search": "stock is low", "page_size": 1, **token}).json()
                # Who stands still for a second is named.
                assert "searched_from" not in page and page["unreachable"] == []
                ids += [call["id"] for call in page["invocations"]]
                if not page["next_page_token"]:
                    return ids
                token = {"page_token": page["next_page_token"]}

        assert eventually(pages, what="answers of all processes") == sorted(made, reverse=True)
    listed = cli.ok("--namespace", namespace, "invocations", "print", "--search", "stock is low", "-o", "json").out
    assert all(name in listed for name in made)
    only = cli.ok("--namespace", namespace, "invocations", "--search", "stock is low: none", "-o", "json").out
    assert made[0] in only and made[1] not in only
    assert "no calls yet" in cli.ok("--namespace", namespace, "invocations", "--search", "nobody wrote this").err


def test_lines_of_a_status_are_followed_once_their_call_has_ended(cluster, api, namespace, call_when_ready, following):
    api.deploy(namespace, "print", PRINT)
    api.deploy(namespace, "fail", FAIL)
    good, bad = f"/{namespace}/print/", f"/{namespace}/fail/"
    call_when_ready(good, "POST", content=b"fine 0\n")

    def slowly():
        yield b"slow 1\n"
        time.sleep(6)
        yield b"slow 2\n"

    with cluster.http() as client, ThreadPoolExecutor(1) as pool:
        broken = lambda text: client.post(bad, content=text).status_code == 500
        eventually(lambda: broken(b"broken 0\n"), seconds=30, what="the function that fails")
        follower = following(cluster, "--namespace", namespace, "--status", "5xx", gateway=1)
        eventually(lambda: follower.texts() == ["broken 0"], seconds=15, what="what there was")
        slow = pool.submit(lambda: client.post(bad, content=slowly(), timeout=20).status_code)
        time.sleep(0.5)
        assert client.post(good, content=b"fine 1\n").status_code == 200 and broken(b"broken 1\n")
        eventually(lambda: follower.texts() == ["broken 0", "broken 1"], seconds=5, what="a line of a call that has ended")
        assert slow.result() == 500
        eventually(lambda: follower.texts() == ["broken 0", "broken 1", "slow 1", "slow 2"], seconds=10, what="the lines of the slow call")
        follower.kill()
        assert broken(b"broken 2\n")
        again = following(cluster, "--namespace", namespace, "--status", "5xx", "--cursor", follower.told()[-1]["cursor"])
        assert client.post(good, content=b"fine 2\n").status_code == 200 and broken(b"broken 3\n")
        eventually(lambda: again.texts() == ["broken 2", "broken 3"], seconds=15, what="what came since")
        time.sleep(1)
        assert again.texts() == ["broken 2", "broken 3"] and not [entry for entry in follower.told() + again.told() if "gap" in entry]


def test_whatever_a_guest_prints_is_shown_and_does_no_harm(cluster, api, cli, namespace, call_when_ready):
    api.deploy(namespace, "print", PRINT)
    path = f"/{namespace}/print/"
    call_when_ready(path, "POST", content=b"ready\n")
    for body in (b"\x00\xff\xfe binary\n", b"\x1b[2J\x1b]0;title\x07 ansi\n", b"<script>alert(1)</script>\n", b"no end", b"y" * (1 << 20) + b"\n"):
        assert call_when_ready(path, "POST", content=body).status_code == 200
    shown = eventually(lambda: (out := cli.ok("--namespace", namespace, "logs", "print").out) and all(part in out for part in ("binary", "[2J", "no end", "yyy")) and out,
                       seconds=10, what="all lines")
    assert not any(char in shown for char in "\x00\x1b\x07"), "nothing steers the terminal"
    assert "\\u{1b}[2J" in shown and "binary" in shown and "no end" in shown
    assert max(map(len, shown.splitlines())) < 17 << 10, "a line has 16 KiB at most"
    with cluster.rest() as client:
        page = client.get(f"/namespaces/{namespace}/logs").text
        assert "<script>alert" not in page and "&#60;script" in page or "&lt;script" in page
        lines = client.get(f"/api/v1/namespaces/{namespace}/logs").json()["lines"]
    assert any(line["dropped_bytes"] > 900 << 10 for line in lines), "what is cut is counted"


def test_a_flood_is_told_and_leaves_the_lines_of_others(cluster, api, cli, namespace, call_when_ready):
    quiet = new_namespace(api)
    for name in (namespace, quiet):
        api.deploy(name, "print", PRINT)
        call_when_ready(f"/{name}/print/", "POST", content=b"here\n")
    flood = b"".join(b"%060d\n" % n for n in range(900))
    with ThreadPoolExecutor(8) as pool, cluster.http() as client:
        for answer in pool.map(lambda _: client.post(f"/{namespace}/print/", content=flood), range(64)):
            assert answer.status_code == 200
    with cluster.rest() as client:
        listed = eventually(lambda: (found := client.get(f"/api/v1/namespaces/{namespace}/logs", params={"lines": 10_000}).json())["gaps"] and found,
                            seconds=10, what="a gap")
        assert {gap["reason"] for gap in listed["gaps"]} == {"rate"} and all(gap["lines"] > 0 for gap in listed["gaps"])
        others = client.get(f"/api/v1/namespaces/{quiet}/logs").json()
        assert [line["text"] for line in others["lines"]] == ["here"] and others["gaps"] == []
    assert "missing here: worker" in cli.ok("--namespace", namespace, "logs", "--lines", 10_000).out


def test_a_follower_hears_when_its_token_expires(cluster, api, namespace, tmp_path, call_when_ready):
    api.deploy(namespace, "print", PRINT)
    call_when_ready(f"/{namespace}/print/", "POST", content=b"here\n")
    made = api.call("TokenService.CreateToken", subject="short", purpose="TOKEN_PURPOSE_ADMINISTRATION",
                    grants=[{"namespace": namespace, "role": "ROLE_VIEWER"}], lifetime="4s")
    began = time.monotonic()
    ran = Cli(tmp_path, cluster.admin, made["token"])("--namespace", namespace, "logs", "-f", timeout=30)
    assert 2 < time.monotonic() - began < 12, ran
    assert ran.code == 4 and "here" in ran.out and "expired" in ran.err, ran


def test_a_namespace_keeps_as_much_as_it_has_of_its_own_and_no_more_than_it_may(cluster, api, cli, namespace, call_when_ready):
    refused = cli("namespace", "set", namespace, "--log-retention", "60d")
    assert refused.code == 7 and "retention.max_seconds" in refused.err, refused
    refused = cli("namespace", "set", namespace, "--log-bytes", "1KiB")
    assert refused.code == 7 and "65536" in refused.err, refused
    cli.ok("namespace", "set", namespace, "--log-retention", "1d", "--log-bytes", "64KiB")
    shown = cli.ok("namespace", "show", namespace, "-o", "json").json
    assert (shown["log_retention_ms"], shown["log_bytes"]) == (86_400_000, 64 << 10)
    assert cluster.rest().get(f"/api/v1/namespaces/{namespace}").json()["log_retention_seconds"] == 86_400
    api.deploy(namespace, "print", PRINT)
    call_when_ready(f"/{namespace}/print/", method="POST", content=b"first\n")
    with cluster.http() as client:
        for _ in range(12):
            assert client.post(f"/{namespace}/print/", content=b"".join(b"%060d\n" % n for n in range(400))).status_code == 200
            time.sleep(0.15)
        client.post(f"/{namespace}/print/", content=b"last\n")

    def kept():
        lines = [json.loads(line)["text"] for line in cli.ok("--namespace", namespace, "logs", "print", "--lines", "10000", "-o", "json").out.splitlines() if '"text"' in line]
        return lines and lines[-1] == "last" and lines

    lines = eventually(kept, seconds=15, what="the last line")
    # Two workers keep 64 KiB each, and a line of 60 characters takes a few hundred bytes there.
    assert "first" not in lines and len(lines) < 2_000, len(lines)
    assert cli.ok("--namespace", namespace, "invocations", "print").out


def test_who_follows_a_function_hears_that_it_is_deleted(cluster, api, cli, namespace, call_when_ready):
    api.deploy(namespace, "print", PRINT)
    call_when_ready(f"/{namespace}/print/", "POST", content=b"here\n")
    path = f"/api/v1/namespaces/{namespace}/functions/print/logs/stream"
    with cluster.rest() as client, client.stream("GET", path, timeout=30) as stream:
        lines = stream.iter_lines()
        assert any("here" in line for line in lines)
        cli.ok("--namespace", namespace, "delete", "print", "-y")
        rest = list(lines)
    assert "event: failed" in rest and any("was deleted" in line for line in rest), rest


@pytest.mark.parametrize(("path", "said"), [("/api/v1/namespaces/{}/logs/stream", "expired"), ("/namespaces/{}/live", "session has ended")])
def test_a_live_page_hears_when_its_session_ends(cluster, api, namespace, call_when_ready, path, said):
    api.deploy(namespace, "print", PRINT)
    call_when_ready(f"/{namespace}/print/", "POST", content=b"here\n")
    made = api.call("TokenService.CreateToken", subject="short", purpose="TOKEN_PURPOSE_ADMINISTRATION",
                    grants=[{"namespace": namespace, "role": "ROLE_VIEWER"}], lifetime="4s")
    headers = {"Cookie": f"dunlin-session={made['token']}", "Origin": cluster.admin, "Sec-Fetch-Site": "same-origin"}
    with httpx.Client(base_url=cluster.admin, trust_env=False, headers=headers, timeout=30) as client, client.stream("GET", path.format(namespace)) as stream:
        assert stream.status_code == 200, stream.status_code
        lines = list(stream.iter_lines())
    assert "event: failed" in lines and any(said in line for line in lines), lines
