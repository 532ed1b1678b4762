"""What each witness from beside the core decides, that nothing else would, and what it must not decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.builder import AT_SYSINFO_EHDR, Image, Load, elf_image, kernel_notes, make_core, page
from support.maps import Area, maps_text, smaps_text
from support.opening import opened
from support.samples import HEAP, HUGE, PAGE, VDSO, VDSO_LOAD
from support.strategies import FILTERS, cores

from corefilt.classify import rules_evidence as witnesses
from corefilt.classify.classifier import DISBELIEVED, classifier_for
from corefilt.corefile.corefilt_note import Record, decode, encode, note_size
from corefilt.corefile.mappings import flags_text
from corefilt.errors import EvidenceError
from corefilt.evidence.evidence import Copy, Evidence
from corefilt.filterbits import Bit
from corefilt.kinds import NAMES, WHOLE, Basis, Classification, Kind, name_of, single
from corefilt.procfs.maps import parse
from corefilt.procfs.snapshot import FileFacts

A, B = 0x10001000, 0x20001000
SIZE = 2 * PAGE
TEXT = page(b"text", 2)
ELF = elf_image([Image(0, 0x0F00, "r-x"), Image(0x1000, 0x1000, "rw-")], size=SIZE)
TABLE = "/data/table"
MEMORY = Area(HEAP.vaddr, HEAP.vaddr + SIZE, path="[heap]")
PRIVATE, SHARED = "rd wr mr mw me ac sd", "rd wr sh mr mw me ms sd"
BOTH_PRIVATE = "private-file-backed private-file-written"


FILE = Load(A, TEXT)


@dataclass(frozen=True)
class Case:
    """What is said of the mapping at A, or another address, by a heap's and its own line of a map and more."""

    rule: str
    claim: str
    certainty: str
    kinds: str
    sources: int
    load: Load = FILE
    path: str | None = TABLE
    offset: int = PAGE
    area: Area | None = None
    more: Sequence[tuple[Load, Area]] = ()
    detailed: bool = False
    facts: FileFacts | None = None
    record: Record | None = None
    copy: Copy | None = None
    header: str = "-"
    piped: bool = False
    named: bool = True
    whole: bool = True
    auxv: dict[int, int] = field(default_factory=dict)


def facts(
    *, linked: bool = True, executable: bool = False, dax: bool | None = None, huge: bool | None = None
) -> FileFacts:
    return FileFacts(linked=linked, executable=executable, dax=dax, huge=huge)


def copied(
    *, differs: int | None = None, same: bool = False, executable: bool = False, first: bytes | None = None
) -> Copy:
    copy = Copy(None)
    copy.differs, copy.same, copy.executable, copy.first = differs, same, executable, first
    return copy


def record(kinds: str, certainty: str = "exact", *, proven: str | None = None, sources: int = Basis.FILES) -> Record:
    possible, certain = (
        sum(NAMES[name] for name in names.split()) for names in (kinds, kinds if proven is None else proven)
    )
    possible &= ~Kind.HEADED | Kind.DAX
    certain = certain & ~Kind.HEADED | possible
    return Record(possible, certain, single(possible)[0], certainty, sources)


def area_of(load: Load, perms: str = "p", **options: object) -> Area:
    """Return the line of a map for a segment, of a file unless it is said otherwise."""
    end = load.vaddr + (len(load.data) if load.memsz is None else load.memsz)
    fields: dict[str, object] = {"path": TABLE, "offset": PAGE, "device": (8, 1), "inode": 7, **options}
    return Area(load.vaddr, end, load.flags + perms, **fields)  # type: ignore[arg-type]


def finding(case: Case) -> Classification:
    """Return what is found of the case's mapping now."""
    area = area_of(case.load) if case.area is None else case.area
    rows = sorted([(HEAP, MEMORY), (case.load, area), *case.more], key=lambda row: row[0].vaddr)
    files = [
        (row.start, row.end, row.offset if line is not case.load else case.offset, row.path)
        for line, row in rows
        if row.inode
    ]
    if case.path is not None:
        files = [entry if entry[0] != case.load.vaddr else (*entry[:3], case.path) for entry in files]
    core = make_core([load for load, _ in rows], kernel_notes(files if case.named else None, case.auxv))
    areas = [row for _, row in rows if case.whole or row is not MEMORY]
    with opened(core, piped=case.piped) as it:
        evidence = Evidence()
        map_ = parse((smaps_text if case.detailed else maps_text)(areas), "map")
        at = next(i for i, row in enumerate(areas) if row is area)
        evidence.believe(map_, {at: case.facts} if case.facts is not None else {}, it.maps, "map")
        m = next(m for m in range(len(it.maps)) if it.maps.start(m) == case.load.vaddr)
        if case.record is not None:
            evidence.records = {m: case.record}
        if case.copy is not None:
            evidence.copies = {m: case.copy}
        return classifier_for(it, evidence=evidence).decide(m)


