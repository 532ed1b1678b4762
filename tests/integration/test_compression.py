"""Compressed cores: every format both ways, beside the standard tools; what is damaged, cut, or grows without end."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import lz4.frame
import pytest
from support.archives import BOMB_MEMORY
from support.builder import Load, kernel_notes, make_core, page, parse_core
from support.builds import UNTRACED
from support.run import (
    assert_error,
    assert_promises,
    assert_usage,
    corefilt,
    described_end,
    environment,
    finish,
    listing,
    start,
)
from support.samples import PAGE, noise, sample_core

import corefilt as api
from corefilt.io.compression import SUFFIXES, Compression, encoder, recognise
from corefilt.io.decoding import decoded
from corefilt.sizes import show_size

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FLT = "0x31"
CHECKED = {zstd.CompressionParameter.checksum_flag: 1}
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": lambda data: zstd.compress(data, options=CHECKED),
    "lz4": lambda data: lz4.frame.compress(data, content_checksum=True),
    "xz": lzma.compress,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
}
DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": zstd.decompress,
    "lz4": lz4.frame.decompress,
    "xz": lzma.decompress,
    "gzip": gzip.decompress,
    "bzip2": bz2.decompress,
}
FORMATS = tuple(COMPRESS)


def plain(data: bytes, tmp_path: Path, *args: str) -> bytes:
    """Filter the uncompressed core from a pipe into a file."""
    out = tmp_path / "expected"
    assert corefilt(FLT, "-o", out, "-f", *args, pipe=data).code in (0, 3)
    expected = out.read_bytes()
    out.unlink()
    return expected


def streamed(data: bytes) -> bytes:
    """Filter the uncompressed core from a pipe into a pipe."""
    done = corefilt(FLT, "-q", pipe=data)
    assert done.code == 0
    return done.out


# --- both ways --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_a_compressed_core_is_filtered_as_the_plain_one(form: str, tmp_path: Path) -> None:
    data = sample_core(anon_pages=200)
    core, out = tmp_path / "core", tmp_path / "out"
    core.write_bytes(COMPRESS[form](data))
    expected = plain(data, tmp_path)
    assert corefilt(FLT, core, "-o", out).code == 0
    assert out.read_bytes() == expected
    assert corefilt(FLT, "-o", out, "-f", pipe=core.read_bytes()).code == 0
    assert out.read_bytes() == expected
    assert corefilt(FLT, core, "--spool", "-o", out, "-f").code == 0
    assert out.read_bytes() == expected
    assert listing(tmp_path).keys() == {"core", "out"}
    assert_promises(data, expected)


@pytest.mark.parametrize("form", FORMATS)
def test_the_suffix_of_the_output_chooses_its_format(form: str, tmp_path: Path) -> None:
    data = sample_core(anon_pages=200)
    core, out = tmp_path / "core", tmp_path / f"out{SUFFIXES[form]}"
    core.write_bytes(data)
    assert corefilt(FLT, core, "-o", out).code == 0
    assert recognise(out.read_bytes()) == form
    again = DECOMPRESS[form](out.read_bytes())
    direct = corefilt(FLT, core, "-q")
    assert again == direct.out
    assert_promises(data, again)
    assert corefilt(FLT, core, "-o", out, "-f", "--compress", "none").code == 0
    assert out.read_bytes()[:4] == b"\x7fELF"


@pytest.mark.parametrize("form", FORMATS)
def test_same_keeps_what_it_really_is(form: str, tmp_path: Path) -> None:
    data = sample_core()
    core, out = tmp_path / "core.zst", tmp_path / "out.zst"
    core.write_bytes(COMPRESS[form](data))
    assert corefilt(FLT, core, "--compress", "same", "-o", out).code == 0
    assert DECOMPRESS[form](out.read_bytes()) == streamed(data)
    through = corefilt(FLT, "--compress", "same", "-q", pipe=core.read_bytes())
    assert DECOMPRESS[form](through.out) == streamed(data)
    core.write_bytes(data)
    assert corefilt(FLT, core, "--compress", "same", "-o", out, "-f").code == 0
    assert out.read_bytes()[:4] == b"\x7fELF"


@pytest.mark.parametrize(
    ("form", "tool"), [("zstd", "zstd"), ("lz4", "lz4"), ("xz", "xz"), ("gzip", "gzip"), ("bzip2", "bzip2")]
)
def test_the_standard_tools_read_what_is_written_and_write_what_is_read(form: str, tool: str, tmp_path: Path) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    data = sample_core(anon_pages=300)
    made = subprocess.run([tool, "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout
    out = tmp_path / f"out{SUFFIXES[form]}"
    done = corefilt(FLT, "--compress", form, "-o", out, pipe=made)
    assert done.code == 0, done.err
    again = subprocess.run([tool, "-dc"], input=out.read_bytes(), stdout=subprocess.PIPE, check=True).stdout
    assert again == streamed(data)


@pytest.mark.parametrize("level", ["zstd:1", "zstd:19", "lz4:9", "xz:0", "gzip:9", "bzip2:1"])
def test_levels(level: str, tmp_path: Path) -> None:
    data = sample_core()
    out = tmp_path / "out"
    assert corefilt(FLT, "--compress", level, "-o", out, pipe=data).code == 0
    assert DECOMPRESS[level.partition(":")[0]](out.read_bytes()) == streamed(data)


def fed(writer: int, data: bytes, piece: int) -> None:
    """Write data piece by piece, and close."""
    with open(writer, "wb", buffering=0) as pipe:
        for at in range(0, len(data), piece):
            pipe.write(data[at : at + piece])


@pytest.mark.parametrize("form", FORMATS)
def test_how_the_bytes_come_changes_nothing(form: str, tmp_path: Path) -> None:
    """A batch that is run again makes the same files."""
    data = sample_core(anon_pages=200)
    outs = []
    for piece in (len(data), 7001):
        reader, writer = os.pipe()
        with open(reader, "rb") as pipe:
            process = start(FLT, "--compress", form, "--compress-threads", "1", "-q", stdin=pipe)
        feeder = threading.Thread(target=fed, args=(writer, data, piece))
        feeder.start()
        outs.append(finish(process).out)
        feeder.join()
    assert outs[0] == outs[1]


@pytest.mark.parametrize("engine", ["reflink", "copy_file_range", "sendfile", "splice"])
def test_an_engine_that_sees_no_bytes_is_refused(engine: str, tmp_path: Path) -> None:
    data = sample_core()
    core, out = tmp_path / "core", tmp_path / "out.zst"
    core.write_bytes(data)
    assert_error(corefilt(FLT, core, "-o", out, "--engine", engine), f"--engine {engine}", "compressed")
    done = corefilt(FLT, "-o", tmp_path / "out", "--engine", engine, pipe=zstd.compress(data))
    assert_error(done, f"--engine {engine}", "decompressed")
    assert listing(tmp_path).keys() == {"core"}
    assert corefilt(FLT, core, "-o", out, "--engine", "readwrite").code == 0
    assert zstd.decompress(out.read_bytes()) == streamed(data)


def test_several_threads_write_the_same_core(tmp_path: Path) -> None:
    data = make_core([Load(0x1000000, noise(1500, 1) + bytes(2000 * PAGE))], kernel_notes([]))
    out = tmp_path / "out.zst"
    assert corefilt(FLT, "--compress-threads", "3", "-o", out, pipe=data).code == 0
    assert zstd.decompress(out.read_bytes()) == data


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--compress", "rar"), "rar"),
        (("--compress", "zstd:23"), "22"),
        (("--compress", "gzip:0"), "1 to 9"),
        (("--compress", "xz:fast"), "0 to 9"),
        (("--compress", "zstd", "--compress-threads", "0"), "--compress-threads"),
        (("--compress", "zstd", "-i"), "--compress"),
    ],
)
def test_what_cannot_be_meant(args: tuple[str, ...], words: str, core: Path) -> None:
    assert_usage(corefilt(FLT, core, *(() if "-i" in args else ("-o", core.with_name("out"))), *args), words)
    assert listing(core.parent).keys() == {"core"}


def test_a_compressed_core_is_not_changed_in_place(tmp_path: Path) -> None:
    core = tmp_path / "core.zst"
    core.write_bytes(zstd.compress(sample_core()))
    before = core.read_bytes()
    assert_usage(corefilt(FLT, core, "-i"), "compressed with zstd", "--replace")
    assert core.read_bytes() == before


def test_holes_come_out_of_zeros(tmp_path: Path) -> None:
    data = make_core([Load(0x1000000, noise(1, 1) + bytes(4000 * PAGE) + noise(1, 2))], kernel_notes([]))
    core, out = tmp_path / "core.zst", tmp_path / "out"
    core.write_bytes(zstd.compress(data))
    done = corefilt(FLT, core, "-o", out)
    assert out.read_bytes() == data
    assert out.stat().st_blocks * 512 < 40 * PAGE
    assert any("holes: guessed" in line for line in done.err)


def test_a_sparse_core_is_compressed_with_its_holes(tmp_path: Path) -> None:
    core, out = tmp_path / "core", tmp_path / "out.zst"
    data = make_core([Load(0x1000000, noise(1, 1) + bytes(500 * PAGE) + noise(1, 2))], kernel_notes([]))
    core.write_bytes(data[: 4 * PAGE])
    with core.open("r+b") as file:
        file.truncate(len(data))
        file.seek(len(data) - PAGE)
        file.write(data[-PAGE:])
    assert corefilt(FLT, core, "-o", out).code == 0
    assert zstd.decompress(out.read_bytes()) == core.read_bytes()


def test_inspect_reads_them_too(tmp_path: Path) -> None:
    core = tmp_path / "core.xz"
    core.write_bytes(lzma.compress(sample_core()))
    done = corefilt("inspect", core)
    assert done.code == 0
    assert b"/var/lib/victim/table.db" in done.out


def test_evidence_beside_a_compressed_core_is_found(tmp_path: Path) -> None:
    data = sample_core()
    (tmp_path / "maps").write_text("00400000-00401000 r--p 00000000 08:01 1 /nothing\n")
    core = tmp_path / "core.zst"
    core.write_bytes(zstd.compress(data))
    done = corefilt(FLT, core, "--maps", "auto", "-o", tmp_path / "out")
    assert any("does not match this core" in line for line in done.err)


def test_python_writes_and_reads_them(tmp_path: Path) -> None:
    data = sample_core()
    core, out, planned = tmp_path / "core.gz", tmp_path / "out.zst", tmp_path / "planned.lz4"
    core.write_bytes(gzip.compress(data))
    report = api.filter(core, out, filter=FLT)
    assert zstd.decompress(out.read_bytes()) == streamed(data)
    assert report.allocated_bytes == out.stat().st_blocks * 512
    with api.open(core) as opened:
        opened.plan(FLT).write(planned, compress="lz4")
    assert lz4.frame.decompress(planned.read_bytes()) == streamed(data)


# --- several streams, padding, other tools' habits --------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_streams_that_follow_each_other_are_one(form: str, tmp_path: Path) -> None:
    data = sample_core()
    out = tmp_path / "out"
    parts = b"".join(COMPRESS[form](data[at : at + 30000]) for at in range(0, len(data), 30000))
    assert corefilt(FLT, "-o", out, pipe=parts).code == 0
    assert out.read_bytes() == plain(data, tmp_path)


@pytest.mark.parametrize("form", ["gzip", "xz"])
def test_padding_behind_the_end_means_nothing(form: str, tmp_path: Path) -> None:
    data = sample_core()
    out = tmp_path / "out"
    assert corefilt(FLT, "-o", out, pipe=COMPRESS[form](data) + bytes(5120)).code == 0
    assert out.read_bytes() == plain(data, tmp_path)


def test_a_frame_to_be_skipped_may_come_first(tmp_path: Path) -> None:
    data = sample_core()
    skipped = b"\x50\x2a\x4d\x18\x04\x00\x00\x00pzst"
    out = tmp_path / "out"
    assert corefilt(FLT, "-o", out, pipe=skipped + zstd.compress(data)).code == 0
    assert out.read_bytes() == plain(data, tmp_path)


# --- damage -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_a_stream_that_was_cut_is_a_core_that_was_cut(form: str, tmp_path: Path) -> None:
    data = sample_core(anon_pages=600)
    packed = COMPRESS[form](data)
    core, out = tmp_path / "core", tmp_path / "out"
    core.write_bytes(packed[: len(packed) * 4 // 5])
    done = corefilt("all", core, "-o", out)
    assert done.code == 3, done.err
    assert any("cut off" in line for line in done.err)
    head = out.read_bytes()
    assert 0 < len(head) < len(data)
    assert_promises(data[: len(head)], head)


@pytest.mark.parametrize("form", FORMATS)
def test_a_stream_that_lost_only_its_end_says_so(form: str, tmp_path: Path) -> None:
    data = sample_core(anon_pages=600)
    done = corefilt("all", "-o", tmp_path / "out", pipe=COMPRESS[form](data)[:-1])
    assert done.code == 3
    assert any("cut off" in line for line in done.err)


def with_damage(packed: bytes, at: int, length: int = 40) -> bytes:
    """Change some bytes of a stream."""
    changed = bytes(byte ^ 0x5A for byte in packed[at : at + length])
    return packed[:at] + changed + packed[at + len(changed) :]


def words(count: int) -> bytes:
    """Pages that can be compressed, but not by much."""
    return bytes(random.Random(5).choices(b"corefilt", k=count * PAGE))


def given(form: str, packed: bytes) -> bytes:
    """What a decoder gives that is fed byte by byte, until it finds the damage."""
    decoders: dict[str, Callable[[], Any]] = {
        "zstd": zstd.ZstdDecompressor, "lz4": lz4.frame.LZ4FrameDecompressor, "xz": lzma.LZMADecompressor,
        "gzip": lambda: zlib.decompressobj(wbits=31), "bzip2": bz2.BZ2Decompressor,
    }  # fmt: skip
    decoder, came = decoders[form](), bytearray()
    try:
        for i in range(len(packed)):
            came += decoder.decompress(packed[i : i + 1])
    except (zstd.ZstdError, RuntimeError, lzma.LZMAError, zlib.error, OSError):
        return bytes(came)
    raise AssertionError("it is not damaged")


@cache
def a_damaged_stream(form: str) -> tuple[bytes, bytes, bytes]:
    """A core, its stream with damage in the last third, and what comes before that."""
    data = make_core([Load(0x1000000, words(150)), Load(0x2000000, words(10))], kernel_notes([]))
    # Blocks of bzip2 are 900 kB each at its own level.
    packed = bz2.compress(data, 1) if form == "bzip2" else COMPRESS[form](data)
    packed = with_damage(packed, len(packed) * 2 // 3)
    return data, packed, given(form, packed)


@pytest.mark.parametrize(
    ("form", "way"),
    [
        # Each format one way in a plain run, and one format all ways.
        pytest.param(form, way, marks=() if form == "zstd" or way == "file" else pytest.mark.slow)
        for form in FORMATS
        for way in ("file", "pipe to file", "stream", "compressed")
    ],
)
def test_of_a_damaged_stream_stays_what_came_before(form: str, way: str, tmp_path: Path) -> None:
    """Exit 3, headers that match what is there, and how much is missing; --strict writes nothing."""
    data, packed, came = a_damaged_stream(form)
    # Some formats find it only later.
    assert 1 << 18 < len(came) <= len(data)
    core, out, mended = (tmp_path / name for name in ("core", "out", "mended"))
    core.write_bytes(packed)
    args: dict[str, Any] = {"source": core} if way == "pipe to file" else {}
    where = {"stream": (), "compressed": ("--compress", "zstd", "-o", out)}.get(way, ("-o", out))
    named = ("-",) if way == "pipe to file" else (core,)
    done = corefilt("all", *named, *where, **args)
    assert done.code == 3, done.err
    assert any(f"the {form} stream is damaged" in line for line in done.err)
    missing = described_end(*parse_core(data)) - len(came)
    told = [line for line in done.err if f"{show_size(missing)} of its segments are missing" in line]
    assert len(told) == (missing > 0), done.err
    after = done.out if way == "stream" else out.read_bytes()
    after = zstd.decompress(after) if way == "compressed" else after
    assert len(after) == len(came)
    assert_promises(came, after, header_final=way in ("file", "pipe to file"))
    strict = corefilt("all", *named, *(("-o", mended) if way != "stream" else ()), "--strict", **args)
    assert strict.code == 4, strict.err
    assert any("damaged" in line and "--strict refuses that" in line for line in strict.err)
    assert not mended.exists()
    assert listing(tmp_path).keys() <= {"core", "out"}


@pytest.mark.parametrize("form", FORMATS)
def test_a_checksum_that_does_not_fit_costs_no_byte(form: str, tmp_path: Path) -> None:
    data = sample_core(anon_pages=10)
    packed = with_damage(COMPRESS[form](data), len(COMPRESS[form](data)) - (6 if form == "gzip" else 3), 2)
    core, out = tmp_path / "core", tmp_path / "out"
    core.write_bytes(packed)
    for args in ((core,), ()):
        done = corefilt("all", *args, "-o", out, "-f", **({} if args else {"pipe": packed}))
        assert done.code == 3, done.err
        assert any("damaged" in line for line in done.err)
        assert out.read_bytes() == data
    assert corefilt("all", core, "--strict", "-o", tmp_path / "strict").code == 4


@pytest.mark.parametrize("form", FORMATS)
def test_damage_before_the_core_begins(form: str, tmp_path: Path) -> None:
    packed = COMPRESS[form](sample_core())
    at = 9 if form == "xz" else 4 if form == "bzip2" else 10
    done = corefilt("all", "-o", tmp_path / "out", pipe=with_damage(packed, at, len(packed)))
    assert_error(done, "damaged")
    assert listing(tmp_path) == {}


def test_damage_in_the_headers_is_the_reason(tmp_path: Path) -> None:
    data = sample_core()
    packed = zstd.compress(data[:200]) + with_damage(zstd.compress(data[200:]), 4, 2000)
    assert_error(corefilt("all", "-o", tmp_path / "out", pipe=packed), "program header", "zstd stream is damaged")


def test_a_long_stream_from_a_pipe_loses_no_more_than_a_piece(tmp_path: Path) -> None:
    """Of a file everything before the damage is there, however long it is."""
    data = make_core([Load(0x1000000, words(1500))], kernel_notes([]))
    packed = with_damage(gzip.compress(data, 1), 2 << 20)
    core, out = tmp_path / "core", tmp_path / "out"
    core.write_bytes(packed)
    came = given("gzip", packed)
    assert corefilt("all", core, "-o", out).code == 3
    assert_promises(came, out.read_bytes())
    assert out.stat().st_size == len(came)
    assert corefilt("all", "-o", out, "-f", pipe=packed).code == 3
    assert len(came) - (256 << 10) <= out.stat().st_size <= len(came)
    assert_promises(came[: out.stat().st_size], out.read_bytes())


SKIPPED = b"\x5e\x2a\x4d\x18\x09\x00\x00\x00\x00\x00\x00\x00\x00\xb1\xea\x92\x8f"
"""A frame to be skipped, as a seek table of zstd is one."""


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("behind", [b"trailing\n", b"\0\0\0\0\0\0\0\0trailing\n", b"x", noise(100)])
def test_bytes_behind_a_whole_stream_are_a_warning(form: str, behind: bytes, tmp_path: Path) -> None:
    data = sample_core()
    packed = COMPRESS[form](data) + behind
    core, out = tmp_path / "core", tmp_path / "out"
    core.write_bytes(packed)
    count = len(behind.lstrip(b"\0"))
    for args in ((core,), ()):
        done = corefilt("all", *args, "-o", out, "-f", "--strict", **({} if args else {"pipe": packed}))
        assert done.code == 3, done.err
        assert any(f"{show_size(count)} after the end" in line and form in line for line in done.err), done.err
        assert out.read_bytes() == data
    done = corefilt("all", core)
    assert done.code == 3
    assert done.out == data


@pytest.mark.parametrize("form", ["zstd", "lz4"])
def test_frames_to_be_skipped_mean_nothing_wherever_they_are(form: str, tmp_path: Path) -> None:
    data, out = sample_core(), tmp_path / "out"
    half = len(data) // 2
    first, second = COMPRESS[form](data[:half]), COMPRESS[form](data[half:])
    for packed in (
        SKIPPED + first + SKIPPED + SKIPPED + second + SKIPPED,
        first + second + bytes(16) + SKIPPED,
        first + second + SKIPPED + bytes(16),
    ):
        done = corefilt("all", "-o", out, "-f", pipe=packed)
        assert done.code == 0, done.err
        assert out.read_bytes() == data
    cut = corefilt("all", "-o", out, "-f", pipe=first + second + SKIPPED[:12])
    assert cut.code == 3
    assert any("a skippable frame of the" in line for line in cut.err)
    assert out.read_bytes() == data


@pytest.mark.parametrize("form", FORMATS)
def test_another_format_behind_a_stream_is_no_part_of_it(form: str, tmp_path: Path) -> None:
    data, out = sample_core(), tmp_path / "out"
    other = COMPRESS["gzip" if form != "gzip" else "xz"](data)
    done = corefilt("all", "-o", out, pipe=COMPRESS[form](data) + other)
    assert done.code == 3
    assert any(f"{show_size(len(other))} after the end" in line for line in done.err)
    assert out.read_bytes() == data


def test_a_batch_says_so_too(tmp_path: Path) -> None:
    """All are filtered, and none is put in the place of the full one unless that is asked for."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    data = make_core([Load(0x1000000, words(150))], kernel_notes([]))
    for name, packed in (
        ("behind.gz", gzip.compress(data) + b"trailing\n"),
        ("damaged.gz", with_damage(gzip.compress(data), len(gzip.compress(data)) // 2)),
        ("cut.gz", gzip.compress(data)[:100_000]),
    ):
        (folder / name).write_bytes(packed)
    before = listing(folder)
    done = corefilt("batch", "all", folder, "--to", out, "--compress", "none", "--json")
    lines = {Path(line["source"]).name: line for line in map(json.loads, done.out.splitlines())}
    assert done.code == 0, done.err
    assert {name: line["status"] for name, line in lines.items()} == dict.fromkeys(before, "filtered")
    assert "9 B after the end" in lines["behind.gz"]["reason"]
    assert "damaged" in lines["damaged.gz"]["reason"]
    assert "cut off" in lines["cut.gz"]["reason"]
    assert "of its segments are missing" in lines["cut.gz"]["reason"]
    assert (out / "behind").read_bytes() == data
    done = corefilt("batch", "0x31", folder, "--replace", "--json")
    assert [json.loads(line)["status"] for line in done.out.splitlines()] == ["kept"] * 3
    assert listing(folder) == before


def test_the_same_from_python(tmp_path: Path) -> None:
    core, out = tmp_path / "core.gz", tmp_path / "out"
    core.write_bytes(gzip.compress(sample_core()) + b"trailing\n")
    report = api.filter(core, out, filter="all")
    assert report.damaged
    assert any("9 B after the end" in warning for warning in report.warnings)


@pytest.mark.parametrize("form", FORMATS)
def test_what_holds_no_core(form: str, tmp_path: Path) -> None:
    for content in (b"", b"just a text\n" * 100):
        done = corefilt(FLT, "-o", tmp_path / "out", pipe=COMPRESS[form](content))
        assert_error(done)
    assert_error(corefilt(FLT, "-o", tmp_path / "out", pipe=COMPRESS[form](b"x" * 100)[:9]))
    assert listing(tmp_path) == {}


# --- bounds -----------------------------------------------------------------------------------------------


def bomb(form: str, size: int) -> bytes:
    """Compress a core whose one segment holds `size` bytes of the letter A, piece by piece."""
    head = make_core([Load(0x1000000, page(b"A"), memsz=size)], kernel_notes([]))
    start = len(head) - PAGE
    made = make_core([Load(0x1000000, b"", memsz=size)], kernel_notes([]))
    assert len(made) <= start
    stream = encoder(Compression(form, None))
    out = bytearray(stream.compress(patched(head, size)[:start]))
    piece = b"A" * (1 << 20)
    for _ in range(size >> 20):
        out += stream.compress(piece)
    return bytes(out + stream.flush())


def patched(core: bytes, size: int) -> bytes:
    """Have the only PT_LOAD claim `size` bytes."""
    at = 64
    while int.from_bytes(core[at : at + 4], "little") != 1:
        at += 56
    return core[: at + 32] + size.to_bytes(8, "little") + core[at + 40 :]


@pytest.mark.parametrize("form", ["zstd", "lz4"])
def test_what_grows_a_hundredfold_takes_no_memory(form: str) -> None:
    data = bomb(form, BOMB_MEMORY)
    assert len(data) < BOMB_MEMORY // 100
    process = start(FLT, "-q", memory=BOMB_MEMORY, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    done = finish(process, data)
    assert done.code == 0, done.err


def test_a_block_of_zstd_that_grows_most_takes_no_memory() -> None:
    """4 bytes of input that stand for 128 KiB each: 64 KiB of it would be 2 GiB."""
    frame = b"\x28\xb5\x2f\xfd\x00\x58"
    blocks = b"".join((((128 << 10) << 3) | 1 << 1).to_bytes(3, "little") + b"A" for _ in range(20000))
    process = start(FLT, "-q", memory=BOMB_MEMORY, stdin=subprocess.PIPE)
    done = finish(process, frame + blocks)
    assert_error(done, "not an ELF file")


def test_xz_that_asks_for_more_memory_than_there_should_be(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 400 << 20}]
    data = lzma.compress(b"x" * 100, filters=filters)
    assert_error(corefilt(FLT, "-o", tmp_path / "out", pipe=data), "damaged", "memory")


@pytest.mark.parametrize("form", FORMATS)
def test_pieces_are_bounded(form: str) -> None:
    pieces = iter([COMPRESS[form](bytes(8 << 20))])
    sizes = [len(piece) for piece in decoded(form, lambda: next(pieces, b""))]
    assert sum(sizes) == 8 << 20
    assert max(sizes) <= 256 << 10


# --- whoever stops reading or writing ---------------------------------------------------------------------


def test_nobody_reads_the_compressed_output_any_more() -> None:
    process = start(FLT, "--compress", "zstd", "-q", stdin=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    done = finish(process, make_core([Load(0x1000000, noise(2000, 1))], kernel_notes([])))
    assert done.code == -signal.SIGPIPE
    assert done.err == ()


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    data = make_core([Load(0x1000000, noise(2000, 1))], kernel_notes([]))
    done = corefilt(FLT, "-o", tmp_path / "out.zst", pipe=data, file_size=1 << 20)
    assert_error(done, "out.zst", "large")
    assert listing(tmp_path) == {}


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    process = start(FLT, "-o", tmp_path / "out.zst", stdin=subprocess.PIPE)
    assert process.stdin is not None
    data = zstd.compress(sample_core(anon_pages=3000))
    process.stdin.write(data[: len(data) // 2])
    process.stdin.flush()
    process.send_signal(signal.SIGTERM)
    done = finish(process)
    assert done.code == -signal.SIGTERM
    assert listing(tmp_path) == {}


# --- what is not loaded -----------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["file", "pipe"])
def test_the_plain_path_loads_nothing_of_it(target: str, core: Path) -> None:
    program = (
        "import sys; from corefilt.cli import main; code = main(sys.argv[1:]);"
        "print([m for m in sys.modules if 'zstd' in m or 'lz4' in m or 'lzma' in m or 'zlib' in m or 'threading' in m"
        " or m in ('corefilt.io.compression', 'corefilt.io.decoding', 'corefilt.io.decompress',"
        " 'corefilt.io.compress')], file=sys.stderr);"
        " sys.exit(code)"
    )
    args = ["-o", str(core.with_name("out"))] if target == "file" else []
    with core.open("rb") as stdin:
        run = subprocess.run(
            [sys.executable, "-c", program, FLT, "-q", *args],
            stdin=stdin, capture_output=True, env=environment(UNTRACED), check=False,
        )  # fmt: skip
    assert run.returncode == 0
    assert run.stderr.decode().split() == ["[]"]


def test_a_package_that_is_missing_is_named(tmp_path: Path) -> None:
    program = "import sys; sys.modules['lz4'] = None; from corefilt.cli import main; sys.exit(main(sys.argv[1:]))"
    core = tmp_path / "core"
    core.write_bytes(lz4.frame.compress(sample_core()))
    for args in ([FLT, core, "-o", tmp_path / "out"], [FLT, core.with_name("x"), "-o", tmp_path / "out.lz4"]):
        core.with_name("x").write_bytes(sample_core())
        run = subprocess.run(
            [sys.executable, "-c", program, *map(os.fspath, args)],
            stderr=subprocess.PIPE, env=environment(), check=False, text=True,
        )  # fmt: skip
        assert run.returncode == 1
        assert "lz4 needs the package lz4" in run.stderr
        assert "pip install lz4" in run.stderr
        assert not (tmp_path / "out").exists()
        assert not (tmp_path / "out.lz4").exists()
