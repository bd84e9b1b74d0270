"""Records and logs when their disk is slow, and logs that are more than there is room for: calls go on as ever, what is lost is counted
and shown, and what is kept stays within its bound. Disks that refuse are tested beside the stores."""

import contextlib
import itertools
import json
import re
import statistics
import subprocess
import time
from pathlib import Path

import pytest

from harness import guests
from harness.cluster import eventually
from harness.paths import TOOLS, Cli, plain_environment

MIB = 1 << 20
# Milliseconds of a call where a process stands still for a moment; one that waited for the slow disk would take a minute.
SLOWEST = 5000
# Six hundred lines in one piece, for those who print much.
LINES = b"".join(b"%098d\n" % number for number in range(600))


def printing(pieces):
    """Prints so many times six hundred lines, and answers."""
    return guests.command(f"""(local $i i32) (call $head)
      (loop $on (call $write (i32.const 2) (i32.const 4096) (i32.const {len(LINES)}))
        (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $on (i32.lt_u (local.get $i) (i32.const {pieces}))))
      (call $say (i32.const 4096) (i32.const 99))""", data={4096: LINES})


def metric(page, name):
    """What all series of a metric are together."""
    return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if re.match(rf"{name}[ {{]", line))


def of_gateway(cluster, name):
    return metric(cluster.rest().get("/metrics").text, name)


def of_worker(cluster, name):
    with cluster.rest() as client:
        return metric(client.get(f"http://{cluster.metrics_of('worker-1')}/metrics").text, name)


def size(folder):
    """Bytes in a folder's files, some of which may go meanwhile."""
    found = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            found += file.stat().st_size if file.is_file() else 0
    return found


