"""Programs that break what programs are known to do: nothing that the kernel keeps of them may be lost.

Each once under every filter; what corefilt cannot tell of them, it says.
"""

import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from kernel.dumps import (
    FILTERS,
    FULL,
    PAGE,
    CannotCompileError,
    Core,
    compile_c,
    dumping,
    huge_pages,
    only_file,
    run_corefilt,
)
from support.builds import PATIENCE
from support.opening import open_file
from support.run import corefilt
from support.thinned import one_in

import corefilt as api
from corefilt.classify.classifier import classifier_for
from corefilt.plan.plan import KeepPlan

PT_LOAD, PT_NOTE = 1, 4
PF_R, PF_W, PF_X = 4, 2, 1
PIE = ("-O1", "-fPIE", "-pie")
# As the program is built, and what it is told to do.
PROGRAMS = {
    "nothing": PIE,
    "rwx": PIE,
    "split": PIE,
    "memfd": PIE,
    "hugememfd": PIE,
    "noexec": PIE,
    "map": PIE,
    "library": PIE,
    "textrel": (*PIE, "-Wl,-z,notext", "textrel.s"),
    "shared-page": (*PIE, "-Wl,-z,noseparate-code"),
    "gold": (*PIE, "-fuse-ld=gold"),
}
EVIDENCE = ("core", "smaps", "pipe")
by_evidence = pytest.mark.parametrize("evidence", EVIDENCE)


@dataclass(frozen=True)
class Dumped:
    """One program's cores by filter, and its smaps; the address spaces are the same."""

    mode: str
    program: Path
    cores: dict[int, Core]
    smaps: Path

    @property
    def full(self) -> Path:
        """The core that has everything."""
        return self.cores[FULL].path

    def sizes(self, evidence: str, value: int, unknown: str = "keep") -> tuple[dict[int, int], dict[int, int]]:
        """Return what corefilt keeps of every mapping by its address, and what it drops on a convention."""
        with open_file(self.full) as core:
            options = {"maps": str(self.smaps)} if evidence == "smaps" else {}
            if evidence == "pipe":
                plan = KeepPlan(core, api.CoredumpFilter(value), classifier_for(core, with_payload=False), unknown)
            else:
                plan = core.plan(value, unknown=unknown, **options)
            starts = [mapping.start for mapping in plan.mappings]
            kept = {start: plan.kept(m) for m, start in enumerate(starts)}
            return kept, dict(zip(starts, plan.inferred, strict=True))

    def of_program(self, flags: int) -> list[int]:
        """Return where the program's own mappings with some flags begin, by what maps says."""
        letters = "".join(letter if flags & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1)))
        lines = [line.split() for line in self.smaps.read_text().splitlines()]
        mine = [fields for fields in lines if fields[-1] == str(self.program) and fields[1].startswith(letters)]
        return [int(fields[0].split("-")[0], 16) for fields in mine]


def dump(program: Path, mode: str, value: int, folder: Path, *arguments: str) -> Path:
    """Let the program dump itself under a filter; return its core."""
    folder.mkdir()
    command = ["setarch", "-R", str(program), mode, f"{value:#x}", *arguments]
    with dumping() as reason:
        if reason:
            pytest.skip(reason)
        done = subprocess.run(command, cwd=folder, env={}, capture_output=True, timeout=PATIENCE, check=False)
    if done.returncode >= 0:
        pytest.skip(f"{mode}: {done.stderr.decode().strip()}")
    (folder / "smaps").rename(folder.parent / f"{folder.name}.smaps")
    return only_file(folder)


@pytest.fixture(scope="module", params=PROGRAMS)
def dumped(request: pytest.FixtureRequest, cores: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dumped]:
    """Build one of the programs, and let it dump itself under every filter."""
    if shutil.which("setarch") is None or os.uname().machine != "x86_64":
        pytest.skip("the address space must not be random, on x86-64")
    mode = request.param
    folder = tmp_path_factory.mktemp(mode)
    program = build(mode, folder / "program")
    arguments = []
    if mode == "library":
        arguments = [str(idle_library(folder))]
    elif mode == "map":
        arguments = [str(folder / "data")]
        Path(arguments[0]).write_bytes(b"data" * PAGE)
        Path(arguments[0]).chmod(0o755)
    with huge_pages(folder, 4 if mode == "hugememfd" else 0):
        made = {v: dump(program, mode, v, folder / f"{v:#x}", *arguments) for v in (FULL, *FILTERS)}
    yield Dumped(mode, program, {value: Core(path) for value, path in made.items()}, folder / f"{FULL:#x}.smaps")
    shutil.rmtree(folder)


