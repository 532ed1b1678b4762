"""The notes of a core: who wrote it, NT_AUXV, NT_FILE, and what is done with damaged ones."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.builder import (
    AT_PAGESZ,
    AT_SYSINFO_EHDR,
    EM_386,
    EM_AARCH64,
    EM_ARM,
    EM_PPC,
    EM_PPC64,
    EM_RISCV,
    EM_S390,
    EM_SPARC,
    EM_X86_64,
    NT_AUXV,
    NT_FILE,
    NT_PRSTATUS,
    NT_X86_XSTATE,
    Load,
    Note,
    kernel_notes,
    make_core,
    nt_auxv,
    nt_file,
    nt_prpsinfo,
    nt_prstatus,
    nt_siginfo,
    page,
)
from support.opening import opened

from corefilt.corefile.elf import Ehdr
from corefilt.corefile.notes import WINDOW, Notes
from corefilt.corefile.nt_file import FileNote
from corefilt.errors import NotACoreError
from corefilt.sizes import show_size

PAGE = 4096
A = 0x10000
SHAPES = [(64, True), (64, False), (32, True), (32, False)]
by_shape = pytest.mark.parametrize(("bits", "little_endian"), SHAPES)
FILES = [
    (A, A + PAGE, 0, b"/bin/a"),
    (A + PAGE, A + 3 * PAGE, 5 * PAGE, b"/tmp/\xff\n"),
    (A + 3 * PAGE, A + 4 * PAGE, 0, b""),
]


def notes_of(
    notes: Sequence[Note] | bytes, bits: int = 64, little_endian: bool = True, *, piped: bool = False, **options: object
) -> Notes:
    """Return what is read of the notes."""
    core = make_core([Load(A, page(b"x"))], notes, bits=bits, little_endian=little_endian, **options)  # type: ignore[arg-type]
    with opened(core, piped=piped) as it:
        return it.notes


def entries(notes: Notes) -> list[tuple[int, int, int, bytes]]:
    """List NT_FILE."""
    files = notes.files
    assert files is not None
    return [(files.start(i), files.end(i), files.offset(i), files.path(i)) for i in range(files.count)]


@by_shape
@pytest.mark.parametrize("piped", [False, True])
def test_the_kernels_notes(bits: int, little_endian: bool, piped: bool) -> None:
    shape = {"bits": bits, "little_endian": little_endian}
    notes = notes_of(kernel_notes(FILES, {AT_SYSINFO_EHDR: 0x7000}, **shape), **shape, piped=piped)
    assert entries(notes) == FILES
    assert notes.auxv == {AT_PAGESZ: PAGE, AT_SYSINFO_EHDR: 0x7000}
    assert notes.warnings == []


def test_gdbs_order() -> None:
    """NT_PRPSINFO first, then the threads, then the two that are looked for."""
    threads = [note for pid in range(5) for note in (nt_prstatus(pid), Note("LINUX", NT_X86_XSTATE, bytes(2696)))]
    notes = notes_of([nt_prpsinfo(1), *threads, nt_auxv({AT_PAGESZ: PAGE}), nt_file(FILES)])
    assert entries(notes) == FILES
    assert notes.auxv == {AT_PAGESZ: PAGE}


def test_nothing_of_a_second_thread_is_looked_at() -> None:
    """The kernel writes both among the notes of the first."""
    notes = notes_of([nt_prstatus(1), nt_auxv({AT_PAGESZ: PAGE}), nt_prstatus(2), nt_file(FILES)])
    assert notes.files is None
    assert notes.auxv == {AT_PAGESZ: PAGE}


def test_the_first_of_each_counts() -> None:
    other = nt_file([(0, 1, 0, b"/other")])
    first = [nt_prstatus(1), nt_auxv({AT_PAGESZ: PAGE, 99: 7}), nt_auxv({AT_PAGESZ: 512}), nt_file(FILES), other]
    notes = notes_of(first)
    assert entries(notes) == FILES
    assert notes.auxv[AT_PAGESZ] == PAGE


@pytest.mark.parametrize("name", ["LINUX", "core", b"CORE", b"CORE\0", b"CORE\0\0\0"])
def test_only_notes_named_core_count(name: str | bytes) -> None:
    is_core = bytes(name.encode() if isinstance(name, str) else name).rstrip(b"\0") == b"CORE"
    notes = notes_of([nt_prstatus(1), Note(name, NT_FILE, nt_file(FILES).desc)])
    assert (notes.files is not None) is is_core


def test_notes_larger_than_a_window_are_read() -> None:
    """Thousands of files, behind a note that alone is longer than what is read at once."""
    files = [(A + i * PAGE, A + (i + 1) * PAGE, 0, b"/opt/some/library/%d" % i) for i in range(3000)]
    notes = [
        nt_prstatus(1),
        nt_siginfo(),
        Note("LINUX", NT_X86_XSTATE, bytes(3 * WINDOW)),
        nt_auxv({7: 8}),
        nt_file(files),
    ]
    for piped in (False, True):
        found = notes_of(notes, piped=piped)
        assert entries(found) == files
        assert found.auxv == {7: 8}


@pytest.mark.parametrize("size", range(WINDOW - 40, WINDOW + 8, 4))
def test_a_note_may_end_anywhere_in_a_window(size: int) -> None:
    notes = notes_of([Note("LINUX", 1, bytes(size)), nt_auxv({7: 8}), nt_file(FILES)])
    assert (entries(notes), notes.auxv) == (FILES, {7: 8})


def test_auxv_ends_at_at_null_or_where_it_ends() -> None:
    words = struct.pack("<6Q", 1, 2, 0, 0, 3, 4)
    assert notes_of([Note("CORE", NT_AUXV, words)]).auxv == {1: 2}
    assert notes_of([Note("CORE", NT_AUXV, words[:24])]).auxv == {1: 2}
    assert notes_of([Note("CORE", NT_AUXV, words[:15])]).auxv == {}
    assert notes_of([Note("CORE", NT_AUXV, struct.pack("<4Q", 1, 2, 1, 9))]).auxv == {1: 2}


def test_two_note_segments() -> None:
    extra = Load(0, nt_file(FILES).encode(), flags="", type=4)
    core = make_core([Load(A, page(b"x"))], [nt_prstatus(1)], extra_phdrs=[extra])
    with opened(core) as it:
        assert entries(it.notes) == FILES


def test_no_notes() -> None:
    for core in (make_core([Load(A, page(b"x"))]), make_core([Load(A, page(b"x"))], note_segment=False)):
        with opened(core) as it:
            assert (it.notes.files, it.notes.auxv, it.notes.warnings) == (None, {}, [])


# --- stack pointers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("machine", "bits", "little_endian"),
    [
        (EM_X86_64, 64, True), (EM_386, 32, True), (EM_AARCH64, 64, True), (EM_AARCH64, 64, False), (EM_ARM, 32, True),
        (EM_RISCV, 64, True), (EM_RISCV, 32, True), (EM_PPC64, 64, True), (EM_PPC64, 64, False), (EM_PPC, 32, False),
        (EM_S390, 64, False),
    ],
)  # fmt: skip
def test_the_threads_stack_pointers(machine: int, bits: int, little_endian: bool) -> None:
    shape = {"bits": bits, "little_endian": little_endian, "machine": machine}
    pointers = [0x7FFF0010, 0x40000000, 0x50000020]
    for piped in (False, True):
        notes = notes_of(kernel_notes(FILES, stack_pointers=pointers, **shape), **shape, piped=piped)
        assert notes.stack_pointers == pointers
        assert entries(notes) == FILES


def test_no_stack_pointer_is_read_where_none_is_known_to_be() -> None:
    """x32, a machine that nobody looked at, and a note that is too short."""
    assert notes_of([nt_prstatus(1, 32)], 32, machine=EM_X86_64).stack_pointers == []
    assert notes_of([nt_prstatus(1, 32, False)], 32, False, machine=EM_SPARC).stack_pointers == []
    assert notes_of([nt_prstatus(1, size=264 + 7)]).stack_pointers == []
    assert notes_of([nt_prstatus(1, size=264 + 8)]).stack_pointers == [0]


def test_a_stack_pointer_is_one_of_a_process() -> None:
    desc = nt_prstatus(1, stack_pointer=A).desc
    assert notes_of([Note("LINUX", NT_PRSTATUS, desc)]).stack_pointers == []
    assert notes_of([Note("CORE", NT_PRSTATUS, desc)]).stack_pointers == [A]


# --- damage -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize(
    ("note", "past"),
    [
        (Note("CORE", 1, b"x" * 8, namesz=0xFFFFFFFF), 0x100000000 - 8),
        (Note("CORE", 1, b"x" * 8, descsz=0xFFFFFFFF), 0xFFFFFFFF - 8),
        (Note("CORE", 1, b"x" * 8, descsz=9), 1),
        (Note("CORE", 1, b"", namesz=13), None),
    ],
)
def test_a_note_that_reaches_past_its_segment(note: Note, past: int | None, piped: bool) -> None:
    notes = notes_of([nt_auxv({7: 8}), note], piped=piped)
    assert notes.auxv == {7: 8}
    assert len(notes.warnings) == 1
    at = 64 + 2 * 56 + len(nt_auxv({7: 8}).encode())
    assert notes.warnings[0].startswith(f"note at {at:#x}: n_namesz or n_descsz reaches ")
    assert past is None or f"reaches {show_size(past)} past its segment" in notes.warnings[0]


@pytest.mark.parametrize(
    ("note", "words"),
    [
        (Note("CORE", NT_FILE, b""), "0 bytes cannot hold a count"),
        (Note("CORE", NT_FILE, bytes(15)), "15 bytes cannot hold a count"),
        (nt_file(FILES, count=1 << 63), f"count is {1 << 63}, but"),
        (nt_file(FILES, count=(1 << 64) - 1), "count is 18446744073709551615, but"),
        (nt_file(FILES, count=7), "count is 7, but"),
        (Note("CORE", NT_FILE, nt_file(FILES).desc[:-1]), "count is 3, but it has only 2 names"),
        (Note("CORE", NT_FILE, nt_file(FILES).desc[:-3]), "count is 3, but"),
    ],
)
def test_an_nt_file_that_lies_is_a_warning(note: Note, words: str) -> None:
    notes = notes_of([nt_prstatus(1), note, nt_auxv({7: 8})])
    assert notes.files is None
    assert len(notes.warnings) == 1
    assert f"NT_FILE cannot be used: {words}" in notes.warnings[0].replace("its ", "")


def test_an_nt_file_of_nothing_is_one() -> None:
    notes = notes_of([nt_prstatus(1), nt_file([])])
    assert entries(notes) == []
    assert notes.warnings == []


@settings(max_examples=200)
@given(desc=st.binary(max_size=200), shape=st.sampled_from(SHAPES))
def test_any_bytes_are_an_nt_file_or_an_error(desc: bytes, shape: tuple[int, bool]) -> None:
    ehdr = Ehdr(b"\x7fELF" + bytes([shape[0] // 32, 2 - shape[1], 1]) + bytes(57))
    try:
        files = FileNote(desc, ehdr)
    except ValueError as error:
        assert str(error)
    else:
        names = b"".join(files.path(i) + b"\0" for i in range(files.count))
        assert names in desc


@settings(max_examples=150)
@given(raw=st.binary(max_size=300), piped=st.booleans())
def test_any_bytes_are_notes_or_a_warning(raw: bytes, piped: bool) -> None:
    try:
        notes = notes_of(raw, piped=piped)
    except NotACoreError:
        return
    assert all(isinstance(warning, str) for warning in notes.warnings)


# --- cores of others --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "system"),
    [
        (b"NetBSD-CORE\0", "NetBSD"), (b"NetBSD-CORE@1\0", "NetBSD"), (b"FreeBSD\0", "FreeBSD"),
        (b"OpenBSD\0", "OpenBSD"), (b"OpenBSD@7\0", "OpenBSD"), (b"DragonFly\0", "DragonFly BSD"), (b"QNX\0", "QNX"),
    ],
)  # fmt: skip
def test_cores_of_other_systems_are_refused(name: bytes, system: str) -> None:
    with pytest.raises(NotACoreError, match=f"not a Linux core but one of {system}"):
        notes_of([Note(name, 1, b"")])


def test_dumps_of_a_kernel_are_refused_with_the_tool_for_them() -> None:
    with pytest.raises(NotACoreError, match="a dump of a kernel") as caught:
        notes_of([nt_prstatus(1), Note("VMCOREINFO", 0, b"OSRELEASE=6.12")])
    assert "makedumpfile" in caught.value.hint


def test_prstatus_has_the_number_that_is_looked_for() -> None:
    assert (nt_prstatus(1).type, nt_file([]).type) == (NT_PRSTATUS, 0x46494C45)
