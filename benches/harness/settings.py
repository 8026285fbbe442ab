"""What scripts/setup has chosen, from the environment: `. target/manifold.env`."""

import functools
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def setting(name):
    value = os.environ.get(f"MANIFOLD_{name}")
    if not value:
        sys.exit(f"MANIFOLD_{name} is not set: run `. target/manifold.env` first, which scripts/build makes")
    return value


def user():
    """Whom httpd's children run as, when we are root."""
    return os.environ.get("MANIFOLD_USER")


def cache():
    """A folder that outlives a run and that httpd's children can read."""
    return pathlib.Path(os.environ.get("MANIFOLD_CACHE") or tempfile.gettempdir())


def python_version():
    """Such as (3, 13)."""
    return tuple(map(int, setting("PYTHON_VERSION").split(".")[:2]))


@functools.cache
def httpd_version():
    said = subprocess.run([setting("HTTPD"), "-v"], capture_output=True, text=True, check=True).stdout
    return said.partition("Apache/")[2].split()[0]


@functools.cache
def load_module(name):
    """The line that loads a module of httpd's own, or nothing where it is built in."""
    if f"{name.removeprefix('mpm_')}.c" in built_in_modules():
        return ""
    return f'LoadModule {name}_module "{module_folder()}/mod_{name}.so"'


@functools.cache
def module_folder():
    apxs = [setting("APXS"), "-q", "LIBEXECDIR"]
    return subprocess.run(apxs, capture_output=True, text=True, check=True).stdout.strip()


@functools.cache
def built_in_modules():
    return subprocess.run([setting("HTTPD"), "-l"], capture_output=True, text=True, check=True).stdout


def virtual_environment(name, *packages):
    """A virtual environment below the cache with these packages, made when it is asked for first."""
    venv = cache() / f"{name}-{setting('PYTHON_VERSION')}"
    if not (venv / "complete").exists():
        subprocess.run([setting("PYTHON"), "-m", "venv", "--clear", venv], check=True)
        subprocess.run([venv / "bin" / "python", "-m", "pip", "install", "-q", *packages], check=True)
        (venv / "complete").touch()
    return venv
