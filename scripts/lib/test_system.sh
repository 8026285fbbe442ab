# shellcheck shell=bash
# test_system.sh
#
# The second half of scripts/package-test system: in a clean Debian, as root, with the package that the first half
# has left in target/. Makes a disk of this Debian, with systemd, httpd and SELinux's labels, and has a machine
# started from it twice: with SELinux enforcing, and with AppArmor. What runs there is in_system.sh. The machines are
# emulated (qemu), so that it takes no rights of the processor's.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
me=test_system
[ "$root" = /srv/mod_manifold ] || die "scripts/package-test system calls this, in a Debian of its own"
[ "$(uname -m)" = x86_64 ] || die "it takes an x86_64, and this is $(uname -m)"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

# Longer than a machine takes on a busy processor, and shorter than anybody waits.
patience=900
# Neither is part of the disk: it holds what lies in this file system alone.
disk=$root/target/system.img
said=$root/target/system.log

main() {
    trap 'rm -f "$disk" "$said" "$said".*' EXIT
    install_packages
    describe_machine
    make_disk
    start_machine selinux "security=selinux selinux=1 enforcing=0"
    start_machine apparmor "security=apparmor"
    step "passed"
}

get() {
    apt-get install -y -qq --no-install-recommends "$@" </dev/null >"$said" 2>&1 ||
        die "apt-get install $*: $(tail -n 20 "$said")"
}

install_packages() {
    step "apt-get install: a system of its own, httpd, SELinux, AppArmor (takes some minutes)"
    apt-get update -qq
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
    get linux-image-cloud-amd64 initramfs-tools zstd e2fsprogs systemd-sysv dbus udev apache2 curl python3 python3-venv \
        python3-markupsafe selinux-policy-default policycoreutils-python-utils auditd apparmor
    # What the package depends on, since the machine reaches no mirror.
    get "libpython$(python3 -c 'import sys; print("{}.{}".format(*sys.version_info))')"
    rm /usr/sbin/policy-rc.d
}

# What is there when the machine starts, and what it starts in the end.
describe_machine() {
    mkdir -p /srv/checkout/scripts /etc/systemd/system/multi-user.target.wants
    cp -r "$root/docs" /srv/checkout/
    cp -r "$root/scripts/lib" /srv/checkout/scripts/
    # shellcheck disable=SC2012 # names of our own
    cp "$(ls -t "$root"/target/debian/*.deb | head -n 1)" /srv/
    echo '/dev/vda / ext4 defaults 0 1' >/etc/fstab
    echo system >/etc/hostname
    echo 'Listen 127.0.0.1:80' >/etc/apache2/ports.conf
    cat >/etc/systemd/system/test.service <<'END'
[Unit]
After=apache2.service auditd.service
Wants=apache2.service auditd.service

[Service]
Type=oneshot
Environment=HOME=/root
ExecStart=/bin/bash /srv/checkout/scripts/lib/in_system.sh
ExecStopPost=/usr/bin/systemctl --no-block poweroff
StandardError=journal+console
# An administrator's.
SELinuxContext=-unconfined_u:unconfined_r:unconfined_t:s0

[Install]
WantedBy=multi-user.target
END
    ln -s ../test.service /etc/systemd/system/multi-user.target.wants/test.service
}

make_disk() {
    step "a disk of it, with labels"
    mount --bind / /mnt
    setfiles -F -r /mnt /mnt/etc/selinux/default/contexts/files/file_contexts /mnt >"$said" 2>&1 ||
        die "setfiles: $(tail -n 20 "$said")"
    rm -f "$disk"
    mke2fs -q -t ext4 -d /mnt "$disk" 8G >"$said" 2>&1 || die "mke2fs: $(tail -n 20 "$said")"
    umount /mnt
    # Not on the disk: it is for who starts the machine.
    get qemu-system-x86
}

# start_machine NAME PARAMETERS: what it does stays in it.
start_machine() {
    step "a machine with $1"
    : >"$said"
    timeout "$patience" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 2G -display none -no-reboot \
        -nic none -snapshot -drive "file=$disk,if=virtio,format=raw,cache=unsafe" \
        -kernel /boot/vmlinuz-* -initrd /boot/initrd.img-* \
        -append "root=/dev/vda rw console=ttyS0 quiet test=$1 $2" \
        -serial "file:$said.console" -serial "file:$said" </dev/null >"$said.qemu" 2>&1 ||
        warn "qemu ended with status $?: $(tail -n 3 "$said.qemu")"
    tr -d '\r' <"$said" >&2
    [ "$(tail -n 1 "$said" | tr -d '\r')" = passed ] ||
        die "it has not passed with $1. The end of its console:"$'\n'"$(tail -n 20 "$said.console")"
}

main
