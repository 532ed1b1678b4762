"""The targets: each takes any bytes, and fails only where corefilt does.

A target fails by any exception but CorefiltError's children, by a broken promise, or by an answer that differs from
that of a plain model written here.
"""

from __future__ import annotations

import fcntl
import io
import os
import stat
import struct
import tempfile
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from pathlib import Path

from support.builder import PN_XNUM, Load, Note, kernel_notes, library, make_core, page, parse_core, payload_at
from support.fitting import assert_fits
from support.frames import BUILD_ID, core_of
from support.instants import assert_valid
from support.jvm import java_core
from support.opening import OpenCore, in_memory, in_pipe, open_file, opened
from support.run import assert_promises
from support.runtimes import go_core, python_core
from support.samples import PAGE, noise, sample_core

import corefilt
from corefilt import _fast
from corefilt.batching.policy.toml_file import parse_policy
from corefilt.batching.sources import containers as wrappings
from corefilt.bundle.unpack import unpack
from corefilt.cli.inspection import head
from corefilt.cli.inspection.document import pieces
from corefilt.cli.inspection.rows import Rows
from corefilt.corefile import corefilt_note as annotation
from corefilt.corefile import images, loadmaps
from corefilt.corefile.corefile import open_core
from corefilt.corefile.nt_file import FileNote
from corefilt.corefile.owner import Owner
from corefilt.corefile.registers import Thread, read_threads
from corefilt.crash.identity import identify
from corefilt.crash.signature import OVERFLOW_FRAMES, crash_of
from corefilt.errors import CorefiltError
from corefilt.evidence import saved_text as savedmaps
from corefilt.evidence import sidecars
from corefilt.evidence.assumptions import Assumption
from corefilt.filterbits import describe, parse_filter
from corefilt.filtering.naming import Naming, parse_given
from corefilt.filtering.options import Options
from corefilt.filtering.write import write_filtered
from corefilt.io import compression, decoding
from corefilt.io.sought import SoughtSource, read_table
from corefilt.io.sources import FileSource, Source
from corefilt.plan.fit.request import parse_follow, parse_ladder
from corefilt.plan.format import parse_loadmaps
from corefilt.procfs import core_pattern as corepattern
from corefilt.procfs import maps as procmaps
from corefilt.scrub.request import LEVELS, make_request
from corefilt.scrub.write import write_scrubbed
from corefilt.sizes import parse_size
from corefilt.text import printable
from fuzz.shapes import Choices

UNKNOWN = ("keep", "guess", "drop")
A, B, PLACE = 0x10000, 0x40000, 0x40000000
HEAP, STACK = 0x10000000, 0x7FFC00000000
# What one process may decompress or read here; the limit itself is for files of a whole machine.
savedmaps.MOST = 1 << 20
MOST_DECODED = 1 << 20
# A core that was made for the evidence that a target brings.
SAMPLE = sample_core()
PYTHON, JAVA = python_core().core, java_core().core
GO = [go_core(on=on).core for on in ("signals", "g0")]


def filtered(core: bytes, wanted: int, **options: object) -> tuple[bytes, corefilt.Report]:
    """Filter from a file into a file; returns the output and the report."""
    with in_memory(core) as fd, in_memory() as out:
        report = corefilt.filter(fd, out, filter=wanted, sync=False, **options)  # type: ignore[arg-type]
        return os.pread(out, os.fstat(out).st_size, 0), report


def looked_at(core: OpenCore, wanted: int, **options: object) -> None:
    """Ask an open core for everything that is told of it."""
    plan = core.plan(wanted, **options)  # type: ignore[arg-type]
    for mapping in plan.mappings:
        assert mapping.certainty in annotation.CERTAINTIES
        assert mapping.present >= 0
    rows = Rows(plan)
    for _ in pieces(head.as_dict(core, identify(core), plan), rows, rows.chosen()):
        pass
    head.fdpic_lines(core)
    Owner(core.notes, core.ehdr)
    read_threads(core.source, core.ehdr, core.table)


