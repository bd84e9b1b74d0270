"""What the sections of the page share: tables, figures as words, and series of a time."""

from ..plot import number

NAMES = {"rust": "Rust", "c": "C", "javascript": "JavaScript", "python": "Python"}


def table(head, rows):
    """Markdown; the first column is words and the others are figures."""

    def line(cells):
        return "| " + " | ".join(str(cell) for cell in cells) + " |"

    return "\n".join([line(head), line(["---"] + ["--:"] * (len(head) - 1)), *map(line, rows)]) + "\n"


def ms(micros):
    return number(micros / 1000)


def image(name, words):
    return f"![{words}]({name}.svg)\n"


def series_of(series, names):
    """Latencies in milliseconds over seconds; the last window is not a whole one."""
    scale = series["window_ms"] / 1000
    return {
        name.removesuffix("_us"): [(round(index * scale, 3), value / 1000) for index, value in enumerate(series[name][:-1]) if value]
        for name in names
    }


def refusals(found):
    parts = [f"{number(count)} × {status}" for status, count in found["statuses"].items() if status != "200"]
    parts += [f"{number(sum(found['failures'].values()))} failed"] if found["failures"] else []
    parts += [f"{number(found['skipped'])} not sent"] if found["skipped"] else []
    return ", ".join(parts) or "none"


def cpu(found, process):
    return f"{found['cpu_percent_of_a_core'].get(process, 0):.0f} %"


def seconds(value):
    return "not within the run" if value is None else f"{number(value)} s"


def between(found, unit=""):
    """A median with its 95 % interval."""
    return f"{found['median']:.3g}{unit} ({found['low']:.3g} to {found['high']:.3g})"
