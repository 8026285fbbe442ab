# shellcheck shell=bash
# test_deb.sh
#
# The second half of scripts/package-test deb: in a clean Debian, as root, with what the first half has left in
# target/. Does what pages say of a system that is there, too. It changes the system that it runs on, so it refuses
# any but the one that scripts/in-distro makes.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/lib/pages.sh
. "$(dirname "${BASH_SOURCE[0]}")/pages.sh"
# shellcheck source=scripts/lib/expect.sh
. "$(dirname "${BASH_SOURCE[0]}")/expect.sh"
me=test_deb
[ "$root" = /srv/mod_manifold ] || die "scripts/package-test deb calls this, in a Debian of its own"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
folder=/srv/test
package=libapache2-mod-manifold

main() {
    prepare_system
    a_python_without_libpython_is_named
    take_picture >"$folder/before"
    a_fresh_system_serves
    what_the_administrator_disabled_stays_disabled
    a_wheel_serves
    a_container_stops_gracefully
    nothing_is_left
    mod_wsgi_is_replaced
    the_pages_do_what_they_say
    step "passed"
}

fail() { die "$*"$'\n'"$(tail -n 20 /var/log/apache2/error.log "$folder"/*.log 2>/dev/null)"; }
install_packages() {
    apt-get install -y -qq --no-install-recommends "$@" </dev/null >"$folder/apt" 2>&1 ||
        die "apt-get install $*: $(tail -n 20 "$folder/apt")"
}

# apache2 is there already, with a site, and listens where nobody else of this machine does.
prepare_system() {
    step "a Debian with apache2"
    mkdir -p "$folder/www"
    deb=$(newest target/debian/*.deb)
    wheel=$(newest target/wheel/*.whl)
    cp "$root/$deb" "$root/$wheel" "$folder/"
    deb=$folder/${deb##*/} wheel=$folder/${wheel##*/}
    apt-get update -qq
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
    install_packages apache2 curl python3 python3-venv
    port=$(free_port)
    echo "Listen 127.0.0.1:$port" >/etc/apache2/ports.conf
    rm /usr/sbin/policy-rc.d
    cat >"$folder/www/app.wsgi" <<'END'
import os, sys, time
def application(environ, start_response):
    if environ["QUERY_STRING"] == "slow":
        open("/srv/test/www/run/asked", "w").close()
        time.sleep(2)
    start_response("200 OK", [("Content-Type", "text/plain")])
    with open("/proc/self/maps") as maps:
        which = "mod_wsgi" if "mod_wsgi" in maps.read() else "manifold"
    return [f"{which} {sys.version_info[0]}.{sys.version_info[1]} {os.geteuid()}\n".encode()]
END
    mkdir -m 777 "$folder/www/run"
    # A site as mod_wsgi has them.
    cat >/etc/apache2/sites-available/app.conf <<END
ServerName localhost
<IfModule wsgi_module>
    WSGIDaemonProcess app threads=4
    WSGIScriptAlias /app $folder/www/app.wsgi process-group=app application-group=%{GLOBAL}
    <Directory $folder/www>
        Require all granted
    </Directory>
</IfModule>
END
    a2ensite -q app
    version=$(python3 -c 'import sys; print("{}.{}".format(*sys.version_info))')
    expected="$version $(id -u www-data)"
}

newest() {
    [ -e "$1" ] || die "there is no $1: scripts/package makes it"
    # shellcheck disable=SC2012 # names of our own
    ls -t "$@" | head -n 1
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# Debian's python3 contains what others have in a library.
a_python_without_libpython_is_named() {
    step "a wheel beside a Python without libpython"
    ! ldconfig -p | grep -q "libpython$version.so" || die "libpython is there already, so this would show nothing"
    python3 -m venv "$folder/venv"
    "$folder/venv/bin/pip" install --quiet --no-index "$wheel"
    if said=$("$folder/venv/bin/manifold" serve "$folder/www/app.wsgi" --port 0 2>&1); then
        die "it cannot have served: $said"
    fi
    for words in "libpython$version.so.1.0 is not found" "static build" "apt-get install libpython$version"; do
        case $said in *"$words"*) ;; *) die "expected \"$words\": $said" ;; esac
    done
}

