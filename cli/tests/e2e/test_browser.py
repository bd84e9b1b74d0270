"""What a real browser makes of the gateway: pages of other origins that call functions (Fetch, 3.2), and cookies that the gateway gives."""

import time

import pytest

from harness import guests
from harness.browser import browser  # noqa: F401
from harness.cluster import eventually
from harness.servers import Server, reply

FETCH = """async ([url, options]) => {
    try {
        const answer = await fetch(url, options);
        return {status: answer.status, text: await answer.text(), headers: Object.fromEntries(answer.headers)};
    } catch (error) {
        return {refused: String(error)};
    }
}"""


@pytest.fixture(scope="module")
def pages():
    """A server of pages; as 127.0.0.1 and as localhost it is of two origins."""
    server = Server(lambda request: reply(request, b"<!doctype html><title>A page</title>", "text/html"))
    yield server
    server.close()


class Page:
    """A page in a browser of its own, which calls a namespace's routes."""

    def __init__(self, browser, origin, base):
        self.context, self.base = browser.new_context(), base
        self.page = self.context.new_page()
        self.page.goto(origin)

    def fetch(self, path, **options):
        return self.page.evaluate(FETCH, [self.base + path, options])


@pytest.fixture
def open_page(browser, cluster, namespace, pages):
    """Makes pages of an origin that routes allow, or of one that none does."""
    opened = []

    def make(allowed=True):
        opened.append(Page(browser, pages.url if allowed else pages.url.replace("127.0.0.1", "localhost"), f"{cluster.gateways[0]['functions']}/{namespace}"))
        return opened[-1]

    yield make
    for page in opened:
        page.context.close()


@pytest.fixture
def route(cluster, api, namespace, pages):
    """Makes routes to a function that says what it was sent; returns once both gateways know them."""
    api.deploy(namespace, "fn", guests.ENVIRONMENT)

    def put(name, auth="PUBLIC", replace=False, **policy):
        policy = {"allow_origins": [pages.url], **policy}
        changes = {"add": [{"name": "x-told", "value": "for all"}, {"name": "x-kept", "value": "for itself"}]}
        api.call("RouteService.PutRoute", replace=replace, route={"name": f"namespaces/{namespace}/routes/{name}", "path": f"/{name}", "methods": ["GET", "PUT"], "auth": f"ROUTE_AUTH_{auth}",
                                                                  "function": {"function": "fn"}, "cors": policy, "response_headers": changes})
        preflight = {"Origin": pages.url, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "x-own"}
        allowed = ", ".join(policy.get("allow_headers", ()))
        with cluster.http() as client:
            eventually(lambda: (answer := client.options(f"/{namespace}/{name}", headers=preflight)).status_code == 204 and answer.headers.get("access-control-allow-headers", "") == allowed,
                       what=f"the route {name}")

    return put


def test_a_simple_call_is_answered_to_pages_of_an_allowed_origin_alone(route, open_page):
    route("simple")
    said = open_page().fetch("/simple")
    assert said.get("status") == 200 and "HTTP_ORIGIN=http://127.0.0.1" in said["text"], said
    assert "x-told" not in said["headers"], "a header that is not exposed"
    assert "refused" in open_page(allowed=False).fetch("/simple")


def test_a_call_that_needs_permission_is_asked_for_and_made(route, open_page):
    route("asked", allow_headers=["x-own"], expose_headers=["x-told"])
    page = open_page()
    said = page.fetch("/asked", method="PUT", headers={"X-Own": "mine"}, body="some")
    assert said.get("status") == 200 and "HTTP_X_OWN=mine" in said["text"] and "REQUEST_METHOD=PUT" in said["text"], said
    assert said["headers"]["x-told"] == "for all" and "x-kept" not in said["headers"], said
    assert "refused" in page.fetch("/asked", headers={"X-Other": "mine"})
    assert "refused" in page.fetch("/asked", method="DELETE")
    assert "refused" in open_page(allowed=False).fetch("/asked", method="PUT")


