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
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

PORT, CLIENTS, PATIENCE = 18340, 4, 30
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
ServerRoot "{root}"
DefaultRuntimeDir "{root}"
PidFile "{root}/httpd.pid"
ServerName localhost
Listen 127.0.0.1:{port}
{modules}
LoadModule wsgi_module "{module}"
{user}
ErrorLog "{root}/error.log"
LogLevel notice wsgi:info
StartServers 1
ServerLimit 1
ThreadsPerChild 8
MaxRequestWorkers 8
MinSpareThreads 1
MaxSpareThreads 8
MaxKeepAliveRequests 0
WSGIPythonHome "{home}"
WSGIReplicas {replicas}
WSGIScriptReloading Interpreter
WSGIScriptAlias / "{root}/app.wsgi" application-group=app process-group=%{{GLOBAL}}
<Directory "{root}">
    Require all granted
</Directory>
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
    if tuple(map(int, os.environ["MANIFOLD_PYTHON_VERSION"].split(".")[:2])) < (3, 14):
        sys.exit("it takes CPython 3.14 or later, where interpreters can be ended")
    home = virtual_environment()
    tables = {}
    for name, script in APPLICATIONS.items():
        for replicas in (1, 2):
            title = f"{name}, {replicas} replica{'s' if replicas > 1 else ''}"
            tables[title] = served(title, script, replicas, home, count, step)
        tables[f"{name}, plain CPython"] = plain(home, script, count, step)
    show(tables)


def virtual_environment():
    cache = pathlib.Path(os.environ.get("MANIFOLD_CACHE", tempfile.gettempdir()))
    venv = cache / f"manifold-bench-flask-{os.environ['MANIFOLD_PYTHON_VERSION']}"
    if not (venv / "complete").exists():
        subprocess.run([os.environ["MANIFOLD_PYTHON"], "-m", "venv", "--clear", venv], check=True)
        subprocess.run([venv / "bin" / "python", "-m", "pip", "install", "-q", "flask==3.1.3"], check=True)
        (venv / "complete").touch()
    return venv


def served(title, script, replicas, home, count, step):
    """Rows of: replacements, memory, threads, descriptors, answers."""
    with tempfile.TemporaryDirectory(prefix="manifold-bench-") as folder:
        root = pathlib.Path(folder)
        root.chmod(0o755)
        (root / "app.wsgi").write_text(script)
        user = os.environ.get("MANIFOLD_USER")
        (root / "httpd.conf").write_text(
            CONFIGURATION.format(
                root=root,
                port=PORT,
                modules="\n".join(other_modules()),
                module=os.environ["MANIFOLD_MODULE"],
                user=f"User {user}" if user else "",
                home=home,
                replicas=replicas,
            )
        )
        command = [os.environ["MANIFOLD_HTTPD"], "-f", root / "httpd.conf", "-D", "FOREGROUND"]
        server = subprocess.Popen(command)
        clients = None
        try:
            wait_for(server)
            clients = Clients()
            site = Site(title, root, server, clients, replicas)
            rows = site.replace(count, step)
        finally:
            if clients is not None:
                clients.stop()
            server.send_signal(signal.SIGWINCH)
            status = server.wait(PATIENCE)
        bad = [line for line in site.log() if re.search("exit signal|AH0004[56]|MNF", line)]
        if status != 0 or bad or clients.failures:
            sys.exit("\n".join([f"{title}: httpd ended with {status}", *bad, *clients.failures[:10]]))
        return rows


def other_modules():
    apxs = [os.environ["MANIFOLD_APXS"], "-q", "LIBEXECDIR"]
    folder = subprocess.run(apxs, capture_output=True, text=True).stdout.strip()
    built_in = subprocess.run([os.environ["MANIFOLD_HTTPD"], "-l"], capture_output=True, text=True).stdout
    for name in ("mpm_event", "unixd", "authz_core"):
        if f"{name.removeprefix('mpm_')}.c" not in built_in:
            yield f'LoadModule {name}_module "{folder}/mod_{name}.so"'


def wait_for(server):
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=PATIENCE)
            connection.request("GET", "/")
            if connection.getresponse().status == 200:
                return connection.close()
        except OSError:
            pass
        if server.poll() is not None or time.monotonic() > deadline:
            sys.exit("httpd does not serve")
        time.sleep(0.05)


class Clients:
    """Each asks again as soon as it has its answer, with a short rest: the load is bounded."""

    def __init__(self):
        self.over, self.failures, self.answers = threading.Event(), [], [0] * CLIENTS
        self.threads = [threading.Thread(target=self.ask, args=[i]) for i in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def ask(self, which):
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=PATIENCE)
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
    def __init__(self, title, root, server, clients, replicas):
        self.title, self.root, self.server = title, root, server
        self.clients, self.replicas = clients, replicas

    def log(self):
        return (self.root / "error.log").read_text(errors="replace").splitlines()

    def replacements(self):
        return sum("has taken the place of" in line for line in self.log())

    def replace(self, count, step):
        """Touches the script until there were so many replacements; each time, all replicas are replaced."""
        pid = pathlib.Path(f"/proc/{self.server.pid}/task/{self.server.pid}/children").read_text().split()[0]
        rows, done, stamp = [], 0, time.time()
        while True:
            if done >= len(rows) * step:
                time.sleep(1)  # that the last predecessors may come to their ends
                rows.append((done, *facts(pid), sum(self.clients.answers)))
            if done >= count:
                return rows
            stamp += 10  # a time that no earlier version had
            os.utime(self.root / "app.wsgi", (stamp, stamp))
            wanted, deadline = done + self.replicas, time.monotonic() + PATIENCE
            while (done := self.replacements()) < wanted:
                if time.monotonic() > deadline or self.clients.failures:
                    said = [line for line in self.log() if "MNF" in line]
                    sys.exit("\n".join([f"{self.title}: {done} of {wanted}", *self.clients.failures[:5], *said]))
                time.sleep(0.005)
            print(f"\r{self.title}: {done} of {count}", end="", file=sys.stderr, flush=True)


def facts(pid):
    folder = pathlib.Path(f"/proc/{pid}")
    pss = re.search(r"^Pss: +(\d+) kB", (folder / "smaps_rollup").read_text(), re.M)
    return int(pss.group(1)) / 1024, len(list((folder / "task").iterdir())), len(list((folder / "fd").iterdir()))


def plain(home, script, count, step):
    command = [home / "bin" / "python", "-c", PLAIN, str(count), str(step), script]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [(int(number), float(memory)) for number, memory in map(str.split, said.splitlines())]


def show(tables):
    print(file=sys.stderr)
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
