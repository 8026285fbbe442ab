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
import subprocess
import sys
import time

from harness import servers, settings
from harness.figures import median
from harness.progress import Progress

SECONDS, CONNECTIONS = 4, 16
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
WSGIScriptAlias /other "{root}/app.wsgi" application-group=other process-group=%{GLOBAL}
WSGIScriptAlias / "{root}/app.wsgi" application-group=app process-group=%{GLOBAL}
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
    load = build_load()
    under = []
    try:
        for name, more in SETTINGS.items():
            under.append(start_httpd(name, more))
        under.append(start_gunicorn())
        for server in under:
            server.wait("/", b"hello\n")
            server.wait("/other/", b"hello\n")
        measure(load, under, rounds, cases)
    finally:
        for server in under:
            server.stop()


def build_load():
    build = ["cargo", "bench", "--no-run", "--bench", "load", "--message-format=json"]
    built = subprocess.run(build, cwd=settings.ROOT, check=True, capture_output=True, text=True).stdout
    return next(
        message["executable"]
        for message in map(json.loads, built.splitlines())
        if message.get("executable") and message["target"]["name"] == "load"
    )


def start_httpd(name, more):
    more = servers.manifold() + CONFIGURATION + more
    return servers.Httpd(name, more, files={"app.wsgi": APPLICATION})


def start_gunicorn():
    venv = settings.virtual_environment("manifold-bench-venv", "gunicorn==23.0.0")
    server = servers.Server(GUNICORN)
    server.write({"app.py": APPLICATION})
    options = ["-b", f"127.0.0.1:{server.port}", "-k", "gthread", "--threads", "16", "--log-level", "error"]
    options += ["--keep-alive", "60", "--chdir", server.root]
    server.start(venv / "bin" / "python", "-m", "gunicorn", *options, "app:application")
    return server


def run(load, server, loads):
    before, began = server.spent(), time.monotonic()
    command = [load, f"127.0.0.1:{server.port}", str(CONNECTIONS // len(loads)), str(SECONDS)]
    clients = [subprocess.Popen(command + paths, stdout=subprocess.PIPE, text=True) for paths in loads]
    lines = [line for client in clients for line in client.communicate()[0].splitlines()]
    if any(client.returncode for client in clients):
        sys.exit("the load generator failed")
    results = [json.loads(line) for line in lines]
    wall, spent = time.monotonic() - began, server.spent() - before
    answers = sum(result["answers"] for result in results)
    first = results[0]
    return {
        "rate": answers / wall,
        "cores": spent.cpu / wall,
        "CPU µs": spent.cpu / answers * 1e6,
        "switches": spent.switches / answers,
        "p50 ms": first["p50"] / 1e3,
        "p99 ms": first["p99"] / 1e3,
    }


def measure(load, under, rounds, cases):
    progress = Progress(len(cases) * (rounds + 1) * len(under))
    for case in cases:
        results = {server.name: [] for server in under}
        for number in range(rounds + 1):
            for server in under:
                progress.now(f"{case}: round {number} of {rounds}: {server.name}")
                result = run(load, server, CASES[case])
                progress.step()
                if number:  # the first round warms up
                    results[server.name].append(result)
        progress.clear()
        columns = list(results[GUNICORN][0])
        print(f"{case:12}" + "".join(f"{column:>12}" for column in columns))
        for name, rows in results.items():
            medians = [median(row[column] for row in rows) for column in columns]
            print(f"{name:12}" + "".join(f"{number:12.2f}" for number in medians), flush=True)


main()