def peak(process):
    """The most memory that a process has had so far, in MiB."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[1]) / 1024


def pace(client, path, calls=100):
    """Milliseconds of the median call, and of the slowest."""
    times = []
    for _ in range(calls):
        began = time.monotonic()
        assert client.get(path).status_code == 200
        times.append((time.monotonic() - began) * 1000)
    return statistics.median(times), max(times)


def flood(cluster, path, calls):
    ran = subprocess.run([TOOLS / "bin/h2load", "-n", str(calls), "-c", "8", "-m", "10", cluster.gateways[0]["functions"] + path], env=plain_environment(), stdin=subprocess.DEVNULL,
                         capture_output=True, text=True, timeout=240)
    assert f"{calls} succeeded, 0 failed, 0 errored, 0 timeout" in ran.stdout, ran.stdout + ran.stderr + refusals(cluster)


def refusals(cluster):
    """Why calls failed, as the gateway counts it."""
    page = cluster.rest().get("/metrics").text
    return "".join(f"{line}\n" for line in page.splitlines() if re.match(r"dunlin_gateway_(refus|invocations|retr|eject)", line))


@pytest.fixture
def one_of_each(broken, tmp_path):
    """Makes a cluster of one gateway and one worker, which serves its metrics and has these settings."""
    def start(*options, settings=""):
        config = tmp_path / "worker.toml"
        config.write_text(f'{settings}\n[metrics]\nlisten = "127.0.0.1:0"\n')
        return broken("--sqlite", "--gateways", 1, "--workers", 1, f"--worker-arg=--config={config}", *options)

    return start


@pytest.fixture(scope="module")
def slow_disk(tmp_path_factory):
    """A library that makes writes slow."""
    library = tmp_path_factory.mktemp("slow") / "slow_disk.so"
    source = Path(__file__).parent / "harness/slow_disk.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return library


def slow(library, under, flag):
    """Options of a cluster whose files under a folder of that name are slow while the flag is there."""
    return [part for variable in (f"LD_PRELOAD={library}", f"SLOW_UNDER=/{under}/", f"SLOW_WHILE={flag}") for part in ("--env", variable)]


@pytest.mark.timeout(300)
def test_a_slow_disk_of_records_costs_records_and_no_calls(one_of_each, slow_disk, tmp_path):
    flag = tmp_path / "slow"
    cluster = one_of_each(*slow(slow_disk, "gateway-1/records", flag))
    namespace, function = (path := of_one(cluster, guests.answer("alive"))).strip("/").split("/")
    with cluster.http() as client:
        normal, _ = pace(client, path)
        flag.touch()
        flood(cluster, path, 30_000)
        median, slowest = pace(client, path)
        assert median < 3 * normal + 10 and slowest < SLOWEST, (normal, median, slowest)
        lost = of_gateway(cluster, "dunlin_gateway_records_dropped_total")
        assert lost > 1000, lost
        said = Cli(tmp_path, cluster.admin, cluster.token).ok("describe", f"{namespace}/{function}").out
        assert "records of invocations were lost" in said, said
        flag.unlink()

        def kept():
            request_id = client.get(path).headers["dunlin-request-id"]
            time.sleep(0.5)
            found = cluster.api().call("InvocationService.ListInvocations", parent=f"namespaces/{namespace}", request_id=request_id)["invocations"]
            return found and of_gateway(cluster, "dunlin_gateway_records_dropped_total")

        # Once the disk is well again, nothing more is lost.
        eventually(lambda: kept() == kept(), seconds=60, what="records being kept again")


def of_one(cluster, wasm, **options):
    """A function that answers at the only gateway; its path."""
    api = cluster.api()
    api.call("NamespaceService.CreateNamespace", namespace_id="shop")
    api.deploy("shop", "fn", wasm, **options)
    with cluster.http() as client:
        eventually(lambda: client.get("/shop/fn/").status_code == 200, what="the function")
    return "/shop/fn/"


@pytest.mark.timeout(300)
def test_a_slow_disk_of_logs_costs_lines_and_no_calls(one_of_each, slow_disk, tmp_path):
    flag = tmp_path / "slow"
    # The namespace may write all of it, so that it is the disk alone that does not.
    cluster = one_of_each(*slow(slow_disk, "worker-1/logs", flag), settings=f"log_rate_bytes = {8 * MIB}")
    path = of_one(cluster, guests.LOG)
    with cluster.http() as client:
        normal, _ = pace(client, path)
        before = of_worker(cluster, "dunlin_worker_log_lines_dropped_total")
        flag.touch()
        flood(cluster, path, 12_000)
        median, slowest = pace(client, path)
        assert median < 3 * normal + 10 and slowest < SLOWEST, (normal, median, slowest)
        assert of_worker(cluster, "dunlin_worker_log_lines_dropped_total") > before + 1000
        flag.unlink()
        cli = Cli(tmp_path, cluster.admin, cluster.token)
        # Where lines are missing, a reader is told so, and how many, and why.
        lines = lambda: [json.loads(line) for line in cli.ok("-n", "shop", "logs", "fn", "--lines", "10000", "-o", "json").out.splitlines()]  # noqa: E731
        missing = lambda told: sum(line["lines"] for line in told if "gap" in line)  # noqa: E731
        found = eventually(lambda: (told := lines()) and missing(told) > 1000 and len(told) > 1000 and told, seconds=30, what="a gap in the log")
        gaps = [line for line in found if "gap" in line]
        assert {gap["gap"] for gap in gaps} == {"disk"}, gaps
        said = cli.ok("describe", "shop/fn").out
        assert "log lines of the namespace were lost" in said, said


@pytest.mark.timeout(300)
def test_logs_stay_within_their_bound_and_are_read_quickly(one_of_each):
    """Sixty megabytes are printed, of which twice as many are taken as are kept."""
    bound = 8 * MIB
    cluster = one_of_each(settings=f"log_bytes_per_namespace = {bound}\nlog_rate_bytes = {64 * MIB}")
    path = of_one(cluster, printing(10), spec={"limits": {"log_bytes": MIB}})
    folder, most = cluster.folder / "worker-1/logs", 0
    with cluster.http() as client:
        for calls in itertools.count(1):
            assert client.get(path).status_code == 200
            most = max(most, size(folder))
            # What comes faster than it is written is dropped.
            if calls >= 105 and of_worker(cluster, "dunlin_worker_log_lines_total") * 99 > 2 * bound:
                break
    assert bound / 4 < most <= bound * 1.25, f"{most / MIB:.1f} MiB were kept"
    took = []
    with cluster.rest() as client:
        for _ in range(3):
            began = time.monotonic()
            lines = client.get("/api/v1/namespaces/shop/logs", params={"lines": 100}).json()["lines"]
            took.append(time.monotonic() - began)
    assert len(lines) == 100 and lines[-1]["text"].encode() + b"\n" in LINES, lines[-1]
    # The middle one, since in one of them the machine may stand still.
    assert sorted(took)[1] < 2, f"far more than it takes, on any machine: {took}"


@pytest.mark.timeout(300)
def test_a_guest_that_prints_a_gigabyte_fills_neither_disk_nor_memory(one_of_each, tmp_path):
    cluster = one_of_each()
    path = of_one(cluster, guests.answer("alive"))
    api = cluster.api()
    pieces = (1 << 30) // len(LINES)
    api.deploy("shop", "loud", printing(pieces), spec={"limits": {"cpu_time": "60s", "timeout": "60s"}})
    folder, worker = cluster.folder / "worker-1/logs", cluster.pid("worker-1")
    with cluster.http() as client:
        before = size(folder)
        least = peak(worker)
        began = time.monotonic()
        answer = eventually(lambda: (got := client.get("/shop/loud/")).status_code != 404 and got, what="the function")
        took = time.monotonic() - began
        assert answer.status_code == 200, answer.text
        assert took < 30 and peak(worker) - least < 64, (took, least, peak(worker))
        assert size(folder) - before < MIB
        assert client.get(path).status_code == 200
    print(f"\na gigabyte was printed in {took:.1f} s, for {peak(worker) - least:.0f} MiB")
    cli = Cli(tmp_path, cluster.admin, cluster.token)
    said = eventually(lambda: (told := cli.ok("-n", "shop", "logs", "loud", "--lines", "1000").out) and told.count("\n") > 500 and "dropped" in told and told, what="its lines")
    assert said.count("\n") <= 1000, said[-500:]
