"""What the servers are asked for, and what is measured of it."""

import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable
from types import MappingProxyType

from harness import processes
from harness.load import CONNECTIONS, Wrk
from . import stalled
from .peers import all_peers

HELLO = b"Hello, World!"
KB, MB = 1 << 10, 1 << 20
EMBEDDED = ("null", "manifold", "mod_wsgi", "mod_wsgi-own-gil")
DAEMONS = ("manifold-daemon", "mod_wsgi-daemon")
OTHERS = ("gunicorn", "granian", "granian-alone", "uwsgi")
SCRIPTS = (*EMBEDDED[1:], *DAEMONS, *OTHERS)
# Those with two interpreters or processes.
IN_TWO = ("manifold-2", "mod_wsgi-spread", "manifold-daemon-2", "mod_wsgi-daemon-2")


@dataclasses.dataclass(frozen=True)
class Workload:
    name: str
    title: str
    path: str
    length: int  # of each response, bytes
    peers: tuple
    # Of a server, the workload and the plan; where it `starts` servers, of a peer instead.
    measure: Callable = lambda *all: _one_load(*all)
    ready: str = "/hello"
    script: str = "app.py"
    request: MappingProxyType = MappingProxyType({})  # options of wrk.lua
    connections: int = CONNECTIONS
    may_close: bool = False  # see Wrk
    threads: int = 25  # of httpd
    more: str = ""  # configuration of httpd
    static: str = ""  # of the static file's
    files: dict = dataclasses.field(default_factory=dict)  # beside the script
    preload: bool = False
    starts: bool = False  # whether it starts its servers by itself
    rounds: int = 99  # more say nothing new
    disturbed: bool = True  # by what else the machine does

    @property
    def module(self):
        return self.script.removesuffix(".py")


