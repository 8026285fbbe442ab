"""Prepares an interpreter for applications; run once in each, before any script."""

import atexit
import importlib.util
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


class RequestTimeout(BaseException):
    """Raised in an application whose request has taken too long."""


def prepare(stream, attributes):
    """Redirects the standard streams and registers the `mod_wsgi` module."""
    sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = stream
    sys.argv = ["mod_wsgi"]
    spec = None
    try:
        spec = importlib.util.find_spec("mod_wsgi")
    except (ImportError, ValueError):
        pass
    module = types.ModuleType("mod_wsgi", "What mod_wsgi tells its applications.")
    if spec is not None and spec.submodule_search_locations:
        module.__path__ = list(spec.submodule_search_locations)
    module.FileWrapper = FileWrapper
    module.RequestTimeout = RequestTimeout
    module.__dict__.update(attributes)
    sys.modules["mod_wsgi"] = module


def announce_exit(group):
    """Has os._exit() leave a line: it ends a whole server process, and every request in it."""
    really_exit, process = os._exit, os.getpid()

    def _exit(status):
        if os.getpid() == process:  # programs that were forked from here may end as they like
            now = time.strftime("%a %b %d %H:%M:%S %Y")
            line = (
                f"[{now}] [wsgi:crit] [pid {process}] MNF0023: os._exit({status!r}) was called in "
                f"application group '{group}'; it ends this httpd child with every request in it, and "
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
