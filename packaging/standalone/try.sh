#!/usr/bin/env bash
# Runs a standalone directory where there is nothing else, as a pod of deploy/kubernetes does, on a directory that stands for the
# node: installs, installs again, leaves another handler's line alone, and removes all.
#
#   packaging/standalone/try.sh DIRECTORY      (as root)
set -euo pipefail
work=$(mktemp -d)
pod=$work/pod host=$work/pod/host
trap 'umount -q "$pod/proc" || true; rm -rf --one-file-system "$work"' EXIT
mkdir -p "$pod"/{opt,proc,dev,etc,tmp} "$host"/{opt,etc,var/lib,proc/sys/kernel}
cp -a "$1" "$pod/opt/corefilt"
cp "$(dirname "$0")/../../deploy/kubernetes/base/corefilt.conf" "$pod/etc"
chown -R 0:0 "$pod"
mknod -m 666 "$pod/dev/null" c 1 3
mount -t proc proc "$pod/proc"
inside() { env -i /usr/sbin/chroot "$pod" "/opt/corefilt/bin/$1" "${@:2}"; }
node() { inside python3 -I /opt/corefilt/node.py "$@"; }
pattern=$host/proc/sys/kernel/core_pattern
echo core >"$pattern"
echo 0 >"$host/proc/sys/kernel/core_pipe_limit"

inside corefilt --version | grep corefilt
inside corefilt demo >"$work/demo"
node install
grep -q '^|/opt/corefilt/bin/python3 -I -m corefilt.handler ' "$pattern"
test -x "$host/opt/corefilt/bin/python3" -a -f "$host/etc/corefilt.conf"
# A pod that starts again changes nothing.
before=$(cat "$pattern" "$host/etc/sysctl.d/60-corefilt.conf")
node install
test "$(cat "$pattern" "$host/etc/sysctl.d/60-corefilt.conf")" = "$before"
node uninstall
test "$(cat "$pattern")" = core -a ! -e "$host/opt/corefilt" -a ! -e "$host/etc/sysctl.d/60-corefilt.conf"
# Another handler keeps its place.
echo '|/usr/bin/other %p' >"$pattern"
if node install; then false; fi
test "$(cat "$pattern")" = '|/usr/bin/other %p'
echo "$(du -sm "$pod/opt/corefilt" | cut -f1) MB; installed and removed as a pod does"
