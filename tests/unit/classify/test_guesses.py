"""What is guessed where several kinds are left, and names that only look like the kernel's."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.builder import EM_AARCH64, EM_ARM, FileEntry, Load, kernel_notes, make_core, page
from support.maps import Area, maps_text, smaps_text
from support.opening import kept, look, opened
from support.samples import HEAP, HUGE, PAGE

from corefilt.classify.classifier import classifier_for
from corefilt.evidence.evidence import Evidence
from corefilt.procfs.maps import parse

A, B = 0x10001000, 0x20001000
AT_RANDOM = 25
ANON_HUGE = "/anon_hugepage (deleted)"


def with_files(*rows: tuple[int, str, str], size: int = 2 * PAGE) -> bytes:
    """Make a core of mappings of files: address, name and flags."""
    loads = [Load(at, page(b"data", size // PAGE), flags=flags) for at, _, flags in rows]
    return make_core([HEAP, *loads], kernel_notes([FileEntry(at, at + size, 0, path) for at, path, _ in rows]))


def could_be(core: bytes, address: int) -> set[str]:
    mapping = look(core)[address]
    return {mapping.kind, *mapping.finding.others()}


# --- guesses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "kind"),
    [
        ("/SYSV00000000 (deleted)", "shared-huge"),
        ("/dev/shm/PostgreSQL.12", "shared-huge"),
        ("/dev/shm/x (deleted)", "shared-huge"),
        ("/data/SYSV", "private-huge"),
        ("/memfd:x (deleted)", "private-huge"),
    ],
)
def test_huge_pages_without_a_name_are_shared_where_memory_is_shared_otherwise(other: str, kind: str) -> None:
    files = [FileEntry(HUGE, 2 * HUGE, 0, ANON_HUGE), FileEntry(B, B + PAGE, 0, other)]
    loads = [Load(HUGE, page(b"h"), memsz=HUGE), Load(B, page(b"s"), flags="rw-")]
    assert look(make_core([HEAP, *loads], kernel_notes(files)))[HUGE].kind == kind


@pytest.mark.parametrize(
    ("path", "flags", "kind"),
    [
        ("/var/lib/ldap/data.mdb", "r--", "shared-file-backed"),
        ("/var/lib/ldap/data.mdb (deleted)", "r--", "private-file-backed"),
        ("/var/lib/ldap/data.db", "r--", "private-file-backed"),
        ("/memfd:guest (deleted)", "rw-", "shared-anonymous"),
        ("/dev/shm/guest", "rw-", "shared-file-backed"),
        ("/memfd:region (deleted)", "r--", "private-file-backed"),
        ("/memfd:code (deleted)", "r-x", "private-file-backed"),
        ("/data/table", "---", "private-file-backed"),
        ("/data/code", "r-x", "private-file-backed"),
        ("/data/huge/table", "r--", "private-file-backed"),
        ("/data/huge/table", "rw-", "shared-file-backed"),
    ],
)
def test_what_files_are_guessed_to_be(path: str, flags: str, kind: str) -> None:
    assert look(with_files((A, path, flags)))[A].kind == kind


@pytest.mark.parametrize(
    ("flags", "other", "kind"),
    [
        ("r-x", "rw-", "shared-anonymous"),
        ("r--", "rw-", "private-file-backed"),
        ("r-x", "r--", "private-file-backed"),
    ],
)
def test_a_memfd_that_is_executable_beside_a_writable_view_is_a_compilers(flags: str, other: str, kind: str) -> None:
    assert look(with_files((A, "/memfd:jit (deleted)", flags), (B, "/memfd:jit (deleted)", other)))[A].kind == kind


def test_a_memfd_that_maps_calls_shared_is_guessed_shared() -> None:
    """VmFlags would tell; without them, only what is private is out of the question."""
    name = "/memfd:region (deleted)"
    core = make_core([Load(A, page(b"data", 2), flags="r--")], kernel_notes([FileEntry(A, A + 2 * PAGE, 0, name)]))
    with opened(core) as it:
        evidence = Evidence()
        area = Area(A, A + 2 * PAGE, "r--s", name, inode=7, device=(0, 1))
        evidence.believe(parse(maps_text([area]), "map"), {}, it.maps, "map")
        assert classifier_for(it, evidence=evidence).decide(0).kind == "shared-anonymous"


@pytest.mark.parametrize(
    ("begins", "flags", "kind"),
    [
        (b"SQLite format 3\0", "r--", "shared-file-backed"),
        (b"SQlite format 3\0", "r--", "private-file-backed"),
        (b"\0SQLite format 3", "r--", "private-file-backed"),
    ],
)
def test_a_database_is_guessed_to_be_written_through_its_descriptor(begins: bytes, flags: str, kind: str) -> None:
    """That is a guess: by default it stays ambiguous, and is kept."""
    load = Load(A, begins.ljust(PAGE, b"."), flags=flags)
    core = make_core([HEAP, load], kernel_notes([FileEntry(A, A + PAGE, 0, "/home/me/History")]))
    assert look(core)[A].kind == kind
    assert kept(core, 0x4)[A] == kept(core, 0x8)[A] == PAGE


@pytest.mark.parametrize(
    ("begins", "flags", "kind"),
    [
        (b"\x7fELF", "rw-", "private-file-written"),
        (b"\x7fELF", "r--", "private-file-backed"),
        (b"\x7fELE", "rw-", "shared-file-backed"),
    ],
)
def test_an_elf_file_that_is_writable_was_loaded_and_changed(begins: bytes, flags: str, kind: str) -> None:
    """Nobody shares one for writing; other data that is writable is shared."""
    load = Load(A, begins.ljust(PAGE, b"."), flags=flags)
    assert look(make_core([HEAP, load], kernel_notes([FileEntry(A, A + PAGE, 0, "/home/me/object")])))[A].kind == kind


@pytest.mark.parametrize(
    ("path", "pages"),
    [
        ("/memfd:region (deleted)", 1),
        ("/usr/lib/emacs/emacs.pdmp", 1),
        ("/home/me/program.exe", 1),
        ("/home/me/library.dll", 0),
        ("/home/me/table", 0),
    ],
)
def test_which_files_are_guessed_to_have_an_executable_mode(path: str, pages: int) -> None:
    core = with_files((A, path, "r--"))
    assert kept(core, 0x10, "guess")[A] == pages * PAGE
    assert kept(core, 0x10)[A] == PAGE
    assert kept(core, 0x10, "drop")[A] == 0


@pytest.mark.parametrize(
    ("load", "named", "machine", "kind"),
    [
        (Load(A, page(b"code"), flags="r-x"), True, None, "private-anonymous"),
        (Load(A, page(b"code"), flags="r-x"), True, EM_AARCH64, "private-anonymous"),
        (Load(A, page(b"code"), flags="r-x"), True, EM_ARM, "special"),
        (Load(A, page(b"code"), flags="rwx"), True, EM_ARM, "private-anonymous"),
        (Load(A, page(b"text", 2), flags="r-x"), False, None, "private-file-backed"),
        (Load(A, page(b"text", 2), flags="r--"), False, None, "private-file-backed"),
        (Load(A, page(b"heap", 2), flags="rw-"), False, None, "private-anonymous"),
        (Load(A, page(b"heap", 2), flags="rwx"), False, None, "private-anonymous"),
    ],
)
def test_what_unnamed_mappings_are_guessed_to_be(load: Load, named: bool, machine: int | None, kind: str) -> None:
    shape = {} if machine is None else {"machine": machine, "bits": 32 if machine == EM_ARM else 64}
    core = make_core([HEAP, load], kernel_notes([] if named else None, **shape), **shape)  # type: ignore[arg-type]
    assert look(core)[A].kind == kind


@pytest.mark.parametrize(
    ("present", "anonymous", "kind"),
    [(0, 0, "not-dumped"), (0, None, "private-anonymous"), (1, 0, "private-anonymous")],
)
def test_memory_without_pages_was_never_written_to(present: int, anonymous: int | None, kind: str) -> None:
    """What has bytes in the core was dumped, and where smaps do not count pages nothing is known."""
    load = Load(A, page(b"x", 2) if present else b"", memsz=2 * PAGE)
    core = make_core([load], kernel_notes([]))
    fields = {"anonymous": anonymous} if anonymous is not None else {"anonymous": None, "swap_pss": None}
    area = Area(A, A + 2 * PAGE, "rw-p", **fields)  # type: ignore[arg-type]
    with opened(core) as it:
        evidence = Evidence()
        evidence.believe(parse(smaps_text([area]), "map"), {}, it.maps, "map")
        assert classifier_for(it, evidence=evidence).decide(0).kind == kind


@pytest.mark.parametrize("machine", [EM_AARCH64, EM_ARM])
def test_where_the_evidence_contradicts_itself_memory_that_is_there_is_guessed_anonymous(machine: int) -> None:
    """Neither special nor excluded: --unknown guess would always keep it, or always drop it."""
    shape = {"machine": machine, "bits": 32 if machine == EM_ARM else 64}
    core = make_core([Load(A, page(b"x"))], kernel_notes([], **shape), **shape)  # type: ignore[arg-type]
    with opened(core) as it:
        evidence = Evidence()
        area = Area(A, A + PAGE, "rw-p", flags="rd wr mr mw me dd")
        evidence.believe(parse(smaps_text([area]), "map"), {}, it.maps, "map")
        found = classifier_for(it, evidence=evidence).decide(0)
        assert found.contradiction
        assert found.kind == "private-anonymous"


@pytest.mark.parametrize(
    ("perms", "flags", "anonymous", "kind"),
    [
        ("rw-p", "rd wr mr mw me ac", 0, "private-file-backed"),
        ("rw-p", "rd wr mr mw me ac", None, "private-file-written"),
        ("rw-p", None, 0, "private-file-backed"),
        ("r--s", None, 0, "private-file-backed"),
        ("---s", None, 0, "shared-file-backed"),
        ("r-xp", "rd ex mr mw me ac", 0, "private-file-backed"),
    ],
)
def test_a_file_without_copied_pages_was_not_written_to(
    perms: str, flags: str | None, anonymous: int | None, kind: str
) -> None:
    """Of what is shared that tells nothing, for it has no copies."""
    load, files = Load(A, page(b"data", 2), flags=perms[:3]), [FileEntry(A, A + 2 * PAGE, 0, "/data/table")]
    area = Area(A, A + 2 * PAGE, perms, "/data/table", inode=7, device=(8, 1), flags=flags, anonymous=anonymous)
    if anonymous is None:
        area = replace(area, swap_pss=None)
    with opened(make_core([load], kernel_notes(files))) as it:
        evidence = Evidence()
        evidence.believe(parse(smaps_text([area]), "map"), {}, it.maps, "map")
        assert classifier_for(it, evidence=evidence).decide(0).kind == kind


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ("rd ex mr mw me ac", "private-file-written"),
        ("rd ex mr mw me nr", "private-file-backed"),
        (None, "private-file-backed"),
    ],
)
def test_text_that_is_set_apart_was_written_to_if_it_is_charged(flags: str | None, kind: str) -> None:
    """mprotect to make it writable leaves VM_ACCOUNT (ac); without it, something else set the mapping apart."""
    loads = [HEAP, Load(A, page(b"text", 2), flags="r-x"), Load(A + 2 * PAGE, page(b"more", 2), flags="r-x")]
    files = [FileEntry(at, at + 2 * PAGE, at - A, "/data/code") for at in (A, A + 2 * PAGE)]
    areas = [
        Area(at, at + 2 * PAGE, "r-xp", "/data/code", offset=at - A, inode=7, device=(8, 1), flags=flags)
        for at in (A, A + 2 * PAGE)
    ]
    with opened(make_core(loads, kernel_notes(files))) as it:
        evidence = Evidence()
        evidence.believe(parse(smaps_text(areas), "map"), {}, it.maps, "map")
        found = classifier_for(it, evidence=evidence)
        assert {found.decide(m).kind for m in range(len(it.maps)) if it.maps.start(m) >= A} == {kind}


# --- names ----------------------------------------------------------------------------------------------------

FILE = {"private-file-backed", "private-file-written", "shared-file-backed"}


@pytest.mark.parametrize(
    "path",
    ["/SYSV0000002a", "/memfd:jit", "/data/SYSV0000002a", "/data/memfd:jit", "/dev/shmem/sem.a", "/dev/shm/mysem."],
)
def test_what_is_not_called_deleted_or_lies_elsewhere_is_a_file(path: str) -> None:
    """The kernel's own files have no link, so that their names end in (deleted)."""
    assert could_be(with_files((A, path, "rw-")), A) == FILE


@pytest.mark.parametrize("path", ["/data/SYSV0000002a (deleted)", "/data/memfd:java_heap (deleted)"])
def test_a_deleted_file_of_such_a_name_is_a_file(path: str) -> None:
    assert could_be(with_files((A, path, "rw-")), A) == FILE | {"shared-anonymous"}


def test_shared_memory_has_no_link() -> None:
    for path in ("/SYSV0000002a (deleted)", "/memfd:jit (deleted)"):
        assert "shared-file-backed" not in could_be(with_files((A, path, "r--")), A)
    assert "private-file-written" in could_be(with_files((A, "/memfd:jit (deleted)", "r--")), A)
    assert "private-file-written" not in could_be(with_files((A, "/SYSV0000002a (deleted)", "r--")), A)


def test_what_a_file_backs_is_no_stack_whatever_points_into_it() -> None:
    load = Load(A, page(b"data", 2))
    core = make_core([HEAP, load], kernel_notes([(A, A + 2 * PAGE, 0, "/data/table")], {AT_RANDOM: A + 8}))
    assert could_be(core, A) == FILE
