"""ELF-FDPIC cores that real kernels wrote, one a filter, beside plain ones of the same program.

The folder is not part of the repository: COREFILT_FDPIC_CORES names it.
"""

from __future__ import annotations

import lzma
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from support.builder import PT_LOAD, Load, Note, parse_core, parse_notes, payload_at
from support.run import assert_error, assert_promises, corefilt

FOLDER = Path(os.environ.get("COREFILT_FDPIC_CORES") or Path(__file__).parents[2].parent / "shared" / "fdpic-cores")
ARM, M68K = FOLDER / "arm-6.12", FOLDER / "m68knommu-6.12"
MASKS = ("0x0", "0x1", "0x2", "0x3", "0x4", "0x8", "0xf", "0x10", "0x13", "0x33", "0x7f", "0x1ff")
VARIANTS = (
    *(("fdpic", variant) for variant in ("0x33", "0x0", "0x33-mt", "0x33-mt2", "0x33-sortvma", "0x1-xnum")),
    *(("m68knommu", variant) for variant in ("0x33", "0x0", "0x33-mt")),
)
EXECUTABLE = 0x20900000
"""Where the ARM programs map a file that is executable and not ELF, which no map and no content shows."""
SIGPAGE = 0x1000, "r-x"
NT_PRSTATUS, NT_AUXV = 1, 6

pytestmark = pytest.mark.skipif(
    not ARM.is_dir(), reason="no FDPIC cores: COREFILT_FDPIC_CORES names no folder with any"
)


def core_of(kind: str, variant: str, folder: Path) -> Path:
    """Give a core as a plain file."""
    path = (M68K if kind == "m68knommu" else ARM) / f"{kind}-{variant}.core"
    if path.exists():
        return path
    packed = path.with_suffix(".core.xz")
    if not packed.exists():
        pytest.skip(f"there is no {kind}-{variant}")
    target = folder / path.name
    target.write_bytes(lzma.decompress(packed.read_bytes()))
    return target


def shape(core: bytes) -> list[tuple[object, ...]]:
    """List what a dump of another run has in common: everything but addresses that the kernel drew."""
    _, phdrs = parse_core(core)
    return [
        (p.p_type, p.p_flags, p.p_offset, p.p_filesz, p.p_memsz, p.p_align, p.p_vaddr if p.p_vaddr < 1 << 31 else None)
        for p in phdrs
    ]


def test_arm_equals_the_kernels_own(tmp_path: Path) -> None:
    """Header, program headers, notes by type and size, and what the program left in its mappings."""
    full = ARM / "fdpic-0x1ff.core"
    content = full.read_bytes()
    executable = tmp_path / "root" / "work" / "hdr755.bin"
    executable.parent.mkdir(parents=True)
    executable.write_bytes(payload_at(content, EXECUTABLE, 0x4000))
    executable.chmod(0o755)
    os.utime(executable, (0, 0))
    for mask in MASKS:
        out = tmp_path / mask
        evidence = ("--maps", full.with_suffix(".smaps"), "--sysroot", tmp_path / "root", "--unknown", "guess")
        assert corefilt(mask, full, "-o", out, *evidence).code == 0
        ours, kernels = out.read_bytes(), (ARM / f"fdpic-{mask}.core").read_bytes()
        assert len(ours) == len(kernels), mask
        assert parse_core(ours)[0] == parse_core(kernels)[0], mask
        # [sigpage] is put anywhere.
        assert Counter(shape(ours)) == Counter(shape(kernels)), mask
        assert [(n.name, n.type, len(n.desc)) for n in parse_notes(ours)] == [
            (n.name, n.type, len(n.desc)) for n in parse_notes(kernels)
        ]
        kept = [p for p in parse_core(kernels)[1] if p.p_type == PT_LOAD and p.p_vaddr >> 24 == 0x20]
        for p in kept:
            assert payload_at(ours, p.p_vaddr, p.p_filesz) == payload_at(kernels, p.p_vaddr, p.p_filesz), mask
        assert_promises(content, ours)


def test_arm_by_smaps_alone(tmp_path: Path) -> None:
    """All but the page of a file that is executable and not ELF; a deleted file that may have a link is kept."""
    full = ARM / "fdpic-0x1ff.core"
    for mask in MASKS:
        out = tmp_path / mask
        assert corefilt(mask, full, "-o", out, "--maps", full.with_suffix(".smaps"), "--unknown", "guess").code == 0
        ours, kernels = parse_core(out.read_bytes())[1], parse_core((ARM / f"fdpic-{mask}.core").read_bytes())[1]
        theirs = {p.p_vaddr: p.p_filesz for p in kernels}
        other = [p.p_vaddr for p in ours if p.p_filesz != theirs.get(p.p_vaddr, p.p_filesz) and p.p_type == PT_LOAD]
        assert other == ([EXECUTABLE] if int(mask, 16) & 0x14 == 0x10 else []), mask


