"""Where things are: the repository, the binaries under test, the tools of .ci/setup; and how to run the `dunlin` command."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[4]
TOOLS = Path(os.environ.get("DUNLIN_TOOLS", REPO / ".tools"))
BINARIES = Path(os.environ.get("DUNLIN_BINARIES", REPO / "target/debug"))


def plain_environment(**more):
    """An environment without credentials, proxies and settings of the person who runs the tests."""
    kept = ("PATH", "LANG", "TZ", "RUST_BACKTRACE", "CARGO_HOME", "RUSTUP_HOME", "LLVM_PROFILE_FILE", "HOME")
    return {name: os.environ[name] for name in kept if name in os.environ} | more


@dataclass
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    def __str__(self):
        return f"exit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


class Cli:
    """The `dunlin` command as one person uses it: with a home of their own, signed in at one address."""

    def __init__(self, home, url=None, token=None):
        self.home = Path(home)
        self.environment = plain_environment(HOME=str(home), NO_COLOR="1")
        if url:
            self.environment["DUNLIN_URL"] = url
        if token:
            self.environment["DUNLIN_TOKEN"] = token

    def __call__(self, *arguments, cwd=None, stdin=None, timeout=120):
        ran = subprocess.run([BINARIES / "dunlin", *map(str, arguments)], cwd=cwd or self.home, env=self.environment,
                             input=stdin, stdin=subprocess.DEVNULL if stdin is None else None, capture_output=True, text=True, timeout=timeout)
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    def ok(self, *arguments, **options):
        """Runs a command that must succeed."""
        ran = self(*arguments, **options)
        assert ran.code == 0, f"dunlin {' '.join(map(str, arguments))}: {ran}"
        return ran
