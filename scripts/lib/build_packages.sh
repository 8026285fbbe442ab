# shellcheck shell=bash
# build_packages.sh
#
# The first half of scripts/package-test deb: in a clean Debian, as root. Builds both packages, and has lintian
# look at the one; does what pages say of a build that is there.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/lib/pages.sh
. "$(dirname "${BASH_SOURCE[0]}")/pages.sh"
me=build_packages
[ "$root" = /srv/mod_manifold ] || die "scripts/package-test deb calls this, in a Debian of its own"

export DEBFULLNAME="Test of packages" DEBEMAIL=test@example.org DEBIAN_FRONTEND=noninteractive
# Nobody is asked, whatever the pages leave out.
echo 'APT::Get::Assume-Yes "true";' >/etc/apt/apt.conf.d/90nobody
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod +x /usr/sbin/policy-rc.d
cd "$root"
rm -rf target/debian
"$root/scripts/setup"
step "apt-get install apache2 lintian sudo"
apt-get install -y -qq --no-install-recommends apache2 lintian sudo </dev/null >/dev/null
follow docs/packages.md deb
deb=$(echo target/debian/*.deb)
apachectl -M 2>/dev/null | grep -q wsgi_module || die "Debian's httpd does not load what the package has"
apt-get purge -y -qq libapache2-mod-manifold </dev/null >/dev/null
follow README.md install
a2enmod -q wsgi
apachectl -M 2>/dev/null | grep -q wsgi_module || die "Debian's httpd does not load what was installed"
"$root/scripts/package" wheel
# It goes to no archive of Debian's, where a first upload closes a bug.
lintian --allow-root --fail-on error --suppress-tags initial-upload-closes-no-bugs "$deb"
