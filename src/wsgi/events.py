"""Events: what happens to requests and to the process, told to those who have subscribed."""

import traceback

from _mod_manifold import RequestTimeout

# Those who are told of every event, in the order in which they came. The server looks whether the
# list is empty, and does nothing else for a request while it is.
event_callbacks = []

# Those who are told only that the process stops.
shutdown_callbacks = []

# Those who are told only of signals.
signal_callbacks = []

# Whether this process tells of signals at all.
reports_signals = False  # set by the bootstrap module

# What counts the requests that have finished: see metrics.py. The server looks at this list as well.
recorders = []

log = None  # set by the bootstrap module: log(level, text)


def subscribe_events(callback):
    """Has `callback(name, **event)` called for every event; usable as a decorator."""
    event_callbacks.append(callback)
    return callback


def subscribe_shutdown(callback):
    """Has `callback(name, **event)` called when the process stops; usable as a decorator."""
    shutdown_callbacks.append(callback)
    return callback


def subscribe_signals(callback):
    """Has `callback(name, **event)` called for SIGHUP and SIGUSR2; usable as a decorator."""
    if reports_signals:
        signal_callbacks.append(callback)
    else:
        log(4, f"subscribe_signals({callback!r}) has no effect: httpd's own processes report no signals")
    return callback


def tell(callbacks, name, event):
    """Calls each; what it returns as a dict is part of the event for those after it."""
    for callback in tuple(callbacks):
        try:
            more = callback(name, **event)
        except RequestTimeout:
            raise  # meant for the request, not for the callback
        except BaseException:
            log(3, f"a callback raised for the event {name}, which goes on:\n{traceback.format_exc()}")
        else:
            if isinstance(more, dict):
                event.update(more)
    return event


def process_stopping(reason):
    """Says that the process stops; threads of applications have not been waited for yet."""
    tell(event_callbacks + shutdown_callbacks, "process_stopping", {"shutdown_reason": reason})


def process_signal(name, number):
    """Says that the process was sent a signal that is left to applications."""
    tell(event_callbacks + signal_callbacks, "process_signal", {"signame": name, "signum": number})


class Observation:
    """One request that is told about. It keeps nothing of the request but ids, times and data."""

    __slots__ = ("application", "began", "data", "request_id")

    def __init__(self, application, environ, data, attempts):
        self.request_id = environ.get("mod_wsgi.request_id", "")
        self.data = data
        self.began = {
            "request_id": self.request_id,
            "thread_id": environ["mod_wsgi.thread_id"],
            "server_pid": environ.get("mod_wsgi.server_pid", ""),
            "request_start": environ["mod_wsgi.request_start"],
            "queue_start": environ["mod_wsgi.queue_start"],
            "daemon_start": environ["mod_wsgi.daemon_start"],
            "application_start": environ["mod_wsgi.application_start"],
            "daemon_connects": attempts[0],
            "daemon_restarts": attempts[1],
        }
        event = {
            **self.began,
            "application_object": application,
            "callable_object": environ.get("mod_wsgi.callable_object", ""),
            "request_environ": environ,
            "request_data": data,
        }
        tell(event_callbacks, "request_started", event)
        self.application = event["application_object"]

    def take_application(self):
        """What answers the request: what was configured, or what a callback has put around it."""
        application, self.application = self.application, None
        return application

    def responding(self, status, headers, exc_info):
        event = {
            "request_id": self.request_id,
            "response_status": status,
            "response_headers": headers,
            "exception_info": exc_info,
            "request_data": self.data,
        }
        tell(event_callbacks, "response_started", event)

    def raised(self, exception):
        event = {
            "request_id": self.request_id,
            "exception_info": (type(exception), exception, exception.__traceback__),
            "request_data": self.data,
        }
        tell(event_callbacks, "request_exception", event)

    def finished(self, status, finish, reads, writes, processor, waits):
        """Each of the last four is a tuple of numbers, as the server has counted."""
        event = {
            **self.began,
            "application_finish": finish,
            "application_time": max(finish - self.began["application_start"], 0.0),
            "input_reads": reads[0],
            "input_length": reads[1],
            "input_time": reads[2],
            "output_writes": writes[0],
            "output_length": writes[1],
            "output_time": writes[2],
            "cpu_user_time": processor[0],
            "cpu_system_time": processor[1],
            "cpu_time": processor[0] + processor[1],
            "gil_wait_count": waits[0],
            "gil_wait_time": waits[1],
            "status": status,
            "request_data": self.data,
        }
        for record in recorders:
            record(event)
        tell(event_callbacks, "request_finished", event)
