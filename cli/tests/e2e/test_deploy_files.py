"""deploy/ as far as it can be checked without systemd or a container engine running: by their own checkers, and against the binaries."""

import json
import re
import shlex
import shutil
import subprocess
import sys

import jwt
import pytest
import yaml
from dockerfile_parse import DockerfileParser

from harness import guests
from harness.paths import BINARIES, REPO, plain_environment

ROLES = ("gateway", "scheduler", "worker")
DEPLOY = REPO / "deploy"


def help_of(binary, *command):
    return subprocess.run([BINARIES / binary, *command, "--help"], env=plain_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout


def assert_flags_exist(binary, arguments, *command):
    known = set(re.findall(r"--[a-z0-9-]+", help_of(binary, *command)))
    used = {argument.partition("=")[0] for argument in arguments if argument.startswith("--")}
    assert used <= known, f"{binary} has no {used - known}"


# systemd.


@pytest.fixture(scope="module")
def units(tmp_path_factory):
    """The units beside each other, with the programs where they are on this machine."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    folder = tmp_path_factory.mktemp("units")
    for file in (DEPLOY / "systemd").iterdir():
        (folder / file.name).write_text(file.read_text().replace("/usr/local/bin", str(BINARIES)))
    return folder


def test_systemd_finds_nothing_wrong_with_the_units(units):
    ran = subprocess.run(["systemd-analyze", "verify", "--man=no", *sorted(units.iterdir())], capture_output=True, text=True)
    ours = [line for line in (ran.stdout + ran.stderr).splitlines() if "dunlin" in line]
    assert ran.returncode == 0 and not ours, ran.stdout + ran.stderr


@pytest.mark.parametrize("role", ROLES)
def test_systemd_rates_the_units_as_safe(units, role):
    ran = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", units / f"dunlin-{role}.service"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-600:] + ran.stderr


@pytest.mark.parametrize("role", ROLES)
def test_units_start_programs_with_flags_that_exist(role):
    unit = (DEPLOY / f"systemd/dunlin-{role}.service").read_text()
    command = shlex.split(re.search(r"^ExecStart=(.*)$", unit, re.M).group(1))
    assert command[0] == f"/usr/local/bin/dunlin-{role}"
    assert_flags_exist(f"dunlin-{role}", command[1:])
    grace = subprocess.run([BINARIES / f"dunlin-{role}", "--dump-config"], env=plain_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True)
    stop = int(re.search(r"^TimeoutStopSec=(\d+)$", unit, re.M).group(1))
    found = re.search(r'grace\W+"?(\d+)s', grace.stdout)
    assert grace.returncode == 0 and (found is None or int(found.group(1)) < stop), "it is killed before its grace period is over"


# Starts a program under the ban of MemoryDenyWriteExecute=yes, as systemd does where the kernel can: prctl(PR_SET_MDWE).
UNDER_BAN = "import ctypes, os, sys; libc = ctypes.CDLL(None); assert libc.prctl(65, 1, 0, 0, 0) == 0; os.execv(sys.argv[1], sys.argv[1:])"


def under_ban(*command):
    return subprocess.run([sys.executable, "-c", UNDER_BAN, *command], env=plain_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True)


@pytest.mark.skipif(under_ban("/bin/true").returncode != 0, reason="this kernel has no PR_SET_MDWE")
def test_units_ban_writable_code_where_the_programs_allow_it(tmp_path):
    def banned(role):
        return "\nMemoryDenyWriteExecute=yes" in (DEPLOY / f"systemd/dunlin-{role}.service").read_text()

    assert banned("gateway") and under_ban(BINARIES / "dunlin-gateway", "--dump-config").returncode == 0
    (tmp_path / "hello.wasm").write_bytes(guests.answer("hello"))
    compiling = under_ban(BINARIES / "dunlin-worker", "compile", "--input", tmp_path / "hello.wasm", "--output", tmp_path / "hello.compiled")
    works = compiling.returncode == 0 and '"error"' not in compiling.stdout
    assert banned("scheduler") == works, "the exception for the scheduler is there exactly as long as its compiler needs it"


# Containers.


@pytest.fixture(scope="module")
def stages():
    """The Dockerfile's stages by name: their base and their instructions."""
    parser = DockerfileParser(fileobj=open(DEPLOY / "Dockerfile", "rb"))
    found, current = {}, None
    for step in parser.structure:
        if step["instruction"] == "FROM":
            base, _, name = step["value"].partition(" AS ")
            current = found.setdefault(name, {"base": base, "steps": []})
        elif current is not None and step["instruction"] != "COMMENT":
            current["steps"].append((step["instruction"], step["value"]))
    return found


def values(stages, name, instruction):
    """What a stage sets, its own last, behind what its bases set."""
    stage = stages[name]
    inherited = values(stages, stage["base"], instruction) if stage["base"] in stages else []
    return inherited + [value for kind, value in stage["steps"] if kind == instruction]


def test_every_role_has_a_target_that_is_nobody(stages):
    assert set(stages) == {"build", "base", *ROLES, "all-in-one"}
    for name in (*ROLES, "all-in-one"):
        assert values(stages, name, "USER")[-1] == "65532:65532", f"{name} runs as root"
        assert values(stages, name, "STOPSIGNAL") == ["SIGTERM"]
        entry = json.loads(values(stages, name, "ENTRYPOINT")[-1])
        assert entry[0].startswith("/usr/local/bin/"), "signals must reach the program itself, not a shell"


def test_base_images_are_pinned_and_no_file_is_added_from_elsewhere(stages):
    for name, stage in stages.items():
        if stage["base"] not in stages:
            assert re.fullmatch(r"[a-z]+:\d+(\.\d+)+(-[a-z0-9]+)*", stage["base"]), f"{name} is from {stage['base']}"
        assert not [value for kind, value in stage["steps"] if kind == "ADD"]
        for kind, value in stage["steps"]:
            if kind == "RUN" and "apt-get install" in value:
                assert "--no-install-recommends" in value and "rm -rf /var/lib/apt/lists" in value
    toolchain = re.search(r'channel = "([\d.]+)"', (REPO / "rust-toolchain.toml").read_text()).group(1)
    assert stages["build"]["base"].startswith(f"rust:{toolchain}-")


def test_what_is_copied_exists_and_is_all_that_cargo_needs(stages):
    copied = [source for kind, value in stages["build"]["steps"] if kind == "COPY" for source in value.split()[:-1]]
    ignore = [line for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    for source in copied:
        assert (REPO / source).exists(), source
        assert f"!{source}" in ignore, f"{source} does not reach the builder"
    members = re.search(r"members = \[(.*?)\]", (REPO / "Cargo.toml").read_text(), re.S).group(1)
    assert {member.strip(' "') for member in members.split(",") if member.strip()} <= set(copied)
    # What a crate includes at compile time must be in the image as well.
    for file in (file for folder in copied if (REPO / folder).is_dir() for file in (REPO / folder).rglob("*.rs")):
        if "target" in file.parts or "tests" in file.parts:
            continue
        for included in re.findall(r'include_(?:str|bytes)!\(\s*"([^"]+)"', file.read_text()):
            inside = (file.parent / included).resolve().relative_to(REPO)
            assert inside.parts[0] in copied and "tests" not in inside.parts[:2], f"{file.name} includes {inside}, which the image lacks"


def test_every_program_that_is_copied_is_built_and_takes_its_flags(stages):
    built = " ".join(value for kind, value in stages["build"]["steps"] if kind == "RUN")
    for name in (*ROLES, "all-in-one"):
        for value in values(stages, name, "COPY"):
            for source in re.findall(r"/out/(\S+)", value):
                assert f"target/dist/{source}" in built and (BINARIES / source).exists()
        entry = json.loads(values(stages, name, "ENTRYPOINT")[-1])
        command = json.loads((values(stages, name, "CMD") or ["[]"])[-1])
        assert_flags_exist(entry[0].rpartition("/")[2], entry + command, *command[:1])


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def test_the_compose_file_is_one():
    ran = subprocess.run([sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_services_build_targets_that_exist_with_flags_that_exist(compose, stages):
    for name, service in compose["services"].items():
        build = service["build"]
        assert build["target"] in stages and (DEPLOY / build["context"]).resolve() == REPO and (REPO / build["dockerfile"]).exists()
        if name != "invite":
            assert build["target"] == name
            assert_flags_exist(f"dunlin-{name}", service["command"])
            for variable in service.get("environment", {}):
                assert variable.startswith(f"DUNLIN_{name.upper()}_")


def test_services_stay_on_loopback_and_have_no_privilege(compose):
    for name, service in compose["services"].items():
        assert "ports" not in service and service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"]
        if name == "invite":
            continue
        assert service["network_mode"] == "host" and service["healthcheck"]["test"][0] == "CMD"
        assert service["depends_on"]["invite"]["condition"] == "service_completed_successfully"
        assert f"{name}:/var/lib/dunlin" in service["volumes"]
        assert name == "scheduler" or "tokens:/var/lib/dunlin-tokens:ro" in service["volumes"]
        assert not re.search(r"0\.0\.0\.0|\[::\]", json.dumps(service["command"]))
    assert {volume.split(":")[0] for service in compose["services"].values() for volume in service["volumes"]} == set(compose["volumes"])


def test_t47_the_invitations_are_private_join_tokens(compose, tmp_path):
    script = compose["services"]["invite"]["entrypoint"][-1].replace("$$", "$").replace("/var/lib/dunlin-tokens", str(tmp_path / "tokens")).replace("/var/lib/dunlin", str(tmp_path / "data"))
    (tmp_path / "tokens").mkdir()
    subprocess.run(["sh", "-euc", script], check=True, stdin=subprocess.DEVNULL, env=plain_environment() | {"PATH": f"{BINARIES}:/usr/bin:/bin"})
    for name in ("worker-1", "gateway-1"):
        file = tmp_path / "tokens" / name
        claims = jwt.decode(file.read_text().strip(), options={"verify_signature": False})
        assert (claims["aud"], claims["role"], claims["name"]) == ("dunlin-join", name[:-2], name) and file.stat().st_mode & 0o777 == 0o600
        assert f"--join-token-file /var/lib/dunlin-tokens/{name}" in " ".join(compose["services"][name[:-2]]["command"])


# The script.


def test_the_script_explains_itself_and_refuses_what_it_cannot_do(tmp_path):
    def run(*arguments):
        return subprocess.run([DEPLOY / "cluster", *arguments], env=plain_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)

    assert run("--help").returncode == 0 and "deploy/cluster start" in run("--help").stdout
    for arguments, words in ((("start", "--binaries", "/nowhere", "--dir", tmp_path), "cargo build"), (("stop", "--dir", tmp_path), "start one with"), (("status", "--dir", tmp_path), "start one with")):
        ran = run(*arguments)
        assert ran.returncode == 1 and words in ran.stderr and "Traceback" not in ran.stderr, ran.stderr
