#!/usr/bin/env bash
# Boots a machine with systemd, where root's program behind core_pattern is what the kernel says it is: installs a .deb, has
# corefilt filter what systemd-coredump stored and then take the cores of users' processes itself, asks coredumpctl and gdb
# for them, upgrades and purges.
#
#   packaging/try-vm.sh SUITE DEB [MIRROR]      (SUITE: bookworm, trixie, or a tree; as root)
#
#   COREFILT_VM_ACCEL     kvm where nested virtualization works (tcg)
#   COREFILT_VM_SECONDS   when it is given up (5000)
#
# Needs debootstrap, qemu-system-x86, gcc, e2fsprogs and 4 GB below TMPDIR. The machine has no network.
set -euo pipefail
suite=$1 deb=$(realpath "$2") mirror=${3:-http://deb.debian.org/debian}
cd "$(dirname "$0")/.."
work=$(mktemp -d)
root=$work/root
trap 'umount -q "$root/proc/sys" 2>/dev/null || true; umount -q "$root/proc" 2>/dev/null || true; rm -rf --one-file-system "$work"' EXIT
if [ -d "$suite" ]; then
  cp -a "$suite" "$root"
else
  debootstrap --variant=minbase "$suite" "$root" "$mirror" >"$work/log" || { tail "$work/log" >&2; exit 1; }
fi
cp /etc/resolv.conf "$root/etc"
# systemd-coredump would have this machine's kernel start it.
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive apt-get install -y \
  --no-install-recommends systemd-sysv linux-image-cloud-amd64 initramfs-tools gdb systemd-coredump udev dbus libseccomp2 \
  "$(dpkg-deb -f "$deb" Depends | grep -o 'python3\.[0-9]*')" >"$work/log" 2>&1 || { tail "$work/log" >&2; exit 1; }
umount "$root/proc/sys" "$root/proc"
mkdir "$root/try"
cp "$deb" "$root/try/first.deb"
dpkg-deb -R "$deb" "$work/next"
sed -i 's/^Version: .*/&+next/' "$work/next/DEBIAN/control"
dpkg-deb --root-owner-group -Znone -b "$work/next" "$root/try/next.deb" >/dev/null
cp packaging/try-vm-inside.sh "$root/try/inside.sh"
gcc -O0 -g -static -o "$root/try/crasher" -x c - <<'C'
#include <signal.h>
#include <string.h>
#include <stdlib.h>
#include <sys/mman.h>
static int deepest(char *heap) { *(volatile int *)0 = 7; return heap[0]; }
int main(void) {
  char *heap = malloc(64 << 20), *shared = mmap(0, 32 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  for (unsigned n = 0; n < 32u << 20; n++) shared[n] = (char)((n * 2654435761u) >> 24);
  memset(heap, 1, 64 << 20);
  return deepest(heap);
}
C
mkdir -p "$root/etc/systemd/coredump.conf.d"
printf '[Coredump]\nStorage=external\n' >"$root/etc/systemd/coredump.conf.d/external.conf"
cat >"$root/etc/systemd/system/try.service" <<'UNIT'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/bash /try/inside.sh
StandardOutput=file:/try/said
StandardError=file:/try/said
ExecStopPost=/sbin/poweroff -f
[Install]
WantedBy=default.target
UNIT
ln -sf /etc/systemd/system/try.service "$root/etc/systemd/system/multi-user.target.wants/try.service"
: >"$root/etc/fstab"
truncate -s 3G "$work/disk"
mkfs.ext4 -q -d "$root" "$work/disk"
kernels=("$root"/boot/vmlinuz-*) initrds=("$root"/boot/initrd.img-*)
timeout "${COREFILT_VM_SECONDS:-5000}" qemu-system-x86_64 -machine q35 -accel "${COREFILT_VM_ACCEL:-tcg}" \
  -cpu max,arch-capabilities=off -m 1024 -smp 2 -nographic -no-reboot -nic none -kernel "${kernels[-1]}" -initrd "${initrds[-1]}" \
  -append 'root=/dev/vda rw console=ttyS0 quiet systemd.show_status=false' \
  -drive "file=$work/disk,format=raw,if=virtio" </dev/null >"$work/console" 2>&1 || true
debugfs -R 'cat /try/said' "$work/disk" >"$work/said" 2>/dev/null
grep '^try: ' "$work/said" || true
times >"$work/times"
echo "${suite##*/}: $SECONDS s, and CPU time $(sed -n 2p "$work/times"), for the machine and its making"
grep -q '^try: [0-9]* s: all is as it should be$' "$work/said" || { tail -n 20 "$work/console" "$work/said" >&2; exit 1; }