def all_workloads():
    """By name, in the order in which they run and are shown."""
    hello = {"hello": HELLO}
    file = {"file": bytes(range(256)) * (MB // 256), "hello": HELLO}
    flask, django = {"script": "flask_hello.py"}, {"script": "django_page.py", "ready": "/page"}
    post, slow = {"method": "POST", "body": 16 * KB}, {"every": "20:/cpu20"}
    by_kernel = "<IfModule wsgi_module>\nWSGIEnableSendfile On\n</IfModule>"
    small_buffers = "Timeout 300\nSendBufferSize 65536"
    grouped = (*EMBEDDED[1:], *DAEMONS)
    sendfile = ("static", "manifold", "mod_wsgi")
    every = (
        Workload("hello", "13 bytes", "/hello", 13, tuple(all_peers()), files=hello),
        Workload("10k", "10 KB", "/10k", 10 * KB, SCRIPTS),
        Workload("echo", "16 KB POST, sent back", "/echo", 16 * KB, SCRIPTS, request=post),
        Workload("headers", "13 bytes, 30 request headers", "/hello", 13, ("null", *SCRIPTS), request={"headers": 30}),
        Workload("flask", "Flask's hello world", "/hello", 13, SCRIPTS, **flask),
        Workload("django", "Django, one template", "/page", 233, SCRIPTS, **django),
        Workload("stream", "a generator of 64 × 16 KB", "/stream", MB, SCRIPTS),
        Workload("file", "1 MB by file_wrapper", "/file", MB, ("static", *SCRIPTS), files=file),
        Workload("sendfile", "the same by the kernel", "/file", MB, sendfile, files=file, more=by_kernel,
                 static="EnableSendfile On"),
        Workload("cpu2", "2 ms of CPU", "/cpu2", 13, (*SCRIPTS, *IN_TWO)),
        Workload("cpu20", "20 ms of CPU", "/cpu20", 13, (*SCRIPTS, *IN_TWO)),
        Workload("sleep", "20 ms of sleep", "/sleep20", 13, SCRIPTS),
        Workload("mix", "95 % of 13 bytes, 5 % of 20 ms of CPU", "/hello", 13, (*SCRIPTS, *IN_TWO), request=slow),
        Workload("groups", "two groups of 20 ms of CPU, 8 clients each", "/cpu20", 13, grouped, _two_groups),
        Workload("hog", "13 bytes beside another group that computes", "/hello", 13, ("null", *grouped), _hog),
        # Where the event MPM finds no idle thread for a kept connection that has a request, it closes it.
        Workload("slow", "13 bytes beside 30 stalled downloads of 8 MB", "/hello", 13, (*grouped, "gunicorn"), _slow,
                 more=small_buffers, may_close=True),
        Workload("start", "from the start to the first response of Flask", "/hello", 13, SCRIPTS, _cold_start,
                 starts=True, **flask),
        Workload("memory", "Flask in 1 to 16 interpreters or processes", "/hello", 13, ("manifold", *DAEMONS), _memory,
                 preload=True, starts=True, rounds=3, disturbed=False, **flask),
        Workload("hello64", "13 bytes, 64 connections, 64 threads", "/hello", 13, ("static", "null", *grouped),
                 connections=64, threads=64, may_close=True, files=hello),
    )
    return {workload.name: workload for workload in every}


def _one_load(server, workload, plan, **may):
    return _loaded(server, workload, plan, [(workload.path, workload.connections)], **may)


def _loaded(server, workload, plan, loads, **may):
    """What several loads at once see, and what the server spends on them."""
    pids, began = server.pids(), time.monotonic()
    before, before_threads = server.spent(), processes.thread_cpu(pids, INTERPRETER_THREADS)
    running, seen = [], []
    try:
        for path, connections in loads:
            running.append(
                Wrk(
                    server,
                    path,
                    workload.length,
                    plan.seconds,
                    connections,
                    may_close=workload.may_close,
                    **may,
                    **workload.request,
                )
            )
        seen = [load.end() for load in running]
    finally:
        for load in running:
            load.stop()
    wall, spent = time.monotonic() - began, server.spent() - before
    # One that has gone meanwhile had nothing to do.
    threads = processes.thread_cpu(pids, INTERPRETER_THREADS)
    threads = sum(cpu - before_threads.get(number, 0) for number, cpu in threads.items())
    requests = sum(load.requests for load in seen)
    if not requests:
        return {"rate": 0.0}
    closed = {"closed": sum(load.closed for load in seen) / requests * 1000} if workload.may_close else {}
    return {
        "rate": sum(load.rate for load in seen),
        "cpu_us": spent.cpu / requests * 1e6,
        "switches": spent.switches / requests,
        "cores": spent.cpu / wall,
        "interpreter_cores": threads / wall,
        "p50_ms": seen[0].p50,
        "p90_ms": seen[0].p90,
        "p99_ms": seen[0].p99,
        **closed,
    }


# Ours have names; with other servers this is 0.
INTERPRETER_THREADS = r"mnf-\d"


def _two_groups(server, workload, plan):
    half = workload.connections // 2
    return _loaded(server, workload, plan, [("/cpu20", half), ("/other/cpu20", half)])


class _Busy:
    """A process that computes all the time: the hog beside a server that runs no Python."""

    def __init__(self):
        self.process = subprocess.Popen([sys.executable, "-c", "while True: pass"])

    def end(self):
        self.stop()

    def stop(self):
        self.process.kill()
        self.process.wait()


def _hog(server, workload, plan):
    alone = _one_load(server, workload, plan)
    hog = _Busy() if server.name == "null" else Wrk(server, "/other/cpu20", workload.length, plan.seconds + 1, 1)
    try:
        beside = _one_load(server, workload, plan)
        hog.end()
    finally:
        hog.stop()
    ratio = beside["p99_ms"] / alone["p99_ms"]
    return {**beside, "rate_alone": alone["rate"], "p99_alone_ms": alone["p99_ms"], "p99_ratio": ratio}


def _slow(server, workload, plan):
    alone = _one_load(server, workload, plan)
    clients = stalled.Clients(server, "/large", 8 * MB)
    try:
        beside = _one_load(server, workload, plan, may_starve=True)
        clients.read_on()
    finally:
        clients.close()
    return {**beside, "rate_alone": alone["rate"], "kept": beside["rate"] / alone["rate"]}


def _cold_start(peer, workload, plan):
    began, before = time.monotonic(), processes.spent_by_us()
    server = peer.start(workload)
    try:
        server.wait(workload.ready)
        wall = time.monotonic() - began
    finally:
        server.stop()
    return {"start_s": wall, "start_and_stop_cpu_s": processes.spent_by_us().cpu - before.cpu}


def _memory(peer, workload, plan):
    counts = (1, 2, 4, 8, 16) if not plan.quick else (1, 2)
    found = {}
    for count in counts:
        server = peer.start(workload, count)
        try:
            server.wait(workload.ready)
            server.settle()
            # So that all of them have served something.
            Wrk(server, workload.path, workload.length, 1, workload.connections).end()
            found[f"mib_{count}"] = processes.memory(server.pids())
        finally:
            server.stop()
    first, last = counts[0], counts[-1]
    extra = (found[f"mib_{last}"] - found[f"mib_{first}"]) / (last - first)
    return {**found, "mib_for_each_more": extra}
