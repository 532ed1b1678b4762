#!/usr/bin/env bash
# Installs, upgrades, removes and purges a .deb in a chroot, and holds what is there afterwards against what was before.
#
#   packaging/try-chroot.sh SUITE DEB [MIRROR]      (SUITE: bookworm, trixie, or a tree that debootstrap made; as root)
#
# core_pattern is this machine's in a chroot too: nothing here may change it. What the handler does is tried in a virtual
# machine (packaging/try-vm.sh).
set -euo pipefail
suite=$1 deb=$(realpath "$2") mirror=${3:-http://deb.debian.org/debian}
work=$(mktemp -d)
root=$work/root
trap 'umount "$root/proc" 2>/dev/null || true; rm -rf --one-file-system "$work"' EXIT
pattern=$(cat /proc/sys/kernel/core_pattern)

if [ -d "$suite" ]; then
  cp -a "$suite" "$root"
else
  debootstrap --variant=minbase "$suite" "$root" "$mirror" >"$work/log" || { tail "$work/log" >&2; exit 1; }
fi
cp /etc/resolv.conf "$root/etc"
mount -t proc proc "$root/proc"
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive "$@"; }
quietly() { inside "$@" >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }; }
# Files, links and directories, less what dpkg and apt note of themselves.
listed() {
  inside find / -xdev \( -path /proc -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/cache -o -path /var/log \
    -o -path /tmp \) -prune -o ! -name '*-' -printf '%y %m %p %l\n' | sort
}

# What the package depends on, before what is there is listed.
quietly apt-get install -y --no-install-recommends libseccomp2 systemd-standalone-sysusers \
  "$(dpkg-deb -f "$deb" Depends | grep -o 'python3\.[0-9]*')"
listed >"$work/before"
cp "$deb" "$root/tmp/first.deb"
# A later version of the same files.
dpkg-deb -R "$deb" "$work/next"
sed -i 's/^Version: .*/&+next/' "$work/next/DEBIAN/control"
dpkg-deb --root-owner-group -Znone -b "$work/next" "$root/tmp/next.deb" >/dev/null

began=$(date +%s%N)
quietly apt-get install -y --no-install-recommends /tmp/first.deb
echo "installed in $((($(date +%s%N) - began) / 1000000)) ms, $(inside du -sk /usr/lib/corefilt | cut -f1) KiB"
inside corefilt version
inside corefilt demo >"$work/demo" && tail -n 1 "$work/demo"
test "$(inside stat -c %a:%U /etc/corefilt.conf /var/lib/corefilt | xargs)" = "644:root 755:root"
inside id corefilt
# Nobody but root can change what would run as root, and the settings are those that hold without the file.
(inside corefilt status --json || test $? = 4) | python3 -c '
import json, sys
report = json.load(sys.stdin)
assert report["untrusted"] == [] and not report["ours"] and not report["installed"], report
assert [report[part]["error"] for part in ("config", "account", "directory")] == [None] * 3, report
'
echo '# changed' >>"$root/etc/corefilt.conf"
quietly apt-get install -y --no-install-recommends /tmp/next.deb
grep -q '^# changed$' "$root/etc/corefilt.conf"
inside corefilt version >"$work/version"
: >"$root/var/lib/corefilt/core.left.1"
quietly apt-get remove -y corefilt
test -e "$root/var/lib/corefilt/core.left.1" && test ! -e "$root/usr/lib/corefilt"
quietly apt-get purge -y corefilt
listed >"$work/after"
diff "$work/before" "$work/after"
test "$(cat /proc/sys/kernel/core_pattern)" = "$pattern"
echo "$suite: installed, upgraded, removed and purged; no file is left, and core_pattern is as it was"