# Every file, without those that packages of all kinds leave; of a2enmod's memory the folders, not what is in them.
take_picture() {
    find / -xdev \( -path "$folder" -o -path /var/lib/dpkg -o -path /var/cache -o -path /var/lib/apt -o -path /var/log \
        -o -path /run -o -path /tmp -o -path /root -o -path /etc/ld.so.cache -o -path /etc/apache2/ports.conf \) -prune \
        -o -print | grep -vxE '/var/lib/apache2/module/(en|dis)abled_by_(admin|maint)' | sort
}

a_fresh_system_serves() {
    step "installing $(basename "$deb")"
    install_packages "$deb"
    a2query -m wsgi | grep -q '^wsgi (enabled by maintainer script)' || fail "a2query: $(a2query -m wsgi)"
    apachectl configtest
    apachectl start || apachectl restart
    answers "manifold $expected"
    manifold doctor "$folder/www/app.wsgi" >"$folder/doctor.log" || fail "doctor"
    man -w manifold-serve >/dev/null 2>&1 || [ -e /usr/share/man/man1/manifold-serve.1.gz ] ||
        grep -q path-exclude /etc/dpkg/dpkg.cfg.d/* || fail "no manual page"
    step "installing it again, while it serves"
    install_packages --reinstall "$deb"
    answers "manifold $expected"
}

what_the_administrator_disabled_stays_disabled() {
    step "installing it again, where it is disabled"
    a2dismod -q wsgi
    install_packages --reinstall "$deb"
    ! a2query -q -m wsgi || fail "it is enabled again"
    a2enmod -q wsgi
    apachectl restart
    answers "manifold $expected"
}

# libpython has come with the package.
a_wheel_serves() {
    step "the wheel serves now"
    "$folder/venv/bin/manifold" serve "$folder/www/app.wsgi" --port 0 >"$folder/out" 2>"$folder/serve.log" &
    local pid=$! url=''
    await "a URL" url_is_said
    url=$(sed -n 's/^ *URL *//p' "$folder/out")
    [ "$(curl --silent --fail --noproxy '*' "$url")" = "manifold $expected" ] || fail "the wheel's server"
    kill "$pid"
    wait "$pid" || fail "manifold serve ended with $?"
}
# shellcheck disable=SC2317,SC2329 # called by await
url_is_said() { grep -q '^ *URL' "$folder/out"; }

# What the Dockerfile's image runs, as the user and on the signal that it names.
a_container_stops_gracefully() {
    step "the container's server, and its signal"
    local pid port slow
    port=$(free_port)
    install -d -o www-data -g www-data /run/manifold
    # A container's standard error belongs to its user; httpd opens it again.
    install -o www-data -m 644 /dev/null "$folder/container.log"
    (cd "$folder/www" && exec setpriv --reuid www-data --regid www-data --clear-groups \
        "$root/docker/serve" "$folder/www/app.wsgi" --port "$port") >"$folder/container.log" 2>&1 &
    pid=$!
    await "the container's server" container_answers "$port"
    [ "$(tr '\0' ' ' <"/proc/$pid/cmdline" | cut -d ' ' -f 1)" = /usr/sbin/apache2 ] || fail "it has not become httpd"
    curl --silent --fail --noproxy '*' "http://127.0.0.1:$port/?slow" >"$folder/slow" &
    slow=$!
    await "the request is in the application" test -e "$folder/www/run/asked"
    kill -WINCH "$pid"
    wait "$slow" || fail "the request that was under way failed"
    [ "$(cat "$folder/slow")" = "manifold $expected" ] || fail "it was answered $(cat "$folder/slow")"
    wait "$pid" || fail "httpd ended with status $?"
}
# shellcheck disable=SC2317,SC2329 # called by await
container_answers() { curl --silent --fail --noproxy '*' "http://127.0.0.1:$1/" >/dev/null; }

