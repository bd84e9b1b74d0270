"""The platform's own logs under test: an unexpected WARN or ERROR line, a panic, or a secret in them is a failure."""

import json
import re
from pathlib import Path

# What a gateway says of a worker that the machine stops for most of a second. That those are noticed is tested where it is done on purpose.
STOPPED = re.compile(r"a worker with invocations is silent; it gets no new ones for now")
PANIC = re.compile(r"panicked at|stack backtrace|fatal runtime error|SIGSEGV|SIGABRT|AddressSanitizer")


class Logs:
    """Reads on in log files from where it last stopped."""

    def __init__(self, files):
        self._files = files
        self._read_to = {}
        self.skip()

    def skip(self):
        self.new_lines()

    def new_lines(self):
        """The complete lines that have come since the last call, as (file, line)."""
        found = []
        for file in self._files():
            start = self._read_to.get(file, 0)
            with open(file, "rb") as opened:
                opened.seek(start)
                text = opened.read()
            complete = text.rfind(b"\n") + 1
            self._read_to[file] = start + complete
            found += [(Path(file).stem, line) for line in text[:complete].decode(errors="replace").splitlines()]
        return found

    def unexpected(self, expected):
        """New lines that a person would have to look at, and that none of these patterns expects."""
        allowed = [STOPPED, *(re.compile(pattern) for pattern in expected)]
        return [f"{name}: {line}" for name, line in self.new_lines()
                if not name.startswith("postgres") and is_bad(line) and not any(pattern.search(line) for pattern in allowed)]


def is_bad(line):
    try:
        record = json.loads(line)
        return record["level"] in ("WARN", "ERROR") or "panicked" in str(record.get("fields"))
    except (ValueError, KeyError, TypeError):
        # No record of ours: a panic, which writes plain text, or `dunlin up`, which logs for people.
        return bool(PANIC.search(line) or re.search(r"\b(WARN|ERROR)\b", line))


def files_with(secrets, folder, except_for=()):
    """Which of these secrets are in which files below a folder, as (file, beginning of the secret)."""
    found = []
    for file in Path(folder).rglob("*"):
        relative = str(file.relative_to(folder))
        if not file.is_file() or file.is_symlink() or any(relative.startswith(allowed) for allowed in except_for):
            continue
        content = file.read_bytes()
        found += [(relative, secret[:12] + "...") for secret in secrets if secret.encode() in content]
    return found
