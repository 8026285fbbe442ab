"""An access script that lets everybody in."""


def allow_access(environ, host):
    return True
