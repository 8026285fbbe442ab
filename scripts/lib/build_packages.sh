# shellcheck shell=bash
# build_packages.sh
#
# The first half of scripts/package-test deb: in a clean Debian, as root. Builds both packages, and has lintian
# look at the one.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

export DEBFULLNAME="Test of packages" DEBEMAIL=test@example.org
deb=$("$root/scripts/package" deb)
"$root/scripts/package" wheel
step "apt-get install lintian"
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends lintian </dev/null >/dev/null
# It goes to no archive of Debian's, where a first upload closes a bug.
lintian --allow-root --fail-on error --suppress-tags initial-upload-closes-no-bugs "$deb"
