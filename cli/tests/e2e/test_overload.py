"""More calls than there is room for: limits of functions and namespaces, bursts on what runs nowhere, and neighbours of a flood."""

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from harness.cluster import eventually
from test_lost_gateways import at_once as most_at_once
from test_lost_gateways import between_times


async def get(address, path, timeout=60):
    """The status and body of one call on a connection of its own."""
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), timeout)
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


def at_once(cluster, path, calls):
    """The answers to so many calls at once, all of them at the first gateway."""
    address = urlsplit(cluster.gateways[0]["functions"])

    async def run():
        return await asyncio.gather(*(get(address, path) for _ in range(calls)))

    return asyncio.run(run())


def holders(api, function):
    workers = api.call("ClusterService.ListWorkers").get("workers", [])
    return [worker["name"] for worker in workers for held in worker.get("versions", []) if held["version"].startswith(function + "/")]


# All of them at once keep the processors so busy that a worker may be heard of late.
@pytest.mark.expects_log("a worker with invocations is silent")
def test_a_thousand_first_calls_at_once_all_succeed(cluster, api, namespace, probe, call_when_ready):
    api.deploy(namespace, "rare", probe, spec={"scaling": {"idle_timeout": "1s"}})
    call_when_ready(f"/{namespace}/rare/")
    function = f"namespaces/{namespace}/functions/rare"
    eventually(lambda: not holders(api, function), seconds=30, what="a function that runs nowhere")
    answers = at_once(cluster, f"/{namespace}/rare/", 1000)
    failed = [answer for answer in answers if answer[0] != 200]
    assert not failed, (len(failed), failed[:3])


def test_a_function_has_no_more_calls_at_once_than_it_may(cluster, api, cli, namespace, probe, call_when_ready):
    api.deploy(namespace, "narrow", probe, spec={"scaling": {"max_concurrency": 4}})
    call_when_ready(f"/{namespace}/narrow/")
    tried = []

    def four():
        tried.append(at_once(cluster, f"/{namespace}/narrow/between?ms=1000", 8))
        return sorted(status for status, _ in tried[-1]) == [200] * 4 + [429] * 4

    # More than once where a process stood still: then some are over before others come, or nobody knows whether there is room.
    eventually(four, seconds=15, what="four of eight calls being admitted")
    for answers in tried:
        assert {status for status, _ in answers} <= {200, 429, 503}, answers
        assert most_at_once([between_times(body) for status, body in answers if status == 200]) <= 4, answers
    error = next(json.loads(body)["error"] for status, body in tried[-1] if status == 429)
    assert error["code"] == "too_many_requests" and "has reached its max_concurrency of 4" in error["message"], error
    assert "4 calls at once" in cli.ok("describe", f"{namespace}/narrow").out


def test_a_namespace_has_no_more_calls_at_once_than_it_may_and_functions_reserve_of_it(cluster, api, cli, namespace, probe, call_when_ready):
    refused = cli("namespace", "update", namespace, "--max-concurrency", "many")
    assert refused.code != 0 and "must be a number or `none`" in refused.err, refused
    cli.ok("namespace", "update", namespace, "--max-concurrency", "8")
    assert any(made["max_concurrency"] == 8 for made in json.loads(cli.ok("namespace", "list", "-o", "json").out) if made["name"] == namespace)
    api.deploy(namespace, "vital", probe, spec={"scaling": {"reserved_concurrency": 4}})
    api.deploy(namespace, "greedy", probe)
    for function in ("vital", "greedy"):
        call_when_ready(f"/{namespace}/{function}/")
    tried = []

    def flooded():
        with ThreadPoolExecutor(1) as pool:
            flood = pool.submit(at_once, cluster, f"/{namespace}/greedy/between?ms=1500", 12)
            time.sleep(0.5)
            tried.append((at_once(cluster, f"/{namespace}/vital/", 2), flood.result()))
        # Of eight, four are reserved.
        return sorted(status for status, _ in tried[-1][1]) == [200] * 4 + [429] * 8

    # More than once where a process stood still, as above.
    eventually(flooded, seconds=15, what="four of twelve calls being admitted")
    for vital, flood in tried:
        assert [status for status, _ in vital] == [200, 200] and {status for status, _ in flood} <= {200, 429, 503}, tried
        assert most_at_once([between_times(body) for status, body in flood if status == 200]) <= 4, tried


def test_a_namespace_reserves_no_more_than_it_has(cluster, api, cli, namespace, probe, tmp_path):
    (tmp_path / "function.wasm").write_bytes(probe)
    manifest = tmp_path / "dunlin.toml"

    def deploy(reserved):
        manifest.write_text(f'name = "vital"\nsource = "function.wasm"\n\n[scaling]\nreserved_concurrency = {reserved}\n')
        return cli("deploy", "--namespace", namespace, cwd=tmp_path)

    without = deploy(1)
    assert without.code != 0 and "has no max_concurrency" in without.err and "dunlin namespace update" in without.err, without
    cli.ok("namespace", "update", namespace, "--max-concurrency", "5")
    beyond = deploy(6)
    assert beyond.code != 0 and "reserve 6 (vital 6), but its max_concurrency is 5" in beyond.err, beyond
    assert deploy(5).code == 0
    lowered = cli("namespace", "update", namespace, "--max-concurrency", "4")
    assert lowered.code != 0 and "reserve 5" in lowered.err, lowered
    with cluster.rest() as client:
        changed = client.patch(f"/api/v1/namespaces/{namespace}", json={"max_concurrency": 9})
        assert (changed.status_code, changed.json()["max_concurrency"]) == (200, 9), changed.text
        assert client.patch(f"/api/v1/namespaces/{namespace}", json={"max_concurrency": -1}).status_code == 400


def test_f14_a_flood_of_one_namespace_leaves_its_neighbours_alone(cluster, api, namespace, probe, call_when_ready):
    api.deploy(namespace, "noisy", probe, spec={"scaling": {"max_sandboxes": 5, "max_workers": 1}})
    quiet = namespace + "q"
    api.call("NamespaceService.CreateNamespace", namespace_id=quiet)
    api.deploy(quiet, "quiet", probe)
    for path in (f"/{namespace}/noisy/", f"/{quiet}/quiet/"):
        call_when_ready(path)
    with ThreadPoolExecutor(1) as pool:
        flood = pool.submit(at_once, cluster, f"/{namespace}/noisy/hold?ms=200", 400)
        time.sleep(0.3)
        answers = [at_once(cluster, f"/{quiet}/quiet/", 1)[0][0] for _ in range(20)]
        noisy = [status for status, _ in flood.result()]
    assert answers == [200] * 20
    assert set(noisy) <= {200, 429, 503} and noisy.count(200) >= 55, {status: noisy.count(status) for status in set(noisy)}
    # Once the flood is over, all is as before.
    eventually(lambda: at_once(cluster, f"/{namespace}/noisy/", 5) == [(200, "")] * 5, what="recovery")