def test_m68k_equals_the_kernels_own(tmp_path: Path) -> None:
    """Without an MMU addresses differ from run to run; what is left of each mapping does not."""
    full = M68K / "m68knommu-0x1ff.core"
    for mask in MASKS:
        out = tmp_path / mask
        assert corefilt(mask, full, "-o", out, "--maps", full.with_suffix(".maps"), "--unknown", "guess").code == 0
        ours, kernels = out.read_bytes(), (M68K / f"m68knommu-{mask}.core").read_bytes()
        both = [
            Counter((p.p_type, p.p_flags, p.p_memsz, p.p_filesz) for p in parse_core(core)[1])
            for core in (ours, kernels)
        ]
        # The page of a file that is executable and not ELF.
        header = Counter({(PT_LOAD, 4, 0x2000, 0): 1}), Counter({(PT_LOAD, 4, 0x2000, 0x2000): 1})
        expected = header if int(mask, 16) & 0x15 == 0x10 else (Counter(), Counter())
        assert (both[0] - both[1], both[1] - both[0]) == expected, mask
        assert parse_core(ours)[0] == parse_core(kernels)[0]
        assert_promises(full.read_bytes(), ours)


@pytest.mark.parametrize("kind", ["fdpic", "m68knommu"])
def test_nothing_is_lost_without_maps(kind: str, tmp_path: Path) -> None:
    """What is ambiguous stays, and is said."""
    full = core_of(kind, "0x1ff", tmp_path)
    for mask in MASKS:
        out = tmp_path / mask
        done = corefilt(mask, full, "-o", out)
        kernels = core_of(kind, mask, tmp_path).read_bytes()
        key = (lambda p: p.p_vaddr) if kind == "fdpic" else (lambda p: (p.p_memsz, p.p_flags))
        most: dict[object, list[int]] = {}
        for p in parse_core(out.read_bytes())[1]:
            most.setdefault(key(p), []).append(p.p_filesz)
        for p in parse_core(kernels)[1]:
            held = most.get(key(p))
            if p.p_type != PT_LOAD or held is None or p.p_vaddr == EXECUTABLE:
                continue
            assert max(held) >= p.p_filesz, (mask, hex(p.p_vaddr))
        if mask not in ("0x1ff", "0x7f", "0xf", "0x0"):
            assert any("ambiguous:" in line for line in done.err), mask


def test_the_loadmap_is_not_dropped_without_a_word(tmp_path: Path) -> None:
    full = ARM / "fdpic-0x1ff.core"
    without = corefilt("0x2", full, "-o", tmp_path / "out", "--maps", full.with_suffix(".smaps"))
    assert any("loadmap at 0xbdffffa8 is dropped" in line for line in without.err)
    with_it = corefilt("0x1", full, "-o", tmp_path / "out", "-f", "--maps", full.with_suffix(".smaps"))
    assert not any("loadmap at" in line for line in with_it.err)


def test_a_fitted_core_keeps_the_loadmap(tmp_path: Path) -> None:
    assert corefilt("all", ARM / "fdpic-0x1ff.core", "-o", tmp_path / "out", "--minimal").code == 0
    full = (ARM / "fdpic-0x1ff.core").read_bytes()
    assert payload_at((tmp_path / "out").read_bytes(), 0xBDFFFFA8, 16) == payload_at(full, 0xBDFFFFA8, 16)


@pytest.mark.parametrize(("kind", "variant"), VARIANTS)
def test_there_and_back(kind: str, variant: str, tmp_path: Path) -> None:
    """From a file and through pipes, byte for byte."""
    core = core_of(kind, variant, tmp_path)
    plain, back = tmp_path / "plain", tmp_path / "back"
    done = corefilt("all", core, "-o", plain, "--format", "elf")
    assert done.code == 0 and any("changed: NT_PRSTATUS" in line for line in done.err)
    assert corefilt("all", plain, "-o", back, "--format", "fdpic").code == 0
    assert back.read_bytes() == core.read_bytes()
    assert corefilt("all", "--format", "elf", source=core).out == plain.read_bytes()
    assert corefilt("all", "--format", "fdpic", source=plain).out == core.read_bytes()
    assert corefilt("all", "-o", tmp_path / "piped", "--format", "fdpic", source=plain).code == 0
    assert (tmp_path / "piped").read_bytes() == core.read_bytes()


