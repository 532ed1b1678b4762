"""Copies every library that the modules in a standalone directory ask for, and those that these ask for, into its lib/.

Usage: python libraries.py DIRECTORY FOLDER...      (FOLDER: where they are looked for)
"""

import shutil
import sys
from pathlib import Path

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile

MAGIC = b"\x7fELF"
# Opened by its name (pyseccomp).
BY_NAME = "libseccomp.so.2"


def needed(path: Path) -> set[str]:
    """The names of the libraries that a file asks for."""
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return set()
        return {
            tag.needed
            for section in ELFFile(file).iter_sections()
            if isinstance(section, DynamicSection)
            for tag in section.iter_tags("DT_NEEDED")
        }


def main(directory: Path, folders: list[Path]) -> None:
    """Copy until nothing is missing."""
    todo = [
        path for path in directory.rglob("*") if path.is_file() and (path.suffix == ".so" or path.name == "python3")
    ]
    there = {path.name for path in (directory / "lib").iterdir()}
    # Libraries that a wheel brings are found by its modules themselves.
    there |= {path.name for path in directory.glob("**/*.libs/*")}
    wanted = {BY_NAME}
    while todo or wanted:
        wanted |= needed(todo.pop()) if todo else set()
        for name in sorted(wanted - there):
            found = next((folder / name for folder in folders if (folder / name).exists()), None)
            if found is None:
                raise SystemExit(f"{name} is in none of the packages")
            target = directory / "lib" / name
            shutil.copy(found, target)
            target.chmod(0o644)
            there.add(name)
            todo.append(target)
        wanted.clear()


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
