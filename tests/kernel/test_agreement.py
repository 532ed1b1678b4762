"""What counts agreement counts right, and reaches processes that are hard to dump from outside."""

import subprocess
from pathlib import Path

import pytest
from kernel.agreement import below_the_bars, left_open
from kernel.comparing import CORE, PID, SMAPS, Agreement, Disagreement, differences, place, without_copies
from kernel.conventions import Counts, count, merge, true_kinds
from kernel.dumps import FULL, PAGE, Core
from kernel.programs import SINGLE_BITS, SOURCES, visit
from kernel.tables import causes, conventions, guesses, losses
from support.builds import INTERPRETER

from corefilt.classify.conventions import IMAGE_TEXT, NO_DAX
from corefilt.kinds import Classification, Kind

SIZE = 4 * PAGE
BITS = (0, *SINGLE_BITS)


def kernel_keeps(**sizes: int) -> dict[int, int]:
    """Return what the kernel keeps under no bit and every single one; keywords are like bit_1."""
    return {bit: sizes.get(f"bit_{bit}", 0) for bit in BITS}


WRITTEN = kernel_keeps(bit_1=SIZE, bit_4=SIZE)
CLEAN = kernel_keeps(bit_4=SIZE)
DELETED = "1000-5000 rw-s 0 /tmp/a (deleted)"


def finding(possible: int, *taken: tuple[object, int]) -> Classification:
    """Return a finding that conventions have taken kinds from."""
    proven = possible
    for _, kinds in taken:
        proven |= kinds
    return Classification(possible, proven, possible & -possible, "inferred", ("a reason",), 0, "current", taken)


def disagreement(
    found: Classification,
    kernel: dict[int, int],
    label: str = "1000-5000 r-xp 0 /usr/lib/a",
    *,
    copies_gone: bool = False,
) -> Disagreement:
    """Return what corefilt gets wrong of one mapping."""
    lost, counted, extra, unreported = differences(
        found.possible, found.proven, found.likely, "keep", SIZE, tuple(kernel.values())
    )
    return Disagreement(0x1000, label, SIZE, kernel, found, lost, counted, extra, unreported, copies_gone)


@pytest.mark.parametrize(
    ("kernel", "kinds"),
    [
        (WRITTEN, Kind.WRITTEN_FILE),
        (CLEAN, Kind.PRIVATE_FILE),
        (kernel_keeps(bit_4=SIZE, bit_16=PAGE), Kind.PRIVATE_FILE_HEADED),
        (kernel_keeps(bit_64=SIZE), Kind.SHARED_HUGE),
        (kernel_keeps(), Kind.EXCLUDED),
        (kernel_keeps(bit_8=PAGE), 0),
    ],
)
def test_the_kernel_tells_a_kind(kernel: dict[int, int], kinds: int) -> None:
    """The sizes under single bits are a kind's own."""
    assert true_kinds(kernel, SIZE) == kinds


def test_conventions_are_counted() -> None:
    """One that took the true kind is broken, at the price of what it drops; one that took others agrees."""
    found = finding(Kind.PRIVATE_FILE, (IMAGE_TEXT, Kind.WRITTEN_FILE), (NO_DAX, Kind.DAX))
    counts: Counts = {}
    count(counts, CORE, "of a", found, WRITTEN, SIZE)
    count(counts, CORE, "of b", found, CLEAN, SIZE)
    count(counts, CORE, "of nothing", found, kernel_keeps(), 0)
    assert (counts["image-text", CORE].agree, counts["image-text", CORE].broken) == (1, [("of a", SIZE)])
    assert (counts["no-dax", CORE].agree, counts["no-dax", CORE].broken) == (2, [])
    merged = merge([counts, counts])
    assert (merged["image-text", CORE].agree, merged["image-text", CORE].lost) == (2, 2 * SIZE)


def test_what_is_lost_is_counted_or_not() -> None:
    """Only what a convention dropped is in a summary."""
    by_convention = disagreement(finding(Kind.PRIVATE_FILE, (IMAGE_TEXT, Kind.WRITTEN_FILE)), WRITTEN)
    assert by_convention.lost[0x1] == by_convention.counted[0x1] == by_convention.most_lost == SIZE
    assert 0x4 not in by_convention.lost
    proven = disagreement(finding(Kind.PRIVATE_FILE), WRITTEN)
    assert proven.lost == by_convention.lost
    assert not proven.counted


