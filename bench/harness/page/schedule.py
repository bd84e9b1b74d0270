"""What callers see below and above the capacity."""

from .. import plot
from ..plot import number
from .words import cpu, image, ms, refusals, seconds, series_of, table


def open_loop(figures):
    capacity = figures["capacity"]["per_second"]
    rows = [
        [
            share,
            number(found["offered_per_second"]),
            number(found["per_second"]),
            ms(found["p50_us"]),
            ms(found["p90_us"]),
            ms(found["p99_us"]),
            ms(found["p999_us"]),
            refusals(found),
            cpu(found, "client"),
        ]
        for share, found in figures["load"].items()
    ]
    text = (
        "Calls come by a schedule that no answer delays, and their latency counts from the time when they were due. "
        f"The capacity, {number(capacity)} calls/s, is that of 64 callers who wait for their answers.\n\n"
        + image("latency", "Latency against load")
        + "\n"
        + table(["load", "offered/s", "answered/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "not answered", "client CPU"], rows)
    )
    rise = figures["burst"]
    text += (
        f"\n### A tenfold burst\n\nFrom 5 to 50 % of the capacity at once: p99 is within {ms(rise['objective_p99_us'])} ms, twice that of a steady load, "
        f"after {seconds(rise['seconds_to_objective'])}.\n\n" + image("burst", "Latency around a tenfold burst")
    )
    text += overloads(figures)
    percent = {share: float(share.rstrip("%")) for share in figures["load"]}
    latency = {
        name: [(percent[share], found[f"{name}_us"] / 1000) for share, found in figures["load"].items()]
        for name in ("p50", "p90", "p99", "p999")
    }
    names = list(figures["overload"])
    goodput = [(float(name.rstrip("%")), found["goodput_of_capacity"] * 100) for name, found in figures["overload"].items()]
    goodput = [(percent[share], found["per_second"] / capacity * 100) for share, found in figures["load"].items()] + goodput
    plots = {
        "latency": plot.lines(
            "Latency against load",
            "one gateway, one worker, a private Rust function; open loop",
            latency,
            logarithmic=True,
            x_label="percent of capacity",
            y_label="ms",
        ),
        "goodput": plot.lines(
            "Goodput against offered load",
            "answers with status 200; below 100 % a small function, above it one that works for a millisecond",
            {"answered": goodput, "(ideal)": [(x, min(x, 100)) for x, _ in goodput]},
            x_logarithmic=True,
            x_label="percent of capacity offered (logarithmic)",
            y_label="percent of capacity answered",
        ),
        "overload": over_time(figures["overload"][names[-1]], names[-1]),
        "burst": plot.lines(
            "Latency around a tenfold burst",
            f"windows of {rise['window_ms']} ms",
            series_of(rise["series"], ["p50_us", "p99_us"]),
            logarithmic=True,
            x_label="seconds",
            y_label="ms",
            marks=[(3, "load × 10")],
        ),
    }
    return text, plots


def overloads(figures):
    rows = [
        [
            name,
            number(found["offered_per_second"]),
            f"{found['goodput_of_capacity']:.0%}",
            ms(found["before"]["p99_us"]),
            ms(found["onset"]["p99_us"]),
            ms(found["during"]["p99_us"]),
            found["accepted_p99_over_unloaded"],
            refusals(found["during"]),
            ms(found["during"]["refused_p50_us"]),
            seconds(found["recovery_seconds"]),
            cpu(found["during"], "client"),
        ]
        for name, found in figures["overload"].items()
    ]
    return (
        f"\n### Overload\n\nHalf the capacity ({number(figures['capacity_at_work']['per_second'])} calls/s of a function that works for a millisecond or so), "
        "then a multiple of it, then half again. The ratio is that of the 99th percentile of accepted calls after the first second, in which a load shows that it is no burst, to that before. *Recovered* is how long after the fall a second begins in which nothing is refused and p99 is within twice that of half the load.\n\n"
        + image("goodput", "Goodput against offered load")
        + image("overload", "Answers around an overload")
        + "\n"
        + table(
            [
                "load",
                "offered/s",
                "goodput",
                "p99 ms before",
                "p99 ms in the first second",
                "p99 ms after it",
                "ratio",
                "not answered",
                "refused in ms",
                "recovered",
                "client CPU",
            ],
            rows,
        )
    )


def over_time(found, name):
    series = found["series"]
    scale = 1000 / series["window_ms"]
    at = [round(index / scale, 3) for index in range(len(series["due"]) - 1)]
    rate = {
        word: [(x, value * scale) for x, value in zip(at, series[key])]
        for word, key in (("answered", "done"), ("refused", "refused"), ("not sent", "skipped"))
    }
    during = found["before"]["seconds"] + 1
    return plot.lines(
        f"Answers around an overload of {name}",
        "by the time when calls were due",
        rate,
        x_label="seconds",
        y_label="calls/s",
        marks=[(during, f"× {float(name.rstrip('%')) / 50:.0f}"), (during + 1 + found["during"]["seconds"], "back to half")],
    )
