"""Hello world through a process group, beside the same inside httpd and beside mod_wsgi's daemon mode.

    . target/manifold.env && [MANIFOLD_MOD_WSGI=FILE] "$MANIFOLD_PYTHON" benches/daemon.py [ROUNDS]

Each is an httpd of its own; wrk (Debian: apt-get install wrk) asks them in turn, ROUNDS times (default
5). FILE is the module that `mod_wsgi-express module-location` names, for the same Python; without it
there is no third column. Printed for each: requests per second, and CPU time and context switches of
httpd's child and worker process for each request. Quote the ratios: machines differ, and are noisy.
"""

import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

CONNECTIONS, SECONDS, PORT = 16, 4, 18340
BODY = "Hello, World!"
APPLICATION = f"""
def application(environ, start_response):
    headers = [("Content-Type", "text/plain"), ("Content-Length", "{len(BODY)}")]
    start_response("200 OK", headers)
    return [b"{BODY}"]
"""
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
LogLevel notice
StartServers 1
ServerLimit 1
ThreadsPerChild 25
MaxRequestWorkers 25
MinSpareThreads 1
MaxSpareThreads 25
MaxKeepAliveRequests 0
WSGIPythonHome "{home}"
WSGISocketPrefix "{root}/wsgi"
WSGIScriptAlias / "{root}/app.wsgi"
WSGIApplicationGroup hello
{more}
<Directory "{root}">
    Require all granted
</Directory>
"""
DAEMON = "WSGIDaemonProcess hello processes=1 threads=15\nWSGIProcessGroup hello"


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing (Debian and Ubuntu: apt-get install wrk)")
    ours, theirs = os.environ["MANIFOLD_MODULE"], os.environ.get("MANIFOLD_MOD_WSGI")
    wanted = [("embedded", ours, ""), ("daemon", ours, DAEMON)]
    if theirs:
        wanted.append(("mod_wsgi", theirs, DAEMON))
    servers = []
    try:
        for number, (name, module, more) in enumerate(wanted):
            servers.append(Server(name, module, more, PORT + number))
            servers[-1].wait()
        measure(servers, rounds)
    finally:
        for server in servers:
            server.stop()


class Server:
    def __init__(self, name, module, more, port):
        self.name, self.port, self.results = name, port, []
        self.folder = tempfile.TemporaryDirectory(prefix="manifold-bench-")
        root = pathlib.Path(self.folder.name)
        root.chmod(0o755)
        (root / "app.wsgi").write_text(APPLICATION)
        user = os.environ.get("MANIFOLD_USER")
        (root / "httpd.conf").write_text(
            CONFIGURATION.format(
                root=root,
                port=port,
                modules="\n".join(other_modules()),
                module=module,
                user=f"User {user}\nGroup {user}" if user else "",
                home=os.environ["MANIFOLD_PYTHON_HOME"],
                more=more,
            )
        )
        command = [os.environ["MANIFOLD_HTTPD"], "-f", root / "httpd.conf", "-D", "FOREGROUND"]
        self.process = subprocess.Popen(command)
        self.log = root / "error.log"

    def wait(self):
        deadline = time.monotonic() + 20
        while True:
            try:
                answer = urllib.request.urlopen(f"http://127.0.0.1:{self.port}/").read()
                assert answer == BODY.encode(), answer
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"{self.name} does not serve:\n" + self.log.read_text())
                time.sleep(0.05)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def spent(self):
        """Seconds of CPU, and context switches, of all threads of all of httpd's processes."""
        pid, cpu, switches = self.process.pid, 0, 0
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for process in children:
            stat = pathlib.Path(f"/proc/{process}/stat").read_text()
            fields = stat.rpartition(")")[2].split()
            cpu += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            for status in pathlib.Path(f"/proc/{process}/task").glob("*/status"):
                switches += sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", status.read_text())))
        return cpu, switches

    def load(self):
        cpu, switches = self.spent()
        url = f"http://127.0.0.1:{self.port}/"
        command = ["wrk", f"-c{CONNECTIONS}", "-t1", f"-d{SECONDS}s", url]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        if "Non-2xx" in output or "Socket errors" in output:
            sys.exit(f"not every request of {self.name} was answered well:\n{output}")
        requests = int(re.search(r"(\d+) requests in", output).group(1))
        rate = float(re.search(r"Requests/sec:\s+([\d.]+)", output).group(1))
        after = self.spent()
        return rate, (after[0] - cpu) / requests * 1e6, (after[1] - switches) / requests


def other_modules():
    apxs = [os.environ["MANIFOLD_APXS"], "-q", "LIBEXECDIR"]
    folder = subprocess.run(apxs, capture_output=True, text=True).stdout.strip()
    built_in = subprocess.run([os.environ["MANIFOLD_HTTPD"], "-l"], capture_output=True, text=True).stdout
    for name in ("mpm_event", "unixd", "authz_core"):
        if f"{name.removeprefix('mpm_')}.c" not in built_in:
            yield f'LoadModule {name}_module "{folder}/mod_{name}.so"'


def measure(servers, rounds):
    for number in range(rounds + 1):
        for server in servers:
            print(f"\rround {number} of {rounds}: {server.name:10}", end="", file=sys.stderr, flush=True)
            result = server.load()
            if number:  # the first round warms up
                server.results.append(result)
    print(file=sys.stderr)
    print(f"{'':10}{'requests/s':>12}{'CPU µs each':>14}{'switches each':>15}")
    for server in servers:
        rate, cpu, switches = (statistics.median(column) for column in zip(*server.results))
        print(f"{server.name:10}{rate:12.0f}{cpu:14.1f}{switches:15.2f}")
    embedded, daemon, *others = ([result[0] for result in server.results] for server in servers)
    for name, base in [("embedded", embedded), *(("mod_wsgi", other) for other in others)]:
        ratios = [ours / theirs for ours, theirs in zip(daemon, base)]
        print(
            f"daemon / {name}, median (least to most): "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )


main()
