"""Checks what packaging/build.sh laid out: every generated file, and the oldest glibc that will do.

Usage: python packaging/contents.py DIRECTORY...      (directories that stand for /)
"""

import sys
from pathlib import Path

from elftools.elf.elffile import ELFFile

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "wheels"))
from check import GENERATED, complaints_about_links, glibc_of

# That of RHEL 9, the oldest distribution that a package is built for.
OLDEST_GLIBC = (2, 34)
HOME = "usr/lib/corefilt"


def main(stages: list[Path]) -> int:
    """Check directories that stand for /; returns 1 when something is wrong or missing."""
    every = [(stage, path) for stage in stages for path in stage.rglob("*")]
    files = {str(path.relative_to(stage)): path for stage, path in every if path.is_file() or path.is_symlink()}
    names = {Path(name).name.removesuffix(".gz") for name in files}
    wrong = [f"lacks {name}" for name in GENERATED if Path(name).name not in names]
    wrong += [f"lacks {name}" for name in ("usr/bin/corefilt", f"{HOME}/bin/python3") if name not in files]
    wrong += [f"holds {name}" for name in files if name.endswith((".pyc", ".pyx", "direct_url.json"))]
    highest = (0, 0)
    modules = [path for name, path in files.items() if name.endswith(".so")]
    for path in modules:
        with path.open("rb") as file:
            elf = ELFFile(file)
            needed = max(glibc_of(elf), default=(0,))
            if needed > OLDEST_GLIBC:
                wrong.append(f"{path}: needs glibc {'.'.join(map(str, needed))}")
            wrong += [f"{path}: {complaint}" for complaint in complaints_about_links(elf)]
            highest = max(highest, needed)
    if not modules:
        wrong.append("holds no compiled module")
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        return 1
    size = sum(path.lstat().st_size for path in files.values())
    print(f"{len(files)} files, {size >> 10} KiB; highest symbol of glibc {'.'.join(map(str, highest))}")
    return 0


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]]))
