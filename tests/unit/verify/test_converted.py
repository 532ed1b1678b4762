"""Notes that --format wrote anew, as `verify` holds them: every byte but addresses that the full core lacks."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from support.builder import (
    EM_68K,
    EM_ARM,
    EM_RISCV,
    Load,
    Note,
    kernel_notes,
    make_core,
    note_bytes,
    nt_prstatus,
    parse_core,
    parse_notes,
)
from support.samples import noise
from support.thinned import one_in

import corefilt
from corefilt.verify import converted, proof, verify

A, B = 0x10000, 0x40000
NT_PRFPREG, NT_SIGINFO = 2, 0x53494749
LOADMAPS = (0xBDFFFFA8, 0xBDFFFF70)


class Machine(NamedTuple):
    """The ``size`` of its plain struct elf_prstatus, and ``at`` which byte of it the two words stand in the other."""

    e_machine: int
    bits: int
    little: bool
    size: int
    at: int


MACHINES = {
    "ARM": Machine(EM_ARM, 32, True, 148, 144),
    "m68k": Machine(EM_68K, 32, False, 154, 150),
    "RISC-V": Machine(EM_RISCV, 64, True, 376, 368),
}


def notes_of(machine: str, wide: int, pairs: list[tuple[int, int]]) -> list[Note]:
    """Threads, of which the first ``wide`` are an FDPIC dumper's; where all are, there is no note that it lacks."""
    e_machine, bits, little, size, at = MACHINES[machine]
    shape = {"bits": bits, "machine": e_machine, "little_endian": little}
    threads = []
    for n, pair in enumerate(pairs):
        desc = nt_prstatus(n + 1, bits, machine=e_machine, size=size, little_endian=little).desc
        words = struct.pack(("<" if little else ">") + ("II" if bits == 32 else "QQ"), *pair)
        threads.append(Note("CORE", 1, desc[:at] + words + desc[at:] if n < wide else desc))
    others = [note for note in kernel_notes(None, **shape)[1:] if wide < len(pairs) or note.type != NT_SIGINFO]  # type: ignore[arg-type]
    return [*threads[:1], Note("CORE", NT_PRFPREG, noise(1)[:116]), *others, *threads[1:]]


def write(path: Path, machine: str, notes: list[Note] | bytes) -> None:
    e_machine, bits, little, *_ = MACHINES[machine]
    loads = [Load(A, noise(2, 1)), Load(B, noise(1, 2))]
    path.write_bytes(make_core(loads, notes, bits=bits, machine=e_machine, little_endian=little))


def words_of(machine: str) -> range:
    """Where the two words of an FDPIC core stand in its first note."""
    _, bits, *_, at = MACHINES[machine]
    return range(20 + at, 20 + at + bits // 4)


def places(machine: str, length: int, step: int) -> list[int]:
    """Places in so many bytes of notes, closer ones in the first two; at the ends of the two words in any run."""
    size, words = MACHINES[machine].size, words_of(machine)
    every = sorted({*range(0, length, 17), *range(80), *range(size - 10, size + 40)})
    return sorted({*every[::step], words.start - 1, words.start, words.stop - 1, words.stop})


def unseen(full: Path, out: Path, machine: str, step: int) -> Iterator[int]:
    """Places in the notes where a flipped bit breaks no promise."""
    raw = out.read_bytes()
    phdr = parse_core(raw)[1][0]
    for at in places(machine, phdr.p_filesz, step):
        damaged = bytearray(raw)
        damaged[phdr.p_offset + at] ^= 1 << at % 8
        out.write_bytes(damaged)
        if verify(full, out).holds:
            yield at
    out.write_bytes(raw)


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, Path]:
    """Name three files; they are not cut while they are read, and a child for each look would take the longest."""
    monkeypatch.setattr(proof, "guarded", lambda work, *_, **__: work())
    return tmp_path / "full", tmp_path / "out", tmp_path / "back"


