#!/usr/bin/env bash
# Builds everything of a wheel that is installed, and tries what can be tried on one machine, in half an hour on two CPUs.
#
#   packaging/try.sh WHEEL OUT      (as root on Debian 12, with a network)
#
# Packages: the same bytes twice, lintian, rpmlint, install to purge in chroots of Debian 12 and 13, and virtual machines
# where processes crash. The standalone directory: moved, and alone in a chroot as a pod has it. Manifests: the schemas of four versions of
# Kubernetes, where there is kubectl. Containerfile: hadolint.
set -euo pipefail
wheel=$(realpath "$1") out=$(realpath -m "$2")
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'umount -q "$work/pod/proc" || true; rm -rf --one-file-system "$work"' EXIT
say() { printf '%s %s\n' "---" "$*"; }
python3 -m venv "$work/tools"
"$work/tools/bin/pip" install --quiet -r packaging/try.txt
PATH="$work/tools/bin:$PATH"

say "packages"
shellcheck packaging/*.sh packaging/standalone/build.sh packaging/deb/{postinst,prerm,postrm}
packaging/build.sh "$wheel" "$out"
packaging/build.sh "$wheel" "$work/again" >"$work/log"
for file in "$out"/*.{deb,rpm}; do cmp "$file" "$work/again/$(basename "$file")"; done
lintian --fail-on error --tag-display-limit 0 "$out"/*.deb
rpmlint --config packaging/rpm/rpmlint.toml "$out"/*.rpm
timeout 900 packaging/try-chroot.sh bookworm "$out"/corefilt_*deb12*.deb
timeout 900 packaging/try-chroot.sh trixie "$out"/corefilt_*deb13*.deb

say "standalone directory"
timeout 600 packaging/standalone/build.sh "$wheel" "$work/standalone"
cp -a "$work/standalone" "$work/moved"
loaders=("$work/moved"/lib/ld-linux-*)
"${loaders[0]}" "$work/moved/bin/python3" -I "$work/moved/relocate.py" "$work/moved"
"$work/moved/bin/corefilt" --version
packaging/standalone/try.sh "$work/standalone"

say "Containerfile and manifests"
hadolint Containerfile
if command -v kubectl >/dev/null; then
  for part in base remove; do
    kubectl kustomize "deploy/kubernetes/$part" >"$work/$part.yaml"
    for version in 1.34 1.35 1.36 1.37; do
      kubernetes-validate --kubernetes-version "$version" --strict --quiet "$work/$part.yaml"
    done
  done
else
  echo "kubectl is not installed: the manifests are not held against the schemas"
fi

say "virtual machines"
timeout 2400 packaging/try-vm.sh bookworm "$out"/corefilt_*deb12*.deb
timeout 2400 packaging/try-vm.sh trixie "$out"/corefilt_*deb13*.deb
