"""The dashboard's pages in headless Chromium, with mouse and keyboard, at desk and phone width, light and dark."""

import re

import httpx
import pytest
from playwright.sync_api import expect

from harness import guests
from harness.browser import Visit, browser, picture, visit  # noqa: F401 (the fixtures are used by name)
from harness.cluster import eventually

@pytest.fixture
def shop(cluster, api, namespace, call_when_ready):
    """A namespace with two versions of a function that logs, and some calls."""
    api.deploy(namespace, "greeter", guests.LOG, description="Says hello", note="the first")
    call_when_ready(f"/{namespace}/greeter/")
    api.deploy(namespace, "greeter", guests.ECHO, note="the second")
    api.deploy(namespace, "broken", guests.TRAP)
    for _ in range(5):
        call_when_ready(f"/{namespace}/greeter/")
    call_when_ready(f"/{namespace}/broken/")
    return namespace


def test_signing_in_with_a_bad_token_says_so_and_with_a_good_one_works(visit, cluster, shop):
    window = visit()
    page = window.page
    page.goto("/")
    page.get_by_label("Token").fill("not a token")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    window.faults = [fault for fault in window.faults if "401" not in fault]  # The browser itself notes the status.
    window.sign_in(cluster.token)
    page.goto(f"/namespaces/{shop}")
    expect(page.get_by_role("heading", name=shop, level=1)).to_be_visible()
    for role, name in (("link", "greeter"), ("link", "worker-1")):
        expect(page.get_by_role(role, name=name).first).to_be_visible()
    picture(page, "overview")
    cookies = window.context.cookies()
    assert cookies and all(cookie["httpOnly"] and cookie["sameSite"] == "Strict" for cookie in cookies), cookies


def test_every_page_needs_signing_in(cluster, shop):
    with httpx.Client(base_url=cluster.admin, trust_env=False) as client:
        for path in ("/", f"/namespaces/{shop}", f"/namespaces/{shop}/functions/greeter", f"/namespaces/{shop}/functions/greeter/logs", "/workers/worker-1"):
            answer = client.get(path)
            assert answer.status_code in (302, 303, 307) and "/sign-in" in answer.headers["location"], f"{path}: {answer.status_code}"
        answer = client.get("/sign-in", params={"next": "https://evil.example/"})
        assert "evil.example" not in answer.text or 'value="/"' in answer.text


def test_the_function_page_shows_calls_versions_and_log(visit, cluster, shop):
    window = visit()
    page = window.sign_in(cluster.token)
    page.goto(f"/namespaces/{shop}/functions/greeter")
    expect(page.get_by_text("Says hello")).to_be_visible()
    for text in ("the first", "the second", "a line for the log"):
        eventually(lambda: page.reload() and page.get_by_text(text).count() > 0, what=f"'{text}' on the page")
    rows = page.get_by_role("table", name=re.compile("invocations", re.I)).get_by_role("row")
    assert rows.count() >= 5
    picture(page, "function")
    page.goto(f"/namespaces/{shop}/functions/broken")
    assert page.get_by_text("function_failed").count() > 0


def test_ones_own_session_is_shown_and_ended(visit, cluster):
    window = visit()
    page = window.sign_in(cluster.token)
    page.locator(".who").get_by_role("link").click()
    expect(page.get_by_role("heading", name="Your session")).to_be_visible()
    for text in ("With a token of this cluster", "127.0.0.1", "The whole cluster", "everything in every namespace"):
        expect(page.get_by_text(text).first).to_be_visible()
    picture(page, "session")
    page.get_by_role("link", name="Sign-ins of the same subject").click()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.goto("/session")
    page.get_by_role("button", name="Sign out here").click()
    expect(page.get_by_label("Token")).to_be_visible()
    page.goto("/session")
    expect(page.get_by_label("Token")).to_be_visible()


def test_the_worker_page_names_what_it_holds(visit, cluster, shop):
    window = visit()
    page = window.sign_in(cluster.token)
    page.goto(f"/namespaces/{shop}")
    page.get_by_role("link", name="worker-1").first.click()
    expect(page.get_by_role("heading", name="worker-1")).to_be_visible()
    picture(page, "worker")


def test_the_live_log_shows_a_line_as_it_is_written(visit, cluster, api, namespace, call_when_ready):
    api.deploy(namespace, "tail", guests.LOG)
    call_when_ready(f"/{namespace}/tail/")
    window = visit()
    page = window.sign_in(cluster.token)
    page.goto(f"/namespaces/{namespace}/functions/tail/logs")
    log = page.get_by_role("log")
    expect(log).to_be_visible()
    # The line of the first call may come with the page or after it.
    expect(log.locator("li")).to_have_count(1, timeout=10000)
    for _ in range(3):
        call_when_ready(f"/{namespace}/tail/")
    expect(log.locator("li")).to_have_count(4, timeout=10000)
    picture(page, "log")


