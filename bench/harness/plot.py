"""Two kinds of plots as SVG, made of text alone: lines over an axis, and bars in groups. They follow the reader's light or
dark theme."""

import math
from html import escape

WIDTH, LEFT, RIGHT, TOP, LINE = 760, 64, 150, 58, 18
FONT = 13
COLOURS = ["#0b7a75", "#d1495b", "#8d6a9f", "#e09f3e", "#5b7db1", "#6b7280"]
STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 } .dim { fill: #656d76 } .value { font-size: 12px }
.grid { stroke: #d8dee4; stroke-width: 1 } .axis { stroke: #8c959f; stroke-width: 1 } .mark { stroke: #8c959f; stroke-dasharray: 3 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .dim { fill: #9198a1 } .grid { stroke: #30363d } .axis, .mark { stroke: #6e7681 }
}
"""


class Canvas:
    def __init__(self, height, title, subtitle):
        self.height, self.parts = height, []
        self.text(0, 16, title, "title")
        self.text(0, 36, subtitle, "dim")

    def text(self, x, y, words, classes="", anchor="start", colour=None):
        style = f' style="fill:{colour}"' if colour else ""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{classes}" text-anchor="{anchor}"{style}>{escape(str(words))}</text>')

    def line(self, x1, y1, x2, y2, classes):
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{classes}"/>')

    def svg(self):
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-8 -4 {WIDTH + 16} {self.height + 8}" width="{WIDTH + 16}" role="img">'
        return "\n".join([head, f"<style>{STYLE}</style>", *self.parts, "</svg>", ""])


class Scale:
    """From values to places, in steps or in powers of ten."""

    def __init__(self, low, high, start, end, logarithmic=False):
        self.logarithmic = logarithmic
        if logarithmic:
            self.low, self.high = math.floor(math.log10(low)), math.ceil(math.log10(high))
            self.high = max(self.high, self.low + 1)
            marks = [
                factor * 10**power for power in range(self.low, self.high + 1) for factor in ((1, 3) if self.high - self.low < 3 else (1,))
            ]
            self.ticks = [mark for mark in marks if mark <= 10**self.high]
        else:
            step = nice_step((high - low) or 1)
            self.low, self.high = math.floor(low / step) * step, math.ceil(high / step) * step
            self.ticks = [self.low + step * number for number in range(round((self.high - self.low) / step) + 1)]
        self.start, self.end = start, end

    def __call__(self, value):
        at = math.log10(max(value, 10**self.low)) if self.logarithmic else value
        return self.start + (at - self.low) / (self.high - self.low) * (self.end - self.start)


def nice_step(span):
    power = 10 ** math.floor(math.log10(span / 4))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if span / (power * factor) <= 5)


def number(value):
    """A figure in three digits, with thousands apart."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def lines(title, subtitle, series, *, x_label, y_label, logarithmic=False, x_logarithmic=False, x_names=None, marks=(), height=340):
    """`series` are lists of points by their names; `marks` are places on the x axis that are worth a vertical line, each
    with its word; `x_names` are words for the places 0, 1, 2... of the x axis."""
    canvas = Canvas(height, title, subtitle)
    bottom, right = height - 46, WIDTH - RIGHT
    points = [point for line in series.values() for point in line]
    xs, ys = [x for x, _ in points], [y for _, y in points if y > 0 or not logarithmic]
    x_at = Scale(min(xs), max(xs), LEFT, right, x_logarithmic)
    if not x_logarithmic:
        x_at.low, x_at.high = min(xs), max(xs)
    y_at = Scale(min(ys) if logarithmic else min(0, *ys), max(ys), bottom, TOP + 8, logarithmic)
    for tick in y_at.ticks:
        canvas.line(LEFT, y_at(tick), right, y_at(tick), "grid")
        canvas.text(LEFT - 8, y_at(tick) + 4, number(tick), "dim value", "end")
    ticks = (
        list(enumerate(x_names))
        if x_names
        else [(tick, number(tick)) for tick in x_at.ticks if x_logarithmic or x_at.low <= tick <= x_at.high]
    )
    for tick, name in ticks:
        canvas.line(x_at(tick), bottom, x_at(tick), bottom + 4, "axis")
        canvas.text(x_at(tick), bottom + 18, name, "dim value", "middle")
    canvas.line(LEFT, bottom, right, bottom, "axis")
    canvas.text((LEFT + right) / 2, height - 8, x_label, "dim", "middle")
    canvas.text(0, TOP - 4, y_label, "dim value")
    for place, word in marks:
        canvas.line(x_at(place), TOP + 8, x_at(place), bottom, "mark")
        canvas.text(x_at(place), TOP + 2, word, "dim value", "middle")
    draw_lines(canvas, series, x_at, y_at, right)
    return canvas.svg()


def draw_lines(canvas, series, x_at, y_at, right):
    labels = []
    for colour, (name, points) in zip(COLOURS, series.items()):
        path = " ".join(f"{x_at(x):.1f},{y_at(y):.1f}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if name.startswith("(") else ""
        canvas.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.2" stroke-linejoin="round"{dash}/>')
        if len(points) <= 12:
            canvas.parts += [f'<circle cx="{x_at(x):.1f}" cy="{y_at(y):.1f}" r="3.2" fill="{colour}"/>' for x, y in points]
        labels.append([y_at(points[-1][1]), name, colour])
    # Names stand beside the ends of their lines, no two at one height.
    labels.sort()
    for above, label in zip(labels, labels[1:]):
        label[0] = max(label[0], above[0] + LINE - 2)
    for y, name, colour in labels:
        canvas.text(right + 10, y + 4, name.strip("()"), "", colour=colour)


def bars(title, subtitle, groups, *, unit="", logarithmic=False, mark=None):
    """`groups` are figures by the name of a bar, by the name of their group; a missing figure leaves its place empty."""
    names = list(dict.fromkeys(name for bars in groups.values() for name in bars))
    thick, gap = 15, 14
    heights = [len(bars) * (thick + 2) for bars in groups.values()]
    canvas = Canvas(TOP + 14 + sum(heights) + gap * len(groups), title, subtitle)
    values = [value for bars in groups.values() for value in bars.values() if value]
    left = 20 + max(len(group) for group in groups) * 7
    scale = Scale(min(values) / 2 if logarithmic else 0, max(values), left, WIDTH - 70, logarithmic)
    legend(canvas, names, left)
    y = TOP + 14
    for group, members in groups.items():
        canvas.text(left - 10, y + len(members) * (thick + 2) / 2 + 4, group, "", "end")
        for name, value in members.items():
            if value:
                colour = COLOURS[names.index(name) % len(COLOURS)]
                canvas.parts.append(
                    f'<rect x="{left}" y="{y}" width="{max(1, scale(value) - left):.1f}" height="{thick}" rx="2" fill="{colour}"/>'
                )
                canvas.text(scale(value) + 6, y + thick - 3, f"{number(value)}{unit}", "value")
            y += thick + 2
        y += gap
    if mark:
        canvas.line(scale(mark), TOP + 4, scale(mark), y - gap, "mark")
    return canvas.svg()


def legend(canvas, names, left):
    x = left
    for name, colour in zip(names, COLOURS * 2):
        canvas.parts.append(f'<rect x="{x}" y="{TOP - 12}" width="11" height="11" rx="2" fill="{colour}"/>')
        canvas.text(x + 16, TOP - 2, name, "value")
        x += 30 + len(name) * 6.6
