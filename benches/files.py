"""A file of 1 MB through wsgi.file_wrapper beside httpd's own of the same bytes, interleaved.

    . target/manifold.env && "$MANIFOLD_PYTHON" benches/files.py [ROUNDS]

One httpd serves all; wrk (Debian: apt-get install wrk) asks for each in turn, ROUNDS times (default
7). Two pairs: httpd's defaults beside WSGIEnableSendfile Off, and both with the kernel's sendfile.
Printed for each: requests per second, and CPU time of httpd's child for each. Quote the ratios:
machines differ, and are noisy.
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

CONNECTIONS, SECONDS, PORT, SIZE = 16, 3, 18322, 1 << 20
APPLICATION = """
def handle_request(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return environ["wsgi.file_wrapper"](open("{root}/plain/file.bin", "rb"))
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
WSGIHandlerScript files "{root}/files.wsgi" application-group=files
<Directory "{root}">
    Require all granted
</Directory>
<Directory "{root}/kernel">
    EnableSendfile On
</Directory>
<Location /wrapper>
    SetHandler files
</Location>
<Location /wrapper/kernel>
    WSGIEnableSendfile On
</Location>
"""
PAIRS = {"as configured": ("plain/file.bin", "wrapper"), "sendfile": ("kernel/file.bin", "wrapper/kernel")}


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
    content = os.urandom(SIZE)
    for folder in ("plain", "kernel"):
        (root / folder).mkdir(mode=0o755)
        (root / folder / "file.bin").write_bytes(content)
    (root / "files.wsgi").write_text(APPLICATION.format(root=root))
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
    for path in (path for pair in PAIRS.values() for path in pair):
        while True:
            try:
                answer = urllib.request.urlopen(f"http://127.0.0.1:{PORT}/{path}").read()
                assert answer == content, f"/{path} is not the file"
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"httpd does not serve /{path}:\n" + (root / "error.log").read_text())
                time.sleep(0.05)
    return server


def child_of(parent):
    return int(pathlib.Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0])


def spent(child):
    """Seconds of CPU of all threads of a process."""
    fields = pathlib.Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(child, path):
    cpu = spent(child)
    command = ["wrk", f"-c{CONNECTIONS}", "-t1", f"-d{SECONDS}s", f"http://127.0.0.1:{PORT}/{path}"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        sys.exit(f"not every request of /{path} was answered:\n{output}")
    requests = int(re.search(r"(\d+) requests in", output).group(1))
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", output).group(1))
    return rate, (spent(child) - cpu) / requests * 1e6


def measure(child, rounds):
    paths = [path for pair in PAIRS.values() for path in pair]
    results = {path: [] for path in paths}
    for number in range(rounds + 1):
        for path in paths:
            print(f"\rround {number} of {rounds}: {path:16}", end="", file=sys.stderr, flush=True)
            result = load(child, path)
            if number:  # the first round warms up
                results[path].append(result)
    print(file=sys.stderr)
    print(f"{'':16}{'requests/s':>12}{'CPU µs each':>14}")
    for path in paths:
        rate, cpu = (statistics.median(column) for column in zip(*results[path]))
        print(f"{path:16}{rate:12.0f}{cpu:14.1f}")
    for name, (static, wrapper) in PAIRS.items():
        ratios = [
            [ours / theirs for ours, theirs in zip(*both)]
            for both in zip(results[wrapper], results[static])
        ]
        rate, cpu = (
            f"{statistics.median(column):.2f} ({min(column):.2f} to {max(column):.2f})"
            for column in zip(*ratios)
        )
        print(f"wrapper / static, {name}, median (least to most): rate {rate}, CPU {cpu}")


main()