def test_there_and_back_of_a_core_that_was_cut(tmp_path: Path) -> None:
    """Its headers are mended on the way, as they are without another format."""
    core = ARM / "fdpic-0x33-trunc64k.core"
    for out, *what in (("mended", core), ("plain", core, "--format", "elf")):
        assert corefilt("all", *what, "-o", tmp_path / out).code == 3
    assert corefilt("all", tmp_path / "plain", "-o", tmp_path / "back", "--format", "fdpic").code == 0
    assert (tmp_path / "back").read_bytes() == (tmp_path / "mended").read_bytes()


@pytest.mark.parametrize("mask", ["0x0", "0x2", "0x33"])
def test_a_filter_and_another_format_at_once(mask: str, tmp_path: Path) -> None:
    """Both in one run, from a file and a pipe, is what one after the other gives."""
    core = ARM / "fdpic-0x1ff.core"
    for out, *what in (
        ("at once", mask, core, "--format", "elf"), ("filtered", mask, core),
        ("after", "all", tmp_path / "filtered", "--format", "elf"),
    ):  # fmt: skip
        assert corefilt(*what, "-o", tmp_path / out).code == 0
    assert (tmp_path / "at once").read_bytes() == (tmp_path / "after").read_bytes()
    assert corefilt(mask, "--format", "elf", "-o", tmp_path / "piped", source=core).code == 0
    assert (tmp_path / "piped").read_bytes() == (tmp_path / "at once").read_bytes()


def test_with_records(tmp_path: Path) -> None:
    """Records of mappings go along, and a filter by them keeps what it kept."""
    core = ARM / "fdpic-0x1ff.core"
    evidence = ("--maps", core.with_suffix(".smaps"))
    for out, *what in (
        ("annotated", core, *evidence, "--annotate"),
        ("plain", tmp_path / "annotated", "--format", "elf"),
        ("back", tmp_path / "plain", "--format", "fdpic"),
        ("at once", core, *evidence, "--annotate", "--format", "elf"),
    ):  # fmt: skip
        assert corefilt("all", *what, "-o", tmp_path / out).code == 0
    assert (tmp_path / "back").read_bytes() == (tmp_path / "annotated").read_bytes()
    for name in ("annotated", "plain", "at once"):
        assert corefilt("0x13", tmp_path / name, "-o", tmp_path / f"{name} 0x13").code == 0
    expected = [p.p_filesz for p in parse_core((tmp_path / "annotated 0x13").read_bytes())[1] if p.p_type == PT_LOAD]
    for name in ("plain", "at once"):
        found = parse_core((tmp_path / f"{name} 0x13").read_bytes())[1]
        assert [p.p_filesz for p in found if p.p_type == PT_LOAD] == expected


@pytest.mark.parametrize("variant", ["0x0", "0x1", "0x4", "0xf", "0x33", "0x33-mt", "0x33-mt2", "0x33-sortvma"])
def test_a_plain_core_becomes_what_the_other_dumper_wrote(variant: str, tmp_path: Path) -> None:
    """Every header field, note type, order and size, but for addresses and the length of NT_AUXV."""
    twin = (ARM / f"fdpic-{variant}.core").read_bytes()
    out = tmp_path / "out"
    given = ("--loadmaps", "0xbdffffa8,0")
    assert corefilt("all", ARM / f"plain-{variant}.core", "-o", out, "--format", "fdpic", *given).code == 0
    ours = out.read_bytes()
    assert parse_core(ours)[0] == parse_core(twin)[0]
    assert len(ours) == len(twin)

    def rows(core: bytes) -> Counter[tuple[object, ...]]:
        # Each has its program, its stack and [sigpage] at other addresses, so that these come in another order.
        return Counter(
            (p.p_type, p.p_flags, p.p_memsz, p.p_filesz if p.p_type == PT_LOAD else 0, p.p_align)
            for p in parse_core(core)[1]
        )

    assert rows(ours) == rows(twin)
    notes, others = parse_notes(ours), parse_notes(twin)
    assert [(n.name, n.type) for n in notes] == [(n.name, n.type) for n in others]
    assert [len(n.desc) for n in notes if n.type != NT_AUXV] == [len(n.desc) for n in others if n.type != NT_AUXV]
    for note in notes:
        if note.type == NT_PRSTATUS:
            assert note.desc[144:152] == bytes.fromhex("a8ffffbd00000000")


def test_no_loadmaps_in_a_plain_program(tmp_path: Path) -> None:
    done = corefilt("all", ARM / "plain-0x33.core", "-o", tmp_path / "out", "--format", "fdpic")
    assert_error(done, "no loadmaps", "--loadmaps EXEC,INTERP")
    assert not (tmp_path / "out").exists()


