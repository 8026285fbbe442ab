"""Servers on loopback, from their start to their end, each with a folder of its own."""

import grp
import http.client
import os
import pathlib
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
import time

from . import processes, settings
from .settings import load_module, setting

PATIENCE = 60  # seconds, for anything that should happen
CONFIGURATION = """
ServerRoot "{root}"
DefaultRuntimeDir "{root}"
PidFile "{root}/httpd.pid"
ServerName localhost
Listen 127.0.0.1:{port}
{modules}
{user}
ErrorLog "{root}/error.log"
LogLevel notice
DocumentRoot "{root}"
StartServers 1
ServerLimit 1
ThreadsPerChild {threads}
MaxRequestWorkers {threads}
MinSpareThreads 1
MaxSpareThreads {threads}
MaxKeepAliveRequests 0
<Directory />
    AllowOverride None
</Directory>
<Directory "{root}">
    Require all granted
</Directory>
{more}
"""


# Those that have been started and not stopped.
running = set()


def stop_all():
    """For the end of a program, however it comes."""
    for server in list(running):
        server.kill()


def held_port():
    """A socket whose port the system gives to no connection and to no other server until it is closed.

    It is bound and does not listen, so whoever sets SO_REUSEADDR, as servers do, can listen there.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held


class Server:
    """Some processes that serve a port together."""

    def __init__(self, name):
        self.name, self.processes, self._held = name, [], []
        self.port = self.hold(held_port())
        self._folder = tempfile.TemporaryDirectory(prefix="manifold-bench-")
        self.root = pathlib.Path(self._folder.name)
        self.root.chmod(0o755)

    def hold(self, held):
        """Keeps a port until all has stopped, and returns its number."""
        self._held.append(held)
        return held.getsockname()[1]

    def write(self, files):
        """Files for the folder, by name; what is not text is written as it is."""
        for name, content in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    def start(self, *command):
        """Starts one of the processes; what it prints goes to the folder.

        In a process group of its own, so that Ctrl-C reaches this program only, which then stops it.
        """
        with (self.root / "printed.log").open("ab") as printed:
            process = subprocess.Popen(
                list(map(str, command)), stdin=subprocess.DEVNULL, stdout=printed, stderr=printed, process_group=0
            )
        running.add(self)
        self.processes.append(process)
        return process

    def wait(self, path="/", expected=None):
        """Until it answers with 200 and, if that is given, with just these bytes."""
        deadline = time.monotonic() + PATIENCE
        last = "no answer"
        while time.monotonic() < deadline and all(process.poll() is None for process in self.processes):
            try:
                status, body = self.get(path)
            except (OSError, http.client.HTTPException) as error:
                last = repr(error)
            else:
                if status == 200 and expected in (None, body):
                    return
                last = f"{status} {body[:200]}"
                # A proxy answers with 503 until what is behind it is there.
                if status not in (502, 503):
                    break
            time.sleep(0.02)
        sys.exit(f"{self.name} does not serve {path}: {last}\n{self.log()}")

    def settle(self):
        """Waits until its processes have nothing more to do: they take no CPU time for half a second."""
        deadline, last = time.monotonic() + PATIENCE, None
        while time.monotonic() < deadline and (now := self.spent().cpu) != last:
            last = now
            time.sleep(0.5)

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def log(self):
        """The ends of all logs."""
        texts = (path.read_text(errors="replace") for path in sorted(self.root.glob("*.log")))
        return "\n".join(text[-3000:] for text in texts if text)

    def pids(self):
        return [pid for process in self.processes for pid in processes.tree(process.pid)]

    def spent(self):
        return processes.spent(self.pids())

    def stop(self, how=signal.SIGTERM, patience=PATIENCE):
        """Stops all, the last to be started first; returns their statuses."""
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(how)
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        self._gone()
        return [process.returncode for process in self.processes]

    def kill(self):
        """At once, with all that descends from them."""
        for process in self.processes:
            if process.poll() is None:
                for pid in processes.tree(process.pid)[::-1]:
                    _kill(pid)
                process.wait()
        self._gone()

    def _gone(self):
        running.discard(self)
        for held in self._held:
            held.close()
        self._folder.cleanup()


def _kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


class Httpd(Server):
    """An httpd with one child of so many threads, and more in its configuration."""

    def __init__(self, name, more="", files={}, modules=(), threads=25, mpm="event"):
        super().__init__(name)
        self.write(files)
        names = [f"mpm_{mpm}", "unixd", "authz_core", *modules]
        configuration = CONFIGURATION.format(
            root=self.root,
            port=self.port,
            modules="\n".join(load_module(name) for name in names),
            user=identity(),
            threads=threads,
            more=more.replace("{root}", str(self.root)),
        )
        self.write({"httpd.conf": configuration})
        self.start(setting("HTTPD"), "-f", self.root / "httpd.conf", "-D", "FOREGROUND")

    def child(self):
        """The process id of the child."""
        return processes.children(self.processes[0].pid)[0]


def identity():
    name = settings.user()
    if not name:
        return ""
    group = grp.getgrgid(pwd.getpwnam(name).pw_gid).gr_name
    return f"User {name}\nGroup {group}"


def manifold(home=None):
    """What loads this project's module, with its Python or a virtual environment of it."""
    worker = os.environ.get("MANIFOLD_WORKER")
    return load_wsgi(setting("MODULE"), home) + (f'\nWSGIDaemonWorker "{worker}"' if worker else "")


def load_wsgi(module, home=None):
    return f'LoadModule wsgi_module "{module}"\nWSGIPythonHome "{home or setting("PYTHON_HOME")}"'
