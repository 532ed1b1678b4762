#!/usr/bin/env bash
# Builds everything of a wheel that is installed, and tries what can be tried on one machine, two of them emulated without
# KVM. Ends with a table of the parts, how long each took, and a verdict; a part that fails does not keep the next from
# running.
#
#   packaging/try.sh WHEEL OUT [PART...]      (as root on Debian 12, with a network; the sdist is beside the wheel)
#   PART: build lint chroots rpm standalone image manifests collect installers vm12 vm13 (all)
#
# Needs binutils, buildah, cpio, debootstrap, e2fsprogs, gcc, lintian, qemu-system-x86, rpm, rpm2cpio, rpmlint and shellcheck,
# and 6 GB below TMPDIR. Nothing of this machine is changed: what is installed is installed in trees and machines of its own.
set -euo pipefail
wheel=$(realpath "$1") out=$(realpath -m "$2")
parts=("${@:3}")
[ ${#parts[@]} -gt 0 ] || parts=(build lint chroots rpm standalone image manifests collect installers vm12 vm13)
cd "$(dirname "$0")/.."
work=$(mktemp -d)
rows=() failed=()
settings() { cat /proc/sys/kernel/core_pattern /proc/sys/kernel/core_pipe_limit; }

# The same bytes twice, and what is in the files that are given away.
build() {
  local file tree
  packaging/build.sh "$wheel" "$out"
  packaging/build.sh "$wheel" "$work/again" >"$work/log"
  for file in "$out"/*.{deb,rpm}; do
    cmp "$file" "$work/again/$(basename "$file")"
    tree=$work/unpacked/$(basename "$file")
    mkdir -p "$tree"
    case $file in
      *.deb) dpkg-deb -x "$file" "$tree" ;;
      *.rpm) rpm2cpio "$file" | (cd "$tree" && cpio --quiet -idm) ;;
    esac
    echo "$(basename "$file"): $(python packaging/contents.py "$tree")"
  done
}

lint() {
  shellcheck packaging/*.sh packaging/standalone/*.sh packaging/deb/{postinst,prerm,postrm}
  shellcheck --shell sh packaging/rpm/{post,preun,postun}
  lintian --allow-root --fail-on error --tag-display-limit 0 "$out"/*.deb
  rpmlint --config packaging/rpm/rpmlint.toml "$out"/*.rpm
}

# Trees that several parts copy.
tree() {
  [ -d "$work/$1" ] || debootstrap --variant=minbase "$1" "$work/$1" >"$work/log" || { tail "$work/log" >&2; exit 1; }
}

chroots() {
  tree bookworm
  tree trixie
  timeout 1800 packaging/try-chroot.sh "$work/bookworm" "$out"/corefilt_*deb12*.deb
  timeout 1800 packaging/try-chroot.sh "$work/trixie" "$out"/corefilt_*deb13*.deb
}

rpm() {
  tree bookworm
  REVISION=2 packaging/build.sh "$wheel" "$work/next" el9
  timeout 1800 packaging/try-rpm.sh "$work/bookworm" "$out"/corefilt-*el9*.rpm "$work/next"/corefilt-*el9*.rpm
}

standalone() {
  local loaders
  timeout 1800 packaging/standalone/build.sh "$wheel" "$work/standalone"
  cp -a "$work/standalone" "$work/moved"
  loaders=("$work/moved"/lib/ld-linux-*)
  "${loaders[0]}" "$work/moved/bin/python3" -I "$work/moved/relocate.py" "$work/moved"
  "$work/moved/bin/corefilt" --version
  packaging/standalone/try.sh "$work/standalone"
}

image() {
  [ -d "$work/standalone" ] || packaging/standalone/build.sh "$wheel" "$work/standalone"
  hadolint Containerfile
  packaging/try-image.sh "$work/standalone"
}

manifests() {
  local part version kubectl
  kubectl=$(packaging/kubectl.sh "$work/kubectl")
  for part in base remove; do
    "$kubectl" kustomize "deploy/kubernetes/$part" >"$work/$part.yaml"
    for version in 1.34 1.35 1.36 1.37; do
      kubernetes-validate --kubernetes-version "$version" --strict --quiet "$work/$part.yaml"
      echo "$part: valid for Kubernetes $version"
    done
    python packaging/manifests.py "$part" "$work/$part.yaml"
  done
}

collect() {
  [ -d "$work/standalone" ] || packaging/standalone/build.sh "$wheel" "$work/standalone"
  [ -e "$work/base.yaml" ] || manifests
  timeout 1800 packaging/try-collect.sh "$work/standalone" "$work/base.yaml"
}

installers() { packaging/try-installers.sh "$wheel"; }

vm12() {
  tree bookworm
  timeout 5400 packaging/try-vm.sh "$work/bookworm" "$out"/corefilt_*deb12*.deb
}

vm13() {
  tree trixie
  timeout 5400 packaging/try-vm.sh "$work/trixie" "$out"/corefilt_*deb13*.deb
}

# On every way out: what was written goes, and the verdict is said. What a part mounts it unmounts itself.
finish() {
  local code=$?
  rm -rf --one-file-system "$work"
  printf '%s\n' "${rows[@]}"
  if [ "$code" = 0 ] && [ ${#failed[@]} = 0 ]; then
    echo "verdict: all ${#rows[@]} parts are as they should be, in $SECONDS s"
  else
    echo "verdict: failed: ${failed[*]:-before the end}"
    exit 1
  fi
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

before=$(settings)
# Of what is tried, whatever is committed meanwhile.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
python3 -m venv "$work/tools"
"$work/tools/bin/pip" install --quiet -r packaging/try.txt
PATH="$work/tools/bin:$PATH"
for part in "${parts[@]}"; do
  echo "--- $part"
  since=$SECONDS
  # In a condition, a function would go on behind a command that fails.
  set +e
  (set -e && "$part")
  code=$?
  set -e
  [ "$code" = 0 ] || failed+=("$part")
  rows+=("$(printf '%5d s  %-7s %s' $((SECONDS - since)) "$([ "$code" = 0 ] && echo passed || echo "exit $code")" "$part")")
  echo "${rows[-1]}"
done
[ "$(settings)" = "$before" ] || failed+=("core_pattern or core_pipe_limit of this machine was changed")
