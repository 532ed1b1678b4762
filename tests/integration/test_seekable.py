"""Seekable zstd: what is written is what the format says, and what is read of it is no more than is needed."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from support.builder import Load, Phdr, kernel_notes, make_core, page, parse_core
from support.frames import BASE, crash_core, image
from support.run import assert_error, assert_usage, corefilt, hostile_memory
from support.samples import HEAP, PAGE, STACK, noise

import corefilt as api
from corefilt.batching.runner import run_task
from corefilt.batching.task import Task
from corefilt.corefile.corefile import open_core
from corefilt.crash.identity import identify
from corefilt.errors import InputError
from corefilt.io.compression import Compression, parse_compress
from corefilt.io.decompress import DerivedSource
from corefilt.io.seekable import FRAME
from corefilt.io.sought import SoughtSource

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1 << 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with a core of 13 MiB, some of it zeros, and the same as seekable zstd."""
    place = tmp_path_factory.mktemp("seekable")
    loads = [HEAP, Load(0x10000000, noise(2 * MIB // PAGE) + bytes(9 * MIB) + page(b"end", 512)), Load(STACK, noise(2))]
    (place / "full").write_bytes(make_core(loads, kernel_notes(threads=1)))
    # With holes where the zeros are, as what is decompressed has.
    done = corefilt("all", place / "full", "-o", place / "core", "--sparse", "always", "-q")
    assert done.code == 0, done.err
    done = corefilt("all", place / "core", "-o", place / "core.zst", "--compress", "zstd:seekable", "-q")
    assert done.code == 0, done.err
    yield place
    shutil.rmtree(place)


def entries(raw: bytes) -> list[tuple[int, int]]:
    """Read the table as zstd_seekable_compression_format.md says: the sizes of each frame."""
    count, descriptor, magic = struct.unpack("<IBI", raw[-9:])
    assert (descriptor, magic) == (0, 0x8F92EAB1)
    begin = len(raw) - 9 - 8 * count
    assert struct.unpack("<II", raw[begin - 8 : begin]) == (0x184D2A5E, 8 * count + 9)
    found = list(struct.iter_unpack("<II", raw[begin : begin + 8 * count]))
    assert sum(size for size, _ in found) == begin - 8
    return found


def test_the_table_says_what_frames_there_are(folder: Path) -> None:
    raw, core, at, parts = (folder / "core.zst").read_bytes(), (folder / "core").read_bytes(), 0, []
    for stored, held in entries(raw):
        parts.append(zstd.decompress(raw[at : at + stored]))
        assert len(parts[-1]) == held <= FRAME
        at += stored
    assert b"".join(parts) == core
    assert len(parts) == -(-len(core) // FRAME)


def test_plain_zstd_reads_it(folder: Path) -> None:
    if shutil.which("zstd") is None:
        pytest.skip("zstd is not installed")
    done = subprocess.run(["zstd", "-dc", folder / "core.zst"], capture_output=True, check=True)
    assert done.stdout == (folder / "core").read_bytes()


def test_it_is_read_in_one_pass_too(folder: Path, tmp_path: Path) -> None:
    for source in (folder / "core.zst", folder / "core"):
        assert corefilt("0x33", source, "-o", tmp_path / source.name, "--compress", "none", "-q").code == 0
    assert (tmp_path / "core.zst").read_bytes() == (tmp_path / "core").read_bytes()


@pytest.mark.parametrize("options", ["--minimal", "--fit 64K", "--fit 3M", "--fit 12M --follow 1"])
def test_what_is_chosen_is_that_of_the_plain_core(folder: Path, tmp_path: Path, options: str) -> None:
    for source in (folder / "core.zst", folder / "core"):
        done = corefilt("all", source, "-o", tmp_path / source.name, "--compress", "none", "-q", *options.split())
        assert done.code == 0, done.err
    assert (tmp_path / "core.zst").read_bytes() == (tmp_path / "core").read_bytes()


def test_inspect_says_the_same(folder: Path) -> None:
    # Each file has its own time.
    shown = [
        [line for line in corefilt("inspect", folder / name, "--all").out.split(b"\n")[1:] if b"mtime" not in line]
        for name in ("core.zst", "core")
    ]
    assert shown[0] == shown[1]


def test_only_frames_that_are_read_are_decompressed(folder: Path) -> None:
    with open_core(folder / "core.zst", seeks=True) as core:
        source = core.source
        assert isinstance(source, SoughtSource)
        assert (source.size, source.compression) == ((folder / "core").stat().st_size, "zstd")
        assert os.fstat(source.fd).st_blocks * 512 <= FRAME
        with (folder / "core").open("rb") as plain:
            plain.seek(8 * MIB)
            assert source.peek(8 * MIB, 5) == plain.read(5)
            assert source.peek(source.size - 3, 99) == plain.read()[-3:]
        assert source.peek(source.size, 1) == b""
        # Holes are where the plain core would have them if it were written from a pipe.
        pieces = list(source.extents().pieces(0, source.size))
        assert sum(end - start for start, end in pieces) < 5 * MIB
        assert pieces[0][0] == 0


@pytest.mark.parametrize("wanted", ["all", "none", "0x1", "default"])
def test_read_once_and_in_order_it_gives_what_a_stream_gives(wanted: str, folder: Path, tmp_path: Path) -> None:
    out, expected = tmp_path / "out", tmp_path / "expected"
    with (folder / "core").open("rb") as plain:
        assert corefilt(wanted, "-o", expected, source=folder / "core").code == 0
        for args in (("-o", out), ("-o", out, "-f", "--spool")):
            assert corefilt(wanted, folder / "core.zst", *args).code == 0
            assert out.read_bytes() == expected.read_bytes()
        assert corefilt(wanted, folder / "core.zst", "-q").out == corefilt(wanted, "-q", pipe=plain.read()).out


def test_frames_of_which_nothing_is_kept_are_not_decompressed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, given = 0, DerivedSource._made

    def counted(self: DerivedSource) -> list[bytes | memoryview]:
        nonlocal made
        batch = given(self)
        made += sum(map(len, batch))
        return batch

    monkeypatch.setattr(DerivedSource, "_made", counted)
    for wanted, least, most in (("none", 0, 9 * MIB), ("all", 11 * MIB, 14 * MIB)):
        api.filter(folder / "core.zst", tmp_path / wanted, filter=wanted)
        assert least <= made <= most
        made = 0


SKIPPED, LAST = 0x20000000, 0x30000000


def skipped_core(before: int, behind: int) -> tuple[bytes, Phdr]:
    """A core of which a filter of 0x1 leaves out a segment, with pages before and behind it, and that segment."""
    loads = [Load(0x10000000, noise(before)), Load(SKIPPED, noise(99, 3), flags="r--"), Load(LAST, noise(behind, 4))]
    core = make_core(loads, kernel_notes([(SKIPPED, SKIPPED + 99 * PAGE, 0, "/lib/x")], threads=1))
    return core, next(phdr for phdr in parse_core(core)[1] if phdr.p_vaddr == SKIPPED)


def framed(pieces: list[bytes]) -> tuple[list[bytes], bytes]:
    """Compress pieces of a core: the frames, and the table."""
    frames = [zstd.compress(piece, 1) for piece in pieces]
    told = b"".join(struct.pack("<II", len(frames[n]), len(pieces[n])) for n in range(len(frames)))
    table = struct.pack("<II", 0x184D2A5E, len(told) + 9) + told + struct.pack("<IBI", len(frames), 0, 0x8F92EAB1)
    return frames, table


def pages_of(core: bytes) -> list[bytes]:
    return [core[at : at + PAGE] for at in range(0, len(core), PAGE)]


def test_damage_in_frames_of_which_nothing_is_kept_is_not_met_with(tmp_path: Path) -> None:
    """Not even where it was read ahead, behind the last byte of a segment; elsewhere it is, and no byte is another."""
    core, skipped = skipped_core(64, 9)
    (tmp_path / "plain").write_bytes(core)
    api.filter(tmp_path / "plain", tmp_path / "expected", filter=1)
    expected = (tmp_path / "expected").read_bytes()
    frames, table = framed(pages_of(core))
    # Its first page could have been an ELF header, and what is skipped ends where a frame begins.
    first, last = skipped.p_offset // PAGE + 1, (skipped.p_offset + skipped.p_filesz) // PAGE - 1
    for n in range(first - 9, len(frames), 8):
        for damage in (bytes(len(frames[n])), b"\xaa" * len(frames[n])):
            (tmp_path / "core.zst").write_bytes(b"".join([*frames[:n], damage, *frames[n + 1 :]]) + table)
            report = api.filter(tmp_path / "core.zst", tmp_path / "out", filter=1, force=True)
            out = (tmp_path / "out").read_bytes()
            if first <= n < last:
                assert not report.warnings, n
                assert out == expected
            elif out != expected:
                assert report.warnings, n
                # But for the program headers, which tell of less.
                assert expected[PAGE:].startswith(out[PAGE:].rstrip(b"\0")), n


def test_a_frame_that_holds_more_than_told_before_frames_that_are_skipped(tmp_path: Path) -> None:
    core, skipped = skipped_core(64, 9)
    frames, table = framed(pages_of(core))
    n = skipped.p_offset // PAGE
    frames[n - 1], told = zstd.compress(core[(n - 1) * PAGE : n * PAGE] + b"more", 1), bytearray(table)
    struct.pack_into("<I", told, 8 + 8 * (n - 1), len(frames[n - 1]))
    (tmp_path / "core.zst").write_bytes(b"".join(frames) + told)
    with pytest.raises(InputError, match=f"frame {n - 1} of the zstd stream.*does not hold the 4096 bytes"):
        api.filter(tmp_path / "core.zst", tmp_path / "out", filter=1)


def test_of_a_damaged_frame_behind_skipped_ones_stays_what_came_before(tmp_path: Path) -> None:
    """It is longer than what is held of a stream, so it is read again, from where it begins."""
    core, skipped = skipped_core(2 * FRAME // PAGE, FRAME // PAGE)
    (tmp_path / "plain").write_bytes(core)
    api.filter(tmp_path / "plain", tmp_path / "expected", filter=1)
    cuts = [0, skipped.p_offset + PAGE, skipped.p_offset + skipped.p_filesz - PAGE, len(core)]
    pieces = [core[start:end] for start, end in pairwise(cuts)]
    frames, table = framed(pieces)
    frames[2] = frames[2][:-MIB] + b"\xff" * MIB
    (tmp_path / "core.zst").write_bytes(b"".join([*frames, table]))
    report = api.filter(tmp_path / "core.zst", tmp_path / "out", filter=1)
    assert report.warnings
    expected, out = (tmp_path / "expected").read_bytes(), (tmp_path / "out").read_bytes()
    # A block that is stored as it is shows no damage.
    whole = out[PAGE:].rstrip(b"\0").rstrip(b"\xff")
    assert expected[PAGE:].startswith(whole)
    assert len(whole) > len(expected) - MIB - (256 << 10)


def test_a_table_whose_sizes_are_wrong_is_told(folder: Path, tmp_path: Path) -> None:
    raw = bytearray((folder / "core.zst").read_bytes())
    begin = len(raw) - 9 - 8 * len(entries(raw))
    raw[begin + 4 : begin + 8] = struct.pack("<I", FRAME - PAGE)
    core = tmp_path / "core.zst"
    core.write_bytes(raw)
    assert_error(corefilt("all", core, "-o", tmp_path / "out"), "seek table")
    assert not (tmp_path / "out").exists()


def test_without_the_table_it_is_a_stream(folder: Path, tmp_path: Path) -> None:
    raw = (folder / "core.zst").read_bytes()
    table = 8 * len(entries(raw)) + 17
    (tmp_path / "core.zst").write_bytes(raw[:-table])
    with open_core(tmp_path / "core.zst", seeks=True) as core:
        assert not core.source.seekable
    assert_error(corefilt("all", tmp_path / "core.zst", "--minimal", "-o", tmp_path / "out"), "--spool")


@pytest.mark.parametrize(
    ("back", "new"),
    [
        pytest.param(4, b"\0", id="magic"),
        pytest.param(5, b"\x04", id="reserved bit"),
        pytest.param(5, b"\x80", id="checksums that are not there"),
        pytest.param(9, b"\0\0\0\0", id="no frame"),
        pytest.param(9, b"\xff\xff\xff\xff", id="more frames than bytes"),
        pytest.param(9, b"\x01\0\0\0", id="fewer frames"),
        pytest.param(17, b"\xff\xff\xff\xff", id="a compressed size"),
        pytest.param(13, b"\xff\xff\xff\xff", id="a frame of 4 GiB"),
    ],
)
def test_a_table_that_cannot_be_is_not_believed(folder: Path, tmp_path: Path, back: int, new: bytes) -> None:
    raw = bytearray((folder / "core.zst").read_bytes())
    raw[-back : len(raw) - back + len(new)] = new
    (tmp_path / "core.zst").write_bytes(raw)
    with open_core(tmp_path / "core.zst", seeks=True) as core:
        assert not core.source.seekable
        assert core.source.peek(0, 4) == b"\x7fELF"


def frame_of_table(stored: int, held: int, count: int) -> bytes:
    """The head and the first entry of a table."""
    return struct.pack("<IIII", 0x184D2A5E, 8 * count + 9, stored, held)


def test_a_table_that_costs_a_sparse_file_nothing_takes_no_memory(tmp_path: Path) -> None:
    """A file of a few pages on the disk, whose first frame is all that the table speaks of."""
    count, frame = 60_000_000, zstd.compress(b"\x7fELF" + bytes(1000))
    with (tmp_path / "core.zst").open("wb") as file:
        file.write(frame + frame_of_table(len(frame), 1004, count))
        file.seek(8 * (count - 1), os.SEEK_CUR)
        file.write(struct.pack("<IBI", count, 0, 0x8F92EAB1))
    for args in (("inspect", tmp_path / "core.zst"), ("all", tmp_path / "core.zst", "-n")):
        assert_error(corefilt(*args, memory=hostile_memory()), "EI_CLASS")


@pytest.mark.parametrize("text", [False, True], ids=["incompressible", "the letter A"])
def test_a_large_frame_takes_no_memory(text: bool, tmp_path: Path) -> None:
    load = Load(0x10000000, b"A" * (63 << 20) if text else noise((63 << 20) // PAGE))
    core = make_core([load], kernel_notes(threads=1))
    frame = zstd.compress(core, 1)
    table = frame_of_table(len(frame), len(core), 1) + struct.pack("<IBI", 1, 0, 0x8F92EAB1)
    (tmp_path / "core.zst").write_bytes(frame + table)
    done = corefilt("inspect", tmp_path / "core.zst", memory=hostile_memory())
    assert done.code == 0, done.err
    with open_core(tmp_path / "core.zst", seeks=True) as opened:
        assert opened.source.seekable
        assert opened.source.peek(0, len(core)) == core


def test_modules_in_frames_that_nobody_has_read(tmp_path: Path) -> None:
    """Without NT_FILE every mapping may begin with an image; what is not decompressed yet is no hole of the core."""
    loads = [Load(0x10000000, noise(2 * FRAME // PAGE)), Load(BASE, image(b""), flags="r-x")]
    (tmp_path / "core").write_bytes(make_core(loads, kernel_notes(threads=1)[:1]))
    done = corefilt("all", tmp_path / "core", "-o", tmp_path / "core.zst", "--compress", "zstd:seekable", "-q")
    assert done.code == 0, done.err
    found = []
    for name in ("core", "core.zst"):
        with open_core(tmp_path / name, seeks=True) as core:
            found.append(identify(core).modules)
    assert found[0] == found[1] != ()


@pytest.mark.parametrize(
    ("in_table", "words"), [(True, "does not hold the"), (False, "is damaged")], ids=["size", "damage"]
)
def test_a_frame_that_is_not_as_the_table_says(folder: Path, tmp_path: Path, in_table: bool, words: str) -> None:
    raw = bytearray((folder / "core.zst").read_bytes())
    count = len(entries(raw))
    # The last entry's Decompressed_Size, or a byte of the last frame.
    raw[len(raw) - 13 if in_table else len(raw) - 17 - 8 * count - 40] ^= 0x55
    (tmp_path / "core.zst").write_bytes(raw)
    said = f"frame {count - 1} of the zstd stream, at byte [0-9]+, .*{words}"
    with open_core(tmp_path / "core.zst", seeks=True) as core, pytest.raises(InputError, match=said):
        core.source.need(0, core.source.size or 0)


def test_a_table_with_checksums_is_read(folder: Path, tmp_path: Path) -> None:
    raw = (folder / "core.zst").read_bytes()
    found = entries(raw)
    table = b"".join(struct.pack("<III", *sizes, 7) for sizes in found) + struct.pack(
        "<IBI", len(found), 0x80, 0x8F92EAB1
    )
    (tmp_path / "core.zst").write_bytes(
        raw[: -17 - 8 * len(found)] + struct.pack("<II", 0x184D2A5E, len(table)) + table
    )
    with open_core(tmp_path / "core.zst", seeks=True) as core:
        assert core.source.peek(0, 1 << 30) == (folder / "core").read_bytes()


def test_an_empty_stream_has_one_empty_frame() -> None:
    from corefilt.io.compression import encoder

    made = encoder(Compression("zstd", seekable=True)).flush()
    assert [held for _, held in entries(made)] == [0]
    assert zstd.decompress(made) == b""


def test_how_it_is_asked_for(core: Path, tmp_path: Path) -> None:
    wanted = parse_compress("zstd:19:seekable", 2)
    assert isinstance(wanted, Compression)
    assert (wanted.name, wanted.level, wanted.threads, wanted.seekable) == ("zstd", 19, 2, True)
    for text in ("zstd:seekable:19", "xz:seekable", "zstd:99:seekable", "seekable"):
        assert_usage(corefilt("all", core, "-o", tmp_path / "out", "--compress", text), "--compress")


@pytest.mark.parametrize("place", [0, 1])
def test_a_frame_that_holds_something_is_no_empty_frame(tmp_path: Path, place: int) -> None:
    """Nobody asks for a byte of a frame that holds nothing by the table, and what it holds would be missing."""
    frames = [zstd.compress(b"whatever"), zstd.compress(b"\x7fELF" * 100)]
    held = [8, 400]
    held[place] = 0
    table = b"".join(struct.pack("<II", len(frame), size) for frame, size in zip(frames, held, strict=True))
    table += struct.pack("<IBI", len(frames), 0, 0x8F92EAB1)
    (tmp_path / "core.zst").write_bytes(b"".join(frames) + struct.pack("<II", 0x184D2A5E, len(table)) + table)
    with (
        pytest.raises(InputError, match=f"frame {place} of .* does not hold the 0 bytes"),
        open_core(tmp_path / "core.zst", seeks=True),
    ):
        pass


@pytest.mark.parametrize("options", [{"minimal": True}, {"fit": 1 * MIB}, {"spool": True}, {}])
@pytest.mark.parametrize("verify", [False, True])
def test_a_batch_reads_the_frames_that_a_fit_needs(
    options: dict[str, object], verify: bool, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a temporary file beside the output; what is checked, or asked for by --spool, is copied as a whole."""
    filled: list[str] = []
    real = SoughtSource._fill

    def counted(self: SoughtSource, frame: int) -> None:
        filled.append(os.readlink(f"/proc/self/fd/{self.fd}"))
        real(self, frame)

    monkeypatch.setattr(SoughtSource, "_fill", counted)
    made = []
    for name in ("core", "core.zst"):
        out = tmp_path / name
        outcome = run_task(
            Task(str(folder / name), 0x33, output=str(out), options=options, compress="none", verify=verify)
        )
        assert outcome.status == "filtered", outcome.reason
        made.append(out.read_bytes())
    assert made[0] == made[1]
    in_parts = ("minimal" in options or "fit" in options) and not verify
    assert bool(filled) == in_parts
    if "minimal" in options:
        assert len(filled) < len(entries((folder / "core.zst").read_bytes()))
    assert all(path.startswith(f"{tmp_path}/") for path in filled)


def test_a_batch_looks_at_the_stacks_of_a_seekable_core(tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(crash_core())
    done = corefilt("all", tmp_path / "core", "-o", tmp_path / "core.zst", "--compress", "zstd:seekable", "-q")
    assert done.code == 0, done.err
    found = [run_task(Task(str(tmp_path / name), 0x33, survey=True)).crash for name in ("core", "core.zst")]
    assert found[0] is not None and found[1] is not None
    # Each file has its own time.
    assert replace(found[0], time=None) == replace(found[1], time=None)
    assert found[0].frames and found[0].key is not None
