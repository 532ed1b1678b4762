"""``corefilt verify``: sound outputs of every layout hold, and every kind of breakage is found and named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.archives import PACK
from support.builder import (
    EM_386,
    EM_ARM,
    EM_PPC,
    NT_FILE,
    FileEntry,
    Load,
    Note,
    kernel_notes,
    make_core,
    nt_prstatus,
    page,
    parse_core,
    parse_notes,
    patched,
)
from support.cutting import cut_under_windows
from support.limited import patterned, write_sparse
from support.run import assert_error, corefilt
from support.samples import ANON, PAGE, SHARED, STACK, noise, sample_core, tagged

import corefilt as api
from corefilt.cli import main
from corefilt.errors import InputError
from corefilt.sizes import show_size
from corefilt.verify import Verdict, digest, verify
from corefilt.verify.files import MappedCore
from corefilt.verify.guard import guarded

FILTERS = ("0x0", "0x1", "0x31", "0x33", "0x7f", "all")
A, B, C = 0x10000, 0x40000, 0x80000


def gcore(layout: str) -> bytes:
    loads = [Load(A, noise(2, 1)), Load(B, noise(3, 2)[:-100], memsz=3 * PAGE), Load(C, noise(1, 3), flags="r--")]
    files = [FileEntry(B, B + 3 * PAGE, 0, "/dev/zero (deleted)"), FileEntry(C, C + PAGE, 0, "/data")]
    return make_core(loads, kernel_notes(files), layout=layout)


def small(bits: int, machine: int, *, little_endian: bool) -> bytes:
    shape = {"bits": bits, "machine": machine, "little_endian": little_endian}
    loads = [Load(A, noise(2, 1)), Load(B, noise(3, 2)), Load(C, noise(1, 3), flags="r--")]
    return make_core(loads, kernel_notes([(B, B + 3 * PAGE, 0, "/dev/zero (deleted)")], **shape), **shape)


def odd() -> bytes:
    """Make a core with bytes between its segments and behind them that no header claims."""
    loads = [Load(A, noise(2, 1), offset=0x2000), Load(B, noise(1, 2), offset=0x5100), Load(C, noise(1), offset=0x7000)]
    core = bytearray(make_core(loads, kernel_notes([(B, B + PAGE, 0, "/dev/zero (deleted)")]), tail=b"the end"))
    core[0x4400:0x4408], core[0x6200:0x6208] = b"between ", b" anyhow "
    return bytes(core)


CORES: dict[str, Callable[[], bytes]] = {
    "sample": sample_core,
    "gcore": lambda: gcore("gcore"),
    "gcore, notes first": lambda: gcore("gcore-notes-first"),
    "32 bits": lambda: small(32, EM_386, little_endian=True),
    "big-endian": lambda: small(32, EM_PPC, little_endian=False),
    "PN_XNUM": lambda: make_core([Load(A, noise(2, 1)), Load(B, noise(1))], kernel_notes(), xnum=True),
    "memory tags": tagged,
    "memory tags between": lambda: tagged(interleaved=True),
    "odd gaps": odd,
    "overlapping": lambda: make_core(
        [Load(A, noise(2, 1), offset=0x2000), Load(B, filesz=PAGE, memsz=PAGE, offset=0x3000)], kernel_notes()
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CORES)
def test_what_corefilt_writes_holds(name: str, tmp_path: Path) -> None:
    full, out = tmp_path / "full", tmp_path / "out"
    full.write_bytes(CORES[name]())
    for flt in FILTERS:
        api.filter(full, out, filter=flt, force=True)
        assert_holds(verify(full, out, filter=flt))


@pytest.mark.parametrize("name", CORES)
def test_what_is_punched_holds(name: str, tmp_path: Path) -> None:
    full, out, in_place = (tmp_path / word for word in ("full", "out", "in-place"))
    full.write_bytes(CORES[name]())
    for flt in ("0x31", "0x0"):
        in_place.write_bytes(full.read_bytes())
        assert corefilt(flt, in_place, "-i", "-q").code == 0
        verdict = verify(full, in_place, filter=flt)
        # A block of the disk in which other bytes are kept stays as it was.
        assert_holds(verdict, *["still in the file"] * len(verdict.changes))
        # And what is made of the punched core is what was made of the whole one.
        if name != "odd gaps":
            api.filter(in_place, out, filter="all", force=True)
            assert_holds(verify(full, out, filter=flt))
            assert_holds(verify(in_place, out, filter=flt))


def test_what_a_run_in_place_leaves_in_a_block_is_told(tmp_path: Path) -> None:
    """Where dropped memory and what is kept share a block of the disk, the block cannot become a hole."""
    full, out = tmp_path / "full", tmp_path / "out"
    full.write_bytes(gcore("gcore"))
    out.write_bytes(full.read_bytes())
    assert corefilt("0x0", out, "-i", "-q").code == 0
    lost = [phdr for phdr in parse_core(full.read_bytes())[1] if phdr.p_type == 1]
    raw = out.read_bytes()
    left = sum(len(raw[p.p_offset : p.p_offset + p.p_filesz].replace(b"\0", b"")) for p in lost)
    assert 0 < left < PAGE
    says = "that were dropped are still in the file where they were, outside its segments (-i)"
    assert verify(full, out).changes == [f"{show_size(left)} {says}"]


def assert_holds(verdict: Verdict, *changes: str) -> None:
    assert verdict.holds, str(verdict)
    assert len(verdict.changes) == len(changes), verdict.changes
    assert not [word for word in changes if not any(word in change for change in verdict.changes)], verdict.changes


def test_pipes_hold(tmp_path: Path) -> None:
    full, out = tmp_path / "full", tmp_path / "out"
    full.write_bytes(sample_core())
    for flt in FILTERS:
        out.write_bytes(corefilt(flt, source=full).out)
        verdict = verify(full, out)
        assert_holds(verdict)
        kept = sum(p.p_filesz for p in parse_core(out.read_bytes())[1] if p.p_type == 1)
        there = sum(p.p_filesz for p in parse_core(full.read_bytes())[1] if p.p_type == 1)
        assert (verdict.kept_bytes, verdict.dropped_bytes) == (kept, there - kept)


def test_what_options_change_is_told(tmp_path: Path) -> None:
    full, out = tmp_path / "full", tmp_path / "out"
    full.write_bytes(sample_core(anon_pages=64))
    assert corefilt("0x33", full, "-o", out, "--annotate", "-q").code == 0
    assert_holds(verify(full, out, filter="0x33"), "--annotate")
    assert corefilt("0x33", full, "-o", out, "-f", "--fit", "100K", "-q").code == 0
    fitted = verify(full, out, filter="0x33")
    assert_holds(fitted, "--fit")
    assert "nothing is kept that filter 0x33 drops, and more was cut, as a note says" in str(fitted)
    assert corefilt("0x33", full, "-o", out, "-f", "--minimal", "--annotate", "-q").code == 0
    assert verify(full, out, filter="0x33").holds


def fdpic() -> bytes:
    shape = {"bits": 32, "machine": EM_ARM}
    notes = [nt_prstatus(1, 32, machine=EM_ARM, size=156), *kernel_notes(None, **shape)[1:4]]
    notes = [note for note in notes if note.type != 0x53494749]
    return make_core([Load(A, noise(2, 1)), Load(B, noise(1, 2))], notes, **shape)


def test_another_format_is_told(tmp_path: Path) -> None:
    full, plain, back = (tmp_path / word for word in ("full", "plain", "back"))
    full.write_bytes(fdpic())
    assert corefilt("all", full, "-o", plain, "--format", "elf", "-q").code == 0
    assert_holds(verify(full, plain, filter="all"), "of --format", "two words less")
    assert corefilt("all", plain, "-o", back, "--format", "fdpic", "-q").code == 0
    assert_holds(verify(plain, back), "removed", "two words more")
    assert_holds(verify(full, back))
    raw = bytearray(plain.read_bytes())
    raw[raw.index(b"victim")] ^= 1
    plain.write_bytes(raw)
    assert not verify(full, plain).holds


def test_cut_cores(tmp_path: Path) -> None:
    """Of a core that was cut, the mended output holds."""
    full, out = tmp_path / "full", tmp_path / "out"
    whole = sample_core()
    for end in (len(whole) - 100, len(whole) - 5 * PAGE, 0x1000 + 10, 900):
        full.write_bytes(whole[:end])
        assert corefilt("0x33", full, "-o", out, "-f", "-q").code == 3
        assert_holds(verify(full, out, filter="0x33"))


@pytest.mark.parametrize("pack", ["zstd", "xz"])
def test_compressed_cores(pack: str, tmp_path: Path) -> None:
    """Either side, or both, can be compressed; a cut stream is a cut core on the one side, and broken on the other."""
    full, packed, out = tmp_path / "full", tmp_path / "full.x", tmp_path / "out"
    core = sample_core(anon_pages=80)
    full.write_bytes(core)
    packed.write_bytes(PACK[pack](core))
    assert corefilt("0x33", packed, "-o", out, "--compress", pack, "-q").code == 0
    for one in (full, packed):
        assert_holds(verify(one, out, filter="0x33"))
        assert_broken(one, out, "filter", "leaves 0", filter="0x31")
    whole = out.read_bytes()
    out.write_bytes(whole[:-9])
    assert_broken(full, out, "header", "is cut off")
    packed.write_bytes(packed.read_bytes()[:-9])
    assert corefilt("0x33", packed, "-o", out, "-f", "-q").code == 3
    verdict = verify(packed, out)
    assert_holds(verdict)
    assert verdict.damage == f"the {pack} stream that holds the core is cut off"


def test_what_stands_behind_the_full_cores_stream_is_told(tmp_path: Path) -> None:
    """All of the core is there, so its promises are kept; that other bytes follow is said, as digest does."""
    full, out = tmp_path / "full", tmp_path / "out"
    full.write_bytes(PACK["gzip"](sample_core()) + b"garbage\n")
    assert corefilt("0x33", full, "-o", out, "-f", "-q").code == 3
    done = corefilt("verify", full, out)
    says = "8 B after the end of the gzip stream are not part of it"
    assert (done.code, done.out.splitlines()[1]) == (0, f"  damaged: {full}: {says}".encode())
    done = corefilt("verify", full, out, "--json")
    assert (done.code, json.loads(done.out)["damage"]) == (0, says)
    full.write_bytes(sample_core())
    assert "damage" not in json.loads(corefilt("verify", full, out, "--json").out)


# --- every kind of breakage ---------------------------------------------------------------------------------


def assert_broken(full: Path, filtered: Path, what: str, *words: str, **options: str) -> Verdict:
    verdict = verify(full, filtered, **options)  # type: ignore[arg-type]
    assert not verdict.holds
    texts = [finding.text for finding in verdict.findings if finding.what == what]
    assert any(all(word in text for word in words) for text in texts), str(verdict)
    return verdict


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    full, out = tmp_path / "full", tmp_path / "out"
    full.write_bytes(sample_core())
    assert corefilt("0x33", full, "-o", out, "-q").code == 0
    return full, out


def index_of(core: bytes, vaddr: int) -> int:
    return next(i for i, phdr in enumerate(parse_core(core)[1]) if phdr.p_vaddr == vaddr)


def swapped(core: bytes, i: int, j: int) -> bytes:
    phdrs = parse_core(core)[1]
    names = {name: getattr(phdrs[i], name) for name in phdrs[i]._fields}
    there = {name: getattr(phdrs[j], name) for name in phdrs[j]._fields}
    patch = {f"phdr[{j}].{name}": value for name, value in names.items()}
    return patched(core, {**patch, **{f"phdr[{i}].{name}": value for name, value in there.items()}})


def without(core: bytes, i: int) -> bytes:
    """Take one program header out of the table; the last one takes its place."""
    ehdr, _ = parse_core(core)
    at, size = ehdr.e_phoff, ehdr.e_phentsize
    table = core[at : at + ehdr.phnum * size]
    shorter = table[: i * size] + table[(i + 1) * size :] + bytes(size)
    return patched(core[:at] + shorter + core[at + len(table) :], {"e_phnum": ehdr.phnum - 1})


def test_a_flipped_byte(pair: tuple[Path, Path]) -> None:
    full, out = pair
    raw = bytearray(out.read_bytes())
    i = index_of(raw, STACK)
    at = parse_core(raw)[1][i].p_offset + PAGE + 17
    raw[at] ^= 0x40
    out.write_bytes(raw)
    verdict = assert_broken(full, out, "payload", "1 of 8192 bytes", f"{STACK + PAGE + 17:#x}")
    (finding,) = verdict.findings
    assert (finding.segment, finding.address, finding.bytes) == (i, STACK + PAGE + 17, 1)


def test_every_flipped_bit_of_the_file_is_found(pair: tuple[Path, Path]) -> None:
    """Wherever a byte of the output is another one, that is seen; what fills up the last page of notes included."""
    full, out = pair
    before = out.read_bytes()
    for at in [*range(0, 0x1000, 331), *range(0x1000, len(before), 2 * PAGE + 31)]:
        raw = bytearray(before)
        raw[at] ^= 1 << at % 8
        out.write_bytes(raw)
        assert not verify(full, out).holds, f"byte {at:#x}"


def test_swapped_segments(pair: tuple[Path, Path]) -> None:
    full, out = pair
    raw = out.read_bytes()
    out.write_bytes(swapped(raw, 1, 2))
    assert_broken(full, out, "segment", "stands at place 2, not 1")


def test_swapped_payload(pair: tuple[Path, Path]) -> None:
    """The bytes of two segments are each other's, by p_offset alone."""
    full, out = pair
    raw = out.read_bytes()
    i, j = index_of(raw, ANON), index_of(raw, SHARED)
    phdrs = parse_core(raw)[1]
    out.write_bytes(patched(raw, {f"phdr[{i}].p_offset": phdrs[j].p_offset, f"phdr[{j}].p_offset": phdrs[i].p_offset}))
    verdict = verify(full, out)
    assert {finding.segment for finding in verdict.findings} == {i, j}


