"""`python manage.py runmanifold [OPTION...]`: becomes `manifold serve` for the project that manage.py belongs to."""

import os
import shutil
import sys
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError, handle_default_options


class Command(BaseCommand):
    help = (
        "Serves this project with Apache httpd and mod_manifold. Takes all options of `manifold serve`, "
        "such as --port 9000, --reload-on-changes and --processes 2; `manifold serve --help` shows them."
    )

    def run_from_argv(self, argv):
        """Django's own options are Django's; all others are for `manifold serve`, which knows them."""
        parser = self.create_parser(argv[0], argv[1])
        # An abbreviation of one of Django's could be the name of one of manifold's.
        parser.allow_abbrev = False
        options, rest = parser.parse_known_args(argv[2:])
        handle_default_options(options)
        try:
            self.execute(*rest, **vars(options))
        except CommandError as error:
            if options.traceback:
                raise
            self.stderr.write(f"{error.__class__.__name__}: {error}")
            sys.exit(error.returncode)

    def add_arguments(self, parser):
        parser.usage = "%(prog)s [options of manage.py] [options of `manifold serve`]"

    def handle(self, *arguments, **options):
        manage = Path(sys.argv[0]).resolve()
        if manage.name != "manage.py":
            raise CommandError(
                f"runmanifold serves the folder that manage.py is in, and this was started as {sys.argv[0]}: "
                "run it by `python manage.py runmanifold`"
            )
        command = [find_manifold(), "serve", str(manage.parent)]
        if sys.prefix != sys.base_prefix and not names(arguments, "--python-home"):
            command += ["--python-home", sys.prefix]
        sys.stdout.flush()
        os.execv(command[0], command + list(arguments))


def names(arguments, option):
    """Whether an option is given, as `--option value` or `--option=value`."""
    return any(word == option or word.startswith(option + "=") for word in arguments)


def find_manifold():
    """MANIFOLD, or the program beside this Python (a virtual environment's), or the one on PATH."""
    named = os.environ.get("MANIFOLD")
    if named:
        if found := shutil.which(named):
            return found
        raise CommandError(f"MANIFOLD names {named}, which is no program")
    beside = Path(sys.executable).parent
    path = os.pathsep.join([str(beside), os.environ.get("PATH", os.defpath)])
    if found := shutil.which("manifold", path=path):
        return found
    raise CommandError(
        f"there is no program manifold in {beside} or on PATH: build it (scripts/build makes target/release/manifold), "
        "then put its folder on PATH or name it by the variable MANIFOLD"
    )