def could_be(found: Classification) -> str:
    return " ".join(sorted({found.kind, *found.others()}))


def header_bit(found: Classification) -> str:
    """Return what bit 4 alone keeps: nothing, a page or the whole, and ? where that is open."""
    least, _, most = found.levels(Bit.ELF_HEADERS)
    return "-hW"[most] + "?" * (least != most)


def said(case: Case) -> tuple[str, str, str, int]:
    found = finding(case)
    return found.certainty, could_be(found), header_bit(found), found.sources


def expected(case: Case) -> tuple[str, str, str, int]:
    return case.certainty, case.kinds, case.header, case.sources


CORE, MAPS, SMAPS, FILES, SYSROOT = Basis.CORE, Basis.MAPS, Basis.SMAPS, Basis.FILES, Basis.SYSROOT
CODE = Load(A, page(b"code"), flags="r-x")
READ = Load(A, TEXT, flags="r--")
BIG = Load(2 * HUGE, page(b"big", 512))
NOT_THERE = Load(A, memsz=SIZE)


def of_file(rule: str, claim: str, certainty: str, kinds: str, sources: int, **options: object) -> Case:
    """Make a case of a readable mapping of a file, by smaps."""
    area = options.pop("area", None) or area_of(READ, flags="rd mr mw me ac sd")
    return Case(rule, claim, certainty, kinds, sources, load=READ, area=area, detailed=True, **options)  # type: ignore[arg-type]


