"""What stands in front of functions: routes, tokens, keys, limits."""

from statistics import median

from ..plot import number
from .words import between, table


def costs(found, prefix=""):
    more = found["more_us"]
    return [[prefix + name, number(us), between(more[name]) if name in more else ""] for name, us in found["us_per_call"].items()]


def gateway(figures):
    steps, exact, many = figures["steps"], figures["exactness"], figures["many"]
    stored = figures["stored"]
    shares = [[f"{first:.0%} and {second:.0%}", number(row["admitted"]), f"{row['share']:.2%}"] for row in exact for first, second in [row["split"]]]
    change = many["change_to_served_everywhere_ms"]
    text = (
        f"CPU time of the gateway for a call in microseconds, median of alternating runs, with {number(steps['routes'])} routes loaded. "
        "Calls that a worker runs, and calls that are answered from the cache, with nothing but the gateway's own work in the figure:\n\n"
        + table(["what is checked", "a call", "more, with its 95 % interval"], costs(steps["run"]) + costs(steps["stored"], "stored: "))
        + f"\nA rate of {number(exact[0]['allowed'] / 10)} a second with a burst of {number(exact[0]['burst'])}, asked for 1.2 times at two gateways, for ten seconds "
        "from two seconds after callers have moved to this division; what the rate allows, and no more than the burst beyond it:\n\n"
        + table(["callers at the gateways", f"admitted of {number(exact[0]['allowed'])}", "share"], shares)
        + f"\nStored answers of a kibibyte: {number(stored['per_second']['stored answer'])} a second, hyper alone with the same bytes {number(stored['per_second']['hyper'])}: "
        f"{stored['share_of']['hyper']:.0%} of it; {stored['share_of']['hyper, short head']:.0%} of hyper with the body alone.\n"
        f"\n{number(many['keys'])} keys and {number(steps['routes'])} routes: {' and '.join(number(mib) for mib in many['gateway_mib'])} MiB in the gateways; "
        f"a change is served by both after {number(change['p50'])} ms (median of {number(change['count'])}; 99th percentile {number(change['p99'])} ms); a gateway "
        f"without anything on its disk serves {number(median(many['fresh_gateway_to_served_seconds']))} s after its start, one with it after "
        f"{number(median(many['gateway_restart_to_served_seconds']))} s; after a restart of the scheduler the first change is served after "
        f"{number(many['restart_to_served_seconds'])} s.\n"
    )
    return text, {}
