"""Apps on a real cluster: one dunlin.toml, several functions and their routes, each change whole or not at all, on both gateways."""

import json
import tomllib

import pytest

from harness import guests
from harness.paths import REPO

pytestmark = pytest.mark.usefixtures("processes_survive")

ROUTE = """
[[routes]]
name = "{name}"
path = "{path}"
function = "{function}"
auth = "public"
"""


class Project:
    """A folder with a manifest, and the command at work in it."""

    def __init__(self, folder, cli, namespace):
        self.folder, self.cli, self.namespace = folder, cli, namespace

    def write(self, functions, routes, app="shop"):
        """Functions by their answers, routes by name: path and function."""
        text = f'app = "{app}"\n'
        for name, (answer, more) in functions.items():
            (self.folder / f"{name}.wasm").write_bytes(guests.answer(answer))
            text += f'[functions.{name}]\nsource = "{name}.wasm"\n{more}\n'
        for name, (path, function) in routes.items():
            text += ROUTE.format(name=name, path=path, function=function)
        (self.folder / "dunlin.toml").write_text(text)

    def __call__(self, *flags):
        return self.cli("deploy", "-n", self.namespace, *flags, cwd=self.folder)

    def ok(self, *flags):
        ran = self(*flags)
        assert ran.code == 0, ran
        return ran


