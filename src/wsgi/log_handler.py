"""mod_wsgi.LogHandler; loaded when a program asks for it, since `logging` is not small."""

import logging

from _mod_manifold import host


class LogHandler(logging.Handler):
    """Writes records to httpd's error log, each at its level, and about the request it came from.

    A record that LogLevel leaves out is not even formatted.
    """

    def handle(self, record):
        # Without the handler's lock: the log needs none, and a thread that waits for its request's
        # client would make every other thread wait that has something to log.
        accepted = self.filter(record)
        if isinstance(accepted, logging.LogRecord):
            record = accepted
        if accepted:
            self.emit(record)
        return accepted

    def emit(self, record):
        level = _level(record.levelno)
        if level > host.verbosity():
            return
        try:
            host.log(level, self.format(record), record.pathname, record.lineno)
        except Exception:
            self.handleError(record)


def _level(number):
    """The level of httpd's log, as syslog numbers it, for one of Python's."""
    if number >= logging.CRITICAL:
        return 2
    if number >= logging.ERROR:
        return 3
    if number >= logging.WARNING:
        return 4
    if number >= logging.INFO:
        return 6
    return 7