def build(mode: str, program: Path) -> Path:
    """Compile the program in one of its ways."""
    options = [str(Path(__file__).parent / each) if each.endswith(".s") else each for each in PROGRAMS[mode]]
    try:
        return compile_c("broken.c", program, *options)
    except CannotCompileError as error:
        pytest.skip(str(error))


def idle_library(folder: Path) -> Path:
    """Make a shared object with a writable segment that nobody writes to, as patchelf adds for longer strings."""
    library = compile_c("image.c", folder / "idle.so", "-O1", "-shared", "-fPIC")
    content = bytearray(library.read_bytes())
    content += bytes(-len(content) % PAGE)
    at, size, count = struct.unpack_from("<Q", content, 32)[0], 56, struct.unpack_from("<H", content, 56)[0]
    rows = [at + i * size for i in range(count)]
    types = [struct.unpack_from("<I", content, row)[0] for row in rows]
    ends = [sum(struct.unpack_from("<Q16xQ", content, row + 16)) for row in rows]
    address = -(-max(ends) // PAGE) * PAGE + PAGE
    row = rows[max(i for i, kind in enumerate(types) if kind == PT_NOTE)]
    assert row > rows[max(i for i, kind in enumerate(types) if kind == PT_LOAD)]
    struct.pack_into("<IIQQQQQQ", content, row, PT_LOAD, PF_R | PF_W, len(content), address, address, PAGE, PAGE, PAGE)
    library.write_bytes(bytes(content) + b"strings\0".ljust(PAGE, b"x"))
    return library


# --- nothing is lost --------------------------------------------------------------------------------------


@by_evidence
def test_nothing_that_the_kernel_keeps_is_lost(dumped: Dumped, evidence: str) -> None:
    """From pipe to pipe, DT_TEXTREL cannot be seen before the headers leave: that loss is counted."""
    lost = []
    for value in FILTERS:
        kept, inferred = dumped.sizes(evidence, value)
        for start, size in dumped.cores[value].sizes().items():
            unseen = dumped.mode == "textrel" and evidence == "pipe"
            if kept[start] < size and not (unseen and kept[start] + inferred[start] >= size):
                lost.append(f"{value:#x}: {start:#x}: kernel {size}, corefilt {kept[start]}")
    assert not lost


@by_evidence
def test_what_is_dropped_is_what_the_kernel_drops_where_nothing_is_undecided(dumped: Dumped, evidence: str) -> None:
    """Without a bit that depends on an assumption, no byte more than the kernel's; the rest is counted as assumed."""
    with open_file(dumped.full) as core:
        options = {"maps": str(dumped.smaps)} if evidence == "smaps" else {}
        for value in FILTERS:
            if evidence == "pipe":
                plan = KeepPlan(core, api.CoredumpFilter(value), classifier_for(core, with_payload=False), "keep")
            else:
                plan = core.plan(value, **options)
            theirs = dumped.cores[value].sizes()
            for m, mapping in enumerate(plan.mappings):
                assert plan.kept(m) - plan.assumed[m] <= theirs[mapping.start], f"{value:#x}: {mapping.start:#x}"


@pytest.mark.parametrize("way", ["file", "pipe-to-file"])
def test_the_default_filter_writes_what_the_kernel_wrote_and_perhaps_more(
    dumped: Dumped, way: str, tmp_path: Path
) -> None:
    done = run_corefilt(dumped.full, 0x33, tmp_path / "out", way=way)
    theirs, mine = dumped.cores[0x33], done.core
    assert all(mine.sizes()[start] >= size for start, size in theirs.sizes().items())
    for start, load in mine.loads.items():
        assert mine.kept(start) == dumped.cores[FULL].kept(start)[: load.p_filesz]


@one_in(2)
def test_file_and_pipe_write_the_same(dumped: Dumped, step: int, tmp_path: Path) -> None:
    for value in (0x10, 0x31, 0x33, 0x1)[::step]:
        one = run_corefilt(dumped.full, value, tmp_path / f"file-{value}")
        other = run_corefilt(dumped.full, value, tmp_path / f"pipe-{value}", way="pipe-to-file")
        assert one.core.data[:] == other.core.data[:]


def test_the_kernels_own_core_loses_nothing_under_the_same_filter(dumped: Dumped, tmp_path: Path) -> None:
    """What bit 0 left is written memory, be it text; twice in place changes nothing."""
    for value in (0x1, 0x33):
        theirs = dumped.cores[value].path
        out = run_corefilt(theirs, value, tmp_path / f"out-{value}").core
        assert out.data[:] == theirs.read_bytes()


def test_a_second_run_in_place_changes_nothing(dumped: Dumped, tmp_path: Path) -> None:
    for value in (0x1, 0x33):
        once = shutil.copy(dumped.full, tmp_path / f"core-{value}")
        assert corefilt(f"{value:#x}", once, "-i").code == 0
        before = Path(once).read_bytes()
        kept = Core(Path(once)).sizes()
        assert all(kept[start] >= size for start, size in dumped.cores[value].sizes().items())
        assert corefilt(f"{value:#x}", once, "-i").code == 0
        assert Path(once).read_bytes() == before


# --- and what cannot be told is said ----------------------------------------------------------------------


# The mode, a filter under which what it broke decides, and whether corefilt can tell it after all.
@pytest.mark.parametrize(
    ("wanted", "value", "code"),
    [
        ("nothing", 0x33, 0),
        ("rwx", 0x33, 4),
        ("split", 0x33, 4),
        ("textrel", 0x33, 4),
        ("memfd", 0x31, 4),
        ("hugememfd", 0x20, 4),
        ("map", 0x10, 4),
        ("noexec", 0x10, 4),
        ("library", 0x33, 4),
        ("shared-page", 0x33, 0),
    ],
)
def test_strict_refuses_while_an_assumption_decides(
    dumped: Dumped, wanted: str, value: int, code: int, tmp_path: Path
) -> None:
    if dumped.mode != wanted:
        pytest.skip("another mode's")
    done = corefilt(f"{value:#x}", dumped.full, "-o", tmp_path / "out", "--strict")
    assert done.code == code, done
    assert (tmp_path / "out").exists() == (code == 0)


def test_smaps_settle_what_they_show(dumped: Dumped, tmp_path: Path) -> None:
    """The written mappings have pages of their own; what never was writable was not charged; modes stay open.

    So does, with DT_TEXTREL, what the loader made writable for a while and has no pages of its own.
    """
    open_ones = {"map": 0x10, "noexec": 0x10, "library": 0x33, "textrel": 0x33}
    value = open_ones.get(dumped.mode, 0x33)
    done = corefilt(f"{value:#x}", dumped.full, "-o", tmp_path / "out", "--strict", "--maps", dumped.smaps)
    assert done.code == (4 if dumped.mode in open_ones else 0), done


def test_written_text_is_guessed_to_be_written(dumped: Dumped) -> None:
    if dumped.mode not in ("rwx", "split"):
        pytest.skip("another mode's")
    (patched,) = [
        start
        for start, size in dumped.cores[0x33].sizes().items()
        if start in dumped.of_program(PF_R | PF_X if dumped.mode == "split" else PF_R | PF_W | PF_X) and size == PAGE
    ]
    for evidence in EVIDENCE:
        assert dumped.sizes(evidence, 0x1, "guess")[0][patched] == PAGE


def test_text_of_an_ordinary_program_is_dropped_on_a_convention_that_is_named(dumped: Dumped, tmp_path: Path) -> None:
    if dumped.mode != "nothing":
        pytest.skip("another mode's")
    (text,) = dumped.of_program(PF_R | PF_X)
    kept, inferred = dumped.sizes("core", 0x33)
    assert kept[text] == 0 < inferred[text]
    done = corefilt("0x33", dumped.full, "-o", tmp_path / "out", "-v")
    assert "image-text" in "\n".join(done.err)
