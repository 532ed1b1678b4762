"""``/proc/PID/maps`` and ``smaps``: every field, every odd name, what older kernels leave out, and what is cut."""

from __future__ import annotations

import mmap
import os
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.builds import of_a_plain_build
from support.maps import Area, maps_text, smaps_text

from corefilt.errors import EvidenceError
from corefilt.procfs.maps import Areas, Nature, parse

PAGE = 4096
A, B = 0x55D0C0A00000, 0x7F0000000000
HEAP = Area(A, A + 2 * PAGE, path="[heap]")
FILE = Area(B, B + PAGE, "r--p", "/usr/lib/libx.so", PAGE, (8, 0x11), 4711)


def only(text: bytes) -> tuple[Nature, bytes | None]:
    """Return what is read of a map of one mapping: its nature and its path."""
    areas = parse(text, "map")
    assert len(areas) == 1
    return areas.nature[0], areas.path[0]


def refused(text: bytes) -> EvidenceError:
    with pytest.raises(EvidenceError) as caught:
        parse(text, "the map")
    assert str(caught.value).startswith("the map: ")
    assert str(caught.value).isprintable()
    return caught.value


def fields(areas: Areas) -> list[tuple[object, ...]]:
    return [
        (
            areas.start[i], areas.end[i], areas.nature[i].perms, areas.nature[i].shared, areas.offset[i],
            areas.device[i], areas.inode[i], areas.path[i],
        )
        for i in range(len(areas))
    ]  # fmt: skip


# --- lines ------------------------------------------------------------------------------------------------


def resident(text: bytes) -> list[int]:
    return list(parse(text, "map", sizes=True).resident)


def test_what_is_in_memory_and_in_swap() -> None:
    """Rss and Swap, pages of hugetlbfs besides; a maps file does not tell."""
    areas = [HEAP, replace(FILE, swap=8), replace(FILE, start=B + PAGE, end=B + 3 * PAGE, swap=None)]
    assert resident(maps_text(areas)) == [-1, -1, -1]
    assert resident(smaps_text(areas)) == [2 * PAGE, PAGE + (8 << 10), 2 * PAGE]
    assert not parse(smaps_text(areas), "map").resident
    huge = smaps_text([HEAP]).replace(b"Shared_Hugetlb:        0", b"Shared_Hugetlb:     4096")
    assert resident(huge) == [2 * PAGE + (4 << 20)]
    lies = smaps_text([HEAP]).replace(b"Rss:                   8 kB", b"Rss: 9999999999999999999 kB")
    assert resident(lies) == [(1 << 63) - 1]


def test_every_field_of_a_line() -> None:
    text = maps_text([HEAP, replace(FILE, perms="r-xs", offset=0xFFFFFFFFFF000, inode=(1 << 64) - 1)])
    assert fields(parse(text, "map")) == [
        (A, A + 2 * PAGE, b"rw-", False, 0, (0, 0), 0, b"[heap]"),
        (B, B + PAGE, b"r-x", True, 0xFFFFFFFFFF000, (8, 0x11), (1 << 64) - 1, b"/usr/lib/libx.so"),
    ]
    assert {each.flags for each in parse(text, "map").nature} == {None}


@pytest.mark.parametrize(
    ("line", "start", "end"),
    [
        pytest.param(b"00400000-00401000 r-xp 00000000 fe:01 7 /a", 0x400000, 0x401000, id="padded to 8 digits"),
        pytest.param(b"400000-401000 r-xp 0 fe:1 7 /a", 0x400000, 0x401000, id="not padded"),
        pytest.param(b"0000000000400000-0000000000401000 r-xp 00000000 fe:01 7 /a", 0x400000, 0x401000, id="16 digits"),
        pytest.param(
            b"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]",
            0xFFFFFFFFFF600000,
            0xFFFFFFFFFF601000,
            id="the gate",
        ),
        pytest.param(b"00000000-ffffffffffffffff r-xp 00000000 fe:01 7 /a", 0, (1 << 64) - 1, id="all there is"),
    ],
)
def test_addresses_are_read_as_numbers(line: bytes, start: int, end: int) -> None:
    for text in (line, line + b"\n"):
        areas = parse(text, "map")
        assert (areas.start[0], areas.end[0]) == (start, end)


