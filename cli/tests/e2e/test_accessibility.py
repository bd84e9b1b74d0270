"""Every page of the dashboard under axe-core, as people see it: at a desk and on a phone, light and dark.

Nothing that axe-core calls serious or critical may be found, and a phone never scrolls sideways. The list of pages is
compared with the gateway's router, so that a new page can't be forgotten here.
"""

import re
from types import SimpleNamespace

import pytest
from conftest import new_namespace
from playwright.sync_api import expect

from harness import guests
from harness.browser import Visit, browser, picture  # noqa: F401 (the fixture is used by name)
from harness.cluster import eventually
from harness.paths import REPO, TOOLS

AXE = TOOLS / "node/node_modules/axe-core/axe.min.js"
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
DARK = {"color_scheme": "dark"}
LOOKS = {"desk": {}, "desk-dark": DARK, "phone": PHONE, "phone-dark": PHONE | DARK}

# What the router has, and where a browser goes to see it. Two addresses of one page show it in two states.
SHOP, GREETER = "/namespaces/{namespace}", "/namespaces/{namespace}/functions/{function}"
PAGES = {
    "/": ["/"],
    "/sign-in": ["/sign-in", "/sign-in?next=/audit"],
    SHOP: ["/namespaces/{shop}", "/namespaces/{empty}"],
    f"{SHOP}/invocations": ["/namespaces/{shop}/invocations", "/namespaces/{empty}/invocations"],
    f"{SHOP}/invocations/{{id}}": ["/namespaces/{shop}/invocations/{refused}"],
    f"{SHOP}/logs": ["/namespaces/{shop}/logs", "/namespaces/{empty}/logs"],
    f"{SHOP}/keys": ["/namespaces/{shop}/keys", "/namespaces/{empty}/keys"],
    f"{SHOP}/releases": ["/namespaces/{shop}/releases", "/namespaces/{empty}/releases"],
    f"{SHOP}/releases/{{release}}": ["/namespaces/{shop}/releases/1", "/namespaces/{shop}/releases/2"],
    f"{SHOP}/usage": ["/namespaces/{shop}/usage", "/namespaces/{shop}/usage?days=30", "/namespaces/{empty}/usage"],
    f"{SHOP}/routes": ["/namespaces/{shop}/routes", "/namespaces/{empty}/routes"],
    GREETER: ["/namespaces/{shop}/functions/greeter", "/namespaces/{shop}/functions/broken"],
    f"{GREETER}/invocations": ["/namespaces/{shop}/functions/greeter/invocations"],
    f"{GREETER}/invocations/{{id}}": ["/{call}", "/{failure}"],
    f"{GREETER}/logs": ["/namespaces/{shop}/functions/greeter/logs"],
    f"{GREETER}/test": ["/namespaces/{shop}/functions/greeter/test"],
    f"{SHOP}/audit": ["/namespaces/{shop}/audit", "/namespaces/{empty}/audit"],
    "/audit": ["/audit"],
    "/session": ["/session"],
    "/workers/{worker}": ["/workers/worker-1"],
}
# What a page loads, and ways to somewhere else.
NO_PAGES = {"/assets/{file}", f"{SHOP}/live", "/sign-in/issuer", "/sign-in/callback"}
# Not there, and not a name.
ERRORS = ["/namespaces/{shop}/functions/absent", "/namespaces/{shop}/invocations/01900000-0000-7000-8000-000000000000", "/nowhere"]


def test_every_page_of_the_router_is_looked_at():
    places = (REPO / "gateway/src/admin/pages/places.rs").read_text()
    pages = set(re.findall(r'^    get "([^"]+)"', places, re.M)) - NO_PAGES
    assert pages == set(PAGES), "PAGES has to name the pages of gateway/src/admin/pages/places.rs"


