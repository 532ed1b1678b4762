"""What the program headers of ELF images say, and what gives away that their text was written to all the same."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest
from support.builder import EM_386, EM_ARM, FileEntry, Image, Load, elf_image, kernel_notes, make_core, page
from support.opening import in_memory, in_pipe, kept, look, opened
from support.samples import HEAP, LIBRARY, PAGE, VDSO, VDSO_AUXV, VDSO_LOAD

import corefilt as api
from corefilt.classify import payload
from corefilt.classify.classifier import classifier_for
from corefilt.corefile.images import MOST_OF_DYNAMIC, headers, place
from corefilt.filterbits import Bit
from corefilt.plan.plan import Mapping

DT_NULL, DT_NEEDED, DT_STRTAB, DT_TEXTREL, DT_FLAGS = 0, 1, 5, 22, 30
PT_DYNAMIC, PT_GNU_RELRO = 2, 0x6474E552
PATH = "/opt/app/lib.so"
HEAD, TEXT, CONSTANTS, RELRO, DATA, IDLE = (LIBRARY + at * PAGE for at in (0, 1, 4, 5, 6, 8))
CLEAN, WRITTEN = "private-file-backed", "private-file-written"


def dynamic(*entries: tuple[int, int], wide: bool = True) -> bytes:
    """Make a page that begins with a dynamic section of some entries."""
    return page(b"".join(struct.pack("<qQ" if wide else "<iI", *entry) for entry in (*entries, (DT_NULL, 0))))


PLAIN = dynamic((DT_NEEDED, 1), (DT_STRTAB, 4096))


def image(*, section: bytes | None = PLAIN, **changed: dict[str, object]) -> bytes:
    """Make a core with a library: headers, text, constants, RELRO with the dynamic section, data, an idle segment.

    Without ``section`` the library has no PT_DYNAMIC. ``changed`` are fields of loads by their names; ``drop=True``
    takes one out, ``pieces`` cuts one into mappings of so many pages each.
    """
    segments = [
        Image(0x0000, 0x0F00, "r--"),
        Image(0x1000, 0x2F00, "r-x"),
        Image(0x4000, 0x0F00, "r--"),
        Image(0x5000, 0x2800, "rw-", filesz=0x1F00),
        Image(0x8000, 0x1000, "rw-"),
    ]
    if section is not None:
        segments.append(Image(0x5000, 0x0200, "rw-", type=PT_DYNAMIC))
    rows = {
        "head": Load(HEAD, elf_image(segments, relro=(0x5000, 0x1000)), flags="r--"),
        "text": Load(TEXT, page(b"text", 3), flags="r-x"),
        "constants": Load(CONSTANTS, page(b"constants"), flags="r--"),
        "relro": Load(RELRO, section if section is not None else page(b"relro"), flags="r--"),
        "data": Load(DATA, page(b"data"), flags="rw-"),
        "idle": Load(IDLE, page(b"strings"), flags="rw-"),
    }
    loads, files = [HEAP], []
    for name, row in rows.items():
        fields = dict(changed.get(name, {}))
        pieces, offset = fields.pop("pieces", None), row.vaddr - LIBRARY
        if fields.pop("drop", False):
            continue
        whole = replace(row, **fields)  # type: ignore[arg-type]
        size = len(whole.data) if whole.memsz is None else whole.memsz
        for at in range(0, size, pieces * PAGE if isinstance(pieces, int) else size):
            step = pieces * PAGE if isinstance(pieces, int) else size
            load = replace(whole, vaddr=whole.vaddr + at, data=whole.data[at : at + step], memsz=min(step, size - at))
            loads.append(load)
            files.append(FileEntry(load.vaddr, load.vaddr + min(step, size - at), offset + at, PATH))
    return make_core(loads, kernel_notes(files))


def kinds(mapping: Mapping) -> str:
    """Return all kinds that are left, in order."""
    return " ".join(sorted({mapping.kind, *mapping.finding.others()}))


BOTH = f"{CLEAN} {WRITTEN}"


def test_an_ordinary_image() -> None:
    found = look(image())
    expected = {HEAD: CLEAN, TEXT: CLEAN, CONSTANTS: CLEAN, RELRO: WRITTEN, DATA: WRITTEN, IDLE: BOTH}
    assert {at: kinds(found[at]) for at in expected} == expected
    assert {found[at].certainty for at in expected} == {"inferred", "assumed"}


def test_a_writable_segment_that_the_loader_has_nothing_to_do_in_stays_open() -> None:
    """Patchelf adds one for strings, and nobody writes to it."""
    mapping = look(image())[IDLE]
    assert mapping.certainty == "assumed"
    assert kept(image(), 0x1)[IDLE] == PAGE
    assert kept(image(), 0x1, "drop")[IDLE] == 0


@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize(
    ("changed", "address", "pages", "words"),
    [
        ({"text": {"flags": "rwx"}}, TEXT, 3, "it is writable now"),
        ({"text": {"flags": "r--"}}, TEXT, 3, "flags are not the segment's"),
        ({"head": {"flags": "r-x"}}, HEAD, 1, "flags are not the segment's"),
        ({"text": {"pieces": 1}}, TEXT + PAGE, 1, "would have merged it with its neighbour"),
    ],
    ids=["writable", "no longer executable", "executable", "set apart"],
)
def test_what_text_shows_that_was_written_to(
    changed: dict[str, dict[str, object]], address: int, pages: int, words: str, piped: bool
) -> None:
    """From pipe to pipe, flags that are not the segment's cannot be seen: there they look like a layout's."""
    core = image(**changed)
    mapping = look(core, piped=piped)[address]
    if piped and "flags are" in words:
        assert mapping.finding.dropped_by(Bit.PRIVATE_ANONYMOUS) or kept(core, 0x1, piped=True)[address]
        return
    assert WRITTEN in kinds(mapping)
    assert kept(core, 0x1, piped=piped)[address] == pages * PAGE
    if not piped:
        assert mapping.certainty == "assumed"
        assert words in " ".join(mapping.evidence)


@pytest.mark.parametrize("split", [True, False])
def test_without_names_parts_of_one_segment_are_known_to_be_of_one_file(split: bool) -> None:
    """What set them apart may have written to them, wherever in the table they stand."""
    head = elf_image([Image(0, 0x1F00, "r--"), Image(0x2000, 0x1000, "rw-", filesz=0x800)], size=2 * PAGE)
    parts = [Load(LIBRARY, head[:PAGE], flags="r--"), Load(LIBRARY + PAGE, head[PAGE : 2 * PAGE], flags="r--")]
    text = parts if split else [Load(LIBRARY, head[: 2 * PAGE], flags="r--")]
    found = look(make_core([*text, Load(LIBRARY + 2 * PAGE, page(b"data"))], kernel_notes(None)))
    for load in text:
        assert ("would have merged it with its neighbour" in " ".join(found[load.vaddr].evidence)) == split


@pytest.mark.parametrize(
    ("section", "textrel"),
    [
        (PLAIN, False),
        (dynamic((DT_STRTAB, 1), (DT_TEXTREL, 0)), True),
        (dynamic((DT_STRTAB, 1), (DT_FLAGS, 4)), True),
        (dynamic((DT_STRTAB, 1), (DT_FLAGS, 8)), False),
        (dynamic((DT_STRTAB, 1), (DT_FLAGS, 0xC)), True),
        # Behind its end there is nothing that counts.
        (dynamic((DT_STRTAB, 1), (DT_NULL, 0), (DT_TEXTREL, 0)), False),
        # Not a section: pages of zeros, or one without an end.
        (page(), None),
        (struct.pack("<qQ", DT_STRTAB, 1) * 256, None),
        (None, False),
    ],
)
def test_relocated_text_is_said_by_the_dynamic_section(section: bytes | None, textrel: bool | None) -> None:
    core = image(section=section)
    found = look(core)
    expected = CLEAN if textrel is False else BOTH
    assert [kinds(found[at]) for at in (HEAD, TEXT, CONSTANTS)] == [expected] * 3
    assert kept(core, 0x1)[TEXT] == (0 if textrel is False else 3 * PAGE)


def test_text_stays_where_the_dynamic_section_is_not_in_the_core() -> None:
    core = image(relro={"data": b"", "memsz": PAGE})
    assert kinds(look(core)[TEXT]) == BOTH


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("section", [PLAIN, dynamic((DT_TEXTREL, 0), (DT_STRTAB, 1))])
def test_a_pipe_into_a_file_gives_the_same_as_a_file(
    section: bytes, far: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads ahead for the dynamic section, and one that is too far is read from what was written."""
    if far:
        monkeypatch.setattr(payload, "MOST_AHEAD_TO_DYNAMIC", PAGE)
    core = image(section=section)
    for wanted in (0x1, 0x4, 0x33):
        with in_memory(core) as file, in_pipe(core) as pipe:
            api.filter(file, tmp_path / "file", filter=wanted, force=True)
            api.filter(pipe, tmp_path / "pipe", filter=wanted, force=True)
        assert (tmp_path / "file").read_bytes() == (tmp_path / "pipe").read_bytes()


