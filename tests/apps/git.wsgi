"""A git server: git's own http-backend behind WSGI, with one bare repository, `site.git`."""

import os
import subprocess
import threading

ROOT = os.path.join(os.path.dirname(os.path.dirname(__file__)), "state")
# The repository belongs to whom the children run as, and so does HOME; git reads no other settings.
SETTINGS = {"HOME": ROOT, "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ.get("PATH", os.defpath)}
REPOSITORY = os.path.join(ROOT, "site.git")

if not os.path.exists(REPOSITORY):
    subprocess.run(["git", "init", "--quiet", "--bare", REPOSITORY], env=SETTINGS, check=True)


def feed(source, sink):
    try:
        while block := source.read(65536):
            sink.write(block)
        sink.close()
    except OSError:
        pass


def application(environ, start_response):
    variables = {key: value for key, value in environ.items() if isinstance(value, str)}
    variables |= SETTINGS | {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_PROJECT_ROOT": ROOT,
        "REMOTE_USER": "somebody",
    }
    git = subprocess.Popen(
        ["git", "http-backend"], env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    feeder = threading.Thread(target=feed, args=(environ["wsgi.input"], git.stdin), daemon=True)
    feeder.start()
    status, headers = "200 OK", []
    while line := git.stdout.readline().strip():
        name, _, value = line.decode("latin-1").partition(":")
        if name.lower() == "status":
            status = value.strip()
        else:
            headers.append((name, value.strip()))
    start_response(status, headers)
    while block := git.stdout.read(65536):
        yield block
    feeder.join()
    git.wait()
