#!/usr/bin/env bash
# Builds the .deb and .rpm of a wheel, one for each distribution, and checks what is in them.
#
#   packaging/build.sh WHEEL OUT [TARGET...]      (TARGET: debian12 debian13 ubuntu24.04 el9 fedora43; all)
#
#   REVISION   of the package, where the version is the same (1)
#
# Any Linux with Python will do: no distribution's own tools are needed (packaging/README.md says why). Needs binutils.
set -euo pipefail
usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit 2; }
[ $# -ge 2 ] || usage
wheel=$(realpath "$1") out=$(realpath -m "$2")
targets=("${@:3}")
[ ${#targets[@]} -gt 0 ] || targets=(debian12 debian13 ubuntu24.04 el9 fedora43)
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022
REVISION=${REVISION:-1}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
# A wheel's name is corefilt-VERSION-cp311-abi3-PLATFORMS.whl. 0.2.0rc1 comes before 0.2.0, which dpkg and rpm write ~.
name=$(basename "$wheel")
VERSION=$(cut -d- -f2 <<<"$name" | sed -E 's/(a|b|rc|\.dev)([0-9])/~\1\2/; s/~\./~/')
machine=$(sed -E 's/.*_(x86_64|aarch64)\.whl$/\1/' <<<"$name")
case $machine in
  x86_64) ARCH=amd64 ;;
  aarch64) ARCH=arm64 ;;
  *) echo "$name: packages are built for x86_64 and aarch64" >&2 && exit 1 ;;
esac
export SOURCE_DATE_EPOCH VERSION ARCH

python3 -m venv "$work/tools"
"$work/tools/bin/pip" install --quiet -r packaging/tools.txt
PATH="$work/tools/bin:$PATH"
mkdir -p "$out"

# What a package has below /: an environment of its own in /usr/lib/corefilt, whose interpreter is the distribution's.
lay_out() {
  local home=$STAGE/usr/lib/corefilt found
  local site=$home/lib/python$PYTHON/site-packages
  install() {
    uv pip install --quiet --no-config --target "$site" --python-version "$PYTHON" \
      --python-platform "$machine-manylinux_2_34" --only-binary :all: --link-mode copy "$@"
  }
  install --require-hashes -r packaging/requirements.txt
  install --no-deps "$wheel"
  mv "$site/share" "$STAGE/usr/share"
  mkdir "$home/bin"
  sed '1s|.*|#!/usr/lib/corefilt/bin/python3|' scripts/corefilt >"$home/bin/corefilt"
  printf '%s\n' '#!/usr/lib/corefilt/bin/python3' 'from corefilt.handler.entry import entry' '' 'entry()' >"$home/bin/corefilt-handle"
  chmod 755 "$home/bin"/*
  ln -s "/usr/bin/python$PYTHON" "$home/bin/python3"
  printf '%s\n' 'home = /usr/bin' 'include-system-site-packages = false' "version = $PYTHON" >"$home/pyvenv.cfg"
  mkdir "$STAGE/usr/bin"
  for found in corefilt corefilt-handle; do ln -s "../lib/corefilt/bin/$found" "$STAGE/usr/bin/$found"; done
  # What an installer notes for itself, programs of the libraries, and what only who compiles needs.
  rm -rf "${site:?}/bin" "$site"/*.dist-info/{RECORD,INSTALLER,REQUESTED,direct_url.json,uv_cache.json}
  rm -f "$site/.lock"
  find "$STAGE" \( -name '*.pyi' -o -name py.typed -o -name '*.pyx' \) -delete
  find "$STAGE" -name '*.so' -exec chmod 644 {} +
  [ "$machine" != "$(uname -m)" ] || find "$STAGE" -name '*.so' -exec strip --strip-unneeded {} +
  mkdir -p "$STAGE$UNITS" "$STAGE/usr/lib"/{sysusers.d,tmpfiles.d}
  # The samples are for an environment in /opt.
  for found in "$STAGE"/usr/share/corefilt/*.{service,socket,timer}; do
    sed 's|/opt/corefilt/bin/corefilt|/usr/bin/corefilt|' "$found" >"$STAGE$UNITS/${found##*/}"
    rm "$found"
  done
  cp packaging/sysusers.conf "$STAGE/usr/lib/sysusers.d/corefilt.conf"
  cp packaging/tmpfiles.conf "$STAGE/usr/lib/tmpfiles.d/corefilt.conf"
  mv "$STAGE/usr/share/corefilt/corefilt.conf" "$stage/corefilt.conf"
  rmdir "$STAGE/usr/share/corefilt"
}

# Manual pages and the rest, which rpm marks as documentation.
documents() {
  local doc=$stage/documents/usr/share/doc/corefilt
  mkdir -p "$doc/examples"
  mv "$STAGE/usr/share/man" "$stage/documents/usr/share/man"
  find "$stage/documents/usr/share/man" -type f -exec gzip -9n {} +
  cp packaging/copyright SECURITY.md "$doc"
  gzip -9n <CHANGELOG.md >"$doc/changelog.gz"
  cp packaging/60-corefilt.conf "$doc/examples"
  case $format in
    deb)
      gzip -9n >"$doc/changelog.Debian.gz" <<CHANGES
corefilt ($VERSION-$RELEASE) unstable; urgency=medium

  * See changelog.gz.

 -- corefilt maintainers <corefilt@users.noreply.github.com>  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")
CHANGES
      mkdir -p "$STAGE/usr/share/lintian/overrides" "$STAGE/usr/share/zsh/vendor-completions"
      cp packaging/deb/lintian-overrides "$STAGE/usr/share/lintian/overrides/corefilt"
      mv "$STAGE/usr/share/zsh/site-functions/_corefilt" "$STAGE/usr/share/zsh/vendor-completions"
      rmdir "$STAGE/usr/share/zsh/site-functions"
      ;;
    rpm)
      cp LICENSE "$doc"
      mv "$doc/examples/60-corefilt.conf" "$doc/60-corefilt.conf.example"
      rmdir "$doc/examples"
      (cd "$stage/documents" && find . -type f -printf '  - {src: documents/%P, dst: /%P, type: doc}\n' | sort >>"$stage/nfpm.yaml")
      ;;
  esac
}

for target in "${targets[@]}"; do
  UNITS=/usr/lib/systemd/system
  case $target in
    debian12) format=deb PYTHON=3.11 RELEASE="$REVISION~deb12" UNITS=/lib/systemd/system ;;
    debian13) format=deb PYTHON=3.13 RELEASE="$REVISION~deb13" ;;
    ubuntu24.04) format=deb PYTHON=3.12 RELEASE="$REVISION~ubuntu24.04" ;;
    el9) format=rpm PYTHON=3.11 RELEASE=$REVISION.el9 ;;
    fedora43) format=rpm PYTHON=3.14 RELEASE=$REVISION.fc43 ;;
    *) echo "no target $target" >&2 && usage ;;
  esac
  stage=$work/$target STAGE=$work/$target/tree
  export PYTHON RELEASE
  mkdir -p "$STAGE/usr"
  cp -r packaging/nfpm.yaml packaging/deb packaging/rpm "$stage"
  lay_out
  documents
  python3 packaging/contents.py "$STAGE" "$stage/documents"
  find "$stage" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
  (cd "$stage" && nfpm package --packager "$format" --target "$out" >/dev/null)
done
find "$out" -name 'corefilt[_-]*' -printf '%s bytes  %f\n' | sort -k 3