@one_in(5)
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    "pairs",
    [
        pytest.param([LOADMAPS], id="alike", marks=pytest.mark.slow),
        pytest.param([LOADMAPS, (1, 2)], id="of their own"),
    ],
)
def test_every_flipped_bit_of_a_plain_cores_notes_is_found(
    machine: str, pairs: list[tuple[int, int]], step: int, paths: tuple[Path, Path, Path]
) -> None:
    """Also in zeros, in padding, and in the note that keeps what NT_PRSTATUS lost."""
    full, out, back = paths
    write(full, machine, notes_of(machine, len(pairs), pairs))
    corefilt.filter(full, out, filter="all", format="elf", sync=False)
    verdict = verify(full, out)
    assert verdict.holds, verdict
    threads = "1 thread" if len(pairs) == 1 else "2 threads"
    assert verdict.changes[1:] == [f"NT_PRSTATUS of {threads} has two words less (--format)"]
    corefilt.filter(out, back, filter="all", format="fdpic", sync=False)
    assert verify(out, back).changes == [
        "a COREFILT note of --format was removed",
        f"NT_PRSTATUS of {threads} has two words more (--format)",
    ]
    assert list(unseen(full, out, machine, step)) == []


@one_in(5)
@pytest.mark.parametrize("machine", MACHINES)
def test_addresses_that_only_an_fdpic_core_has_are_told(
    machine: str, step: int, paths: tuple[Path, Path, Path]
) -> None:
    """One thread's are compared with nothing; of two threads they must be the same. Each other byte is compared."""
    full, out, _ = paths
    told = (
        "the loadmaps' addresses in NT_PRSTATUS, 0xbdffffa8 and 0xbdffff70, are in no note of the full core (--format)"
    )
    for count in (1, 2):
        write(full, machine, notes_of(machine, 0, [LOADMAPS] * count))
        corefilt.filter(full, out, filter="all", format="fdpic", loadmaps=LOADMAPS, force=True, sync=False)
        verdict = verify(full, out)
        assert verdict.holds, verdict
        assert verdict.changes[1:2] == [told], verdict
        length = parse_core(out.read_bytes())[1][0].p_filesz
        words = [at for at in places(machine, length, step) if at in words_of(machine)]
        assert list(unseen(full, out, machine, step)) == (words if count == 1 else [])


def test_notes_that_the_fdpic_dumper_writes_may_not_be_missing(paths: tuple[Path, Path, Path]) -> None:
    full, out, _ = paths
    plain = notes_of("ARM", 0, [LOADMAPS])
    write(full, "ARM", plain)
    dumped = notes_of("ARM", 1, [LOADMAPS])
    siginfo = next(note for note in plain if note.type == NT_SIGINFO)
    write(out, "ARM", dumped)
    assert verify(full, out).holds
    assert "NT_PRSTATUS of 1 thread has two words more, and 1 note was left out (--format)" in verify(full, out).changes
    for left_out in dumped[1:]:
        write(out, "ARM", [note for note in dumped if note is not left_out])
        assert [finding.what for finding in verify(full, out).findings] == ["notes"], left_out.type
    for more in ([*dumped, dumped[-1]], [*dumped, siginfo]):
        write(out, "ARM", more)
        assert [finding.what for finding in verify(full, out).findings] == ["notes"]
    # Nor any other where no thread is wide.
    write(out, "ARM", [note for note in plain if note is not siginfo])
    assert [finding.what for finding in verify(full, out).findings] == ["notes"]
    # Of another name, the type means nothing.
    write(full, "ARM", [*plain, Note("LINUX", NT_PRFPREG, b"x" * 8)])
    write(out, "ARM", dumped)
    assert verify(full, out).holds
    # Whatever else corefilt wrote, the dumper or not, stays.
    own = Note("COREFILT", 7, b"of a later one")
    write(full, "ARM", [*plain, own])
    write(out, "ARM", dumped)
    assert not verify(full, out).holds
    write(out, "ARM", [*dumped, own])
    assert verify(full, out).holds