def test_the_loaders_own_protection_explains_a_neighbour() -> None:
    """Constants and RELRO have the same flags and consecutive offsets, and only one of them was written to."""
    for piped in (False, True):
        constants = look(image(), piped=piped)[CONSTANTS]
        assert (kinds(constants), constants.certainty) == (CLEAN, "inferred")


def test_program_headers_that_share_an_entry_of_nt_file_are_no_neighbours() -> None:
    """--fit writes such: one mapping in several pieces."""
    core = image()
    with opened(core) as it:
        address_space = classifier_for(it).context.address_space
        by_start = {it.maps.start(m): m for m in range(len(it.maps))}
        assert address_space.like(by_start[TEXT]) == []
        assert address_space.like(by_start[CONSTANTS]) == [by_start[RELRO]]


def test_gaps_between_segments_were_not_written() -> None:
    """What ld.so leaves without any rights behind a segment."""
    segments = [Image(0, 0x1000, "r-x"), Image(0x201000, 0x2000, "rw-", offset=0x1000, filesz=0x1100)]
    head = elf_image(segments)
    pieces = [
        (0, head, None, "r-x", 0),
        (0x1000, b"", 0x200000, "---", 0x1000),
        (0x201000, page(b"d", 2), None, "rw-", 0x1000),
    ]
    loads = [Load(LIBRARY + at, data, memsz=memsz, flags=flags) for at, data, memsz, flags, _ in pieces]
    files = [
        FileEntry(load.vaddr, load.vaddr + (load.memsz or len(load.data)), offset, PATH)
        for load, (*_, offset) in zip(loads, pieces, strict=True)
    ]
    found = look(make_core([HEAP, *loads], kernel_notes(files)))
    assert CLEAN in kinds(found[LIBRARY + 0x1000])
    assert WRITTEN not in kinds(found[LIBRARY + 0x1000])


