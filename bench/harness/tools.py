"""Running commands, building what is measured, and writing results with the machine, the versions and the command."""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
TOOLS = Path(os.environ.get("DUNLIN_TOOLS", REPO / ".tools"))
RESULTS = REPO / "bench/results"
CLIENT = REPO / "bench/target/release/dunlin-bench"
WASMTIME = "48.0.8"

# Errors with backtraces are for developers, and slow.
os.environ.pop("RUST_BACKTRACE", None)


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def run(*command, **options):
    return subprocess.run(list(map(str, command)), check=True, stdin=subprocess.DEVNULL, **options)


def output(*command, **options):
    return run(*command, stdout=subprocess.PIPE, text=True, **options).stdout.strip()


def arguments(description, result):
    """A parser with the options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binaries", type=Path, metavar="DIR", help="measure the binaries in this folder instead of building Dunlin")
    parser.add_argument("--output", type=Path, default=RESULTS / result, metavar="FILE", help="where the figures go (default: %(default)s)")
    return parser


def build(options):
    """The folder of Dunlin's binaries; the load client is built in any case."""
    run("cargo", "build", "--quiet", "--release", "--locked", "--manifest-path", REPO / "bench/Cargo.toml")
    if options.binaries:
        return options.binaries.resolve()
    run("cargo", "build", "--release", "--bins", "--locked", cwd=REPO)
    return REPO / "target/release"


def component(folder):
    """Builds a guest by its manifest, `examples/rust` or `bench/guests/rust`, and returns its file. It needs .ci/setup."""
    relative = os.path.relpath(REPO / folder, REPO / "examples")
    return Path(output(REPO / "examples/build", relative, stderr=subprocess.DEVNULL).splitlines()[-1])


def with_grpc():
    """Starts this program again in the Python environment of `.ci/setup grpc`, where this one has no gRPC."""
    try:
        import grpc_reflection  # noqa: F401
    except ImportError:
        python = TOOLS / "grpc/bin/python"
        if not python.exists() or Path(sys.prefix) == TOOLS / "grpc":
            raise SystemExit("error: this benchmark deploys over gRPC; run: .ci/setup grpc") from None
        os.execv(python, [str(python), *sys.argv])


def machine():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / (1 << 20)
    return {"cpu": model, "cores": os.cpu_count(), "memory_gib": round(memory, 1), "kernel": os.uname().release}


def processor_times():
    """Time of all cores by kind, in ticks: the kernel's own account."""
    return [int(number) for number in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]


class Run:
    """A benchmark that runs: it knows how it was started and how quiet the machine was."""

    def __init__(self, options, binaries=None):
        self.options, self.binaries = options, binaries
        self.began, self.before, self.load = time.monotonic(), processor_times(), os.getloadavg()[0]

    def version(self):
        """Of the binaries; the simulator measures none."""
        return {"dunlin": output(self.binaries / "dunlin", "--version").split()[1]} if self.binaries else {}

    def write(self, figures, **versions):
        used = [after - before for after, before in zip(processor_times(), self.before)]
        result = {
            "command": command_line(),
            "date": time.strftime("%F", time.gmtime()),
            "commit": output("git", "rev-parse", "--short", "HEAD", cwd=REPO),
            "machine": machine(),
            "versions": {**self.version(), "rustc": output("rustc", "--version").removeprefix("rustc "), **versions},
            "quiet": {"load_average_before": round(self.load, 2), "steal_percent": round(100 * used[7] / max(1, sum(used)), 2)},
            "took_seconds": round(time.monotonic() - self.began),
            "figures": figures,
        }
        self.options.output.write_text(json.dumps(result, indent=1) + "\n")
        say(f"written to {self.options.output}")


def command_line():
    """How to repeat this run elsewhere: without the folders of this machine."""
    words, skip = [], False
    for word in sys.argv[1:]:
        if skip or word.startswith(("--binaries=", "--output=")):
            skip = False
        elif word in ("--binaries", "--output"):
            skip = True
        else:
            words.append(word)
    return shlex.join([f"bench/{Path(sys.argv[0]).name}", *words])


def quantiles(values):
    """Median, 99th percentile and largest of a list."""
    ordered = sorted(values)
    return {
        "count": len(ordered),
        "p50": statistics.median(ordered),
        "p99": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))],
        "max": ordered[-1],
    }


def eventually(check, seconds, what, every=0.02):
    """Waits until `check` gives something true, looking `every` so many seconds, and returns it."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        if time.monotonic() > deadline:
            raise SystemExit(f"error: {what} was not so within {seconds} s")
        time.sleep(every)
    return found
