"""The audit log as people use it: what was done is in it, the command verifies it, and tampering with the database shows."""

import json
import sqlite3

import pytest
from harness import guests
from harness.cluster import eventually
from test_up import Up


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    started = Up(tmp_path_factory.mktemp("audit"))
    eventually(lambda: started.cli("list").code == 0, seconds=60, what="the cluster")
    yield started
    assert started.stop() == 0, started.said[-2000:]


def database(up):
    [file] = (up.home / "data").rglob("*.db")
    return sqlite3.connect(file, timeout=10, isolation_level=None)


def listed(up, *arguments):
    return json.loads(up.cli.ok("audit", "list", "--limit", "1000", "-o", "json", *arguments).out)


def test_what_was_done_is_in_the_log_and_the_log_holds(up, tmp_path):
    wasm = tmp_path / "pay.wasm"
    wasm.write_bytes(guests.answer("paid"))
    up.cli.ok("namespace", "create", "shop")
    up.cli.ok("deploy", wasm, "--name", "pay", "--namespace", "shop", "--env", "PASSWORD=canary-of-the-environment")
    up.cli.ok("route", "add", "pay", "/pay", "--function", "pay", "--namespace", "shop")
    secret = up.cli.ok("key", "create", "till", "--namespace", "shop").out.strip()
    up.cli.ok("plan", "set", "basic", "--rate", "10/s", "--namespace", "shop")
    token = up.cli.ok("token", "create", "--role", "viewer@shop", "--subject", "ci").out.strip()
    up.cli.ok("plan", "delete", "basic", "--yes", "--namespace", "shop")
    entries = listed(up, "--namespace", "shop")
    done = [entry["action"] for entry in reversed(entries)]
    assert done == ["namespace.create", "artifact.upload", "version.create", "version.activate", "route.put", "key.create", "plan.put", "token.create", "plan.delete"], done
    who = {(entry["subject"], entry["address"], entry["role"]) for entry in entries}
    assert len(who) == 1 and who.pop()[1:] == ("127.0.0.1", "operator"), entries
    assert listed(up, "--action", "route", "--resource", "namespaces/shop/routes/pay")[0]["after"].startswith("{")
    whole = up.cli.ok("audit", "export").out
    assert [json.loads(line)["sequence"] for line in whole.splitlines()] == list(range(1, len(whole.splitlines()) + 1))
    stored = "\n".join(database(up).iterdump())
    for credential in ("canary-of-the-environment", secret, token):
        assert credential not in whole and credential not in "\n".join(line for line in stored.splitlines() if "audit" in line)
    assert "are as they were written" in up.cli.ok("audit", "verify").out


def test_somebody_who_may_not_is_refused_and_that_is_noted(up):
    token = up.cli.ok("token", "create", "--role", "viewer@shop", "--subject", "eve").out.strip()
    environment = up.cli.environment
    up.cli.environment = environment | {"DUNLIN_TOKEN": token, "DUNLIN_URL": up.admin}
    try:
        assert up.cli("route", "remove", "pay", "--yes", "--namespace", "shop").code == 4
        assert up.cli("audit", "list", "--namespace", "shop").code == 4
        assert up.cli("audit", "verify").code == 4
    finally:
        up.cli.environment = environment
    found = eventually(lambda: listed(up, "--actor", "eve"), seconds=45, what="the refusal")
    assert [(entry["action"], entry["outcome"], entry["role"]) for entry in found] == [("route.delete", "refused", "viewer")], found


def test_tampering_with_the_database_is_found(up, tmp_path):
    head = tmp_path / "head.json"
    head.write_text(up.cli.ok("audit", "head", "-o", "json").out)
    last = json.loads(head.read_text())["sequence"]
    verified = up.cli.ok("audit", "verify", "--since", head)
    assert f"the saved head (entry {last}) lies on it" in verified.out
    up.cli.ok("plan", "set", "basic", "--rate", "10/s", "--namespace", "shop")
    assert json.loads(up.cli.ok("audit", "verify", "--since", head, "-o", "json").out)["sequence"] == last + 1
    held = database(up)
    [(subject,)] = held.execute("SELECT subject FROM audit_entries WHERE sequence = 4").fetchall()
    held.execute("UPDATE audit_entries SET subject = 'somebody else' WHERE sequence = 4")
    changed = up.cli("audit", "verify", "--since", head)
    assert changed.code == 1 and "entry 4: its hash does not fit" in changed.err, changed
    held.execute("UPDATE audit_entries SET subject = ? WHERE sequence = 4", (subject,))
    up.cli.ok("audit", "verify", "--since", head)
    # The last ones go, and with them the end that names them.
    held.execute("DELETE FROM audit_entries WHERE sequence > ?", (last - 2,))
    missing = up.cli("audit", "verify", "--since", head)
    assert missing.code == 1 and f"entry {last - 1}: it is missing" in missing.err, missing
    [(hash_, time)] = held.execute("SELECT hash, time FROM audit_entries WHERE sequence = ?", (last - 2,)).fetchall()
    held.execute("UPDATE audit_ends SET sequence = ?, hash = ?, time = ? WHERE kind = 'head'", (last - 2, hash_, time))
    assert "has no valid signature" in up.cli("audit", "verify").err
    shorter = json.loads(up.cli("audit", "verify", "--since", head, "-o", "json").out)
    assert not shorter["ok"] and shorter["bad_sequence"] == last - 1, shorter
