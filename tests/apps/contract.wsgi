"""The rest of what PEP 3333 and mod_wsgi promise: one path for each promise.

`/keep` keeps what belongs to its request, `/use` shows what using it afterwards raises; `/notes`
shows what was noted since it was last asked.
"""

import io
import sys

OK = "200 OK"
PLAIN = [("Content-Type", "text/plain")]

kept = {}
notes = []


def outcome(call, *arguments):
    """What a call returns, or which exception it raises."""
    try:
        return call(*arguments)
    except Exception as error:
        return "OSError" if isinstance(error, OSError) else type(error).__name__


class Noting:
    """A response that notes when it is closed."""

    def __init__(self, *blocks):
        self.blocks = iter(blocks)

    def __iter__(self):
        return self

    def __next__(self):
        block = next(self.blocks)
        if isinstance(block, BaseException):
            raise block
        return block

    def close(self):
        notes.append("closed")


class ClosedByProperty(Noting):
    """A response whose close cannot be looked up."""

    @property
    def close(self):
        raise LookupError("no close here")


class WithoutClose(Noting):
    @property
    def close(self):
        raise AttributeError("none, as far as anybody can tell")


class NoneAsClose(Noting):
    close = None


class File(io.BytesIO):
    """A file that notes how it is read and closed; it has no descriptor."""

    def read(self, size=-1):
        notes.append(f"read {size}")
        return super().read(size)

    def close(self):
        if not self.closed:
            notes.append("closed")
        super().close()


class BadlyClosed(File):
    def close(self):
        super().close()
        raise OSError("cannot close")


class TextFile:
    def read(self, size):
        return "text"


def started(start_response, *headers, status=OK):
    return start_response(status, PLAIN + list(headers))


def keep(environ, start_response):
    kept.update(input=environ["wsgi.input"], errors=environ["wsgi.errors"], start=start_response)
    kept["buffer"] = environ["wsgi.errors"].buffer
    kept["write"] = started(start_response)
    return [b"kept"]


def use(environ, start_response):
    results = {
        "read": outcome(kept["input"].read),
        "read(0)": outcome(kept["input"].read, 0),
        "readline": outcome(kept["input"].readline),
        "readlines": outcome(kept["input"].readlines),
        "iter": outcome(list, kept["input"]),
        "start_response": outcome(kept["start"], OK, PLAIN),
        "start_response(exc_info)": outcome(kept["start"], OK, PLAIN, (ValueError, ValueError(), None)),
        "write": outcome(kept["write"], b"x"),
        "write(empty)": outcome(kept["write"], b""),
        "errors.write": outcome(kept["errors"].write, "late\n"),
        "errors.writelines": outcome(kept["errors"].writelines, ["late\n"]),
        "errors.flush": outcome(kept["errors"].flush),
        "errors.buffer.write": outcome(kept["buffer"].write, b"late\n"),
    }
    started(start_response)
    return show(results)


def show(facts):
    return [f"{key}\t{ascii(value)}\n".encode("ascii") for key, value in facts.items()]


def show_notes(environ, start_response):
    started(start_response)
    text = " ".join(notes)
    notes.clear()
    return [text.encode()]


def errors(environ, start_response):
    stream = environ["wsgi.errors"]
    started(start_response)
    facts = {
        "encoding": stream.encoding,
        "errors": stream.errors,
        "isatty": stream.isatty(),
        "fileno": outcome(stream.fileno),
        "writable": stream.writable(),
        "readable": stream.readable(),
        "closed": stream.closed,
        "write": stream.write("contract: written\n"),
        "buffer.write": stream.buffer.write(b"contract: bytes \xff\n"),
        "buffer.write(str)": outcome(stream.buffer.write, "text"),
        "writelines": stream.writelines(f"contract: line {i}\n" for i in range(2)),
        "print": print("contract: printed", file=stream, flush=True),
        "flush": stream.flush(),
        "close": stream.close(),
        "write after close": stream.write("contract: after close\n"),
    }
    return show(facts)


def many_errors(environ, start_response):
    for i in range(200):
        environ["wsgi.errors"].write(f"contract: number {i}.\n")
    started(start_response)
    return [b"said"]


def module(environ, start_response):
    import mod_wsgi

    started(start_response)
    wrapper = mod_wsgi.FileWrapper
    return show({
        "version": mod_wsgi.version == environ["mod_wsgi.version"],
        "version type": (type(mod_wsgi.version).__name__, len(mod_wsgi.version)),
        "process_group": mod_wsgi.process_group,
        "application_group": mod_wsgi.application_group,
        "maximum_processes": mod_wsgi.maximum_processes,
        "threads_per_process": mod_wsgi.threads_per_process,
        "FileWrapper": wrapper is environ["wsgi.file_wrapper"],
        "FileWrapper type": isinstance(wrapper, type),
        "blksize": (wrapper(io.BytesIO()).blksize, outcome(wrapper, io.BytesIO(), -1)),
        "filelike": type(wrapper(io.BytesIO(), blksize=5).filelike).__name__,
        "RequestTimeout": (
            issubclass(mod_wsgi.RequestTimeout, BaseException),
            issubclass(mod_wsgi.RequestTimeout, Exception),
        ),
        "argv": sys.argv,
        "executable": isinstance(sys.executable, str),
    })


def raising(error):
    def application(environ, start_response):
        started(start_response)
        raise error

    return application


def sending(*blocks, kind=Noting):
    def application(environ, start_response):
        started(start_response)
        return kind(*blocks)

    return application


def with_status(status, *headers, body=(b"a body",)):
    def application(environ, start_response):
        start_response(status, list(headers))
        return Noting(*body)

    return application