@pytest.mark.parametrize(
    ("field", "change", "what", "word"),
    [
        ("p_filesz", PAGE, "payload", "invented"),
        ("p_memsz", PAGE, "segment", "p_memsz"),
        ("p_vaddr", PAGE, "segment", "missing"),
        ("p_paddr", PAGE, "segment", "p_paddr"),
        ("p_flags", 1, "segment", "p_flags"),
        ("p_align", PAGE, "segment", "p_align"),
        ("p_offset", PAGE, "payload", "differ"),
        ("p_type", 5, "segment", "not in the full core"),
    ],
)
def test_a_changed_program_header(pair: tuple[Path, Path], field: str, change: int, what: str, word: str) -> None:
    full, out = pair
    raw = out.read_bytes()
    i = index_of(raw, ANON)
    now = getattr(parse_core(raw)[1][i], field)
    out.write_bytes(patched(raw, {f"phdr[{i}].{field}": now + change}))
    verdict = assert_broken(full, out, what, word)
    assert any(finding.segment in (i, None) for finding in verdict.findings)


def test_a_segment_behind_the_end(pair: tuple[Path, Path]) -> None:
    full, out = pair
    raw = out.read_bytes()
    out.write_bytes(raw[:-5])
    verdict = assert_broken(full, out, "segment", "5 B of its", "past the end of the file")
    assert verdict.findings[0].bytes == 5


