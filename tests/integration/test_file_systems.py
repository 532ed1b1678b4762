"""File systems that share extents: what is shared is shared, what cannot be says so, and nothing else differs.

They are made on loop devices, so all of this runs only with COREFILT_TEST_SYSTEM=1 and as root.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel.dumps import may_change_system
from support.builder import PT_LOAD, Load, kernel_notes, make_core, parse_core
from support.run import MIB, assert_error, assert_promises, corefilt, listing
from support.samples import PAGE, noise, sample_core

pytestmark = pytest.mark.skipif(
    not may_change_system(), reason="needs root and COREFILT_TEST_SYSTEM=1, because it mounts file systems"
)

A, B, C = 0x10000000, 0x20000000, 0x30000000
MAKE = {
    "xfs": ("mkfs.xfs", "-q", "-m", "reflink=1"),
    "xfs 1k": ("mkfs.xfs", "-q", "-m", "reflink=1", "-b", "size=1024"),
    "btrfs": ("mkfs.btrfs", "-q"),
}
PLAIN = {"ext4": ("mkfs.ext4", "-q"), "xfs without sharing": ("mkfs.xfs", "-q", "-m", "reflink=0")}
FS_IOC_FIEMAP = 0xC020660B
FIEMAP_FLAG_SYNC = 1
FIEMAP_EXTENT_LAST, FIEMAP_EXTENT_UNWRITTEN, FIEMAP_EXTENT_SHARED = 0x1, 0x800, 0x2000


def mounted(folder: Path, make: tuple[str, ...]) -> Iterator[Path]:
    if shutil.which(make[0]) is None:
        pytest.skip(f"{make[0]} is not installed")
    image, where = folder / "image", folder / "mounted"
    where.mkdir()
    with image.open("wb") as file:
        file.truncate(400 * MIB)
    subprocess.run([*make, image], check=True, capture_output=True)
    if subprocess.run(["mount", "-o", "loop", image, where], capture_output=True, check=False).returncode:
        pytest.skip(f"the kernel does not mount what {make[0]} makes")
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)
        image.unlink()


@pytest.fixture(scope="module", params=list(MAKE))
def sharing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Mount a file system that shares extents."""
    yield from mounted(tmp_path_factory.mktemp("sharing"), MAKE[request.param])


