"""Replacements of interpreters under load: does a request fail, and does memory stay level?

    . target/manifold.env && "$MANIFOLD_PYTHON" benches/replacements.py [COUNT [STEP]]

A script is touched again and again under WSGIScriptReloading Interpreter, while 4 clients ask over
connections that they keep: COUNT replacements (default 200) of each of a small application and Flask,
with one replica and with two. Printed after every STEP (default 25) of them: the memory of httpd's
child (Pss, by the kernel's account), its threads and its descriptors. Every answer has to be 200 and
whole, and httpd has to stop as it should; anything else ends the run.

What CPython itself keeps of an interpreter that is over is measured beside it: a plain Python makes
interpreters that import what the application does, and ends them, as many and one at a time.

Takes CPython 3.14 or later, where interpreters can be ended. Flask comes from PyPI, into a virtual
environment below MANIFOLD_CACHE or the temporary folder.
"""

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import time

from harness import processes, servers, settings
from harness.progress import Progress

CLIENTS, PATIENCE = 4, 30
SMALL = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "6")])
    return [b"hello\\n"]
"""
FLASK = """
from flask import Flask, render_template_string

application = Flask(__name__)

@application.route("/")
def index():
    return render_template_string("<p>{{ word }}</p>", word="hello")
"""
APPLICATIONS = {"small": SMALL, "flask": FLASK}
CONFIGURATION = """
LogLevel notice wsgi:info
WSGIReplicas {replicas}
WSGIScriptReloading Interpreter
WSGIScriptAlias / "{{root}}/app.wsgi" application-group=app process-group=%{{GLOBAL}}
"""
# What CPython does alone: the number of interpreters, the step, and what each of them imports.
PLAIN = """
import pathlib, re, sys
import _interpreters
count, step, imports = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
def memory():
    text = pathlib.Path("/proc/self/smaps_rollup").read_text()
    return int(re.search(r"^Pss: +([0-9]+) kB", text, re.M).group(1)) / 1024
for number in range(count + 1):
    if number % step == 0:
        print(number, memory(), flush=True)
    interpreter = _interpreters.create("isolated")
    failed = _interpreters.exec(interpreter, imports)
    assert failed is None, failed
    _interpreters.destroy(interpreter)
"""


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    step = int(sys.argv[2]) if len(sys.argv) > 2 else 25
    if settings.python_version() < (3, 14):
        sys.exit("it takes CPython 3.14 or later, where interpreters can be ended")
    home = settings.virtual_environment("manifold-bench-flask", "flask==3.1.3")
    progress = Progress(count * len(APPLICATIONS) * 2)
    tables = {}
    for name, script in APPLICATIONS.items():
        for replicas in (1, 2):
            title = f"{name}, {replicas} replica{'s' if replicas > 1 else ''}"
            tables[title] = served(title, script, replicas, home, count, step, progress)
        tables[f"{name}, plain CPython"] = plain(home, script, count, step)
    progress.clear()
    show(tables)


def served(title, script, replicas, home, count, step, progress):
    """Rows of: replacements, memory, threads, descriptors, answers."""
    more = servers.manifold(home) + CONFIGURATION.format(replicas=replicas)
    server = servers.Httpd(title, more, files={"app.wsgi": script}, threads=8)
    try:
        server.wait()
        clients = Clients(server.port)
        try:
            site = Site(server, clients, replicas)
            rows = site.replace(count, step, progress)
        finally:
            clients.stop()
        bad = [line for line in site.log() if re.search("exit signal|AH0004[56]|MNF", line)]
        if bad or clients.failures:
            sys.exit("\n".join([f"{title}: ", *bad, *clients.failures[:10]]))
    finally:
        [status] = server.stop(signal.SIGWINCH, PATIENCE)
    if status != 0:
        sys.exit(f"{title}: httpd ended with {status}")
    return rows


class Clients:
    """Each asks again as soon as it has its answer, with a short rest: the load is bounded."""

    def __init__(self, port):
        self.port = port
        self.over, self.failures, self.answers = threading.Event(), [], [0] * CLIENTS
        self.threads = [threading.Thread(target=self.ask, args=[i]) for i in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def ask(self, which):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        while not self.over.is_set():
            try:
                connection.request("GET", "/")
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 200 or b"hello" not in body:
                    self.failures.append(f"{answer.status}: {body[:200]}")
                self.answers[which] += 1
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
            time.sleep(0.005)
        connection.close()

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join()


class Site:
    def __init__(self, server, clients, replicas):
        self.server, self.clients, self.replicas = server, clients, replicas

    def log(self):
        return (self.server.root / "error.log").read_text(errors="replace").splitlines()

    def replacements(self):
        return sum("has taken the place of" in line for line in self.log())

    def replace(self, count, step, progress):
        """Touches the script until there were so many replacements; each time, all replicas are replaced."""
        pid = self.server.child()
        rows, done, stamp = [], 0, time.time()
        while True:
            if done >= len(rows) * step:
                time.sleep(1)  # that the last predecessors may come to their ends
                rows.append((done, *facts(pid), sum(self.clients.answers)))
            if done >= count:
                return rows
            stamp += 10  # a time that no earlier version had
            os.utime(self.server.root / "app.wsgi", (stamp, stamp))
            wanted, deadline = done + self.replicas, time.monotonic() + PATIENCE
            while (done := self.replacements()) < wanted:
                if time.monotonic() > deadline or self.clients.failures:
                    said = [line for line in self.log() if "MNF" in line]
                    sys.exit("\n".join([f"{self.server.name}: {done} of {wanted}", *self.clients.failures[:5], *said]))
                time.sleep(0.005)
            progress.step(self.replicas)
            progress.now(self.server.name)


def facts(pid):
    folder = processes.PROC / str(pid)
    return processes.memory([pid]), len(list((folder / "task").iterdir())), len(list((folder / "fd").iterdir()))


def plain(home, script, count, step):
    command = [home / "bin" / "python", "-c", PLAIN, str(count), str(step), script]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [(int(number), float(memory)) for number, memory in map(str.split, said.splitlines())]


def show(tables):
    for title, rows in tables.items():
        print(f"{title}\n{'replaced':>10}{'MiB':>10}{'threads':>10}{'fds':>10}{'answers':>10}")
        for number, memory, *others in rows:
            print(f"{number:>10}{memory:>10.1f}" + "".join(f"{other:>10}" for other in others))
        later = rows[len(rows) // 4 :]
        if len(later) > 1 and later[-1][0] > later[0][0]:
            grown = (later[-1][1] - later[0][1]) * 1024 / (later[-1][0] - later[0][0])
            print(f"{'':10}{grown:+.1f} KiB for each, from the {later[0][0]}th on")
        print()


main()
