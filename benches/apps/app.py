"""What most workloads ask for, by the last part of the path."""

import os
import time
import wsgiref.util

HELLO = b"Hello, World!"
TEN_KB = bytes(range(256)) * 40
LARGE = bytes(range(256)) * (8 << 12)
PART = bytes(range(256)) * 64
FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "file")


def application(environ, start_response):
    return PAGES[environ["PATH_INFO"].rpartition("/")[2]](environ, start_response)


def answer(start_response, body):
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    start_response("200 OK", headers)
    return [body]


def hello(environ, start_response):
    return answer(start_response, HELLO)


def ten_kb(environ, start_response):
    return answer(start_response, TEN_KB)


def large(environ, start_response):
    return answer(start_response, LARGE)


def echo(environ, start_response):
    return answer(start_response, environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))


def stream(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    for _ in range(64):
        yield PART


def file(environ, start_response):
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(1 << 20))]
    start_response("200 OK", headers)
    # Not every server has one of its own.
    wrapper = environ.get("wsgi.file_wrapper", wsgiref.util.FileWrapper)
    return wrapper(open(FILE, "rb"))


def cpu2(environ, start_response):
    compute(0.002)
    return answer(start_response, HELLO)


def cpu20(environ, start_response):
    compute(0.02)
    return answer(start_response, HELLO)


def sleep20(environ, start_response):
    time.sleep(0.02)
    return answer(start_response, HELLO)


def compute(seconds):
    """So much CPU time of this thread, however often others run in between."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(200))


PAGES = {
    "hello": hello,
    "10k": ten_kb,
    "large": large,
    "echo": echo,
    "stream": stream,
    "file": file,
    "cpu2": cpu2,
    "cpu20": cpu20,
    "sleep20": sleep20,
}