@pytest.fixture
def project(cli, namespace, tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    return Project(folder, cli, namespace)


@pytest.fixture
def dunlin(cli, namespace):
    return lambda *arguments: cli.ok("-n", namespace, *arguments)


def releases(dunlin):
    """What was done, the newest last."""
    return [release["cause"] for release in reversed(json.loads(dunlin("release", "list", "-o", "json").out))]


def get(cluster, namespace, *paths):
    """What each gateway answers: the text, or the status where it is not 200."""
    answers = []
    for gateway in (0, 1):
        with cluster.http(gateway) as client:
            for path in paths:
                answer = client.get(f"/{namespace}{path}")
                answers.append(answer.text if answer.status_code == 200 else answer.status_code)
    return answers


ROUTES = {"pay": ("/till/{id}", "pay"), "mail": ("/letters", "mail")}


def test_an_app_is_deployed_changed_and_comes_back(cluster, namespace, project, dunlin):
    project.write({"pay": ("pay 1", ""), "mail": ("mail 1", "")}, ROUTES)
    project.ok()
    # The command has returned: both gateways know, without a wait.
    assert get(cluster, namespace, "/till/7", "/letters") == ["pay 1", "mail 1"] * 2
    assert releases(dunlin) == ["deploy app shop"], "all of it is one release"
    routes = dunlin("route", "list", "-o", "json").json
    assert [(route["name"], route["app"]) for route in routes] == [("mail", "shop"), ("pay", "shop")]
    [app] = dunlin("app", "list", "-o", "json").json
    assert (app["name"], app["functions"], app["routes"], app["release"]["cause"]) == ("shop", ["mail", "pay"], ["mail", "pay"], "deploy app shop")

    again = project.ok("-o", "json").json
    assert [function["is_new"] for function in again["functions"]] == [False, False]
    assert (again["differences"], releases(dunlin)) == ([], ["deploy app shop"]), "what is the same changes nothing"

    # One function, one route more and one less.
    project.write({"pay": ("pay 2", ""), "mail": ("mail 1", "")}, {"pay": ("/till/{id}", "pay"), "post": ("/post", "mail")})
    preview = project.ok("--dry-run", "-o", "json").json
    lines = {(line["subject"], line["field"], line["before"], line["after"]) for line in preview["differences"]}
    assert {("functions/pay", "traffic", "v1=100", "v2=100"), ("routes/post", "path", "", "/post"), ("routes/mail", "path", "/letters", "")} <= lines, lines
    assert not any(subject.startswith("functions/mail") for subject, *_ in lines), lines
    assert get(cluster, namespace, "/till/7", "/letters") == ["pay 1", "mail 1"] * 2, "a dry run changes nothing"
    project.ok()
    assert get(cluster, namespace, "/till/7", "/letters", "/post") == ["pay 2", 404, "mail 1"] * 2
    diff = json.loads(dunlin("release", "diff", "2", "-o", "json").out)["differences"]
    assert {"functions/pay", "routes/post", "routes/mail"} <= {line["subject"] for line in diff}

    # A function that is declared no more stays, and the command says so.
    project.write({"mail": ("mail 1", "")}, {"post": ("/post", "mail")})
    assert "it stays until: dunlin delete pay" in project.ok().err
    assert get(cluster, namespace, "/till/7", "/post") == [404, "mail 1"] * 2

    dunlin("release", "rollback", "1", "-y")
    assert get(cluster, namespace, "/till/7", "/letters", "/post") == ["pay 1", "mail 1", 404] * 2
    assert {route["app"] for route in dunlin("route", "list", "-o", "json").json} == {"shop"}


def test_what_is_refused_leaves_everything_as_it_was(cluster, namespace, project, dunlin):
    project.write({"pay": ("pay 1", ""), "mail": ("mail 1", "")}, ROUTES)
    project.ok()
    dunlin("route", "add", "mine", "/users/{id}", "--respond", "mine")
    before = releases(dunlin)
    changed = {"pay": ("pay 2", ""), "mail": ("mail 2", "")}
    for routes, words in [
        (ROUTES | {"users": ("/users/{name}", "pay")}, ("route users (/users/{name})", "route mine (/users/{id})")),
        (ROUTES | {"mine": ("/mine", "pay")}, ("the route mine", "was put alone", "dunlin route remove")),
    ]:
        project.write(changed, routes)
        ran = project()
        assert ran.code == 7 and all(word in ran.err for word in words), ran
        assert get(cluster, namespace, "/till/7", "/letters", "/users/1") == ["pay 1", "mail 1", "mine"] * 2
    # What another app declares is its own, too.
    project.write({"news": ("news", "")}, {"pay": ("/news", "news")}, app="press")
    ran = project()
    assert ran.code == 7 and "belongs to the app shop" in ran.err, ran
    # A function that may reach more, and one that can't be compiled.
    project.write(changed | {"mail": ("mail 2", 'allowed_outbound_hosts = ["https://a.example"]')}, ROUTES)
    ran = project()
    assert ran.code == 7 and "may reach more" in ran.err and "mail" in ran.err, ran
    project.write(changed, ROUTES)
    (project.folder / "pay.wasm").write_bytes(b"\0asm\x01\0\0\0 and nothing that could run")
    assert project().code == 7
    assert get(cluster, namespace, "/till/7", "/letters") == ["pay 1", "mail 1"] * 2
    assert releases(dunlin) == before
    project.write(changed | {"mail": ("mail 2", 'allowed_outbound_hosts = ["https://a.example"]')}, ROUTES)
    project.ok("--allow-new-capabilities")
    assert get(cluster, namespace, "/till/7", "/letters") == ["pay 2", "mail 2"] * 2


def test_one_function_is_deployed_alone(cluster, namespace, project, dunlin):
    project.write({"pay": ("pay 1", ""), "mail": ("mail 1", "")}, ROUTES)
    project.ok()
    project.write({"pay": ("pay 2", ""), "mail": ("mail 2", "")}, {})
    project.ok("--only", "pay")
    assert get(cluster, namespace, "/till/7", "/letters") == ["pay 2", "mail 1"] * 2, "nothing else changes"


def test_a_rollout_moves_all_functions_together(cluster, namespace, project, dunlin):
    project.write({"pay": ("old", ""), "mail": ("old", "")}, ROUTES)
    project.ok()
    project.write({"pay": ("new", ""), "mail": ("new", "")}, ROUTES | {"post": ("/post", "mail")})
    started = project.ok("--steps", "50", "-o", "json").json
    assert [part["function"] for part in started["rollout"]["functions"]] == ["mail", "pay"]
    seen = set()
    for _ in range(10):  # 40 calls: a step of these clusters ends after 50 (conftest.py), and this one has to last
        seen |= set(get(cluster, namespace, "/till/7", "/letters"))
    assert seen == {"old", "new"}
    assert get(cluster, namespace, "/post") == [404] * 2, "routes change with the last step"
    assert "those of the app shop change after the last step" in dunlin("rollout", "show", "mail").out
    dunlin("rollout", "stop", "pay", "--promote")
    assert get(cluster, namespace, "/till/7", "/letters", "/post") == ["new"] * 6
    assert releases(dunlin)[-1] == "promote mail@2, pay@2"
    again = project.ok("-o", "json").json
    assert again["differences"] == [], "nothing is left to do"

    # Back: the routes stay as they were, too.
    project.write({"pay": ("newer", ""), "mail": ("newer", "")}, ROUTES)
    project.ok("--steps", "5,50")
    dunlin("rollout", "stop", "mail")
    assert get(cluster, namespace, "/till/7", "/letters", "/post") == ["new"] * 6


def test_a_canary_leaves_the_routes(cluster, namespace, project, dunlin):
    project.write({"pay": ("old", ""), "mail": ("old", "")}, ROUTES)
    project.ok()
    project.write({"pay": ("new", ""), "mail": ("new", "")}, {"mail": ("/letters", "mail")})
    ran = project.ok("--canary", "50")
    assert "the routes are still as they were" in ran.err
    traffic = {line["name"]: line["traffic"] for line in dunlin("list", "-o", "json").json}
    assert {len(shares) for shares in traffic.values()} == {2}, traffic
    for name in ("pay", "mail"):
        dunlin("promote", name)
    assert get(cluster, namespace, "/till/7", "/letters") == ["new"] * 4
    project.ok()
    assert get(cluster, namespace, "/till/7", "/letters") == [404, "new"] * 2


def test_the_example_works(cluster, namespace, cli, tmp_path):
    text = (REPO / "examples/app.toml").read_text()
    manifest = tomllib.loads(text)
    (tmp_path / "app.toml").write_text(text)
    for name, function in manifest["functions"].items():
        file = tmp_path / function["source"]
        file.parent.mkdir(parents=True)
        file.write_bytes(guests.answer(name))
    cli.ok("deploy", tmp_path / "app.toml", "--no-build", "-n", namespace)
    assert get(cluster, namespace, "/greet/rust/x", "/greet/c", "/greet") == ["greet-rust", "greet-c", "Greetings come from /greet/rust and /greet/c."] * 2
