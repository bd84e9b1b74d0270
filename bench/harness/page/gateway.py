"""What stands in front of functions: routes, tokens, keys, limits."""

from ..plot import number
from .words import table


def gateway(figures):
    steps, exact, many = figures["steps"], figures["exactness"], figures["many"]
    stored = figures["stored"]
    cost = [
        [name, number(us), number(us - steps["gateway_us_per_call"]["nothing"]) if name != "nothing" else ""]
        for name, us in steps["gateway_us_per_call"].items()
    ]
    shares = [[f"{first:.0%} and {second:.0%}", number(row["admitted"]), f"{row['share']:.2%}"] for row in exact for first, second in [row["split"]]]
    change = many["change_to_served_everywhere_ms"]
    text = (
        f"CPU time of the gateway for a call, median of alternating runs, with {number(steps['routes'])} routes loaded:\n\n"
        + table(["what is checked", "us a call", "more than nothing"], cost)
        + f"\nA rate of {number(exact[0]['allowed'] / 10)} a second with a burst of {number(exact[0]['burst'])}, asked for 1.2 times at two gateways, for ten seconds "
        "from two seconds after callers have moved to this division; what the rate allows, and no more than the burst beyond it:\n\n"
        + table(["callers at the gateways", f"admitted of {number(exact[0]['allowed'])}", "share"], shares)
        + f"\nStored answers of a kibibyte: {number(stored['per_second']['stored answer'])} a second, hyper alone with the same bytes {number(stored['per_second']['hyper'])}: "
        f"{stored['share_of_hyper']:.0%} of it.\n"
        f"\n{number(many['keys'])} keys and {number(steps['routes'])} routes: {' and '.join(number(mib) for mib in many['gateway_mib'])} MiB in the gateways; "
        f"a change is served by both after {number(change['p50'])} ms (median; {number(change['p99'])} ms at the most); after a restart of the scheduler "
        f"the first change is served after {number(many['restart_to_served_seconds'])} s.\n"
    )
    return text, {}
