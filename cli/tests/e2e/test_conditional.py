"""Requests that depend on what a client has seen, on a real cluster: nothing is fetched twice, and no change is lost."""

from concurrent.futures import ThreadPoolExecutor

import pytest

pytestmark = pytest.mark.usefixtures("processes_survive")
WRITERS, ROUNDS = 4, 5


def test_an_answer_is_sent_once(cluster, namespace):
    with cluster.rest() as client:
        for path in (f"/api/v1/namespaces/{namespace}", "/api/v1/namespaces?page_size=1", "/api/v1/openapi.json"):
            first = client.get(path)
            again = client.get(path, headers={"If-None-Match": first.headers["etag"]})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
            assert client.get(path, headers={"If-None-Match": '"other"'}).content == first.content


def test_no_change_is_lost_whichever_gateway_takes_it(cluster, namespace):
    """Each writer counts a number up that it has read before; in the end, it has been counted up by all."""
    path = f"/api/v1/namespaces/{namespace}"

    def count(writer):
        refused = 0
        with cluster.rest(gateway=writer % 2) as client:
            for _ in range(ROUNDS):
                while True:
                    seen = client.get(path)
                    number = int(seen.json()["description"] or 0) + 1
                    changed = client.patch(path, json={"description": str(number)}, headers={"If-Match": seen.headers["etag"]})
                    if changed.status_code == 200:
                        break
                    assert changed.status_code == 412 and changed.json()["error"]["code"] == "changed", changed.text
                    refused += 1
        return refused

    with ThreadPoolExecutor(WRITERS) as pool:
        refused = sum(pool.map(count, range(WRITERS)))
    with cluster.rest() as client:
        assert client.get(path).json()["description"] == str(WRITERS * ROUNDS), f"{refused} were refused"


def test_what_must_be_new_or_there_is(cluster, namespace):
    path = f"/api/v1/namespaces/{namespace}/routes/hello"
    route = {"path": "/hello", "target": {"kind": "response", "body": "hello"}}
    with cluster.rest() as client:
        assert client.put(path, json=route, headers={"If-Match": "*"}).status_code == 412
        assert client.put(path, json=route, headers={"If-None-Match": "*"}).status_code == 200
        refused = client.put(path, json=route, headers={"If-None-Match": "*"})
        assert refused.status_code == 412 and refused.headers["etag"] == client.get(path).headers["etag"]
        assert client.delete(path, headers={"If-Match": refused.headers["etag"]}).status_code == 204
