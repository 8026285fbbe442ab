"""Prepares an interpreter for applications; run once in each, before any script."""

import atexit
import collections.abc
import importlib.machinery
import io
import os
import site
import sys
import threading
import time
import types


class FileWrapper:
    """wsgi.file_wrapper: iterates over a file in blocks (PEP 3333)."""

    def __init__(self, filelike, blksize=8192):
        if blksize < 0:
            raise ValueError("blksize must not be negative")
        self.filelike = filelike
        self.blksize = blksize

    def __iter__(self):
        return self

    def __next__(self):
        block = self.filelike.read(self.blksize)
        if not isinstance(block, bytes):
            raise TypeError(f"read() must return bytes, not {type(block).__name__}")
        if block:
            return block
        raise StopIteration

    def close(self):
        close = getattr(self.filelike, "close", None)
        if close is not None:
            try:
                close()
            except Exception:
                pass


def sendable_file(wrapper):
    """Finds the file that a FileWrapper stands for.

    Returns its descriptor and the position to send from, or None where the wrapper has to be
    iterated, because what read() returns is not, or not surely, what the descriptor holds.
    """
    kind = type(wrapper)
    if kind.__iter__ is not FileWrapper.__iter__ or kind.__next__ is not FileWrapper.__next__:
        return None
    try:
        filelike = wrapper.filelike
        # What tempfile and Django put around a file has it as an attribute.
        inner = filelike
        for _ in range(4):
            if isinstance(inner, io.IOBase) or not hasattr(inner, "file"):
                break
            inner = inner.file
        if isinstance(inner, io.IOBase) and not _is_plain(inner):
            return None
        if isinstance(inner, io.BufferedRandom):
            inner.flush()  # what was written and is still in Python's buffer
        descriptor, position = filelike.fileno(), filelike.tell()
        return (descriptor, position) if isinstance(filelike.read(0), bytes) else None
    except Exception:
        return None


def _is_plain(filelike):
    """Whether an io object's bytes are the descriptor's: gzip.open(), say, has a descriptor too."""
    if isinstance(filelike, (io.BufferedReader, io.BufferedRandom)):
        plain = type(filelike).read in (io.BufferedReader.read, io.BufferedRandom.read)
        return plain and type(filelike.raw) is io.FileIO
    return isinstance(filelike, io.FileIO) and type(filelike).read is io.FileIO.read


class RequestTimeout(BaseException):
    """Raised in an application whose request has taken too long."""


RequestTimeout.__module__ = "mod_wsgi"

# Functions of mod_wsgi that are loaded when a program asks for them.
METRICS = ("start_recording_metrics", "request_metrics", "process_metrics", "server_metrics")

# What the functions of this module and of the others ask of Rust; set by `prepare`.
host = None


class ActiveRequests(collections.abc.Mapping):
    """mod_wsgi.active_requests: the data of each request of this interpreter, by its id.

    Nobody keeps it up to date: each look asks what runs at that moment.
    """

    def __getitem__(self, request_id):
        return host.active_requests()[request_id]

    def __iter__(self):
        return iter(host.active_requests())

    def __len__(self):
        return len(host.active_requests())

    def __repr__(self):
        return repr(host.active_requests())


def prepare(asked, sources):
    """Loads the modules that others here are made of, from their texts by name."""
    global host
    host = asked
    events = _load("events", sources["events"])
    events.log = lambda level, text: host.log(level, text, None, 0)
    return events


def _load(name, source):
    """Runs the text of one of our own modules."""
    name = f"_mod_manifold_{name}"
    module = types.ModuleType(name)
    exec(compile(source, f"<{name}>", "exec"), module.__dict__)
    return sys.modules.setdefault(name, module)


def free_signals():
    """Has programs that applications start begin with no signal blocked.

    Our threads block them all, since signals are for the server, and a program inherits what the
    thread blocks that starts it: it would never see a SIGTERM. That they are let through for the
    moment of the start is safe where the main thread waits for them: the kernel prefers it.
    """
    import _posixsubprocess
    import _signal

    start = _posixsubprocess.fork_exec

    def fork_exec(*arguments):
        blocked = _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        try:
            return start(*arguments)
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, blocked)

    _posixsubprocess.fork_exec = fork_exec


def redirect(stream, keep_stdout):
    """Has the standard streams write to the error log."""
    io.TextIOBase.register(type(stream))
    sys.stderr = sys.__stderr__ = stream
    if not keep_stdout:
        sys.stdout = sys.__stdout__ = stream
    sys.argv = ["mod_wsgi"]


