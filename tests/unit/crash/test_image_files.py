"""What a core lacks of an image comes from a file of the same build, or from none."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from support.builder import page

from corefilt.corefile.elf import Ehdr, Phdrs
from corefilt.crash.image_files import WINDOW, ImageFiles
from corefilt.crash.modules import Module, ModuleIndex
from corefilt.evidence.sysroot import Sysroot

PATH, BIAS, PAGE = b"/lib/libx.so", 0x7F00_0000_0000, 4096
TEXT = 2 * WINDOW


def image(build_id: bytes) -> bytes:
    """An ELF image of a text segment with a note, and a page of data that is written to."""
    note = struct.pack("<III", 4, len(build_id), 3) + b"GNU\0" + build_id
    head = b"\x7fELF\2\1\1".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 3, 0, 0, 0)
    at = 64 + 3 * 56
    for phdr in (
        (1, 5, 0, 0, 0, TEXT, TEXT, PAGE),
        (1, 6, TEXT, TEXT, TEXT, PAGE, PAGE, PAGE),
        (4, 4, at, at, at, len(note), len(note), 4),
    ):
        head += struct.pack("<IIQQQQQQ", *phdr)
    return (head + note).ljust(TEXT, b"t") + page(b"d")


def module(raw: bytes, build_id: bytes | None, go_id: bytes | None = None) -> Module:
    """The image as a core shows it."""
    table = Phdrs.decode(raw[64 : 64 + 3 * 56], Ehdr(raw[:64]))
    return Module(BIAS, BIAS + TEXT + PAGE, PATH, build_id, BIAS, table, go_id)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with the file in its place."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libx.so").write_bytes(image(b"0123456789"))
    return tmp_path


def test_text_comes_from_the_file(root: Path) -> None:
    raw = image(b"0123456789")
    sysroot = Sysroot(str(root))
    files = ImageFiles(ModuleIndex([module(raw, b"0123456789")]), lambda: sysroot)
    try:
        assert files.read(BIAS + 100, 300) == raw[100:400]
        assert files.read(BIAS + WINDOW - 10, 20) == raw[WINDOW - 10 : WINDOW + 10]
        assert files.read(BIAS, TEXT + 99) == raw[:TEXT]
        assert files.read(BIAS + TEXT, 10) == b"", "what is written to is the core's to tell"
        assert files.read(BIAS - 1, 10) == b""
        assert files.used and not files.refused
        opened = files.file_at(BIAS)
        assert opened is not None and opened is files.file_at(BIAS + 1) and files.file_at(0) is None
    finally:
        files.close()
        sysroot.close()


@pytest.mark.parametrize(
    ("build_id", "go_id", "where", "said"),
    [
        (b"another", None, "here", "has build-id 30313233343536373839"),
        (None, None, "here", "its build-id is not in the core"),
        (None, b"go", "here", "is from another build"),
        (b"0123456789", None, "nowhere", "files are not searched for this core"),
        (b"0123456789", None, "elsewhere", "does not exist"),
    ],
)
def test_why_a_file_did_not_serve(
    build_id: bytes | None, go_id: bytes | None, where: str, said: str, root: Path
) -> None:
    if where == "elsewhere":
        (root / "lib" / "libx.so").unlink()
    sysroot = Sysroot(str(root))
    found = module(image(b"0123456789"), build_id, go_id)
    files = ImageFiles(ModuleIndex([found]), lambda: None if where == "nowhere" else sysroot)
    try:
        assert files.read(BIAS, 10) == b"" and not files.used
        assert said in files.refused[PATH]
    finally:
        files.close()
        sysroot.close()


def test_an_image_without_its_headers_is_not_looked_for() -> None:
    files = ImageFiles(ModuleIndex([Module(BIAS, BIAS + PAGE, PATH)]), lambda: pytest.fail("it was"))
    assert files.read(BIAS, 10) == b""
    assert files.refused == {PATH: "its ELF header is not in the core"}