def test_the_overview_goes_on_while_somebody_looks_at_it(visit, cluster, api, namespace, call_when_ready):
    api.deploy(namespace, "busy", guests.LOG)
    call_when_ready(f"/{namespace}/busy/")
    window = visit()
    page = window.sign_in(cluster.token)
    page.goto(f"/namespaces/{namespace}")
    expect(page.locator("#live-state")).to_have_text("Live")
    calls = page.get_by_role("row", name=re.compile("busy")).first.locator("td[data-label=Calls]")
    # The first call may be counted after the page has come.
    expect(calls).to_have_text("1", timeout=10000)
    for _ in range(3):
        call_when_ready(f"/{namespace}/busy/")
    expect(calls).to_have_text("4", timeout=10000)


def test_a_function_is_called_from_its_page(visit, cluster, api, namespace, probe):
    api.deploy(namespace, "tried", probe)
    window = visit()
    page = window.sign_in(cluster.token)
    page.goto(f"/namespaces/{namespace}/functions/tried")
    page.get_by_role("link", name="Test", exact=True).click()
    page.get_by_label("Method").select_option("POST")
    page.get_by_label("Path and query").fill("/headers")
    page.get_by_label("Headers, one in each line").fill("x-tried: it's me\nx-two: 2")
    page.get_by_label("Body", exact=True).fill("<script>alert(1)</script>")
    page.get_by_role("button", name="Call tried").click()
    expect(page.get_by_role("heading", name="Answer 200")).to_be_visible()
    expect(page.get_by_label("Body").first).to_contain_text("it's me")
    for command in ("dunlin invoke tried --path /headers -H", "curl -H"):
        expect(page.get_by_text(command).first).to_be_visible()
    picture(page, "test")
    page.get_by_role("link", name="Why, and where the time went").click()
    expect(page.get_by_text("/headers").first).to_be_visible()
    page.goto(f"/namespaces/{namespace}/functions/tried/test")
    page.get_by_label("Headers, one in each line").fill("nonsense")
    page.get_by_role("button", name="Call tried").click()
    expect(page.get_by_role("alert")).to_contain_text("has no colon")


def test_a_function_is_called_by_the_same_endpoint_as_json(cluster, api, namespace, probe, call_when_ready):
    api.deploy(namespace, "tried", probe)
    call_when_ready(f"/{namespace}/tried/headers")
    path = f"/api/v1/namespaces/{namespace}/functions/tried/test"
    with cluster.rest() as client:
        sent = {"method": "POST", "path": "/headers", "headers": [{"name": "x-tried", "value": "it's me"}], "body": "text", "version": 1}
        told = client.post(path, json=sent).json()
        assert told["status"] == 200 and "it's me" in told["body"] and told["body_base64"] is None, told
        call = told["invocation"]
        assert (call["function"], call["method"], call["version"]) == ("tried", "POST", 1) and call["lasted_us"] > 0, call
        assert client.post(path, json={"version": 9}).status_code == 404
    with cluster.rest("") as client:
        assert client.post(path, json={}).status_code == 401


def test_a_rollback_by_keyboard_alone(visit, cluster, api, shop):
    window = visit()
    page = window.sign_in(cluster.token)
    page.goto(f"/namespaces/{shop}/functions/greeter")
    for _ in range(80):
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.innerText")
        if "version 1" in (focused or ""):
            break
    else:
        raise AssertionError("the rollback cannot be reached by Tab")
    outline = page.evaluate("(s => s.outlineStyle + s.boxShadow)(getComputedStyle(document.activeElement))")
    assert outline not in ("nonenone", ""), "the focus can be seen"
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").first).to_be_visible()
    name = f"namespaces/{shop}/functions/greeter"
    assert api.call("FunctionService.GetFunction", name=name)["function"]["traffic"] == [{"version": 1, "percent": 100}]


def test_traffic_is_divided_with_the_slider(visit, cluster, api, shop):
    window = visit()
    page = window.sign_in(cluster.token)
    page.goto(f"/namespaces/{shop}/functions/greeter")
    page.get_by_role("slider").focus()
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    expect(page.get_by_label("Percent", exact=True)).to_have_value("30")
    expect(page.locator("#divide-cli")).to_have_text(f"dunlin traffic set greeter v2=70,v1=30 --namespace {shop}")
    picture(page, "traffic")
    page.get_by_role("button", name="Divide traffic").click()
    expect(page.get_by_text("30 % of the traffic goes to version 1 now.")).to_be_visible()
    function = api.call("FunctionService.GetFunction", name=f"namespaces/{shop}/functions/greeter")["function"]
    assert sorted((share["version"], share["percent"]) for share in function["traffic"]) == [(1, 30), (2, 70)]


