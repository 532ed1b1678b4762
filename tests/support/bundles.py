"""Bundles that tests make: a core of a program that is really there, its directory, and archives that lie."""

from __future__ import annotations

import io
import json
import shutil
import struct
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

from support.builder import AT_PHDR, FileEntry, Load, kernel_notes, make_core, page

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BASE, STACK, DEBUG, APART = 0x400000, 0x7FFF0000, 0x7FF00000, 0x100000
AT_PHNUM, PT_DYNAMIC, DT_DEBUG = 5, 2, 21
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


def linked_core(objects: Iterable[tuple[bytes, str]], *, debug: bytes | None = None) -> bytes:
    """A core of ORIGINAL as PROGRAM with libraries that are copies of it: (the linker's name, the path) of each.

    Its struct r_debug stands at DEBUG, with the chain of struct link_map behind it; ``debug`` is written over it.
    """
    first = ORIGINAL.read_bytes()[:4096]
    table = [struct.unpack_from("<IIQQQQQQ", first, 64 + 56 * n) for n in range(struct.unpack_from("<H", first, 56)[0])]
    dynamic = next(phdr[3] for phdr in table if phdr[0] == PT_DYNAMIC)
    pairs = [(b"", PROGRAM), *objects]
    bases = [BASE + n * APART for n in range(len(pairs))]
    at, names = DEBUG + 48, DEBUG + 48 + 40 * len(pairs)
    chain = text = b""
    for n, (name, _) in enumerate(pairs):
        following = at + 40 * (n + 1) if n + 1 < len(pairs) else 0
        chain += struct.pack("<5Q", bases[n], names + len(text), bases[n] + dynamic, following, 0)
        text += name + b"\0"
    data = struct.pack("<6Q", 1, at, 0, 0, 0, 0) + chain + text
    data = data if debug is None else debug + data[len(debug) :]
    entries = page(bytes(dynamic % 4096) + struct.pack("<4Q", DT_DEBUG, DEBUG, 0, 0))
    loads = [Load(base, page(first), flags="r-x") for base in bases]
    loads += [Load(BASE + dynamic // 4096 * 4096, entries), Load(DEBUG, page(data))]
    files = [FileEntry(base, base + 4096, 0, path) for base, (_, path) in zip(bases, pairs, strict=True)]
    count = struct.unpack_from("<H", first, 56)[0]
    return make_core(
        sorted(loads, key=lambda load: load.vaddr), kernel_notes(files, {AT_PHDR: BASE + 64, AT_PHNUM: count})
    )


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

    def tar(self) -> bytes:
        """The archive before it is compressed."""
        return self._raw.getvalue() + bytes(10240)

    def write(self, path: Path) -> Path:
        """Compress it to where it belongs."""
        path.write_bytes(zstd.compress(self.tar()))
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