def test_pages_may_read_refusals_too(route, open_page):
    """Which they could not tell from a broken network otherwise."""
    route("refusing", auth="PRIVATE")
    said = open_page().fetch("/refusing")
    assert said.get("status") == 401 and "unauthenticated" in said["text"], said


def test_credentials_go_along_only_where_the_route_allows_them(route, open_page):
    route("credentials", allow_credentials=True)
    route("anonymous")
    page = open_page()
    page.context.add_cookies([{"name": "session", "value": "mine", "url": page.base}])
    said = page.fetch("/credentials", credentials="include")
    assert said.get("status") == 200 and "HTTP_COOKIE=session=mine" in said["text"], said
    assert "session=mine" not in page.fetch("/credentials")["text"]
    assert "refused" in page.fetch("/anonymous", credentials="include")
    assert page.fetch("/anonymous").get("status") == 200


def test_an_answer_to_a_preflight_is_remembered_for_as_long_as_the_route_says(route, open_page):
    for name, age in (("remembered", "60s"), ("forgotten", "0s")):
        route(name, allow_headers=["x-own"], max_age=age)
    page = open_page()
    call = {"headers": {"X-Own": "mine"}}
    for name in ("remembered", "forgotten"):
        assert page.fetch(f"/{name}", **call).get("status") == 200
        route(name, replace=True)
    assert page.fetch("/remembered", **call).get("status") == 200, "it was asked again"
    assert "refused" in page.fetch("/forgotten", **call), "it was not asked again"


def cookies(page):
    return {cookie["name"]: cookie for cookie in page.context.cookies()}


def test_a_browser_stays_with_the_version_that_its_cookie_says(cluster, api, cli, namespace, browser):
    for text in ("v1", "v2"):
        api.deploy(namespace, "till", guests.answer(text), hold_traffic=text == "v2")
    cli.ok("-n", namespace, "traffic", "set", "till", "v1=50,v2=50", "--sticky", "cookie")
    seen = set()
    for _ in range(12):
        context = browser.new_context()
        page = context.new_page()
        texts = set()
        for gateway in (0, 1, 0):
            # Cookies know no ports, so that both gateways are one site.
            page.goto(f"{cluster.gateways[gateway]['functions']}/{namespace}/till/")
            texts.add(page.text_content("body"))
        assert len(texts) == 1, texts
        kept = cookies(page)["dunlin-caller"]
        assert kept["httpOnly"] and kept["sameSite"] in ("Lax", "Strict") and kept["expires"] != 0, kept
        assert "dunlin-caller" not in page.evaluate("document.cookie")
        seen |= texts
        context.close()
    assert seen == {"v1", "v2"}


def test_a_browser_keeps_the_cookie_of_a_preview_for_that_version_alone(cluster, api, cli, namespace, browser, secrets_seen):
    api.deploy(namespace, "shop", guests.answer("v1"), public=False)
    api.deploy(namespace, "shop", guests.answer("v2"), public=False, hold_traffic=True)
    url = next(link for link in cli.ok("-n", namespace, "preview", "shop", "-o", "json").json["links"] if "@" in link)
    secrets_seen.append(url.partition("dunlin-preview=")[2])
    base = f"{cluster.gateways[0]['functions']}/{namespace}"
    context = browser.new_context()
    try:
        page = context.new_page()
        eventually(lambda: page.goto(url).status == 200 and page.text_content("body") == "v2", what="the preview")
        assert "dunlin-preview" not in page.url
        assert page.reload().status == 200 and page.text_content("body") == "v2"
        (kept,) = cookies(page).values()
        assert kept["httpOnly"] and kept["sameSite"] == "Lax" and kept["path"].endswith("/shop@2") and kept["expires"] > time.time(), kept
        assert page.evaluate("document.cookie") == ""
        assert page.goto(f"{base}/shop/").status == 401 and page.goto(f"{base}/shop@1/").status == 401
    finally:
        context.close()