def provide_mod_wsgi(attributes, events, sources):
    """Registers the module `mod_wsgi`.

    Where there is a package of that name as well, its modules can be imported: `mod_wsgi.express`.
    """
    module = types.ModuleType("mod_wsgi", "What the server tells its applications.")
    module.FileWrapper = FileWrapper
    module.RequestTimeout = RequestTimeout
    events.reports_signals = bool(attributes["process_group"])
    module.request_data = host.request_data
    module.active_requests = ActiveRequests()
    for name in ("event_callbacks", "subscribe_events", "subscribe_shutdown", "subscribe_signals"):
        setattr(module, name, getattr(events, name))
    module.__dict__.update(attributes)

    def find(name):
        """What is looked for when it is needed first."""
        found = None
        if name == "LogHandler":
            found = _load("log_handler", sources["log_handler"]).LogHandler
        elif name in METRICS:
            found = getattr(_load("metrics", sources["metrics"]), name)
        elif name == "__path__":
            spec = importlib.machinery.PathFinder.find_spec("mod_wsgi")
            found = spec and spec.submodule_search_locations and list(spec.submodule_search_locations)
        if not found:
            raise AttributeError(f"module 'mod_wsgi' has no attribute {name!r}")
        return module.__dict__.setdefault(name, found)

    module.__getattr__ = find
    module.__dir__ = lambda: sorted({*module.__dict__, "LogHandler", *METRICS} - {"__getattr__", "__dir__"})
    sys.modules["mod_wsgi"] = module


def provide_apache(attributes):
    """Registers the module `apache`, or adds to one that applications have on sys.path."""
    module = None
    spec = importlib.machinery.PathFinder.find_spec("apache")
    if spec is not None and spec.loader is not None and spec.origin is not None:
        try:
            module = __import__("apache")
        except Exception as error:
            host.log(4, f"the module apache, {spec.origin}, is not used: {error!r}", None, 0)
    if module is None:
        module = types.ModuleType("apache", "What the server tells about itself.")
        sys.modules["apache"] = module
    module.__dict__.update(attributes)


def announce_exit(group, process_name):
    """Has os._exit() leave a line: it ends a whole process, named so, and every request in it."""
    really_exit, process = os._exit, os.getpid()

    def _exit(status):
        if os.getpid() == process:  # programs that were forked from here may end as they like
            now = time.strftime("%a %b %d %H:%M:%S %Y")
            line = (
                f"[{now}] [wsgi:crit] [pid {process}] MNF0023: os._exit({status!r}) was called in "
                f"application group '{group}'; it ends this {process_name} with every request in it, and "
                "httpd starts another. Raise an exception instead.\n"
            )
            try:
                # httpd's children have the error log as their standard error; nothing that goes
                # through another thread would be written in time.
                os.write(2, line.encode("utf-8", "backslashreplace"))
            except OSError:
                pass
        really_exit(status)

    os._exit = _exit


def add_python_path(paths):
    """Puts directories, and what their .pth files name, before everything on sys.path.

    Returns what is wrong with the first that cannot be added; those after it are not added.
    """
    front = []
    try:
        for path in paths:
            if not os.path.isdir(path):
                return f"'{path}' is not a directory that can be read"
            before = set(sys.path)
            site.addsitedir(path)
            front.append(site.makepath(path)[0])
            front.extend(entry for entry in sys.path if entry not in before)
    finally:
        front = list(dict.fromkeys(front))
        sys.path[:] = front + [entry for entry in sys.path if entry not in front]
    return None


def put_first(path):
    """Puts a directory before everything on sys.path, without what its .pth files name."""
    sys.path[:] = [path] + [entry for entry in sys.path if entry != path]


def frames(exception):
    """Formats a traceback without what exceptions say: that may hold a password."""
    import traceback  # only where something has failed

    lines, seen = [], set()
    while exception is not None and id(exception) not in seen:
        seen.add(id(exception))
        lines[:0] = [
            "Traceback (most recent call last):\n",
            *traceback.format_tb(exception.__traceback__),
            f"{type(exception).__name__} (what it says is left out: it may hold a password)\n",
        ]
        context = None if exception.__suppress_context__ else exception.__context__
        exception = exception.__cause__ or context
    return lines


def join_threads():
    """Waits for the threads that are no daemons, as a Python process does at its end."""
    threading._shutdown()


def run_exit_callbacks():
    """Calls what was registered with atexit, the last first."""
    atexit._run_exitfuncs()
