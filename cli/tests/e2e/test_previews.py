"""Links to versions: whoever has one can look at that version for a while, and at nothing else."""

import httpx
import pytest

from harness import guests
from harness.cluster import eventually

pytestmark = pytest.mark.usefixtures("processes_survive")


@pytest.fixture
def link(cli, api, namespace):
    api.deploy(namespace, "till", guests.answer("v1"), public=False)
    api.deploy(namespace, "till", guests.answer("v2"), public=False, hold_traffic=True)

    def make(*arguments):
        return cli.ok("-n", namespace, "preview", "till", *arguments, "-o", "json").json
    return make


def by_path(made):
    return next(link for link in made["links"] if "@" in link)


def test_a_browser_follows_a_link_to_a_version_without_calls(cluster, namespace, link, secrets_seen):
    made = link()
    assert made["version"] == 2 and made["expire_time"]
    url = by_path(made)
    token = url.partition("dunlin-preview=")[2]
    secrets_seen.append(token)
    with httpx.Client(trust_env=False) as browser:
        first = eventually(lambda: (answer := browser.get(url)).status_code != 404 and answer, what="the version")
        assert first.status_code == 303 and "dunlin-preview" not in first.headers["location"]
        cookie = first.headers["set-cookie"]
        assert "HttpOnly" in cookie and f"Path=/{namespace}/till@2" in cookie and "SameSite=Lax" in cookie
        assert browser.get(httpx.URL(url).join(first.headers["location"])).text == "v2"
        # Of the function's own address, and of another version's, the browser knows nothing.
        with cluster.http() as caller:
            base = str(caller.base_url).rstrip("/")
        assert browser.get(f"{base}/{namespace}/till/").status_code == 401
        assert browser.get(f"{base}/{namespace}/till@1/").status_code == 401
        other = browser.get(f"{base}/{namespace}/till@1/?dunlin-preview={token}")
        assert other.status_code == 403 and "not for this version" in other.text
    # Whoever does more than look needs no cookie.
    assert httpx.post(url, trust_env=False).text == "v2"


def test_a_link_opens_neither_administration_nor_the_function(cluster, namespace, link, secrets_seen):
    token = by_path(link("1")).partition("dunlin-preview=")[2]
    secrets_seen.append(token)
    assert cluster.rest(token).get("/api/v1/cluster").status_code == 401
    with cluster.http() as caller:
        eventually(lambda: caller.get(f"/{namespace}/till/").status_code == 401, what="the private function")
        assert caller.get(f"/{namespace}/till/", headers={"Authorization": f"Bearer {token}"}).status_code == 401
        assert caller.get(f"/{namespace}/till@1/?dunlin-preview={token}x").status_code == 401


def test_links_are_for_versions_that_are_there(cli, namespace, link):
    refused = cli("-n", namespace, "preview", "till", "9")
    assert refused.code == 3, refused
    assert cli("-n", namespace, "preview", "nothing").code == 3
    assert cli("-n", namespace, "preview", "till", "--lifetime", "48h").code != 0
