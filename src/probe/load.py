"""Loads one extension module by its file, in an interpreter of a probe; run once in each."""

import importlib.machinery
import importlib.util
import os
import sys


class NoRelatives:
    """Refuses to find what the package of the module has beside it.

    Parent packages are code of an application as often as not, and may do anything when they run.
    """

    def __init__(self, name):
        self.name, self.package = name, name.partition(".")[0]

    def find_spec(self, name, path=None, target=None):
        if name != self.name and name.partition(".")[0] == self.package:
            raise ModuleNotFoundError(f"{name} is not imported by a probe", name=name)
        return None


def load(name, path, search):
    """Returns None where the module loads, else what was raised: is it refused, and the text."""
    path = os.fsdecode(path)
    sys.path[:] = map(os.fsdecode, search)
    sys.meta_path.insert(0, NoRelatives(name))
    loader = importlib.machinery.ExtensionFileLoader(name, path)
    try:
        spec = importlib.util.spec_from_file_location(name, path, loader=loader)
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
    except ImportError as error:
        refusal = f"module {name} does not support loading in subinterpreters"
        return str(error) == refusal, f"{type(error).__name__}: {error}"
    except BaseException as error:
        return False, f"{type(error).__name__}: {error}"
    return None
