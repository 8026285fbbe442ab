# shellcheck shell=bash
# in_system.sh
#
# What scripts/package-test system runs in each of its machines, as root, when the system is up: installs the package,
# and does what docs/hardening.md has a reader do. The kernel's parameter test= says which machine it is. What is said
# goes to the second serial line, and ends with "passed" if it has.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/lib/pages.sh
. "$(dirname "${BASH_SOURCE[0]}")/pages.sh"
# shellcheck source=scripts/lib/expect.sh
. "$(dirname "${BASH_SOURCE[0]}")/expect.sh"
me=in_system
# shellcheck disable=SC2034 # page_says uses it
port=80
machine=$(sed -n 's/.*\btest=\([a-z]*\).*/\1/p' /proc/cmdline)
[ -n "$machine" ] || die "scripts/package-test system starts the machine that this is for"
audit=/var/log/audit/audit.log

main() {
    exec </dev/null >/dev/ttyS1 2>&1
    an_application
    "with_$machine"
    echo passed
}

fail() {
    die "$*"$'\n'"$(
        tail -n 20 /var/log/apache2/error.log
        denied | tail -n 20
        systemctl --no-pager --full status apache2
    )"
}

# --- what is served ------------------------------------------------------------------------------

# One application in a process group and, as another user, within httpd. It does what it is asked to, and says how
# that went.
an_application() {
    step "the package, and an application with a virtual environment and an extension module"
    dpkg --install /srv/*.deb >/tmp/dpkg 2>&1 || fail "dpkg --install: $(cat /tmp/dpkg)"
    mkdir /srv/shop /srv/other
    python3 -m venv --without-pip /srv/shop/venv
    cp -r /usr/lib/python3/dist-packages/markupsafe /srv/shop/venv/lib/python3*/site-packages/
    cat >/srv/shop/app.wsgi <<'END'
import errno, os, socket, sys
import markupsafe._speedups

def attempt(what, with_what):
    if what == "read":
        os.listdir(with_what)
    elif what == "write":
        open(with_what, "w").close()
    elif what == "connect":
        socket.create_connection(("127.0.0.1", int(with_what)), 5).close()

def application(environ, start_response):
    what, _, with_what = environ["QUERY_STRING"].partition("=")
    try:
        attempt(what, with_what)
        said = "done"
    except OSError as error:
        said = errno.errorcode[error.errno]
    assert markupsafe._speedups.__file__.startswith(sys.prefix)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.geteuid()} {said}".encode()]
END
    follow docs/hardening.md user
    install -d -m 777 /srv/other/open
    cat >/etc/apache2/conf-available/shop.conf <<'END'
ServerName localhost
WSGIPythonHome /srv/shop/venv
WSGIDaemonProcess shop user=shop group=shop home=/srv/shop umask=0077 python-home=/srv/shop/venv
WSGIScriptAlias /shop /srv/shop/app.wsgi process-group=shop application-group=shop
WSGIScriptAlias /app /srv/shop/app.wsgi application-group=app
<Directory /srv/shop>
    Require all granted
</Directory>
END
    a2enconf -q shop
    shop=$(id -u shop)
    www_data=$(id -u www-data)
}

restart() { systemctl restart apache2 || fail "apache2 does not start"; }

it_serves() {
    await "an answer within httpd" page_says /app "$www_data done"
    await "an answer by the process group" page_says /shop "$shop done"
}

# it_may WHAT / it_may_not WHAT REASON: in the process group.
it_may() { await "leave to $1" page_says "/shop?$1" "$shop done"; }
it_may_not() { await "no leave to $1" page_says "/shop?$1" "$shop $2"; }

# --- SELinux -------------------------------------------------------------------------------------