def test_routes_and_stored_answers(visit, cluster, api, shop):
    function = {"function": "greeter"}
    for name, more in (("hello", {"function": function, "cache": True, "compress": True}), ("old", {"redirect": {"location": "/hello"}})):
        route = {"name": f"namespaces/{shop}/routes/{name}", "path": f"/{name}/{{id}}", "methods": ["GET"], **more}
        api.call("RouteService.PutRoute", route=route)
    api.call("PlanService.PutPlan", plan={"name": f"namespaces/{shop}/plans/basic", "rate": {"requests": 10, "period": "RATE_PERIOD_SECOND"}})
    window = visit()
    page = window.sign_in(cluster.token)
    page.goto(f"/namespaces/{shop}")
    page.get_by_role("link", name="Routes").click()
    for text in ("/hello/{id}", "stored, compressed", "308 to /hello"):
        expect(page.get_by_text(text).first).to_be_visible()
    page.get_by_label("Of", exact=True).select_option("prefix")
    page.get_by_label("Path or route").fill("/hello/")
    expect(page.locator("#purge-cli")).to_have_text(f"dunlin cache purge --prefix /hello/ --namespace {shop}")
    picture(page, "routes")
    page.get_by_role("button", name="Forget").click()
    expect(page.get_by_text("What was stored of /hello/… is forgotten on every gateway.")).to_be_visible()
    page.get_by_role("link", name="Keys").click()
    expect(page.get_by_text("10/s").first).to_be_visible()
    picture(page, "keys")


def test_releases_are_compared_and_come_back(visit, cluster, api, shop):
    page = visit().sign_in(cluster.token)
    name = f"namespaces/{shop}/functions/greeter"
    api.call("RouteService.PutRoute", route={"name": f"namespaces/{shop}/routes/hi", "path": "/hi", "function": {"function": "greeter"}})
    api.call("FunctionService.UpdateFunction", function={"name": name, "public": False}, update_mask="public")
    page.goto(f"/namespaces/{shop}/releases")
    expect(page.locator("body")).to_contain_text("put route hi")
    picture(page, "releases")
    page.locator("tbody tr").nth(1).get_by_role("link").click()
    expect(page.locator("body")).to_contain_text("routes/hi")
    page.get_by_text("Go back to release").first.click()
    picture(page, "release")
    page.get_by_role("button", name=re.compile("Give callers release")).click()
    expect(page.get_by_role("status")).to_contain_text("on every gateway")
    assert api.call("FunctionService.GetFunction", name=name)["function"]["public"]


def test_a_viewer_sees_and_changes_nothing(visit, cluster, api, shop, secrets_seen):
    grants = [{"namespace": shop, "role": "ROLE_VIEWER"}]
    token = api.call("TokenService.CreateToken", subject="viewer", purpose="TOKEN_PURPOSE_ADMINISTRATION", grants=grants)["token"]
    secrets_seen.append(token)
    window = visit()
    page = window.sign_in(token)
    page.goto(f"/namespaces/{shop}/functions/greeter")
    expect(page.get_by_role("heading", name="greeter", level=1)).to_be_visible()
    assert page.get_by_role("button", name=re.compile("version 1|Delete")).count() == 0
    cookie = "; ".join(f"{c['name']}={c['value']}" for c in window.context.cookies())
    with httpx.Client(base_url=cluster.admin, trust_env=False, headers={"Cookie": cookie, "Origin": cluster.admin, "Sec-Fetch-Site": "same-origin"}) as client:
        answer = client.post(f"/namespaces/{shop}/functions/greeter/rollback", data={"version": "1"})
        assert answer.status_code == 403, answer.status_code


def test_t49_a_form_of_another_site_does_nothing(visit, cluster, shop):
    window = visit()
    window.sign_in(cluster.token)
    cookie = "; ".join(f"{c['name']}={c['value']}" for c in window.context.cookies())
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        with httpx.Client(base_url=cluster.admin, trust_env=False, headers={"Cookie": cookie} | headers) as client:
            assert client.post(f"/namespaces/{shop}/functions/greeter/rollback", data={"version": "1"}).status_code == 403, headers
            assert client.post(f"/api/v1/namespaces/{shop}/functions/greeter:rollback", json={"version": 1}).status_code in (401, 403, 404, 405, 415)


def test_t49_what_guests_write_is_shown_as_text(visit, cluster, api, namespace, call_when_ready):
    evil = b'<img src=x onerror="document.title=1"><script>document.title=2</script>\x1b[31m\n'
    wasm = guests.command(f"(call $write (i32.const 2) (i32.const 1024) (i32.const {len(evil)})) (call $head)", data={1024: evil})
    api.deploy(namespace, "evil", wasm, description='<b onclick="x">"</b>', note="<script>alert(1)</script>")
    call_when_ready(f"/{namespace}/evil/%3Cscript%3Ealert(1)%3C/script%3E")
    window = visit()
    page = window.sign_in(cluster.token)
    for path in ("", "/functions/evil", "/functions/evil/logs", "/invocations"):
        page.goto(f"/namespaces/{namespace}{path}")
        page.wait_for_timeout(200)
        assert page.title() not in ("1", "2") and page.locator("img[src=x]").count() == 0 and page.locator("main b").count() == 0


