"""Where pip has put mod_manifold: the module, the worker program, and the command."""

import importlib.metadata
import os

__all__ = ["command", "module", "worker"]


def module():
    """The path of the module, for LoadModule."""
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "mod_manifold.so")


def worker():
    """The path of manifold-worker, beside it."""
    return os.path.join(os.path.dirname(module()), "manifold-worker")


def command():
    """The path of the program manifold, whose place depends on how pip was called."""
    for file in importlib.metadata.files("mod_manifold") or ():
        if file.parts[-2:] == ("bin", "manifold"):
            path = os.path.abspath(file.locate())
            if os.access(path, os.X_OK):
                return path
    raise FileNotFoundError("the program manifold is not where pip has put it: install mod_manifold again")
