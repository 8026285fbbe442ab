"""Tables for the terminal, Markdown and JSON."""

import json

from harness.figures import median, ratios, spread
from .goals import all_goals
from .rounds import NOISE

BASE = "manifold"
# What a column shows, and how. The ratio comes behind the first.
COLUMNS = {
    "rate": ("requests/s", "{:,.0f}"),
    "cpu_us": ("CPU µs each", "{:,.1f}"),
    "switches": ("switches each", "{:.2f}"),
    "cores": ("cores", "{:.2f}"),
    "interpreter_cores": ("of them interpreters", "{:.2f}"),
    "p50_ms": ("p50 ms", "{:.2f}"),
    "p90_ms": ("p90 ms", "{:.2f}"),
    "p99_ms": ("p99 ms", "{:.2f}"),
    "closed": ("closed by httpd, of 1,000", "{:.2f}"),
    "rate_alone": ("requests/s alone", "{:,.0f}"),
    "p99_alone_ms": ("p99 alone ms", "{:.2f}"),
    "p99_ratio": ("p99 ÷ alone", "{:.2f}"),
    "kept": ("rate ÷ alone", "{:.2f}"),
    "start_s": ("seconds", "{:.2f}"),
    "start_and_stop_cpu_s": ("CPU s, with the stop", "{:.2f}"),
    "mib_for_each_more": ("MiB for each more", "{:.1f}"),
    "other_cores": ("other cores", "{:.2f}"),
}


def column(metric):
    if metric.startswith("mib_") and metric not in COLUMNS:
        return f"MiB, {metric.removeprefix('mib_')}", "{:.1f}"
    return COLUMNS[metric]


class Report:
    def __init__(self, environment, plan, workloads, peers, left_out):
        self.environment, self.plan = environment, plan
        self.workloads, self.peers, self.left_out = workloads, peers, left_out
        self.outcomes = {}
        self.fault = None

    def goals(self):
        """Rows of: what, wanted, measured, met. None of them where nothing is judged."""
        if not self.plan.judges:
            return []
        rows = []
        for goal in all_goals():
            verdict = goal.judge(self.outcomes)
            measured, met = verdict or ("not measured", None)
            said = {True: "met", False: "NOT MET", None: "–"}[met]
            if verdict and self.outcomes[goal.workload].noisy():
                said += ", but noisy"
            rows.append((goal.title, goal.wanted(), measured, said))
        return rows

    def table(self, name):
        """Rows of text for one workload, the first of them the titles."""
        outcome = self.outcomes[name]
        metrics = list(dict.fromkeys(metric for peer in outcome.peers() for metric in outcome.metrics(peer)))
        first = metrics[0]
        titles = [column(metric)[0] for metric in metrics]
        titles.insert(1, "÷ mod_manifold's, median (least to most)")
        rows = [["", *titles]]
        for peer in outcome.peers():
            cells = []
            for metric in metrics:
                known = metric in outcome.metrics(peer)
                cells.append(column(metric)[1].format(median(outcome.values(peer, metric))) if known else "")
            compared = BASE in outcome.peers() and peer != BASE
            over = ratios(outcome.values(peer, first), outcome.values(BASE, first)) if compared else None
            cells.insert(1, spread(over) if over else "")
            rows.append([self.peers[peer].title, *cells])
        return rows

    def remark(self, name):
        outcome = self.outcomes[name]
        said = f"{len(outcome.rounds)} round{'s' if len(outcome.rounds) > 1 else ''}"
        if outcome.repeated:
            said += f", {outcome.repeated} more for those that were noisy"
        if noisy := outcome.noisy():
            said += f"; noisy among them: {noisy} (something else used more than {NOISE} cores)"
        return said

    def text(self, name):
        """A workload's table for a terminal."""
        return f"{name}: {self.workloads[name].title} ({self.remark(name)})\n{aligned(self.table(name))}\n"

    def markdown(self):
        lines = ["# Benchmarks", ""]
        lines += [f"- {name}: {value}" for name, value in self.environment.items()]
        lines += [f"- {self.plan.describe()}", ""]
        if self.fault:
            lines += [f"**Not complete:** {self.fault}", ""]
        if self.plan.judges:
            titles = ("figure", "wanted", "measured, median (least to most)", "")
            lines += ["## The figures", "", *table(titles, self.goals()), ""]
        else:
            lines += ["A quick run: every part works, and no figure of it says anything.", ""]
        if self.left_out:
            lines += ["## Left out", "", *(f"- {name}: {reason}" for name, reason in self.left_out.items()), ""]
        for name in self.outcomes:
            titles, *rows = self.table(name)
            lines += [f"## {name}: {self.workloads[name].title}", "", self.remark(name), "", *table(titles, rows), ""]
        lines += [f"![{plot}]({plot}.svg)\n" for plot in ("throughput", "latency", "scaling")]
        return "\n".join(lines)

    def json(self):
        workloads = {
            name: {
                "title": self.workloads[name].title,
                "repeated": outcome.repeated,
                "noisy": outcome.noisy(),
                "rounds": [{"other_cores": each.other, "measured": each.measured} for each in outcome.rounds],
            }
            for name, outcome in self.outcomes.items()
        }
        goals = [dict(zip(("figure", "wanted", "measured", "verdict"), row)) for row in self.goals()]
        whole = {
            "environment": self.environment,
            "plan": self.plan.describe(),
            "fault": self.fault,
            "figures": goals,
            "left_out": self.left_out,
            "workloads": workloads,
        }
        return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def table(titles, rows):
    """Lines of Markdown."""
    yield "| " + " | ".join(titles) + " |"
    yield "|---" * len(titles) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def aligned(rows, right=True):
    widths = [max(map(len, cells)) for cells in zip(*rows)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) if right else cell for cell, width in zip(others, widths[1:]))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