def hold(core: bytes, out: bytes, report: corefilt.Report, *, header_final: bool = True) -> None:
    """Hold an output against its input, unless the count of program headers was mended: the reader has no other."""
    at = 56 if core[4] == 2 else 44
    if report.damaged and int.from_bytes(core[at : at + 2], "little") == PN_XNUM:
        return
    assert_promises(core, out, header_final=header_final, overlapping=True)


# --- whole cores --------------------------------------------------------------------------------------------


def tables(data: bytes) -> None:
    """A core as a file: what a filter leaves is a part of it, and filtered once more it stays as it is."""
    choices = Choices(data)
    wanted, unknown, sparse = choices.filter(), UNKNOWN[choices.number(3)], ("auto", "never", "always")
    core = choices.content
    with opened(core) as it:
        looked_at(it, wanted, unknown=unknown)
    out, report = filtered(core, wanted, unknown=unknown, sparse=sparse[choices.number(3)])
    report.as_dict()
    report.summary(verbose=True)
    assert report.output_bytes == len(out)
    hold(core, out, report)
    if unknown == "keep":
        assert filtered(out, wanted)[0] == out


def options(data: bytes) -> None:
    """A core with what the options make of it: no fault, and never much larger."""
    choices = Choices(data)
    wanted, which, size = choices.filter(), choices.number(8), choices.number(256) << 8
    chosen: list[dict[str, object]] = [
        {"annotate": True}, {"fit": size}, {"minimal": True, "follow": 2}, {"truncate": max(size, 1 << 16)},
        {"format": "elf"}, {"format": "fdpic"}, {"dumper": "fdpic-old"}, {"fit": size, "ladder": "0x33,0x1"},
    ]  # fmt: skip
    core = choices.content
    out, report = filtered(core, wanted, **chosen[which])
    report.as_dict()
    report.summary(verbose=True)
    assert report.output_bytes == len(out)
    if which in (1, 7):
        assert len(out) <= size
    with opened(out) as it:
        looked_at(it, wanted)


def pipes(data: bytes) -> None:
    """A core through a pipe: into a file as from a file, and into a pipe a part of it."""
    choices = Choices(data)
    wanted, core = choices.filter(), choices.content
    with in_pipe(core) as fd, in_memory() as out:
        report = corefilt.filter(fd, out, filter=wanted, sync=False)
        piped = os.pread(out, os.fstat(out).st_size, 0)
    hold(core, piped, report)
    assert piped == filtered(core, wanted)[0]
    reader, writer = os.pipe()
    with in_pipe(core) as fd, open(reader, "rb") as pipe:
        try:
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 20)
            report = corefilt.filter(fd, writer, filter=wanted)
        finally:
            os.close(writer)
        hold(core, pipe.read(), report, header_final=False)


_FOLDER = tempfile.TemporaryDirectory(prefix="corefilt-fuzz-")
_PLACE = Path(_FOLDER.name)


def inplace(data: bytes) -> None:
    """A core that is punched: valid afterwards, and the same bytes stay as in a copy."""
    choices = Choices(data)
    wanted, core = choices.filter(), choices.content
    try:
        least = filtered(core, wanted)[0]
    except CorefiltError:
        least = None
    path = _PLACE / "core"
    path.write_bytes(core)
    try:
        with open_file(path) as it:
            damaged = it.damaged
            write_filtered(it, wanted, "-", Options(in_place=True, force=True, sync=False))
    except CorefiltError:
        assert path.read_bytes() == core
        raise
    finally:
        after = path.read_bytes()
        path.unlink()
    # Section header 0 of PN_XNUM is made anew behind the end, at a multiple of a word, where it is missing.
    assert len(core) <= len(after) <= len(core) + (71 if damaged else 0)
    if not damaged and least is not None:
        assert_valid(core, after, least)


# --- notes --------------------------------------------------------------------------------------------------

