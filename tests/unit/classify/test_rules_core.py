"""What each rule decides, and that nothing else would decide it; what becomes of what stays open."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.builder import (
    AT_SYSINFO_EHDR,
    EM_386,
    EM_AARCH64,
    EM_ARM,
    EM_PPC,
    EM_X86_64,
    VSYSCALL,
    Image,
    Load,
    elf_image,
    kernel_notes,
    library,
    make_core,
    page,
)
from support.opening import kept, look, opened
from support.samples import HEAP, HUGE, LIBRARY, PAGE, VDSO, VDSO_AUXV, VDSO_LOAD, nameless, vvar_core
from support.strategies import FILTERS, cores

from corefilt.classify import classifier as findings
from corefilt.classify import rules_core as rules
from corefilt.errors import SelectorError
from corefilt.filterbits import Bit
from corefilt.plan.plan import Mapping

AT_ENTRY, AT_PLATFORM, AT_RANDOM, AT_EXECFN = 9, 15, 25, 31
A, B, C = 0x10001000, 0x20001000, 0x30001000
SHEBANG, TEXT = page(b"#!/bin/sh\n", 2), page(b"text", 2)
# As a file that is read looks: its segments do not begin where mappings do.
ELF = elf_image([Image(0, 0x0F00, "r-x"), Image(0x1000, 0x1000, "rw-")], size=2 * PAGE)
ANY_FILE = "private-file-backed private-file-written shared-file-backed"


def could_be(mapping: Mapping) -> str:
    """Return all kinds that are left, in order."""
    return " ".join(sorted({mapping.kind, *mapping.finding.others()}))


def header_bit(mapping: Mapping) -> str:
    """Return what bit 4 alone keeps: nothing, a page or the whole, and ? where that is open."""
    least, _, most = mapping.finding.levels(Bit.ELF_HEADERS)
    return "-hW"[most] + "?" * (least != most)


def mapped(address: int, path: str | bytes, data: bytes = TEXT, offset: int = 0, **options: object) -> bytes:
    """Make a core of one mapping of a file, and a heap that was dumped."""
    load = Load(address, data, **options)  # type: ignore[arg-type]
    end = address + (len(data) if load.memsz is None else load.memsz)
    return make_core([HEAP, load], kernel_notes([(address, end, offset, path)]))


def library_core(
    path: str = "/opt/app/lib.so", dropped: tuple[int, ...] = (), auxv: dict[int, int] | None = None, **options: object
) -> bytes:
    """Make a core with a shared library as ld.bfd lays it out; ``dropped`` mappings have no bytes."""
    loads, files = library(LIBRARY, path)
    loads = [replace(x, data=b"", memsz=len(x.data)) if i in dropped else x for i, x in enumerate(loads)]
    return make_core([HEAP, *loads], kernel_notes(files, auxv), **options)  # type: ignore[arg-type]


def partly_there(*, behind: bool, content: bytes = b"\x7fELF") -> bytes:
    """Make a core of one page of several, with or without memory behind it."""
    more = [Load(C, page(b"stack"))] if behind else []
    load = Load(A, page(content), memsz=4 * PAGE, flags="r-x")
    return make_core([HEAP, load, *more], kernel_notes([(A, A + 4 * PAGE, 0, "/data/lib")]))


def lld_core() -> bytes:
    """Make a core with a shared library as ld.lld lays it out: read-only, text, RELRO, data."""
    head = elf_image(
        [
            Image(0x0000, 0x1800, "r--"),
            Image(0x2800, 0x0700, "r-x", offset=0x1800),
            Image(0x3F00, 0x1100, "rw-", offset=0x1F00),
            Image(0x5F00, 0x0200, "rw-", offset=0x2F00, filesz=0x00F0),
        ],
        relro=(0x3F00, 0x1100),
        size=2 * PAGE,
    )
    pieces = [
        (0x0000, head, "r--", 0),
        (0x2000, page(b"text"), "r-x", 0x1000),
        (0x3000, page(b"relro", 2), "r--", 0x1000),
    ]
    pieces += [(0x5000, page(b"data"), "rw-", 0x2000)]
    loads = [Load(LIBRARY + at, data, flags=flags) for at, data, flags, _ in pieces]
    files = [(LIBRARY + at, LIBRARY + at + len(data), offset, "/opt/lld.so") for at, data, _, offset in pieces]
    return make_core([HEAP, *loads], kernel_notes(files))


def far_core(phoff: int, path: str = "/opt/bolted.so") -> bytes:
    """Make a core with a library whose program headers stand at ``phoff`` of a first segment of six pages."""
    segments = [Image(0, 6 * PAGE, "r-x"), Image(6 * PAGE, 2 * PAGE, "rw-", filesz=PAGE + 1)]
    head = elf_image(segments, phoff=phoff, size=6 * PAGE)
    data = LIBRARY + 6 * PAGE
    return make_core(
        [HEAP, Load(LIBRARY, head[: 6 * PAGE], flags="r-x"), Load(data, page(b"data", 2))],
        kernel_notes([(LIBRARY, data, 0, path), (data, data + 2 * PAGE, 6 * PAGE, path)]),
    )


def header_and_whole(whole: bytes = TEXT, offset: int = PAGE) -> bytes:
    """Make a core whose dump kept a header page of one file and the whole of another."""
    return make_core(
        [HEAP, Load(A, page(ELF), memsz=4 * PAGE, flags="r--"), Load(B, whole, flags="r--"), Load(C, page(b"stack"))],
        kernel_notes([(A, A + 4 * PAGE, 0, "/opt/partly"), (B, B + len(whole), offset, "/opt/wholly")]),
    )


def beside(shape: int, folder: str = "/mnt/pool") -> bytes:
    """Make a core with a file mapped in the shape of huge pages, and one in the same folder of another shape."""
    other = 4 * HUGE + shape
    return make_core(
        [Load(2 * HUGE, TEXT, memsz=HUGE), Load(4 * HUGE, TEXT, memsz=shape)],
        kernel_notes([(2 * HUGE, 3 * HUGE, 0, f"{folder}/a"), (4 * HUGE, other, 0, "/mnt/pool/b")]),
    )


def two_views(flags: str, path: str, offset: int = PAGE, *, text: bool = False, first: str = "r--") -> bytes:
    """Make a core in which one file is mapped twice, readable at A and with ``flags`` at B; with text of another."""
    loads = [Load(A, TEXT, flags=first), Load(B, TEXT, flags=flags)]
    files = [(A, A + len(TEXT), offset, path), (B, B + len(TEXT), offset, path)]
    if text:
        loads.append(Load(C, page(b"text", 2), flags="r-x"))
        files.append((C, C + 2 * PAGE, PAGE, "/opt/text"))
    return make_core([HEAP, *loads], kernel_notes(files))


def three_pieces(path: str, flags: str = "r--", step: int = PAGE, *, entries: bool = True) -> bytes:
    """Make a core of three mappings of one file that touch; with ``entries`` each has an entry of NT_FILE."""
    loads = [Load(A + at * PAGE, page(b"text"), flags=flags) for at in range(3)]
    files = [(A + at * PAGE, A + at * PAGE + PAGE, PAGE + at * step, path) for at in range(3)]
    return make_core([HEAP, *loads], kernel_notes(files if entries else [(A, A + 3 * PAGE, PAGE, path)]))


def library_twice(offset: int, flags: str) -> bytes:
    """Make a core with a library, of which a page at ``offset`` is mapped once more at B."""
    loads, files = library(LIBRARY, "/opt/lib.so")
    return make_core(
        [HEAP, Load(B, page(b"text"), flags=flags), *loads],
        kernel_notes([(B, B + PAGE, offset, "/opt/lib.so"), *files]),
    )


@dataclass(frozen=True)
class Case:
    """What is said of the mapping at an address; another answer without the rule."""

    rule: str
    claim: str
    core: bytes
    address: int
    certainty: str
    kinds: str
    header: str = "-"
    piped: bool = False


CASES = [
    Case(
        "present_bytes", "what has bytes was not excluded", nameless(HEAP), HEAP.vaddr, "inferred", "private-anonymous"
    ),
    Case(
        "gate", "[vsyscall]", nameless(HEAP, Load(VSYSCALL, page(b"v"), flags="--x")), VSYSCALL, "exact", "special", "W"
    ),
    Case(
        "gate",
        "[vectors] of ARM",
        make_core(
            [Load(0xFFFF0000, page(b"v"), flags="r-x")],
            kernel_notes([], bits=32, machine=EM_ARM),
            bits=32,
            machine=EM_ARM,
        ),
        0xFFFF0000,
        "exact",
        "special",
        "W",
    ),
    Case("vdso", "[vdso] by AT_SYSINFO_EHDR", nameless(VDSO_LOAD, auxv=VDSO_AUXV), VDSO, "exact", "special", "W"),
    Case(
        "vdso",
        "[vdso] without NT_FILE",
        nameless(VDSO_LOAD, named=False, auxv=VDSO_AUXV),
        VDSO,
        "exact",
        "special",
        "W",
    ),
    *(
        Case("stack", name, nameless(HEAP, auxv={key: HEAP.vaddr + 99}), HEAP.vaddr, "exact", "private-anonymous")
        for key, name in ((AT_RANDOM, "AT_RANDOM"), (AT_EXECFN, "AT_EXECFN"), (AT_PLATFORM, "AT_PLATFORM"))
    ),
    Case("vvar", "before [vdso]", vvar_core(b""), VDSO - 4 * PAGE, "inferred", "special", "W"),
    Case("vvar", "behind [vdso]", vvar_core(b""), VDSO + PAGE, "inferred", "special", "W"),
    Case("vvar", "unseen in a pipe", vvar_core(b"x"), VDSO - 4 * PAGE, "inferred", "special", "W", piped=True),
    Case(
        "no_file",
        "no name is no file",
        nameless(replace(HEAP, flags="r--")),
        HEAP.vaddr,
        "inferred",
        "private-anonymous",
    ),
    Case(
        "other_special",
        "a nameless ELF image is a [vdso]",
        nameless(HEAP, VDSO_LOAD),
        VDSO,
        "inferred",
        "special",
        "W",
    ),
    Case(
        "other_special",
        "memory that cannot be executed is none",
        nameless(HEAP),
        HEAP.vaddr,
        "inferred",
        "private-anonymous",
    ),
    Case(
        "has_file",
        "a file is not anonymous, nor without a link unless it says so",
        mapped(A, "/data/table"),
        A,
        "assumed",
        ANY_FILE,
        "h?",
    ),
    Case(
        "has_file",
        "a deleted file can be shared memory",
        mapped(A, "/data/table (deleted)"),
        A,
        "assumed",
        "private-file-backed private-file-written shared-anonymous shared-file-backed",
        "h?",
    ),
    Case(
        "partly_there",
        "one page of several is a header page of what was not written",
        partly_there(behind=True),
        A,
        "inferred",
        "private-file-backed",
        "h",
    ),
    Case(
        "partly_there",
        "the last one can be a written mapping that a limit cut",
        partly_there(behind=False),
        A,
        "assumed",
        "private-file-backed private-file-written",
        "h",
    ),
    Case(
        "partly_there",
        "a filter that cannot tell keeps the page of what may be shared",
        partly_there(behind=True, content=b"#!/bin/sh"),
        A,
        "assumed",
        "private-file-backed shared-file-backed",
        "h?",
    ),
    Case(
        "wholly_there",
        "whole, although private files were left out",
        header_and_whole(),
        B,
        "assumed",
        "private-file-written shared-file-backed",
    ),
    Case(
        "image_member",
        "RELRO of ld.bfd",
        library_core(),
        LIBRARY + 0x4000,
        "inferred",
        "private-file-written",
    ),
    Case("image_member", "data of ld.bfd", library_core(), LIBRARY + 0x5000, "inferred", "private-file-written"),
    Case("image_member", "text of ld.bfd", library_core(), LIBRARY + 0x1000, "inferred", "private-file-backed"),
    Case("image_member", "constants of ld.bfd", library_core(), LIBRARY + 0x3000, "inferred", "private-file-backed"),
    Case("image_member", "headers of ld.bfd", library_core(), LIBRARY, "inferred", "private-file-backed", "h"),
    Case("image_member", "text of ld.lld", lld_core(), LIBRARY + 0x2000, "inferred", "private-file-backed"),
    Case("image_member", "RELRO of ld.lld", lld_core(), LIBRARY + 0x3000, "inferred", "private-file-written"),
    Case("image_member", "data of ld.lld", lld_core(), LIBRARY + 0x5000, "inferred", "private-file-written"),
    Case(
        "image_member",
        "program headers behind the first page",
        far_core(5 * PAGE),
        LIBRARY + 6 * PAGE,
        "inferred",
        "private-file-written",
    ),
    Case(
        "image_member",
        "a program that is one segment",
        mapped(A, "/opt/one", elf_image([Image(0, 0x1F00, "r-x")], size=2 * PAGE), flags="r-x"),
        A,
        "inferred",
        "private-file-backed",
        "h",
    ),
    *(
        Case(
            "layout_member",
            f"{name} from a pipe",
            library_core(),
            LIBRARY + at,
            certainty,
            f"private-file-{kind}",
            header,
            piped=True,
        )
        for name, at, kind, header, certainty in (
            ("headers", 0, "backed", "h?", "assumed"),
            ("text", 0x1000, "backed", "-", "inferred"),
            ("constants", 0x3000, "backed", "-", "inferred"),
            ("RELRO", 0x4000, "written", "-", "inferred"),
            ("data", 0x5000, "written", "-", "inferred"),
        )
    ),
    *(
        Case(
            "first_page_left_out",
            f"{name} of {path}, whose headers were not dumped, entered at {auxv}",
            library_core(path, dropped=(0,), auxv=auxv),
            LIBRARY + at,
            certainty,
            kinds,
        )
        for name, at in (("data", 0x4000), ("text", 0x1000))
        for path, auxv, certainty, kinds in (
            ("/opt/app/lib.so", {}, "inferred", "private-file-written"),
            ("/opt/app/lib.so.6.0.1 (deleted)", {}, "inferred", "private-file-written"),
            ("/opt/app/program", {AT_ENTRY: LIBRARY + 0x1010}, "inferred", "private-file-written"),
            # It may have been no image: what is shared goes by another bit.
            ("/opt/app/table", {}, "assumed", "private-file-written shared-file-backed"),
            ("/opt/app/table", {AT_ENTRY: LIBRARY - 1}, "assumed", "private-file-written shared-file-backed"),
        )
    ),
    Case(
        "names",
        "/dev/zero is mapped privately",
        mapped(A, "/dev/zero", page(pages=2)),
        A,
        "assumed",
        "private-file-backed private-file-written",
    ),
    Case("names", "/dev/zero that is not zero was written", mapped(A, "/dev/zero"), A, "exact", "private-file-written"),
    Case(
        "names",
        "/dev/zero (deleted) is shared",
        mapped(A, "/dev/zero (deleted)"),
        A,
        "inferred",
        "shared-anonymous",
    ),
    Case(
        "names",
        "/anon_hugepage (deleted) is huge",
        mapped(HUGE, "/anon_hugepage (deleted)", memsz=HUGE),
        HUGE,
        "assumed",
        "private-huge shared-huge",
    ),
    *(
        Case("names", f"writable {path}", mapped(A, path), A, "inferred", "shared-anonymous")
        for path in ("/SYSV0000002a (deleted)",)
    ),
    Case(
        "names",
        "writable System V shared memory in the shape of huge pages",
        mapped(HUGE, "/SYSV0000002a (deleted)", memsz=HUGE),
        HUGE,
        "assumed",
        "shared-anonymous shared-huge",
    ),
    Case(
        "names",
        "a writable memfd can be private (QEMU's guest memory with share=off)",
        mapped(A, "/memfd:memory-backend-memfd (deleted)"),
        A,
        "assumed",
        "private-file-backed private-file-written shared-anonymous",
        "h?",
    ),
    Case(
        "names",
        "so can one of huge pages",
        mapped(HUGE, "/memfd:memory-backend-memfd (deleted)", memsz=HUGE),
        HUGE,
        "assumed",
        "private-file-backed private-file-written private-huge shared-anonymous shared-huge",
        "h?",
    ),
    *(
        Case("shared_names", path, mapped(A, path), A, certainty, kinds)
        for path, certainty, kinds in (
            ("/memfd:java_heap (deleted)", "inferred", "shared-anonymous"),
            ("/memfd:doublemapper (deleted)", "inferred", "shared-anonymous"),
            ("/dev/shm/PostgreSQL.123456", "inferred", "shared-file-backed"),
            ("/dev/shm/psm_0badcafe", "inferred", "shared-file-backed"),
            ("/dev/shm/sem.name", "inferred", "shared-file-backed"),
            # Its name is a second link, so that the deleted first one can have one left.
            ("/dev/shm/sem.a1b2c3 (deleted)", "assumed", "shared-anonymous shared-file-backed"),
            ("/dev/shm/pym-12-abc (deleted)", "inferred", "shared-anonymous"),
            ("/dev/shm/.org.chromium.Chromium.a1b2c3 (deleted)", "inferred", "shared-anonymous"),
        )
    ),
    *(
        Case(
            "names",
            f"read-only {path}",
            mapped(A, path, flags="r--"),
            A,
            "assumed",
            kinds,
            "h?",
        )
        for path, kinds in (
            ("/SYSV0000002a (deleted)", "private-file-backed shared-anonymous"),
            ("/memfd:jit (deleted)", "private-file-backed private-file-written shared-anonymous"),
        )
    ),
    *(
        Case("names", f"{path} is shared with the kernel", mapped(A, path), A, "inferred", "shared-file-backed")
        for path in ("/[aio] (deleted)", "anon_inode:[io_uring]", "anon_inode:kvm-vcpu:0", "socket:[42]")
    ),
    Case("names", "/dev/dax is DAX", mapped(HUGE, "/dev/dax0.0", memsz=HUGE), HUGE, "inferred", "shared-dax"),
    Case("no_dax", "another file is not", mapped(A, "/mnt/pmem/file", offset=PAGE), A, "assumed", ANY_FILE),
    Case("no_huge", "its length is not huge", beside(HUGE + PAGE), 4 * HUGE, "assumed", ANY_FILE, "h?"),
    Case("no_huge", "a file beside it is not huge", beside(HUGE + PAGE), 2 * HUGE, "assumed", ANY_FILE, "h?"),
    Case(
        "no_huge",
        "its place in the file is not huge",
        mapped(HUGE, "/huge/file", memsz=HUGE, offset=PAGE),
        HUGE,
        "assumed",
        ANY_FILE,
    ),
    Case(
        "system_file",
        "read-only everywhere",
        two_views("r--", "/usr/share/zoneinfo/UTC"),
        A,
        "inferred",
        "private-file-backed",
    ),
    Case("header_page", "an ELF file", mapped(A, "/data/lib", ELF), A, "assumed", ANY_FILE, "h?"),
    Case("header_page", "a script", mapped(A, "/data/run", SHEBANG, flags="r-x"), A, "assumed", ANY_FILE, "h?"),
    Case(
        "header_page",
        "data of the system",
        mapped(A, "/usr/share/locale/de.mo", TEXT),
        A,
        "assumed",
        ANY_FILE,
        "-",
    ),
    Case(
        "header_page",
        "data of the system, unseen in a pipe",
        two_views("rw-", "/usr/share/table", offset=0),
        A,
        "assumed",
        ANY_FILE,
        "-",
        piped=True,
    ),
    Case("headless", "not from offset 0", mapped(A, "/data/lib", ELF, PAGE, flags="r-x"), A, "assumed", ANY_FILE),
    Case("headless", "not readable", mapped(A, "/data/lib", ELF, flags="--x"), A, "assumed", ANY_FILE),
    Case(
        "thread_stack",
        "the first thread's",
        make_core([HEAP], kernel_notes(None, stack_pointers=[HEAP.vaddr + 99])),
        HEAP.vaddr,
        "inferred",
        "private-anonymous",
    ),
    Case(
        "thread_stack",
        "another thread's",
        make_core([HEAP], kernel_notes(None, stack_pointers=[1, 2, HEAP.vaddr])),
        HEAP.vaddr,
        "inferred",
        "private-anonymous",
    ),
    Case(
        "not_there",
        "memory without a file",
        nameless(HEAP, Load(A, memsz=2 * PAGE, flags="r--")),
        A,
        "inferred",
        "not-dumped",
    ),
    Case(
        "not_there",
        "a private file was not written to",
        make_core([HEAP, Load(A, memsz=2 * PAGE)], kernel_notes([(A, A + 2 * PAGE, PAGE, "/data/table")])),
        A,
        "assumed",
        "not-dumped private-file-backed shared-file-backed",
    ),
    Case(
        "not_there",
        "what is shared has a link",
        make_core(
            [Load(A, memsz=2 * PAGE), Load(B, TEXT)],
            kernel_notes(
                [(A, A + 2 * PAGE, PAGE, "/data/table (deleted)"), (B, B + 2 * PAGE, 0, "/dev/zero (deleted)")]
            ),
        ),
        A,
        "assumed",
        "not-dumped private-file-backed private-file-written shared-file-backed",
    ),
    Case("mapped_again", "text of a library", library_twice(0x1000, "r-x"), B, "inferred", "private-file-backed"),
    Case(
        "unwritable_image",
        "an ELF file that nobody loaded",
        mapped(A, "/data/lib", ELF, flags="r-x"),
        A,
        "assumed",
        "private-file-backed private-file-written",
        "h",
    ),
    Case(
        "set_apart",
        "a page of a system file between others that the kernel would have merged with it",
        three_pieces("/usr/lib/x/table"),
        A + PAGE,
        "assumed",
        "private-file-backed private-file-written",
    ),
    Case(
        "read_only_file",
        "a user's file that the process maps for reading only",
        two_views("r--", "/data/table", text=True),
        A,
        "assumed",
        "private-file-backed shared-file-backed",
    ),
    Case(
        "read_only_file",
        "not where text was left out: what is there was written, or is shared",
        two_views("r--", "/data/table"),
        A,
        "assumed",
        "private-file-backed private-file-written shared-file-backed",
    ),
    *(
        Case(
            "runtime_archive",
            f"{name} {flags}",
            mapped(A, f"/opt/runtime/{name}", offset=PAGE, flags=flags),
            A,
            certainty,
            kinds,
        )
        for name in ("classes.jsa", "emacs-abc.pdmp", "lib/sbcl.core", "boot.art", "boot.oat")
        for flags, certainty, kinds in (
            ("rw-", "inferred", "private-file-written"),
            ("r--", "assumed", "private-file-backed private-file-written"),
        )
    ),
]


def without(rule: str) -> tuple[object, ...]:
    """Return all rules but one."""
    left = tuple(each for each in rules.RULES if each.__name__ != rule)
    assert len(left) == len(rules.RULES) - 1
    return left


def said(case: Case) -> tuple[str, str, str]:
    """Return what is found of the case's mapping now."""
    mapping = look(case.core, piped=case.piped)[case.address]
    return mapping.certainty, could_be(mapping), header_bit(mapping)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.claim}")
