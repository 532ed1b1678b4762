"""Checks what wheels/build.sh built: contents, the oldest glibc that will do, no RUNPATH, the stable ABI's tag.

Usage: python wheels/check.py FOLDER TREE      (TREE: what it was built from)
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
MODULE = "corefilt/_fast.abi3.so"
LIBRARIES = {"libc.so.6", "libpthread.so.0"}
# The source of the compiled module is for who builds it.
NOT_FOR_USERS = ".pyx"
# What the package generates when a wheel is built (corefilt.cli.generate).
GENERATED = (
    "share/man/man1/corefilt.1", "share/man/man5/corefilt-note.5", "share/man/man5/corefilt-policy.5",
    "share/man/man7/corefilt-retention.7", "share/man/man8/corefilt-handle.8",
    "share/bash-completion/completions/corefilt", "share/zsh/site-functions/_corefilt",
    "share/fish/vendor_completions.d/corefilt.fish",
)  # fmt: skip
# What setuptools adds to an sdist.
MADE = ("PKG-INFO", "setup.cfg", "corefilt.egg-info/")


def glibc_of(elf: ELFFile) -> dict[tuple[int, ...], str]:
    """The versions of glibc that a module needs symbols of, and one symbol of each."""
    needed = {}
    symbols = elf.get_section_by_name(".dynsym")
    versions = elf.get_section_by_name(".gnu.version")
    for section in elf.iter_sections():
        if not isinstance(section, GNUVerNeedSection):
            continue
        names = {each.entry.vna_other: each.name for _, group in section.iter_versions() for each in group}
        for n in range(symbols.num_symbols()):
            name = names.get(versions.get_symbol(n).entry["ndx"], "")
            if name.startswith("GLIBC_"):
                needed[tuple(map(int, name.removeprefix("GLIBC_").split(".")))] = symbols.get_symbol(n).name
    return needed


def complaints_about_links(elf: ELFFile) -> list[str]:
    """What is wrong with the libraries that a module asks for, and where it looks for them."""
    found = []
    for section in elf.iter_sections():
        if isinstance(section, DynamicSection):
            for tag in section.iter_tags():
                if tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH"):
                    found.append(f"has {tag.entry.d_tag}")
                elif tag.entry.d_tag == "DT_NEEDED" and tag.needed not in LIBRARIES:
                    found.append(f"needs {tag.needed}")
    return found


def complaints_about_module(raw: bytes) -> list[str]:
    """What is wrong with the compiled module."""
    elf = ELFFile(io.BytesIO(raw))
    return [
        f"needs glibc {'.'.join(map(str, number))} for {symbol}"
        for number, symbol in glibc_of(elf).items()
        if number > OLDEST_GLIBC
    ] + complaints_about_links(elf)


def files_of(tree: Path) -> set[str]:
    """Every file below a folder."""
    return {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}


def complaints_about_wheel(path: Path, tree: Path) -> list[str]:
    """What is wrong with a wheel: it holds the package, the module, the script and share/, and nothing else."""
    found = []
    if "-cp311-abi3-" not in path.name:
        found.append("is not tagged cp311-abi3")
    with zipfile.ZipFile(path) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name and not name.endswith("/")}
        version = path.name.split("-")[1]
        data = f"corefilt-{version}.data/data/"
        wanted = {MODULE}
        for name in files_of(tree):
            if name.startswith("corefilt/") and not name.endswith(NOT_FOR_USERS):
                wanted.add(name)
            elif name.startswith("scripts/"):
                wanted.add(f"corefilt-{version}.data/{name}")
        wanted |= {data + name for name in GENERATED}
        wanted |= {f"{data}share/corefilt/{path.name}" for path in tree.glob("corefilt/handler/samples/*")}
        found += [f"lacks {name}" for name in sorted(wanted - names)]
        found += [f"holds {name}" for name in sorted(names - wanted)]
        if MODULE in names:
            found += [f"{MODULE} {complaint}" for complaint in complaints_about_module(wheel.read(MODULE))]
    return found


def complaints_about_sdist(path: Path, tree: Path) -> list[str]:
    """What is wrong with a source distribution: it holds the tree, so that it builds and tests itself anywhere."""
    with tarfile.open(path) as sdist:
        members = [member for member in sdist.getmembers() if member.isfile()]
        names = {member.name.partition("/")[2] for member in members}
        found = [
            f"is by {member.uname or member.uid}"
            for member in members
            if member.uid or member.uname not in ("", "root")
        ]
    wanted = files_of(tree)
    found += [f"lacks {name}" for name in sorted(wanted - names)]
    found += [f"holds {name}" for name in sorted(names - wanted) if not name.startswith(MADE)]
    return found


def main() -> int:
    """Check every file in the folder; returns 1 when something is wrong or missing."""
    folder, tree = Path(sys.argv[1]), Path(sys.argv[2])
    wheels, sdists = sorted(folder.glob("*.whl")), sorted(folder.glob("*.tar.gz"))
    wrong = [] if wheels and sdists else ["there is no wheel, or no sdist"]
    wrong += [f"{path.name}: {complaint}" for path in wheels for complaint in complaints_about_wheel(path, tree)]
    wrong += [f"{path.name}: {complaint}" for path in sdists for complaint in complaints_about_sdist(path, tree)]
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        return 1
    for path in wheels:
        with zipfile.ZipFile(path) as wheel:
            number, symbol = max(glibc_of(ELFFile(io.BytesIO(wheel.read(MODULE)))).items())
        print(f"{path.name}: no RUNPATH, highest symbol {symbol} of glibc {'.'.join(map(str, number))}")
    print(f"{len(wheels)} wheel and {len(sdists)} sdist hold what they should")
    return 0


if __name__ == "__main__":
    sys.exit(main())
