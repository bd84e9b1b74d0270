"""What it costs to see what happens."""

from ..plot import number
from .words import between, table


def observe(figures):
    cost, many = figures["on_off"], figures["many"]
    rows = [[name, number(row["p50"]), number(row["max"]), number(row["found"])] for name, row in many["query_ms"].items()]
    paints = [[name, number(row["p50"]), number(row["max"])] for name, row in many["first_contentful_paint_ms"].items()]
    text = (
        f"Records, a line of log for each call, metrics that are read every five seconds and traces of one call in a hundred, on against off, "
        f"{cost['cpu_us_more']['count']} alternating pairs, median with its 95 % interval: {between(cost['cpu_us_more'], ' us')} of CPU more for each call, "
        f"{between(cost['throughput_ratio'])} of the throughput ({number(cost['per_second']['on'])} and {number(cost['per_second']['off'])} calls a second).\n"
        f"\n{number(many['records'])} records were written of a namespace that keeps 200 MB; {number(many['bytes'] / 1e6)} MB are there afterwards. "
        "A question to the gateway about one function of a thousand, in milliseconds:\n\n"
        + table(["asked for", "median", "most", "found"], rows)
        + "\nFirst contentful paint with these records, in milliseconds:\n\n"
        + table(["page", "median", "most"], paints)
    )
    return text, {}
