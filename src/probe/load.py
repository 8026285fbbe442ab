"""Loads one extension module by its file, in an interpreter of a probe; run once in each."""

import importlib.machinery
import importlib.util
import os
import sys
import types


class StandIns:
    """Finds a stand-in for what the package of the module has beside it.

    Parent packages are code of an application as often as not, and may do anything when they run.
    """

    def __init__(self, name):
        self.name, self.package = name, name.partition(".")[0]
        self.asked = []

    def find_spec(self, name, path=None, target=None):
        if name != self.name and name.partition(".")[0] == self.package:
            self.asked.append(name)
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__getattr__ = lambda name: self.make_attribute(module, name)
        return module

    def make_attribute(self, module, name):
        """A class, which can be called, raised and derived from."""
        if name.startswith("__"):
            raise AttributeError(name)
        return module.__dict__.setdefault(name, type(name, (Exception,), {}))

    def exec_module(self, module):
        pass


def prepare(name, search):
    """Has this interpreter find what one of the server's finds; returns the names of stand-ins."""
    sys.path[:] = map(os.fsdecode, search)
    stand_ins = StandIns(name)
    sys.meta_path.insert(0, stand_ins)
    return stand_ins.asked


def load(name, path):
    """Loads the module; returns what has become of it ("loaded", "refused", "raised"), and a text.

    The text is what was raised, or the names that the module has: some that were never meant for
    several interpreters load again with half of what they had.
    """
    path = os.fsdecode(path)
    loader = importlib.machinery.ExtensionFileLoader(name, path)
    try:
        spec = importlib.util.spec_from_file_location(name, path, loader=loader)
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
    except ImportError as error:
        refusal = f"module {name} does not support loading in subinterpreters"
        outcome = "refused" if str(error) == refusal else "raised"
        return outcome, f"{type(error).__name__}: {error}"
    except BaseException as error:
        return "raised", f"{type(error).__name__}: {error}"
    return "loaded", "\n".join(sorted(map(str, vars(module))))
