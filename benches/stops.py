"""Stops servers with Flask and Django under load, and tells how that ended; see scripts/stops.

    stops.py COUNT

Takes its settings from the environment, as the tests do.
"""

import collections
import http.client
import os
import pathlib
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from harness import processes, servers, settings
from harness.progress import Progress
from harness.settings import ROOT, setting

LIMIT = 30  # seconds, for anything that should happen
STOPS = {"at once": signal.SIGTERM, "gracefully": signal.SIGWINCH}
KINDS = [(mpm, stop) for mpm in ("event", "worker") for stop in STOPS]
TARGETS = ["/flask/", "/flask/items", "/flask-of-two/", "/django/notes/", "/django/facts/"]
CONFIGURATION = """
CoreDumpDirectory "{site}/state"
ServerLimit 2
MaxSpareThreads 17
# httpd 2.4.71's worker MPM waits for a connection that is kept when it is told to stop.
KeepAliveTimeout 1
WSGIPythonPath "{site}/apps"
WSGICallableObject handle_request
WSGIScriptAlias /flask "{site}/site.wsgi" application-group=flask
WSGIScriptAlias /flask-of-two "{site}/site.wsgi" application-group=flask-of-two
WSGIScriptAlias /django "{site}/django.wsgi" application-group=django
<WSGIInterpreterOptions application-group=flask-of-two>
    WSGIReplicas 2
</WSGIInterpreterOptions>
<WSGIInterpreterOptions application-group=django>
    WSGIReplicas 2
</WSGIInterpreterOptions>
<Directory "{site}">
    Require all granted
</Directory>
"""
DATABASE = """
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
"""
# A shared object of ours, or of Python's: a crash with one of them on the stack may be ours.
OURS = re.compile(r"libmod_manifold|libpython|lib-dynload|\bPy[A-Z_]|_Py")


def main():
    count = int(sys.argv[1])
    if shutil.which("gdb") is None:
        print("gdb is missing, so crashes cannot be told from each other", file=sys.stderr)
    ends = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory(prefix="manifold-stops-") as folder:
        root = prepare(pathlib.Path(folder))
        progress = Progress(count)
        for number in range(count):
            kind = KINDS[number % len(KINDS)]
            progress.now(f"{kind[0]}, stopped {kind[1]}")
            ends[kind].append(one_stop(root, *kind))
            progress.step()
        progress.clear()
    show(ends)
    wrong = [end for several in ends.values() for end in several if not end.is_good()]
    for end in wrong:
        print("\n" + "\n".join(end.remarks))
    sys.exit(1 if any(not end.is_httpds_own() for end in wrong) else 0)


class End:
    """How a stop ended."""

    def __init__(self):
        self.seconds, self.answers = 0.0, 0
        self.reminders = self.kills = self.crashes_of_httpd = self.crashes = 0
        self.hung = self.failed = False
        self.remarks = []

    def is_good(self):
        return self.is_httpds_own() and not self.crashes_of_httpd

    def is_httpds_own(self):
        """Whether nothing went wrong but a crash that httpd is known for."""
        return not (self.kills or self.crashes or self.hung or self.failed)


