"""The servers that are compared. Each serves a workload's script from the root of its own port."""

import dataclasses
import functools
import pathlib
import subprocess
from collections.abc import Callable

from harness import servers, settings
from harness.settings import ROOT, setting

APPS = ROOT / "benches/apps"
THREADS = 16  # of a server of its own, one for each connection


@dataclasses.dataclass(frozen=True)
class Peer:
    """`count` is how many interpreters or processes run Python."""

    name: str
    title: str
    run: Callable
    lacks: Callable = lambda: None  # what is missing here, in words
    count: int = 1

    def start(self, workload, count=None):
        """Starts it; `wait` says when it serves."""
        return self.run(self.name, workload, count or self.count)


def all_peers():
    """By name, in the order in which they run and are shown."""
    wsgi, proxied = _lacks("mod_wsgi-express"), ("proxy", "proxy_http")
    peers = [
        Peer("null", "handler without Python", _null, _lacks_null),
        Peer("static", "httpd's static file", _static),
        Peer("manifold", "mod_manifold", _manifold),
        Peer("manifold-2", "mod_manifold, 2 replicas", _manifold, count=2),
        Peer("manifold-daemon", "mod_manifold, process group 1×15", _manifold_daemon),
        Peer("manifold-daemon-2", "mod_manifold, process group 2×15", _manifold_daemon, count=2),
        Peer("mod_wsgi", "mod_wsgi", _mod_wsgi, wsgi),
        Peer("mod_wsgi-own-gil", "mod_wsgi, own GIL", _mod_wsgi_own_gil, wsgi),
        Peer("mod_wsgi-spread", "mod_wsgi, own GIL, spread over 2 interpreters", _mod_wsgi_spread, wsgi, 2),
        Peer("mod_wsgi-daemon", "mod_wsgi, daemon 1×15", _mod_wsgi_daemon, wsgi),
        Peer("mod_wsgi-daemon-2", "mod_wsgi, daemon 2×15", _mod_wsgi_daemon, wsgi, 2),
        Peer("gunicorn", "gunicorn gthread behind mod_proxy_http", _gunicorn, _lacks("gunicorn", *proxied)),
        Peer("granian", "granian behind mod_proxy_http", _granian, _lacks("granian", *proxied)),
        Peer("granian-alone", "granian alone", _granian_alone, _lacks("granian")),
        Peer("uwsgi", "uwsgi behind mod_proxy_uwsgi", _uwsgi, _lacks("uwsgi", "proxy", "proxy_uwsgi")),
    ]
    return {peer.name: peer for peer in peers}


# --- inside httpd --------------------------------------------------------------------------------


def _httpd(name, workload, more, modules=()):
    files = {workload.script: (APPS / workload.script).read_bytes(), **workload.files}
    return servers.Httpd(name, f"{more}\n{workload.more}", files, modules, workload.threads)


def _null(name, workload, count):
    """At the place of the script: what httpd does to find a file is not Python's cost."""
    load = f'LoadModule null_module "{_null_module()}"\nSetHandler null-handler'
    place = f'AliasMatch ^(/.*)$ "{{root}}/{workload.script}$1"'
    return _httpd(name, workload, f"{load}\n{place}", ("alias",))


def _static(name, workload, count):
    return _httpd(name, workload, workload.static)


def _manifold(name, workload, count):
    replicas = f"WSGIReplicas {count}" if count > 1 else ""
    return _wsgi(name, workload, servers.manifold(_home()), replicas)


def _manifold_daemon(name, workload, count):
    return _wsgi(name, workload, servers.manifold(_home()), daemon=count)


def _mod_wsgi(name, workload, count, more=""):
    return _wsgi(name, workload, servers.load_wsgi(_mod_wsgi_module(), _home()), more)


def _mod_wsgi_own_gil(name, workload, count):
    return _mod_wsgi(name, workload, count, "WSGIPerInterpreterGIL On")


def _mod_wsgi_spread(name, workload, count):
    more = 'WSGIPerInterpreterGIL On\n<Directory "{root}">\nWSGIDispatchScript "{root}/dispatch.py"\n</Directory>'
    files = {"dispatch.py": (APPS / "dispatch.py").read_bytes(), **workload.files}
    return _mod_wsgi(name, dataclasses.replace(workload, files=files), count, more)


