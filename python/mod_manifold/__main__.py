"""python -m mod_manifold: the program manifold, with this Python's environment."""

import os
import sys

from mod_manifold import command

if sys.prefix != sys.base_prefix:
    os.environ["VIRTUAL_ENV"] = sys.prefix
path = command()
os.execv(path, [path, *sys.argv[1:]])