CASES = [
    *(
        Case(
            "named_by_kernel", f"{name} is special", "exact", "special", CORE | MAPS, CODE, None, area=area, header="W"
        )
        for name in ("[uprobes]", "[sigpage]", "[vdso]", "[unheard of]")
        for area in [Area(A, A + PAGE, "r-xp", name)]
    ),
    *(
        Case(
            "named_by_kernel",
            f"{name or 'no name'} is memory",
            "exact",
            "private-anonymous",
            CORE | MAPS,
            CODE,
            None,
            area=Area(A, A + PAGE, "r-xp", name),
        )
        for name in ("[heap]", "[anon:jit]", "[stack:42]", "")
    ),
    Case(
        "named_by_kernel",
        "a file is no memory, also where NT_FILE is missing",
        "assumed",
        f"{BOTH_PRIVATE}",
        CORE | MAPS,
        named=False,
        whole=False,
        more=[(Load(B, TEXT), area_of(Load(B, TEXT)))],
        header="h?",
    ),
    Case("sharing", "private", "assumed", BOTH_PRIVATE, CORE | MAPS),
    Case(
        "sharing",
        "shared and writable",
        "inferred",
        "shared-file-backed",
        CORE | MAPS,
        area=area_of(Load(A, TEXT), "s"),
    ),
    Case(
        "sharing",
        "shared of a descriptor that can write",
        "inferred",
        "shared-file-backed",
        CORE | SMAPS,
        load=READ,
        area=area_of(READ, "s", flags="rd sh mr mw me ms sd"),
        detailed=True,
    ),
    Case(
        "sharing",
        "shared of a descriptor that cannot write",
        "inferred",
        "private-file-backed",
        CORE | SMAPS,
        load=READ,
        area=area_of(READ, "s", flags="rd mr me ms sd"),
        detailed=True,
    ),
    *(
        Case(
            "flags",
            f"{flag} is not dumped",
            "exact",
            "not-dumped",
            SMAPS,
            NOT_THERE,
            None,
            area=Area(A, A + SIZE, flags=f"{PRIVATE} {flag}"),
            detailed=True,
        )
        for flag in ("dd", "dp")
    ),
    Case(
        "flags",
        "io is not dumped",
        "inferred",
        "not-dumped",
        CORE | SMAPS,
        NOT_THERE,
        area=area_of(NOT_THERE, "s", flags=f"{SHARED} io pf"),
        detailed=True,
    ),
    Case(
        "flags",
        "ht is huge",
        "exact",
        "shared-huge",
        CORE | SMAPS,
        BIG,
        area=area_of(BIG, "s", flags=f"{SHARED} ht", page_size=None, offset=HUGE),
        offset=HUGE,
        detailed=True,
    ),
    Case(
        "flags",
        "huge without sh is private, whatever was asked for",
        "exact",
        "private-huge",
        CORE | SMAPS,
        replace(BIG, flags="r--"),
        area=area_of(replace(BIG, flags="r--"), "s", flags="rd mr me ms ht", page_size=None, offset=HUGE),
        offset=HUGE,
        detailed=True,
    ),
    Case(
        "flags",
        "without ht it is not huge",
        "inferred",
        "shared-file-backed",
        CORE | SMAPS,
        BIG,
        area=area_of(BIG, "s", flags=SHARED, page_size=None, offset=HUGE),
        offset=HUGE,
        detailed=True,
    ),
    Case(
        "flags",
        "ss is memory",
        "exact",
        "private-anonymous",
        CORE | SMAPS,
        path=None,
        area=Area(A, A + SIZE, flags=f"{PRIVATE} ss"),
        detailed=True,
    ),
    Case(
        "flags",
        "mt is not DAX",
        "exact",
        "shared-anonymous",
        CORE | SMAPS | FILES,
        path=f"{TABLE} (deleted)",
        area=area_of(Load(A, TEXT), "s", flags=f"{SHARED} mt"),
        detailed=True,
        facts=facts(linked=False),
    ),
    *(
        Case(
            "page_size",
            f"{size >> 10} kB are huge pages",
            "inferred",
            "shared-huge",
            CORE | SMAPS,
            BIG,
            area=area_of(BIG, "s", flags=None, page_size=size, offset=HUGE),
            offset=HUGE,
            detailed=True,
        )
        for size in (64 << 10, 2 << 20, 1 << 30)
    ),
    Case(
        "page_size",
        "4 kB are none",
        "inferred",
        "shared-file-backed",
        CORE | SMAPS,
        BIG,
        area=area_of(BIG, "s", flags=None, offset=HUGE),
        offset=HUGE,
        detailed=True,
    ),
    of_file(
        "own_pages",
        "Anonymous",
        "inferred",
        "private-file-written",
        CORE | SMAPS,
        area=area_of(READ, flags="rd mr mw me ac sd", anonymous=4),
    ),
    of_file(
        "own_pages",
        "SwapPss",
        "inferred",
        "private-file-written",
        CORE | SMAPS,
        area=area_of(READ, flags="rd mr mw me ac sd", swap=4, swap_pss=4),
    ),
    of_file(
        "own_pages",
        "Swap alone",
        "inferred",
        "private-file-written",
        CORE | SMAPS,
        area=area_of(READ, flags="rd mr mw me ac sd", swap=4, swap_pss=None),
    ),
    Case(
        "not_excluded",
        "memory with pages of its own, of which the core has none",
        "exact",
        "private-anonymous",
        SMAPS,
        NOT_THERE,
        None,
        area=area_of(NOT_THERE, path="", offset=0, inode=0, device=(0, 0), flags="rd wr mr mw me ac", anonymous=4),
        detailed=True,
    ),
    Case(
        "device",
        "not huge, by another mapping on the same device",
        "inferred",
        "shared-file-backed",
        CORE | MAPS,
        BIG,
        area=area_of(BIG, "s", offset=HUGE),
        offset=HUGE,
        more=[(Load(B, TEXT), area_of(Load(B, TEXT), "s", path="/elsewhere/file"))],
    ),
    Case(
        "device",
        "huge, by the name of another mapping on the same device",
        "exact",
        "shared-huge",
        CORE | MAPS,
        BIG,
        area=area_of(BIG, "s", offset=HUGE, device=(0, 15)),
        offset=HUGE,
        more=[
            (
                replace(BIG, vaddr=6 * HUGE),
                area_of(replace(BIG, vaddr=6 * HUGE), "s", path="/anon_hugepage (deleted)", offset=0, device=(0, 15)),
            )
        ],
    ),
    *(
        Case(
            "device",
            f"huge, a {path} that is not on the one tmpfs",
            "inferred",
            "shared-huge",
            CORE | MAPS,
            BIG,
            path,
            area=area_of(BIG, "s", path=path, offset=HUGE, device=(0, 15)),
            offset=HUGE,
            more=[
                (Load(B, TEXT), area_of(Load(B, TEXT), "s", path="/dev/zero (deleted)", offset=0, device=(0, 1))),
            ],
        )
        for path in ("/memfd:big (deleted)", "/SYSV0000002a (deleted)")
    ),
    Case(
        "links",
        "another name is left of what seems to be deleted",
        "inferred",
        "shared-file-backed",
        CORE | MAPS | FILES,
        path=f"{TABLE} (deleted)",
        area=area_of(Load(A, TEXT), "s", path=f"{TABLE} (deleted)"),
        facts=facts(),
    ),
    Case(
        "links",
        "no name is left",
        "inferred",
        "shared-anonymous",
        CORE | MAPS | FILES,
        path=f"{TABLE} (deleted)",
        area=area_of(Load(A, TEXT), "s"),
        facts=facts(linked=False),
    ),
    Case(
        "mode",
        "an executable file's first page",
        "assumed",
        "private-file-backed private-file-written",
        CORE | MAPS | FILES,
        READ,
        offset=0,
        area=area_of(READ, offset=0),
        facts=facts(executable=True),
        header="h",
    ),
    Case(
        "mode",
        "a script that is not executable",
        "assumed",
        "private-file-backed private-file-written",
        CORE | MAPS | FILES,
        replace(READ, data=page(b"#!/bin/sh\n", 2)),
        offset=0,
        area=area_of(READ, offset=0),
        facts=facts(),
    ),
    Case(
        "mode",
        "an executable file's first page, unseen in a pipe",
        "inferred",
        "private-file-backed",
        CORE | MAPS | FILES,
        READ,
        offset=0,
        area=area_of(READ, offset=0),
        facts=facts(executable=True),
        header="h",
        piped=True,
    ),
    Case(
        "file_system",
        "on hugetlbfs",
        "exact",
        "shared-huge",
        CORE | MAPS | FILES,
        BIG,
        area=area_of(BIG, "s", offset=HUGE),
        offset=HUGE,
        facts=facts(huge=True),
    ),
    Case(
        "file_system",
        "neither on hugetlbfs nor by DAX",
        "exact",
        "shared-file-backed",
        CORE | MAPS | FILES,
        BIG,
        area=area_of(BIG, "s", offset=HUGE),
        offset=HUGE,
        facts=facts(huge=False, dax=False),
    ),
    Case(
        "file_system",
        "by DAX",
        "exact",
        "shared-dax",
        CORE | MAPS | FILES,
        area=area_of(Load(A, TEXT), "s"),
        facts=facts(dax=True),
    ),
    *(
        Case(
            "recorded",
            f"{kinds} as {certainty}",
            certainty,
            kinds,
            CORE | MAPS | FILES,
            record=record(kinds, certainty, proven=proven),
        )
        for kinds, certainty, proven in (
            ("private-file-written", "exact", None),
            ("private-file-written", "inferred", BOTH_PRIVATE),
            ("private-file-backed", "stated", BOTH_PRIVATE),
        )
    ),
    of_file(
        "never_writable",
        "neither charged nor unreserved",
        "inferred",
        "private-file-backed",
        CORE | SMAPS,
        area=area_of(READ, flags="rd mr mw me sd"),
    ),
    Case(
        "below_root",
        "a page differs from the very file",
        "inferred",
        "private-file-written",
        CORE | MAPS | SYSROOT,
        copy=copied(differs=PAGE, same=True),
    ),
    Case(
        "below_root",
        "a page differs from a file of the same name",
        "inferred",
        "private-file-written",
        CORE | MAPS | SYSROOT,
        copy=copied(differs=PAGE),
    ),
    Case(
        "below_root",
        "the file is executable",
        "assumed",
        "private-file-backed private-file-written",
        CORE | MAPS | SYSROOT,
        READ,
        offset=0,
        area=area_of(READ, offset=0),
        copy=copied(executable=True),
        header="h",
    ),
    Case(
        "below_root",
        "the file's first bytes, unseen in a pipe",
        "inferred",
        "private-file-backed",
        CORE | MAPS | SYSROOT,
        READ,
        offset=0,
        area=area_of(READ, offset=0),
        copy=copied(first=b"\x7fELF"),
        header="h",
        piped=True,
    ),
]