def _mod_wsgi_daemon(name, workload, count):
    return _wsgi(name, workload, servers.load_wsgi(_mod_wsgi_module(), _home()), daemon=count)


def _wsgi(name, workload, load, more="", daemon=0):
    """The same configuration for both modules: they differ in what is loaded."""
    if daemon:
        more += f'\nWSGISocketPrefix "{{root}}/wsgi"\nWSGIDaemonProcess bench processes={daemon} threads=15'
        more += "\nWSGIProcessGroup bench"
    # With both groups named a script is loaded before the first request.
    groups = f" process-group={'bench' if daemon else '%{GLOBAL}'} application-group=bench" if workload.preload else ""
    script = f'"{{root}}/{workload.script}"'
    more += f"\nWSGIScriptAlias /other {script}\nWSGIScriptAlias / {script}{groups}"
    return _httpd(name, workload, f"{load}\n{more}")


# --- servers of their own ------------------------------------------------------------------------


def _gunicorn(name, workload, count):
    return _behind_proxy(name, workload, "http", _gunicorn_command)


def _granian(name, workload, count):
    return _behind_proxy(name, workload, "http", _granian_command)


def _uwsgi(name, workload, count):
    return _behind_proxy(name, workload, "uwsgi", _uwsgi_command)


def _granian_alone(name, workload, count):
    server = servers.Server(name)
    server.write({workload.script: (APPS / workload.script).read_bytes(), **workload.files})
    server.start(*_granian_command(server.root, server.port, workload))
    return server


def _behind_proxy(name, workload, scheme, command):
    held = servers.held_port()
    port = held.getsockname()[1]
    proxy = f"ProxyPass / {scheme}://127.0.0.1:{port}/ ttl=60"
    server = _httpd(name, workload, proxy, ("proxy", f"proxy_{scheme}"))
    server.start(*command(server.root, server.hold(held), workload))
    # Those started last are stopped first, and httpd keeps connections to the other one.
    server.processes.reverse()
    return server


def _gunicorn_command(root, port, workload):
    command = [_program("gunicorn"), "--bind", f"127.0.0.1:{port}", "--worker-class", "gthread", "--workers", "1"]
    command += ["--threads", THREADS, "--keep-alive", "75", "--log-level", "error", "--chdir", root]
    return [*command, f"{workload.module}:application"]


def _granian_command(root, port, workload):
    command = [_program("granian"), "--interface", "wsgi", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
    command += ["--blocking-threads", THREADS, "--no-ws", "--log-level", "error", "--working-dir", root]
    return [*command, f"{workload.module}:application"]


def _uwsgi_command(root, port, workload):
    command = [_program("uwsgi"), "--socket", f"127.0.0.1:{port}", "--master", "--processes", "1"]
    command += ["--threads", THREADS, "--disable-logging", "--die-on-term", "--need-app", "--chdir", root]
    return [*command, "--wsgi-file", workload.script]


# --- where they are ------------------------------------------------------------------------------


def _home():
    """The virtual environment that all of them use."""
    return pathlib.Path(setting("PEERS_VENV"))


def _program(name):
    return _home() / "bin" / name


def _null_module():
    return pathlib.Path(setting("MODULE")).with_name("libnull_handler.so")


def _lacks_null():
    return None if _null_module().exists() else f"there is no {_null_module()}"


@functools.cache
def _mod_wsgi_module():
    command = [_program("mod_wsgi-express"), "module-location"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _lacks(program, *modules):
    def lacks():
        if not _program(program).exists():
            return _why_not_installed(program)
        for module in modules:
            line = settings.load_module(module)
            if line and not pathlib.Path(line.split('"')[1]).exists():
                return f"httpd has no mod_{module}"
        return None

    return lacks


def _why_not_installed(program):
    package = program.removesuffix("-express").lower()
    reasons = _home() / "unavailable"
    for line in reasons.read_text().splitlines() if reasons.exists() else ():
        name, _, reason = line.partition(": ")
        if name.partition("==")[0].lower() == package:
            return f"{name} could not be installed: {reason}"
    return "it is not installed; scripts/bench without --quick does that"