@pytest.mark.parametrize("perms", ["---p", "r--p", "rw-p", "r-xp", "--xp", "rwxs", "-w-s"])
def test_protection_and_sharing(perms: str) -> None:
    nature, _ = only(maps_text([replace(HEAP, perms=perms)]))
    assert (nature.perms, nature.shared) == (perms[:3].encode(), perms[3] == "s")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/tmp/with spaces  in it", None),
        (b"/tmp/at its end  ", None),
        (b"/tmp/table (deleted)", None),
        (b"/tmp/two\nlines", b"/tmp/two\\012lines"),
        (b"/tmp/no\xff\xfeUTF-8", None),
        (b"/tmp/\x1b[31m\r\x0b\x0c\x85\xe2\x80\xa8", None),
        (b"/tmp/\xc3\xbc", None),
        (b"/7f0000000000-7f0000001000 r--p 00000000 00:00 0", None),
        (b"/tmp/VmFlags: sh", None),
        (b"/memfd:VmFlags: sh (deleted)", None),
        (b"/memfd:\n7f0000000000-7f0000001000 r--p 0 00:00 0", b"/memfd:\\0127f0000000000-7f0000001000 r--p 0 00:00 0"),
        (b"anon_inode:[io_uring]", None),
        (b"socket:[42]", None),
        (b"//toplevel", None),
        (b"/" + b"long/" * 2000, None),
    ],
)
@pytest.mark.parametrize("detailed", [False, True])
def test_names_are_bytes_as_the_kernel_wrote_them(path: bytes, expected: bytes | None, detailed: bool) -> None:
    row = replace(FILE, path=path)
    nature, found = only((smaps_text if detailed else maps_text)([row]))
    assert (nature.what, nature.name, found) == ("file", b"", path if expected is None else expected)


def test_equal_names_and_natures_are_one_object() -> None:
    """A process can have a million mappings."""
    areas = parse(smaps_text([replace(FILE, start=B + i * PAGE, end=B + (i + 1) * PAGE) for i in range(5)]), "map")
    for column in (areas.path, areas.nature, areas.device):
        assert len({id(value) for value in column}) == 1


# --- what a name says -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["[heap]", "[stack]", "[stack:4242]", "[anon:glibc: malloc]", "[anon:a]b]", "[anon:]", ""]
)
def test_memory_has_no_file(name: str) -> None:
    nature, path = only(maps_text([replace(HEAP, path=name)]))
    assert (nature.what, nature.name) == ("memory", b"")
    assert path == (name.encode() or None)


@pytest.mark.parametrize(
    "name", ["[vdso]", "[vvar]", "[vvar_vclock]", "[vsyscall]", "[uprobes]", "[vectors]", "[sigpage]", "[new one]"]
)
def test_what_else_stands_in_brackets_is_special(name: str) -> None:
    nature, _ = only(maps_text([replace(HEAP, path=name)]))
    assert (nature.what, nature.name) == ("special", name.encode())


@pytest.mark.parametrize(
    ("path", "inode"),
    [
        pytest.param("[anon_shmem:cache]", 1029, id="named shared memory is /dev/zero"),
        pytest.param("[vdso]", 5, id="a file of a file system without folders"),
        pytest.param("", 5, id="a file whose name is empty"),
        pytest.param("/dev/zero (deleted)", 0, id="an inode 0"),
        pytest.param("relative", 0, id="a name without a slash"),
    ],
)
def test_what_has_an_inode_or_no_brackets_is_a_file(path: str, inode: int) -> None:
    assert only(maps_text([replace(HEAP, path=path, inode=inode)]))[0].what == "file"


# --- smaps ------------------------------------------------------------------------------------------------


def test_every_field_of_smaps_that_counts() -> None:
    row = replace(HEAP, flags="rd wr mr mw me ac sd", anonymous=8, page_size=2 << 20)
    nature, _ = only(smaps_text([row]))
    assert nature.flags == {b"rd", b"wr", b"mr", b"mw", b"me", b"ac", b"sd"}
    assert (nature.copied, nature.swapped, nature.page_size) == (True, False, 2 << 20)


@pytest.mark.parametrize(
    ("anonymous", "swap", "swap_pss", "copied", "swapped"),
    [
        (0, 0, 0, False, False),
        (4, 0, 0, True, False),
        (0, 8, 8, True, False),
        # Swap also counts what a file in tmpfs has swapped out; SwapPss does not.
        (0, 8, 0, False, False),
        (0, 8, None, False, True),
        (4, 8, None, True, True),
        (0, 0, None, False, False),
        (None, None, None, None, None),
        (None, 4, None, None, True),
        (0, None, None, False, None),
    ],
)
def test_pages_of_its_own(
    anonymous: int | None, swap: int | None, swap_pss: int | None, copied: bool | None, swapped: bool | None
) -> None:
    nature, _ = only(smaps_text([replace(HEAP, anonymous=anonymous, swap=swap, swap_pss=swap_pss)]))
    assert (nature.copied, nature.swapped) == (copied, swapped)


