"""Logs in all the ways there are; the path says which."""

import contextlib
import io
import logging
import sys
import threading
import traceback

import mod_wsgi

formatted = []


class Formatter(logging.Formatter):
    def format(self, record):
        formatted.append(record.getMessage())
        return f"formatted: {record.getMessage()}"


handler = mod_wsgi.LogHandler()
handler.setFormatter(Formatter())
logger = logging.getLogger("app")
logger.setLevel(1)
logger.addHandler(handler)
logger.propagate = False

LEVELS = [("critical", 50), ("error", 40), ("warning", 30), ("info", 20), ("debug", 10), ("trace", 5)]


def log_all(prefix):
    for name, level in LEVELS:
        logger.log(level, "%s %s", prefix, name)


def on_a_thread(function, *arguments):
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    thread.join()


def name_of(error, call, *arguments):
    try:
        call(*arguments)
    except error as raised:
        return type(raised).__name__
    return "nothing"


def stream_facts(stream):
    for name in ("encoding", "errors", "newlines", "line_buffering", "mode", "name", "closed"):
        yield name, repr(getattr(stream, name))
    yield "TextIOBase", isinstance(stream, io.TextIOBase)
    yield "can", (stream.isatty(), stream.readable(), stream.writable(), stream.seekable())
    yield "reconfigure", stream.reconfigure(encoding="utf-8", line_buffering=True)
    yield "with", stream.__enter__() is stream
    yield "written", stream.write("stream: caf\xe9\n")
    yield "buffer", stream.buffer.write(memoryview(b"buffer: caf\xc3\xa9\n"))
    yield "str to buffer", name_of(Exception, stream.buffer.write, "text")
    for call in (stream.fileno, stream.read, stream.tell, stream.detach):
        yield call.__name__, name_of(OSError, call)


def handle_request(environ, start_response):
    path = environ["SCRIPT_NAME"] + environ["PATH_INFO"]
    errors = environ["wsgi.errors"]
    body = "fine"
    if path.startswith("/levels"):
        formatted.clear()
        log_all(f"request{path[7:]}")
        body = str(len(formatted))
    elif path == "/thread-levels":
        formatted.clear()
        on_a_thread(log_all, "thread")
        body = str(len(formatted))
    elif path == "/streams":
        streams = (("stdout", sys.stdout), ("stderr", sys.stderr), ("errors", errors))
        body = "".join(
            f"{name}.{key}\t{value}\n" for name, stream in streams for key, value in stream_facts(stream)
        )
    elif path == "/faulthandler":
        import faulthandler

        body = name_of(ValueError, faulthandler.enable)
    elif path == "/thread-writes":
        on_a_thread(print, "thread: a whole line")
        on_a_thread(sys.stderr.write, "thread: without an end")
    elif path == "/python":
        print("print: a", "b", sep="-", file=errors)
        logging.StreamHandler(sys.stderr).handle(
            logging.makeLogRecord({"msg": "StreamHandler: a record"})
        )
        try:
            raise KeyError("printed")
        except KeyError:
            traceback.print_exc()
        caught = io.StringIO()
        with contextlib.redirect_stdout(caught):
            print("redirected")
        body = caught.getvalue()
    elif path == "/unformattable":
        handler.setFormatter(None)
        logger.error("%d", "no number")
        handler.setFormatter(Formatter())
    start_response("200 OK", [])
    return [body.encode()]