with_selinux() {
    # Not from the beginning: who runs this comes from systemd, which may not make an administrator's process.
    setenforce 1
    step "SELinux: what has no label for httpd is refused"
    restart
    await "a refusal" is_refused /shop
    follow docs/hardening.md selinux-files
    [ -n "$(denied)" ] || fail "no denial is on record, so that there are none later would show nothing"
    truncate --size 0 "$audit"
    restart
    it_serves
    case $(ps -o label= -C apache2,manifold-worker | sort -u) in
    *:httpd_t:s0) ;;
    *) fail "not all is httpd's: $(ps -eo label,args)" ;;
    esac
    it_may write=/srv/shop/data/file
    it_may_not write=/srv/other/open/file EACCES

    step "SELinux: connections"
    python3 -m http.server --bind 127.0.0.1 8765 >/dev/null 2>&1 &
    it_may_not connect=8765 EACCES
    follow docs/hardening.md selinux-network
    it_may connect=8765
    kill $!

    step "SELinux: stopping, and starting after a reload"
    systemctl reload apache2
    it_serves
    nothing_was_denied_but '{ create }' name_connect

    step "SELinux: a worker program that lies among httpd's modules"
    cp --remove-destination "$(readlink -f /usr/lib/apache2/modules/manifold-worker)" /usr/lib/apache2/modules/manifold-worker
    restart
    await "a line that says so" grep -q 'MNF0045.*Permission denied.*bin_t' /var/log/apache2/error.log
    manifold doctor >/tmp/doctor || true
    grep -A3 selinux /tmp/doctor | grep -q 'httpd_modules_t' || fail "doctor does not name the label: $(cat /tmp/doctor)"
    follow docs/hardening.md selinux-worker
    restart
    it_serves
}

# shellcheck disable=SC2317,SC2329 # called by await
is_refused() { [ "$(curl --silent --output /dev/null --write-out '%{http_code}' "http://127.0.0.1$1")" = 403 ]; }

# --- AppArmor, and systemd -----------------------------------------------------------------------

with_apparmor() {
    [ "$(cat /sys/module/apparmor/parameters/enabled)" = Y ] || die "there is no AppArmor, so this would show nothing"
    restart
    it_serves
    it_may read=/home
    it_may write=/srv/other/open/file

    step "systemd: the drop-in"
    mkdir -p /etc/systemd/system/apache2.service.d
    block docs/hardening.md systemd >/etc/systemd/system/apache2.service.d/harden.conf
    systemctl daemon-reload
    restart
    it_serves
    it_may write=/srv/shop/data/file
    it_may_not write=/srv/other/open/file EROFS
    it_may_not read=/home EACCES
    systemctl reload apache2
    it_serves
    systemd-analyze --no-pager security apache2 | tail -n 1
    rm -r /etc/systemd/system/apache2.service.d
    systemctl daemon-reload

    step "AppArmor: the profile"
    block docs/hardening.md profile >/etc/apparmor.d/usr.sbin.apache2
    systemctl stop apache2
    apparmor_parser --replace /etc/apparmor.d/usr.sbin.apache2
    restart
    it_serves
    [ "$(ps -o label= -C apache2,manifold-worker | sort -u)" = 'apache2 (enforce)' ] ||
        fail "not all is confined: $(ps -eo label,args)"
    it_may write=/srv/shop/data/file
    it_may_not write=/srv/other/open/file EACCES
    systemctl reload apache2
    it_serves
    nothing_was_denied_but /srv/other/open/file
    manifold doctor >/tmp/doctor || true
    grep -q 'profile for httpd: /etc/apparmor.d/usr.sbin.apache2' /tmp/doctor ||
        fail "doctor does not name the profile: $(cat /tmp/doctor)"
}

# --- what was denied -----------------------------------------------------------------------------

# To httpd.
denied() { grep -E 'denied .*scontext=[^ ]*:httpd_t:|apparmor="DENIED".*profile="apache2"' "$audit" || true; }

# nothing_was_denied_but TEXT...: each a part of a record that is expected, and has to be there.
nothing_was_denied_but() {
    local text left
    left=$(denied)
    for text in "$@"; do
        case $left in *"$text"*) ;; *) fail "no record of a denial has $text" ;; esac
        left=$(grep -vF -- "$text" <<<"$left" || true)
    done
    [ -z "$left" ] || fail "denied:"$'\n'"$left"
}

main
