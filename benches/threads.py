"""How the threads and replicas of an interpreter share its GIL, beside a plain pool of threads.

    . target/manifold.env && "$MANIFOLD_PYTHON" benches/threads.py [ROUNDS [CASE...]]

One application, served by httpd with this module under several settings and by gunicorn's gthread
worker (a plain pool of 16 threads in one interpreter; from PyPI, installed into a virtual environment
below MANIFOLD_CACHE or the temporary folder). Each case runs in all of them in turn, ROUNDS times
(default 3), SECONDS each, with 16 keep-alive connections:

    hello    answers at once
    sleep    sleeps for 20 ms: how much later than that is the answer?
    cpu      computes for 20 ms of CPU time: how many cores does the server use?
    mix      95 % hello and 5 % that compute for 50 ms: what is the hello's 99th percentile?
    groups   two application groups that compute, 8 connections each

Printed: medians over the rounds. The load comes from benches/load.rs. Machines differ, and are noisy:
compare columns of one run.
"""

import json
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

SECONDS, PORT, CONNECTIONS = 4, 18330, 16
ROOT = pathlib.Path(__file__).resolve().parent.parent
APPLICATION = """
import time

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path.endswith("/sleep"):
        time.sleep(0.02)
    elif path.endswith("/cpu"):
        compute(0.02)
    elif path.endswith("/long"):
        compute(0.05)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "6")])
    return [b"hello\\n"]

def compute(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(200))

handle_request = application
"""
CONFIGURATION = """
ServerRoot "{root}"
DefaultRuntimeDir "{root}"
PidFile "{root}/{name}.pid"
ServerName localhost
Listen 127.0.0.1:{port}
{modules}
LoadModule wsgi_module "{module}"
{user}
ErrorLog "{root}/{name}.log"
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
WSGIScriptAlias /other "{root}/app.wsgi" application-group=other process-group=%{{GLOBAL}}
WSGIScriptAlias / "{root}/app.wsgi" application-group=app process-group=%{{GLOBAL}}
{more}
<Directory "{root}">
    Require all granted
</Directory>
"""
SETTINGS = {
    "1 thread": "WSGIInterpreterThreads 1",
    "25 threads": "",
    "2 replicas": "WSGIReplicas 2",
}
GUNICORN = "gunicorn"
# What the load generators ask for, which share the connections.
CASES = {
    "hello": [["/"]],
    "sleep": [["/sleep"]],
    "cpu": [["/cpu"]],
    "mix": [["/=95", "/long=5"]],
    "groups": [["/cpu"], ["/other/cpu"]],
}


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    cases = sys.argv[2:] or list(CASES)
    build = ["cargo", "bench", "--no-run", "--bench", "load", "--message-format=json"]
    built = subprocess.run(build, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    load = next(
        message["executable"]
        for message in map(json.loads, built.splitlines())
        if message.get("executable") and message["target"]["name"] == "load"
    )
    with tempfile.TemporaryDirectory(prefix="manifold-bench-") as folder:
        os.chmod(folder, 0o755)
        root = pathlib.Path(folder)
        (root / "app.wsgi").write_text(APPLICATION)
        shutil.copy(root / "app.wsgi", root / "app.py")
        servers = {}
        try:
            for place, (name, more) in enumerate(SETTINGS.items()):
                servers[name] = start_httpd(root, name, PORT + place, more)
            servers[GUNICORN] = start_gunicorn(root, PORT + len(SETTINGS))
            measure(load, servers, rounds, cases)
        finally:
            for server, _, _ in servers.values():
                server.send_signal(signal.SIGTERM)
                server.wait()


def start_httpd(root, name, port, more):
    folder = subprocess.run(
        [os.environ["MANIFOLD_APXS"], "-q", "LIBEXECDIR"], capture_output=True, text=True
    ).stdout.strip()
    httpd = os.environ["MANIFOLD_HTTPD"]
    built_in = subprocess.run([httpd, "-l"], capture_output=True, text=True).stdout
    modules = [
        f'LoadModule {module}_module "{folder}/mod_{module}.so"'
        for module in ("mpm_event", "unixd", "authz_core")
        if f"{module.removeprefix('mpm_')}.c" not in built_in
    ]
    user, name = os.environ.get("MANIFOLD_USER"), name.replace(" ", "-")
    configuration = root / f"{name}.conf"
    configuration.write_text(
        CONFIGURATION.format(
            root=root,
            name=name,
            port=port,
            modules="\n".join(modules),
            module=os.environ["MANIFOLD_MODULE"],
            user=f"User {user}" if user else "",
            home=os.environ["MANIFOLD_PYTHON_HOME"],
            more=more,
        )
    )
    server = subprocess.Popen([httpd, "-f", configuration, "-D", "FOREGROUND"])
    wait_for(server, port)
    children = f"/proc/{server.pid}/task/{server.pid}/children"
    return server, port, int(pathlib.Path(children).read_text().split()[0])


def start_gunicorn(root, port):
    cache = pathlib.Path(os.environ.get("MANIFOLD_CACHE", tempfile.gettempdir()))
    venv = cache / f"manifold-bench-venv-{os.environ['MANIFOLD_PYTHON_VERSION']}"
    python = venv / "bin" / "python"
    if not (venv / "complete").exists():
        subprocess.run([os.environ["MANIFOLD_PYTHON"], "-m", "venv", "--clear", venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "gunicorn==23.0.0"], check=True)
        (venv / "complete").touch()
    options = ["-b", f"127.0.0.1:{port}", "-k", "gthread", "--threads", "16", "--log-level", "error"]
    options += ["--keep-alive", "60", "--chdir", root]
    server = subprocess.Popen([python, "-m", "gunicorn", *options, "app:application"])
    wait_for(server, port)
    children = f"/proc/{server.pid}/task/{server.pid}/children"
    return server, port, int(pathlib.Path(children).read_text().split()[0])


def wait_for(server, port):
    deadline = time.monotonic() + 20
    for path in ("/", "/other/"):
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{path}").read()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > deadline:
                    sys.exit("a server does not serve")
                time.sleep(0.05)


def spent(pid):
    """Seconds of CPU of all threads of a process."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def switches(pid):
    """Context switches of all threads of a process."""
    texts = (task.joinpath("status").read_text() for task in pathlib.Path(f"/proc/{pid}/task").iterdir())
    return sum(int(number) for text in texts for number in re.findall(r"_switches:\s+(\d+)", text))


def run(load, port, pid, loads):
    cpu, switched, began = spent(pid), switches(pid), time.monotonic()
    command = [load, f"127.0.0.1:{port}", str(CONNECTIONS // len(loads)), str(SECONDS)]
    clients = [subprocess.Popen(command + paths, stdout=subprocess.PIPE, text=True) for paths in loads]
    lines = [line for client in clients for line in client.communicate()[0].splitlines()]
    if any(client.returncode for client in clients):
        sys.exit("the load generator failed")
    results = [json.loads(line) for line in lines]
    wall, answers = time.monotonic() - began, sum(result["answers"] for result in results)
    first = results[0]
    return {
        "rate": answers / wall,
        "cores": (spent(pid) - cpu) / wall,
        "CPU µs": (spent(pid) - cpu) / answers * 1e6,
        "switches": (switches(pid) - switched) / answers,
        "p50 ms": first["p50"] / 1e3,
        "p99 ms": first["p99"] / 1e3,
    }


def measure(load, servers, rounds, cases):
    for case in cases:
        results = {name: [] for name in servers}
        for number in range(rounds + 1):
            for name, (_, port, pid) in servers.items():
                print(f"\r{case}: round {number} of {rounds}: {name:12}", end="", file=sys.stderr)
                result = run(load, port, pid, CASES[case])
                if number:  # the first round warms up
                    results[name].append(result)
        print(file=sys.stderr)
        columns = list(results[GUNICORN][0])
        print(f"{case:12}" + "".join(f"{column:>12}" for column in columns))
        for name, rows in results.items():
            medians = [statistics.median(row[column] for row in rows) for column in columns]
            print(f"{name:12}" + "".join(f"{median:12.2f}" for median in medians), flush=True)


main()
