"""Signing in at the dashboard through an issuer, as a browser does it and as an attacker does: the issuer is the harness's own."""

import re
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from playwright.sync_api import expect

from harness.cluster import eventually
from test_pages import Visit, browser, picture  # noqa: F401


@pytest.fixture
def visit(browser, cluster, issuer):  # noqa: F811
    visits = []

    class Guest(Visit):
        def _request(self, request):
            if not request.url.startswith(issuer.url + "/"):
                super()._request(request)

    def begin(**options):
        visits.append(Guest(browser, cluster.admin, **options))
        return visits[-1]

    yield begin
    for each in visits:
        each.close()
    issuer.grants = ["operator"]
    assert not issuer.refusals, issuer.refusals


@pytest.mark.parametrize("javascript", [True, False], ids=["with-scripts", "without-scripts"])
def test_a_person_signs_in_by_clicking_and_lands_on_the_page_that_was_asked_for(visit, cluster, namespace, javascript):
    window = visit(java_script_enabled=javascript)
    page = window.page
    page.goto(f"/namespaces/{namespace}/keys")
    expect(page).to_have_url(re.compile("/sign-in"))
    picture(page, f"sign-in-{javascript}")
    page.get_by_role("link", name="Sign in with Issuer of the tests").click()
    page.get_by_role("link", name="Yes").click()
    expect(page).to_have_url(f"{cluster.admin}/namespaces/{namespace}/keys")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    cookies = {cookie["name"]: cookie for cookie in window.context.cookies(cluster.admin)}
    assert set(cookies) == {"dunlin-session"} and cookies["dunlin-session"]["sameSite"] == "Strict" and cookies["dunlin-session"]["httpOnly"], cookies
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile("/sign-in"))
    page.goto(f"/namespaces/{namespace}/keys")
    expect(page).to_have_url(re.compile("/sign-in"))


def test_who_declines_is_told_and_can_try_again(visit, cluster):
    window = visit()
    page = window.page
    page.goto("/sign-in")
    page.get_by_role("link", name="Sign in with").click()
    page.get_by_role("link", name="No").click()
    expect(page.get_by_role("alert")).to_contain_text("declined there")
    picture(page, "sign-in-declined")
    page.get_by_role("link", name="Sign in with").click()
    page.get_by_role("link", name="Yes").click()
    expect(page).not_to_have_url(re.compile("/sign-in"))
    window.faults = [fault for fault in window.faults if "403" not in fault]  # The browser itself notes the status.


def test_who_has_no_role_is_told(visit, issuer):
    issuer.grants = []
    window = visit()
    page = window.page
    page.goto("/sign-in")
    page.get_by_role("link", name="Sign in with").click()
    page.get_by_role("link", name="Yes").click()
    expect(page.get_by_role("alert")).to_contain_text("Nobody gave person a role")
    assert not window.context.cookies()
    window.faults = [fault for fault in window.faults if "403" not in fault]


class Browser:
    """What a browser does, without one."""

    def __init__(self, cluster, gateway=0):
        self.client = httpx.Client(base_url=cluster.gateways[gateway]["admin"], trust_env=False)

    def begin(self, issuer, next="/"):
        answer = self.client.get("/sign-in/issuer", params={"issuer": issuer.url, "next": next})
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    def back(self, url):
        return self.client.get("/sign-in/callback", params=dict(parse_qsl(urlsplit(url).query)))

    def has_session(self):
        return "dunlin-session" in self.client.cookies


def accept(location):
    """A person says yes at the issuer: the address that leads back."""
    page = httpx.get(location, trust_env=False)
    assert page.status_code == 200, page.text
    return re.search(r'href="([^"]+)">Yes', page.text).group(1).replace("&amp;", "&")


def test_a_code_is_worth_nothing_in_another_browser_or_twice(cluster, issuer, secrets_seen):
    mine, theirs = Browser(cluster), Browser(cluster)
    back = accept(mine.begin(issuer))
    stolen = dict(parse_qsl(urlsplit(back).query))
    secrets_seen.append(stolen["code"])
    # Without the cookie; with one of another sign-in; with the state of that, where PKCE has the issuer refuse.
    assert Browser(cluster).back(back).status_code == 400
    location = theirs.begin(issuer)
    assert theirs.back(back).status_code == 400
    state = dict(parse_qsl(urlsplit(theirs.begin(issuer)).query))["state"]
    assert location and theirs.back(back.replace(stolen["state"], state)).status_code == 401
    assert issuer.refusals == ["the code is not good for this"] and not theirs.has_session()
    issuer.refusals.clear()
    # The issuer took the code for used: whoever it was meant for begins anew.
    back = accept(mine.begin(issuer))
    secrets_seen.append(dict(parse_qsl(urlsplit(back).query))["code"])
    kept = dict(mine.client.cookies)
    assert mine.back(back).status_code == 200 and mine.has_session()
    secrets_seen.append(mine.client.cookies["dunlin-session"])
    assert mine.client.get("/api/v1/identity").json()["subject"] == "person"
    again = Browser(cluster)
    again.client.cookies.update(kept)
    assert again.back(back).status_code == 401 and not again.has_session()
    issuer.refusals.clear()


def test_the_way_back_is_the_configurations_and_not_the_hosts(cluster, issuer):
    answer = Browser(cluster).client.get("/sign-in/issuer", params={"issuer": issuer.url}, headers={"Host": "evil.example", "X-Forwarded-Host": "evil.example"})
    # A gateway may refuse such a host altogether; it must not believe it.
    if answer.status_code == 303:
        assert dict(parse_qsl(urlsplit(answer.headers["location"]).query))["redirect_uri"] == f"{cluster.admin}/sign-in/callback"


def test_signing_in_is_in_the_audit_log(cluster, issuer):
    browser = Browser(cluster)  # noqa: F811
    assert browser.back(accept(browser.begin(issuer))).status_code == 200
    entries = lambda: cluster.rest().get("/api/v1/audit", params={"subject": "person", "action": "session.begin"}).json()["entries"]  # noqa: E731
    found = eventually(entries, seconds=45, what="the sign-in in the audit log")
    assert found[0]["issuer"] == issuer.url
