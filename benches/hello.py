"""Hello world through mod_manifold beside a static file of the same size, in one interleaved run.

    . target/manifold.env && "$MANIFOLD_PYTHON" benches/hello.py [ROUNDS]

One httpd serves both; wrk (Debian: apt-get install wrk) asks for one and then the other, ROUNDS
times (default 7). Printed for each: requests per second, and what httpd's child spent on each
request, CPU time and context switches. Quote the ratios: machines differ, and are noisy.
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

CONNECTIONS, SECONDS, PORT = 16, 4, 18321
BODY = "Hello, World!"
APPLICATION = f"""
def handle_request(environ, start_response):
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
DocumentRoot "{root}"
StartServers 1
ServerLimit 1
ThreadsPerChild 25
MaxRequestWorkers 25
MinSpareThreads 1
MaxSpareThreads 25
MaxKeepAliveRequests 0
WSGIPythonHome "{home}"
WSGIHandlerScript hello "{root}/hello.wsgi" application-group=hello
<Directory "{root}">
    Require all granted
</Directory>
<Location /hello>
    SetHandler hello
</Location>
"""


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing (Debian and Ubuntu: apt-get install wrk)")
    with tempfile.TemporaryDirectory(prefix="manifold-bench-") as root:
        os.chmod(root, 0o755)
        server = start(pathlib.Path(root))
        try:
            measure(child_of(server.pid), rounds)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()


def start(root):
    (root / "static.txt").write_text(BODY)
    (root / "hello.wsgi").write_text(APPLICATION)
    folder = subprocess.run(
        [os.environ["MANIFOLD_APXS"], "-q", "LIBEXECDIR"], capture_output=True, text=True
    ).stdout.strip()
    httpd = os.environ["MANIFOLD_HTTPD"]
    built_in = subprocess.run([httpd, "-l"], capture_output=True, text=True).stdout
    modules = [
        f'LoadModule {name}_module "{folder}/mod_{name}.so"'
        for name in ("mpm_event", "unixd", "authz_core")
        if f"{name.removeprefix('mpm_')}.c" not in built_in
    ]
    user = os.environ.get("MANIFOLD_USER")
    (root / "httpd.conf").write_text(
        CONFIGURATION.format(
            root=root,
            port=PORT,
            modules="\n".join(modules),
            module=os.environ["MANIFOLD_MODULE"],
            user=f"User {user}" if user else "",
            home=os.environ["MANIFOLD_PYTHON_HOME"],
        )
    )
    server = subprocess.Popen([httpd, "-f", root / "httpd.conf", "-D", "FOREGROUND"])
    deadline = time.monotonic() + 20
    for path in ("static.txt", "hello"):
        while True:
            try:
                answer = urllib.request.urlopen(f"http://127.0.0.1:{PORT}/{path}").read()
                assert answer == BODY.encode(), answer
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"httpd does not serve /{path}:\n" + (root / "error.log").read_text())
                time.sleep(0.05)
    return server


def child_of(parent):
    return int(pathlib.Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0])


def spent(child):
    """Seconds of CPU, and context switches, of all threads of a process."""
    fields = pathlib.Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    switches = 0
    for status in pathlib.Path(f"/proc/{child}/task").glob("*/status"):
        switches += sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", status.read_text())))
    return cpu, switches


def load(child, path):
    cpu, switches = spent(child)
    command = ["wrk", f"-c{CONNECTIONS}", "-t1", f"-d{SECONDS}s", f"http://127.0.0.1:{PORT}/{path}"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        sys.exit(f"not every request of /{path} was answered:\n{output}")
    requests = int(re.search(r"(\d+) requests in", output).group(1))
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", output).group(1))
    after = spent(child)
    return rate, (after[0] - cpu) / requests * 1e6, (after[1] - switches) / requests


def measure(child, rounds):
    paths = ("static.txt", "hello")
    results = {path: [] for path in paths}
    for number in range(rounds + 1):
        for path in paths:
            print(f"\rround {number} of {rounds}: {path:12}", end="", file=sys.stderr, flush=True)
            result = load(child, path)
            if number:  # the first round warms up
                results[path].append(result)
    print(file=sys.stderr)
    print(f"{'':12}{'requests/s':>12}{'CPU µs each':>14}{'switches each':>15}")
    for path in paths:
        rate, cpu, switches = (statistics.median(column) for column in zip(*results[path]))
        print(f"{path:12}{rate:12.0f}{cpu:14.1f}{switches:15.2f}")
    pairs = [
        [hello / static for hello, static in zip(*both)]
        for both in zip(results["hello"], results["static.txt"])
    ]
    rate, cpu, switches = (
        f"{statistics.median(column):.2f} ({min(column):.2f} to {max(column):.2f})"
        for column in zip(*pairs)
    )
    print(f"hello / static, median (least to most): rate {rate}, CPU {cpu}, switches {switches}")


main()