def test_a_rule_decides(case: Case) -> None:
    assert said(case) == (case.certainty, case.kinds, case.header)


@pytest.mark.parametrize("rule", [rule.__name__ for rule in rules.RULES])
def test_no_other_rule_would_decide_the_same(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rule has a case whose answer is another one without it."""
    cases = [case for case in CASES if case.rule == rule]
    assert cases
    monkeypatch.setattr(findings, "RULES", without(rule))
    assert [case.claim for case in cases if said(case) != (case.certainty, case.kinds, case.header)]


# --- where a rule must not decide --------------------------------------------------------------------------


def test_the_gates_address_means_nothing_on_another_machine() -> None:
    core = make_core([HEAP, Load(VSYSCALL, page(b"v"), flags="r-x")], kernel_notes([]), machine=EM_AARCH64)
    assert look(core)[VSYSCALL].certainty == "assumed"


@pytest.mark.parametrize(
    ("core", "address"),
    [
        pytest.param(vvar_core(b"x"), VDSO - 4 * PAGE, id="not zero, before"),
        pytest.param(vvar_core(b"x"), VDSO + PAGE, id="not zero, behind"),
        pytest.param(vvar_core(b"", flags="rw-"), VDSO - 4 * PAGE, id="writable"),
        pytest.param(vvar_core(b"", gap=PAGE), VDSO - 5 * PAGE, id="not next to it"),
        pytest.param(vvar_core(b"x", pages=17), VDSO - 17 * PAGE, id="too large to be looked at"),
    ],
)
def test_what_is_not_vvar(core: bytes, address: int) -> None:
    assert could_be(look(core)[address]) == "private-anonymous"
    assert kept(core, "none")[address] == 0


def test_vvar_is_a_chain() -> None:
    """[vvar_vclock] touches [vvar], which touches [vdso]; one that is not zero does not break it."""
    chain = [
        Load(VDSO - 6 * PAGE, page(pages=2), flags="r--"),
        Load(VDSO - 4 * PAGE, page(b"x", 2), flags="r--"),
        Load(VDSO - 2 * PAGE, page(pages=2), flags="r--"),
    ]
    found = look(nameless(HEAP, *chain, VDSO_LOAD, auxv=VDSO_AUXV))
    assert [found[load.vaddr].kind for load in chain] == ["special", "private-anonymous", "special"]


def test_a_nameless_executable_page_stays_open() -> None:
    """It could be [sigpage] or [uprobes], or what a JIT compiler wrote."""
    mapping = look(nameless(HEAP, Load(A, page(b"code"), flags="r-x")))[A]
    assert (mapping.certainty, could_be(mapping)) == ("assumed", "private-anonymous special")
    arm = make_core(
        [Load(A, page(b"code"), flags="r-x")],
        kernel_notes([], bits=32, machine=EM_ARM),
        bits=32,
        machine=EM_ARM,
    )
    assert mapping.kind == "private-anonymous"
    assert look(arm)[A].kind == "special"


def test_silence_of_nt_file_proves_nothing_where_there_is_none() -> None:
    mapping = look(nameless(HEAP, named=False))[HEAP.vaddr]
    assert mapping.certainty == "assumed"
    assert {"private-anonymous", "shared-anonymous", "shared-file-backed", "private-file-written"} <= set(
        could_be(mapping).split()
    )


def test_partly_there_says_less_where_written_memory_was_left_out() -> None:
    load = Load(A, ELF[:PAGE], memsz=4 * PAGE, flags="r-x")
    core = make_core([load, Load(C, b"", memsz=PAGE)], kernel_notes([(A, A + 4 * PAGE, 0, "/data/lib")]))
    assert could_be(look(core)[A]) == "private-file-backed private-file-written"


def test_wholly_there_needs_a_header_page_beside_it() -> None:
    core = make_core([HEAP, Load(B, TEXT, flags="r--")], kernel_notes([(B, B + len(TEXT), PAGE, "/opt/wholly")]))
    assert "private-file-backed" in could_be(look(core)[B])


def test_one_page_that_is_all_of_a_mapping_may_be_its_header_page() -> None:
    assert "private-file-backed" in could_be(look(header_and_whole(page(b"one"), offset=0))[B])
    assert "private-file-backed" not in could_be(look(header_and_whole(page(b"one")))[B])


def test_whether_the_file_mapping_of_a_reading_program_was_written_to_stays_open() -> None:
    """A debugger maps libraries to read them: ELF magic, but the layout does not fit."""
    mapping = look(mapped(A, "/data/lib.so", ELF, flags="r-x"))[A]
    assert (mapping.certainty, could_be(mapping)) == ("assumed", "private-file-backed private-file-written")


def test_an_image_of_one_segment_must_be_as_long_as_its_mapping() -> None:
    image = elf_image([Image(0, 0x4F00, "r-x")], size=2 * PAGE)
    assert look(mapped(A, "/data/one", image, flags="r-x"))[A].certainty == "assumed"


def test_program_headers_outside_the_mapping_are_not_looked_for() -> None:
    """The layout of the segments does not stand in: the headers are there, and do not say."""
    mapping = look(far_core(8 * PAGE))[LIBRARY + 6 * PAGE]
    assert (mapping.certainty, could_be(mapping)) == ("assumed", ANY_FILE)


def test_a_stranger_between_an_images_segments_does_not_belong_to_it() -> None:
    """The same file mapped a second time, at an offset that does not fit the place."""
    loads, files = library(LIBRARY, "/opt/lib.so")
    second = Load(LIBRARY + 0x10000, page(b"relro"), flags="r--")
    core = make_core(
        [HEAP, *loads, second],
        kernel_notes([*files, (second.vaddr, second.vaddr + PAGE, 0x4000, "/opt/lib.so")]),
    )
    found = look(core)
    assert found[LIBRARY + 0x4000].certainty == "inferred"
    assert found[second.vaddr].certainty == "assumed"


@pytest.mark.parametrize(
    ("offset", "flags"),
    [
        pytest.param(0x4000, "r--", id="what the image writes to"),
        pytest.param(0x1000, "rwx", id="writable here"),
        pytest.param(0x9000, "r--", id="behind its segments"),
    ],
)
def test_what_of_an_image_that_is_mapped_again_stays_open(offset: int, flags: str) -> None:
    assert look(library_twice(offset, flags))[B].certainty == "assumed"


@pytest.mark.parametrize(
    ("flags", "pointer", "named"),
    [
        pytest.param("r--", HEAP.vaddr, False, id="not writable"),
        pytest.param("rw-", HEAP.vaddr - 1, False, id="before it"),
        pytest.param("rw-", HEAP.vaddr + len(HEAP.data), False, id="behind it"),
        pytest.param("rw-", HEAP.vaddr, True, id="with NT_FILE"),
    ],
)
def test_where_no_stack_pointer_speaks(flags: str, pointer: int, named: bool) -> None:
    heap = replace(HEAP, flags=flags)
    core = make_core([heap], kernel_notes([] if named else None, stack_pointers=[pointer]))
    assert not any("stack pointer" in reason for reason in look(core)[HEAP.vaddr].evidence)


def test_a_stack_speaks_for_no_other_memory() -> None:
    """Mappings that look the same are not the same where a stack pointer points into one of them."""
    other = replace(HEAP, vaddr=A)
    for pointer, stack, memory in ((A, A, HEAP.vaddr), (HEAP.vaddr, HEAP.vaddr, A)):
        found = look(make_core([HEAP, other], kernel_notes(None, stack_pointers=[pointer])))
        assert could_be(found[stack]) == "private-anonymous"
        assert "shared-anonymous" in could_be(found[memory])


@pytest.mark.parametrize(
    ("others", "path"),
    [
        pytest.param([], None, id="nothing was dumped"),
        pytest.param([Load(B, TEXT, flags="r--")], None, id="nothing that was written"),
        pytest.param([HEAP], "/data/table (deleted)", id="nothing that is shared"),
    ],
)
def test_what_was_not_dumped_stays_open_where_nothing_like_it_was(others: list[Load], path: str | None) -> None:
    files = [(A, A + 2 * PAGE, PAGE, path)] if path else []
    mapping = look(make_core([Load(A, memsz=2 * PAGE), *others], kernel_notes(files)))[A]
    assert mapping.certainty == "assumed"
    assert ("shared-anonymous" if path else "private-anonymous") in could_be(mapping)


@pytest.mark.parametrize(
    ("path", "data", "offset", "flags"),
    [
        pytest.param("/data/lib", ELF, 0, "rw-", id="writable"),
        pytest.param("/data/lib", TEXT, 0, "r--", id="no ELF"),
        pytest.param("/data/lib", ELF, PAGE, "r--", id="not from its begin"),
        pytest.param("/data/classes.jsa.bak", TEXT, 0, "rw-", id="another ending"),
        pytest.param("/data/mysbcl.core", TEXT, 0, "rw-", id="another name"),
    ],
)
def test_files_of_which_nothing_says_that_they_are_private(path: str, data: bytes, offset: int, flags: str) -> None:
    assert "shared-file-backed" in could_be(look(mapped(A, path, data, offset, flags=flags))[A])


@pytest.mark.parametrize(
    ("path", "flags", "content"),
    [
        pytest.param("/usr/local/share/table", "r-x", TEXT, id="not of a package"),
        pytest.param("/home/me/table", "r-x", TEXT, id="elsewhere"),
        pytest.param("/usr/share/table", "rw-", TEXT, id="writable somewhere"),
        pytest.param("/usr/lib/wine/ntdll.dll", "r--", TEXT, id="PE by its name"),
        pytest.param("/usr/lib/wine/program.exe", "r--", TEXT, id="PE program"),
    ],
)
def test_where_no_system_file_speaks(path: str, flags: str, content: bytes) -> None:
    assert could_be(look(two_views(flags, path))[A]) == ANY_FILE


def test_pe_files_are_told_by_their_magic() -> None:
    """Wine relocates a section and makes it unwritable; any name can hide it."""
    path = "/usr/lib/wine/fakedlls/thing"
    core = make_core(
        [HEAP, Load(A, page(b"MZ\x90", 2), flags="r--"), Load(B, TEXT, flags="r-x")],
        kernel_notes([(A, A + 2 * PAGE, 0, path), (B, B + 2 * PAGE, 2 * PAGE, path)]),
    )
    found = look(core)
    assert could_be(found[A]) == could_be(found[B]) == ANY_FILE


def test_a_pipe_cannot_tell_a_header_page() -> None:
    core = mapped(A, "/usr/share/terminfo", TEXT, flags="rw-")
    assert kept(core, 0x10, piped=True)[A] == 0
    core = mapped(A, "/data/run", SHEBANG, flags="r--")
    assert kept(core, 0x10, "drop")[A] == 0
    assert kept(core, 0x10, piped=True)[A] == PAGE
    assert kept(core, 0x10, "guess", piped=True)[A] == 0
    assert kept(core, 0x10, "drop", piped=True)[A] == 0


@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize("flags", ["-w-", "--x", "---"])
def test_what_cannot_be_read_has_no_header_page(flags: str, piped: bool) -> None:
    assert kept(mapped(A, "/data/lib", ELF, flags=flags), 0x10, piped=piped)[A] == 0


@pytest.mark.parametrize("shape", [HUGE, 4 * HUGE])
def test_what_has_the_shape_of_huge_pages_could_be_huge(shape: int) -> None:
    for address in (2 * HUGE, 4 * HUGE):
        assert {"private-huge", "shared-huge"} <= set(could_be(look(beside(shape))[address]).split())
    assert "shared-huge" in could_be(look(beside(HUGE + PAGE, folder="/mnt/other"))[2 * HUGE])


@pytest.mark.parametrize(
    ("machine", "bits", "little_endian", "smallest"),
    [
        (EM_X86_64, 64, True, 2 << 20),
        (EM_386, 32, True, 2 << 20),
        (EM_PPC, 32, False, 1 << 14),
        (EM_AARCH64, 64, True, 1 << 16),
    ],
)
def test_the_smallest_huge_page_is_the_machines(machine: int, bits: int, little_endian: bool, smallest: int) -> None:
    shape = {"machine": machine, "bits": bits, "little_endian": little_endian}
    for size, huge in ((smallest, True), (smallest // 2, False)):
        address = 0x10000000 + size
        files = [(address, address + size, 0, "/mnt/pool/file")]
        core = make_core([Load(address, TEXT, memsz=size)], kernel_notes(files, **shape), **shape)
        assert ("shared-huge" in could_be(look(core)[address])) is huge


# --- more than one mapping, in an order that must not matter -----------------------------------------------


@pytest.mark.parametrize("flags", ["rw-", "rwx"])
@pytest.mark.parametrize("first", [True, False])
def test_a_writable_vdso_is_not_mistaken_for_a_heap_nor_a_heap_for_it(flags: str, first: bool) -> None:
    """A program may make [vdso] writable; mappings that look the same are not the same."""
    address = 0x400000 if first else VDSO
    vdso = Load(address, elf_image([Image(0, 0x1F00, "r-x")], size=2 * PAGE), flags=flags)
    heap = Load(0x8000000, page(b"heap", 2), flags=flags)
    loads = [vdso, heap] if first else [heap, vdso]
    found = look(nameless(*loads, auxv={AT_SYSINFO_EHDR: address}))
    assert found[heap.vaddr].kind == "private-anonymous"
    assert found[address].kind == "special"


@pytest.mark.parametrize("heap_first", [True, False])
def test_without_nt_file_an_images_data_does_not_speak_for_other_memory(heap_first: bool) -> None:
    """The program's data is written private memory; other writable memory may as well be shared."""
    program = elf_image([Image(0, 0x1000, "r-x"), Image(0x2000, 0x2000, "rw-", filesz=0x1100)])
    text, data = Load(0x400000, program, flags="r-x"), Load(0x402000, page(b"data", 2))
    other = Load(0x300000 if heap_first else 0x7F0000000000, page(b"shared?", 2))
    core = nameless(*([other, text, data] if heap_first else [text, data, other]), named=False)
    found = look(core)
    assert could_be(found[data.vaddr]) == "private-file-written"
    assert "shared-anonymous" in could_be(found[other.vaddr])
    assert kept(core, "shared-anonymous")[other.vaddr] == 2 * PAGE


# --- contradictions and what the user says -----------------------------------------------------------------

IMPOSSIBLE = mapped(A, "/anon_hugepage (deleted)")


def test_contradictions_are_kept_and_counted() -> None:
    """A huge page of two small ones: what is wrong is not known, so nothing is lost."""
    mapping = look(IMPOSSIBLE)[A]
    assert mapping.certainty == "assumed"
    assert "contradiction" in mapping.evidence[-1]
    assert kept(IMPOSSIBLE, "none")[A] == 2 * PAGE
    with opened(IMPOSSIBLE) as core:
        assert [finding.contradiction for finding in core.plan("none").findings] == [False, True]


@pytest.mark.parametrize(
    "kind",
    ["private-file-backed", "private-file-written", "shared-file-backed"],
)
def test_what_is_stated_settles_what_was_open(kind: str) -> None:
    core = mapped(A, "/data/table")
    mapping = look(core, assume=(f"/data/*={kind}",))[A]
    assert (mapping.kind, mapping.certainty, mapping.finding.others()) == (kind, "stated", [])
    assert mapping.evidence[-1] == f"--assume says {kind}"


def test_a_statement_overrules_a_convention() -> None:
    core = two_views("r--", "/usr/share/zoneinfo/UTC")
    assert look(core, assume=("/usr/share/*=shared-file-backed",))[A].kind == "shared-file-backed"


def test_from_a_pipe_the_layout_of_data_is_named_as_a_reason() -> None:
    found = look(library_core(), piped=True)
    laid_out = [at for at, mapping in found.items() if "laid out like data of an ELF image" in mapping.evidence]
    assert laid_out == [LIBRARY + 4 * PAGE, LIBRARY + 5 * PAGE]


def test_the_mode_of_system_v_memory_is_named_as_a_reason() -> None:
    found = look(mapped(A, "/SYSV0000002a (deleted)", flags="r--"))[A]
    assert "System V shared memory has an executable mode" in found.evidence


def test_a_statement_that_evidence_disproves_is_a_contradiction() -> None:
    core = mapped(A, "/data/table")
    assume = (f"{A:#x}=private-anonymous",)
    mapping = look(core, assume=assume)[A]
    assert mapping.certainty == "assumed"
    assert "contradiction" in mapping.evidence[-1]
    assert kept(core, "none", assume=assume)[A] == 2 * PAGE


def test_the_first_statement_that_fits_counts() -> None:
    core = two_views("r--", "/data/table")
    assume = (f"{A:#x}=private-file-written", "/data/*=shared-file-backed")
    found = look(core, assume=assume)
    assert (found[A].kind, found[B].kind) == ("private-file-written", "shared-file-backed")


def test_a_statement_about_nothing_is_an_error() -> None:
    with opened(mapped(A, "/data/table")) as core, pytest.raises(SelectorError, match=r"'/date/\*=special' matches no"):
        core.plan("all", assume=["/date/*=special"])


def test_a_statement_that_another_one_forestalls_still_fits() -> None:
    core = mapped(A, "/data/table")
    assume = ("/data/*=shared-file-backed", f"{A:#x}=private-file-written")
    assert look(core, assume=assume)[A].kind == "shared-file-backed"


@pytest.mark.parametrize(
    ("selector", "kinds"),
    [
        ("size>8K", ["", "", "stated"]),
        ("size>=8K", ["", "stated", "stated"]),
        ("size<8K", ["stated", "", ""]),
        ("size<=8192", ["stated", "stated", ""]),
        ("/data/[ab]", ["stated", "stated", ""]),
        ("/data/?", ["stated", "stated", "stated"]),
        (f"{B:#X}", ["", "stated", ""]),
        (f"{B + 2 * PAGE - 1:#x}", ["", "stated", ""]),
        (f"{C:#x}", ["", "", "stated"]),
    ],
)
def test_selectors_choose_mappings(selector: str, kinds: list[str]) -> None:
    places = [(A, 1, "/data/a"), (B, 2, "/data/b"), (C, 3, "/data/c")]
    core = make_core(
        [Load(address, page(b"x", pages)) for address, pages, _ in places],
        kernel_notes([(address, address + pages * PAGE, 0, path) for address, pages, path in places]),
    )
    found = look(core, assume=(f"{selector}=shared-file-backed",))
    assert [found[address].certainty for address, *_ in places] == [kind or "assumed" for kind in kinds]


def test_what_is_guessed() -> None:
    """Writable files are shared, read-only ones private, a written library written."""
    assert look(mapped(A, "/data/table"))[A].kind == "shared-file-backed"
    assert look(mapped(A, "/data/table (deleted)"))[A].kind == "shared-anonymous"
    assert look(mapped(A, "/data/table", flags="r--"))[A].kind == "private-file-backed"
    assert look(mapped(A, "/usr/lib/x/plugin.so"))[A].kind == "private-file-written"
    assert look(mapped(A, "/home/me/plugin.so", ELF))[A].kind == "private-file-written"
    assert look(mapped(A, "/memfd:handed-over (deleted)", flags="r--"))[A].kind == "private-file-backed"
    assert look(two_views("rw-", "/memfd:read (deleted)"))[A].kind == "private-file-backed"
    assert look(two_views("rw-", "/memfd:jit (deleted)", first="r-x"))[A].kind == "shared-anonymous"
    assert look(mapped(HUGE, "/mnt/hugepages/heap", memsz=HUGE))[HUGE].kind == "shared-huge"
    assert look(mapped(HUGE, "/anon_hugepage (deleted)", memsz=HUGE))[HUGE].kind == "private-huge"
    assert look(mapped(A, "/dev/zero", page(pages=2)))[A].kind == "private-file-backed"


# --- any core ---------------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(core=cores(), wanted=FILTERS, piped=st.booleans())
def test_drop_keeps_no_more_than_guess_and_guess_no_more_than_keep(core: bytes, wanted: int, piped: bool) -> None:
    drop, guess, keep = (kept(core, wanted, unknown, piped=piped) for unknown in ("drop", "guess", "keep"))
    assert all(drop[address] <= guess[address] <= keep[address] for address in keep)


@settings(max_examples=100)
@given(core=cores(), wanted=FILTERS, more=FILTERS, unknown=st.sampled_from(["keep", "drop", "guess"]))
def test_a_filter_with_more_bits_keeps_no_less(core: bytes, wanted: int, more: int, unknown: str) -> None:
    less_kept, more_kept = kept(core, wanted, unknown), kept(core, wanted | more, unknown)
    assert all(less_kept[address] <= more_kept[address] for address in less_kept)


@settings(max_examples=100)
@given(core=cores(), wanted=FILTERS)
def test_a_pipe_loses_nothing_that_a_file_proves(core: bytes, wanted: int) -> None:
    """What nothing but a convention rules out may be lost; what keeps a byte for certain keeps it in a pipe."""
    with opened(core) as it:
        plan = it.plan(wanted, unknown="drop")
        exact = {mapping.start: plan.kept(m) for m, mapping in enumerate(plan.mappings) if mapping.certainty == "exact"}
    from_pipe = kept(core, wanted, piped=True)
    assert all(from_pipe[address] >= count for address, count in exact.items())


@settings(max_examples=60)
@given(core=cores())
def test_every_finding_has_its_reasons(core: bytes) -> None:
    with opened(core) as it:
        for mapping in it.mappings:
            assert mapping.certainty in ("exact", "inferred", "assumed")
            assert all(isinstance(reason, str) for reason in mapping.evidence)
            assert mapping.kind not in mapping.finding.others()
            assert bool(mapping.finding.others()) <= (mapping.certainty == "assumed")
            assert mapping.kind == "not-dumped" or mapping.finding.likely & mapping.finding.possible