def test_bars() -> None:
    """Bytes lost break a bar, and so does what a process's own evidence leaves open although it could settle it."""
    lost = disagreement(finding(Kind.PRIVATE_FILE), WRITTEN)
    gone = disagreement(finding(Kind.PRIVATE_FILE | Kind.WRITTEN_FILE), CLEAN, copies_gone=True)
    there = disagreement(finding(Kind.PRIVATE_FILE | Kind.WRITTEN_FILE), CLEAN)
    shared = disagreement(finding(Kind.PRIVATE_FILE | Kind.SHARED_FILE), CLEAN)
    unlinked = disagreement(finding(Kind.SHARED_ANON | Kind.SHARED_FILE), kernel_keeps(bit_2=SIZE), DELETED)
    headed = disagreement(finding(Kind.CLEAN), CLEAN)
    unreported = disagreement(finding(Kind.WRITTEN_FILE, (IMAGE_TEXT, Kind.PRIVATE_FILE)), CLEAN)
    cases = (lost, gone, there, shared, unlinked, headed, unreported)

    def broken(evidence: str, case: Disagreement) -> int:
        return len(list(below_the_bars([Agreement("a", evidence, "keep", 1, [case])])))

    assert [broken(CORE, case) for case in cases] == [1, 0, 0, 0, 0, 0, 0]
    assert [broken(SMAPS, case) for case in cases] == [2, 0, 1, 1, 0, 0, 1]
    assert [broken(PID, case) for case in cases] == [2, 0, 1, 1, 1, 1, 1]
    # What the files themselves leave open as well, a saved smaps does not leave open for want of them.
    both = [Agreement("a", evidence, "keep", 1, [headed]) for evidence in (PID, SMAPS)]
    assert len(list(below_the_bars(both))) == 2


def test_what_has_no_copies_of_its_own() -> None:
    """Only what could be written to can have had any."""
    smaps = "".join(
        f"{start:x}-{start + SIZE:x} rw-p 0 00:00 1 /a\nAnonymous: {own} kB\nSwapPss: {swapped} kB\nVmFlags: {flags}\n"
        for start, own, swapped, flags in (
            (0x1000, 0, 0, "rd wr ac"),
            (0x9000, 4, 0, "rd wr ac"),
            (0x19000, 0, 4, "rd wr ac"),
            (0x29000, 0, 0, "rd mr"),
        )
    )
    assert without_copies(smaps) == {0x1000}


def test_what_evidence_leaves_open_is_counted_by_cause() -> None:
    headed = disagreement(finding(Kind.CLEAN), CLEAN)
    gone = disagreement(finding(Kind.PRIVATE_FILE | Kind.WRITTEN_FILE), CLEAN, copies_gone=True)
    other = disagreement(finding(Kind.PRIVATE_FILE | Kind.SHARED_FILE), CLEAN)
    rows = left_open(
        [Agreement("a", SMAPS, "keep", 3, [headed, headed, gone]), Agreement("b", PID, "keep", 1, [other])]
    )
    assert rows[2:] == [
        "| `--maps` smaps | the mode of its file | 2 | 8 KiB | 1: a |",
        "| `--maps` smaps | whether its copies are gone | 1 | 16 KiB | 1: a |",
        "| `--pid` | none of these | 1 | 16 KiB | 1: b |",
    ]


def test_tables() -> None:
    """Each table has a row for what it is about."""
    lost = disagreement(finding(Kind.PRIVATE_FILE, (IMAGE_TEXT, Kind.WRITTEN_FILE)), WRITTEN)
    extra = disagreement(finding(Kind.PRIVATE_FILE | Kind.WRITTEN_FILE_HEADED), CLEAN, "1000-5000 rw-p 0 /memfd:a")
    result = Agreement("a process", CORE, "keep", 2, [lost, extra])
    count(result.conventions, CORE, "of a", lost.finding, WRITTEN, SIZE)
    assert any("/usr/lib/a" in row and "16 KiB under 0x1" in row for row in losses([result]))
    assert any("writable memfd | private-file-backed | private-file-written |" in row for row in causes([result]))
    guessed = Agreement("a process", CORE, "guess", 1, guesses=[("a file", "one", "one"), ("a file", "one", "other")])
    assert "| a file | one | 1 | 1 other |" in guesses([guessed])
    assert any(row.startswith("| `image-text`") and "0 / 1" in row for row in conventions([result]))


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("1000-2000 r--s 00000000 /dev/shm/a b", "unwritable file in /dev/shm"),
        ("1000-2000 rw-p 00000000 (anonymous)", "writable no file"),
        ("1000-2000 r-xp 00000000 /opt/a", "unwritable other file"),
        ("memfd-private", "memfd-private"),
    ],
)
def test_places(label: str, expected: str) -> None:
    """A line of maps says what sort of mapping it is."""
    assert place(label) == expected


def test_what_is_hard_to_dump(forker: Path, tmp_path: Path) -> None:
    """A twin has the memory that fork leaves out and dies of the signal that is handled; the process keeps its ways."""
    command = [INTERPRETER, str(SOURCES / "stubborn.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().split() == ["ready", str(process.pid)]
        process.stdin.write("where\n")
        process.stdin.flush()
        address = int(process.stdout.readline())
        with visit("stubborn", process.pid, forker, tmp_path / "visit") as visited:
            full = Core(visited.full)
            (load,) = (each for each in full.loads.values() if each.p_vaddr <= address < each.p_vaddr + each.p_memsz)
            at = load.p_offset + address - load.p_vaddr
            assert full.data[at : at + SIZE] == b"x" * SIZE
            assert visited.twins[FULL].length == len(full.data)
        flags = ""
        for line in Path(f"/proc/{process.pid}/smaps").read_text().splitlines():
            if line.partition("-")[0] == f"{address:x}":
                flags = "found"
            elif flags == "found" and line.startswith("VmFlags:"):
                flags = line
        assert " dc" in flags
        process.stdin.close()
        assert process.wait(60) == 0