# --- placing --------------------------------------------------------------------------------------------------


def shared_page(*, header_page: bool = True) -> tuple[bytes, bytes]:
    """Make the core of a program whose code and data share the first page of its file (-z noseparate-code).

    The page that PT_GNU_RELRO protects begins with the file's first byte once more.
    """
    segments = [Image(0, 0x0E00, "r-x"), Image(0x1E00, 0x1300, "rw-", offset=0xE00, filesz=0x1200)]
    head = elf_image(segments, relro=(0x1E00, 0x0200))
    data = page(b"data")
    first = Load(LIBRARY, head if header_page else b"", memsz=PAGE, flags="r-x")
    loads = [first, Load(LIBRARY + PAGE, head, flags="r--"), Load(LIBRARY + 2 * PAGE, data, flags="rw-")]
    files = [
        FileEntry(LIBRARY + at * PAGE, LIBRARY + (at + 1) * PAGE, o, PATH) for at, o in ((0, 0), (1, 0), (2, PAGE))
    ]
    named = make_core([HEAP, *loads], kernel_notes(files))
    return named, make_core([HEAP, *loads], kernel_notes(None))


@pytest.mark.parametrize("header_page", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_relro_that_begins_with_the_files_first_page_is_no_image_of_its_own(header_page: bool, named: bool) -> None:
    core = shared_page(header_page=header_page)[0 if named else 1]
    found = look(core)
    assert kinds(found[LIBRARY + PAGE]) == kinds(found[LIBRARY + 2 * PAGE]) == WRITTEN
    assert kept(core, 0x1)[LIBRARY + PAGE] == PAGE
    with opened(core) as it:
        placed = classifier_for(it).context.payload
        assert placed is not None
        assert {image.bias for image in placed.images.values()} == {LIBRARY}


def test_flags_decide_where_offsets_are_not_known() -> None:
    found = headers(elf_image([Image(0, 0xE00, "r-x"), Image(0x1E00, 0x1200, "rw-", offset=0xE00)]), TABLE, PAGE)
    starts = {LIBRARY: (None, 5), LIBRARY + PAGE: (None, 4), LIBRARY + 2 * PAGE: (None, 6)}
    for at in (0, 1):
        placed = place(found, LIBRARY + at * PAGE, LIBRARY + (at + 1) * PAGE, starts)
        assert placed is not None
        assert placed.bias == LIBRARY


TABLE = elf_image([Image(0, 0xE00, "r-x"), Image(0x1E00, 0x1200, "rw-", offset=0xE00)])[64 : 64 + 2 * 56]


def test_what_begins_at_another_offset_does_not_fit() -> None:
    found = headers(elf_image([Image(0, 0xE00, "r-x"), Image(0x1E00, 0x1200, "rw-", offset=0xE00)]), TABLE, PAGE)
    assert place(found, LIBRARY, LIBRARY + PAGE, {LIBRARY: (0, 5), LIBRARY + PAGE: (PAGE, 6)}) is None


def test_a_dynamic_section_of_any_length_is_read_no_further_than_it_can_matter() -> None:
    segments = [Image(0, 0x1000, "r-x"), Image(0x1000, 1 << 30, "rw-", filesz=0x1000)]
    segments.append(Image(0x1000, 1 << 30, "rw-", type=PT_DYNAMIC))
    head = elf_image(segments)
    loads = [Load(LIBRARY, head, flags="r-x"), Load(LIBRARY + PAGE, dynamic((DT_TEXTREL, 0), (DT_STRTAB, 1)))]
    files = [FileEntry(LIBRARY + at * PAGE, LIBRARY + (at + 1) * PAGE, at * PAGE, PATH) for at in (0, 1)]
    assert MOST_OF_DYNAMIC < 1 << 20
    assert kinds(look(make_core([HEAP, *loads], kernel_notes(files)))[LIBRARY]) == BOTH


# --- [vvar] ---------------------------------------------------------------------------------------------------


def vvar(machine: int, content: bytes) -> bytes:
    """Make a core of a machine of 32 bits with a page of [vvar] before [vdso]."""
    load = Load(VDSO - PAGE & 0xFFFFFFFF, page(content), flags="r--")
    shape = {"bits": 32, "machine": machine}
    at = VDSO & 0xFFFFFFFF
    own = replace(VDSO_LOAD, vaddr=at, data=page(b"\x7fELF"))
    return make_core([HEAP, load, own], kernel_notes([], {33: at}, **shape), **shape)  # type: ignore[arg-type]


@pytest.mark.parametrize("wanted", ["0x0", "0x1", "0x10", "0x33", "all"])
@pytest.mark.parametrize("piped", [False, True])
def test_vvar_with_data_stays_whole_at_every_filter(wanted: str, piped: bool) -> None:
    """ARM maps it by pages, which are dumped; elsewhere it is a hole."""
    assert VDSO_AUXV == {33: VDSO}
    at = VDSO - PAGE & 0xFFFFFFFF
    assert kept(vvar(EM_ARM, b"sequence"), wanted, piped=piped)[at] == PAGE
    assert kept(vvar(EM_ARM, b""), wanted, piped=piped)[at] == PAGE
    assert kept(vvar(EM_386, b""), wanted, piped=piped)[at] == PAGE


def test_on_x86_a_page_of_data_before_vdso_is_memory() -> None:
    at = VDSO - PAGE & 0xFFFFFFFF
    assert kept(vvar(EM_386, b"heap"), "0x0")[at] == 0
    assert kept(vvar(EM_386, b"heap"), "0x1")[at] == PAGE