def prepare(root):
    """The applications and Django's database, in a folder that httpd's children can use."""
    root.chmod(0o755)
    for name in ("site.wsgi", "django.wsgi"):
        shutil.copy(ROOT / "tests/apps" / name, root / name)
    ignore = shutil.ignore_patterns("__pycache__")
    # Its settings name a folder `state` two above the package.
    shutil.copytree(ROOT / "tests/apps/django_site", root / "apps/django_site", ignore=ignore)
    state = root / "state"
    state.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(root / "apps"), "DJANGO_SETTINGS_MODULE": "django_site.settings"}
    subprocess.run([sys.executable, "-B", "-c", DATABASE], env=environment, check=True)
    for path in [root, *root.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    if user := settings.user():
        for path in [state, *state.iterdir()]:
            os.chown(path, pwd.getpwnam(user).pw_uid, -1)
    return root


def one_stop(root, mpm, stop):
    """Starts a server, stops it while it answers, and says how that ended."""
    more = servers.manifold(setting("TEST_VENV")) + CONFIGURATION.replace("{site}", str(root))
    server = servers.Httpd(f"{mpm}, stopped {stop}", more, threads=16, mpm=mpm)
    [httpd] = server.processes
    end, load = End(), Load(server.port)
    try:
        load.goes_on(httpd, 10)
        end.answers = load.answers()
        began = time.monotonic()
        httpd.send_signal(STOPS[stop])
        try:
            end.failed = httpd.wait(LIMIT) != 0
        except subprocess.TimeoutExpired:
            end.hung = True
            end.remarks += stacks(httpd)
        end.seconds = time.monotonic() - began
    finally:
        load.stop()
        log = (server.root / "error.log").read_text(errors="replace")
        server.kill()
    read_log(log, end)
    read_cores(root / "state", end)
    if end.remarks:
        end.remarks.insert(0, f"{server.name}:")
    return end


class Load:
    """One client for each target, which asks again and again over a connection that it keeps."""

    def __init__(self, port):
        self.port, self.over = port, threading.Event()
        self.counts = collections.Counter()
        self.threads = [threading.Thread(target=self.ask, args=[target]) for target in TARGETS]
        for thread in self.threads:
            thread.start()

    def ask(self, target):
        connection = None
        while not self.over.is_set():
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
                connection.request("GET", target)
                answer = connection.getresponse()
                answer.read()
                self.counts[target] += answer.status == 200
            except (OSError, http.client.HTTPException):
                # Not there yet, or no longer.
                connection = connection and connection.close()
            time.sleep(0.002)
        if connection:
            connection.close()

    def answers(self):
        return self.counts.total()

    def goes_on(self, server, more):
        """Waits until every client has had so many answers."""
        deadline = time.monotonic() + LIMIT
        while any(self.counts[target] < more for target in TARGETS):
            if server.poll() is not None or time.monotonic() > deadline:
                self.stop()
                sys.exit(f"the server does not serve: {dict(self.counts)}")
            time.sleep(0.01)

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join()


def read_log(log, end):
    for line in log.splitlines():
        if "AH00045" in line:
            end.reminders += 1
        elif "AH00046" in line or "SIGKILL" in line:
            end.kills += 1
            end.remarks.append(line)
        elif "exit signal" in line:
            end.crashes += 1
            end.remarks.append(line)
        elif "panicked" in line or "Fatal Python error" in line:
            end.failed = True
            end.remarks.append(line)


def read_cores(folder, end):
    """Which of the crashes are httpd's own, by the stacks in their cores."""
    for core in folder.glob("core*"):
        stack = debug("-c", core)
        if stack and not OURS.search("\n".join(stack)) and end.crashes:
            end.crashes -= 1
            end.crashes_of_httpd += 1
        end.remarks += stack
        core.unlink()


def stacks(server):
    """Where the threads of a server are that does not end."""
    return [line for pid in processes.tree(server.pid) for line in debug("-p", str(pid), every=True)]


def debug(*process, every=False):
    """The stack of the thread that crashed, or of every thread."""
    if shutil.which("gdb") is None:
        return []
    command = ["gdb", "-batch", "-nx", "-ex", "thread apply all backtrace" if every else "backtrace"]
    command += [setting("HTTPD"), *process]
    said = subprocess.run(command, capture_output=True, text=True, errors="replace").stdout
    return [line for line in said.splitlines() if line.startswith(("#", "Thread"))]


def show(ends):
    print(f"Python {sys.version.split()[0]}; httpd {settings.httpd_version()}; {len(TARGETS)} clients, 5 interpreters and main\n")
    columns = "stops", "well", "slowest s", "median s", "reminded", "killed", "hung", "crashed", "httpd's own"
    print(f"{'':22}" + "".join(f"{column:>12}" for column in columns))
    every = [end for several in ends.values() for end in several]
    rows = [(f"{mpm}, {stop}", several) for (mpm, stop), several in ends.items()] + [("all", every)]
    for name, several in rows:
        if not several:
            continue
        seconds = sorted(end.seconds for end in several)
        cells = [len(several), sum(end.is_good() for end in several)]
        cells += [f"{seconds[-1]:.2f}", f"{seconds[len(seconds) // 2]:.2f}"]
        for attribute in ("reminders", "kills", "hung", "crashes", "crashes_of_httpd"):
            cells.append(sum(getattr(end, attribute) for end in several))
        print(f"{name:22}" + "".join(f"{cell:>12}" for cell in cells))


main()
