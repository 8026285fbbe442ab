"""Builds what the wheel carries, for the Python that runs this, and says for whom the wheel is."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BuildHook(BuildHookInterface):
    def initialize(self, version, build_data):
        built = build(Path(self.root))
        self.staged = tempfile.TemporaryDirectory(prefix="mod_manifold-wheel-")
        staged = Path(self.staged.name)

        # One version of CPython on one kind of system: cp313-cp313-linux_x86_64.
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        for name, file in [
            ("mod_manifold.so", "libmod_manifold.so"),
            ("manifold-worker", "manifold-worker"),
        ]:
            build_data["force_include"][strip(built / file, staged / name)] = f"mod_manifold/{name}"
        build_data["shared_scripts"][strip(built / "manifold", staged / "manifold")] = "manifold"

    def finalize(self, version, build_data, artifact_path):
        self.staged.cleanup()


def build(root):
    """The folder of a release build. The command is scripts/build's, so that nothing is built twice."""
    # The Python that this environment was made with. scripts/setup has chosen the same one where it ran.
    os.environ.setdefault("PYO3_PYTHON", getattr(sys, "_base_executable", sys.executable))
    subprocess.run(["cargo", "build", "--release", "--workspace"], cwd=root, check=True)
    built = root / os.environ.get("CARGO_TARGET_DIR", "target") / "release"

    said = subprocess.run([built / "manifold-worker", "--version"], check=True, capture_output=True, text=True)
    own = "{}.{}".format(*sys.version_info)
    if not re.search(rf"Python {re.escape(own)}\b", said.stdout):
        sys.exit(
            f"this is Python {own}, and PYO3_PYTHON={os.environ['PYO3_PYTHON']} is another one, "
            f"for which was built: {said.stdout.strip()}"
        )
    return built


def strip(built, staged):
    """A copy without line numbers, which are nine tenths of it. The names in tracebacks stay."""
    if shutil.which("strip"):
        subprocess.run(["strip", "--strip-debug", "-o", staged, built], check=True)
    else:
        shutil.copyfile(built, staged)
    staged.chmod(0o755)
    return str(staged)
