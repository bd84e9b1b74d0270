"""Lines for curl that the dashboard's pages offer, run by a shell as they are copied, with the two variables and nothing else."""

import html
import json
import re
import subprocess

import httpx
import pytest
from playwright.sync_api import expect

from harness import guests
from harness.browser import browser, visit  # noqa: F401 (the fixtures are used by name)


@pytest.fixture
def offered(cluster):
    """The commands of a page, by the ids of their elements."""

    def offered(path):
        with httpx.Client(base_url=cluster.admin, trust_env=False, headers={"Cookie": f"dunlin-session={cluster.token}"}) as client:
            page = client.get(path)
        assert page.status_code == 200, page.text
        return {id: html.unescape(text) for id, text in re.findall(r'<(?:pre class="code"|code) id="([^"]+)">(.*?)</(?:pre|code)>', page.text, re.S)}

    return offered


@pytest.fixture
def run(cluster):
    """What a line answers."""

    def run(line):
        ran = subprocess.run(["sh", "-c", line], env={"PATH": "/usr/bin:/bin", "DUNLIN_URL": cluster.admin, "DUNLIN_TOKEN": cluster.token, "NO_PROXY": "*"},
                             stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        answer = json.loads(ran.stdout) if ran.stdout.strip() else {}
        assert ran.returncode == 0 and "error" not in answer, ran
        return answer

    return run


@pytest.fixture
def shop(api, namespace):
    api.deploy(namespace, "pay", guests.answer("one"))
    api.deploy(namespace, "pay", guests.answer("two"))
    return namespace


def test_a_functions_lines_do_what_they_say(offered, run, shop):
    page = f"/namespaces/{shop}/functions/pay"
    lines = offered(page)
    assert lines["divide-cli"].startswith("dunlin traffic set pay ")
    assert run(lines["divide-cli-curl"])["traffic"] == [{"version": 2, "percent": 100}]
    assert run(lines["rollback-cli-curl"])["version"] == 1
    assert run(offered(f"{page}/test")["test-cli-curl"])["body"] == "one"
    release = offered(f"/namespaces/{shop}/releases/2")
    assert run(release["diff-cli-curl"])["differences"] and run(release["back-cli-curl"])["release"]
    run(lines["delete-cli-curl"])
    assert run(offered(f"/namespaces/{shop}/releases")["releases-cli-curl"])["releases"]


def test_the_lines_of_keys_make_rotate_and_revoke_one(offered, run, shop):
    lines = offered(f"/namespaces/{shop}/keys")
    made = run(lines["key-create-cli-curl"])
    assert made["key"]["display_name"] == "the shop's front end" and made["secret"]
    key = made["key"]["key"]
    assert run(lines["key-rotate-cli-curl"].replace("ID", key))["secret"] != made["secret"]
    assert run(lines["plan-cli-curl"].replace("NAME", "basic"))["quota"]["requests"] == 10000
    run(offered(f"/namespaces/{shop}/keys")[f"revoke-{key}-curl"])
    assert f"revoke-{key}-curl" not in offered(f"/namespaces/{shop}/keys")


def test_a_route_and_a_worker_are_steered(offered, run, shop):
    page = f"/namespaces/{shop}/routes"
    line = offered(page)["route-cli-curl"].replace("NAME", "till").replace("FUNCTION", "pay")
    assert run(line)["spec"]["path"] == "/path/{id}"
    assert [route["route"] for route in run(f'curl "$DUNLIN_URL/api/v1{page}" -H "Authorization: Bearer $DUNLIN_TOKEN"')["routes"]] == ["till"]
    run(offered(page)["route-remove-cli-curl"].replace("NAME", "till"))
    for _ in range(2):
        # Drained, and then taken back in.
        run(offered("/workers/worker-2")["drain-cli-curl"])
    assert offered("/workers/worker-2")["drain-cli"] == "dunlin worker drain worker-2"


def test_a_hostile_value_stays_one_word(offered, run):
    evil = "x'; touch /tmp/dunlin-was-here; echo \"$(id)`id`"
    lines = offered(str(httpx.URL("/audit", params={"subject": evil})))
    assert run(lines["audit-cli-curl"])["entries"] == []


def test_the_line_follows_what_is_chosen(visit, cluster, api, offered, run, shop):
    api.call("RouteService.PutRoute", route={"name": f"namespaces/{shop}/routes/hello", "path": "/hello", "function": {"function": "pay"}, "cache": True})
    page = visit().sign_in(cluster.token)
    page.goto(f"/namespaces/{shop}/functions/pay")
    page.get_by_label("Percent", exact=True).fill("30")
    assert run(page.locator("#divide-cli-curl").text_content())["traffic"] == [{"version": 2, "percent": 70}, {"version": 1, "percent": 30}]
    page.goto(f"/namespaces/{shop}/routes")
    page.get_by_label("Path or route").fill("/it's")
    assert run(page.locator("#purge-cli-curl").text_content()) == {"lagging_gateways": []}
    page.get_by_label("Of", exact=True).select_option("all")
    expect(page.locator("#purge-cli-curl")).to_contain_text('{"all":true}')
    assert run(page.locator("#purge-cli-curl").text_content()) == {"lagging_gateways": []}
