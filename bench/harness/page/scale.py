"""The simulated cluster."""

from .. import plot
from ..plot import number
from .words import image, table


def simulator(figures):
    policies, given, decisions = figures["policies"], figures["parameters"], figures["decisions"]
    rows = [
        [
            name,
            *(number(found["slowdown"][key]) for key in ("p50", "p90", "p99", "p999")),
            number(found["delay_ms"]["p99"]),
            f"{found['cold_percent']:.2f} %",
            number(found["occupied_machine_hours"]),
            number(found["function_hours_in_memory"]),
            "" if found["wanted_machine_hours"] is None else number(found["wanted_machine_hours"]),
        ]
        for name, found in policies.items()
    ]
    text = (
        f"{number(given['calls'])} calls of {number(given['functions'])} functions on {number(given['workers'])} workers of {given['cores']} cores in {given['minutes']} minutes of virtual time, "
        f"at {given['load']:.0%} of the cluster's capacity. Dunlin's row is made by the scheduler's own code. *Slowdown* is how long a call took over how long it takes alone; "
        "*cold* calls waited for their function to be loaded; *machine-hours* are those of workers that had any function; *function-hours* those of each function on each worker.\n\n"
        + image("simulator", "Slowdown of calls")
        + image("memory", "Function-hours in memory")
        + "\n"
        + table(
            [
                "",
                "slowdown p50",
                "p90",
                "p99",
                "p99.9",
                "delay p99 ms",
                "cold",
                "machine-hours",
                "function-hours",
                "machine-hours asked for",
            ],
            rows,
        )
    )
    text += (
        f"\n### Speed of the decisions\n\nThe real code on {number(decisions['workers'])} workers and {number(decisions['functions'])} functions, one thread: "
        f"{number(decisions['placements_per_second_from_nothing'])} placements a second on an empty cluster, {number(decisions['placements_per_second_in_growth'])} when a tenth of the functions "
        f"grows; {number(decisions['unchanged_ms'])} ms to look at all functions where nothing has changed.\n"
    )
    steps = ("p50", "p90", "p99", "p999")
    slow = {name: [(at, found["slowdown"][step]) for at, step in enumerate(steps)] for name, found in policies.items()}
    return text, {
        "simulator": plot.lines(
            "Slowdown of calls",
            f"{number(given['workers'])} workers, {number(given['functions'])} functions, virtual time; lower is better",
            slow,
            logarithmic=True,
            x_label="quantile of calls",
            y_label="times as long as alone",
            x_names=["50 %", "90 %", "99 %", "99.9 %"],
        ),
        "memory": plot.bars(
            "Function-hours in memory",
            "each function on each worker; shorter is better",
            {name: {"function-hours": found["function_hours_in_memory"]} for name, found in policies.items()},
        ),
    }
