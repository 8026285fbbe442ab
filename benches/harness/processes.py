"""The processes of a server: CPU time, context switches, memory. From /proc, so Linux only."""

import dataclasses
import os
import pathlib
import re

TICK = 1 / os.sysconf("SC_CLK_TCK")
PROC = pathlib.Path("/proc")


@dataclasses.dataclass(frozen=True)
class Spent:
    cpu: float = 0.0  # seconds
    switches: int = 0

    def __add__(self, other):
        return Spent(self.cpu + other.cpu, self.switches + other.switches)

    def __sub__(self, other):
        return Spent(self.cpu - other.cpu, self.switches - other.switches)


def tree(pid):
    """A process and all that descend from it."""
    found = [pid]
    for each in found:
        for text in _read_all(PROC / str(each) / "task", "*/children"):
            found += map(int, text.split())
    return found


def children(pid):
    return tree(pid)[1:]


def spent(pids):
    """What these have spent, and children of theirs that have ended."""
    return sum(map(_spent_by, pids), Spent())


def spent_by_us():
    """What this program has spent, with all that it has started and all that these have."""
    return spent(tree(os.getpid()))


def _spent_by(pid):
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return Spent()
    # utime, stime, and both of those children that have been waited for
    cpu = sum(map(int, fields[11:15])) * TICK
    switches = sum(
        int(number)
        for text in _read_all(PROC / str(pid) / "task", "*/status")
        for number in re.findall(r"ctxt_switches:\s+(\d+)", text)
    )
    return Spent(cpu, switches)


def thread_cpu(pids, named):
    """Seconds of CPU of each thread whose name matches, by its number."""
    threads = {}
    for pid in pids:
        for task in (PROC / str(pid) / "task").iterdir():
            try:
                if re.match(named, (task / "comm").read_text()):
                    # To the nanosecond: of many threads, each rounded to a tick, some would be lost.
                    threads[task.name] = int((task / "schedstat").read_text().split()[0]) / 1e9
            except OSError:
                pass  # it has ended
    return threads


def memory(pids):
    """MiB, by the kernel's proportional account: what several processes share is divided among them."""
    total = 0
    for pid in pids:
        text = (PROC / str(pid) / "smaps_rollup").read_text()
        total += int(re.search(r"^Pss: +(\d+) kB", text, re.M).group(1))
    return total / 1024


def machine_cpu():
    """Seconds of CPU that the whole machine has spent, and what a hypervisor has withheld from it."""
    fields = list(map(int, (PROC / "stat").read_text().splitlines()[0].split()[1:9]))
    _user, _nice, _system, idle, waiting, *_ = fields
    return (sum(fields) - idle - waiting) * TICK


def _read_all(folder, pattern):
    """Texts of files about threads, any of which may end meanwhile."""
    for path in folder.glob(pattern):
        try:
            yield path.read_text()
        except OSError:
            pass
