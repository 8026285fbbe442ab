"""SVG, written by hand: small, and readable on a light and on a dark page."""

import math
from xml.sax.saxutils import escape

from harness.figures import median

WIDTH, LABELS, NUMBERS, ROW, GAP = 780, 310, 130, 20, 34
STYLE = """<style>
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 } .small { font-size: 11px; fill: #57606a }
.ours { fill: #0969da } .other { fill: #8c959f } .limit { fill: #2da44e }
.line { fill: none; stroke-width: 2 } .rule { stroke: #8c959f; stroke-opacity: .45 } .spread { stroke: #24292f }
.a { stroke: #0969da } .b { stroke: #bc4c00 } .c { stroke: #1b7c83 } .d { stroke: #8250df }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9da7b1 } .spread { stroke: #e6edf3 }
  .ours { fill: #4493f8 } .limit { fill: #3fb950 }
  .a { stroke: #4493f8 } .b { stroke: #f0883e } .c { stroke: #39c5cf } .d { stroke: #ab7df8 }
}
</style>"""
COLOURS = "abcd"
LIMITS = ("null", "static")
# What scales: a line's title, and who stands for one, two and so on.
SCALING = {
    "mod_manifold, replicas": ("manifold", "manifold-2"),
    "mod_manifold, processes": ("manifold-daemon", "manifold-daemon-2"),
    "mod_wsgi, interpreters": ("mod_wsgi", "mod_wsgi-spread"),
    "mod_wsgi, processes": ("mod_wsgi-daemon", "mod_wsgi-daemon-2"),
}


def throughput(report):
    """Bars of medians, with lines from the least to the most."""
    drawing = Drawing()
    for name, outcome in report.outcomes.items():
        if "rate" not in outcome.metrics(outcome.peers()[0]):
            continue
        rates = {peer: outcome.values(peer, "rate") for peer in outcome.peers()}
        most = max(map(max, rates.values()))
        room = WIDTH - LABELS - NUMBERS
        drawing.heading(f"{name}: {report.workloads[name].title} – requests per second")
        for peer, values in rates.items():
            middle = drawing.row(report.peers[peer].title)
            x = [LABELS + room * value / most for value in (median(values), min(values), max(values))]
            place = f'x="{LABELS}" y="{middle - 6}" width="{x[0] - LABELS:.1f}" height="12"'
            drawing.add(f'<rect class="{_kind(peer)}" {place}/>')
            drawing.line("spread", x[1], middle, x[2], middle)
            drawing.text(max(x) + 6, middle, f"{median(values):,.0f}", "small")
    return drawing.svg()


def latency(report):
    """The 50th, 90th and 99th percentile, on a scale of powers of ten."""
    drawing = Drawing()
    for name, outcome in report.outcomes.items():
        if "p50_ms" not in outcome.metrics(outcome.peers()[0]):
            continue
        points = {
            peer: [max(median(outcome.values(peer, metric)), 0.001) for metric in ("p50_ms", "p90_ms", "p99_ms")]
            for peer in outcome.peers()
            if "p50_ms" in outcome.metrics(peer)
        }
        first = math.floor(math.log10(min(map(min, points.values()))))
        last = math.ceil(math.log10(max(map(max, points.values())) * 1.001))
        room = WIDTH - LABELS - 40

        def place(value):
            return LABELS + room * (math.log10(value) - first) / (last - first)

        drawing.heading(f"{name}: {report.workloads[name].title} – milliseconds: median, 90 % and 99 %")
        top = drawing.y
        for peer, values in points.items():
            middle = drawing.row(report.peers[peer].title)
            drawing.line("rule", place(values[0]), middle, place(values[2]), middle)
            for value, radius in zip(values, (5, 4, 3)):
                drawing.add(f'<circle class="{_kind(peer)}" cx="{place(value):.1f}" cy="{middle}" r="{radius}"/>')
        for power in range(first, last + 1):
            drawing.line("rule", place(10**power), top, place(10**power), drawing.y)
            drawing.text(place(10**power), drawing.y + 8, f"{10**power:g}", "small", "middle")
        drawing.y += 14
    return drawing.svg()


def scaling(report):
    """The rate by the number of interpreters or processes, and the memory."""
    drawing = Drawing()
    if outcome := report.outcomes.get("cpu20"):
        lines = {
            title: [(1 + i, median(outcome.values(peer, "rate"))) for i, peer in enumerate(peers)]
            for title, peers in SCALING.items()
            if all(peer in outcome.peers() for peer in peers)
        }
        drawing.chart("cpu20: requests per second by interpreters or processes", lines)
    if outcome := report.outcomes.get("memory"):
        lines = {}
        for peer in outcome.peers():
            memory = {metric[4:]: median(outcome.values(peer, metric)) for metric in outcome.metrics(peer)}
            title = report.peers[peer].title.removesuffix(" 1×15")
            lines[title] = [(int(count), mib) for count, mib in memory.items() if count.isdigit()]
        drawing.chart("memory: MiB (PSS) by interpreters or processes with Flask", lines)
    return drawing.svg()


def _kind(peer):
    return "limit" if peer in LIMITS else "ours" if peer.startswith("manifold") else "other"


class Drawing:
    """Things below each other."""

    def __init__(self):
        self.parts, self.y = [], 0

    def add(self, part):
        self.parts.append(part)

    def line(self, kind, x1, y1, x2, y2):
        self.add(f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def text(self, x, y, text, kind="", anchor="start"):
        self.add(f'<text class="{kind}" x="{x:.1f}" y="{y + 4:.1f}" text-anchor="{anchor}">{escape(text)}</text>')

    def heading(self, text):
        self.y += GAP
        self.text(8, self.y - 14, text, "title")

    def row(self, label):
        """Makes room for a row, and returns the height of its middle."""
        middle = self.y + ROW / 2
        self.text(LABELS - 8, middle, label, "", "end")
        self.y += ROW
        return middle

    def chart(self, title, lines, height=180, room=400):
        """Lines over whole numbers, from zero on."""
        if not lines:
            return
        self.heading(title)
        left, top, bottom = 60, self.y, self.y + height
        most_x = max(x for points in lines.values() for x, _ in points)
        most_y = max(y for points in lines.values() for _, y in points)
        for part in range(5):
            y = bottom - height * part / 4
            self.line("rule", left, y, left + room, y)
            self.text(left - 6, y, f"{most_y * part / 4:,.0f}", "small", "end")
        for x in sorted({x for points in lines.values() for x, _ in points}):
            self.text(left + room * x / most_x, bottom + 12, str(x), "small", "middle")
        for number, (name, points) in enumerate(lines.items()):
            colour = COLOURS[number % len(COLOURS)]
            places = [f"{left + room * x / most_x:.1f},{bottom - height * y / most_y:.1f}" for x, y in points]
            self.add(f'<polyline class="line {colour}" points="{" ".join(places)}"/>')
            key = top + 10 + number * ROW
            self.line(f"line {colour}", left + room + 20, key, left + room + 44, key)
            self.text(left + room + 50, key, name)
        self.y = bottom + 24

    def svg(self):
        size = f'width="{WIDTH}" height="{self.y + 12:.0f}" viewBox="0 0 {WIDTH} {self.y + 12:.0f}"'
        return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', STYLE, *self.parts, "</svg>\n"])