def names(case: Case) -> str:
    return f"{case.rule}: {case.claim}"


@pytest.mark.parametrize("case", CASES, ids=names)
def test_a_witness_decides(case: Case) -> None:
    assert said(case) == expected(case)


@pytest.mark.parametrize("rule", [rule.__name__ for rule in witnesses.WITNESSES])
def test_no_other_witness_would_decide_the_same(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every witness has a case whose answer is another one without it."""
    cases = [case for case in CASES if case.rule == rule]
    assert cases
    left = tuple(each for each in witnesses.WITNESSES if each.__name__ != rule)
    assert len(left) == len(witnesses.WITNESSES) - 1
    monkeypatch.setattr(witnesses, "WITNESSES", left)
    assert [case.claim for case in cases if said(case)[:3] != expected(case)[:3]]


def test_without_any_witness_nothing_of_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witnesses, "WITNESSES", ())
    for case in CASES:
        assert finding(case).sources & ~CORE == 0


# --- what is a proof, and what is a convention --------------------------------------------------------------


def proven(case: Case) -> set[str]:
    return {name_of(kind) for kind in single(finding(case).proven & ~Kind.DAX)}


@pytest.mark.parametrize(
    ("area", "kinds"),
    [
        pytest.param({"anonymous": 4}, "private-file-written", id="Anonymous is a proof"),
        pytest.param({"swap": 4, "swap_pss": 4}, "private-file-written", id="SwapPss is a proof"),
        pytest.param({"swap": 4, "swap_pss": None}, BOTH_PRIVATE, id="Swap alone is a convention"),
        pytest.param({"flags": "rd mr mw me sd"}, BOTH_PRIVATE, id="VmFlags without ac are a convention"),
    ],
)
def test_what_is_proven_of_written_pages(area: dict[str, object], kinds: str) -> None:
    case = of_file("", "", "", "", 0, area=area_of(READ, **{"flags": "rd mr mw me ac sd", **area}))
    assert proven(case) == set(kinds.split())


def test_the_very_file_proves_a_write_and_a_file_of_its_name_does_not() -> None:
    case = Case("", "", "", "", 0, copy=copied(differs=0, same=True))
    assert proven(case) == {"private-file-written"}
    assert proven(replace(case, copy=copied(differs=0))) == set(BOTH_PRIVATE.split())


@pytest.mark.parametrize("same", [False, True])
def test_a_shared_mapping_is_its_file_so_that_a_difference_came_later(same: bool) -> None:
    """The letter s rules out a copy; where the mapping cannot be written to, it may count as private or as shared."""
    case = Case("", "", "", "", 0, READ, area=area_of(READ, "s"), copy=copied(differs=0, same=same))
    assert could_be(finding(case)) == "private-file-backed shared-file-backed"


def test_the_mode_of_the_very_file_is_a_proof_and_that_of_its_name_is_not() -> None:
    case = Case("", "", "", "", 0, READ, offset=0, area=area_of(READ, offset=0))
    same = finding(replace(case, copy=copied(executable=True, same=True)))
    other = finding(replace(case, copy=copied(executable=True)))
    assert not same.proven & Kind.UNHEADED & ~Kind.DAX
    assert other.proven & Kind.UNHEADED
    assert same.possible == other.possible


def memory_that_is_absent(**options: object) -> Classification:
    """Return what is found of memory without a file of which the core holds nothing."""
    load = Load(A, b"", memsz=SIZE, flags="rw-")
    return finding(Case("", "", "", "", 0, load, None, area=Area(A, A + SIZE, **options), detailed=True))  # type: ignore[arg-type]


def test_memory_with_pages_of_its_own_is_dumped_unless_its_flags_say_otherwise() -> None:
    found = memory_that_is_absent(anonymous=8)
    assert (found.kind, found.certainty) == ("private-anonymous", "exact")
    for flag in ("dd", "dp", "io"):
        found = memory_that_is_absent(anonymous=8, flags=f"rd wr mr mw me ac {flag}")
        assert (found.kind, found.certainty) == ("not-dumped", "exact")
    # Without flags it may have been left out; that other memory was dumped then decides.
    found = memory_that_is_absent(anonymous=8, flags=None)
    assert (found.kind, found.certainty) == ("not-dumped", "inferred")


# --- what a witness must not decide -------------------------------------------------------------------------


def test_no_anonymous_pages_now_do_not_say_that_there_never_were() -> None:
    """MADV_DONTNEED, fork, and the half of a data segment that RELRO split off."""
    case = of_file("", "", "", "", 0, area=area_of(READ, flags="rd mr mw me ac sd", anonymous=0))
    assert could_be(finding(case)) == BOTH_PRIVATE


@pytest.mark.parametrize("flags", ["rd mr mw me ac sd", "rd mr mw me nr sd", "rd wr mr mw me sd", "rd mr mw me ht"])
def test_what_may_have_been_writable_may_have_been_written_to(flags: str) -> None:
    load = replace(READ, flags="rw-" if "wr" in flags.split() else "r--")
    case = Case("", "", "", "", 0, load, area=area_of(load, flags=flags), detailed=True)
    assert not any("without ac" in reason for reason in finding(case).evidence)


def test_swapped_pages_of_what_was_never_charged_leave_it_open() -> None:
    """Swap says it was written to, VmFlags that it cannot have been: both are conventions."""
    case = of_file("", "", "", "", 0, area=area_of(READ, flags="rd mr mw me sd", swap=4, swap_pss=None))
    assert could_be(finding(case)) == "private-file-written"


def test_shared_by_maps_but_not_writable_stays_open() -> None:
    """The descriptor may not have been able to write, and then the mapping counts as private."""
    case = Case("", "", "", "", 0, READ, area=area_of(READ, "s"))
    found = finding(case)
    assert (found.certainty, could_be(found)) == ("assumed", "private-file-backed shared-file-backed")
    assert could_be(
        finding(replace(case, load=replace(READ, flags="---"), area=area_of(replace(READ, flags="---"), "s")))
    ) == ("private-file-backed shared-file-backed")


def test_what_maps_does_not_call_deleted_may_have_no_link_left() -> None:
    """A file that was removed under another of overlayfs's names: only statx can tell."""
    case = Case("", "", "", "", 0, area=area_of(Load(A, TEXT), "s"))
    assert finding(case).certainty == "inferred"
    assert "shared-anonymous" in proven(case)


def test_a_pipe_does_not_show_whether_an_unexecutable_file_is_elf() -> None:
    case = Case("", "", "", "", 0, READ, offset=0, area=area_of(READ, offset=0), facts=facts(), piped=True)
    assert header_bit(finding(case)) == "h?"
    assert header_bit(finding(replace(case, load=replace(READ, data=ELF), piped=False))) == "h"


def test_a_file_that_was_not_used_says_why() -> None:
    case = Case("", "", "", "", 0, copy=Copy("was changed after the dump"))
    found = finding(case)
    assert "not compared with its file below --sysroot, which was changed after the dump" in found.evidence
    assert not found.sources & SYSROOT
    assert could_be(found) == BOTH_PRIVATE


def test_a_dax_device_need_not_answer_statx() -> None:
    load = Load(HUGE, page(b"x", 512))
    area = area_of(load, "s", path="/dev/dax0.0", offset=0, device=(0, 6))
    case = Case("", "", "", "", 0, load, "/dev/dax0.0", 0, area, facts=facts(dax=False, huge=False))
    assert could_be(finding(case)) == "shared-dax"


def test_larger_pages_than_the_cores_may_be_those_of_a_dax_device() -> None:
    area = area_of(BIG, "s", flags=None, page_size=2 << 20, path="/dev/dax0.0", offset=0)
    case = Case("", "", "", "", 0, BIG, "/dev/dax0.0", 0, area, detailed=True)
    assert could_be(finding(case)) == "shared-dax"


def test_a_hugetlbfs_that_is_a_memfd_of_another_program_stays_open() -> None:
    """Without a small mapping on the one tmpfs it is not known which device that is."""
    path = "/memfd:heap (deleted)"
    case = Case("", "", "", "", 0, BIG, path, HUGE, area_of(BIG, "s", path=path, offset=HUGE))
    assert could_be(finding(case)) == "shared-anonymous shared-huge"


@pytest.mark.parametrize("detailed", [False, True])
def test_a_map_that_says_nothing_new_leaves_the_answer(detailed: bool) -> None:
    """And a heap stays a heap."""
    case = Case("", "", "", "", 0, HEAP, None, area=MEMORY, more=[], detailed=detailed)
    with opened(make_core([HEAP], kernel_notes([]))) as it:
        evidence = Evidence()
        evidence.believe(parse((smaps_text if detailed else maps_text)([MEMORY]), "map"), {}, it.maps, "map")
        found = classifier_for(it, evidence=evidence).decide(0)
    assert (found.kind, found.certainty) == ("private-anonymous", "exact")
    assert case.load is HEAP


# --- contradictions -----------------------------------------------------------------------------------------


def contradicts(case: Case) -> None:
    found = finding(case)
    assert found.contradiction
    assert found.certainty == "assumed"
    assert "contradiction" in found.evidence[-1]
    assert max(found.levels(Bit.NONE)) == WHOLE


def test_memory_where_the_core_has_its_vdso() -> None:
    area = Area(VDSO, VDSO + len(VDSO_LOAD.data), "r-xp", "[heap]")
    contradicts(Case("", "", "", "", 0, VDSO_LOAD, None, area=area, auxv={AT_SYSINFO_EHDR: VDSO}))


@pytest.mark.parametrize("flag", ["dd", "dp", "io"])
def test_bytes_of_what_is_not_dumped(flag: str) -> None:
    area = Area(A, A + SIZE, flags=f"{PRIVATE} {flag}")
    contradicts(Case("", "", "", "", 0, Load(A, TEXT), None, area=area, detailed=True))


def test_special_mappings_have_bytes_whatever_their_flags_say() -> None:
    """[vvar] has io and dd."""
    load = Load(A, page(), flags="r--")
    area = Area(A, A + PAGE, "r--p", "[vvar]", flags="rd mr pf io de dd sd")
    found = finding(Case("", "", "", "", 0, load, None, area=area, detailed=True))
    assert (found.kind, found.certainty) == ("special", "exact")


def test_huge_pages_that_do_not_have_their_shape() -> None:
    area = area_of(Load(A, TEXT), "s", flags=f"{SHARED} ht")
    contradicts(Case("", "", "", "", 0, area=area, detailed=True))


def test_proofs_go_before_conventions() -> None:
    """A writable memfd is shared by convention, and maps says that this one is not."""
    found = finding(Case("", "", "", "", 0, path="/memfd:x (deleted)", area=area_of(Load(A, TEXT), "p")))
    assert not found.contradiction
    assert could_be(found) == BOTH_PRIVATE


def test_a_map_of_another_time_is_not_joined() -> None:
    """NT_FILE names no file where maps shows one: what is there now was mapped after the map was saved."""
    with opened(make_core([HEAP, Load(A, TEXT), Load(B, TEXT)], kernel_notes([]))) as it:
        evidence = Evidence()
        stale = area_of(Load(A, TEXT), "s", path="/dev/zero (deleted)")
        anonymous = area_of(Load(B, TEXT), path="", offset=0, device=(0, 0), inode=0)
        evidence.believe(parse(maps_text([MEMORY, stale, anonymous]), "map"), {}, it.maps, "map")
        assert evidence.area(1) is None
        assert "lacks 1 of 3 mappings" in evidence.notices[0]
        assert classifier_for(it, evidence=evidence).decide(1).kind == "private-anonymous"


def test_a_record_that_contradicts_the_core_is_set_aside() -> None:
    """Then the mapping is decided as if the note said nothing of it."""
    case = Case("", "", "", "", 0, record=record("private-anonymous"))
    found, without = finding(case), finding(replace(case, record=None))
    assert found.disbelieved and not found.contradiction
    assert DISBELIEVED in found.evidence
    assert (found.kind, found.certainty, found.possible) == (without.kind, without.certainty, without.possible)
    assert found.sources == without.sources


def test_what_is_assumed_is_the_most_without_the_least(tmp_path: Path) -> None:
    """Bit 4 keeps a page of a private script in any case; whether it was written to is open."""
    script = Load(A, page(b"#!/bin/sh", 3))
    core = make_core([HEAP, script], kernel_notes([(A, A + 3 * PAGE, 0, "/data/script")]))
    (tmp_path / "maps").write_bytes(maps_text([MEMORY, area_of(script, path="/data/script", offset=0)]))
    with opened(core) as it:
        plan = it.plan(0x11, maps=str(tmp_path / "maps"))
        assert (plan.kept(1), plan.assumed[1]) == (3 * PAGE, 2 * PAGE)


@pytest.mark.parametrize(("kinds", "perms"), [("shared-dax", "s"), ("private-dax", "p")])
def test_a_record_of_dax_alone_is_believed(kinds: str, perms: str) -> None:
    """It speaks for DAX as the file itself would, which is not what is left when all else is disproved."""
    case = Case("", "", "", "", 0, area=area_of(Load(A, TEXT), perms), record=record(kinds))
    found = finding(case)
    assert (found.kind, found.certainty, found.others()) == (kinds, "exact", [])
    assert not found.disbelieved


def test_a_record_and_a_map_that_contradict_each_other_leave_everything_open() -> None:
    """Nothing tells which of them is wrong."""
    found = finding(Case("", "", "", "", 0, record=record("shared-file-backed")))
    assert found.contradiction
    assert not found.disbelieved
    assert max(found.levels(Bit.NONE)) == WHOLE


def test_what_was_stated_is_not_stated_against_a_map() -> None:
    found = finding(Case("", "", "", "", 0, record=record("shared-file-backed", "stated")))
    assert found.contradiction
    assert found.certainty == "assumed"


def test_what_contradicts_itself_without_its_record_stays_a_contradiction() -> None:
    area = Area(A, A + SIZE, flags=f"{PRIVATE} dd")
    case = Case("", "", "", "", 0, Load(A, TEXT), None, area=area, detailed=True, record=record("special"))
    found = finding(case)
    assert found.contradiction
    assert max(found.levels(Bit.NONE)) == WHOLE


def test_a_record_decides_what_is_guessed() -> None:
    kinds = f"{BOTH_PRIVATE} shared-file-backed"
    shared = record(kinds, "assumed")
    shared.likely = Kind.SHARED_FILE
    area = area_of(READ)
    with opened(make_core([HEAP, READ], kernel_notes([(A, area.end, PAGE, TABLE)]))) as it:
        evidence = Evidence()
        evidence.records = {1: shared}
        assert classifier_for(it, evidence=evidence).decide(1).kind == "shared-file-backed"
        evidence.records = {}
        assert classifier_for(it, evidence=evidence).decide(1).kind == "private-file-backed"


def test_what_is_not_in_the_core_is_no_evidence_where_better_is_at_hand() -> None:
    """What an earlier run left out is not what the kernel left out."""
    case = Case("", "", "", "", 0, NOT_THERE, area=area_of(NOT_THERE, "p"), record=record("private-file-written"))
    assert (finding(case).kind, finding(case).certainty) == ("private-file-written", "exact")


# --- any evidence -----------------------------------------------------------------------------------------

FLAGS = st.none() | st.lists(
    st.sampled_from(["rd", "wr", "sh", "ht", "io", "dd", "dp", "ac", "nr", "ss", "mt"]), unique=True
).map(" ".join)
NUMBERS = st.sampled_from([None, 0, 4, 2048])
FACTS = st.none() | st.builds(
    FileFacts,
    linked=st.booleans(),
    executable=st.booleans(),
    dax=st.sampled_from([None, True, False]),
    huge=st.sampled_from([None, True, False]),
)
WORDS = st.sampled_from(
    ["", "[heap]", "[vdso]", "[uprobes]", "/data/a", "/memfd:x (deleted)", "/anon_hugepage (deleted)"]
)
COPIES = st.none() | st.builds(
    copied,
    differs=st.sampled_from([None, 0, PAGE]),
    same=st.booleans(),
    executable=st.booleans(),
    first=st.sampled_from([None, b"\x7fELF", b"text"]),
)


@settings(max_examples=60)
@given(core=cores(), data=st.data(), detailed=st.booleans(), piped=st.booleans(), wanted=FILTERS)
def test_whatever_lies_beside_a_core_findings_hold_together(
    core: bytes, data: st.DataObject, detailed: bool, piped: bool, wanted: int
) -> None:
    with opened(core, piped=piped) as it:
        areas = []
        for m in range(len(it.maps)):
            path = data.draw(WORDS)
            where = (it.maps.file_offset(m) or 0, (0, data.draw(st.integers(1, 2))), 7) if path[:1] == "/" else ()
            numbers = data.draw(st.tuples(NUMBERS, NUMBERS, NUMBERS, st.sampled_from([None, 4096, HUGE])))
            flags, perms = data.draw(FLAGS), flags_text(it.maps.flags(m)) + data.draw(st.sampled_from("sp"))
            offset, device, inode = where or (0, (0, 0), 0)
            areas.append(Area(it.maps.start(m), it.maps.end(m), perms, path, offset, device, inode, flags, *numbers))
        evidence = Evidence()
        map_ = parse((smaps_text if detailed else maps_text)(areas), "map")
        known = {i: each for i in range(len(areas)) if (each := data.draw(FACTS)) is not None}
        try:
            evidence.believe(map_, known, it.maps, "map")
        except EvidenceError:
            return
        evidence.copies = {m: each for m in range(len(areas)) if (each := data.draw(COPIES)) is not None}
        rules = classifier_for(it, evidence=evidence)
        findings = [rules.decide(m) for m in range(len(areas))]
        for each in findings:
            assert each.likely & each.possible and each.possible & ~each.proven == 0
            names = {each.kind, *each.others()}
            assert len(names) == 1 or each.certainty == "assumed"
            least, guess, most = each.levels(wanted)
            assert least <= guess <= most
            assert not each.contradiction or most == WHOLE
        # Every one of them can be recorded.
        rows = [(it.maps.start(m), it.maps.end(m), each) for m, each in enumerate(findings)]
        note = encode(it.ehdr, rows, note_size(len(rows), it.maps.page_size))
        assert len(decode(note[24:], it.ehdr)) == len(findings)
        # Like mappings have like findings, whichever is asked first.
        again = classifier_for(it, evidence=evidence)
        assert [again.decide(m).possible for m in reversed(range(len(areas)))] == [
            each.possible for each in reversed(findings)
        ]