def wrapped(kind, *arguments):
    def application(environ, start_response):
        started(start_response)
        return environ["wsgi.file_wrapper"](kind(b"0123456789"), *arguments)

    return application


def wrapped_text(environ, start_response):
    started(start_response)
    return environ["wsgi.file_wrapper"](TextFile())


def wrapped_by_subclass(environ, start_response):
    class Wrapper(environ["wsgi.file_wrapper"]):
        def __next__(self):
            return super().__next__().upper()

    started(start_response)
    return Wrapper(File(b"abc"))


def wrapped_with_length(environ, start_response):
    file = File(b"0123456789")
    file.seek(2)
    started(start_response, ("Content-Length", "4"))
    return environ["wsgi.file_wrapper"](file)


def wrapped_descriptor(environ, start_response):
    file = open(__file__, "rb")
    file.seek(3)
    started(start_response)
    return environ["wsgi.file_wrapper"](file, 100)


def writing_then_iterating(environ, start_response):
    write = started(start_response)
    write(b"written,")
    write(b"")
    write(b"again,")
    return Noting(b"", b"returned")


def writing_nothing(environ, start_response):
    write = started(start_response, ("X-Sent", "1"), status="201 Created")
    write(b"")
    notes.append(outcome(start_response, "202 Accepted", PLAIN))
    return Noting()


def writing_then_raising(environ, start_response):
    write = started(start_response)
    write(b"written,")
    raise LookupError("after write")


def raising_again(environ, start_response):
    write = started(start_response)
    write(b"written,")
    try:
        raise LookupError("the original")
    except LookupError as error:
        original = error
        try:
            start_response("500 Oops", PLAIN, sys.exc_info())
        except LookupError as again:
            depth = 0
            traceback = again.__traceback__
            while traceback:
                depth, traceback = depth + 1, traceback.tb_next
            write(f"{again is original} {depth > 0}".encode())
    return Noting()


def replacing(environ, start_response):
    started(start_response, ("X-First", "1"))
    try:
        raise LookupError("found out in time")
    except LookupError:
        write = start_response("503 Later", PLAIN, sys.exc_info())
    write(b"an error page")
    return Noting()


def keyword(environ, start_response):
    start_response(OK, PLAIN, exc_info=None)
    return [b"keyword"]


def reads_nothing(environ, start_response):
    result = environ["wsgi.input"].read(0)
    started(start_response)
    return [ascii(result).encode()]


CASES = {
    "/keep": keep,
    "/use": use,
    "/notes": show_notes,
    "/errors": errors,
    "/many-errors": many_errors,
    "/module": module,
    "/interrupt": raising(KeyboardInterrupt("from the application")),
    "/generator-exit": raising(GeneratorExit("from the application")),
    "/base": raising(BaseException("from the application")),
    "/stop-iteration": raising(StopIteration("from the application")),
    "/interrupt-later": sending(b"first,", KeyboardInterrupt("at the second block")),
    "/raises-first": sending(LookupError("at the first block")),
    "/raises-later": sending(b"first,", LookupError("at the second block")),
    "/close-lookup": sending(b"fine", kind=ClosedByProperty),
    "/close-lookup-after-error": sending(LookupError("the first error"), kind=ClosedByProperty),
    "/without-close": sending(b"fine", kind=WithoutClose),
    "/close-is-none": sending(b"fine", kind=NoneAsClose),
    "/no-content": with_status("204 No Content"),
    "/not-modified": with_status("304 Not Modified", ("ETag", '"x"')),
    "/not-modified-length": with_status("304 Not Modified", ("ETag", '"x"'), ("Content-Length", "6")),
    "/reset-content": with_status("205 Reset Content", body=()),
    "/plain": with_status(OK, *PLAIN),
    "/length": with_status(OK, *PLAIN, ("Content-Length", "6")),
    "/wrong-length": with_status(OK, *PLAIN, ("Content-Length", "7")),
    "/untyped": with_status(OK),
    "/duplicates": with_status(
        OK,
        *PLAIN,
        ("Set-Cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("WWW-Authenticate", "Basic"),
        ("WWW-Authenticate", "Digest"),
        ("X-D", "1"),
        ("X-D", "1"),
        ("Link", "</a>"),
        ("Link", "</b>"),
    ),
    "/unauthorized": with_status(
        "401 Unauthorized", *PLAIN, ("WWW-Authenticate", "Basic"), ("WWW-Authenticate", "Digest")
    ),
    "/location": with_status(OK, *PLAIN, ("Location", "/plain")),
    "/redirect": with_status("302 Found", *PLAIN, ("Location", "/plain?a=1#b")),
    "/server-error": with_status("500 Our Own", *PLAIN),
    "/not-found": with_status("404 Not Here", *PLAIN),
    "/date": with_status(OK, *PLAIN, ("Last-Modified", "Thu, 01 Jan 1970 00:00:00 GMT"), ("X-Tab", "a\tb")),
    "/wrapped": wrapped(File),
    "/wrapped-in-fours": wrapped(File, 4),
    "/wrapped-badly-closed": wrapped(BadlyClosed),
    "/wrapped-str": wrapped_text,
    "/wrapped-by-subclass": wrapped_by_subclass,
    "/wrapped-with-length": wrapped_with_length,
    "/wrapped-descriptor": wrapped_descriptor,
    "/writing-then-iterating": writing_then_iterating,
    "/writing-nothing": writing_nothing,
    "/writing-then-raising": writing_then_raising,
    "/raising-again": raising_again,
    "/replacing": replacing,
    "/keyword": keyword,
    "/read-nothing": reads_nothing,
}


def handle_request(environ, start_response):
    return CASES[environ["SCRIPT_NAME"] + environ["PATH_INFO"]](environ, start_response)
