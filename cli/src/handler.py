"""The handler script that `manifold` writes beside httpd.conf: it mounts one application.

httpd asks handle_request for every URL that is no file. The six names below are what the command line said.
"""

import importlib
import logging
import os
import sys
import types

import mod_wsgi

KIND = "@KIND@"  # script, module or django
TARGET = "@TARGET@"  # the script's path, the module's name, or that of Django's settings
CALLABLES = ["@CALLABLES@"]  # tried in this order
FOLDER = "@FOLDER@"  # what lies here can be imported
MOUNT_POINT = "@MOUNT_POINT@"  # without a slash at its end
RELOAD_ON_CHANGES = False  # whether every file that was loaded is looked at, or the application's own only


def load():
    """The module with the application in it, and the application."""
    places = [FOLDER]
    if KIND == "script":
        # What lies beside a script can be imported, as if Python had been started with it.
        places.insert(0, os.path.dirname(TARGET))
    sys.path[:0] = [place for place in places if place not in sys.path]
    forget(places)

    if KIND == "django":
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", TARGET)
        # What runserver uses: settings.WSGI_APPLICATION, or Django's own.
        from django.core.servers.basehttp import get_internal_wsgi_application

        application = get_internal_wsgi_application()
        return sys.modules[TARGET], application

    module = run_script() if KIND == "script" else importlib.import_module(TARGET)
    for names in CALLABLES:
        found = module
        for name in names.split("."):
            found = getattr(found, name, None)
        if found is not None:
            return module, found
    raise AttributeError(f"{TARGET} defines no {' and no '.join(CALLABLES)}")


def run_script():
    module = types.ModuleType("served_script")
    module.__file__ = TARGET
    with open(TARGET, "rb") as file:
        code = compile(file.read(), TARGET, "exec")
    sys.modules[module.__name__] = module
    exec(code, module.__dict__)
    return module


def forget(places):
    """Where this runs again in the same interpreter, the application's modules are those of before."""
    if RELOAD_ON_CHANGES:
        for name, module in list(sys.modules.items()):
            path = getattr(module, "__file__", None) or ""
            if path != __file__ and any(path.startswith(place + os.sep) for place in places):
                del sys.modules[name]


def changed_time(path):
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None  # it is gone, and that is a change


def note_files():
    """Notes the times of files that were not there the last time."""
    global counted
    if len(sys.modules) != counted:
        counted = len(sys.modules)
        for module in list(sys.modules.values()):
            path = getattr(module, "__file__", None)
            if isinstance(path, str) and path not in times:
                times[path] = changed_time(path)


def reload_required(resource):
    """Asked before each request: whether to load the application anew."""
    for path, time in list(times.items()):
        if changed_time(path) != time:
            say(f"{path} has changed: loading the application anew")
            return True
    own = getattr(module, "reload_required", None)
    return own is not None and own(resource)


def say(text):
    """Into httpd's log at level info, whatever the application has made of logging."""
    logger = logging.Logger("manifold", logging.INFO)
    logger.addHandler(mod_wsgi.LogHandler())
    logger.info(text)


def handle_request(environ, start_response):
    # httpd takes the first part of the path for a file name. All that follows the mount point is the
    # application's.
    path = environ["SCRIPT_NAME"] + environ["PATH_INFO"]
    environ["SCRIPT_NAME"] = MOUNT_POINT
    environ["PATH_INFO"] = path[len(MOUNT_POINT) :] or ("" if MOUNT_POINT else "/")
    result = application(environ, start_response)
    if RELOAD_ON_CHANGES:
        note_files()
    return result


# A script's time is taken before its text is read: a change in between is seen as a change, not missed.
times = {TARGET: changed_time(TARGET)} if KIND == "script" else {}
counted = 0
module, application = load()
if RELOAD_ON_CHANGES:
    note_files()
elif KIND != "script":
    times[module.__file__] = changed_time(module.__file__)
