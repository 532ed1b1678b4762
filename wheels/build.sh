#!/usr/bin/env bash
# Builds the sdist and, from it, one wheel for CPython 3.11 and later, twice, and compares them bit for bit; checks both
# (wheels/check.py, abi3audit); installs the wheel where there is no compiler, and runs the suite against it from the
# unpacked sdist, outside this checkout.
#
# Usage: wheels/build.sh [FOLDER [PYTEST ARGUMENTS...]]     (default: dist, and the suite as a plain pytest runs it)
# Needs git, gcc and the Python headers; everything else goes into temporary environments (wheels/tools.txt). What is
# built are the files that git knows or would add, as they are now. Other platforms: wheels/cibuildwheel.toml.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${1:-dist}")
suite=("${@:2}")
if [ -e "$out" ] && find "$out" -mindepth 1 ! -name '*.whl' ! -name '*.tar.gz' | grep -q .; then
  echo "$out holds more than wheels and sdists: choose another folder" >&2
  exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
COREFILT_VERSION=$(python3 wheels/version.py)
export SOURCE_DATE_EPOCH COREFILT_VERSION
umask 022

python3 -m venv "$work/tools"
"$work/tools/bin/pip" install --quiet -r wheels/tools.txt
tools() { PATH="$work/tools/bin:$PATH" "$@"; }

# Packs a folder the same way each time: setuptools leaves the times, owners and modes of the files in an sdist.
pack() {
  tar -C "$1" --sort=name --format=ustar --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
    --mode=u=rwX,go=rX -c "$2" | gzip -9n >"$3/$2.tar.gz"
}

# Builds into the folder $2 by way of the folder $1.
build() {
  mkdir -p "$1/packed" "$1/sdist" "$1/wheel" "$2"
  cp -r "$work/tree" "$1/tree"
  tools python -m build --no-isolation --sdist --outdir "$1/packed" "$1/tree" >"$1/log" 2>&1
  tar -C "$1/sdist" -xf "$1/packed"/*.tar.gz
  name=$(ls "$1/sdist")
  pack "$1/sdist" "$name" "$2"
  # -shared alone: some builds of Python would write their own library folder into the module as RUNPATH.
  COREFILT_ABI3=1 LDSHARED="gcc -shared" CFLAGS="-g0 -ffile-prefix-map=$1=." LDFLAGS=-Wl,-s \
    tools python -m build --no-isolation --wheel --outdir "$1/wheel" "$1/sdist/$name" >>"$1/log" 2>&1
  tools auditwheel repair --only-plat --plat "manylinux_2_17_$(uname -m)" -w "$2" "$1/wheel"/*.whl 2>>"$1/log"
}

mkdir "$work/tree"
git ls-files -z --cached --others --exclude-standard --deduplicate | xargs -0 cp --parents -t "$work/tree"
build "$work/first" "$work/first.out" &
build "$work/second" "$work/second.out" || { tail -n 30 "$work/second/log" >&2; exit 1; }
wait -n || { tail -n 30 "$work/first/log" >&2; exit 1; }
diff -r "$work/first.out" "$work/second.out"
echo "built twice, bit for bit the same"
rm -rf "$out"
cp -r "$work/first.out" "$out"
(cd "$out" && sha256sum ./*)
tools python wheels/check.py "$out" "$work/tree"
tools abi3audit --strict "$out"/*.whl
tools cibuildwheel --platform linux --archs all --config-file wheels/cibuildwheel.toml --print-build-identifiers . | xargs

# Only the environment's own programs can be found: no compiler, and nothing may be built.
python3 -m venv "$work/clean"
(PATH="$work/clean/bin" && ! command -v gcc cc && pip install --quiet --only-binary :all: "$(echo "$out"/*.whl)[test]")
echo "installed without a compiler"

mkdir "$work/suite"
tar -C "$work/suite" --strip-components=1 -xf "$out"/*.tar.gz
rm -r "$work/suite/corefilt"
cd "$work/suite"
PATH="$work/clean/bin:$PATH" pytest -q -p no:cacheprovider "${suite[@]}"
