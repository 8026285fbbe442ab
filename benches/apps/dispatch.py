"""Spreads requests over two sub-interpreters, as a site of mod_wsgi can."""

import itertools

turns = itertools.cycle(["first", "second"])


def application_group(environ):
    return next(turns)
