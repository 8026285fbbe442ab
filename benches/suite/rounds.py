"""Who is measured when, and which rounds count.

In each round every server is measured once, one after the other, so that whatever drifts meanwhile
drifts for all. A round in which the machine was busy with something else is run again; after twice as
many rounds as were asked for, the least disturbed ones count, and the report says so.
"""

import dataclasses
import time

from harness import processes

# Cores that something else may use during a measurement. A quiet machine shows some 0.02.
NOISE = 0.15


@dataclasses.dataclass
class Round:
    measured: dict  # by the peer's name
    other: float  # cores that something else has used, in its worst measurement; 0 where that does not matter


@dataclasses.dataclass
class Outcome:
    """What one workload has shown."""

    rounds: list
    repeated: int

    def noisy(self):
        return sum(each.other > NOISE for each in self.rounds)

    def values(self, peer, metric):
        """One for each round in which it was measured: a server that answers nothing has no latency."""
        found = [each.measured[peer][metric] for each in self.rounds if metric in each.measured[peer]]
        if not found:
            raise KeyError(metric)
        return found

    def peers(self):
        return list(self.rounds[0].measured)

    def metrics(self, peer):
        return list(dict.fromkeys(metric for each in self.rounds for metric in each.measured[peer]))


@dataclasses.dataclass(frozen=True)
class Plan:
    rounds: int
    seconds: int  # of each load
    quick: bool  # shows that everything works, and no figures

    @property
    def judges(self):
        return not self.quick

    def describe(self):
        return f"{self.rounds} rounds, {self.seconds} s for each load"

    def measurements(self, workload, peers):
        """How many, if none is noisy."""
        return len(peers) * (min(self.rounds, workload.rounds) + self.warms_up(workload))

    def warms_up(self, workload):
        return not self.quick and not workload.starts


def run(workload, peers, plan, progress):
    started, wanted = {}, min(plan.rounds, workload.rounds)
    try:
        if not workload.starts:
            for peer in peers:
                progress.now(f"{workload.name}: starting {peer.name}")
                started[peer.name] = peer.start(workload)
            for server in started.values():
                server.wait(workload.ready)
            if plan.warms_up(workload):
                _round(workload, peers, started, plan, progress, "warming up")
        rounds = []
        most = wanted if plan.quick else 2 * wanted
        while len(rounds) < wanted or (_quiet(rounds) < wanted and len(rounds) < most):
            title = f"round {len(rounds) + 1} of {wanted}"
            if len(rounds) >= wanted:
                progress.more(len(peers))
                title = f"in place of a noisy round, {len(rounds) - wanted + 1} of at most {wanted}"
            rounds.append(_round(workload, peers, started, plan, progress, title))
    finally:
        for server in started.values():
            server.stop()
    least_disturbed = sorted(rounds, key=lambda each: each.other)[:wanted]
    return Outcome([each for each in rounds if each in least_disturbed], len(rounds) - wanted)


def _quiet(rounds):
    return sum(each.other <= NOISE for each in rounds)


def _round(workload, peers, started, plan, progress, title):
    measured, worst = {}, 0.0
    for peer in peers:
        progress.now(f"{workload.name}: {title}: {peer.name}")
        machine, ours, began = processes.machine_cpu(), processes.spent_by_us(), time.monotonic()
        result = workload.measure(started.get(peer.name, peer), workload, plan)
        wall = time.monotonic() - began
        ours = processes.spent_by_us() - ours
        other = max(0.0, (processes.machine_cpu() - machine - ours.cpu) / wall)
        measured[peer.name] = {**result, "other_cores": other}
        worst = max(worst, other if workload.disturbed else 0.0)
        progress.step()
    return Round(measured, worst)
