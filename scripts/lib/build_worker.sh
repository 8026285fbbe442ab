# shellcheck shell=bash
# build_worker.sh
#
# Builds manifold-worker alone, for the Python that MANIFOLD_PYTHON chooses, in CARGO_TARGET_DIR, and writes
# there to worker.env where it is, for httpd's children as well, and what its Python's home is.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
. "$(dirname "$0")/common.sh"

prepare
(cd "$root" && cargo build --release --bin manifold-worker) || die "the build failed"
place_worker
printf '%s=%q\n' MANIFOLD_WORKER_OTHER "${MANIFOLD_WORKER:-$target/release/manifold-worker}" \
    MANIFOLD_PYTHON_HOME_OTHER "$MANIFOLD_PYTHON_HOME" >"$target/worker.env"
