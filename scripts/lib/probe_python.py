"""probe_python.py OLDEST: may this Python be linked into httpd?

Prints "ok" or the reason why not, then version, prefix, interpreter and the files that tell whether
another user can read this Python. One item a line. Runs on any Python 3; a virtual environment
answers for the Python it was made with.
"""

import os
import sys
import sysconfig

NEWEST = (3, 15)  # what the pyo3-ffi in use declares


def verdict(oldest):
    version = sys.version_info[:2]
    if sys.implementation.name != "cpython":
        return "is {}, not CPython".format(sys.implementation.name)
    if version < oldest:
        return "is older than {}.{}".format(*oldest)
    if version > NEWEST:
        return "is newer than {}.{}".format(*NEWEST)
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "is free-threaded"
    if sysconfig.get_config_var("PYTHONFRAMEWORK"):
        return "ok"
    if not sysconfig.get_config_var("Py_ENABLE_SHARED"):
        return "was built without --enable-shared"
    # The linker wants LDLIBRARY, the loader INSTSONAME; Debian has the first in python3-dev.
    folder = sysconfig.get_config_var("LIBDIR") or ""
    for name in ("INSTSONAME", "LDLIBRARY"):
        path = os.path.join(folder, sysconfig.get_config_var(name) or "libpython")
        if not os.path.exists(path):
            return "has no {} (the distribution's python3-dev package?)".format(path)
    return "ok"


def main():
    stdlib = sysconfig.get_path("stdlib")
    print(verdict(tuple(map(int, sys.argv[1].split(".")))))
    print(".".join(map(str, sys.version_info[:3])))
    print(sys.base_prefix)
    print(getattr(sys, "_base_executable", sys.executable))
    print(os.path.join(stdlib, "os.py"))
    print(os.path.join(sysconfig.get_config_var("DESTSHARED") or stdlib))


main()
