"""Notes the events of requests that have a header X-Tag; GET /seen/TAG shows them."""

import pathlib

import mod_wsgi

STATE = pathlib.Path(__file__).parent.parent / "state"
seen = {}


def note(name, **event):
    if name == "process_stopping":
        (STATE / "stopping").write_text(f"{name} {event!r}\n")
        return None
    data = event["request_data"]
    if name == "request_started":
        environ = event["request_environ"]
        if "HTTP_X_TAG" not in environ:
            return None
        data["tag"] = environ["HTTP_X_TAG"]
        environ["added.by"] = "a callback"
        seen[data["tag"]] = []
    if "tag" in data:
        assert data is mod_wsgi.request_data()
        shown = {key: f"{type(value).__name__} {value!a}" for key, value in event.items()}
        seen[data["tag"]].append((name, shown))
    return {"more": "from the first"}


def fail(name, **event):
    if event.get("request_data", {}).get("tag") == "fail":
        raise LookupError(f"in {name}")


def look(name, **event):
    data = event.get("request_data", {})
    if "tag" in data:
        seen[data["tag"]].append(("second", {"more": f"{event['more']}", "name": name}))
        if name == "request_started" and data["tag"] == "replace":
            return {"application_object": replacement}
    return None


for callback in (note, fail, look):
    assert mod_wsgi.subscribe_events(callback) is callback
assert mod_wsgi.event_callbacks == [note, fail, look]


@mod_wsgi.subscribe_shutdown
def shutdown(name, **event):
    (STATE / "shutdown").write_text(f"{name} {event!r}\n")


@mod_wsgi.subscribe_signals
def signals(name, **event):
    raise AssertionError("never called")


def replacement(environ, start_response):
    start_response("201 Created", [])
    return [b"replaced"]


def show(tag):
    yield f"names\t{' '.join(name for name, _ in seen.get(tag, []) if name != 'second')}\n"
    second = [event for name, event in seen.get(tag, []) if name == "second"]
    yield f"second\t{' '.join(event['more'] for event in second)}\n"
    yield f"last\t{' '.join(event['name'] for event in second)}\n"
    for name, event in seen.get(tag, []):
        for key, value in event.items():
            yield f"{name}.{key}\t{value}\n"


def handle_request(environ, start_response):
    path = environ["SCRIPT_NAME"] + environ["PATH_INFO"]
    if path.startswith("/seen/"):
        start_response("200 OK", [])
        return [line.encode("ascii") for line in show(path[6:])]
    if path == "/invalid":
        start_response("no status", [])
    if path == "/raise":
        raise KeyError("on purpose")
    if path == "/timeout":
        raise mod_wsgi.RequestTimeout("too long")
    body = environ["wsgi.input"].read(2) + environ["wsgi.input"].read()
    write = start_response("202 Accepted", [("X-One", "1")])
    if path == "/blocks":
        write(b"one,")
        return iter([b"two,", b"three"])
    if path == "/late-timeout":
        write(b"one,")
        raise mod_wsgi.RequestTimeout("too long")
    return [environ.get("added.by", "nobody").encode("ascii"), b" ", body]
