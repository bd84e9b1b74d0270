"""How fast it is on its own, and beside others."""

from .. import plot
from ..plot import number
from .words import NAMES, image, ms, table


def latest(figures):
    first, second, warm = (figures[name] for name in ("up_first_start", "up_second_start", "warm_one_at_a_time_jwt_separate_worker"))
    rows = [
        ["`dunlin up`: process start to the first answer, the sample compiled on the way", f"{number(first['first_answer_ms'])} ms"],
        ["the same, the sample compiled already", f"{number(second['first_answer_ms'])} ms"],
        ["`dunlin up` at rest, the sample loaded", f"{number(second['resident_mib_at_rest'])} MiB"],
        ["one warm call at a time through gateway and a separate worker, token checked: median", f"{number(warm['p50_us'])} µs"],
        ["the same: 99th percentile", f"{number(warm['p99_us'])} µs"],
        [
            "the same: CPU time of gateway and worker",
            f"{number(sum(value for name, value in warm['cpu_us_per_call'].items() if name in ('gateway', 'worker')))} µs",
        ],
    ]
    return table(["what", "measured"], rows), {}


def side_by_side(figures):
    text = (
        "Every server makes a fresh instance for each call. Dunlin has a token to check and runs as gateway, scheduler and worker (cluster) "
        "or in one process (up). *At its best* is whichever flags served a load fastest. CPU is of all server processes, for each call.\n"
    )
    ratios, processor = {}, {}
    for language, loads in figures.items():
        rows = []
        for load, servers in loads.items():
            over = servers.get("ratios", {})
            for name, found in servers.items():
                if name != "ratios":
                    rows.append(
                        [
                            load,
                            name,
                            number(found["per_second"]),
                            ms(found["p50_us"]),
                            ms(found["p99_us"]),
                            number(found["server_cpu_us_per_call"]),
                            over.get(f"{name} over wasmtime as it comes", ""),
                            over.get(f"{name} over wasmtime at its best", ""),
                        ]
                    )
            if over:
                ratios[f"{NAMES[language]}, {load}"] = {
                    name: over[f"{name} over wasmtime as it comes"] for name in ("dunlin cluster", "dunlin up")
                } | {
                    "wasmtime at its best": round(
                        max(found["per_second"] for name, found in servers.items() if name.startswith("wasmtime"))
                        / max(1, servers["wasmtime"]["per_second"]),
                        2,
                    )
                }
            if load == "hello, 16 in flight":
                processor[NAMES[language]] = {name: found["server_cpu_us_per_call"] for name, found in servers.items() if name != "ratios"}
        text += f"\n### {NAMES[language]}\n\n" + table(
            ["load", "server", "calls/s", "p50 ms", "p99 ms", "CPU µs", "over `wasmtime`", "over its best"], rows
        )
    plots = {
        "processor": plot.bars(
            "CPU time for each call",
            "hello, 16 in flight, microseconds of all server processes on a logarithmic scale, shorter is better",
            processor,
            logarithmic=True,
        )
    }
    if ratios:
        plots["throughput"] = plot.bars(
            "Throughput over wasmtime serve as it comes",
            "the same component and load in alternating runs, longer is better",
            ratios,
            unit="×",
            mark=1,
        )
        text = text.replace(
            "\n\n###",
            "\n\n" + image("throughput", "Throughput over wasmtime serve") + image("processor", "CPU time for each call") + "\n###",
            1,
        )
    return text, plots


def profile(figures):
    text = "Microseconds of CPU time for each call of a function in Rust, by what samples of the processor were found doing.\n\n"
    columns = [(load, process) for load, found in figures.items() for process in found["us_per_call"]]
    taken = {(load, process): figures[load]["us_per_call"][process] for load, process in columns}
    kinds = sorted({kind for found in taken.values() for kind in found}, key=lambda kind: -max(found.get(kind, 0) for found in taken.values()))
    rows = [[kind, *(number(found[kind]) if kind in found else "" for found in taken.values())] for kind in kinds]
    rows.append(["**all**", *(number(sum(found.values())) for found in taken.values())])
    return text + table(["what for", *(f"{process}, {load}" for load, process in columns)], rows), {}
