"""Makes corefilt/cli/small.core.gz anew: builds small.c, crashes it in /tmp, packs its core.

Needs gcc on x86-64, and a kernel.core_pattern without a slash. Run as ``python tests/demo/make.py``.
"""

import gzip
import os
import resource
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
FOLDER = Path("/tmp/corefilt-demo")  # stands in the core as the program's folder, so it is the same everywhere


def main() -> None:
    """Build, crash, pack."""
    FOLDER.mkdir(mode=0o700)
    try:
        program, mapped = FOLDER / "program", FOLDER / "data"
        flags = ["-static", "-nostdlib", "-O1", "-fno-builtin", "-fno-stack-protector", "-Wl,--build-id"]
        subprocess.run(["gcc", *flags, "-o", program, HERE / "small.c"], check=True)
        mapped.write_bytes(bytes(64 << 10))
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        subprocess.run(
            [program, mapped],
            cwd=FOLDER,
            env={},
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, unlimited),
        )
        (core,) = set(FOLDER.iterdir()) - {program, mapped}
        target = HERE.parent.parent / "corefilt" / "cli" / "small.core.gz"
        target.write_bytes(gzip.compress(core.read_bytes(), 9, mtime=0))
        print(f"{target.name}: {os.path.getsize(core)} bytes in {target.stat().st_size}")
    finally:
        shutil.rmtree(FOLDER)


if __name__ == "__main__":
    main()
