"""`dunlin describe`: whether a function is healthy, from all gateways, with the next command to type."""

import json

from harness import guests
from harness.cluster import eventually

TRAP = guests.command("(call $charge)", "(func $charge unreachable)")


def health(cli, namespace, function, state):
    """What is said of a function, once it is in this state."""
    def known():
        found = json.loads(cli.ok("describe", f"{namespace}/{function}", "-o", "json").out)["health"]
        return found if found["state"] == state else None

    return eventually(known, seconds=15, what=f"{function} is {state}")


def test_what_calls_came_to_at_all_gateways_says_how_a_function_does(api, cluster, cli, namespace, call_when_ready):
    api.deploy(namespace, "good", guests.LOG)
    path = f"/{namespace}/good/"
    assert health(cli, namespace, "good", "no_traffic")["activity"]["calls"] == 0
    for gateway in (0, 1):
        with cluster.http(gateway) as client:
            assert call_when_ready(path, client=client).status_code == 200
    found = eventually(
        lambda: (lambda it: it if it["activity"]["calls"] >= 2 else None)(health(cli, namespace, "good", "healthy")),
        seconds=15, what="both gateways' calls",
    )
    assert found["activity"]["failures"] == 0 and found["versions"][0]["percent"] == 100, found
    assert found["last_deploy"]["version"] == 1 and found["unreachable"] == [], found
    page = cli.ok("describe", f"{namespace}/good").out
    assert page.startswith("healthy: "), page


def test_failures_name_the_command_that_explains_them(api, cli, namespace, call_when_ready):
    api.deploy(namespace, "bad", TRAP)
    assert call_when_ready(f"/{namespace}/bad/").status_code == 502
    found = health(cli, namespace, "bad", "failing")
    worst = found["problems"][0]
    assert "function_failed" in worst["text"] and worst["command"].startswith("dunlin why "), worst
    explained = cli(*worst["command"].split()[1:])
    assert explained.code == 0 and "trapped" in explained.out, explained
    cli.ok("function", "disable", f"{namespace}/bad")
    disabled = health(cli, namespace, "bad", "disabled")
    assert disabled["problems"][0]["command"] == f"dunlin function enable {namespace}/bad", disabled
