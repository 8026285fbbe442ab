"""Shows who the process is that serves it, where it is and what it may use: `key<TAB>repr(value)`."""

import locale
import os
import resource
import sys


def handle_request(environ, start_response):
    mask = os.umask(0)
    os.umask(mask)
    with open("/proc/self/cmdline", "rb") as command, open("/proc/self/status") as status:
        facts = {
            "users": os.getresuid(),
            "groups": (*os.getresgid(), *os.getgroups()),
            "capabilities": [line.split()[1] for line in status if line.startswith("CapEff")],
            "umask": oct(mask),
            "directory": os.getcwd(),
            "first": sys.path[0],
            "command": command.read().rstrip(b"\0"),
            "nice": os.getpriority(os.PRIO_PROCESS, 0),
            "cpu": resource.getrlimit(resource.RLIMIT_CPU),
            "data": resource.getrlimit(resource.RLIMIT_DATA),
            "locale": locale.setlocale(locale.LC_ALL),
            "environment": {name: os.environ.get(name) for name in ("HOME", "LANG", "LC_ALL")},
        }
    body = "".join(f"{key}\t{value!r}\n" for key, value in facts.items()).encode()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body]
