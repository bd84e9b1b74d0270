"""Changes with an `Idempotency-Key`, on a real cluster: the same answer at every gateway, and nothing done twice."""

import random
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import new_namespace

pytestmark = pytest.mark.usefixtures("processes_survive")


def keyed(key):
    return {"Idempotency-Key": f'"{key}"'}


def made(cluster, namespace, action):
    """How often something was done, by the audit log."""
    with cluster.rest() as client:
        entries = client.get(f"/api/v1/namespaces/{namespace}/audit", params={"page_size": 1000}).json()["entries"]
    return sum(entry["action"] == action and entry["outcome"] == "done" for entry in entries)


def test_many_at_once_with_one_key_make_one_change(cluster, namespace):
    path, headers = f"/api/v1/namespaces/{namespace}/keys", keyed(uuid.uuid4())

    def make(writer):
        with cluster.rest(gateway=writer % 2) as client:
            while True:
                answer = client.post(path, json={"display_name": "till"}, headers=headers)
                if answer.status_code != 409:
                    return answer
                assert int(answer.headers["retry-after"]) >= 1, answer.headers

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(make, range(8)))
    assert {answer.status_code for answer in answers} == {answers[0].status_code} and answers[0].is_success, answers[0].text
    assert len({answer.content for answer in answers}) == 1, "the secret is the same one"
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert made(cluster, namespace, "key.create") == 1


def test_a_key_belongs_to_one_request_of_one_token(cluster, namespace):
    path, headers = f"/api/v1/namespaces/{namespace}", keyed(uuid.uuid4())
    with cluster.rest() as client:
        first = client.patch(path, json={"description": "a"}, headers=headers)
        assert first.status_code == 200
        assert client.patch(path, json={"description": "b"}).status_code == 200
        again = client.patch(path, json={"description": "a"}, headers=headers)
        assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")
        assert client.get(path).json()["description"] == "b", "nothing was done again"
        other = client.patch(path, json={"description": "c"}, headers=headers)
        assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
        for bad in ("", '"', "a b", "x" * 256):
            assert client.patch(path, json={}, headers={"Idempotency-Key": bad}).status_code == 400
        unreadable = keyed(uuid.uuid4())
        refused = [client.patch(path, json={"description": 5}, headers=unreadable) for _ in range(2)]
        assert refused[0].status_code == 400 and refused[0].content == refused[1].content


def test_a_scheduler_that_is_killed_again_and_again_makes_nothing_twice(broken):
    cluster = broken("--sqlite", "--gateways", "2", "--workers", "1")
    namespace = new_namespace(cluster.api())
    path, done = f"/api/v1/namespaces/{namespace}/keys", threading.Event()

    def make(number):
        """Tries with one key until there is an end, at one gateway after the other."""
        headers = keyed(uuid.uuid4())
        for attempt in range(2000):
            with cluster.rest(gateway=(number + attempt) % 2) as client:
                answer = client.post(path, json={"display_name": f"till-{number}"}, headers=headers)
            time.sleep(0.05)
            if answer.is_success:
                return answer.json()["secret"], headers
            if answer.status_code == 409 and "retry-after" not in answer.headers:
                return None, headers
            assert answer.status_code in (409, 503), answer.text
        raise AssertionError(f"till-{number} had no end: {answer.text}")

    def kill():
        for _ in range(4):
            time.sleep(0.15 + random.random() / 2)
            cluster.kill("scheduler")
            cluster.restart("scheduler")
        done.set()

    killer = threading.Thread(target=kill)
    killer.start()
    ended = {}
    with ThreadPoolExecutor(4) as pool:
        # A token may use so many keys.
        while not done.is_set() and len(ended) < 900:
            numbers = range(len(ended), len(ended) + 8)
            ended |= dict(zip(numbers, pool.map(make, numbers)))
    killer.join()
    with cluster.rest(gateway=1) as client:
        names = [key["display_name"] for key in client.get(path, params={"page_size": 1000}).json()["keys"]]
        assert sorted(names) == sorted(f"till-{number}" for number in ended), "each is there once"
        for number, (secret, headers) in ended.items():
            again = client.post(path, json={"display_name": f"till-{number}"}, headers=headers)
            assert (again.json()["secret"] if secret else again.status_code) == (secret or 409), again.text
    print(f"{len(ended)} changes, {sum(secret is None for secret, _ in ended.values())} of them with a lost answer")
