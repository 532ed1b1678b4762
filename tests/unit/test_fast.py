"""The compiled core by itself: what it does, what it refuses, and that no hostile value brings it down."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
from array import array
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.builder import Note, note_bytes
from support.builds import UNTRACED
from support.run import child_setup
from support.samples import noise

from corefilt import _fast

PAGE = 4096
MOVERS = {
    "readwrite": _fast.READWRITE,
    "copy_file_range": _fast.COPY_FILE_RANGE,
    "sendfile": _fast.SENDFILE,
    "splice": _fast.SPLICE,
}
DATA = noise(4)


@contextmanager
def a_file(content: bytes = b"") -> Iterator[int]:
    fd = os.memfd_create("file")
    try:
        os.pwrite(fd, content, 0)
        yield fd
    finally:
        os.close(fd)


@contextmanager
def a_pipe(content: bytes = b"") -> Iterator[tuple[int, int]]:
    """Make a pipe of 1 MiB with something in it, and no end yet."""
    reader, writer = os.pipe()
    try:
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 20)
        os.write(writer, content)
        yield reader, writer
    finally:
        for fd in (reader, writer):
            try:
                os.close(fd)
            except OSError as error:
                assert error.errno == errno.EBADF


def content(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


# --- notes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("big", [False, True])
def test_notes_are_walked(big: bool) -> None:
    notes = [Note("CORE", 1, b"x" * 5), Note("", 2, b""), Note("LINUX", 0x202, b"y" * 8)]
    raw = note_bytes(notes, not big)
    found, done = _fast.walk_notes(raw, big=big)
    assert done == len(raw)
    read = [
        (kind, raw[at : at + size].rstrip(b"\0"), raw[desc : desc + length]) for kind, at, size, desc, length in found
    ]
    assert read == [(1, b"CORE", b"x" * 5), (2, b"", b""), (0x202, b"LINUX", b"y" * 8)]


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_note_that_is_not_whole_is_left_over(cut: int) -> None:
    first, second = (note_bytes([Note("CORE", 1, b"x" * 4)]) for _ in range(2))
    found, done = _fast.walk_notes((first + second)[:-cut], big=False)
    assert (len(found), done) == (1, len(first))


def test_padding_may_be_missing_at_the_end() -> None:
    raw = note_bytes([Note("CORE", 1, b"x")])
    for kept in (len(raw) - 3, len(raw)):
        assert _fast.walk_notes(raw[:kept], big=False)[1] == kept


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("namesz", [0, 5, 0x7FFFFFFF, 0xFFFFFFFC, 0xFFFFFFFD, 0xFFFFFFFF])
@pytest.mark.parametrize("descsz", [0, 5, 0x7FFFFFFF, 0xFFFFFFFC, 0xFFFFFFFD, 0xFFFFFFFF])
def test_sizes_that_lie_end_the_walk(big: bool, namesz: int, descsz: int) -> None:
    raw = struct.pack(">III" if big else "<III", namesz, descsz, 1) + bytes(40)
    found, done = _fast.walk_notes(raw, big=big)
    if max(namesz, descsz) > 5:
        assert (found, done) == ([], 0)
    else:
        assert found[0] == (1, 12, namesz, 12 + (namesz + 3 & ~3), descsz)


@settings(max_examples=200)
@given(raw=st.binary(max_size=120), big=st.booleans())
def test_any_bytes_can_be_walked(raw: bytes, big: bool) -> None:
    found, done = _fast.walk_notes(raw, big=big)
    assert 0 <= done <= len(raw)
    for _, name, namesz, desc, descsz in found:
        assert 12 <= name <= name + namesz <= desc <= desc + descsz <= len(raw)


# --- NT_FILE ----------------------------------------------------------------------------------------------


def decode(desc: bytes, count: int, *, wide: bool = True, big: bool = False) -> tuple[int, list[int], list[int]]:
    ranges, names = array("Q", bytes(24 * count)), array("Q", bytes(8 * (count + 1)))
    return _fast.decode_nt_file(desc, ranges, names, wide=wide, big=big), list(ranges), list(names)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("big", [False, True])
def test_nt_file_is_split(wide: bool, big: bool) -> None:
    words = [2, 4096, 1, 2, 3, 4, 5, 6]
    desc = struct.pack((">" if big else "<") + ("Q" if wide else "I") * 8, *words) + b"/a\0\0"
    at = len(desc) - 4
    assert decode(desc, 2, wide=wide, big=big) == (2, words[2:], [at, at + 3, at + 4])


@pytest.mark.parametrize("names", [b"", b"/a", b"/a\0", b"/a\0/b"])
def test_names_that_are_missing_are_not_counted(names: bytes) -> None:
    desc = struct.pack("<8Q", 2, 4096, 1, 2, 3, 4, 5, 6) + names
    assert decode(desc, 2)[0] == names.count(b"\0")


@pytest.mark.parametrize(
    ("size", "ranges", "names"),
    [
        pytest.param(0, 0, 1, id="no words"),
        pytest.param(15, 0, 1, id="one word"),
        pytest.param(16 + 23, 1, 2, id="no room for a range"),
        pytest.param(16 + 24, 2, 3, id="room for one only"),
        pytest.param(16 + 24, 1, 1, id="names too short"),
        pytest.param(16, 0, 0, id="no names"),
    ],
)
def test_nt_file_with_buffers_that_do_not_fit(size: int, ranges: int, names: int) -> None:
    with pytest.raises(ValueError, match="NT_FILE does not hold that many entries"):
        _fast.decode_nt_file(
            bytes(size), array("Q", bytes(24 * ranges)), array("Q", bytes(8 * names)), wide=True, big=False
        )


@settings(max_examples=200)
@given(desc=st.binary(max_size=150), count=st.integers(0, 6), wide=st.booleans(), big=st.booleans())
def test_any_bytes_are_split_or_refused(desc: bytes, count: int, wide: bool, big: bool) -> None:
    try:
        found, _, names = decode(desc, count, wide=wide, big=big)
    except ValueError:
        return
    assert 0 <= found <= count
    assert names[: found + 1] == sorted(names[: found + 1])
    assert all(desc[end - 1] == 0 for end in names[1 : found + 1])


# --- program headers: buffers -----------------------------------------------------------------------------


def columns(count: int) -> tuple[array, ...]:
    return tuple(array("I" if i < 2 else "Q", bytes((4 if i < 2 else 8) * count)) for i in range(8))


@pytest.mark.parametrize(
    ("data", "fields", "words"),
    [
        pytest.param(bytearray(112), columns(1), "column's length", id="too few rows"),
        pytest.param(bytearray(56), columns(2), "column's length", id="too many rows"),
        pytest.param(bytearray(56), (*columns(1)[:7], array("Q")), "column's length", id="one column empty"),
        pytest.param(bytearray(56), (array("B", bytes(5)), *columns(1)[1:]), "column's length", id="a broken item"),
        pytest.param(bytearray(56), columns(1)[:7], "eight fields", id="seven columns"),
        pytest.param(bytearray(55), columns(0), "multiple", id="no whole entry"),
    ],
)
def test_tables_and_columns_must_fit(data: bytearray, fields: tuple[array, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        _fast.decode_phdrs(data, fields, wide=True, big=False)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        pytest.param((*columns(1)[:7], array("Q")), "column's length", id="one column empty"),
        pytest.param((array("B", bytes(5)), *columns(1)[1:]), "column's length", id="a broken item"),
        pytest.param(columns(1)[:7], "eight fields", id="seven columns"),
        pytest.param((), "eight fields", id="no column"),
    ],
)
def test_columns_must_be_of_one_length(fields: tuple[array, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        _fast.encode_phdrs(fields, wide=True, big=False)


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises((BufferError, TypeError)):
        _fast.write_at(0, 0, 5)
    with pytest.raises((BufferError, TypeError)):
        _fast.decode_phdrs(bytes(56), (bytes(4), *columns(1)[1:]), wide=True, big=False)
    with pytest.raises((BufferError, TypeError)):
        _fast.read_into(0, 0, b"cannot be written")
    with pytest.raises((BufferError, TypeError)):
        _fast.move(_fast.READWRITE, 0, 0, 1, 0, 1, b"scratch")


# --- zeros ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 8, 9, 63, 4096, 65537])
def test_zero_is_only_what_has_no_other_byte(size: int) -> None:
    assert _fast.is_zero(bytes(size))
    for at in {0, size // 2, size - 1} if size else ():
        data = bytearray(size)
        data[at] = 1
        assert not _fast.is_zero(data)


# --- writing ----------------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(
    pages=st.lists(st.booleans(), max_size=6),
    offset=st.integers(0, 3 * 512),
    cut=st.integers(0, 600),
    granule=st.sampled_from([0, 1, 512, 1024]),
)
def test_what_is_written_reads_as_it_was(pages: list[bool], offset: int, cut: int, granule: int) -> None:
    data = b"".join(b"\0" * 512 if zero else b"x" * 512 for zero in pages)[cut:]
    with a_file() as fd:
        zeros = _fast.write_at(fd, offset, data, granule=granule)
        os.ftruncate(fd, offset + len(data))
        assert content(fd) == bytes(offset) + data
    if granule:
        first = -offset % granule
        pieces = [data[at : at + granule] for at in range(first, len(data), granule)]
        assert zeros == sum(granule for piece in pieces if piece == bytes(granule))
    else:
        assert zeros == 0


@settings(max_examples=150)
@given(
    pages=st.lists(st.booleans(), max_size=6),
    offset=st.integers(0, 3 * 512),
    cuts=st.lists(st.integers(0, 6 * 512), max_size=5),
    granule=st.sampled_from([0, 1, 512, 1024]),
)
def test_pieces_are_written_as_what_they_make_together(
    pages: list[bool], offset: int, cuts: list[int], granule: int
) -> None:
    """Wherever they are cut, also where nothing lies between two cuts."""
    data = b"".join(b"\0" * 512 if zero else b"x" * 512 for zero in pages)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [memoryview(data)[start:end] for start, end in pairwise(edges)]
    with a_file() as one, a_file() as other:
        zeros = _fast.write_pieces(one, offset, pieces, granule=granule)
        assert zeros == _fast.write_at(other, offset, data, granule=granule)
        assert content(one) == content(other)


def test_pieces_go_down_a_pipe_and_no_more_than_can_be_held() -> None:
    reader, writer = os.pipe()
    with open(reader, "rb") as end:
        assert _fast.write_pieces(writer, -1, [b"ab", bytes(3), b"", bytearray(b"c")], granule=1) == 0
        with pytest.raises(ValueError, match="buffers"):
            _fast.write_pieces(writer, -1, [b"x"] * (_fast.MOST_BUFFERS + 1))
        with pytest.raises(TypeError):
            _fast.write_pieces(writer, -1, [b"x", 5])  # type: ignore[list-item]
        os.close(writer)
        assert end.read() == b"ab\0\0\0c"
    with pytest.raises(OSError, match="descriptor"):
        _fast.write_pieces(-1, 0, [b"x"])


def test_zeros_that_are_left_out_are_not_written() -> None:
    with a_file() as fd:
        assert _fast.write_at(fd, 0, bytes(4 * PAGE) + b"x" * PAGE, granule=PAGE) == 4 * PAGE
        assert os.lseek(fd, 0, os.SEEK_DATA) == 4 * PAGE


def test_a_stream_takes_zeros_as_well() -> None:
    with a_pipe() as (reader, writer):
        assert _fast.write_at(writer, -1, bytes(2 * PAGE), granule=PAGE) == 0
        assert os.read(reader, 3 * PAGE) == bytes(2 * PAGE)


@pytest.mark.parametrize("offset", [-1, 0])
def test_a_bad_descriptor_is_an_error(offset: int) -> None:
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        _fast.write_at(-1, offset, b"x")
    assert caught.value.errno == errno.EBADF
    with pytest.raises(OSError, match="Bad file descriptor"):
        _fast.read_into(-1, offset, bytearray(1))


def test_nobody_reads() -> None:
    with a_pipe() as (reader, writer):
        os.close(reader)
        with pytest.raises(BrokenPipeError):
            _fast.write_at(writer, -1, b"x")


@pytest.mark.parametrize("offset", [0, 3])
def test_reading_ends_where_the_file_ends(offset: int) -> None:
    with a_file(b"0123456789") as fd:
        buffer = bytearray(b"." * 20)
        assert _fast.read_into(fd, offset, buffer) == 10 - offset
        assert buffer == b"0123456789"[offset:] + b"." * (10 + offset)
        assert _fast.read_into(fd, 99, buffer) == 0
        assert _fast.read_into(fd, 0, bytearray()) == 0


def test_a_pipe_fills_the_buffer_piece_by_piece() -> None:
    with a_pipe(b"abc") as (reader, writer):
        buffer = bytearray(3)
        assert (_fast.read_into(reader, -1, buffer), bytes(buffer)) == (3, b"abc")
        os.write(writer, b"de")
        os.close(writer)
        assert _fast.read_into(reader, -1, buffer) == 2


# --- moving -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 100, PAGE, 3 * PAGE + 5])
@pytest.mark.parametrize("sink", ["file", "pipe"])
@pytest.mark.parametrize("source", ["file", "pipe"])
@pytest.mark.parametrize("mover", MOVERS)
def test_every_mover_between_every_two(mover: str, source: str, sink: str, length: int) -> None:
    """Bytes come from the offset that is named, and go to the one that is named."""
    able = {
        "readwrite": True,
        "copy_file_range": source == sink == "file",
        "sendfile": source == "file",
        "splice": "pipe" in (source, sink),
    }[mover]
    with ExitStack() as stack:
        if source == "file":
            fd_in, at = stack.enter_context(a_file(b"before" + DATA)), 6
        else:
            (fd_in, _), at = stack.enter_context(a_pipe(DATA)), -1
        if sink == "file":
            fd_out, to = stack.enter_context(a_file(b"0123456789")), 10
        else:
            (reader, fd_out), to = stack.enter_context(a_pipe()), -1
        arguments = (MOVERS[mover], fd_in, at, fd_out, to, length, bytearray(1000))
        if not able and length:
            with pytest.raises(OSError) as caught:
                _fast.move(*arguments)
            assert caught.value.errno in (errno.EINVAL, errno.EXDEV, errno.EBADF, errno.EOPNOTSUPP)
            return
        assert _fast.move(*arguments) == (length, 0)
        got = content(fd_out)[10:] if sink == "file" else os.read(reader, length + 1) if length else b""
        assert got == DATA[:length]
        if source == "pipe" and length:
            assert os.read(fd_in, 5) == DATA[length : length + 5]


@pytest.mark.parametrize(
    ("mover", "source"),
    [
        ("readwrite", "file"),
        ("copy_file_range", "file"),
        ("sendfile", "file"),
        ("readwrite", "pipe"),
        ("splice", "pipe"),
    ],
)
def test_at_the_end_less_is_moved_and_then_nothing(mover: str, source: str) -> None:
    with ExitStack() as stack:
        if source == "file":
            fd_in = stack.enter_context(a_file(DATA))
        else:
            fd_in, writer = stack.enter_context(a_pipe(DATA))
            os.close(writer)
        out, scratch, total = stack.enter_context(a_file()), bytearray(PAGE), 0
        while True:
            at = total if source == "file" else -1
            moved, _ = _fast.move(MOVERS[mover], fd_in, at, out, total, 1 << 40, scratch)
            if not moved:
                break
            total += moved
        assert (total, content(out)) == (len(DATA), DATA)


def test_descriptors_own_positions_are_used_and_moved_on() -> None:
    with a_file(DATA) as fd_in, a_file() as fd_out:
        os.lseek(fd_in, 100, os.SEEK_SET)
        os.lseek(fd_out, 7, os.SEEK_SET)
        for mover in (_fast.READWRITE, _fast.COPY_FILE_RANGE):
            assert _fast.move(mover, fd_in, -1, fd_out, -1, 50, bytearray(20)) == (50, 0)
        assert (os.lseek(fd_in, 0, os.SEEK_CUR), os.lseek(fd_out, 0, os.SEEK_CUR)) == (200, 107)
        assert content(fd_out) == bytes(7) + DATA[100:200]


def test_sendfile_moves_the_outputs_position_and_no_other() -> None:
    with a_file(DATA) as fd_in, a_file() as fd_out:
        assert _fast.move(_fast.SENDFILE, fd_in, 5, fd_out, 7, 50, bytearray()) == (50, 0)
        assert (os.lseek(fd_in, 0, os.SEEK_CUR), os.lseek(fd_out, 0, os.SEEK_CUR)) == (0, 57)
        assert content(fd_out) == bytes(7) + DATA[5:55]


def test_named_offsets_leave_positions_alone() -> None:
    with a_file(DATA) as fd_in, a_file() as fd_out:
        for mover in (_fast.READWRITE, _fast.COPY_FILE_RANGE):
            _fast.move(mover, fd_in, 5, fd_out, 5, 50, bytearray(20))
        assert (os.lseek(fd_in, 0, os.SEEK_CUR), os.lseek(fd_out, 0, os.SEEK_CUR)) == (0, 0)


@pytest.mark.parametrize("size", [1, 512, 5000, 1 << 16])
def test_zeros_are_left_out_in_aligned_granules(size: int) -> None:
    data = b"x" * 100 + bytes(3 * PAGE) + b"y" * PAGE + bytes(2 * PAGE)
    with a_file(data) as fd_in, a_file() as fd_out:
        moved, zeros = _fast.move(_fast.READWRITE, fd_in, 0, fd_out, 0, len(data), bytearray(size), granule=PAGE)
        os.ftruncate(fd_out, len(data))
        assert (moved, content(fd_out)) == (len(data), data)
        assert zeros % PAGE == 0
        assert zeros <= 3 * PAGE
        assert (zeros == 3 * PAGE) or size < len(data)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((_fast.READWRITE, 0, -2, 1, 0, 1, bytearray(1)), "below -1"),
        ((_fast.SPLICE, 0, 0, 1, -(1 << 63), 1, bytearray(1)), "below -1"),
        ((_fast.READWRITE, 0, 0, 1, 0, 1, bytearray()), "no room"),
        ((_fast.REFLINK, 0, -1, 1, 0, 1, bytearray()), "only what has offsets"),
        ((_fast.REFLINK, 0, 0, 1, -1, 1, bytearray()), "only what has offsets"),
    ],
)
def test_senseless_arguments_are_refused(arguments: tuple[object, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        _fast.move(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [-1, 1 << 64])
def test_lengths_that_are_no_length_are_refused(length: int) -> None:
    with pytest.raises(OverflowError):
        _fast.move(_fast.READWRITE, 0, 0, 1, 0, length, bytearray(1))
    with pytest.raises(OverflowError):
        _fast.discard(0, length, bytearray(1))


def test_memory_shares_no_extents() -> None:
    with a_file(DATA) as fd_in, a_file() as fd_out:
        assert _fast.move(_fast.REFLINK, fd_in, 0, fd_out, 0, 0, bytearray()) == (0, 0)
        with pytest.raises(OSError) as caught:
            _fast.move(_fast.REFLINK, fd_in, 0, fd_out, 0, PAGE, bytearray())
        assert caught.value.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY)
        assert content(fd_out) == b""


@pytest.mark.parametrize("offset", [0, 1, 777, PAGE])
@pytest.mark.parametrize("length", [1, 1000, 4 * PAGE])
def test_buffers_end_where_the_outputs_buffers_do(offset: int, length: int) -> None:
    with a_file(DATA) as fd_in, a_file() as fd_out:
        assert _fast.move(_fast.READWRITE, fd_in, 0, fd_out, offset, length, bytearray(1024)) == (length, 0)
        assert content(fd_out) == bytes(offset) + DATA[:length]


@pytest.mark.parametrize("offset", [0, 5, (1 << 32) + 3])
def test_flags_of_preadv2_and_pwritev2(offset: int, tmp_path: Path) -> None:
    """The offset reaches the kernel whole; a flag that it does not know is an error."""
    with open(tmp_path / "file", "w+b") as file:
        fd = file.fileno()
        try:
            os.preadv(fd, [bytearray(1)], 0, _fast.DONTCACHE)
        except OSError:
            pytest.skip("neither this kernel nor this file system knows RWF_DONTCACHE")
        assert _fast.write_at(fd, offset, DATA, flags=_fast.DONTCACHE) == 0
        assert _fast.write_pieces(fd, offset, [DATA[:5], DATA[5:]], flags=_fast.DONTCACHE) == 0
        got = bytearray(len(DATA) + 1)
        assert _fast.read_into(fd, offset, got, flags=_fast.DONTCACHE) == len(DATA)
        assert got[:-1] == DATA
        flags = {"flags_in": _fast.DONTCACHE, "flags_out": _fast.DONTCACHE}
        moved = _fast.move(_fast.READWRITE, fd, offset, fd, offset + 10 * PAGE, len(DATA), bytearray(1000), **flags)
        assert moved == (len(DATA), 0)
        assert os.pread(fd, len(DATA), offset + 10 * PAGE) == DATA
        with pytest.raises(OSError) as caught:
            _fast.read_into(fd, offset, got, flags=1 << 30)
        assert caught.value.errno in (errno.EOPNOTSUPP, errno.EINVAL)


@pytest.mark.parametrize("mover", ["readwrite", "copy_file_range", "sendfile"])
def test_offsets_at_the_end_of_all_files(mover: str) -> None:
    offset = (1 << 63) - 1
    with a_file(DATA) as fd_in, a_file() as fd_out:
        try:
            moved, _ = _fast.move(MOVERS[mover], fd_in, offset, fd_out, 0, (1 << 64) - 1, bytearray(PAGE))
        except OSError as error:
            assert error.errno in (errno.EINVAL, errno.EOVERFLOW, errno.EFBIG)
        else:
            assert moved == 0
        assert content(fd_out) == b""
        with pytest.raises(OSError) as caught:
            _fast.move(MOVERS[mover], fd_in, 0, fd_out, offset, 5, bytearray(PAGE))
        assert caught.value.errno in (errno.EINVAL, errno.EOVERFLOW, errno.EFBIG)


@pytest.mark.parametrize("mover", MOVERS)
@pytest.mark.parametrize("which", [0, 1])
def test_closed_descriptors(mover: str, which: int) -> None:
    with a_file(DATA) as fd, a_pipe(DATA) as (_, writer):
        fds = [fd, fd if mover == "copy_file_range" else writer]
        fds[which] = -1
        with pytest.raises(OSError) as caught:
            _fast.move(MOVERS[mover], fds[0], 0, fds[1], -1, 10, bytearray(10))
        assert caught.value.errno == errno.EBADF


def test_a_full_disk_is_an_error_that_says_how_far(tmp_path: Path) -> None:
    """What fitted is told first, the error comes with the next call, or at once."""
    script = """if True:
        import os, sys
        from corefilt import _fast
        data = os.open(sys.argv[1], os.O_RDONLY)
        out = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT)
        done = 0
        try:
            while done < 1 << 20:
                done += _fast.move(int(sys.argv[3]), data, done, out, done, (1 << 20) - done, bytearray(5000))[0]
        except OSError as error:
            print(error.errno)
    """
    (tmp_path / "data").write_bytes(noise(256))
    for mover in (_fast.READWRITE, _fast.COPY_FILE_RANGE):
        done = subprocess.run(
            [sys.executable, "-c", script, tmp_path / "data", tmp_path / f"out{mover}", str(mover)],
            capture_output=True,
            check=True,
            preexec_fn=lambda: (signal.signal(signal.SIGXFSZ, signal.SIG_IGN), limit_files(1 << 16)),
        )
        assert int(done.stdout) == errno.EFBIG


def limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


# --- discarding -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [1, 7, PAGE])
@pytest.mark.parametrize(("length", "gone"), [(0, 0), (10, 10), (PAGE, PAGE), (1 << 50, 4 * PAGE)])
def test_bytes_are_read_and_forgotten(room: int, length: int, gone: int) -> None:
    with a_pipe(DATA) as (reader, writer):
        os.close(writer)
        assert _fast.discard(reader, length, bytearray(room)) == gone
        assert os.read(reader, 5) == DATA[gone : gone + 5]


def test_a_socket_is_forgotten_too() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.sendall(b"abcdef")
        assert _fast.discard(other.fileno(), 4, bytearray(3)) == 4
        assert other.recv(9) == b"ef"


def test_nothing_can_be_discarded_into_no_buffer() -> None:
    with a_pipe(b"x") as (reader, _), pytest.raises(ValueError, match="no room"):
        _fast.discard(reader, 1, bytearray())
    with pytest.raises(OSError, match="Bad file descriptor"):
        _fast.discard(-1, 1, bytearray(1))


# --- holes ------------------------------------------------------------------------------------------------


def test_extents_and_holes() -> None:
    with a_file() as fd:
        os.pwrite(fd, b"x" * PAGE, 4 * PAGE)
        os.pwrite(fd, b"y" * PAGE, 8 * PAGE)
        os.ftruncate(fd, 12 * PAGE)
        first, second = (4 * PAGE, 5 * PAGE), (8 * PAGE, 9 * PAGE)
        extents = {
            0: first,
            4 * PAGE: first,
            4 * PAGE + 9: (4 * PAGE + 9, 5 * PAGE),
            5 * PAGE: second,
            9 * PAGE - 1: (9 * PAGE - 1, 9 * PAGE),
            9 * PAGE: None,
            12 * PAGE: None,
            50 * PAGE: None,
        }
        assert {start: _fast.data_extent(fd, start) for start in extents} == extents


def test_a_hole_is_punched() -> None:
    with a_file(b"x" * (4 * PAGE)) as fd:
        _fast.punch(fd, PAGE, 2 * PAGE)
        assert content(fd) == b"x" * PAGE + bytes(2 * PAGE) + b"x" * PAGE
        assert _fast.data_extent(fd, PAGE) == (3 * PAGE, 4 * PAGE)
        _fast.punch(fd, 3 * PAGE, 100 * PAGE)
        assert os.fstat(fd).st_size == 4 * PAGE


@pytest.mark.parametrize(("offset", "length"), [(-1, PAGE), (0, 0), (0, -1), ((1 << 63) - 1, PAGE)])
def test_what_is_no_range_is_not_punched(offset: int, length: int) -> None:
    with a_file(b"x" * PAGE) as fd:
        with pytest.raises(OSError) as caught:
            _fast.punch(fd, offset, length)
        assert caught.value.errno in (errno.EINVAL, errno.EFBIG)
        assert content(fd) == b"x" * PAGE


def test_pipes_have_no_holes() -> None:
    with a_pipe(b"x") as (reader, writer):
        with pytest.raises(OSError) as caught:
            _fast.data_extent(reader, 0)
        assert caught.value.errno == errno.ESPIPE
        with pytest.raises(OSError) as caught:
            _fast.punch(writer, 0, 1)
        assert caught.value.errno in (errno.ESPIPE, errno.ENODEV, errno.EBADF)


# --- the page cache and the file system -------------------------------------------------------------------


def test_what_the_cache_holds_and_what_not() -> None:
    """A file in memory is all there, but for its holes, and for what lies behind its end."""
    with a_file(DATA) as fd:
        os.ftruncate(fd, 9 * PAGE)
        os.pwrite(fd, b"x", 6 * PAGE)
        size = 4 * PAGE
        assert _fast.absent(fd, 0, size) == []
        assert _fast.absent(fd, 0, 8 * PAGE) == [(size, 6 * PAGE), (7 * PAGE, 8 * PAGE)]
        assert _fast.absent(fd, 6 * PAGE, PAGE + 1) == [(7 * PAGE, 8 * PAGE)]
        assert _fast.absent(fd, 100 * PAGE, 2 * PAGE) == [(100 * PAGE, 102 * PAGE)]


@pytest.mark.parametrize(("offset", "length"), [(1, PAGE), (-PAGE, PAGE), (0, 0), (0, -1)])
def test_what_is_no_range_of_pages(offset: int, length: int) -> None:
    with a_file(DATA) as fd, pytest.raises(ValueError, match="no range of pages"):
        _fast.absent(fd, offset, length)


def test_a_pipe_is_not_in_the_cache() -> None:
    with a_pipe(b"x") as (reader, _), pytest.raises(OSError) as caught:
        _fast.absent(reader, 0, PAGE)
    assert caught.value.errno in (errno.ENODEV, errno.EACCES)


def test_file_systems_are_told_by_their_number() -> None:
    with a_file() as fd:
        assert _fast.file_system(fd) == 0x01021994
    with open("/proc/self/stat", "rb") as file:
        assert _fast.file_system(file.fileno()) == 0x9FA0
    assert _fast.file_system(-1) == 0


def test_writing_back_is_waited_for_and_never_fails(tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as file:
        file.write(DATA)
        file.flush()
        _fast.wait_writeback(file.fileno(), 0, len(DATA))
    _fast.wait_writeback(-1, 0, 1)


# --- offsets ----------------------------------------------------------------------------------------------


@given(
    ranges=st.lists(st.integers(1, 50), max_size=20),
    offsets=st.lists(st.integers(0, 1 << 63), max_size=20),
    last=st.integers(0, 1 << 63),
)
def test_offsets_move_up_by_what_is_cut_before_them(ranges: list[int], offsets: list[int], last: int) -> None:
    edges = list(accumulate(ranges))
    starts, ends = array("Q", edges[0 : len(edges) // 2 * 2 : 2]), array("Q", edges[1::2])
    before = array("Q", accumulate((end - start for start, end in zip(starts, ends, strict=True)), initial=0))
    column, out = array("Q", [*offsets, *edges]), array("Q", bytes(8 * (len(offsets) + len(edges))))
    _fast.shift(column, out, starts, ends, before, last)
    for offset, moved in zip(column, out, strict=True):
        at = min(offset, last)
        assert moved == at - sum(min(end, at) - start for start, end in zip(starts, ends, strict=True) if start < at)


@pytest.mark.parametrize("short", range(5))
def test_columns_that_do_not_fit_are_refused(short: int) -> None:
    columns = [array("Q", [5, 6]), array("Q", [0, 0]), array("Q", [1]), array("Q", [2]), array("Q", [0, 1])]
    columns[short] = array("Q", bytes(8 * (3 if short in (0, 2) else len(columns[short]) - 1)))
    with pytest.raises(ValueError, match="differ in length"):
        _fast.shift(*columns, 100)


# --- signals ----------------------------------------------------------------------------------------------

BLOCKED = {
    "a write": "_fast.write_at(writer, -1, bytes(1 << 20))",
    "a write of pieces": "_fast.write_pieces(writer, -1, [bytes(1 << 19), bytes(1 << 19)])",
    "read and write": "_fast.move(_fast.READWRITE, zero, -1, writer, -1, 1 << 20, bytearray(1 << 16))",
    "splice": "_fast.move(_fast.SPLICE, file, 0, writer, -1, 1 << 20, bytearray(1))",
    "sendfile": "_fast.move(_fast.SENDFILE, file, 0, writer, -1, 1 << 20, bytearray(1))",
    "a read": "_fast.read_into(reader, -1, bytearray(1 << 20))",
    "splice from a pipe": "_fast.move(_fast.SPLICE, reader, -1, file, 0, 1 << 20, bytearray(1))",
    "discard": "_fast.discard(reader, 1 << 20, bytearray(1))",
}
SCRIPT = """
import os, sys
from corefilt import _fast
reader, writer = os.pipe()
zero = os.open("/dev/zero", os.O_RDONLY)
file = os.memfd_create("file")
os.ftruncate(file, 1 << 20)
os.write(1, b"ready")
try:
    {call}
except KeyboardInterrupt:
    os.write(1, b" interrupted")
"""


def asleep(pid: int) -> bool:
    """Whether a process waits in a system call."""
    with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
        return file.read().rpartition(")")[2].split()[0] == "S"


@pytest.mark.parametrize("call", BLOCKED.values(), ids=BLOCKED)
def test_control_c_reaches_what_is_blocked(call: str) -> None:
    """Nothing between the sign of readiness and the call sleeps."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(call=call)],
        stdout=subprocess.PIPE, env={**os.environ, **UNTRACED}, preexec_fn=child_setup(),
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        try:
            assert process.stdout.read(5) == b"ready"
            while not asleep(process.pid) and process.poll() is None:
                os.sched_yield()
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=30)[0] == b" interrupted"
        finally:
            process.kill()
    assert process.returncode == 0
