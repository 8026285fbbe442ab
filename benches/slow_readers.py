"""Hello world while clients stall in the middle of large downloads, beside hello world alone.

    . target/manifold.env && "$MANIFOLD_PYTHON" benches/slow_readers.py [ROUNDS]

Thirty clients ask an httpd of 25 threads for 8 MB each, read a little and stop; wrk (Debian: apt-get
install wrk) asks for hello world with them and without, in turn, ROUNDS times (default 7). Printed:
requests per second, and the ratio. At the end every client reads its body, which has to be right.

With MANIFOLD_MOD_WSGI, the path of a mod_wsgi built for the same Python, the same is done with that
in the same rounds. Quote the ratios: machines differ, and are noisy.
"""

import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

CLIENTS, SIZE, READ, CONNECTIONS, SECONDS, PORT = 30, 8 << 20, 50_000, 8, 3, 18323
APPLICATION = f"""
BODY = (bytes(range(251)) * {SIZE // 251 + 1})[:{SIZE}]

def application(environ, start_response):
    body = BODY if environ["PATH_INFO"] == "/large" else b"Hello, World!"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
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
Timeout 300
SendBufferSize 65536
WSGIPythonHome "{home}"
WSGIScriptAlias / "{root}/app.wsgi" application-group=app
<Directory "{root}">
    Require all granted
</Directory>
"""


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing (Debian and Ubuntu: apt-get install wrk)")
    modules = {"mod_manifold": os.environ["MANIFOLD_MODULE"]}
    if os.environ.get("MANIFOLD_MOD_WSGI"):
        modules["mod_wsgi"] = os.environ["MANIFOLD_MOD_WSGI"]
    servers = [Server(name, path, PORT + i) for i, (name, path) in enumerate(modules.items())]
    try:
        measure(servers, rounds)
    finally:
        for server in servers:
            server.stop()


class Server:
    def __init__(self, name, module, port):
        self.name, self.port, self.rates = name, port, {"alone": [], "with": []}
        self.folder = tempfile.TemporaryDirectory(prefix="manifold-bench-")
        root = pathlib.Path(self.folder.name)
        root.chmod(0o755)
        (root / "app.wsgi").write_text(APPLICATION)
        (root / "httpd.conf").write_text(
            CONFIGURATION.format(
                root=root,
                port=port,
                modules="\n".join(other_modules()),
                module=module,
                user=f"User {os.environ['MANIFOLD_USER']}" if os.environ.get("MANIFOLD_USER") else "",
                home=os.environ["MANIFOLD_PYTHON_HOME"],
            )
        )
        command = [os.environ["MANIFOLD_HTTPD"], "-f", root / "httpd.conf", "-D", "FOREGROUND"]
        self.process = subprocess.Popen(command)
        deadline = time.monotonic() + 20
        while True:
            try:
                assert urllib.request.urlopen(f"http://127.0.0.1:{port}/").read() == b"Hello, World!"
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"{name} does not serve:\n" + (root / "error.log").read_text())
                time.sleep(0.05)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def hello(self):
        """Requests per second."""
        command = ["wrk", f"-c{CONNECTIONS}", "-t1", f"-d{SECONDS}s", f"http://127.0.0.1:{self.port}/"]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        if "Non-2xx" in output:
            sys.exit(f"not every request of {self.name} was answered well:\n{output}")
        return float(re.search(r"Requests/sec:\s+([\d.]+)", output).group(1))

    def stall(self):
        """Clients that have read the beginning of a download and then stop."""
        clients = []
        for _ in range(CLIENTS):
            client = socket.create_connection(("127.0.0.1", self.port))
            # As large as it is at first, and no larger.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            client.settimeout(2)
            read = b""
            try:
                while len(read) < READ:
                    read += client.recv(READ - len(read))
            except TimeoutError:
                pass  # nobody has time for it, which is what this is about
            clients.append((client, read))
        return clients


def other_modules():
    apxs = [os.environ["MANIFOLD_APXS"], "-q", "LIBEXECDIR"]
    folder = subprocess.run(apxs, capture_output=True, text=True).stdout.strip()
    built_in = subprocess.run([os.environ["MANIFOLD_HTTPD"], "-l"], capture_output=True, text=True).stdout
    for name in ("mpm_event", "unixd", "authz_core"):
        if f"{name.removeprefix('mpm_')}.c" not in built_in:
            yield f'LoadModule {name}_module "{folder}/mod_{name}.so"'


def read_on(clients):
    """How many of the bodies arrive whole and right."""
    body = (bytes(range(251)) * (SIZE // 251 + 1))[:SIZE]
    right = 0
    for client, read in clients:
        client.settimeout(60)
        while block := client.recv(1 << 20):
            read += block
        right += read.partition(b"\r\n\r\n")[2] == body
        client.close()
    return right


def measure(servers, rounds):
    for number in range(rounds + 1):
        for server in servers:
            print(f"\rround {number} of {rounds}: {server.name:14}", end="", file=sys.stderr, flush=True)
            alone = server.hello()
            clients = server.stall()
            beside = server.hello()
            right = read_on(clients)
            if right != CLIENTS:
                sys.exit(f"{server.name}: only {right} of {CLIENTS} bodies were right")
            if number:  # the first round warms up
                server.rates["alone"].append(alone)
                server.rates["with"].append(beside)
    print(file=sys.stderr)
    print(f"{'':14}{'hello/s alone':>16}{f'with {CLIENTS} stalled':>18}   with / alone, median (least to most)")
    for server in servers:
        alone, beside = (statistics.median(server.rates[which]) for which in ("alone", "with"))
        ratios = [b / a for a, b in zip(server.rates["alone"], server.rates["with"])]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{server.name:14}{alone:16.0f}{beside:18.0f}   {ratio}")


main()
