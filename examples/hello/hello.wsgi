"""A page that says which interpreter made it: the first thing to serve, and the smallest."""

import html
import os
import sys

PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Hello from mod_manifold</title>
<style>
  body {{ font: 1.1rem/1.6 system-ui, sans-serif; max-width: 38rem; margin: 12vh auto; padding: 0 1rem;
         color: #223; background: #f7f7f4 }}
  h1 {{ font-size: 1.7rem }}
  dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .4rem 1.6rem }}
  dt {{ color: #778 }}
  dd {{ margin: 0 }}
</style>
<h1>Hello from mod_manifold</h1>
<p>Apache httpd took this request, and Python answered it.</p>
<dl>
{rows}
</dl>
</html>
"""


def application(environ, start_response):
    facts = {
        "Application group": environ.get("mod_wsgi.application_group") or "%{GLOBAL}",
        "Interpreter": interpreter(),
        "Python": sys.version.split()[0],
        "Process": str(os.getpid()),
        "Path": environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""),
    }
    rows = "\n".join(f"<dt>{name}<dd>{html.escape(fact)}" for name, fact in facts.items())
    body = PAGE.format(rows=rows).encode()
    start_response(
        "200 OK",
        [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(body)))],
    )
    return [body]


def interpreter():
    """What CPython itself says of the interpreter this runs in."""
    try:
        import _interpreters  # private, and 3.13 or newer: good enough for a page to look at

        number = _interpreters.get_current()[0]
        if number == _interpreters.get_main()[0]:
            return "the main interpreter"
        gil = _interpreters.get_config(number).gil
        return f"sub-interpreter {number}, with {'its own' if gil == 'own' else 'a shared'} GIL"
    except Exception:
        return "unknown to this Python"
