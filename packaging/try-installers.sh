#!/usr/bin/env bash
# Builds sdist and wheel as anybody does from a clone, checks them, and installs the released wheel by pip, uv and pipx; says
# how long that took and how much is on the disk.
#
#   packaging/try-installers.sh WHEEL      (with build, twine, uv and pipx in PATH; no cache is used)
set -euo pipefail
wheel=$(realpath "$1")
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 UV_NO_CONFIG=1
export UV_TOOL_DIR=$work/uv UV_TOOL_BIN_DIR=$work/uv.bin UV_PYTHON_DOWNLOADS=never
export PIPX_HOME=$work/pipx PIPX_BIN_DIR=$work/pipx.bin PIPX_MAN_DIR=$work/pipx.man
quietly() { "$@" >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }; }
ms() { echo $((($(date +%s%N) - $1) / 1000000)); }

# The tags of this clone tell the version.
quietly git clone -q . "$work/clone"
quietly python3 -m build --outdir "$work/dist" "$work/clone"
version=$(python3 wheels/version.py)
test -e "$work/dist/corefilt-$version.tar.gz"
twine check --strict "$work/dist"/* "$wheel" "$(dirname "$wheel")"/*.tar.gz
echo "wheel: $(($(stat -c %s "$wheel") >> 10)) KiB; as built from a clone: $(ls "$work/dist")"

began=$(date +%s%N)
quietly python3 -m venv "$work/pip"
quietly "$work/pip/bin/pip" install --only-binary :all: "$wheel"
took=$(ms "$began")
"$work/pip/bin/corefilt" demo >"$work/demo"
echo "pip: installed in $took ms with its environment, $(du -sm "$work/pip/lib/"python3*/site-packages/corefilt | cut -f1) MB of corefilt, $(du -sm "$work/pip" | cut -f1) MB in all"
began=$(date +%s%N)
quietly uv tool install "$wheel"
took=$(ms "$began")
"$UV_TOOL_BIN_DIR/corefilt" demo >"$work/demo"
echo "uv tool: installed in $took ms, $(du -sm "$UV_TOOL_DIR" | cut -f1) MB"
quietly uv tool uninstall corefilt
test ! -e "$UV_TOOL_BIN_DIR/corefilt"
began=$(date +%s%N)
quietly pipx install "$wheel"
took=$(ms "$began")
"$PIPX_BIN_DIR/corefilt" demo >"$work/demo"
test -e "$PIPX_MAN_DIR/man1/corefilt.1"
echo "pipx: installed in $took ms, $(du -sm "$PIPX_HOME/venvs" | cut -f1) MB"
quietly pipx uninstall corefilt
test ! -e "$PIPX_BIN_DIR/corefilt"
