"""ELF-FDPIC by cores made for it: every machine there is, its loadmaps, both formats, and what is wrong with them."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support import pages
from support.builder import (
    AT_BASE,
    AT_ENTRY,
    AT_PAGESZ,
    EM_68K,
    EM_ARM,
    EM_RISCV,
    EM_SH,
    EM_XTENSA,
    Load,
    Note,
    kernel_notes,
    make_core,
    nt_auxv,
    nt_prpsinfo,
    nt_prstatus,
    page,
    parse_core,
    parse_notes,
    payload_at,
)
from support.maps import Area, saved
from support.opening import in_memory, opened
from support.run import assert_error, assert_usage, corefilt
from support.samples import PAGE, sample_core

from corefilt.corefile.corefilt_note import decode_origin
from corefilt.corefile.elf import Ehdr
from corefilt.corefile.loadmaps import find, read
from corefilt.corefile.notes import NT_PRSTATUS
from corefilt.verify import verify

EM_BLACKFIN, EM_TI_C6000, EM_FRV = 106, 140, 0x5441
# e_machine, class, whether little-endian, plain size, FDPIC size, where the loadmaps' addresses stand, e_flags.
MACHINES = {
    "arm": (EM_ARM, 32, True, 148, 156, 144, 0),
    "sh": (EM_SH, 32, True, 168, 176, 164, 0x8000),
    "frv": (EM_FRV, 32, False, 260, 268, 256, 0x8000),
    "blackfin": (EM_BLACKFIN, 32, True, 296, 304, 292, 0x2),
    "c6x": (EM_TI_C6000, 32, True, 308, 316, 304, 0),
    "m68k": (EM_68K, 32, False, 154, 162, 150, 0),
    "xtensa": (EM_XTENSA, 32, True, 588, 596, 584, 0),
    "riscv32": (EM_RISCV, 32, True, 204, 212, 200, 0),
    "riscv64": (EM_RISCV, 64, True, 376, 392, 368, 0),
}
EVERY = pytest.mark.parametrize("name", MACHINES)

TEXT, DATA, OTHER, STACK = 0x10000, 0x20000, 0x30000, 0x40000
EXEC, INTERP = STACK + 0x800, STACK + 0x840
NT_PRFPREG, NT_PRPSINFO, NT_AUXV, NT_FILE, NT_SIGINFO = 2, 3, 6, 0x46494C45, 0x53494749
AT_EXECFN = 31


def loadmap(segments: Sequence[tuple[int, int, int]], bits: int, little: bool, *, count: int | None = None) -> bytes:
    """Lay out a loadmap; `count` says something else than is there."""
    order, number = "<>"[not little], len(segments) if count is None else count
    if bits == 64:
        return struct.pack(order + "HHxxxx", 0, number) + b"".join(struct.pack(order + "QQII", *s, 0) for s in segments)
    return struct.pack(order + "HH", 0, number) + b"".join(struct.pack(order + "III", *s) for s in segments)


def statuses(name: str, pairs: Sequence[tuple[int, int] | None]) -> Iterator[Note]:
    """Make an NT_PRSTATUS a thread, full of bytes that tell where they were; without a pair it is a plain one."""
    _, bits, little, plain, _, at, _ = MACHINES[name]
    for n, pair in enumerate(pairs):
        desc = bytes((i + n) % 251 for i in range(plain))
        words = b"" if pair is None else struct.pack("<>"[not little] + ("QQ" if bits == 64 else "II"), *pair)
        yield Note("CORE", NT_PRSTATUS, desc[:at] + words + desc[at:])


def fdpic_core(
    name: str,
    pairs: Sequence[tuple[int, int] | None] = ((EXEC, INTERP), (EXEC, INTERP)),
    *,
    maps: tuple[bytes, bytes] | None = None,
    more: Sequence[Note] = (),
    loads: Sequence[Load] = (),
    flags: int | None = None,
) -> bytes:
    """Make what the FDPIC dumper writes of a program with a loader, two segments each, and a mapping of its own."""
    machine, bits, little, *_, e_flags = MACHINES[name]
    if maps is None:
        program = loadmap([(TEXT, 0, 0x900), (DATA, 0x2000, 0x100)], bits, little)
        maps = program, loadmap([(TEXT + PAGE, 0, 0x900)], bits, little)
    stack = bytearray(page(b"stack", 2))
    for address, content in zip((EXEC, INTERP), maps, strict=True):
        stack[address - STACK : address - STACK + len(content)] = content
    first, *rest = statuses(name, pairs)
    auxv = nt_auxv({AT_PAGESZ: PAGE, AT_ENTRY: TEXT + 4, AT_BASE: TEXT + PAGE, AT_EXECFN: STACK + 0x1F00}, bits, little)
    notes = [first, nt_prpsinfo(4242, bits, little, machine=machine), auxv, Note("CORE", NT_PRFPREG, bytes(116))]
    return make_core(
        [
            Load(TEXT, page(b"text", 2), flags="r-x"),
            Load(DATA, page(b"data")),
            Load(OTHER, page(b"other")),
            Load(STACK, bytes(stack)),
            *loads,
        ],
        [*notes, *rest, *more],
        bits=bits, little_endian=little, machine=machine, e_flags=e_flags if flags is None else flags,
    )  # fmt: skip


def converted(core: bytes, tmp_path: Path, *options: str, wanted: str = "all") -> bytes:
    (tmp_path / "in").write_bytes(core)
    done = corefilt(wanted, tmp_path / "in", "-o", tmp_path / "out", "-f", *options)
    assert done.code == 0, done.err
    return (tmp_path / "out").read_bytes()


@EVERY
def test_recognised(name: str) -> None:
    with opened(fdpic_core(name)) as it:
        assert it.fdpic is not None
        assert it.fdpic.loadmaps == (EXEC, INTERP)
        assert it.fdpic.mmu is (None if name in ("arm", "frv") else False)
        program, loader = (loadmap.segments for _, _, loadmap in it.loadmaps() if not isinstance(loadmap, str))
    assert program == [(TEXT, 0, 0x900), (DATA, 0x2000, 0x100)] and loader == [(TEXT + PAGE, 0, 0x900)]


@EVERY
def test_a_plain_one_is_none(name: str) -> None:
    with opened(fdpic_core(name, [None])) as it:
        assert it.fdpic is None


def test_no_fdpic_where_a_machine_has_none() -> None:
    with opened(sample_core()) as it:
        assert it.fdpic is None and it.loadmaps() == []


@pytest.mark.parametrize("note", [NT_SIGINFO, NT_FILE])
def test_linux_4_14_wrote_the_wide_struct_into_plain_cores(note: int, tmp_path: Path) -> None:
    """NT_SIGINFO and NT_FILE tell; --format elf has debuggers read its registers all the same."""
    core = fdpic_core("arm", [(0, 0)], more=[Note("CORE", note, bytes(128))])
    with opened(core) as it:
        assert it.fdpic is None
    path = tmp_path / "core"
    path.write_bytes(core)
    assert b"plain ELF, though NT_PRSTATUS has the 156 bytes of ELF-FDPIC" in corefilt("inspect", path).out
    assert [len(n.desc) for n in parse_notes(converted(core, tmp_path, "--format", "elf")) if n.type == 1] == [148]


def test_arms_gate_tells_that_there_is_an_mmu() -> None:
    with opened(fdpic_core("arm", loads=[Load(0xFFFF0000, page(b"v"), flags="r-x")])) as it:
        assert it.fdpic is not None and it.fdpic.mmu is True


@EVERY
def test_there_and_back(name: str, tmp_path: Path) -> None:
    """Sizes, flags and registers by the table; then the original byte for byte, also where threads disagree."""
    machine, bits, _, plain, wide, at, e_flags = MACHINES[name]
    word = bits // 8
    for pairs in ([(EXEC, INTERP)] * 3, [(EXEC, INTERP), (EXEC, 0), (0x1234, 0x5678)]):
        core = fdpic_core(name, pairs)
        there = converted(core, tmp_path, "--format", "elf")
        ehdr, phdrs = parse_core(there)
        assert (ehdr.e_machine, ehdr.e_flags) == (machine, 0)
        assert phdrs[1].p_offset % PAGE == 0
        ours, *notes = parse_notes(there)
        assert (ours.name, ours.type) == ("COREFILT", 0x46445043)
        before = parse_notes(core)
        for old, new in zip(before, notes, strict=True):
            whole = old.desc[:at] + old.desc[at + 2 * word :] if old.type == 1 else old.desc
            assert (new.name, new.type, new.desc) == (old.name, old.type, whole)
        assert {len(n.desc) for n in notes if n.type == 1} == {plain}
        assert {len(n.desc) for n in before if n.type == 1} == {wide}
        assert converted(there, tmp_path, "--format", "fdpic") == core
        assert parse_core(core)[0].e_flags == e_flags


@EVERY
def test_what_the_plain_dumper_writes_more_goes(name: str, tmp_path: Path) -> None:
    """From what only the plain dumper writes to what the FDPIC dumper would have written."""
    *_, wide, _, e_flags = MACHINES[name]
    more = [Note("CORE", NT_SIGINFO, bytes(128)), Note("LINUX", 0x400, bytes(260)), Note("CORE", NT_FILE, bytes(64))]
    plain = fdpic_core(name, [None, None], more=more, flags=0)
    out = converted(plain, tmp_path, "--format", "fdpic", "--loadmaps", f"{EXEC:#x},{INTERP}")
    assert out == fdpic_core(name)
    done = corefilt("all", tmp_path / "in", "-n", "--format", "fdpic", "--loadmaps", "0,0")
    assert "1 NT_ARM_VFP, 1 NT_FILE, 1 NT_SIGINFO" in "\n".join(done.err)
    assert parse_core(out)[0].e_flags == e_flags
    assert [len(n.desc) for n in parse_notes(out) if n.type == 1] == [wide, wide]


@pytest.mark.parametrize("name", ["arm", "m68k", "riscv32", "riscv64"])
def test_loadmaps_are_looked_for_by_the_entry_and_the_loader(name: str, tmp_path: Path) -> None:
    out = converted(fdpic_core(name, [None, None], flags=0), tmp_path, "--format", "fdpic")
    assert out == fdpic_core(name)


def test_what_is_that_way_already_stays(tmp_path: Path) -> None:
    for core, form in ((fdpic_core("arm"), "fdpic"), (fdpic_core("arm", [None]), "elf")):
        assert converted(core, tmp_path, "--format", form) == core


def test_gdbs_layout(tmp_path: Path) -> None:
    """Notes behind the payload, and sections that speak of them."""
    machine, bits, little, *_ = MACHINES["arm"]
    notes = [*statuses("arm", [(EXEC, 0)]), nt_prpsinfo(1, bits, little, machine=machine)]
    core = make_core([Load(OTHER, page(b"x"))], notes, bits=bits, machine=machine, layout="gcore")
    there = converted(core, tmp_path, "--format", "elf")
    assert [n.type for n in parse_notes(there)] == [0x46445043, 1, 3]
    assert payload_at(there, OTHER, PAGE) == page(b"x")
    assert converted(there, tmp_path, "--format", "fdpic") == core


def test_with_a_limit_and_fitted(tmp_path: Path) -> None:
    """The limit counts the notes that are written."""
    core = fdpic_core("m68k")
    whole = converted(core, tmp_path, "--format", "elf")
    cut = converted(core, tmp_path, "--format", "elf", "--truncate", "16384")
    assert whole.startswith(cut) and PAGE < len(cut) < len(whole)
    fitted = converted(core, tmp_path, "--format", "elf", "--fit", "64K")
    assert [len(n.desc) for n in parse_notes(fitted) if n.type == 1] == [154, 154]
    assert parse_core(fitted)[0].e_flags == 0


def test_many_threads_lose_more_of_their_notes_than_stands_before_them(tmp_path: Path) -> None:
    """Two words each: at 600 threads that is a page, and all payload moves up."""
    full, out = tmp_path / "full", tmp_path / "out"
    wide = [nt_prstatus(n, 32, machine=EM_ARM, size=156) for n in range(1, 601)]
    full.write_bytes(make_core([Load(OTHER, page(b"x"))], wide, bits=32, machine=EM_ARM))
    assert corefilt("all", full, "-o", out, "--format", "elf", "-q").code == 0
    before, after = (parse_core(path.read_bytes())[1] for path in (full, out))
    assert after[1].p_offset < before[1].p_offset
    assert payload_at(out.read_bytes(), OTHER, PAGE) == page(b"x")
    assert verify(full, out).holds
    piped = corefilt("all", "--format", "elf", "-q", source=full)
    assert (piped.code, piped.out) == (0, out.read_bytes())


def test_the_report_says_the_format(tmp_path: Path) -> None:
    import json

    (tmp_path / "in").write_bytes(fdpic_core("sh"))
    for options, form in (((), "fdpic"), (("--format", "elf"), "elf"), (("--format", "fdpic"), "fdpic")):
        done = corefilt("all", tmp_path / "in", "-n", "-q", "--json", *options)
        report = json.loads(done.out)
        assert report["format"] == form
        assert any("e_flags is 0x0 instead of 0x8000" in change for change in report["changes"]) is (form == "elf")


@pytest.mark.parametrize(
    ("loadmaps", "told"),
    [
        ("0,0", "no loadmaps"),
        ("0x1000,0", "loadmaps at 0x1000 (program)"),
        ("0x1000,0x2000", "loadmaps at 0x1000 (program) and 0x2000 (loader)"),
    ],
)
def test_inspect_names_the_loadmaps_that_there_are(loadmaps: str, told: str, tmp_path: Path) -> None:
    plain, out = tmp_path / "plain", tmp_path / "out"
    plain.write_bytes(
        make_core([Load(0x8000, page(b"x"))], kernel_notes(bits=32, machine=EM_ARM), bits=32, machine=EM_ARM)
    )
    assert corefilt("all", plain, "-o", out, "--format", "fdpic", "--loadmaps", loadmaps).code in (0, 3)
    assert f"; {told}\n" in corefilt("inspect", out).out.decode()


def test_inspect_as_json(tmp_path: Path) -> None:
    import json

    path = tmp_path / "core"
    path.write_bytes(fdpic_core("sh"))
    told = json.loads(corefilt("inspect", path, "--json").out)
    assert told["format"] == "fdpic" and told["fdpic"]["exec_loadmap"] == f"{EXEC:#x}"
    assert told["fdpic"]["mmu"] is False
    assert told["fdpic"]["loadmaps"][0] == {
        "of": "program",
        "address": f"{EXEC:#x}",
        "segments": [
            {"address": f"{TEXT:#x}", "p_vaddr": "0x0", "p_memsz": 0x900},
            {"address": f"{DATA:#x}", "p_vaddr": "0x2000", "p_memsz": 0x100},
        ],
    }


@pytest.mark.parametrize(("name", "registers"), [("riscv32", 72), ("riscv64", 112)])
def test_gdb_sees_the_registers_of_riscv(name: str, registers: int, tmp_path: Path) -> None:
    if shutil.which("gdb-multiarch") is None:
        pytest.skip("gdb-multiarch is not installed")
    _, bits, *_ = MACHINES[name]
    core = fdpic_core(name)
    plain = converted(core, tmp_path, "--format", "elf")

    def seen(path: Path) -> dict[str, str]:
        script = [f"set architecture riscv:rv{bits}", "set osabi GNU/Linux", f"core-file {path}"]
        script += ["info registers pc sp a0"]
        command = ["gdb-multiarch", "-nx", "-batch", *(word for line in script for word in ("-ex", line))]
        environ = {**os.environ, "HOME": str(tmp_path), "DEBUGINFOD_URLS": "", "LC_ALL": "C.UTF-8"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ, check=False)
        words = [line.split() for line in done.stdout.splitlines()]
        return {w[0]: w[1] for w in words if len(w) > 1 and w[0] in ("pc", "sp", "a0") and w[1].startswith("0x")}

    desc = parse_notes(core)[0].desc
    word = bits // 8
    at = {"pc": 0, "sp": 2, "a0": 10}
    expected = {n: desc[registers + i * word : registers + (i + 1) * word] for n, i in at.items()}
    assert seen(tmp_path / "in") == {}
    (tmp_path / "plain").write_bytes(plain)
    assert seen(tmp_path / "plain") == {n: f"{int.from_bytes(raw, 'little'):#x}" for n, raw in expected.items()}


def test_the_documentation(tmp_path: Path) -> None:
    """Its commands do what it says."""
    (tmp_path / "fdpic.core").write_bytes(fdpic_core("arm"))
    (tmp_path / "plain-arm.core").write_bytes(fdpic_core("arm", [None]))
    areas = [Area(TEXT, TEXT + 2 * PAGE, "r-xp"), Area(DATA, DATA + PAGE), Area(OTHER, OTHER + PAGE)]
    saved(tmp_path, [*areas, Area(STACK, STACK + 2 * PAGE, path="[stack]")], name="maps")
    pages.run(pages.ROOT / "docs" / "fdpic.md", tmp_path)


# --- rules --------------------------------------------------------------------------------------------------


def kinds(core: bytes, **options: object) -> dict[int, str]:
    """Return all that each mapping could be, by its address."""
    with opened(core) as it:
        plan = it.plan("all", **options)  # type: ignore[arg-type]
        return {m.start: " ".join(sorted({m.kind, *m.finding.others()})) for m in plan.mappings}


def test_what_a_loadmap_names_is_private() -> None:
    found = kinds(fdpic_core("m68k"))
    assert found[DATA] == "private-anonymous private-file-written"
    assert found[STACK] == "private-anonymous"
    assert "shared" in found[OTHER] and "private-file-backed" not in found[OTHER]


def test_an_mmu_makes_text_a_file() -> None:
    found = kinds(fdpic_core("arm", loads=[Load(0xFFFF0000, page(b"v"), flags="r-x")]))
    assert found[TEXT] == "private-file-backed"
    assert "shared" not in found[DATA]


def test_without_a_word_on_the_mmu_text_may_go_by_bit_0() -> None:
    found = kinds(fdpic_core("arm"))
    assert "private-file-backed" in found[TEXT] and "private-file-written" in found[TEXT]


def test_from_a_pipe_into_a_file_the_loadmaps_count_too(tmp_path: Path) -> None:
    for name in ("arm", "m68k"):
        (tmp_path / "core").write_bytes(fdpic_core(name))
        for wanted in ("0x0", "0x1", "0x2", "0x4", "0x8", "0x33"):
            assert corefilt(wanted, tmp_path / "core", "-o", tmp_path / "a", "-f").code == 0
            assert corefilt(wanted, "-o", tmp_path / "b", "-f", source=tmp_path / "core").code == 0
            assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_maps_without_an_mmu(tmp_path: Path) -> None:
    """``S`` is VM_SHARED; ``s`` alone is what bit 0 keeps, and so is all that is private."""
    areas = [
        Area(TEXT, TEXT + 2 * PAGE, "r-xp", path="/bin/x", inode=1),
        Area(DATA, DATA + PAGE),
        Area(OTHER, OTHER + PAGE, "rw-S", path="/shared", inode=2),
        Area(STACK, STACK + 2 * PAGE, "rw-p", path="[stack]"),
        Area(0x50000, 0x50000 + PAGE, "rw-s", path="/read-only", inode=3),
    ]
    found = kinds(fdpic_core("m68k", loads=[Load(0x50000, page(b"x"))]), maps=saved(tmp_path, areas))
    assert found == {
        TEXT: "private-file-written", DATA: "private-anonymous", OTHER: "shared-file-backed",
        STACK: "private-anonymous", 0x50000: "private-file-written",
    }  # fmt: skip


def old_core() -> bytes:
    return fdpic_core(
        "arm",
        loads=[
            Load(0x50000, page(b"unreadable"), flags="---"),
            Load(0x60000, page(b"never excluded")),
            Load(0xFFFF0000, page(b"v"), flags="r-x"),
        ],
    )


def old_kept(wanted: int, tmp_path: Path, unknown: str = "keep") -> dict[int, int]:
    areas = [
        Area(TEXT, TEXT + 2 * PAGE, "r-xp", path="/bin/x", inode=1, flags="rd ex mr mw me"),
        Area(DATA, DATA + PAGE, "rw-p", path="/bin/x", inode=1, flags="rd wr mr mw me ac", anonymous=4),
        Area(OTHER, OTHER + PAGE, "rw-p", flags="rd wr mr mw me ac"),
        Area(STACK, STACK + 2 * PAGE, "rw-p", path="[stack]", flags="rd wr mr mw me gd ac", anonymous=8),
        Area(0x50000, 0x50000 + PAGE, "---p", flags="mr mw me ac", anonymous=4),
        Area(0x60000, 0x60000 + PAGE, "rw-p", flags="rd wr mr mw me dd ac", anonymous=4),
    ]
    with opened(old_core()) as it:
        maps = saved(tmp_path, areas, detailed=True)
        plan = it.plan(wanted, maps=maps, dumper="fdpic-old", unknown=unknown)
        return {mapping.start: plan.kept(m) for m, mapping in enumerate(plan.mappings)}


def test_the_old_dumper(tmp_path: Path) -> None:
    """Bit 2 keeps what was not written to, bit 0 what was; VM_DONTDUMP and header pages mean nothing."""
    bit0, bit2 = old_kept(0x1, tmp_path), old_kept(0x4, tmp_path)
    assert (bit0[TEXT], bit2[TEXT]) == (0, 2 * PAGE)
    assert (bit0[DATA], bit2[DATA]) == (PAGE, 0), "today bit 2 would keep it too"
    assert (bit0[0x60000], bit2[0x60000]) == (PAGE, 0), "today it would not be there"
    assert old_kept(0x1FF, tmp_path)[0x50000] == 0, "what cannot be read is not dumped"
    assert (bit0[0xFFFF0000], bit2[0xFFFF0000]) == (0, PAGE)
    assert old_kept(0x10, tmp_path)[TEXT] == 0, "there are no header pages"
    # Whether this memory was ever written to, nothing tells.
    assert (bit0[OTHER], bit2[OTHER]) == (PAGE, PAGE)
    assert (old_kept(0x1, tmp_path, "drop")[OTHER], old_kept(0x4, tmp_path, "drop")[OTHER]) == (0, 0)


def test_the_old_dumper_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(old_core())
    assert corefilt("0x10", tmp_path / "core", "-o", tmp_path / "out", "--dumper", "fdpic-old").code == 0
    assert_usage(corefilt("0x10", tmp_path / "core", "-n", "--dumper", "older"), "--dumper")
    assert b"unreadable" not in corefilt("inspect", tmp_path / "core", "--dumper", "fdpic-old").out


# --- what is wrong --------------------------------------------------------------------------------------------


def test_no_such_format_for_a_machine(tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(sample_core())
    for form in ("fdpic", "elf"):
        done = corefilt("0x33", tmp_path / "core", "-o", tmp_path / "out", "--format", form)
        assert_error(done, "there is no ELF-FDPIC for x86-64")
    assert not (tmp_path / "out").exists()


def test_a_prstatus_of_no_known_size(tmp_path: Path) -> None:
    core = make_core(
        [Load(OTHER, page(b"x"))], [Note("CORE", NT_PRSTATUS, bytes(150))], bits=32, machine=EM_ARM
    )  # fmt: skip
    (tmp_path / "core").write_bytes(core)
    assert corefilt("0x33", tmp_path / "core", "-n").code == 0
    for form in (("elf",), ("fdpic", "--loadmaps", "0,0")):
        done = corefilt("0x33", tmp_path / "core", "-n", "--format", *form)
        assert_error(done, "NT_PRSTATUS of 150 bytes", "(148)", "(156)")


def test_one_thread_of_another_size(tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(fdpic_core("arm", [(EXEC, 0), None]))
    assert_error(corefilt("all", tmp_path / "core", "-n", "--format", "elf"), "NT_PRSTATUS of 148 bytes")


BAD = {
    "nothing there": ((0x900, 0), None, "where the core holds nothing"),
    "another version": ((EXEC, 0), b"\1\0\1\0" + bytes(12), "version 1"),
    "no segments": ((EXEC, 0), bytes(16), "0 segments"),
    "65535 segments": ((EXEC, 0), loadmap([(TEXT, 0, 16)], 32, True, count=65535), "claims 65535 segments"),
    "overlapping": ((EXEC, 0), loadmap([(TEXT, 0, 0x100), (TEXT + 0x80, 0, 0x100)], 32, True), "overlap at 0x10080"),
    "past the end": ((EXEC, 0), loadmap([(0xFFFFFF00, 0, 0x200)], 32, True), "past the end of memory"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_loadmap_that_is_none(case: str, tmp_path: Path) -> None:
    """It is told, tells nothing, and stands in nobody's way."""
    pair, content, words = BAD[case]
    core = fdpic_core("arm", [pair], maps=(content or b"", b""))
    (tmp_path / "core").write_bytes(core)
    assert words in corefilt("inspect", tmp_path / "core").out.decode()
    there = converted(core, tmp_path, "--format", "elf")
    assert converted(there, tmp_path, "--format", "fdpic") == core
    assert corefilt("all", tmp_path / "core", "-n", "--minimal").code == 0
    if case == "nothing there":
        assert any("where nothing was mapped" in line for line in corefilt("0x1", tmp_path / "core", "-n").err)


