#!/bin/bash
# What packaging/try-vm.sh has the machine do. Every step is printed; the last line says that all went well.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive
trap 'echo "try: failed at line $LINENO: $BASH_COMMAND"' ERR
step() { echo "try: $*"; }
pattern() { cat /proc/sys/kernel/core_pattern; }
# gdb, run as root, leaves bytecode of its own.
listed() {
  find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /dev -o -path /var/lib/dpkg -o -path /var/cache -o \
    -path /var/log -o -path /tmp -o -path /try -o -path /var/lib/systemd -o -path /var/tmp -o -path /usr/share/gdb \) -prune -o ! -name '*-' -printf '%y %m %p %l\n' |
    sort
}
crash() { runuser -u ann -- bash -c 'ulimit -c unlimited; cd /tmp; /try/crasher' || true; }
# Writing to the journal is not waited for by who crashes.
listed_by_coredumpctl() {
  for _ in {1..50}; do
    coredumpctl --no-pager --no-legend list /try/crasher 2>/dev/null | grep -c . >/try/count || true
    [ "$(cat /try/count)" != "$1" ] || return 0
    sleep 0.2
  done
  coredumpctl --no-pager list
  return 1
}

step "Linux $(uname -r), systemd $(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p'), up in $(cut -d. -f1 /proc/uptime) s"
useradd -m ann
listed >/try/before
first=$(pattern)
step "core_pattern is $first"

began=$(date +%s%N)
dpkg -i /try/first.deb >/try/log 2>&1 || { cat /try/log; false; }
step "dpkg -i took $((($(date +%s%N) - began) / 1000000)) ms"
[ "$(pattern)" = "$first" ]
for unit in corefilt-serve.socket corefilt-batch@x.timer; do [ "$(systemctl is-enabled $unit)" = disabled ]; done
corefilt demo >/try/log 2>&1 || { cat /try/log; false; }
step "demo: $(tail -n 1 /try/log)"

# systemd-coredump has the cores, so it has to be asked for.
if corefilt install --pipe-limit 16 2>/try/log; then false; fi
step "$(head -n 1 /try/log)"
corefilt install --pipe-limit 16 --force 2>/try/log || { cat /try/log; false; }
step "core_pattern is $(pattern)"
corefilt status >/try/log 2>&1 || { cat /try/log; false; }

crash
listed_by_coredumpctl 1
core=$(ls /var/lib/corefilt)
step "saved $core: $(stat -c '%s bytes, %b blocks of 512, mode %A' /var/lib/corefilt/"$core")"
runuser -u ann -- test -r "/var/lib/corefilt/$core"
coredumpctl --no-pager info /try/crasher >/try/log
grep -q 'Signal: 11 (SEGV)' /try/log && grep -q "Storage: /var/lib/corefilt/$core (present)" /try/log
step "coredumpctl info: $(grep 'Storage:' /try/log)"
printf 'backtrace\nquit\n' | coredumpctl --no-pager --debugger=gdb debug /try/crasher >/try/log 2>&1 || { cat /try/log; false; }
grep -q 'deepest (heap=' /try/log || { cat /try/log; false; }
step "coredumpctl debug: $(grep -m 1 'deepest (heap=' /try/log)"
corefilt status --prometheus | grep '^corefilt_cores{executable="/try/crasher",signal="SIGSEGV"} 1$'
step "$(corefilt list /var/lib/corefilt | tail -n 1)"

installed=$(pattern)
dpkg -i /try/next.deb >/try/log 2>&1 || { cat /try/log; false; }
[ "$(pattern)" = "$installed" ]
crash
listed_by_coredumpctl 2
step "upgraded, and a crash is saved as before"

# Cores that systemd-coredump stored, filtered where they lie.
systemctl start "corefilt-batch@$(systemd-escape -p /var/lib/systemd/coredump).service"
[ "$(systemctl show -P Result "corefilt-batch@$(systemd-escape -p /var/lib/systemd/coredump).service")" = success ]

# What the units forbid is nothing that their services need to start.
systemctl start corefilt-vacuum.service
[ "$(systemctl show -P Result corefilt-vacuum.service)" = success ]
systemctl start corefilt-serve.service
for _ in {1..100}; do
  ! journalctl -q -u corefilt-serve.service -o cat | grep -q 'takes cores at /run/corefilt.sock' || break
  sleep 0.2
done
[ "$(systemctl is-active corefilt-serve.service)" = active ]
journalctl -q -u corefilt-serve.service -o cat | grep 'takes cores at /run/corefilt.sock'
systemctl stop corefilt-serve.socket corefilt-serve.service
step "batch, vacuum and serve run as units"

dpkg --purge corefilt >/try/log 2>&1 || { cat /try/log; false; }
[ "$(pattern)" = "$first" ]
[ "$(cat /proc/sys/kernel/core_pipe_limit)" != "" ]
[ ! -e /etc/sysctl.d/60-corefilt.conf ]
listed >/try/after
diff /try/before /try/after
step "purged: core_pattern is $(pattern) again, and no file is left"
step "all is as it should be"