def test_segments_that_share_bytes(tmp_path: Path) -> None:
    """Two segments of equal bytes stand in one place: each byte is right, but the file is not what was promised."""
    full, out = tmp_path / "full", tmp_path / "out"
    core = make_core([Load(A, page(b"same")), Load(B, page(b"same"))], kernel_notes())
    full.write_bytes(core)
    out.write_bytes(patched(core, {"phdr[2].p_offset": parse_core(core)[1][1].p_offset})[:-PAGE])
    assert_broken(full, out, "segment", "overlap in the file")


def test_segments_within_and_behind_another_one(tmp_path: Path) -> None:
    """Each that begins before the furthest end has bytes of that one, also behind a short one."""
    full, out = tmp_path / "full", tmp_path / "out"
    core = make_core([Load(A, noise(4, 1)), Load(B, noise(1, 2)), Load(C, noise(1, 3))], kernel_notes())
    full.write_bytes(core)
    start = parse_core(core)[1][1].p_offset
    out.write_bytes(patched(core, {"phdr[2].p_offset": start + PAGE, "phdr[3].p_offset": start + 3 * PAGE}))
    texts = [finding.text for finding in verify(full, out).findings if "overlap" in finding.text]
    assert texts == [f"segment 1 and segment {i} of the filtered core overlap in the file" for i in (2, 3)]


