"""Load from wrk, with every response checked.

A script in wrk looks at the status and the length of each response. Large bodies it would have to copy,
which takes more time than the server does; of these only each one's status is looked at, and that all
that was read is as much as so many bodies are. wrk itself fails where a body is not as long as its head
or its chunks say.
"""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

from .settings import ROOT

SCRIPT = ROOT / "benches/harness/wrk.lua"
CONNECTIONS = 16
LARGE = 100_000  # bytes
# What heads and chunks may add to a large body, as a part of it.
FRAMING = 0.02


class Failed(Exception):
    """Responses that were not as they have to be."""


@dataclasses.dataclass(frozen=True)
class Load:
    """What wrk saw, and what it took itself."""

    requests: int
    seconds: float
    cpu: float  # seconds
    p50: float  # milliseconds
    p90: float
    p99: float
    closed: int  # connections that the server closed between two responses, or within one

    @property
    def rate(self):
        return self.requests / self.seconds


def require_wrk():
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing (Debian and Ubuntu: apt-get install wrk)")


class Wrk:
    """wrk at work. Each response is to be 200 with so many bytes; `request` holds options of wrk.lua.

    Connections are to stay open, unless they `may_close`: wrk does not tell one that is closed while its
    next request is on the way from one that is closed in the middle of a response. And they are to be
    answered in time, unless they `may_starve`.
    """

    def __init__(self, server, path, length, seconds, connections=CONNECTIONS, *, may_close=False,
                 may_starve=False, **request):
        self.may_close, self.may_starve = may_close, may_starve
        self.what = f"{server.name}, {path}"
        self.length, self.connections = length, connections
        if length <= LARGE:
            request["lengths"] = length
        command = ["wrk", f"-c{connections}", "-t1", f"-d{seconds}s", "--timeout", "10s", "-s", str(SCRIPT)]
        command += [server.url(path), "--", *(f"{name}={value}" for name, value in request.items())]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def end(self):
        """Waits until its time is over."""
        with self.process.stdout as stdout:
            output = stdout.read()
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        lines = output.splitlines()
        if self.process.returncode != 0 or not lines or not lines[-1].startswith("{"):
            raise Failed(f"{self.what}: wrk has failed:\n{output}")
        seen = json.loads(lines[-1])
        self._check(seen)
        return Load(
            requests=seen["requests"],
            seconds=seen["microseconds"] / 1e6,
            cpu=usage.ru_utime + usage.ru_stime,
            p50=seen["p50"],
            p90=seen["p90"],
            p99=seen["p99"],
            closed=seen["broken"],
        )

    def stop(self):
        """Ends it early; what it saw does not count."""
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()

    def _check(self, seen):
        count = seen["requests"]
        faults = {
            "connections broke off": 0 if self.may_close else seen["broken"],
            "responses were late": 0 if self.may_starve else seen["late"],
            "responses had another status": seen["refused"],
            f"responses were wrong, such as {seen['example']}": seen["wrong"],
        }
        said = [f"{number} {fault}" for fault, number in faults.items() if number]
        if self.length > LARGE:
            # Those under way at the end have been read in part.
            most = (count + self.connections) * self.length * (1 + FRAMING)
            if not count * self.length <= seen["received"] <= most:
                said.append(f"{seen['received']} bytes were read, for {count} bodies of {self.length}")
        if not count and not self.may_starve:
            said.append("no response came")
        if said:
            raise Failed(f"{self.what}: of {count} responses: " + ", ".join(said))
