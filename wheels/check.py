"""Checks what wheels/build.sh built: contents, the oldest glibc that will do, no RUNPATH, the stable ABI's tag.

Usage: python wheels/check.py FOLDER
"""

import io
import sys
import tarfile
import zipfile
from pathlib import Path

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

# manylinux2014, which every distribution that is still looked after can install.
OLDEST_GLIBC = (2, 17)
NOT_FOR_USERS = (".pyx", ".c", ".h")


def complaints_about_module(raw: bytes) -> list[str]:
    """What is wrong with the compiled module."""
    elf = ELFFile(io.BytesIO(raw))
    found = []
    for section in elf.iter_sections():
        if isinstance(section, GNUVerNeedSection):
            for _, versions in section.iter_versions():
                for version in versions:
                    number = version.name.removeprefix("GLIBC_")
                    if number != version.name and tuple(map(int, number.split("."))) > OLDEST_GLIBC:
                        found.append(f"needs {version.name}")
        elif isinstance(section, DynamicSection):
            tags = (tag.entry.d_tag for tag in section.iter_tags())
            found += [f"has {tag}" for tag in tags if tag in ("DT_RPATH", "DT_RUNPATH")]
    return found


def complaints_about_wheel(path: Path) -> list[str]:
    """What is wrong with a wheel."""
    found = []
    if "-cp311-abi3-" not in path.name:
        found.append("is not tagged cp311-abi3")
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        modules = [name for name in names if name.endswith(".so")]
        if modules != ["corefilt/_fast.abi3.so"]:
            found.append(f"holds these modules: {modules}")
        found += [f"holds {name}" for name in names if name.endswith(NOT_FOR_USERS)]
        for needed in ("corefilt/py.typed", "corefilt/_fast.pyi", "corefilt/demo/small.core.gz"):
            if needed not in names:
                found.append(f"lacks {needed}")
        for name in modules:
            found += [f"{name} {complaint}" for complaint in complaints_about_module(wheel.read(name))]
    return found


def complaints_about_sdist(path: Path) -> list[str]:
    """What is wrong with a source distribution: it must build anywhere."""
    with tarfile.open(path) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    needed = ("setup.py", "pyproject.toml", "LICENSE", "README.md", "corefilt/_fast.pyx", "corefilt/demo/small.core.gz")
    return [f"lacks {name}" for name in needed if name not in names]


def main() -> int:
    """Check every file in the folder; returns 1 when something is wrong or missing."""
    folder = Path(sys.argv[1])
    wheels, sdists = sorted(folder.glob("*.whl")), sorted(folder.glob("*.tar.gz"))
    wrong = [] if wheels and sdists else ["there is no wheel, or no sdist"]
    wrong += [f"{path.name}: {complaint}" for path in wheels for complaint in complaints_about_wheel(path)]
    wrong += [f"{path.name}: {complaint}" for path in sdists for complaint in complaints_about_sdist(path)]
    print("\n".join(wrong) or f"{len(wheels)} wheel and {len(sdists)} sdist are as they should be")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