nothing_is_left() {
    step "removing"
    apt-get remove -y -qq "$package" </dev/null >"$folder/apt" 2>&1 || fail "apt-get remove: $(cat "$folder/apt")"
    ! a2query -q -m wsgi || fail "it is still enabled"
    apachectl configtest
    [ -e /etc/apache2/mods-available/wsgi.load ] || fail "remove took the configuration"
    step "purging"
    apt-get purge -y -qq --autoremove "$package" </dev/null >"$folder/apt" 2>&1 || fail "apt-get purge: $(tail -n 20 "$folder/apt")"
    is_as_before
}

is_as_before() {
    take_picture >"$folder/after"
    diff "$folder/before" "$folder/after" >"$folder/left" || fail "not as before:"$'\n'"$(head -n 40 "$folder/left")"
}

# Stopped and started each time, as Debian's maintainer scripts do where there is an init system: httpd's own restart
# keeps libraries that were replaced below it.
mod_wsgi_is_replaced() {
    step "in the place of mod_wsgi"
    install_packages libapache2-mod-wsgi-py3
    stop_and_start
    answers "mod_wsgi $expected"
    install_packages "$deb"
    stop_and_start
    answers "manifold $expected"
    step "and its configuration is not mod_wsgi's to purge"
    dpkg --purge libapache2-mod-wsgi-py3 >"$folder/apt" 2>&1 || fail "$(cat "$folder/apt")"
    grep -q mod_manifold.so /etc/apache2/mods-available/wsgi.load || fail "wsgi.load has gone or is another's"
    # Its script disables the module of its name, as docs/packages.md warns.
    a2enmod -q wsgi
    stop_and_start
    answers "manifold $expected"
    apt-get purge -y -qq --autoremove "$package" </dev/null >"$folder/apt" 2>&1 ||
        fail "apt-get purge: $(tail -n 20 "$folder/apt")"
    is_as_before
}

# A reader's system: the program is there, from the wheel, and httpd serves without it yet.
the_pages_do_what_they_say() {
    local pid
    install_packages sudo "libpython$version"
    PATH=$folder/venv/bin:$PATH
    follow docs/command-line.md man-pages
    [ -s /usr/local/share/man/man1/manifold-serve.1 ] || fail "no manual page was written"
    # What was purged is loaded still.
    stop_and_start
    ! apachectl -M 2>/dev/null | grep -q wsgi_module || fail "httpd loads it already, so this would show nothing"
    follow docs/get-started.md install
    follow docs/get-started.md graceful
    answers "manifold $expected"

    mkdir /srv/shop
    cp "$folder/www/app.wsgi" /srv/shop/
    python3 -m venv --without-pip /srv/shop/venv
    follow docs/hardening.md user
    block docs/hardening.md shop >/etc/apache2/conf-available/shop.conf
    a2enconf -q shop
    follow docs/scaling-out.md modules
    stop_and_start
    await "an answer by the user shop" page_says / "manifold $version $(id -u shop)"

    pid=$(cat /run/apache2/apache2.pid)
    follow docs/scaling-out.md graceful-stop
    await "httpd's end" has_ended "$pid"
}

stop_and_start() {
    local pid
    pid=$(cat /run/apache2/apache2.pid)
    apachectl stop
    await "httpd's end" has_ended "$pid"
    apachectl start
}

# answers TEXT: the site says it, within a while: a restart is not over when apachectl is.
answers() {
    await "an answer $1" site_says "$1"
}
# shellcheck disable=SC2317,SC2329 # called by await
site_says() { page_says /app "$1"; }

main
