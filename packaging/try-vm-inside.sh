#!/bin/bash
# What packaging/try-vm.sh has the machine do. Every step is printed; the last line says that all went well.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive
trap 'echo "try: failed at line $LINENO: $BASH_COMMAND"' ERR
# On the console too, for who watches.
step() { echo "try: $(cut -d. -f1 /proc/uptime) s: $*" | tee /dev/ttyS0; }
pattern() { cat /proc/sys/kernel/core_pattern; }
limit() { cat /proc/sys/kernel/core_pipe_limit; }
# Every file, less what dpkg, the journal, systemd and gdb write of themselves, and the cores of systemd-coredump, which
# are looked at by their names.
listed() {
  find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /dev -o -path /try -o -path /var/lib/dpkg -o \
    -path /var/cache -o -path /var/log -o -path /var/lib/systemd/coredump -o -path /var/lib/systemd/timers -o \
    -name 'systemd-private-*' -o -path '/usr/share/gdb/*/__pycache__' \) -prune -o ! -name '*-' ! -name random-seed -printf '%y %m %u %p %l\n' | sort
}
# What the files in /etc say, but for the accounts: a package's account stays.
settings() { find /etc -type f ! -name '*-' ! -name passwd ! -name group ! -name '*shadow' -exec sha256sum {} + | sort -k 2; }
named() { find / \( -path /proc -o -path /sys -o -path /try \) -prune -o -name '*corefilt*' -print; }
crash() { runuser -u "$1" -- bash -c 'ulimit -c unlimited; cd /tmp; /try/crasher' || true; }
until_it_holds() {
  for _ in {1..300}; do
    ! "$@" >/dev/null 2>&1 || return 0
    sleep 0.2
  done
  echo "try: never came true: $*"
  return 1
}
# Writing to the journal is not waited for by who crashes.
has_crashes() { [ "$(coredumpctl --no-pager --no-legend list /try/crasher | grep -c present)" = "$1" ]; }
# What coredumpctl says of the last crash: list, info, and a backtrace that gdb makes of the core.
asked() {
  coredumpctl --no-pager --no-legend -1 list /try/crasher >/try/log
  grep -q 'SIGSEGV present */try/crasher' /try/log || { cat /try/log; false; }
  step "coredumpctl list: $(xargs </try/log)"
  coredumpctl --no-pager -1 info /try/crasher >/try/log
  grep -q 'Signal: 11 (SEGV)' /try/log || { cat /try/log; false; }
  grep -q "Storage: $1 (present)" /try/log || { cat /try/log; false; }
  step "coredumpctl info: $(grep -E 'Storage:|Size on Disk:' /try/log | xargs)"
  printf 'backtrace\nquit\n' | coredumpctl --no-pager -1 --debugger=gdb debug /try/crasher >/try/log 2>&1 ||
    { cat /try/log; false; }
  grep -q 'deepest (heap=' /try/log || { cat /try/log; false; }
  step "coredumpctl debug: $(grep -m 1 'deepest (heap=' /try/log)"
}
# Bytes that a core holds of a kind of mapping.
held() { corefilt inspect "$1" --json | /usr/lib/corefilt/bin/python3 -c "import json, sys; print(json.load(sys.stdin)['kinds']['$2']['present'])"; }

step "Linux $(uname -r), systemd $(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p')"
useradd -m ann
useradd -m bob
listed >/try/before
settings >/try/settings.before
first=$(pattern) first_limit=$(limit)
step "core_pattern is $first, core_pipe_limit $first_limit"
crash ann
until_it_holds has_crashes 1
external=/var/lib/systemd/coredump
stored=$(ls $external/core.crasher.*)
was=$(stat -c %s "$stored")
step "systemd-coredump stored $stored: $was bytes, mode $(stat -c %A "$stored")"

began=$(date +%s%N)
dpkg -i /try/first.deb >/try/log 2>&1 || { cat /try/log; false; }
step "dpkg -i took $((($(date +%s%N) - began) / 1000000)) ms"
[ "$(pattern) $(limit)" = "$first $first_limit" ]
for unit in corefilt-serve.socket corefilt-vacuum.timer corefilt-batch@x.timer; do
  [ "$(systemctl is-enabled $unit)" = disabled ]
  [ "$(systemctl is-active $unit)" = inactive ]
done
for unit in corefilt-serve corefilt-vacuum corefilt-batch@x; do
  systemd-analyze --no-pager security --threshold=30 $unit.service >/try/log || { cat /try/log; false; }
  step "$(tail -n 1 /try/log | tr -dc '[:print:]' | xargs)"
done
corefilt demo >/try/log 2>&1 || { cat /try/log; false; }
step "demo: $(tail -n 1 /try/log)"