@pytest.fixture(scope="module")
def places(cluster):
    """Names of what the pages show: a namespace that has some of everything, and one that has nothing."""
    api, shop = cluster.api(), new_namespace(cluster.api())
    api.deploy(shop, "greeter", guests.ECHO, description="Says hello", note="the first")
    api.deploy(shop, "greeter", guests.LOG, note="the second")
    api.deploy(shop, "broken", guests.TRAP)
    with cluster.http() as caller:  # Before there are routes, for then it is served on those alone.
        for function in ("greeter", "greeter", "broken"):
            eventually(lambda: caller.get(f"/{shop}/{function}/").status_code != 404, what=f"{function} is known")
        refused = caller.get(f"/{shop}/nobodys/").headers["dunlin-request-id"]
    api.call("PlanService.PutPlan", plan={"name": f"namespaces/{shop}/plans/basic", "rate": {"requests": 10, "period": "RATE_PERIOD_SECOND"}})
    api.call("KeyService.CreateKey", parent=f"namespaces/{shop}", display_name="the till at the front door", plan="basic")
    for name, more in (("hello", {"function": {"function": "greeter"}, "cache": True, "compress": True}), ("old", {"redirect": {"location": "/hello"}})):
        api.call("RouteService.PutRoute", route={"name": f"namespaces/{shop}/routes/{name}", "path": f"/{name}/{{id}}", "methods": ["GET"], **more})
    declared = {"name": f"namespaces/{shop}/routes/front", "path": "/", "function": {"function": "greeter"}}
    api.call("ReleaseService.ActivateApp", name=f"namespaces/{shop}/apps/front", routes=[declared])
    api.call("DomainService.CreateDomain", parent=f"namespaces/{shop}", domain=f"api.{shop}.example")
    # A webhook whose receiver is nowhere, with an event that waits.
    api.call("NamespaceService.SetWebhook", name=f"namespaces/{shop}/webhook", url="https://localhost:1/dunlin")
    api.call("NamespaceService.TestWebhook", name=f"namespaces/{shop}/webhook")
    first = lambda function: api.call("InvocationService.ListInvocations", parent=f"namespaces/{shop}/functions/{function}")["invocations"][0]["name"]  # noqa: E731
    return {"shop": shop, "empty": new_namespace(api), "call": eventually(lambda: first("greeter")), "failure": eventually(lambda: first("broken")), "refused": refused}


@pytest.fixture(scope="module", params=LOOKS)
def seen(request, browser, cluster):  # noqa: F811
    """A window of somebody who is signed in, with axe-core in every page of it.

    It comes in by the browser's debugging protocol: the pages' policy lets no other script in, and stays as it is.
    """
    window = Visit(browser, cluster.admin, **LOOKS[request.param])
    window.context.add_init_script(path=AXE)
    window.sign_in(cluster.token)
    yield SimpleNamespace(page=window.page, look=request.param, window=window)
    window.close()


def check(seen, path):
    """Says what is wrong with the page that is shown."""
    page = seen.page
    expect(page.get_by_role("main")).to_be_visible()
    page.evaluate("document.querySelectorAll('main details').forEach(folded => { folded.open = true; })")
    picture(page, f"{seen.look}{re.sub(r'[^a-z0-9-]+', '-', path)}")
    found = page.evaluate("""() => axe.run({resultTypes: ["violations"]}).then(({violations}) => violations
        .filter(({impact}) => impact === "serious" || impact === "critical")
        .map(({id, help, nodes}) => `${id} (${help}): ` + nodes.slice(0, 3).map(({html, any}) => html.slice(0, 160) + " " + any.map(check => check.message).join(" ")).join(" | ")))""")
    assert not found, f"{path}:\n" + "\n".join(found)
    if "phone" in seen.look:
        wide, width = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= width, f"{path} is {wide} pixels wide on a phone of {width}"


@pytest.mark.parametrize("path", [path for paths in PAGES.values() for path in paths])
def test_nothing_keeps_anybody_from_a_page(seen, places, path):
    assert seen.page.goto(path.format(**places)).ok
    check(seen, path)


@pytest.mark.parametrize("path", ERRORS)
def test_nothing_keeps_anybody_from_an_error(seen, places, path):
    assert seen.page.goto(path.format(**places)).status == 404
    check(seen, path)
    # The browser itself notes the status.
    seen.window.faults = [fault for fault in seen.window.faults if "404" not in fault]
