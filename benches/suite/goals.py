"""The figures that are wanted, and whether they are met."""

import dataclasses
from collections.abc import Callable

from harness.figures import median, ratios, spread


@dataclasses.dataclass(frozen=True)
class Goal:
    title: str
    bound: float
    at_least: bool
    workload: str
    values: Callable  # of an Outcome: one for each round

    def wanted(self):
        return f"at {'least' if self.at_least else 'most'} {self.bound:g}"

    def judge(self, outcomes):
        """What was measured, in words, and whether that is enough; None where it was not measured."""
        outcome = outcomes.get(self.workload)
        try:
            values = self.values(outcome) if outcome else None
        except KeyError:  # one of the servers had no part
            values = None
        if values is None:
            return None
        middle = median(values)
        return spread(values), middle >= self.bound if self.at_least else middle <= self.bound


def all_goals():
    def most(title, bound, workload, values):
        return Goal(title, bound, False, workload, values)

    def least(title, bound, workload, values):
        return Goal(title, bound, True, workload, values)

    return [
        most("CPU time in httpd for each hello ÷ handler without Python", 1.35, "hello", _ratio("cpu_us", "null")),
        least("hello, embedded, one interpreter ÷ handler without Python", 0.90, "hello", _ratio("rate", "null")),
        least("hello, embedded ÷ mod_wsgi embedded", 3, "hello", _ratio("rate", "mod_wsgi")),
        least("hello, embedded ÷ mod_wsgi with its own GIL", 3, "hello", _ratio("rate", "mod_wsgi-own-gil")),
        most("hello p99 ÷ mod_wsgi's", 0.7, "hello", _ratio("p99_ms", "mod_wsgi")),
        least("10 KB ÷ mod_wsgi embedded", 2, "10k", _ratio("rate", "mod_wsgi")),
        least("POST echo ÷ mod_wsgi embedded", 2, "echo", _ratio("rate", "mod_wsgi")),
        least("30 headers ÷ mod_wsgi embedded", 2, "headers", _ratio("rate", "mod_wsgi")),
        least("Flask hello ÷ mod_wsgi embedded", 1.2, "flask", _ratio("rate", "mod_wsgi")),
        least("stream of 64 × 16 KB ÷ mod_wsgi embedded", 1.7, "stream", _ratio("rate", "mod_wsgi")),
        least("file_wrapper 1 MB ÷ httpd static file", 0.9, "file", _ratio("rate", "static")),
        least("CPU 20 ms, 2 replicas: interpreter threads' CPU ÷ wall", 1.8, "cpu20",
              _plain("interpreter_cores", "manifold-2")),
        least("CPU 20 ms, 2 replicas: rate ÷ mod_wsgi in one process", 1.7, "cpu20",
              _ratio("rate", "mod_wsgi", "manifold-2")),
        least("two CPU-bound groups, 8 clients each: cores used", 1.8, "groups", _plain("cores", "manifold")),
        most("sleep 20 ms, 16 clients: median beyond the sleep, ms", 1, "sleep",
             lambda outcome: [value - 20 for value in outcome.values("manifold", "p50_ms")]),
        most("hello p99 beside a CPU hog in another group ÷ alone", 2, "hog", _plain("p99_ratio", "manifold")),
        least("daemon hello ÷ mod_wsgi daemon 1×15", 3, "hello",
              _ratio("rate", "mod_wsgi-daemon", "manifold-daemon")),
        least("slow readers: hello rate with 30 stalled 8 MB downloads ÷ without", 0.9, "slow",
              _plain("kept", "manifold")),
        most("memory (PSS) of an extra Flask interpreter ÷ an extra mod_wsgi daemon process", 0.8, "memory",
             _ratio("mib_for_each_more", "mod_wsgi-daemon")),
    ]


def _ratio(metric, under, over="manifold"):
    return lambda outcome: ratios(outcome.values(over, metric), outcome.values(under, metric))


def _plain(metric, peer):
    return lambda outcome: outcome.values(peer, metric)
