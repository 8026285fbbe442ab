"""The handler script behind scripts/serve: it mounts one WSGI script at /.

scripts/serve writes a copy of this file with the path of the script put in, and names that copy in
WSGIHandlerScript. The script may define `application`, as for any WSGI server, or `handle_request`.
"""

import os
import sys
import types

SCRIPT = "@SCRIPT@"


def load():
    # The time is read before the text: a change in between is seen as a change, not missed.
    loaded = os.stat(SCRIPT).st_mtime_ns
    # What lies beside the script can be imported, as if Python had been started with it.
    folder = os.path.dirname(SCRIPT)
    if folder not in sys.path:
        sys.path.insert(0, folder)

    module = types.ModuleType("served_script")
    module.__file__ = SCRIPT
    with open(SCRIPT, "rb") as file:
        code = compile(file.read(), SCRIPT, "exec")
    sys.modules[module.__name__] = module
    exec(code, module.__dict__)
    return module, loaded


def callable_of(module):
    for name in ("application", "handle_request"):
        if hasattr(module, name):
            return getattr(module, name)
    raise AttributeError(f"{SCRIPT} defines neither application nor handle_request")


def reload_required(resource):
    """Asked before a request where scripts are reloaded: whether to run this file again."""
    try:
        if os.stat(SCRIPT).st_mtime_ns != loaded:
            return True
    except OSError:
        return True  # it is gone: let loading say so
    own = getattr(module, "reload_required", None)
    return own is not None and own(resource)


def handle_request(environ, start_response):
    # httpd takes the first part of the path for a file name. Mounted at /, all of it is the script's.
    environ["PATH_INFO"] = environ["SCRIPT_NAME"] + environ["PATH_INFO"] or "/"
    environ["SCRIPT_NAME"] = ""
    return served(environ, start_response)


module, loaded = load()
served = callable_of(module)