def test_what_older_kernels_do_not_write_is_unknown() -> None:
    """VmFlags came with 3.8, KernelPageSize with 2.6.29, Anonymous with 2.6.37."""
    row = replace(HEAP, flags=None, anonymous=None, swap=None, swap_pss=None)
    nature, _ = only(smaps_text([row]))
    assert (nature.flags, nature.copied, nature.swapped, nature.page_size) == (None, None, None, PAGE)
    nature, _ = only(maps_text([row]))
    assert (nature.flags, nature.copied, nature.swapped, nature.page_size) == (None, None, None, None)


def test_fields_and_flags_of_newer_kernels_are_passed_over() -> None:
    text = smaps_text([replace(HEAP, flags="rd zz gu"), FILE])
    text = text.replace(b"Locked:", b"NewThing:            7 kB\nTelling_New_Thing: on\nLocked:")
    areas = parse(text, "map")
    assert len(areas) == 2
    assert areas.nature[0].flags == {b"rd", b"zz", b"gu"}


@pytest.mark.parametrize("value", [b"", b"kB", b"-4 kB", b"4.5 kB", b"9" * 40 + b" kB", b"0x10 kB", b"\xb2 kB"])
def test_a_number_that_is_none_is_unknown(value: bytes) -> None:
    text = smaps_text([HEAP])
    for name in (b"Anonymous", b"SwapPss", b"KernelPageSize"):
        text = re.sub(name + rb":[^\n]*", name + b": " + value, text)
    nature, _ = only(text)
    assert (nature.copied, nature.page_size) == (None, None)


def test_an_smaps_without_any_detail_for_some_mappings() -> None:
    areas = parse(HEAP.line() + smaps_text([FILE]) + replace(HEAP, start=B + PAGE, end=B + 2 * PAGE).line(), "map")
    assert [nature.flags is None for nature in areas.nature] == [True, False, True]


def test_the_flags_of_a_mapping_without_any() -> None:
    assert only(smaps_text([replace(HEAP, perms="---p", flags="")]))[0].flags == frozenset()


# --- of this process --------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["maps", "smaps"])
def test_of_this_process(file: str, tmp_path: Path) -> None:
    """Read once more by other means: splitting at spaces."""
    name = tmp_path / "a name\nof \xfftwo lines"
    name.write_bytes(bytes(PAGE))
    with open(name, "rb") as stream, mmap.mmap(stream.fileno(), PAGE, prot=mmap.PROT_READ) as mapping:
        text = Path("/proc/self", file).read_bytes()
        assert mapping[0] == 0
    lines = [line for line in text.splitlines() if re.match(rb"[0-9a-f]+-[0-9a-f]+ ", line)]
    areas = parse(text, file)
    assert len(areas) == len(lines)
    for i, line in enumerate(lines):
        addresses, perms, offset, device, inode, *path = line.split(None, 5)
        assert addresses == b"%08x-%08x" % (areas.start[i], areas.end[i])
        assert perms == areas.nature[i].perms + (b"s" if areas.nature[i].shared else b"p")
        assert (int(offset, 16), int(inode)) == (areas.offset[i], areas.inode[i])
        assert device == b"%02x:%02x" % areas.device[i]
        assert (path or [None])[0] == areas.path[i]
    assert os.fsencode(name).replace(b"\n", b"\\012") in areas.path
    natures = dict(zip(areas.path, areas.nature, strict=True))
    assert natures[b"[stack]"].what == "memory"
    assert natures[b"[vdso]"].what == "special"
    if file == "smaps":
        assert all(nature.flags is not None and nature.page_size == PAGE for nature in areas.nature)
        assert natures[b"[stack]"].copied
        assert b"gd" in (natures[b"[stack]"].flags or ())


# --- what is no map ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [b"", b"\n", b" \n\n"])
def test_nothing(text: bytes) -> None:
    error = refused(text)
    assert "is empty" in str(error)
    assert "/proc/PID/maps" in error.hint


LINES = maps_text([HEAP, FILE])