LOADS = [Load(A, noise(2, 1)), Load(B, noise(2, 2))]


def notes(data: bytes) -> None:
    """The bytes of a note segment, in a core that is sound besides."""
    choices = Choices(data)
    shape = choices.shape()
    core = make_core(LOADS, choices.content, **shape._asdict())
    with opened(core) as it:
        looked_at(it, 0x33)
    assert_promises(core, filtered(core, 0x33)[0])
    filtered(core, 0x33, minimal=True)


def nt_file(data: bytes) -> None:
    """A descriptor of NT_FILE, alone against a model and in a core."""
    choices = Choices(data)
    shape, desc = choices.shape(), choices.content
    try:
        found = FileNote(desc, shape.ehdr)
    except ValueError:
        found = None
    in_bytes = found is not None and found.in_bytes
    expected = _entries(desc, shape.bits // 8, "<" if shape.little_endian else ">", in_bytes=in_bytes)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert expected == [(found.start(i), found.end(i), found.offset(i), found.path(i)) for i in range(found.count)]
    core = make_core(LOADS, [*kernel_notes(None, **shape._asdict()), Note("CORE", 0x46494C45, desc)], **shape._asdict())
    with opened(core) as it:
        looked_at(it, 0x33)


def _entries(desc: bytes, word: int, order: str, *, in_bytes: bool = False) -> list[tuple[int, int, int, bytes]] | None:
    """NT_FILE as fill_files_note writes it, or createdump; None where it does not hold what it counts."""
    letter = "Q" if word == 8 else "I"
    if len(desc) < 2 * word:
        return None
    count, unit = struct.unpack_from(order + 2 * letter, desc)
    if count > (len(desc) - 2 * word) // (3 * word + 1):
        return None
    numbers = struct.unpack_from(f"{order}{3 * count}{letter}", desc, 2 * word)
    names = desc[(2 + 3 * count) * word :].split(b"\0")[:-1]
    if len(names) < count:
        return None
    if in_bytes:
        # Then all of them would be multiples of a page's square, and one of them more than none.
        assert unit > 1
        assert any(numbers[2::3])
        assert not any(number % unit for number in numbers[2::3])
        unit = 1
    return [
        (*numbers[3 * i : 3 * i + 2], numbers[3 * i + 2] * unit, name[: 1 << 16])
        for i, name in enumerate(names[:count])
    ]


def prstatus(data: bytes) -> None:
    """A descriptor of NT_PRSTATUS: registers, loadmaps, and what a backtrace needs by them."""
    choices = Choices(data)
    shape, desc = choices.shape(), choices.content
    try:
        Thread(desc, shape.ehdr)
    except ValueError:
        pass
    own = kernel_notes([], **shape._asdict())
    core = make_core(LOADS, [Note("CORE", 1, desc), *own[1:]], **shape._asdict())
    out = filtered(core, 0x1FF, minimal=True, follow=2)[0]
    with opened(out) as it:
        looked_at(it, 0x33)
    if choices.number(2):
        filtered(core, 0x1FF, format="elf")


def record(data: bytes) -> None:
    """A descriptor of a COREFILT note, of mappings or of FDPIC, and a core that brings it."""
    choices = Choices(data)
    shape, desc = choices.shape(), choices.content
    for decode in (annotation.decode, annotation.decode_origin, annotation.decode_fits):
        try:
            decode(desc, shape.ehdr)
        except ValueError:
            pass
    kind = choices.number(3)
    own = kernel_notes([(B, B + 2 * PAGE, 0, "/data/table")], **shape._asdict())
    which = (annotation.NT_COREFILT_KINDS, annotation.NT_COREFILT_ORIGIN, annotation.NT_COREFILT_FITS)[kind]
    core = make_core(LOADS, [Note("COREFILT", which, desc), *own], **shape._asdict())
    with opened(core) as it:
        looked_at(it, 0x33)
    assert_promises(core, filtered(core, choices.number(256))[0])


# --- what lies in payloads ----------------------------------------------------------------------------------


def image(data: bytes) -> None:
    """The first pages of a mapped file that may be an ELF image."""
    choices = Choices(data)
    shape, wanted, content = choices.shape(), choices.number(256), choices.content
    where = images.needs(content[:PAGE])
    if where is not None:
        at, length = where
        found = images.headers(content[:PAGE], content[at : at + length].ljust(length, b"\0"), PAGE)
        placed = images.place(found, PLACE, PLACE + PAGE, {PLACE + 0x1000: (0x1000, 5), PLACE + 0x3000: (None, 6)})
        found.unwritten(0, PAGE)
        if placed is not None:
            placed.holds(PLACE, PLACE + PAGE, 0)
            placed.wrote(PLACE, PLACE + PAGE)
    loads, files = library(PLACE, "/opt/lib.so", **shape._asdict())
    pages = max(1, -(-len(content) // PAGE))
    head = Load(PLACE - pages * PAGE, page(content, pages), flags="r-x")
    core = make_core(
        [head, *loads],
        kernel_notes(
            [(head.vaddr, PLACE, 0, "/opt/lib.so"), *(entry._replace(offset=entry.offset + 1) for entry in files)],
            {33: head.vaddr},
            **shape._asdict(),
        ),
        **shape._asdict(),
    )
    with opened(core) as it:
        looked_at(it, wanted)
    assert_promises(core, filtered(core, wanted)[0])
    filtered(core, wanted, minimal=True)


def loadmap(data: bytes) -> None:
    """A stack in which loadmaps are looked for."""
    choices = Choices(data)
    ehdr, content = choices.shape().ehdr, choices.content
    try:
        found = loadmaps.read_piece(content, A, ehdr)
        assert A + found.size <= A + len(content)
    except ValueError:
        pass
    places = loadmaps.find(content, A, ehdr, [A, B], lambda address: A <= address < B)
    assert all(not place or A <= place < A + len(content) for place in places)


# --- what lies beside cores ---------------------------------------------------------------------------------


def maps(data: bytes) -> None:
    """A saved maps or smaps, by itself and as evidence of a core."""
    choices = Choices(data)
    try:
        areas = procmaps.parse(choices.content, "maps")
        assert all(start < end for start, end in zip(areas.start, areas.end, strict=True))
    finally:
        wanted = choices.filter()
        with in_memory(choices.content) as fd, opened(SAMPLE) as it:
            looked_at(it, wanted, maps=f"/proc/self/fd/{fd}")


def sidecar(data: bytes) -> None:
    """A report or a journal that holds a saved map."""
    with in_memory(data) as fd:
        found = sidecars.read_sidecar(f"/proc/self/fd/{fd}", "/var/lib/systemd/coredump/core.victim")
        assert len(found.text) <= savedmaps.MOST


def wrapping(data: bytes) -> None:
    """A file with cores in it: compressed, in an archive, in a report."""
    with in_memory(data) as fd, opened_folder() as folder:
        found = list(wrappings.contents(FileSource(fd, "wrapped", size=len(data), owned=False), "core", folder))
        for content in found:
            if content.reason:
                continue
            source: Source = FileSource(os.dup(fd), "wrapped", size=len(data))
            try:
                source = wrappings.opened(source, content.wrapping, content.member, max_headers=1 << 20)
                looked_at(OpenCore(source), 0x33)
            except CorefiltError as error:
                assert str(error)
            finally:
                source.close()


def compressed(data: bytes) -> None:
    """A compressed core, whole or not: however it comes, the same is decoded before what is wrong, and filtered."""
    choices = Choices(data)
    wanted, stream, step = choices.filter(), choices.content, 1 + choices.number(256)
    name = compression.recognise(stream)
    if name is None:
        return
    core, fault = _decoded(name, stream, len(stream))
    assert (core, fault) == _decoded(name, stream, step)
    if len(core) > MOST_DECODED:
        return
    out, report = filtered(stream, wanted)
    assert report.damaged or not fault
    hold(core, out, report)
    with in_pipe(stream) as fd, in_memory() as target:
        corefilt.filter(fd, target, filter=wanted, sync=False)
        assert os.pread(target, os.fstat(target).st_size, 0) == out


def seektable(data: bytes) -> None:
    """A seekable zstd file: what its table leads to is what a decoder gives that passes over the table."""
    with in_memory() as fd:
        os.pwrite(fd, data, 0)
        source = FileSource(fd, "fuzz", size=len(data), owned=False)
        table = read_table(source)
        if table is None or table.held[-1] > MOST_DECODED:
            return
        sought = SoughtSource(source, table)
        try:
            found = sought.peek(0, sought.size)
        finally:
            sought.close()
        core, fault = _decoded("zstd", data, len(data))
        # zstd's decoder finds some damage of a frame only where it has room for more than the frame holds.
        assert fault or core == found


def _decoded(name: str, stream: bytes, step: int) -> tuple[bytes, bool]:
    """What comes of a stream that is read in steps, up to about MOST_DECODED bytes, and whether anything is missing."""
    read = partial(next, iter([stream[i : i + step] for i in range(0, len(stream), step)]), b"")
    out = bytearray()
    try:
        for piece in decoding.decoded(name, read):
            out += piece
            if len(out) > MOST_DECODED:
                return bytes(out[: MOST_DECODED + 1]), False
    except decoding.StreamFault as fault:
        return bytes(out), not fault.whole
    return bytes(out), False


@contextmanager
def opened_folder() -> Iterator[int]:
    """Open the folder of this process's own files."""
    folder = os.open(_PLACE, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield folder
    finally:
        os.close(folder)


def policy(data: bytes) -> None:
    """A file of rules for archives of cores."""
    parse_policy(data, "policy")


def bundle(data: bytes) -> None:
    """A tar that is said to be a bundle: what comes of it are files, directories, and links that stay within."""
    with tempfile.TemporaryDirectory() as place:
        folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            unpack(io.BytesIO(data), "bundle", folder, len(data))
        finally:
            os.close(folder)
            top = os.path.realpath(place)
            for above, folders, files in os.walk(top):
                for name in (*folders, *files):
                    path = os.path.join(above, name)
                    kind = stat.S_IFMT(os.lstat(path).st_mode)
                    assert kind in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK), path
                    assert os.path.realpath(path).startswith(f"{top}/"), path


# --- runtimes -----------------------------------------------------------------------------------------------


def _walked(core: bytes, data: bytes) -> None:
    """A core of a runtime with words that differ: whatever is walked, what is kept is a part of it.

    Every 12 bytes are a place in its memory and the word that comes there.
    """
    patched = bytearray(core)
    begin, end = (phdrs := parse_core(core)[1])[1].p_offset, phdrs[-1].p_offset
    for at in range(0, len(data) - 11, 12):
        place, value = struct.unpack_from("<IQ", data, at)
        struct.pack_into("<Q", patched, begin + place * 8 % (end - begin), value)
    out, report = filtered(bytes(patched), 0x1FF, minimal=True)
    report.summary(verbose=True)
    assert_fits(bytes(patched), out)


def goroutines(data: bytes) -> None:
    """A process of Go whose thread is on a stack of C's, and one whose is on Go's."""
    for core in GO:
        _walked(core, data)


def frames(data: bytes) -> None:
    """A process of CPython."""
    _walked(PYTHON, data)


def machine(data: bytes) -> None:
    """A process of HotSpot."""
    _walked(JAVA, data)


# --- secrets ------------------------------------------------------------------------------------------------


def secrets(data: bytes) -> None:
    """Memory of any bytes: what is listed is filled with X or zeros, and all else stays."""
    level = LEVELS[data[0] % len(LEVELS)] if data else LEVELS[0]
    heap, stack = data[1:].ljust(-(-len(data) // PAGE) * PAGE, b"\0"), data[-PAGE:].ljust(PAGE, b"\0")
    raw = make_core([Load(HEAP, heap), Load(STACK, stack)], kernel_notes(stack_pointers=[STACK + 64]))
    with in_memory(raw) as fd, in_memory(b"") as out, open_core(fd) as core:
        done = write_scrubbed(core, make_request(level), 0x1FF, out, Options())
        written = Path(f"/proc/self/fd/{out}").read_bytes()
    ranges = [(int(match.address), match.length) for _, match in done.ranges if match.address is not None]
    for begin, before in ((HEAP, heap), (STACK, stack)):
        after = payload_at(written, begin, len(before)) if before else b""
        made = bytearray(after)
        for address, length in ranges:
            if begin <= address < begin + len(before):
                at = address - begin
                assert not after[at : at + length].strip(b"X\0")
                made[at : at + length] = before[at : at + length]
        assert made == before


# --- words --------------------------------------------------------------------------------------------------


def pattern(data: bytes) -> None:
    """A template of core_pattern: no value adds a folder or an argument, whatever it is."""
    template, _, rest = data.partition(b"\0")
    value = rest or b"../x /y"

    def value_of(letter: str) -> bytes:
        return value if letter in corepattern.ESCAPED else b"%d" % len(rest)

    made = corepattern.expand(template, value_of)
    assert made.count(b"/") == _literal(template).count(b"/")
    line = corepattern.as_kept(template)
    words = corepattern.arguments(line, value_of)
    assert len(words) == len(corepattern.arguments(line, lambda letter: b""))
    corepattern.check_template(template)
    with opened(SAMPLE) as it:
        Naming(os.fsdecode(template), given={"h": os.fsdecode(value).replace("\0", "")}).path(it)


def unwinding(data: bytes) -> None:
    """Call frame information and a stack: what comes of them is short, and the same each time."""
    cut = int.from_bytes(data[:2], "little")
    raw = core_of(data[2 : 2 + cut], [], raw_stack=data[2 + cut :])
    with in_memory(raw) as fd, open_file(fd) as core:
        who = identify(core, with_environment=True)
        first, second = crash_of(core, who), crash_of(core, who)
    assert first == second
    assert len(first.frames) <= OVERFLOW_FRAMES
    assert first.quality != "unwound" or all(frame.text.startswith(BUILD_ID.hex()) for frame in first.frames)
    assert who.lines() and first.lines()


def _literal(template: bytes) -> bytes:
    """What of a template is not a specifier."""
    out, at = b"", 0
    while at < len(template):
        if template[at : at + 1] == b"%":
            out += b"%" if template[at + 1 : at + 2] == b"%" else b""
            at += 2
        else:
            out += template[at : at + 1]
            at += 1
    return out


def words(data: bytes) -> None:
    """What people write: filters, sizes, selectors, and the rest that the command line takes apart."""
    text = os.fsdecode(data)
    readers: list[Callable[[str], object]] = [
        parse_size, parse_follow, parse_ladder, parse_loadmaps, lambda word: parse_given([word]), printable, _selector,
        _filter,
    ]  # fmt: skip
    for read in readers:
        try:
            read(text)
        except CorefiltError as error:
            assert str(error)


def _filter(text: str) -> None:
    value, _ = parse_filter(text)
    assert 0 <= value <= 0x1FF
    assert describe(value)


def _selector(text: str) -> None:
    for word in (text, text + "=private-anonymous"):
        Assumption(word).fits(A, B, b"/var/lib/victim/table.db")


# --- the compiled module ------------------------------------------------------------------------------------


def native(data: bytes) -> None:
    """The functions of _fast that take bytes and columns, each against a model of a few lines."""
    choices = Choices(data)
    content, wide, big = choices.content, bool(choices.number(2)), bool(choices.number(2))
    _notes_by_model(content, big)
    _phdrs_and_back(content, wide, big)
    _cut_by_model(content)
    assert _fast.is_zero(content) == (not any(content))
    granule = 1 << choices.number(8)
    with in_memory() as fd:
        left_out = _fast.write_at(fd, 16, content, granule=granule)
        os.ftruncate(fd, 16 + len(content))
        assert left_out <= len(content)
        room = bytearray(len(content) + 1)
        assert _fast.read_into(fd, 16, room) == len(content)
        assert room[:-1] == content
        with in_memory() as other:
            scratch = bytearray(64)
            moved, _ = _fast.move(_fast.READWRITE, fd, 16, other, 3, 1 << 40, scratch, granule=granule)
            os.ftruncate(other, 3 + len(content))
            assert moved == len(content)
            assert os.pread(other, len(content) + 1, 3) == content


def _notes_by_model(content: bytes, big: bool) -> None:
    expected, at = [], 0
    while at + 12 <= len(content):
        namesz, descsz, kind = struct.unpack_from(">III" if big else "<III", content, at)
        desc = at + 12 + (namesz + 3 & ~3)
        if desc + descsz > len(content):
            break
        expected.append((kind, at + 12, namesz, desc, descsz))
        at = min(len(content), desc + (descsz + 3 & ~3))
    assert _fast.walk_notes(content, big=big) == (expected, at)


def _phdrs_and_back(content: bytes, wide: bool, big: bool) -> None:
    entry = 56 if wide else 32
    table = content[: len(content) // entry * entry]
    count = len(table) // entry
    columns = [array("I" if i < 2 else "Q", bytes((4 if i < 2 else 8) * count)) for i in range(8)]
    _fast.decode_phdrs(table, columns, wide=wide, big=big)
    fields = struct.Struct((">" if big else "<") + ("IIQQQQQQ" if wide else "IIIIIIII"))
    order = (0, 1, 2, 3, 4, 5, 6, 7) if wide else (0, 6, 1, 2, 3, 4, 5, 7)
    for i, row in enumerate(fields.iter_unpack(table)):
        assert [column[i] for column in columns] == [row[at] for at in order]
    assert _fast.encode_phdrs(columns, wide=wide, big=big) == table


def _cut_by_model(content: bytes) -> None:
    """Offsets and ascending ranges of small numbers; an offset moves up by every byte that is cut before it."""
    offsets = array("Q", content[:16].ljust(16, b"\0"))
    points = list(accumulate(content[16:32]))
    ranges = list(zip(points[::2], points[1::2], strict=False))
    starts, ends = array("Q", (low for low, _ in ranges)), array("Q", (high for _, high in ranges))
    before = array("Q", accumulate((high - low for low, high in ranges), initial=0))
    out = array("Q", bytes(8 * len(offsets)))
    _fast.shift(offsets, out, starts, ends, before, 200)
    cut = {byte for low, high in ranges for byte in range(low, high)}
    for offset, to in zip(offsets, out, strict=True):
        at = min(offset, 200)
        assert to == at - sum(byte < at for byte in cut)


TARGETS: dict[str, Callable[[bytes], None]] = {
    each.__name__: each
    for each in (
        tables, options, pipes, inplace, notes, nt_file, prstatus, record, image, loadmap, maps, sidecar, pattern,
        words, native, wrapping, compressed, seektable, policy, bundle, goroutines, frames, machine, unwinding, secrets,
    )
}  # fmt: skip
MOST_BYTES = {
    "bundle": 1 << 15, "tables": 1 << 16, "options": 1 << 16, "pipes": 1 << 16, "inplace": 1 << 16, "pattern": 200,
    "words": 100,
}  # fmt: skip
"""The length of an input at most; 4,096 for the others."""


def run(name: str, data: bytes) -> bool:
    """Give an input to a target; returns whether it was taken for good. Raises what is a fault."""
    try:
        TARGETS[name](data)
    except CorefiltError as error:
        assert str(error)
        return False
    return True