def test_a_plain_core_keeps_every_note_and_has_one_more(paths: tuple[Path, Path, Path]) -> None:
    full, out, _ = paths
    siginfo = next(note for note in notes_of("ARM", 0, [LOADMAPS]) if note.type == NT_SIGINFO)
    # As Linux 4.14 to 5.8 writes plain cores on ARM.
    write(full, "ARM", [*notes_of("ARM", 1, [LOADMAPS]), siginfo])
    corefilt.filter(full, out, filter="all", format="elf", sync=False)
    origin, *plain = parse_notes(out.read_bytes())
    write(out, "ARM", [origin, *plain])
    assert verify(full, out).holds
    for left_out in range(1, len(plain)):
        write(out, "ARM", [origin, *plain[:left_out], *plain[left_out + 1 :]])
        assert [finding.what for finding in verify(full, out).findings] == ["notes"]
    for own in ([], [origin, origin]):
        write(out, "ARM", [*own, *plain])
        (finding,) = verify(full, out).findings
        assert (finding.what, finding.segment) == ("notes", 0)
        assert finding.text == "no COREFILT note of --format records what NT_PRSTATUS and e_flags were"


@pytest.mark.parametrize(("wide", "to"), [(1, "elf"), (0, "fdpic")])
def test_notes_of_more_than_is_read_at_once_are_no_other_format(
    wide: int, to: str, paths: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As corefilt converts none; twice as much is room for what it adds."""
    full, out, _ = paths
    write(full, "ARM", [note for note in notes_of("ARM", wide, [LOADMAPS]) if note.type != NT_SIGINFO])
    corefilt.filter(full, out, filter="all", format=to, loadmaps=None if wide else LOADMAPS, sync=False)
    larger = parse_core((full if wide else out).read_bytes())[1][0].p_filesz
    assert larger % 2 == 0
    monkeypatch.setattr(converted, "MOST_WALKED", larger // 2)
    assert verify(full, out).holds
    monkeypatch.setattr(converted, "MOST_WALKED", larger // 2 - 1)
    assert not verify(full, out).holds


def test_empty_notes_at_the_end(paths: tuple[Path, Path, Path]) -> None:
    """A plain core has them as before, and the FDPIC dumper writes none."""
    full, out, _ = paths
    empty = Note(b"", 0, b"", namesz=0).encode()
    assert empty == bytes(12)
    wide, plain = notes_of("ARM", 1, [LOADMAPS]), notes_of("ARM", 0, [LOADMAPS])
    write(full, "ARM", wide)
    corefilt.filter(full, out, filter="all", format="elf", sync=False)
    converted_notes = parse_notes(out.read_bytes())
    held = {}
    for to, before, after in (("elf", wide, converted_notes), ("fdpic", plain, wide)):
        write(full, "ARM", note_bytes(before) + empty * 2)
        for rest in (b"", empty, empty * 2, empty * 3, b"x" * 8):
            write(out, "ARM", note_bytes(after) + rest)
            held[to, rest] = verify(full, out).holds
    assert [there for there, holds in held.items() if holds] == [
        ("elf", empty * 2),
        ("fdpic", b""),
        ("fdpic", empty * 2),
    ]
    write(full, "ARM", note_bytes(plain) + b"x" * 8)
    write(out, "ARM", wide)
    assert not verify(full, out).holds
    # Cut off between them.
    write(full, "ARM", note_bytes(wide) + empty * 2)
    write(out, "ARM", note_bytes(converted_notes) + empty * 2)
    raw = out.read_bytes()
    phdr = parse_core(raw)[1][0]
    for there, found in (
        (raw[: phdr.p_offset + phdr.p_filesz - 12], False),
        (raw[: phdr.p_offset + phdr.p_filesz - 20] + b"x", True),
    ):
        out.write_bytes(there)
        findings = [finding.what for finding in verify(full, out, truncate=len(there)).findings]
        assert ("notes" in findings) == found


@pytest.mark.parametrize(
    ("kept", "got", "holds"),
    [
        ([LOADMAPS], [LOADMAPS, LOADMAPS], True),
        ([LOADMAPS, (1, 2)], [LOADMAPS, (1, 2)], True),
        ([LOADMAPS, (1, 2), (3, 4)], [LOADMAPS, (1, 2), (3, 4)], True),
        ([LOADMAPS, (1, 2)], [(1, 2), LOADMAPS], False),
        ([LOADMAPS, (1, 2)], [LOADMAPS, (1, 3)], False),
        ([LOADMAPS], [LOADMAPS, (1, 2)], False),
        ([LOADMAPS], [(1, 2), (1, 2)], None),
    ],
)
def test_threads_get_back_what_a_note_kept_of_each(
    kept: list[tuple[int, int]], got: list[tuple[int, int]], holds: bool | None, paths: tuple[Path, Path, Path]
) -> None:
    """Or all the same that --loadmaps gave, which is told."""
    full, out, back = paths
    write(full, "ARM", notes_of("ARM", len(got), kept * 2 if len(kept) == 1 else kept))
    corefilt.filter(full, out, filter="all", format="elf", sync=False)
    write(back, "ARM", notes_of("ARM", len(got), got))
    verdict = verify(out, back)
    if holds is False:
        (finding,) = verdict.findings
        assert finding.text == "the threads' NT_PRSTATUS have different addresses of loadmaps (--format)"
    else:
        assert verdict.holds, verdict
        assert len(verdict.changes) == (2 if holds else 3)


def test_a_note_of_any_length_may_have_kept_them(paths: tuple[Path, Path, Path]) -> None:
    """Anybody can write one; what is no whole pair counts for nothing."""
    full, out, _ = paths
    write(out, "ARM", notes_of("ARM", 1, [LOADMAPS]))
    whole = struct.pack("<IIIIQQQQ", 1, 0, 2, 0, *LOADMAPS, *LOADMAPS)
    for length in range(len(whole) + 1):
        write(full, "ARM", [Note("COREFILT", 0x46445043, whole[:length]), *notes_of("ARM", 0, [LOADMAPS])])
        verdict = verify(full, out)
        assert verdict.holds, verdict
        assert any("in no note" in change for change in verdict.changes) == (length < 32)


def test_threads_that_are_wide_already_tell_the_addresses(paths: tuple[Path, Path, Path]) -> None:
    full, out, _ = paths
    write(full, "ARM", notes_of("ARM", 1, [LOADMAPS, LOADMAPS]))
    write(out, "ARM", notes_of("ARM", 2, [LOADMAPS, LOADMAPS]))
    verdict = verify(full, out)
    assert verdict.holds, verdict
    assert verdict.changes == ["NT_PRSTATUS of 2 threads has two words more, and 1 note was left out (--format)"]
    write(out, "ARM", notes_of("ARM", 2, [LOADMAPS, (1, 2)]))
    assert (
        verify(full, out).changes[1].startswith("the loadmaps' addresses in NT_PRSTATUS, 0x1 and 0x2, are in no note")
    )


def test_notes_of_another_format_that_are_cut(paths: tuple[Path, Path, Path]) -> None:
    """Wherever they end, each byte of what is there is compared, but for addresses that no other thread has."""
    full, out, _ = paths
    for wide, to in ((40, "elf"), (0, "fdpic")):
        write(full, "ARM", notes_of("ARM", wide, [LOADMAPS] * 40))
        loadmaps = LOADMAPS if to == "fdpic" else None
        for limit in (4096, 4500, 5000, 5600):
            options = {"filter": "all", "truncate": limit, "force": True, "sync": False}
            corefilt.filter(full, out, format=to, loadmaps=loadmaps, **options)  # type: ignore[arg-type]
            assert out.stat().st_size < parse_core(full.read_bytes())[1][1].p_offset
            verdict = verify(full, out, truncate=limit)
            assert verdict.holds, verdict
            assert any("two words" in change for change in verdict.changes)
            raw = bytearray(out.read_bytes())
            for back in (1, 30, 100):
                raw[-back] ^= 1
                out.write_bytes(raw)
                assert not verify(full, out, truncate=limit).holds, (to, limit, back)
                raw[-back] ^= 1
