"""Returns wsgi.file_wrapper around things that are files, and things that are not quite.

The file is `state/file` beside the folder of applications. `/closings` says how often a wrapper's
file was closed since the last look, `/iterations` how many blocks were read in Python.
"""

import gzip
import io
import os
import subprocess
import tempfile
import threading
from urllib.parse import parse_qs

import mod_wsgi

STATE = os.path.join(os.path.dirname(os.path.dirname(__file__)), "state")
FILE = os.path.join(STATE, "file")
counts = {"closings": 0, "iterations": 0}
shared = None
lock = threading.Lock()


class Watched:
    """A file-like object that is none of io's."""

    def __init__(self, file):
        self._file = file
        self.fileno, self.tell = file.fileno, file.tell

    def read(self, size=-1):
        if size:
            counts["iterations"] += 1
        return self._file.read(size)

    def close(self):
        counts["closings"] += 1
        self._file.close()


class Unclosed(mod_wsgi.FileWrapper):
    def close(self):
        counts["closings"] += 1


class Upper(mod_wsgi.FileWrapper):
    def __next__(self):
        return super().__next__().upper()


class Rot(io.FileIO):
    def read(self, size=-1):
        return bytes(255 - byte for byte in super().read(size))


class NoTell(Watched):
    def __init__(self, file):
        super().__init__(file)
        del self.tell


def some_file(case, environ):
    if case == "plain":
        return open(FILE, "rb")
    if case == "raw":
        return open(FILE, "rb", buffering=0)
    if case == "bytesio":
        return io.BytesIO(open(FILE, "rb").read())
    if case == "pipe":
        return subprocess.Popen(["cat", FILE], stdout=subprocess.PIPE).stdout
    if case == "text":
        return open(FILE, encoding="latin-1")
    if case == "gzip":
        return gzip.open(FILE + ".gz")
    if case == "buffered-gzip":
        return io.BufferedReader(gzip.open(FILE + ".gz"))
    if case == "rot":
        return Rot(FILE)
    if case == "no-tell":
        return NoTell(open(FILE, "rb"))
    if case in ("temporary", "named"):
        kind = tempfile.TemporaryFile if case == "temporary" else tempfile.NamedTemporaryFile
        file = kind()
        with open(FILE, "rb") as source:
            file.write(source.read())
        file.seek(0)
        return file
    if case == "unflushed":
        file = tempfile.TemporaryFile()
        file.write(b"0123456789")
        file.seek(0)
        file.read(1)
        file.seek(0)
        file.write(b"abc")
        file.seek(1)
        return file
    return Watched(open(FILE, "rb"))


def handle_request(environ, start_response):
    global shared
    case = environ["SCRIPT_NAME"].strip("/")
    query = {key: values[0] for key, values in parse_qs(environ["QUERY_STRING"]).items()}
    wrapper = environ["wsgi.file_wrapper"]
    if case in counts:
        start_response("200 OK", [])
        count, counts[case] = counts[case], 0
        return [str(count).encode()]
    headers = [("Content-Type", "application/octet-stream")]
    if "length" in query:
        headers.append(("Content-Length", query["length"]))
    if case == "position":
        start_response("200 OK", headers)
        return [str(os.lseek(shared.fileno(), 0, os.SEEK_CUR)).encode()]
    if case == "shared":
        with lock:
            if shared is None:
                shared = open(FILE, "rb", buffering=0)
                shared.seek(int(query.get("seek", 0)))
        start_response("200 OK", headers)
        return Unclosed(shared)
    if case == "never-starts":
        return wrapper(Watched(open(FILE, "rb")))
    write = start_response(query.get("status", "200 OK"), headers)
    if case == "writes":
        write(b"written,")
    file = some_file(case, environ)
    if "seek" in query:
        file._file.seek(int(query["seek"]))
    if case == "generator":
        return (block for block in wrapper(file))
    if case == "upper":
        return Upper(file)
    if case == "subclass":
        return Unclosed(file, 100)
    if case == "shrinks":
        with open(FILE, "r+b") as other:
            result = wrapper(file)
            # Behind the application's back, when the size is known: when close() is called.
            close = result.close

            def shrink():
                os.truncate(FILE, int(query["to"]))
                close()

            result.close = shrink
            return result
    if case == "close-raises":
        result = wrapper(file)
        result.close = lambda: 1 / 0
        return result
    return wrapper(file)
