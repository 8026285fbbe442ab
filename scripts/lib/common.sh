# shellcheck shell=bash
# What the scripts share: where things are, how they speak, and how a build is made.
# Sourced, never run. Kept to what bash 3.2 knows, which is what macOS has.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
lib=$root/scripts/lib
me=${0##*/}

# cargo takes a relative target folder from where it runs, and we run it in $root.
target=${CARGO_TARGET_DIR:-$root/target}
case $target in /*) ;; *) target=$root/$target ;; esac
settings=$target/manifold.env

case $(uname -s) in
Darwin) module=$target/release/libmod_manifold.dylib ;;
*) module=$target/release/libmod_manifold.so ;;
esac

# Not every login has them: an ordinary user's PATH on Debian lacks /usr/sbin.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/apache2/bin:/opt/homebrew/bin
if ! command -v cargo >/dev/null && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
    PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
fi
export PATH

# What others must be able to read (httpd's children, when we are root) is made here.
umask 022

step() { printf '==> %s\n' "$*" >&2; }
warn() { printf '%s: warning: %s\n' "$me" "$*" >&2; }
die() {
    printf '%s: %s\n' "$me" "$*" >&2
    exit 1
}
is_root() { [ "$(id -u)" = 0 ]; }

# The comment block at the top of a script is its help text.
help() { awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"; }
help_or_no_arguments() {
    case ${1-} in
    '') ;;
    -h | --help) help && exit 0 ;;
    *) die "takes no argument $1; see $me --help" ;;
    esac
}

# Runs setup and takes over what it chose. Setup itself honours what the user has set.
prepare() {
    "$root/scripts/setup"
    # shellcheck source=/dev/null
    . "$settings"
}

# The release build: the one profile that serve, test and .ci/run use, so that it is made once.
build() {
    [ -e "$module" ] || step "building (the first time takes some minutes)"
    (cd "$root" && cargo build --release --workspace) || die "the build failed"
    [ -e "$module" ] || die "the build made no $module"
}

# blocked USER PATH...: the component of a path that keeps USER from reading it, or nothing.
blocked() { "$MANIFOLD_PYTHON" -I "$lib/blocked.py" "$@"; }

# A folder that outlives a build and that httpd's children can read.
cache() {
    if is_root; then
        echo "${MANIFOLD_CACHE:-/var/cache/mod_manifold}"
    else
        echo "${MANIFOLD_CACHE:-$target/cache}"
    fi
}

# The virtual environment with the tests' packages: one for each Python and each list of packages. It
# cannot be moved, so it is made in its place and counts as made when its last step has left its mark.
make_test_venv() {
    local requirements=$root/tests/apps/requirements.txt key
    key=$(printf '%s\n' "$MANIFOLD_PYTHON" "$MANIFOLD_PYTHON_VERSION" "$(cat "$requirements")" | cksum | cut -d ' ' -f 1)
    export MANIFOLD_TEST_VENV
    MANIFOLD_TEST_VENV=$(cache)/test-venv-$MANIFOLD_PYTHON_VERSION-$key
    [ ! -e "$MANIFOLD_TEST_VENV/complete" ] || return 0

    step "making a virtual environment with the tests' packages: $MANIFOLD_TEST_VENV"
    "$MANIFOLD_PYTHON" -m venv --clear "$MANIFOLD_TEST_VENV" ||
        die "cannot make a virtual environment (Debian and Ubuntu: apt-get install python${MANIFOLD_PYTHON_VERSION%.*}-venv)"
    "$MANIFOLD_TEST_VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-input -r "$requirements" ||
        die "pip could not install the packages of tests/apps/requirements.txt"
    touch "$MANIFOLD_TEST_VENV/complete"
}