@pytest.mark.parametrize(
    ("text", "number", "words"),
    [
        pytest.param(LINES + b"garbage\n" + LINES, 3, "is not a line of maps or smaps: 'garbage'", id="in the middle"),
        pytest.param(b"garbage\n" + LINES, 1, "is not a line of maps or smaps", id="first"),
        pytest.param(b"Size: 4 kB\n" + LINES, 1, "is not a line", id="an attribute before any mapping"),
        pytest.param(LINES + b"55d0c0a0", 3, "is cut off: '55d0c0a0'", id="cut in an address"),
        pytest.param(LINES + FILE.line()[:40], 3, "is cut off", id="cut behind the offset"),
        pytest.param(LINES + b"VmFlags", 3, "is cut off", id="cut in the name of an attribute"),
        pytest.param(LINES.replace(b" rw-p ", b" rw-x "), 1, "is not a line", id="no such sharing"),
        pytest.param(LINES.replace(b"r--p", b"r---p"), 2, "is not a line", id="five letters"),
        pytest.param(LINES.replace(b" 4711 ", b" ffff "), 2, "is not a line", id="an inode that is not a number"),
        pytest.param(LINES.replace(b"08:11", b"08"), 2, "is not a line", id="half a device"),
        pytest.param(LINES.replace(b"-", b"..", 1), 1, "is not a line", id="no range"),
        pytest.param(LINES.upper(), 1, "is not a line", id="capital letters"),
        pytest.param(
            b"7f0000001000-7f0000001000 rw-p 0 00:00 0\n", 1, "its addresses are not a range", id="of no length"
        ),
        pytest.param(LINES + b"2000-1000 rw-p 0 00:00 0\n", 3, "its addresses are not a range", id="backwards"),
        pytest.param(b"1" * 17 + b"-" + b"2" * 17 + b" rw-p 0 00:00 0\n", 1, "is not a line", id="more than 64 bits"),
        pytest.param(LINES + b"\x1b[2J\xff\n", 3, r"'\x1b[2J\\xff'", id="what steers a terminal"),
        pytest.param(LINES + b"x" * 5000 + b"\n", 3, "x" * 60 + "'", id="a long line"),
    ],
)
def test_the_line_that_is_wrong_is_named(text: bytes, number: int, words: str) -> None:
    error = str(refused(text))
    assert f"line {number} " in error
    assert words in error
    assert len(error) < 200


@pytest.mark.parametrize("detailed", [False, True])
def test_a_map_that_is_cut_anywhere_says_nothing_wrong(detailed: bool) -> None:
    """A full disk, a process that was killed: what is left must say the same as the whole, or nothing at all."""
    rows = [
        replace(HEAP, flags="rd wr mr mw me ac sd", anonymous=408),
        replace(FILE, perms="rw-s", path="/dev/zero (deleted)", flags="rd wr sh mr mw me ms sd", page_size=2048 << 10),
    ]
    text = (smaps_text if detailed else maps_text)(rows)
    whole = parse(text, "map")
    for cut in range(len(text) - 1):
        try:
            part = parse(text[:cut], "map")
        except EvidenceError as error:
            assert str(error).startswith("map: ")
            continue
        for i in range(len(part)):
            said, true = part.nature[i], whole.nature[i]
            assert fields(part)[i][:-2] == fields(whole)[i][:-2]
            for name in ("what", "flags", "copied", "swapped", "page_size"):
                assert getattr(said, name) in (None, getattr(true, name)), (cut, name, text[:cut][-30:])


def test_line_ends_of_another_system_do_not_make_files_of_memory() -> None:
    """A map that came by mail."""
    text = smaps_text([replace(HEAP, path=""), HEAP, FILE])
    try:
        areas = parse(text.replace(b"\n", b"\r\n"), "map")
    except EvidenceError:
        return
    assert [nature.what for nature in areas.nature] == ["memory", "memory", "file"]


def test_empty_lines_between_mappings_mean_nothing() -> None:
    assert len(parse(b"\n\n".join([HEAP.line(), FILE.line(), b""]), "map")) == 2


# --- any text ---------------------------------------------------------------------------------------------

PIECES = st.sampled_from([
    HEAP.line(), FILE.line(), b"VmFlags: rd sh \n", b"Anonymous: 4 kB\n", b"VmFlags:", b"\n", b" ", b"-", b"[heap]",
    b"7f0000000000-7f0000001000", b" rw-p ", b"00000000 ", b"00:00 ", b"0", b"\xff", b"\0", b":", b"Swap", b"kB\n",
])  # fmt: skip


@settings(max_examples=300)
@given(text=st.one_of(st.binary(max_size=300), st.lists(PIECES, max_size=12).map(b"".join)))
@example(b"0-1 rw-p 0 0:0 0")
@example(b"0-1 rw-p 0 0:0 " + b"9" * 20)
def test_any_text_is_a_map_or_an_error(text: bytes) -> None:
    try:
        areas = parse(text, "map")
    except EvidenceError as error:
        assert str(error).isprintable()
    else:
        assert len(areas) == len(areas.nature) == len(areas.path) > 0
        assert all(start < end for start, end in zip(areas.start, areas.end, strict=True))


