"""The tools that people reach for to see whether a gateway holds: slowhttptest with each of its attacks, and h2load with an honest
load over both versions of HTTP. What each attack is made of is tested piece by piece in test_edge.py."""

import re
import subprocess

import pytest

from harness.edge import edge, holds  # noqa: F401
from harness.paths import TOOLS, plain_environment

# Each with the function that it asks for. Connections are fewer than one address may have, so that none is closed for that.
ATTACKS = {
    "slow heads": (["-H", "-i", "1"], "environment"),
    "slow bodies": (["-B", "-i", "1", "-s", "8192"], "sink"),
    "slow readers": (["-X", "-w", "10", "-y", "20", "-n", "1", "-z", "32", "-k", "3", "-c", "50"], "big"),
    "ranges": (["-R", "-a", "10", "-b", "3000", "-t", "HEAD"], "environment"),
}


def run(tool, *arguments):
    ran = subprocess.run([TOOLS / "bin" / tool, *map(str, arguments)], env=plain_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", ran.stdout + ran.stderr)
    assert ran.returncode == 0, text
    return text


@pytest.mark.parametrize("attack", ATTACKS)
def test_t30_slowhttptest_never_finds_the_service_gone(edge, holds, attack):
    arguments, function = ATTACKS[attack]
    said = run("slowhttptest", "-c", 200, "-r", 200, "-l", 6, "-p", 3, *arguments, "-u", edge.functions + edge.path(function))
    available = re.findall(r"service available: +(\w+)", said)
    assert available and set(available) == {"YES"}, said


@pytest.mark.parametrize("version", ["--h1", "--h2"])
def test_h2load_gets_an_answer_to_each_request(edge, holds, version):
    choice = ["--h1"] if version == "--h1" else ["-m", 10]
    said = run("h2load", "-n", 2000, "-c", 20, *choice, f"{edge.functions}/{edge.neighbour}/fine/")
    assert "2000 succeeded, 0 failed, 0 errored, 0 timeout" in said and "2000 2xx, 0 3xx, 0 4xx, 0 5xx" in said, said