def test_a_stack_of_nothing_but_loadmaps_ends() -> None:
    """Whatever it holds is gone through once, and of two that fit none is taken."""
    with in_memory(fdpic_core("arm")) as fd:
        ehdr = Ehdr(os.pread(fd, 52, 0))
    one = loadmap([(TEXT, 0, 0x900)], 32, True)
    assert find(one.ljust(4096, b"\0"), STACK, ehdr, (TEXT, 0), lambda address: True) == [STACK, 0]
    assert find(one * 256, STACK, ehdr, (TEXT,), lambda address: True) == [0]
    assert find(one.ljust(4096, b"\0"), STACK, ehdr, (TEXT,), lambda address: address < TEXT + 0x800) == [0]
    with pytest.raises(ValueError, match="claims 65535"):
        read(STACK, ehdr, lambda at, n: (b"\0\0\xff\xff" + bytes(100))[at - STACK : at - STACK + n])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--loadmaps", "1,2"), "--format fdpic"),
        (("--format", "elf", "--loadmaps", "1,2"), "--format fdpic"),
        (("--format", "fdpic", "--loadmaps", "1"), "two addresses"),
        (("--format", "fdpic", "--loadmaps", "a,b"), "two addresses"),
        (("--format", "fdpic", "--loadmaps", f"{1 << 32},0"), "4 bytes"),
        (("--format", "fdpic", "--loadmaps=-1,0"), "4 bytes"),
        (("--format", "FDPIC"), "--format"),
        (("-i", "--format", "elf"), "-i"),
    ],
)
def test_options_that_do_not_go(options: tuple[str, ...], words: str, tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(fdpic_core("arm", [None]))
    assert_usage(corefilt("all", tmp_path / "core", *(() if "-i" in options else ("-n",)), *options), words)


def test_notes_that_are_cut_off(tmp_path: Path) -> None:
    core = fdpic_core("arm")
    status = core.index(b"CORE") - 12
    (tmp_path / "core").write_bytes(core[: status + 4] + struct.pack("<I", 0xFFFFFF) + core[status + 8 :])
    done = corefilt("all", tmp_path / "core", "-n", "--format", "fdpic", "--loadmaps", "0,0")
    assert_error(done, "is cut off")


@pytest.mark.parametrize(
    "desc",
    [
        b"",
        struct.pack("<IIII", 2, 0, 1, 0) + bytes(16),
        struct.pack("<IIII", 1, 0, 2, 0) + bytes(16),
        struct.pack("<IIII", 1, 0, 0, 0),
        struct.pack("<IIIIQQ", 1, 0, 1, 0, 1 << 32, 0),
    ],
)
def test_a_note_of_ours_that_is_damaged(desc: bytes, tmp_path: Path) -> None:
    core = fdpic_core("arm", [None], more=[Note("COREFILT", 0x46445043, desc)])
    (tmp_path / "core").write_bytes(core)
    done = corefilt("all", tmp_path / "core", "-n")
    assert done.code == 3 and any("COREFILT note of an FDPIC core cannot be used" in line for line in done.err)
    with pytest.raises(ValueError, match=r"."), in_memory(core) as fd:
        decode_origin(desc, Ehdr(os.pread(fd, 52, 0)))


def test_two_note_segments(tmp_path: Path) -> None:
    extra = Load(0, kernel_notes(None, bits=32)[0].encode(), flags="---", type=4)
    core = make_core(
        [Load(OTHER, page(b"x"))], list(statuses("arm", [None])), bits=32, machine=EM_ARM, extra_phdrs=[extra]
    )
    (tmp_path / "core").write_bytes(core)
    done = corefilt("all", tmp_path / "core", "-n", "--format", "fdpic", "--loadmaps", "0,0")
    assert_error(done, "has 2 note segments")