def test_a_dropped_segment(pair: tuple[Path, Path]) -> None:
    full, out = pair
    raw = out.read_bytes()
    i = index_of(raw, SHARED)
    out.write_bytes(without(raw, i))
    verdict = assert_broken(full, out, "segment", f"segment {i}", "is missing")
    assert any(finding.address == SHARED for finding in verdict.findings)
    # A filter has nothing to add of what is not there at all.
    assert str(verify(full, out, filter="0x33")) == str(verdict)


def test_a_segment_too_many(pair: tuple[Path, Path]) -> None:
    full, out = pair
    whole = full.read_bytes()
    full.write_bytes(without(whole, index_of(whole, STACK)))
    assert_broken(full, out, "segment", "not in the full core", f"{STACK:#x}")


def test_a_split_that_nothing_declares(tmp_path: Path) -> None:
    full, out = tmp_path / "full", tmp_path / "out"
    data = noise(4, 1)
    full.write_bytes(make_core([Load(A, data)], kernel_notes()))
    out.write_bytes(make_core([Load(A, data[:PAGE]), Load(A + PAGE, data[PAGE:])], kernel_notes()))
    assert_broken(full, out, "segment", "is split in 2, and no note records it")


def with_notes(full: Path, out: Path, change: Callable[[list[Note]], list[Note]]) -> None:
    loads = [Load(A, noise(2, 1)), Load(B, noise(1, 2))]
    notes = kernel_notes([(A, A + PAGE, 0, "/data")], threads=3)
    full.write_bytes(make_core(loads, notes))
    out.write_bytes(make_core(loads, change(notes)))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda notes: [*notes[:4], Note("CORE", NT_FILE, notes[4].desc[:-2] + b"b\0"), *notes[5:]], "NT_FILE"),
        (lambda notes: notes[:-1], "NT_PRSTATUS of 'CORE' is missing"),
        (lambda notes: [*notes[:-1], Note("CORE", 7, notes[-1].desc)], "0x7"),
        (lambda notes: [*notes[:-1], Note("CORX", 1, notes[-1].desc)], "CORX"),
        (lambda notes: [notes[1], notes[0], *notes[2:]], "NT_PRPSINFO"),
        (lambda notes: [*notes, notes[-1]], "not in the full core"),
        (lambda notes: [*notes[:-1], Note("CORE", 1, notes[-1].desc + bytes(16))], "NT_PRSTATUS"),
    ],
)
def test_changed_notes(tmp_path: Path, change: Callable[[list[Note]], list[Note]], word: str) -> None:
    full, out = tmp_path / "full", tmp_path / "out"
    with_notes(full, out, change)
    assert_broken(full, out, "notes", word)


