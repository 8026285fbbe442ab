"""What WSGIRestrictStdin, WSGIRestrictStdout and WSGIRestrictSignal take from applications."""

import os
import sys

import _signal


class RestrictedStream:
    """A standard stream that raises OSError whatever is done with it.

    It counts as closed, so that the end of an interpreter does not try to flush it.
    """

    closed = True

    def __init__(self, name, directive):
        self.__dict__["_refusal"] = (
            f"sys.{name} is restricted by {directive}: a web application has no {name} of its own"
        )

    def __getattr__(self, name):
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        self._refuse()

    def __setattr__(self, name, value):
        self._refuse()

    def __iter__(self):
        self._refuse()

    def __next__(self):
        self._refuse()

    def __enter__(self):
        self._refuse()

    def __exit__(self, *exception):
        self._refuse()

    def _refuse(self):
        raise OSError(self._refusal)


def restrict_stdin():
    """Replaces sys.stdin."""
    sys.stdin = sys.__stdin__ = RestrictedStream("stdin", "WSGIRestrictStdin")


def restrict_stdout():
    """Replaces sys.stdout."""
    sys.stdout = sys.__stdout__ = RestrictedStream("stdout", "WSGIRestrictStdout")


def restrict_signal(log, kind):
    """Has registrations of signal handlers ignored: signals of a process of this kind are the server's.

    signal.signal() of the standard library calls what is replaced here, whenever it is imported.
    """
    register, process = _signal.signal, os.getpid()

    def signal(signalnum, handler, /):
        if os.getpid() != process:  # programs that were forked from here have signals of their own
            return register(signalnum, handler)
        frame = sys._getframe(1)
        if frame.f_globals.get("__name__") == "signal" and frame.f_back is not None:
            frame = frame.f_back
        import traceback  # here, since it costs every interpreter more than all else in this file

        stack = "".join(traceback.format_stack(frame)).rstrip()
        log(
            f"a handler for signal {int(signalnum)} was not registered (WSGIRestrictSignal): "
            f"signals of this {kind} belong to the server\n{stack}"
        )
        return handler

    signal.__doc__ = register.__doc__
    _signal.signal = signal
