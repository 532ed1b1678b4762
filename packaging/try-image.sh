#!/usr/bin/env bash
# Builds the image with buildah, in storage of its own, and runs it as the account that it names.
#
#   packaging/try-image.sh DIRECTORY      (the standalone directory; as root, where chroot isolation will do)
set -euo pipefail
directory=$(realpath "$1")
cd "$(dirname "$0")/.."
work=$(mktemp -d)
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs CONTAINERS_STORAGE_CONF=$work/storage.conf
printf '[storage]\ndriver = "vfs"\ngraphroot = "%s/graph"\nrunroot = "%s/run"\n' "$work" "$work" >"$CONTAINERS_STORAGE_CONF"
trap 'buildah rm --all >/dev/null || true; rm -rf --one-file-system "$work"' EXIT
COREFILT_BUILDER=buildah packaging/image.sh "$directory" corefilt --quiet >"$work/id"
buildah push --quiet corefilt "oci-archive:$work/image.tar:corefilt" >/dev/null

buildah inspect --type image corefilt | python3 -c '
import json, sys
config = json.load(sys.stdin)["OCIv1"]["config"]
assert config["User"] == "65532:65532" and config["Entrypoint"] == ["/opt/corefilt/bin/corefilt"], config
labels = {name.rpartition(".")[2]: value for name, value in config["Labels"].items()}
assert labels["version"] not in ("", "unknown") and labels["licenses"] == "Apache-2.0" and labels["source"], labels
'
container=$(buildah from corefilt)
inside() { buildah run "$container" -- "/opt/corefilt/bin/$1" "${@:2}"; }
inside corefilt --version | head -n 1
inside corefilt demo >"$work/demo"
# What a program in the image sees: not root, a /tmp, and no other program than its own.
inside python3 -c 'import os, shutil; assert os.getuid() == 65532 and shutil.which("sh") is None and os.access("/tmp", os.W_OK)'
if inside python3 -c 'open("/opt/corefilt/new", "w")' 2>"$work/log"; then false; fi
# The list of what is in it (SBOM) names every library that is installed, with its version.
inside python3 -c '
import importlib.metadata, json, re
def plain(name):
    return re.sub("[-_.]+", "-", name).lower()
with open("/opt/corefilt/sbom.cdx.json") as file:
    report = json.load(file)
listed = {(plain(part["name"]), part["version"]) for part in [*report["components"], report["metadata"]["component"]]}
there = {(plain(each.name), each.version) for each in importlib.metadata.distributions()}
assert report["bomFormat"] == "CycloneDX" and len(there) > 5 and there <= listed, there - listed
print(f"SBOM: {len(listed)} components")
'
echo "image: $(du -sm "$directory" | cut -f1) MB unpacked, $(($(stat -c %s "$work/image.tar") >> 20)) MiB as it is pushed"
