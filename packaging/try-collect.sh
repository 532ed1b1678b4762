#!/usr/bin/env bash
# Runs what the pods of the DaemonSet corefilt-collect run, word by word as the manifest has it, alone in a chroot: cores are
# uploaded to a bucket of a server on this machine, each node's below its name, and those uploaded before are skipped.
#
#   packaging/try-collect.sh DIRECTORY MANIFESTS      (with moto and PyYAML in the python of PATH; as root)
#
# DIRECTORY is the standalone directory, MANIFESTS what kubectl kustomize prints of deploy/kubernetes/base.
set -euo pipefail
directory=$(realpath "$1") manifests=$(realpath "$2")
cd "$(dirname "$0")/.."
work=$(mktemp -d)
pod=$work/pod server='' node=''
finish() {
  local each
  for each in $node $server; do kill "$each" || true; done
  umount -q "$pod/proc" || true
  rm -rf --one-file-system "$work"
}
trap finish EXIT
mkdir -p "$pod"/{opt,proc,dev,etc,tmp,scratch,var/lib/corefilt}
cp -a "$directory" "$pod/opt/corefilt"
cp deploy/kubernetes/base/corefilt.conf "$pod/etc"
chown -R 0:0 "$pod"
mknod -m 666 "$pod/dev/null" c 1 3
mount -t proc proc "$pod/proc"

# The manifest's words, one a line, for this bucket and the node that is named; one round instead of one each ten minutes.
words() {
  python - "$manifests" "$1" <<'PYTHON'
import sys, yaml
for each in yaml.safe_load_all(open(sys.argv[1])):
    if each["kind"] == "DaemonSet" and each["metadata"]["name"] == "corefilt-collect":
        (container,) = each["spec"]["template"]["spec"]["containers"]
for word in [*container["command"], *container["args"]]:
    print(word.replace("$(BUCKET)", "s3://cores").replace("$(NODE)", sys.argv[2]))
PYTHON
}
python - "$work/port" >"$work/server" 2>&1 <<'PYTHON' &
import pathlib, sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(port=0)
server.start()
pathlib.Path(sys.argv[1] + ".new").write_text(str(server.get_host_and_port()[1]))
pathlib.Path(sys.argv[1] + ".new").rename(sys.argv[1])
server._thread.join()
PYTHON
server=$!
for _ in {1..600}; do
  [ ! -e "$work/port" ] || break
  kill -0 "$server" || { cat "$work/server" >&2; exit 1; }
  sleep 0.1
done
endpoint=http://127.0.0.1:$(cat "$work/port")
# What the manifest sets, and where the bucket is.
run=(env -i TMPDIR=/scratch AWS_EC2_METADATA_DISABLED=true AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test
  AWS_DEFAULT_REGION=us-east-1 AWS_ENDPOINT_URL="$endpoint" /usr/sbin/chroot "$pod")
inside() { "${run[@]}" "$@"; }
inside /opt/corefilt/bin/python3 -c 'import s3fs; s3fs.S3FileSystem().mkdir("cores")'
names() {
  inside /opt/corefilt/bin/python3 -c '
import s3fs
for name, each in sorted(s3fs.S3FileSystem().find("cores", detail=True).items()):
    print(name, each["size"], each["LastModified"])'
}
# One round of a node's pod: it sleeps for ten minutes then, and is told to go as by a node.
round() {
  local words pid state
  readarray -t words < <(words "$1")
  "${run[@]}" "${words[@]}" 2>"$work/said" &
  pid=$! node=$!
  for _ in {1..3000}; do
    state=$(cat "/proc/$pid/syscall" 2>/dev/null || echo gone)
    # clock_nanosleep
    case $state in 230\ * | gone) break ;; esac
    sleep 0.1
  done
  kill -TERM "$pid"
  wait "$pid"
  node=''
  cat "$work/said" >&2
  [ ! -s "$work/said" ]
}

for name in core.app.17.1700000000 core.app.18.1700000001; do
  python3 -c 'import gzip, sys; sys.stdout.buffer.write(gzip.open("corefilt/cli/small.core.gz").read())' >"$pod/var/lib/corefilt/$name"
done
chmod 600 "$pod"/var/lib/corefilt/*
round node-1
names >"$work/first"
cat "$work/first"
test "$(cut -d' ' -f1 "$work/first" | xargs)" = "cores/node-1/core.app.17.1700000000.zst cores/node-1/core.app.18.1700000001.zst"
inside /opt/corefilt/bin/corefilt inspect s3://cores/node-1/core.app.17.1700000000.zst >"$work/log"
grep -q 'SIGABRT' "$work/log"
# The next round sends nothing again; another node has a place of its own.
round node-1
names | diff "$work/first" -
round node-2
test "$(names | wc -l)" = 4
ls "$pod/var/lib/corefilt"
echo "collect: uploaded, skipped the next time, and each node's below its name"
