"""What each target begins with: cores and notes that the builder makes, and, where there are any, cores of others.

Cores of others are never kept beside the targets: they are read from COREFILT_FOREIGN_CORES, or from the folder that
tests/foreign uses, and cut to what a target takes.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import lzma
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from support.builder import (
    NT_FILE,
    NT_PRSTATUS,
    PT_LOAD,
    Image,
    Load,
    elf_image,
    kernel_notes,
    make_core,
    note_bytes,
    page,
    parse_core,
    parse_notes,
)
from support.bundles import Archive
from support.frames import tables
from support.maps import ZERO, Area, maps_text, smaps_text
from support.planted import bearing_formats, by_keyword, forms, pem, rsa_key
from support.samples import SHARED, SHARED_FILE, sample_core, tagged

from corefilt.io.compression import SUFFIXES, Compression, encoder
from fuzz.shapes import SHAPES, Choices

NO_CHOICES = bytes(Choices.COUNT)
FOREIGN = Path(
    os.environ.get("COREFILT_FOREIGN_CORES") or Path(__file__).parents[2].parent / "shared" / "foreign-cores"
)


def _perms(p_flags: int) -> str:
    """The flags as maps has them, of a private mapping."""
    return "".join(letter if p_flags & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1))) + "p"


NAMED = {
    SHARED: Area(0, 0, "rw-s", ZERO, 0, (0, 1), 7, "rd wr sh mr mw me ms sd"),
    SHARED_FILE: Area(0, 0, "rw-s", "/var/lib/victim/table.db", 0, (8, 1), 9, "rd wr sh mr mw me ms sd"),
}
AREAS = [
    replace(
        NAMED.get(phdr.p_vaddr, Area(0, 0, _perms(phdr.p_flags))),
        start=phdr.p_vaddr, end=phdr.p_vaddr + phdr.p_memsz,
    )
    for phdr in parse_core(sample_core())[1]
    if phdr.p_type == PT_LOAD
]  # fmt: skip
"""What /proc/PID/maps had said of the process whose core the target has."""


def _whole(data: bytes) -> Iterator[bytes]:
    """A core with some choices of filter and of what else."""
    for choices in (NO_CHOICES, b"\0\0\0\x33", b"\0\x01\0\x31", b"\0\0\x01\xff", b"\x04\x03\x01\xff"):
        yield data + choices


def _cores() -> Iterator[bytes]:
    small = {"anon_pages": 1, "shared_pages": 1}
    made = [
        sample_core(**small), sample_core(xnum=True, **small), sample_core(layout="gcore", **small),
        sample_core(layout="gcore-notes-first", **small), tagged(), tagged(interleaved=True),
    ]  # fmt: skip
    for bits, little_endian, machine in SHAPES:
        shape = {"bits": bits, "little_endian": little_endian, "machine": machine}
        made.append(make_core([], kernel_notes([(1, 2, 3, "/a")], **shape), **shape))  # type: ignore[arg-type]
    for core in made:
        yield from _whole(core)


def _shaped(make: Callable[..., bytes]) -> Iterator[bytes]:
    """What is made for every shape, with the choice that says so."""
    for i, (bits, little_endian, machine) in enumerate(SHAPES):
        made = make(bits=bits, little_endian=little_endian, machine=machine)
        yield from (made + bytes((0, 0, more, i)) for more in (0, 1, 2))


def _notes(**shape: int) -> bytes:
    files = [(0x10000, 0x12000, 0, "/dev/zero (deleted)"), (0x40000, 0x42000, 0x1000, "/lib/a.so")]
    return note_bytes(kernel_notes(files, {33: 0x40000}, threads=2, **shape), bool(shape["little_endian"]))  # type: ignore[arg-type]


def _descs(kind: int) -> Iterator[bytes]:
    def make(**shape: int) -> bytes:
        notes = kernel_notes([(0x10000, 0x12000, 0, "/a"), (0x40000, 0x42000, 0, "/b")], **shape)  # type: ignore[arg-type]
        return next(note.desc for note in notes if note.type == kind)

    return _shaped(make)


def _record(**shape: int) -> bytes:
    order = "<" if shape["little_endian"] else ">"
    head = struct.pack(order + "IIII", 1, 24, 1, 0)
    return head + struct.pack(order + "QQHHBBH", 0x10000, 0x12000, 1, 1, 0, 0, 1)


def _image(**shape: int) -> bytes:
    segments = [Image(0, 0xF00, "r--"), Image(0x1000, 0x1F00, "r-x"), Image(0x4000, 0x3000, "rw-", filesz=0x1F00)]
    return elf_image(segments, relro=(0x4000, 0x1000), size=1024, **shape)  # type: ignore[arg-type]


def _loadmap(**shape: int) -> bytes:
    order = "<" if shape["little_endian"] else ">"
    if shape["bits"] == 64:
        return struct.pack(order + "HH4xQQII", 0, 1, 0x10000, 0, 0x1000, 0)
    return struct.pack(order + "HHIII4x", 0, 1, 0x10000, 0, 0x1000)


def _sidecars() -> Iterator[bytes]:
    text = maps_text(AREAS)
    yield text
    yield smaps_text(AREAS)
    yield b"ProblemType: Crash\nProcMaps:\n " + text.strip().replace(b"\n", b"\n ") + b"\nTags: x\n"
    yield b"ProblemType: Crash\nProcMaps: base64\n " + base64.b64encode(zlib.compress(text)) + b"\n"
    yield b"COREDUMP_FILENAME=/a/core\nCOREDUMP_PROC_MAPS\n" + struct.pack("<Q", len(text)) + text + b"\n\n"
    yield b'{"COREDUMP_FILENAME": "/a", "COREDUMP_PROC_MAPS": "' + text.replace(b"\n", b"\\n") + b'"}\n'
    yield b'\x1e{"COREDUMP_PROC_MAPS": [' + b", ".join(b"%d" % byte for byte in text) + b"]}\n"


def _patterns() -> Iterator[bytes]:
    for text in (b"core", b"core.%p", b"|/bin/x %P %s %e%%", b"/var/c/%h/%e.%t.%u%g%d", b"%E%f%F%i%I%c%C%", b"@sock"):
        yield text
        yield text + b"\0../.."


def _words() -> Iterator[bytes]:
    for text in (
        "0x33", "0b110011", "00000033", "33", "default,-shared-anonymous", "all", "none,+elf-headers", "coremask:1",
        "core_flags:3", "coredump_omit_anonymous_shared:1", "omit-anonymous-shared", "64K", "2G", "unlimited",
        "0x10000=private-anonymous", "/dev/*=shared-anonymous", "size>=64G", "0xbdffffa8,0", "2:64M", "0x3f,0x33",
        "h=web1", "[!a]?*", "-none", "0xffffffff",
    ):  # fmt: skip
        yield text.encode()


def _wrapped() -> Iterator[bytes]:
    core = make_core([], kernel_notes([(1, 2, 3, "/a")]))
    packed = [gzip.compress(core, mtime=0), bz2.compress(core), lzma.compress(core)]
    yield from (core, *packed)
    for content in (core, packed[0]):
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as tar:
            info = tarfile.TarInfo("a/core")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        yield from (made.getvalue(), gzip.compress(made.getvalue(), mtime=0))
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(zipfile.ZipInfo("core"), content)
        yield made.getvalue()
    lines = [base64.b64encode(piece) for piece in (gzip.compress(core, mtime=0),)]
    yield b"ProblemType: Crash\nCoreDump: base64\n " + b"\n ".join(lines) + b"\nTags: x\n"


def _compressed() -> Iterator[bytes]:
    """In each format, in one stream and in two, with what may stand behind, and cut."""
    core = make_core([Load(0x10000, page(b"a")), Load(0x20000, memsz=4096)], kernel_notes([(1, 2, 3, "/a")]))
    for name in SUFFIXES:

        def packed(content: bytes, name: str = name) -> bytes:
            made = encoder(Compression(name))
            return made.compress(content) + made.flush()

        whole = packed(core)
        for stream in (whole, packed(core[:1000]) + packed(core[1000:]), whole + bytes(512), whole + b"x", whole[:-9]):
            yield stream + b"\0\0\0\x33"


def _policies() -> Iterator[bytes]:
    delete = b'[[rule]]\nname = "old"\nwhen.older = "365d"\naction = "delete"\n\n'
    keep = b'[[rule]]\nname = "rest"\naction = "filter"\nfilter = "0x31"\n'
    fit = b'[[rule]]\nname = "x"\naction = "fit"\nsize = "64M"\nwhen.signal = ["SIGSEGV", 6]\n'
    yield from (keep, delete + keep, fit)


def _patches() -> Iterator[bytes]:
    """Words that come to other places: none, and some that are small, large, or addresses near the heap."""
    yield b""
    for n in range(0, 4000, 160):
        yield struct.pack("<IQ", n, n)
        yield struct.pack("<IQIQ", n, 0x7F0000001000 + 8 * n, n + 7, (1 << 64) - n - 1)


def _unwinding() -> Iterator[bytes]:
    """Sound tables with a stack that they unwind, an expression, and tables without a stack."""
    functions = [(0x400800, 0x40, b"\x41\x0e\x10"), (0x400900, 0x40, b"\x0e\x28"), (0x400A00, 0x40, b"\x07\x10")]
    sound = tables(functions)
    stack = struct.pack("<7Q", 0, 0x400905, 1, 2, 3, 4, 0x400A07)
    computed = tables([(0x400800, 0x40, b"\x0f\x0b\x77\x08\x80\0\x3f\x1a\x3b\x2a\x33\x24\x22"), *functions[1:]])
    for each in (sound, computed):
        yield len(each).to_bytes(2, "little") + each + stack
    yield len(sound).to_bytes(2, "little") + sound


def _secrets() -> Iterator[bytes]:
    """Secrets of each rule, at each level, and keys in DER and PEM."""
    planted = [each.text for each in (*bearing_formats(), *by_keyword())]
    for level in range(3):
        yield bytes([level]) + b"\0\0".join(planted)
    key = rsa_key(1024)
    yield b"\0" + key.public() + bytes(7) + key.pkcs1() + bytes(3) + key.pkcs8() + pem("PRIVATE KEY", key.pkcs8())
    yield b"\0" + b"\0".join(form for _, form in forms(b"password='abc9def8ghi7'"))


def _seekable() -> Iterator[bytes]:
    """A frame with a table: empty, short and of several blocks."""
    for size in (0, 1000, 200_000):
        made = encoder(Compression("zstd", seekable=True))
        yield made.compress(b"words" * (size // 5)) + made.flush()


def _bundles() -> Iterator[bytes]:
    """A bundle with a link and holes, and members that are refused."""
    yield _bundle().tar()
    for name, fields in (("root/../x", {}), ("root/y", {"type": tarfile.SYMTYPE, "linkname": "../.."}), ("root/f", {})):
        yield _bundle().file(name, **fields).tar()


def _bundle() -> Archive:
    archive = Archive(core=b"core").file("root/d/x", type=tarfile.SYMTYPE, linkname="../y").file("root/y", b"y")
    return archive.file("GNUSparseFile.0/root/s", b"1\n512\n1\n".ljust(512, b"\0") + b"s", pax_headers=dict(SPARSE))


SPARSE = {
    "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "root/s", "GNU.sparse.realsize": "513",
}  # fmt: skip
SEEDS: dict[str, Callable[[], Iterator[bytes]]] = {
    "tables": _cores, "options": _cores, "pipes": _cores, "inplace": _cores,
    "notes": lambda: _shaped(_notes), "nt_file": lambda: _descs(NT_FILE), "prstatus": lambda: _descs(NT_PRSTATUS),
    "record": lambda: _shaped(_record), "image": lambda: _shaped(_image), "loadmap": lambda: _shaped(_loadmap),
    "maps": lambda: (text + NO_CHOICES for text in (maps_text(AREAS), smaps_text(AREAS))),
    "sidecar": _sidecars, "pattern": _patterns, "words": _words,
    "native": lambda: _shaped(_notes), "wrapping": _wrapped, "compressed": _compressed, "policy": _policies,
    "seektable": _seekable,
    "bundle": _bundles,
    "goroutines": _patches, "frames": _patches, "machine": _patches,
    "unwinding": _unwinding, "secrets": _secrets,
}  # fmt: skip


def foreign(name: str, most: int) -> Iterator[bytes]:
    """What cores of others have for a target, no longer than ``most`` bytes."""
    for path in sorted(FOREIGN.rglob("*")):
        if not path.is_file() or path.suffix == ".tsv":
            continue
        if path.suffix == ".maps":
            if name in ("maps", "sidecar"):
                yield path.read_bytes()[:most]
            continue
        raw = path.read_bytes()
        core = bz2.decompress(raw) if path.suffix == ".bz2" else raw
        yield from _pieces(name, core, most)


def _pieces(name: str, core: bytes, most: int) -> Iterator[bytes]:
    if name in ("tables", "options", "pipes", "inplace"):
        # What is cut off is missing, as in a core that a limit has cut.
        yield core[: most - Choices.COUNT] + b"\0\0\0\x31"
        return
    try:
        ehdr, _ = parse_core(core)
        found = parse_notes(core)
    except (ValueError, struct.error):
        return
    i = next((i for i, shape in enumerate(SHAPES) if shape == (ehdr.bits, ehdr.little_endian, ehdr.e_machine)), 0)
    tail = bytes((0, 0, 0, i))
    if name in ("notes", "native"):
        yield note_bytes(found, ehdr.little_endian)[: most - len(tail)] + tail
    kinds = {"nt_file": NT_FILE, "prstatus": NT_PRSTATUS}
    yield from (note.desc[: most - len(tail)] + tail for note in found if note.type == kinds.get(name))


FOUND = Path(__file__).parent / "found"


def found(name: str) -> Iterator[bytes]:
    """What a target failed with once."""
    return (path.read_bytes() for path in sorted((FOUND / name).glob("*")))


def fill(name: str, folder: Path, most: int) -> None:
    """Write all of a target's seeds into a folder, where fuzzing keeps what it finds, too."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind, make in (("seed", SEEDS[name]()), ("found", found(name)), ("foreign", foreign(name, most))):
        for i, data in zip(range(1000), make, strict=False):
            (folder / f"{kind}-{i:03}").write_bytes(data)