@pytest.fixture(scope="module", params=list(PLAIN))
def plain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Mount one that does not."""
    yield from mounted(tmp_path_factory.mktemp("plain"), PLAIN[request.param])


@pytest.fixture
def place(sharing: Path) -> Iterator[Path]:
    """Give a folder of its own to a test."""
    folder = sharing / "test"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def extents(path: Path) -> list[tuple[int, int, int]]:
    """List offset, length and flags of every extent, as the file system tells them."""
    found: list[tuple[int, int, int]] = []
    at = 0
    with path.open("rb") as file:
        while True:
            request = bytearray(struct.pack("=QQIIII", at, (1 << 64) - 1 - at, FIEMAP_FLAG_SYNC, 0, 64, 0))
            request += bytes(56 * 64)
            fcntl.ioctl(file.fileno(), FS_IOC_FIEMAP, request)
            count = struct.unpack_from("=I", request, 20)[0]
            for i in range(count):
                logical, _, length, _, _, flags = struct.unpack_from("=QQQQQI", request, 32 + 56 * i)
                found.append((logical, length, flags))
            if not count or found[-1][2] & FIEMAP_EXTENT_LAST:
                return found
            at = found[-1][0] + found[-1][1]


def shared_bytes(path: Path) -> int:
    return sum(length for _, length, flags in extents(path) if flags & FIEMAP_EXTENT_SHARED)


def hole_behind(path: Path, start: int) -> tuple[int, int]:
    """Return where the first hole behind an offset begins and ends, from there on.

    By extents: what XFS has allocated ahead is a hole for SEEK_HOLE only as long as nobody has read it into the cache.
    """
    written = [(at, at + size) for at, size, flags in extents(path) if not flags & FIEMAP_EXTENT_UNWRITTEN]
    end = start
    for first, behind in written:
        if first > end:
            return end - start, first - start
        end = max(end, behind)
    raise AssertionError("there is no hole")


def two_thirds() -> bytes:
    """Make a core of which 0x31 drops the mapping in the middle."""
    return make_core(
        [Load(A, noise(64, 1)), Load(B, noise(64, 2)), Load(C, noise(64, 3))],
        kernel_notes([(B, B + 64 * PAGE, 0, "/dev/zero (deleted)")]),
    )


def on_disk(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return path


@pytest.mark.parametrize("engine", ["reflink", "auto", "copy_file_range"])
def test_extents_are_shared(engine: str, place: Path) -> None:
    core, out = on_disk(place / "core", two_thirds()), place / "out"
    done = corefilt("0x31", core, "-o", out, "--engine", engine, "-v")
    assert done.code == 0, done.err
    if engine != "copy_file_range":
        assert "  engine: reflink;" in "\n".join(done.err)
    assert_promises(core.read_bytes(), out.read_bytes())
    start = parse_core(out.read_bytes())[1][1].p_offset
    assert [p.p_filesz for p in parse_core(out.read_bytes())[1][1:]] == [64 * PAGE, 0, 64 * PAGE]
    assert shared_bytes(out) >= 128 * PAGE
    flags = [flags & FIEMAP_EXTENT_SHARED for at, length, flags in extents(out) if at >= start]
    assert flags and all(flags), "every extent of the payload is shared"


@pytest.mark.parametrize("engine", ["readwrite", "sendfile"])
def test_who_demands_a_copy_gets_one(engine: str, place: Path) -> None:
    core, out = on_disk(place / "core", two_thirds()), place / "out"
    assert corefilt("0x31", core, "-o", out, "--engine", engine).code == 0
    assert shared_bytes(out) == 0


LAYOUTS = {
    "sample": sample_core(anon_pages=64, shared_pages=64),
    "xnum": sample_core(anon_pages=64, xnum=True),
    "gcore": sample_core(anon_pages=64, shared_pages=64, layout="gcore"),
    "gcore, notes first": sample_core(anon_pages=64, layout="gcore-notes-first"),
    "cut short": sample_core(anon_pages=64)[: -2 * PAGE - 77],
}


@pytest.mark.parametrize("wanted", ["0x0", "0x31", "0x33", "all"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_sharing_gives_the_same_bytes(layout: str, wanted: str, place: Path) -> None:
    """Also of cores whose payload begins anywhere in a block: the shift is whole pages, the edges are copied."""
    core = on_disk(place / "core", LAYOUTS[layout])
    codes = {
        engine: corefilt(wanted, core, "-o", place / engine, "--engine", engine, "--no-sync").code
        for engine in ("readwrite", "reflink", "auto", "copy_file_range")
    }
    assert set(codes.values()) == {3 if layout == "cut short" else 0}
    contents = {(place / engine).read_bytes() for engine in codes}
    assert len(contents) == 1
    if wanted != "0x0":
        assert shared_bytes(place / "reflink") >= 32 * PAGE


def test_holes_stay_holes(place: Path) -> None:
    core = place / "core"
    data = noise(64, 1) + bytes(1024 * PAGE) + noise(64, 2)
    raw = make_core([Load(A, noise(16)), Load(B, data)], kernel_notes([(A, A + 16 * PAGE, 0, "/dev/zero (deleted)")]))
    hole = parse_core(raw)[1][2].p_offset + 64 * PAGE
    with core.open("wb") as file:
        file.write(raw[:hole])
        file.seek(1024 * PAGE, os.SEEK_CUR)
        file.write(raw[hole + 1024 * PAGE :])
        os.fsync(file.fileno())
    start = parse_core(raw)[1][2].p_offset
    hole = hole_behind(core, start)
    assert hole == (64 * PAGE, 1088 * PAGE)
    for engine in ("reflink", "auto", "copy_file_range", "readwrite", "sendfile"):
        out = place / engine
        done = corefilt("0x31", core, "-o", out, "--engine", engine, "-v")
        assert done.code == 0, done.err
        assert "holes: kept" in "\n".join(done.err)
        assert_promises(raw, out.read_bytes())
        start = parse_core(out.read_bytes())[1][2].p_offset
        found = hole_behind(out, start)
        if engine in ("reflink", "auto"):
            assert found == hole
        assert found[1] == hole[1]
        assert out.stat().st_blocks * 512 < 2 * MIB


def test_standard_output_behind_something_else(place: Path) -> None:
    """What stands before the core may be no whole number of blocks."""
    core = on_disk(place / "core", two_thirds())
    expected = place / "expected"
    assert corefilt("0x31", core, "-o", expected).code == 0
    for before, shared in ((b"", True), (bytes(3 * PAGE), True), (b"title", False)):
        for engine in ("auto", "reflink"):
            out = place / "out"
            out.write_bytes(before)
            with out.open("r+b") as file:
                file.seek(0, os.SEEK_END)
                done = corefilt("0x31", core, "--engine", engine, stdout=file)
            if engine == "reflink" and not shared:
                assert_error(done, "not a multiple of the block size")
                assert out.read_bytes() == before
                continue
            assert done.code == 0, done.err
            assert out.read_bytes() == before + expected.read_bytes()
            assert (shared_bytes(out) >= 128 * PAGE) is shared


def test_another_file_system_is_no_place_to_share_with(place: Path, tmp_path: Path) -> None:
    core = on_disk(place / "core", two_thirds())
    before = listing(tmp_path)
    assert_error(corefilt("0x31", core, "-o", tmp_path / "out", "--engine", "reflink"), "--engine reflink cannot")
    assert listing(tmp_path) == before
    done = corefilt("0x31", core, "-o", tmp_path / "out")
    assert done.code == 0, done.err
    assert_promises(core.read_bytes(), (tmp_path / "out").read_bytes())


@pytest.mark.parametrize("engine", ["auto", "copy_file_range", "sendfile", "readwrite"])
def test_file_systems_that_do_not_share(engine: str, plain: Path) -> None:
    core, out = on_disk(plain / "core", two_thirds()), plain / "out"
    try:
        assert_error(corefilt("0x31", core, "-o", out, "--engine", "reflink"), "--engine reflink cannot move")
        assert not out.exists()
        done = corefilt("0x31", core, "-o", out, "--engine", engine, "-v")
        assert done.code == 0, done.err
        # Which of the two auto takes, a table of file systems says.
        used = ("copy_file_range", "readwrite") if engine == "auto" else (engine,)
        assert any(f"  engine: {name};" in "\n".join(done.err) for name in used)
        assert_promises(core.read_bytes(), out.read_bytes())
    finally:
        for path in (core, out):
            path.unlink(missing_ok=True)


def test_no_payload_is_read_where_it_is_shared(place: Path) -> None:
    """Neither by the program nor into the page cache."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed, which tells what is read")
    size = 32 * MIB
    core = on_disk(place / "core", make_core([Load(A, noise(MIB // PAGE) * 32)], kernel_notes()))
    with core.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    log = place / "log"
    calls = "trace=read,pread64,preadv2,copy_file_range,sendfile,splice,pwrite64,pwritev2"
    done = corefilt("all", core, "-o", place / "out", prefix=("strace", "-f", "-y", "-o", log, "-e", calls))
    assert done.code == 0, done.err
    moved = [line for line in log.read_text().splitlines() if f"<{core}>" in line or "copy_file_range" in line]
    assert sum(int(line.rpartition("= ")[2]) for line in moved) < 64 << 10, moved
    assert (place / "out").stat().st_size > size


def test_a_full_disk_says_so_and_leaves_nothing(place: Path) -> None:
    core = on_disk(place / "core", make_core([Load(A, noise(256) * 16)], kernel_notes()))
    try:
        with (place / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(MIB))
                os.fsync(file.fileno())
    except OSError as error:
        assert error.errno == errno.ENOSPC
    before = set(os.listdir(place))
    done = corefilt("0x31", core, "-o", place / "out", "--engine", "readwrite")
    assert_error(done, "No space left")
    assert set(os.listdir(place)) == before


def test_thousands_of_extents(place: Path) -> None:
    """Every second page is a hole, so that every page is an extent of its own."""
    pages = 4096
    raw = make_core([Load(A, noise(2) * (pages // 2))], kernel_notes())
    start = next(phdr.p_offset for phdr in parse_core(raw)[1] if phdr.p_type == PT_LOAD)
    core, out = place / "core", place / "out"
    with core.open("wb") as file:
        file.write(raw[:start])
        for at in range(0, pages, 2):
            file.seek(start + at * PAGE)
            file.write(raw[start + at * PAGE : start + (at + 1) * PAGE])
        file.truncate(len(raw))
        os.fsync(file.fileno())
    done = corefilt("all", core, "-o", out, "--engine", "reflink")
    assert done.code == 0, done.err
    assert out.read_bytes() == core.read_bytes()
    assert out.stat().st_blocks <= core.stat().st_blocks + 64
