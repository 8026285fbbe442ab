"""Figures about the requests of an interpreter, and about its process.

Loaded when a program asks for them. Nothing is counted before it has called start_recording_metrics(): until
then a request costs one look at the length of a list. What is kept does not grow with the requests.
"""

import json
import os
import threading
import time

from _mod_manifold import host
from _mod_manifold_events import recorders

# How many threads have figures of their own. Threads come and go with the load, each with a new number; the
# one that was seen first is left out for a new one.
THREADS = 1024

# The times of a request of which more than the sum is kept.
PHASES = ("server_time", "application_time", "input_time", "output_time", "gil_wait_time", "cpu_time")

# What is added up.
TOTALS = ("gil_wait_count", "input_reads", "input_length", "output_writes", "output_length")


class Times:
    """Times of requests: how many, their sum, the least, the most, and how they are spread.

    Bucket 0 counts those below a microsecond, bucket n those of at least 2**(n-1) and less than 2**n.
    """

    __slots__ = ("buckets", "count", "least", "most", "total")

    def __init__(self):
        self.count, self.total, self.least, self.most = 0, 0.0, None, None
        self.buckets = [0] * 65

    def add(self, seconds):
        self.count += 1
        self.total += seconds
        if self.least is None or seconds < self.least:
            self.least = seconds
        if self.most is None or seconds > self.most:
            self.most = seconds
        self.buckets[min(int(seconds * 1e6).bit_length(), 64)] += 1

    def shown(self):
        return {
            "count": self.count,
            "total": self.total,
            "mean": self.total / self.count if self.count else None,
            "min": self.least,
            "max": self.most,
            "buckets": self.buckets.copy(),
        }


class Threads:
    """What each thread has done."""

    def __init__(self):
        self.table = {}  # thread_id: [requests, busy, cpu]

    def add(self, thread_id, busy, cpu):
        done = self.table.get(thread_id)
        if done is None:
            if len(self.table) >= THREADS:
                del self.table[next(iter(self.table))]
            done = self.table[thread_id] = [0, 0.0, 0.0]
        done[0] += 1
        done[1] += busy
        done[2] += cpu

    def shown(self):
        return [
            {"thread_id": thread_id, "request_count": count, "busy_time": busy, "cpu_time": cpu}
            for thread_id, (count, busy, cpu) in sorted(self.table.items())
        ]


class Window:
    """The requests that have ended since it was opened."""

    def __init__(self, now):
        self.began = now
        self.count = 0
        self.phases = {name: Times() for name in PHASES}
        self.totals = dict.fromkeys(TOTALS, 0)
        self.statuses = dict.fromkeys(("2xx", "3xx", "4xx", "5xx"), 0)
        self.threads = Threads()

    def add(self, event):
        self.count += 1
        for name in PHASES:
            self.phases[name].add(event[name])
        for name in TOTALS:
            self.totals[name] += event[name]
        status = f"{event['status'] // 100}xx"  # applications may send a 999
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.threads.add(event["thread_id"], event["application_time"], event["cpu_time"])

    def shown(self, now):
        return {
            "start_time": self.began,
            "stop_time": now,
            "sample_period": now - self.began,
            "request_count": self.count,
            "active_requests": len(host.active_requests()),
            "status_classes": self.statuses,
            **self.totals,
            **{name: times.shown() for name, times in self.phases.items()},
            "threads": self.threads.shown(),
        }


class Recorder:
    """What was recorded: in the window that is open, and in all."""

    def __init__(self):
        self.lock = threading.Lock()
        self.began = time.time()
        self.window = Window(self.began)
        self.count, self.busy = 0, 0.0
        self.threads = Threads()

    def record(self, event):
        server_time = max(event["application_start"] - event["request_start"], 0.0)
        event = {**event, "server_time": server_time}
        with self.lock:
            self.window.add(event)
            self.count += 1
            self.busy += event["application_time"]
            self.threads.add(event["thread_id"], event["application_time"], event["cpu_time"])

    def take(self):
        with self.lock:
            now = time.time()
            window, self.window = self.window, Window(now)
        return window.shown(now)

    def process(self):
        with self.lock:
            count, busy, threads = self.count, self.busy, self.threads.shown()
        used, now = os.times(), time.time()
        memory, most = _memory()
        return {
            "pid": os.getpid(),
            "start_time": self.began,
            "current_time": now,
            "running_time": now - self.began,
            "request_count": count,
            "request_busy_time": busy,
            "active_requests": len(host.active_requests()),
            "cpu_user_time": used.user,
            "cpu_system_time": used.system,
            "memory_rss": memory,
            "memory_max_rss": most,
            "threads": threads,
        }


def _memory():
    """What the process has in memory, now and at most, in bytes; None where /proc does not say."""
    found = {}
    try:
        with open("/proc/self/status", encoding="latin-1") as status:
            for line in status:
                name, _, value = line.partition(":")
                if name in ("VmRSS", "VmHWM"):
                    found[name] = int(value.split()[0]) * 1024
    except (OSError, ValueError):
        pass
    return found.get("VmRSS"), found.get("VmHWM")


_recorder = None
_starting = threading.Lock()


def start_recording_metrics():
    """Records from now on; once it does, it goes on."""
    global _recorder
    with _starting:
        if _recorder is None:
            _recorder = Recorder()
            recorders.append(_recorder.record)


def request_metrics():
    """The requests that have ended since this was called last; None before anything is recorded."""
    return _recorder and _recorder.take()


def process_metrics():
    """The process, and the requests since recording began; None before anything is recorded."""
    return _recorder and _recorder.process()


def server_metrics():
    """What the whole server counts, as wsgi-status says it; None where the configuration does not allow that."""
    metrics = host.server_metrics()
    return metrics and json.loads(metrics)
