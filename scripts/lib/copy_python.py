"""copy_python.py CACHE USER: a copy of this Python that everyone may read; prints its prefix.

For root, whose Python may lie below a home folder of mode 0700 (pyenv, uv). httpd's children run
as USER and read the standard library, so they get a copy that belongs to root and that they can
only read. The copy is complete in itself: it has its own libpython, can make virtual environments
and can be built against. Its name holds a hash of what it was made from, so it is found again
while that is unchanged, and a changed Python makes another copy beside it. Older copies
may be deleted when nothing uses them.
"""

import hashlib
import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
import tempfile

X_Y = "%d.%d" % sys.version_info[:2]
SOURCE = sys.base_prefix
STDLIB = "lib/python" + X_Y


def main(cache, user):
    os.makedirs(cache, exist_ok=True)
    name = "python-%d.%d.%d-%s" % (*sys.version_info[:3], fingerprint())
    prefix = os.path.join(os.path.realpath(cache), name)
    if not os.path.isdir(prefix):
        print(f"copying {SOURCE}, which {user} cannot read, to {prefix}", file=sys.stderr)
        draft = tempfile.mkdtemp(prefix=name + ".", dir=cache)
        try:
            copy_to(draft)
            relocate(draft, prefix)
            for folder, _, files in os.walk(draft):
                for path in [folder] + [os.path.join(folder, file) for file in files]:
                    open_to_readers(path)
            try_as(user, draft)
            os.rename(draft, prefix)
        except OSError:
            if not os.path.isdir(prefix):  # else somebody else's copy was ready first
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    print(prefix)


def fingerprint():
    """Eight digits that change with the build of this Python and with its installed packages."""
    watched = [
        sysconfig.get_path("purelib"),
        os.path.join(sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME")),
    ]
    facts = [SOURCE, sys.version, *(str(os.stat(path).st_mtime_ns) for path in watched)]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:8]


def copy_to(draft):
    """Only what belongs to this Python: a prefix may hold much else."""

    def unwanted(folder, names):
        if folder == os.path.join(SOURCE, STDLIB):
            return {"test", "idlelib", "turtledemo"} & set(names)
        return {name for name in names if name.endswith(".a")}

    for tree in (STDLIB, "include/python" + X_Y):
        if os.path.isdir(os.path.join(SOURCE, tree)):
            # Compiled files come along: they stay valid, as modification times are kept.
            shutil.copytree(
                os.path.join(SOURCE, tree),
                os.path.join(draft, tree),
                symlinks=True,
                ignore=unwanted,
            )
    for folder, wanted in (("bin", ("python", "pip")), ("lib", ("lib",))):
        os.makedirs(os.path.join(draft, folder), exist_ok=True)
        for entry in os.scandir(os.path.join(SOURCE, folder)):
            if entry.name.startswith(wanted) and not entry.is_dir() and not entry.name.endswith(".a"):
                shutil.copy2(entry.path, os.path.join(draft, folder), follow_symlinks=False)


def relocate(draft, prefix):
    """Takes the old place out of what is run and out of what sysconfig tells a build."""
    libdir = sysconfig.get_config_var("LIBDIR")
    spellings = {SOURCE, os.path.realpath(SOURCE)}
    if os.path.samefile(os.path.dirname(libdir), SOURCE):
        spellings.add(os.path.dirname(libdir))

    stdlib = os.path.join(draft, STDLIB)
    for folder, prefixes in (
        (os.path.join(draft, "bin"), ("",)),
        (stdlib, ("_sysconfig", "build-details.json")),
        *((os.path.join(stdlib, name), ("Makefile", "python-config.py")) for name in os.listdir(stdlib) if name.startswith("config-")),
    ):
        for entry in os.scandir(folder):
            if entry.name.startswith(prefixes) and entry.is_file(follow_symlinks=False):
                edit(entry.path, sorted(spellings, key=len, reverse=True), prefix)


def edit(path, spellings, prefix):
    with open(path, "rb") as file:
        before = after = file.read()
    for old in map(os.fsencode, spellings):
        if b"\0" not in before:
            after = after.replace(old, os.fsencode(prefix))
            continue
        # The interpreter: its RUNPATH names the folder of libpython, and may not grow.
        old, new = old + b"/lib\0", b"$ORIGIN/../lib\0"
        if len(new) <= len(old):
            after = after.replace(old, new.ljust(len(old), b"\0"))
    if after != before:
        with open(path, "wb") as file:
            file.write(after)


def open_to_readers(path):
    if os.path.islink(path):
        return
    may_run = os.path.isdir(path) or os.stat(path).st_mode & 0o100
    os.chown(path, 0, 0)
    os.chmod(path, 0o755 if may_run else 0o644)


def try_as(user, prefix):
    """The copy must start, find itself and load extension modules, for the user it is made for."""
    entry = pwd.getpwnam(user)
    check = "import ctypes, socket, ssl, sys, venv; print(sys.prefix)"
    run = subprocess.run(
        [os.path.join(prefix, "bin", "python" + X_Y), "-I", "-B", "-c", check],
        user=entry.pw_uid,
        group=entry.pw_gid,
        extra_groups=[],
        cwd="/",
        text=True,
        capture_output=True,
    )
    if run.returncode != 0 or os.path.realpath(run.stdout.strip()) != os.path.realpath(prefix):
        sys.exit(f"the copy does not work for {user}: {run.stderr.strip() or run.stdout.strip()}")


main(*sys.argv[1:])
