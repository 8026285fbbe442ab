"""blocked.py USER PATH...

Prints the first component of a PATH that keeps USER from reading it, with its mode; nothing if
all can be read. Run by root: it becomes USER and asks the kernel, so that groups, access lists and
capabilities count.
"""

import os
import pwd
import stat
import sys


def components(path):
    """Every folder on the way, from the root down, and the path itself."""
    parts = path.strip("/").split("/")
    return ["/"] + ["/" + "/".join(parts[:n]) for n in range(1, len(parts) + 1)]


def main(name, paths):
    # A path that goes through links is walked as it is written and as it ends up.
    walks = []
    for path in map(os.path.abspath, paths):
        walks += [components(path), components(os.path.realpath(path))]

    user = pwd.getpwnam(name)
    os.initgroups(user.pw_name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)

    for walk in walks:
        for path in walk:
            # A folder on the way is passed through; only the last component is read.
            need = os.X_OK if path is not walk[-1] else os.R_OK
            if need == os.R_OK and os.path.isdir(path):
                need |= os.X_OK
            if not os.access(path, need):
                try:
                    print(f"{path} ({stat.filemode(os.stat(path).st_mode)})")
                except OSError as error:
                    print(f"{path} ({error.strerror})")
                return


main(sys.argv[1], sys.argv[2:])
