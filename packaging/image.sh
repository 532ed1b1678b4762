#!/usr/bin/env bash
# Builds the container image: a standalone directory, which standalone/build.sh made, in an image that has nothing else.
#
#   packaging/image.sh DIRECTORY NAME [OPTION...]      (OPTION: for podman, buildah or docker build)
#
#   COREFILT_BUILDER      the program that builds: podman, buildah or docker (the first of these that is installed)
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit 2; }
directory=$(realpath "$1") name=$2
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
builder=${COREFILT_BUILDER:-$(for each in podman buildah docker; do command -v "$each" && break; done)} ||
  { echo "needs podman, buildah or docker" >&2; exit 1; }
# A directory keeps its mode only below one that is copied.
mkdir -p "$work/root/opt"
mkdir -m 1777 "$work/root/tmp"
cp -a "$directory" "$work/root/opt/corefilt"
version=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["metadata"]["component"]["version"])' \
  "$directory/sbom.cdx.json")
"$builder" build "${@:3}" --build-arg "VERSION=$version" --tag "$name" --file Containerfile "$work"
