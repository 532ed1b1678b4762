"""Bundles that tests make: a core of a program that is really there, its directory, and archives that lie."""

from __future__ import annotations

import io
import json
import shutil
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

from support.builder import AT_PHDR, Load, kernel_notes, make_core, page

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BASE, STACK = 0x400000, 0x7FFF0000
PROGRAM = "/opt/app/victim"
# Every Debian has it, with a build-id in its first page, as linkers put it.
ORIGINAL = Path("/usr/bin/true")


def core_of(program: bytes, path: str = PROGRAM) -> bytes:
    """A core of a program by its first page, with a page of stack."""
    notes = kernel_notes([(BASE, BASE + 0x1000, 0, path)], {AT_PHDR: BASE + 64})
    return make_core([Load(BASE, page(program[:4096]), flags="r-x"), Load(STACK, page(b"stack"))], notes)


def system(folder: Path, path: str = PROGRAM) -> tuple[Path, Path]:
    """A core, and a directory that stands for the / of its machine."""
    root = folder / "system"
    place = root / path[1:]
    place.parent.mkdir(parents=True)
    shutil.copy2(ORIGINAL, place)
    core = folder / "core"
    core.write_bytes(core_of(ORIGINAL.read_bytes(), path))
    return core, root


class Archive:
    """A bundle that somebody else made: what a bundle needs, and whatever is added."""

    def __init__(self, core: bytes | None = None, manifest: bytes | None = None) -> None:
        if manifest is None:
            manifest = json.dumps({"format": "corefilt-bundle", "version": 1, "files": []}).encode()
        self._raw = io.BytesIO()
        self.file("manifest.json", manifest)
        self.file("core", core_of(ORIGINAL.read_bytes()) if core is None else core)

    def file(self, name: str, raw: bytes = b"", **fields: object) -> Archive:
        """Add a file; ``fields`` are those of its header that lie."""
        info = tarfile.TarInfo(name)
        info.size = len(raw)
        for field, value in fields.items():
            setattr(info, field, value)
        self._raw.write(info.tobuf(tarfile.PAX_FORMAT) + raw + bytes(-len(raw) % 512))
        return self

    def write(self, path: Path) -> Path:
        """Compress it to where it belongs."""
        path.write_bytes(zstd.compress(self._raw.getvalue() + bytes(10240)))
        return path


def names_of(bundle: Path) -> list[str]:
    """The members of a bundle."""
    return [entry.name for entry in members_of(bundle)]


def members_of(bundle: Path) -> Iterable[tarfile.TarInfo]:
    """The members of a bundle with all that their headers say."""
    with tarfile.open(fileobj=io.BytesIO(zstd.decompress(bundle.read_bytes()))) as tar:
        return tar.getmembers()


def content_of(bundle: Path, name: str) -> bytes:
    """The bytes of a member."""
    with tarfile.open(fileobj=io.BytesIO(zstd.decompress(bundle.read_bytes()))) as tar:
        file = tar.extractfile(name)
        assert file is not None
        return file.read()