NAMES = st.one_of(
    st.just(b""),
    st.sampled_from([b"[heap]", b"[stack]", b"[vdso]", b"/dev/zero (deleted)"]),
    # A carriage return at the end is the line's, of a map that was saved elsewhere.
    st.binary(max_size=40).map(lambda name: b"/" + name.replace(b"\0", b"").replace(b"\n", b"").rstrip(b"\r")),
)
ROWS = st.builds(
    lambda start, pages, perms, path, offset, device, inode, flags, numbers: Area(
        start * PAGE, (start + pages) * PAGE, perms, path, offset * PAGE, device, inode, flags, *numbers
    ),
    st.integers(0, 1 << 51),
    st.integers(1, 1 << 40),
    st.tuples(st.sampled_from("r-"), st.sampled_from("w-"), st.sampled_from("x-"), st.sampled_from("sp")).map("".join),
    NAMES,
    st.integers(0, 1 << 51),
    st.tuples(st.integers(0, 0xFFF), st.integers(0, 0xFFFFF)),
    st.integers(0, (1 << 64) - 1),
    st.none() | st.lists(st.sampled_from(["rd", "wr", "sh", "ht", "io", "dd", "ac", "nr"]), unique=True).map(" ".join),
    st.tuples(*[st.none() | st.integers(0, 1 << 40)] * 3, st.none() | st.sampled_from([4096, 65536, 2 << 20])),
)


@settings(max_examples=200)
@given(rows=st.lists(ROWS, min_size=1, max_size=6), detailed=st.booleans())
def test_what_is_written_is_read(rows: list[Area], detailed: bool) -> None:
    areas = parse((smaps_text if detailed else maps_text)(rows), "map")
    assert fields(areas) == [
        (
            row.start, row.end, row.perms[:3].encode(), row.perms[3] == "s", row.offset, row.device, row.inode,
            row.path or None,
        )
        for row in rows
    ]  # fmt: skip
    for nature, row in zip(areas.nature, rows, strict=True):
        assert nature.flags == (None if row.flags is None or not detailed else frozenset(row.flags.encode().split()))
        assert nature.page_size == (row.page_size if detailed else None)
        counts = [count for count in (row.anonymous, row.swap_pss) if count is not None] if detailed else []
        assert nature.copied == (any(counts) if counts else None)


# --- size -------------------------------------------------------------------------------------------------


def seconds_for(count: int, *, detailed: bool = False) -> float:
    """Return how long it takes to read a map of so many mappings, in seconds."""
    row = Area(0, PAGE, "r--p", "/usr/lib/x86_64-linux-gnu/libx.so", 0, (8, 1), 99)
    lines = []
    tail = row.details() if detailed else b""
    line = row.line()[len(b"00000000-00001000") :]
    for i in range(count):
        start = 0x7F0000000000 + 2 * i * PAGE
        lines.append(b"%x-%x%b%b" % (start, start + PAGE, line, tail))
    text = b"".join(lines)
    began = time.process_time()
    assert len(parse(text, "map")) == count
    return time.process_time() - began


@of_a_plain_build
def test_the_time_grows_with_the_mappings_only() -> None:
    """A quarter of a million; squared it would be minutes."""
    assert seconds_for(250_000) < 10


@pytest.mark.slow
@pytest.mark.parametrize("detailed", [False, True])
def test_a_million_mappings(detailed: bool) -> None:
    assert seconds_for(1_000_000, detailed=detailed) < 60


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(HEAP.line() + b"\n" * (1 << 20) + b"x", id="empty lines"),
        pytest.param(HEAP.line() + b"A:\n" * (1 << 18) + b"x", id="attributes"),
        pytest.param(HEAP.line()[:-1] + b" " * (1 << 20), id="spaces behind a name"),
        pytest.param(b"00001000-00002000 rw-p 00000000 00:00 0" + b" " * (1 << 20) + b"\n\0", id="spaces"),
        pytest.param(b"a" * (1 << 20), id="letters"),
        pytest.param(HEAP.line() + b"A" * (1 << 20), id="letters behind a mapping"),
    ],
)
def test_what_could_be_read_over_and_over_is_read_once(text: bytes) -> None:
    began = time.process_time()
    try:
        parse(text, "map")
    except EvidenceError as error:
        assert len(str(error)) < 200
    assert time.process_time() - began < 5
