#!/usr/bin/env bash
# Installs, upgrades and removes the .rpm of RHEL 9 in a chroot of Debian 12, which has the same python3.11 and rpm, and holds
# what is there afterwards against what was before. RHEL's own names of what it depends on are not asked for.
#
#   packaging/try-rpm.sh TREE FIRST NEXT      (TREE: bookworm, as debootstrap makes it; as root)
#
# core_pattern is this machine's in a chroot too: nothing here may change it.
set -euo pipefail
tree=$1 first=$(realpath "$2") next=$(realpath "$3")
work=$(mktemp -d)
root=$work/root
trap 'umount -q "$root/proc" || true; rm -rf --one-file-system "$work"' EXIT
pattern=$(cat /proc/sys/kernel/core_pattern)
cp -a "$tree" "$root"
cp /etc/resolv.conf "$root/etc"
mount -t proc proc "$root/proc"
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive "$@"; }
quietly() { inside "$@" >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }; }
# A script that fails lets rpm go on, and is told.
rpm() {
  inside rpm --nodeps "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
  ! grep -E 'warning|error|failed' "$work/log" | grep -v 'saved as /etc/corefilt.conf.rpmsave'
}
listed() {
  inside find / -xdev \( -path /proc -o -path /var/lib/rpm -o -path '*/.rpmdb' -o -path /tmp \) -prune -o ! -name '*-' \
    -printf '%y %m %u %p %l\n' | sort
}
quietly apt-get install -y --no-install-recommends rpm python3.11 libseccomp2 systemd-standalone-sysusers
# RHEL's package "filesystem" has these.
inside mkdir -p /usr/lib/sysusers.d /usr/share/{fish/vendor_completions.d,zsh/site-functions}
cp "$first" "$root/tmp/first.rpm"
cp "$next" "$root/tmp/next.rpm"
listed >"$work/before"

rpm -i /tmp/first.rpm
inside corefilt version
inside corefilt demo >"$work/demo" && tail -n 1 "$work/demo"
inside id corefilt
test "$(inside stat -c %a:%U /etc/corefilt.conf /var/lib/corefilt | xargs)" = "644:root 755:root"
# Every file as the package describes it, before anybody has changed one.
inside rpm -V --nodeps corefilt
echo '# changed' >>"$root/etc/corefilt.conf"
rpm -U /tmp/next.rpm
test "$(inside rpm -q corefilt)" = "$(inside rpm -qp /tmp/next.rpm)"
grep -q '^# changed$' "$root/etc/corefilt.conf"
inside corefilt demo >"$work/demo"
rpm -e corefilt
# rpm keeps a configuration that was changed.
mv "$root/etc/corefilt.conf.rpmsave" "$root/tmp"
listed >"$work/after"
diff "$work/before" "$work/after"
test "$(cat /proc/sys/kernel/core_pattern)" = "$pattern"
echo "$(basename "$first"): installed, upgraded and removed by rpm $(inside rpm --version | grep -o '[0-9.]*$') of Debian; no file is left"