# Beside systemd-coredump: its timer, with a filter of one's own, filters the core that was stored, where it lies.
batch=corefilt-batch@$(systemd-escape -p $external)
mkdir /etc/systemd/system/corefilt-batch@.{service,timer}.d
printf '[Service]\nEnvironment=FILTER=0x31\n' >/etc/systemd/system/corefilt-batch@.service.d/filter.conf
printf '[Timer]\nOnActiveSec=1\n' >/etc/systemd/system/corefilt-batch@.timer.d/soon.conf
systemctl daemon-reload
[ "$(held "$stored" shared-anonymous)" -gt 0 ]
coredumpctl --no-pager dump /try/crasher 2>/dev/null >/try/core
[ "$(held /try/core shared-anonymous)" = $((32 << 20)) ]
# All but the note that batch makes for itself.
attributes() {
  /usr/lib/corefilt/bin/python3 -c '
import os, sys
name = sys.argv[1]
print(os.stat(name).st_uid, oct(os.stat(name).st_mode))
for each in sorted(os.listxattr(name)):
    if each != "user.corefilt":
        print(each, os.getxattr(name, each))
' "$1"
}
attributes "$stored" >/try/attributes
systemctl --quiet enable --now "$batch.timer"
until_it_holds systemctl is-active "$batch.timer"
done_with() { [ "$(systemctl show -P ExecMainExitTimestampMonotonic "$1")" != 0 ] && [ "$(systemctl show -P ActiveState "$1")" = inactive ]; }
until_it_holds done_with "$batch.service"
[ "$(systemctl show -P Result "$batch.service")" = success ] || { journalctl -q -u "$batch.service" -o cat; false; }
[ "$(ls $external/core.crasher.*)" = "$stored" ]
[ "$(held "$stored" shared-anonymous)" = 0 ]
[ "$(held "$stored" private-anonymous)" -gt $((64 << 20)) ]
[ "$(stat -c %s "$stored")" -lt "$was" ]
attributes "$stored" | diff /try/attributes -
step "the timer had corefilt-batch@ filter it: $was bytes before, $(stat -c %s "$stored") after, no shared anonymous memory"
asked "$stored"
runuser -u ann -- test -r "$stored"
if runuser -u bob -- test -r "$stored"; then false; fi
unchanged=$(stat -c '%i %Y %Z' "$stored")
systemctl start "$batch.service"
[ "$(systemctl show -P Result "$batch.service") $(stat -c '%i %Y %Z' "$stored")" = "success $unchanged" ]
step "and leaves it alone the next time"

# systemd-coredump has the cores, so it has to be asked for.
if corefilt install --pipe-limit 16 2>/try/log; then false; fi
step "$(head -n 1 /try/log)"
corefilt install --pipe-limit 16 --force 2>/try/log || { cat /try/log; false; }
step "core_pattern is $(pattern)"
corefilt status >/try/log 2>&1 || { cat /try/log; false; }
# What the next boot does.
installed=$(pattern)
echo core >/proc/sys/kernel/core_pattern
systemctl restart systemd-sysctl.service
[ "$(pattern)" = "$installed" ]

crash ann
until_it_holds has_crashes 2
core=$(ls /var/lib/corefilt)
step "saved $core: $(stat -c '%s bytes, %b blocks of 512, mode %A' /var/lib/corefilt/"$core")"
runuser -u ann -- test -r "/var/lib/corefilt/$core"
if runuser -u bob -- test -r "/var/lib/corefilt/$core"; then false; fi
asked "/var/lib/corefilt/$core"
crash bob
until_it_holds has_crashes 3
[ "$(find /var/lib/corefilt -type f | wc -l)" = 2 ]
corefilt status --prometheus | grep '^corefilt_cores{executable="/try/crasher",signal="SIGSEGV"} 2$'
step "$(corefilt list /var/lib/corefilt | tail -n 1)"

dpkg -i /try/next.deb >/try/log 2>&1 || { cat /try/log; false; }
[ "$(pattern)" = "$installed" ]
[ "$(systemctl is-active "$batch.timer")" = active ]
crash ann
until_it_holds has_crashes 4
step "upgraded, and a crash is saved as before"

# What the units forbid is nothing that their services need to start.
systemctl --quiet enable --now corefilt-vacuum.timer
systemctl start corefilt-vacuum.service
[ "$(systemctl show -P Result corefilt-vacuum.service)" = success ]
systemctl --quiet enable --now corefilt-serve.socket
systemctl start corefilt-serve.service
serves() { journalctl -q -u corefilt-serve.service -o cat | grep 'takes cores at /run/corefilt.sock'; }
until_it_holds serves
[ "$(systemctl is-active corefilt-serve.service)" = active ]
step "vacuum and serve run as units: $(serves | tail -n 1)"

# A service that failed is not remembered either. The timer may have started it just now: its OnActiveSec begins anew
# with each daemon-reload, and so with each `systemctl enable`.
systemctl stop "$batch.timer" "$batch.service"
printf '[Service]\nExecStart=\nExecStart=/bin/false\n' >/etc/systemd/system/corefilt-batch@.service.d/false.conf
systemctl daemon-reload
if systemctl start "$batch.service" 2>/try/log; then false; fi
systemctl start "$batch.timer"
dpkg --purge corefilt >/try/log 2>&1 || { cat /try/log; false; }
[ "$(pattern) $(limit)" = "$first $first_limit" ]
if dpkg-query -W corefilt 2>/try/log; then false; fi
[ "$(systemctl list-units --all --plain --no-legend 'corefilt*' | grep -c .)" = 0 ] ||
  { systemctl list-units --all 'corefilt*'; journalctl -q -u 'corefilt-*' -o cat; false; }
listed >/try/after
diff /try/before /try/after
settings >/try/settings.after
diff /try/settings.before /try/settings.after
named >/try/log
diff /dev/null /try/log
# The cores of others are not the package's.
[ "$(ls $external/core.crasher.*)" = "$stored" ]
crash ann
until_it_holds has_crashes 2
step "purged: core_pattern is $(pattern) again, systemd-coredump has the cores, and no file is left of $(wc -l </try/before)"
step "all is as it should be"
