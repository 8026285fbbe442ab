"""A script file: shows its environ as `key<TAB>repr(value)` lines, and which callable answered."""


def answering(called):
    def answer(environ, start_response):
        environ["called"] = called
        start_response("200 OK", [("Content-Type", "text/plain; charset=us-ascii")])
        return [f"{key}\t{ascii(value)}\n".encode("ascii") for key, value in sorted(environ.items())]

    return answer


application = answering("application")
other = answering("other")
handle_request = answering("handle_request")
