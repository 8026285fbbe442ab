# shellcheck shell=bash
# enter_debian.sh BASE RUN TOOLCHAIN DOWNLOADS CERTIFICATES [VARIABLE=VALUE...] COMMAND [ARGUMENT...]
#
# The inside of scripts/in-distro: the first process of tables of its own of processes and mounts. Puts
# a root together in RUN/root and runs the command there. Until RUN/entered is made nothing of the command
# has run, and what went wrong is in RUN/obstacle.
set -euo pipefail
base=$1 run=$2 toolchain=$3 downloads=$4 certificates=$5
shift 5
new=$run/root
checkout=/srv/mod_manifold

main() {
    exec 3>&2 2>"$run/obstacle"
    mount_root
    bind "$run/checkout" "$checkout"
    bind "$base.target" "$checkout/target"
    bind "$base.packages" /var/cache/apt/archives
    bind "$downloads" /root/.cargo
    bind "$toolchain" /opt/rust
    mount -o remount,bind,ro "$new/opt/rust"
    mount_devices
    mount -t proc proc "$new/proc"
    copy_network_settings
    reach_mirror
    : >"$run/entered"
    exec 2>&3 3>&-

    # Not exec: the first process of a table is expected to wait for orphans, and bash does.
    local status=0
    chroot "$new" /usr/bin/env -i --chdir="$checkout" "$@" || status=$?
    exit "$status"
}

# The bare root stays as it is: over it lies a folder for all changes, or where the file system cannot
# do that, it is copied.
mount_root() {
    mkdir "$new" "$run/upper" "$run/work"
    mount -t overlay -o "lowerdir=$base,upperdir=$run/upper,workdir=$run/work" overlay "$new" ||
        cp -a --reflink=auto "$base/." "$new/"
}

bind() {
    mkdir -p "$new$2"
    mount --bind "$1" "$new$2"
}

# The few devices that programs count on, shared memory and terminals of its own.
mount_devices() {
    local name
    mount -t tmpfs -o mode=755 dev "$new/dev"
    for name in null zero full random urandom tty; do
        : >"$new/dev/$name"
        mount --bind "/dev/$name" "$new/dev/$name"
    done
    mkdir "$new/dev/shm" "$new/dev/pts"
    mount -t tmpfs -o mode=1777,nosuid,nodev shm "$new/dev/shm"
    mount -t devpts -o newinstance,mode=620,ptmxmode=666 devpts "$new/dev/pts"
    ln -s pts/ptmx "$new/dev/ptmx"
    ln -s /proc/self/fd "$new/dev/fd"
    for name in 0:stdin 1:stdout 2:stderr; do
        ln -s "/proc/self/fd/${name%:*}" "$new/dev/${name#*:}"
    done
}

# How this machine reaches mirrors and registries: names, proxies, certificates. The variables
# for it come as arguments.
copy_network_settings() {
    local file
    for file in /etc/resolv.conf /etc/hosts /etc/pip.conf; do
        [ ! -e "$file" ] || cp --remove-destination "$file" "$new$file"
    done
    for file in "$HOME/.pip/pip.conf" "${XDG_CONFIG_HOME:-$HOME/.config}/pip/pip.conf"; do
        [ ! -e "$file" ] || install -D -m 600 "$file" "$new/root/.config/pip/pip.conf"
    done
    # Of cargo's configuration only what is about the network: the rest is about this machine.
    : >"$new/root/.cargo/config.toml"
    for file in "${CARGO_HOME:-$HOME/.cargo}"/config{,.toml}; do
        [ ! -e "$file" ] ||
            awk '/^ *\[/ { wanted = /^ *\[+ *(source|registr|net|http)/ } wanted' "$file" >"$new/root/.cargo/config.toml"
    done
    [ -z "$certificates" ] || install -D -m 644 "$certificates" "$new/etc/ssl/of-the-host.crt"
    {
        # A mirror may stand still; its signatures are checked all the same.
        echo 'Acquire::Check-Valid-Until "false";'
        apt-config dump --format '%f "%v";%n' Acquire | grep -E '^Acquire::(https?::Proxy|Check-Date|Retries)' || true
        [ -z "$certificates" ] || echo 'Acquire::https::CAInfo "/etc/ssl/of-the-host.crt";'
    } >"$new/etc/apt/apt.conf.d/90of-the-host"
    # Nobody needs this root after a power cut.
    echo force-unsafe-io >"$new/etc/dpkg/dpkg.cfg.d/unsafe-io"
}

# A machine whose mirror is out of reach can install nothing, and that would prove nothing.
reach_mirror() {
    local mirror suite
    read -r _ mirror suite _ <"$new/etc/apt/sources.list"
    chroot "$new" /usr/lib/apt/apt-helper download-file "${mirror%/}/dists/$suite/Release" /root/Release >&2 || {
        echo "its mirror $mirror does not answer" >&2
        return 1
    }
    rm "$new/root/Release"
}

main "$@"