def test_loadmaps_are_found_on_the_stack(tmp_path: Path) -> None:
    """Without the note that would tell, AT_ENTRY does: as in what gdb writes of a live FDPIC program."""
    from support.builder import make_core

    core = (ARM / "fdpic-0x33.core").read_bytes()
    plain = tmp_path / "plain"
    loads = [
        Load(p.p_vaddr, core[p.p_offset : p.p_offset + p.p_filesz], memsz=p.p_memsz)
        for p in parse_core(core)[1]
        if p.p_type == PT_LOAD
    ]
    notes = [
        Note("CORE", n.type, n.desc[:144] + n.desc[152:] if n.type == NT_PRSTATUS else n.desc)
        for n in parse_notes(core)
    ]
    plain.write_bytes(make_core(loads, notes, bits=32, machine=40))
    assert corefilt("all", plain, "-o", tmp_path / "out", "--format", "fdpic").code == 0
    first = parse_notes((tmp_path / "out").read_bytes())[0]
    assert first.desc[144:152] == bytes.fromhex("a8ffffbd00000000")
    assert_error(
        corefilt("all", "--format", "fdpic", source=plain), "no loadmaps", "standard input", "--loadmaps EXEC,INTERP"
    )


REGISTERS = {
    "fdpic": ("arm", 72, {"r1": 1, "r12": 12, "sp": 13, "pc": 15}, "little"),
    "m68knommu": ("m68k", 70, {"d1": 0, "d7": 6, "a0": 7, "sp": 15, "pc": 18}, "big"),
}


@pytest.mark.parametrize("kind", REGISTERS)
def test_gdb_sees_the_registers(kind: str, tmp_path: Path) -> None:
    """It does not in the FDPIC core; in the other format it shows what the note has."""
    if shutil.which("gdb-multiarch") is None:
        pytest.skip("gdb-multiarch is not installed")
    machine, at, names, order = REGISTERS[kind]
    core, plain = core_of(kind, "0x33", tmp_path), tmp_path / "plain"
    assert corefilt("all", core, "-o", plain, "--format", "elf").code == 0
    status = next(note for note in parse_notes(core.read_bytes()) if note.type == NT_PRSTATUS)

    def seen(path: Path) -> dict[str, int]:
        script = [f"set architecture {machine}", "set osabi GNU/Linux", f"core-file {path}"]
        script += [f"info registers {name}" for name in names]
        command = ["gdb-multiarch", "-nx", "-batch", *(word for line in script for word in ("-ex", line))]
        environ = {**os.environ, "HOME": str(tmp_path), "DEBUGINFOD_URLS": "", "LC_ALL": "C.UTF-8"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ, check=False)
        words = [line.split() for line in done.stdout.splitlines()]
        return {w[0]: int(w[1], 16) for w in words if len(w) > 1 and w[0] in names and w[1].startswith("0x")}

    assert seen(core) == {}
    words = {name: status.desc[at + 4 * n : at + 4 * n + 4] for name, n in names.items()}
    assert seen(plain) == {name: int.from_bytes(word, order) for name, word in words.items()}


def test_elfutils_sees_the_registers(tmp_path: Path) -> None:
    if shutil.which("eu-readelf") is None:
        pytest.skip("eu-readelf (elfutils) is not installed")
    plain = tmp_path / "plain"
    assert corefilt("all", ARM / "fdpic-0x33.core", "-o", plain, "--format", "elf").code == 0

    def told(path: Path) -> str:
        return subprocess.run(["eu-readelf", "-n", path], capture_output=True, text=True, check=True).stdout

    assert "r12:   -559035188" not in told(ARM / "fdpic-0x33.core")
    assert "r12:   -559035188" in told(plain)


def test_inspect_shows_the_loadmaps() -> None:
    arm = corefilt("inspect", ARM / "fdpic-0x33.core").out.decode().splitlines()
    assert "  ELF-FDPIC, with an MMU; loadmaps at 0xbdffffa8 (program)" in arm
    assert "    the program (0xbdffffa8): 8000-11d14 has p_vaddr 0x10000" in arm
    m68k = corefilt("inspect", M68K / "m68knommu-0x33.core").out.decode().splitlines()
    assert any(line.startswith("  ELF-FDPIC, without an MMU; loadmaps at 0x4091ffb0 (program)") for line in m68k)
    assert len([line for line in m68k if "has p_vaddr" in line]) == 2
    assert not any(
        "FDPIC, with" in line for line in corefilt("inspect", ARM / "plain-0x33.core").out.decode().splitlines()
    )
