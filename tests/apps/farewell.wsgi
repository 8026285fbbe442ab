"""Leaves a note when its interpreter ends: a file in the state folder, by atexit."""

import atexit
import os

STATE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "state")


@atexit.register
def leave_a_note():
    for name in groups:
        with open(os.path.join(STATE, f"farewell-{name}"), "a") as note:
            note.write("goodbye\n")


groups = set()


def handle_request(environ, start_response):
    groups.add(environ["mod_wsgi.application_group"] or "main")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]