def test_a_byte_in_a_hole(tmp_path: Path) -> None:
    """What was a hole has a byte: nothing of the full core is on the disk there."""
    full, out = tmp_path / "full", tmp_path / "out"
    core = make_core([Load(A, page(b"a")), Load(B, filesz=1 << 30, memsz=1 << 30, offset=0x2000)], kernel_notes())
    for path in (full, out):
        path.write_bytes(core)
        os.truncate(path, 0x2000 + (1 << 30))
    assert verify(full, out).holds
    with out.open("r+b") as file:
        file.seek(0x2000 + (700 << 20) + 3)
        file.write(b"!")
    assert_broken(full, out, "payload", f"{B + (700 << 20) + 3:#x}", "00 00 00")


def test_no_hole_of_a_core_in_memory_is_filled() -> None:
    """On tmpfs, whose files those of memfd_create are, a page that is looked at through a mapping is allocated."""
    core, holes = patterned(["x.x", "..x", "x..x", "0.x", "."])
    files = [os.memfd_create(name) for name in ("full", "same")]
    full, same = (Path(f"/proc/{os.getpid()}/fd/{fd}") for fd in files)
    try:
        write_sparse(full, core, holes)
        # Holes in one that are zeros in the other.
        write_sparse(same, core, {at for at in holes if at // PAGE % 2})
        before = [os.fstat(fd).st_blocks for fd in files]
        assert before[0] * 512 < len(core)
        assert verify(full, same).holds and verify(same, full).holds
        assert [one.as_dict() for one in digest(full)] == [one.as_dict() for one in digest(same)]
        assert [os.fstat(fd).st_blocks for fd in files] == before
    finally:
        for fd in files:
            os.close(fd)


def test_bytes_between_segments(tmp_path: Path) -> None:
    full, out = tmp_path / "full", tmp_path / "out"
    full.write_bytes(odd())
    assert corefilt("0x1", full, "-o", out, "-q").code == 0
    raw = out.read_bytes()
    for old, new in ((b"between ", b"betweem "), (b"the end", b"the END"), (b"the end", b"the end, and more")):
        assert old in raw
        out.write_bytes(raw.replace(old, new))
        assert_broken(full, out, "unclaimed", "are in no segment")


def test_what_a_filter_drops_must_not_stay_behind(tmp_path: Path) -> None:
    """A header that was shortened without its bytes: they are payload that the filter should have taken away."""
    full, out = tmp_path / "full", tmp_path / "out"
    core = make_core([Load(A, noise(2, 1)), Load(B, noise(1, 2))], kernel_notes())
    full.write_bytes(core)
    moved = bytearray(core)
    start = parse_core(core)[1][1].p_offset
    moved[start + PAGE : start + 2 * PAGE], moved[start + 2 * PAGE :] = core[start + 2 * PAGE :], core[start:][:PAGE]
    fields = {"phdr[1].p_filesz": PAGE, "phdr[2].p_offset": start + PAGE}
    out.write_bytes(patched(bytes(moved), fields))
    assert_broken(full, out, "unclaimed", "are in no segment")


@pytest.mark.parametrize(
    ("fields", "what", "word"),
    [
        ({"e_machine": 3}, "header", "e_machine"),
        ({"e_entry": 1}, "header", "e_entry"),
        ({"e_flags": 1}, "header", "e_flags"),
        ({"e_type": 2}, "header", "not a core dump"),
        ({"e_phoff": 1 << 40}, "header", "program headers"),
    ],
)
def test_a_changed_elf_header(pair: tuple[Path, Path], fields: dict[str, int], what: str, word: str) -> None:
    full, out = pair
    out.write_bytes(patched(out.read_bytes(), fields))
    assert_broken(full, out, what, word)


@pytest.mark.parametrize(
    ("field", "change"),
    [("sh_offset", 16), ("sh_addr", PAGE), ("sh_size", 1 << 20), ("sh_flags", 4), ("sh_type", 5), ("sh_name", 1)],
)
def test_changed_section_headers(tmp_path: Path, field: str, change: int) -> None:
    full, out = tmp_path / "full", tmp_path / "out"
    full.write_bytes(gcore("gcore"))
    assert corefilt("0x1", full, "-o", out, "-q").code == 0
    from support.builder import parse_sections

    raw = out.read_bytes()
    now = getattr(parse_sections(raw)[2], field)
    out.write_bytes(patched(raw, {f"shdr[2].{field}": now + change}))
    assert_broken(full, out, "sections", "section 2")


def test_another_filter(pair: tuple[Path, Path]) -> None:
    full, out = pair
    assert verify(full, out, filter="0x33").holds
    verdict = assert_broken(full, out, "filter", "has 16384 bytes", "leaves 0", filter="0x31")
    (finding,) = verdict.findings
    assert (finding.address, finding.bytes) == (SHARED, 16384)
    assert corefilt("0x23", full, "-o", out, "-f", "-q").code == 0
    assert_broken(full, out, "filter", "has 0 bytes", "leaves 4096", filter="0x33")


def test_evidence_counts_for_the_filter(tmp_path: Path) -> None:
    full, out = tmp_path / "full", tmp_path / "out"
    full.write_bytes(make_core([Load(A, noise(2, 1))], kernel_notes([(A, A + 2 * PAGE, 0, "/data/file")])))
    assume = "/data/file=shared-file-backed"
    assert corefilt("0x31", full, "-o", out, "--assume", assume, "-q").code == 0
    assert verify(full, out, filter="0x31").holds
    assert verify(full, out, filter="0x31", assume=[assume]).holds
    assert not verify(full, out, filter="0x31", assume=["/data/file=private-file-written"]).holds


def test_none_at_all(pair: tuple[Path, Path]) -> None:
    full, out = pair
    out.write_bytes(b"no core")
    assert_broken(full, out, "header", "not an ELF file")
    out.write_bytes(b"")
    assert_broken(full, out, "header", "not an ELF file")


# --- files that change, huge files, hostile ones ------------------------------------------------------------


def test_a_terabyte_of_holes(tmp_path: Path) -> None:
    full, out = tmp_path / "full", tmp_path / "out"
    size = 1 << 40
    loads = [Load(A, page(b"a")), Load(1 << 44, filesz=size, memsz=size, offset=0x2000)]
    full.write_bytes(make_core(loads, kernel_notes()))
    try:
        os.truncate(full, 0x2000 + size)
    except OSError:
        pytest.skip("this file system has no files of a terabyte")
    with full.open("r+b") as file:
        for at in (1 << 20, 1 << 39, size - PAGE):
            file.seek(0x2000 + at)
            file.write(noise(1, at))
    assert corefilt("all", full, "-o", out, "-q").code == 0
    verdict = verify(full, out, filter="all")
    assert_holds(verdict)
    assert verdict.kept_bytes == size + PAGE


def test_a_file_that_is_cut_under_a_window(tmp_path: Path) -> None:
    """The page is gone when it is touched: the process that looks dies, and the caller is told."""
    path = tmp_path / "core"
    path.write_bytes(noise(4))

    def work() -> int:
        with MappedCore(path) as file, file.window(0, 4 * PAGE) as view:
            os.truncate(path, 0)
            return view[2 * PAGE]

    with pytest.raises(InputError, match="was truncated while it was read"):
        guarded(work, str(path))


@pytest.mark.parametrize("which", [0, 1], ids=["the full core", "the filtered core"])
def test_command_when_a_core_is_cut(
    which: int,
    pair: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command says so, with exit code 1."""
    cut_under_windows(monkeypatch, str(pair[which]))
    assert main(["verify", *map(str, pair)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [
        f"corefilt: {pair[0]} or {pair[1]}: was truncated while it was read, or its disk failed",
        "  try: wait until nobody writes to it",
    ]
    assert pair[which].stat().st_size == 0


def test_a_file_that_is_cut_before_a_window(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(noise(4))
    with MappedCore(path) as file:
        os.truncate(path, PAGE)
        with pytest.raises(InputError, match="byte 4096 is gone"):
            file.window(PAGE, PAGE)
        with pytest.raises(InputError, match="was truncated"):
            file.read(0, 4 * PAGE)


def test_a_file_that_is_written_to(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(noise(4))
    with MappedCore(path) as file:
        file.check_unchanged()
        with path.open("ab") as more:
            more.write(b"more")
        with pytest.raises(InputError, match="was changed while it was read"):
            file.check_unchanged()


def test_a_child_that_is_killed_is_an_error() -> None:
    with pytest.raises(Exception, match="signal 9"):
        guarded(lambda: os.kill(os.getpid(), signal.SIGKILL), "core")


def test_what_the_child_raises_comes_through() -> None:
    def work() -> None:
        raise InputError("here", "there")

    with pytest.raises(InputError, match="here") as caught:
        guarded(work, "core")
    assert caught.value.hint == "there"


@pytest.mark.parametrize(
    "patch",
    [
        {"phdr[1].p_filesz": 1 << 62},
        {"phdr[1].p_offset": (1 << 63) - 1},
        {"phdr[0].p_filesz": 1 << 40},
        {"phdr[0].p_offset": 1 << 62},
        {"e_phnum": 0xFFFE},
        {"e_phnum": 0},
        {"e_shoff": 1 << 62, "e_shnum": 0xFFFF, "e_shentsize": 64},
        {"phdr[2].p_vaddr": (1 << 64) - PAGE, "phdr[2].p_memsz": (1 << 64) - 1},
    ],
)
def test_hostile_tables(patch: dict[str, int], pair: tuple[Path, Path]) -> None:
    """What a header claims is neither allocated nor walked, on either side."""
    full, out = pair
    whole = full.read_bytes()
    for one, other in ((full, out), (out, full)):
        before = other.read_bytes()
        other.write_bytes(patched(before, patch))
        done = corefilt("verify", one, other, memory=600 << 20)
        assert done.code in (1, 4), done
        other.write_bytes(before)
    assert full.read_bytes() == whole


def test_a_sparse_segment_of_notes(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.write_bytes(make_core([Load(A, page(b"a"))], kernel_notes(), patch={"phdr[0].p_filesz": 1 << 40}))
    os.truncate(full, 1 << 41)
    assert verify(full, full).holds


# --- the command --------------------------------------------------------------------------------------------


def test_command(pair: tuple[Path, Path], tmp_path: Path) -> None:
    full, out = pair
    done = corefilt("verify", full, out, "--filter", "0x33")
    assert (done.code, done.err) == (0, ())
    assert b"holds" in done.out
    done = corefilt("verify", full, out, "--filter", "0x31")
    assert (done.code, done.err) == (4, ())
    assert b"BROKEN in 1 place" in done.out
    assert b"filter: segment 2 (0x2000000-0x2004000)" in done.out

    done = corefilt("verify", full, out, "--filter", "0x31", "--json")
    report = json.loads(done.out)
    assert done.code == 4
    assert report["schema"] == 1
    assert (report["full"], report["filtered"], report["filter"]) == (str(full), str(out), "0x31")
    assert report["holds"] is False
    assert report["findings"][0]["address"] == "0x2000000"
    assert set(report["findings"][0]) == {"what", "segment", "address", "bytes", "text"}
    assert set(report) == {
        "schema", "version", "full", "filtered", "filter", "holds", "segments", "kept_bytes", "dropped_bytes",
        "changes", "findings",
    }  # fmt: skip
    target = tmp_path / "report.json"
    done = corefilt("verify", full, out, f"--json={target}")
    assert (done.code, json.loads(target.read_text())["holds"]) == (0, True)
    assert b"holds" in done.out


def test_command_errors(pair: tuple[Path, Path], tmp_path: Path) -> None:
    full, out = pair
    assert_error(corefilt("verify", tmp_path / "no", out), "No such file")
    assert_error(corefilt("verify", full, tmp_path / "no"), "No such file")
    assert_error(corefilt("verify", full, tmp_path), "not a regular file")
    assert_error(corefilt("verify", full, out, f"--json={out}"), "is a core of this run", code=2)
    assert_error(corefilt("verify", full, out, "--filter", "33"), code=2)
    assert_error(corefilt("verify", full), "FILTERED", code=2)
    (tmp_path / "text").write_text("no core")
    assert_error(corefilt("verify", tmp_path / "text", out), "not an ELF file")


def test_what_is_missing_is_said(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """Without the libraries, one line tells what to install."""
    full, out = pair
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nfrom importlib.abc import MetaPathFinder\n"
        "class Without(MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name.partition('.')[0] == 'xxhash': raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Without())\n"
    )
    code = "from corefilt.cli import main; import sys; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "verify", full, out],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "xxhash is not installed" in done.stderr
    assert "pip install xxhash" in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_notes_of_the_sample_are_as_the_tests_believe(pair: tuple[Path, Path]) -> None:
    full, out = pair
    assert parse_notes(full.read_bytes()) == parse_notes(out.read_bytes())