def test_pages_forbid_what_they_do_not_need(cluster):
    with httpx.Client(base_url=cluster.admin, trust_env=False) as client:
        headers = client.get("/sign-in").headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";") if part.strip())
    assert policy["default-src"] == "'none'" and policy["frame-ancestors"] == "'none'" and policy.get("script-src", "'self'") == "'self'"
    assert policy.get("form-action") == "'self'" and policy.get("base-uri", "'none'") == "'none'" and "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] in ("no-referrer", "same-origin")
    assert "no-store" in headers["cache-control"]


PAGES = ["", "/functions/greeter", "/functions/greeter/logs", "/invocations", "/routes", "/releases", "/usage", "/usage?days=30", "/keys", "/audit"]


def test_phone_width_needs_no_sideways_scrolling(visit, cluster, shop):
    window = visit(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page = window.sign_in(cluster.token)
    for path in PAGES:
        page.goto(f"/namespaces/{shop}{path}")
        wide = page.evaluate("""() => [document.documentElement.scrollWidth, innerWidth,
            [...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.log, pre, .scroll')).slice(0, 3).map(e => e.outerHTML.slice(0, 80))]""")
        assert wide[0] <= wide[1], f"{path or 'overview'}: {wide}"
        picture(page, "phone" + path.replace("/", "-"))


def test_dark_mode_is_dark_and_readable(visit, cluster, shop):
    window = visit(color_scheme="dark")
    page = window.sign_in(cluster.token)
    for path in PAGES:
        page.goto(f"/namespaces/{shop}{path}")
        contrast = page.evaluate("""() => {
            const channels = c => c.match(/[\\d.]+/g).slice(0, 3).map(v => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
            const light = c => { const [r, g, b] = channels(c); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
            const back = light(getComputedStyle(document.body).backgroundColor), front = light(getComputedStyle(document.body).color);
            return [back, (Math.max(back, front) + 0.05) / (Math.min(back, front) + 0.05)];
        }""")
        assert contrast[0] < 0.1 and contrast[1] > 7, f"{path or 'overview'}: {contrast}"
        picture(page, "dark" + path.replace("/", "-"))


def test_pages_work_without_scripts(browser, cluster, shop):
    window = Visit(browser, cluster.admin, java_script_enabled=False)
    page = window.sign_in(cluster.token)
    for path in PAGES:
        page.goto(f"/namespaces/{shop}{path}")
        expect(page.get_by_role("main")).to_be_visible()
    window.close()


def test_traffic_and_a_rollback_without_scripts(browser, cluster, api, shop):
    window = Visit(browser, cluster.admin, java_script_enabled=False)
    page = window.sign_in(cluster.token)

    def traffic():
        function = api.call("FunctionService.GetFunction", name=f"namespaces/{shop}/functions/greeter")["function"]
        return sorted((share["version"], share["percent"]) for share in function["traffic"])

    page.goto(f"/namespaces/{shop}/functions/greeter")
    page.get_by_label("Percent", exact=True).fill("40")
    page.get_by_role("button", name="Divide traffic").click()
    expect(page.get_by_text("40 % of the traffic goes to version 1 now.")).to_be_visible()
    assert traffic() == [(1, 40), (2, 60)]
    page.goto(f"/namespaces/{shop}/functions/greeter")
    page.get_by_role("button", name=re.compile("version 1")).first.click()
    expect(page.get_by_role("status").first).to_be_visible()
    assert traffic() == [(1, 100)]
    window.close()


def test_the_page_of_a_function_that_has_been_deleted_says_so(visit, cluster, api, shop):
    window = visit()
    page = window.sign_in(cluster.token)
    page.goto(f"/namespaces/{shop}/functions/greeter/logs")
    expect(page.get_by_role("log")).to_be_visible()
    api.call("FunctionService.DeleteFunction", name=f"namespaces/{shop}/functions/greeter")
    for path in ("", "/test"):
        answer = page.goto(f"/namespaces/{shop}/functions/greeter{path}")
        assert answer.status == 404, f"{path}: {answer.status}"
        expect(page.get_by_text("was not found").first).to_be_visible()
    # What it wrote is kept for as long as other lines.
    assert page.goto(f"/namespaces/{shop}/functions/greeter/logs").status == 200
    # The browser itself notes the status.
    window.faults = [fault for fault in window.faults if "404" not in fault]
