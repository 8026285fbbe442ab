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
    place_worker
}

# Where httpd's children cannot run manifold-worker beside the module, as below root's home, a copy is
# made for them; MANIFOLD_WORKER says where, and WSGIDaemonWorker has to.
place_worker() {
    local built=$target/release/manifold-worker
    MANIFOLD_WORKER=''
    if is_root && [ -n "$(blocked "$MANIFOLD_USER" "$built")" ]; then
        MANIFOLD_WORKER=$(cache)/manifold-worker-$MANIFOLD_PYTHON_VERSION
        mkdir -p "$(cache)"
        # By renaming: another one may run.
        install -m 755 "$built" "$MANIFOLD_WORKER.$$" && mv -f "$MANIFOLD_WORKER.$$" "$MANIFOLD_WORKER"
    fi
    export MANIFOLD_WORKER
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

# The virtual environment with the tests' packages.
make_test_venv() {
    export MANIFOLD_TEST_VENV
    begin_venv test-venv "$root/tests/apps/requirements.txt"
    MANIFOLD_TEST_VENV=$venv
    [ -n "$fresh" ] || return 0
    install_packages -r "$requirements" || die "pip could not install the packages of tests/apps/requirements.txt"
    touch "$venv/complete"
}

# A package without a wheel for this Python is left out, and the file "unavailable" says so: its test
# prints that and is skipped. Sources would take compilers and minutes.
make_extensions_venv() {
    local package
    export MANIFOLD_EXTENSIONS_VENV
    begin_venv extensions-venv "$root/tests/apps/extensions.txt"
    MANIFOLD_EXTENSIONS_VENV=$venv
    [ -n "$fresh" ] || return 0
    : >"$venv/unavailable"
    install_packages --only-binary :all: -r "$requirements" ||
        while IFS= read -r package; do
            install_packages --only-binary :all: --no-deps "$package" || echo "$package" >>"$venv/unavailable"
        done < <(grep -v '^#' "$requirements")
    touch "$venv/complete"
}

# begin_venv NAME REQUIREMENTS: one for each Python and each list of packages. A virtual environment
# cannot be moved, so it is made in its place and counts as made when its last step has left its mark.
# Sets venv and requirements, and fresh where packages are to be installed.
begin_venv() {
    fresh=''
    name_venv "$@"
    [ ! -e "$venv/complete" ] || return 0

    step "making a virtual environment: $venv"
    "$MANIFOLD_PYTHON" -m venv --clear "$venv" ||
        die "cannot make a virtual environment (Debian and Ubuntu: apt-get install python${MANIFOLD_PYTHON_VERSION%.*}-venv)"
    fresh=1
}

name_venv() {
    local key
    requirements=$2
    key=$(printf '%s\n' "$MANIFOLD_PYTHON" "$MANIFOLD_PYTHON_VERSION" "$(cat "$requirements")" | cksum | cut -d ' ' -f 1)
    venv=$(cache)/$1-$MANIFOLD_PYTHON_VERSION-$key
}

install_packages() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input "$@"; }
