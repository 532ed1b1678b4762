"""Real programs and the zoo, dumped by the kernel under every kind of filter, with every kind of evidence.

What the kernel keeps under any of the 512 filters follows from what it keeps under the single bits; a sample is
dumped. Agreement is counted per mapping and filter (see comparing.py; agreement.py visits all
programs and prints the tables of the documentation).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from kernel.agreement import below_the_bars
from kernel.catalogue import PROGRAMS, VISITED
from kernel.comparing import (
    ANNOTATED,
    CORE,
    DUMPED,
    EVIDENCE,
    MAPS,
    PID,
    PIPE,
    SMAPS,
    Agreement,
    compare,
    findings,
    study,
)
from kernel.dumps import Core, changed_bytes, run_corefilt
from kernel.programs import (
    CannotStartError,
    HarmedError,
    Program,
    Visit,
    load_sizes,
    open_folder,
    visit,
    visit_zoo,
)
from kernel.tables import details, summary
from kernel.test_oracle import A_CORE_CANNOT_TELL, RELOCATED_TEXT, WRITTEN_TEXT, WRITTEN_THEN_READ
from support.opening import open_file

import corefilt

# The least agreement of a program, and of the zoo with either policy; whether a program may lose or gain bytes.
OF_PROGRAMS = {PID: 1.0, ANNOTATED: 1.0, SMAPS: 0.998, MAPS: 0.995, CORE: 0.985, PIPE: 0.98}
OF_ZOO = {PID: 0.99, ANNOTATED: 0.99, SMAPS: 0.98, MAPS: 0.96, CORE: 0.90}
OF_ZOO_THROUGH_PIPES = 0.88
OF_ZOO_DUMPED = 0.95

# What `--unknown keep` may lose of the zoo, by the evidence that it has.
MAY_LOSE = {
    PID: set(),
    ANNOTATED: set(),
    SMAPS: set(),
    MAPS: WRITTEN_TEXT | WRITTEN_THEN_READ,
    CORE: WRITTEN_TEXT | WRITTEN_THEN_READ,
    PIPE: WRITTEN_TEXT | WRITTEN_THEN_READ | RELOCATED_TEXT,
}

by_evidence = pytest.mark.parametrize("evidence", EVIDENCE)


# ---- visits ----------------------------------------------------------------------------------------------


@dataclass
class Study:
    """What is left of the visits to one program: comparisons, and what went wrong otherwise, in words."""

    results: list[Agreement]
    surprises: list[str]
    files: list[str]
    command_line: list[str]
    harm: list[str]

    def by(self, evidence: str, unknown: str = "keep") -> list[Agreement]:
        """Return the comparison of every process with one kind of evidence."""
        return [result for result in self.results if (result.evidence, result.unknown) == (evidence, unknown)]


def surprises(visited: Visit) -> list[str]:
    """Name the filters of which the kernel's dump does not follow from the single bits."""
    return [
        f"{visited.name}: {value:#x}"
        for value, twin in visited.twins.items()
        if load_sizes(twin) != visited.kernel_sizes(value)
    ]


def compare_files(visited: Visit) -> Iterator[str]:
    """Write what corefilt makes of the full core by --pid, and name what is not the kernel's file or the input's."""
    full = Core(visited.full)
    for value in DUMPED:
        twin, out = visited.twins[value], visited.folder / f"out-{value:#x}"
        corefilt.filter(visited.full, out, filter=value, pid=visited.pid, sync=False)
        mine = Core(out)
        if (mine.ident, mine.ehdr, mine.phdrs) != (twin.ident, twin.ehdr, twin.phdrs):
            yield f"{visited.name} {value:#x}: other headers"
        if len(mine.data) != twin.length:
            yield f"{visited.name} {value:#x}: {len(mine.data)} bytes instead of {twin.length}"
        yield from (f"{visited.name} {value:#x}: {case}" for case in changed_bytes(full, mine))
        if mine.notes != full.notes:
            yield f"{visited.name} {value:#x}: other notes"
        del mine
        out.unlink()


def try_command_line(visited: Visit) -> Iterator[str]:
    """Run the program itself, with the evidence that was also given from Python, and name what differs."""
    for option, value in (("--pid", visited.pid), ("--maps", visited.smaps), ("--maps", visited.maps)):
        out = visited.folder / "out"
        mine = run_corefilt(visited.full, 0x33, out, option, str(value)).core
        given = {"pid": value} if option == "--pid" else {"maps": str(value)}
        with open_file(visited.full) as core:
            plan = core.plan(0x33, **given)
            sizes = [plan.kept(m) for m in range(len(core.maps))]
        if list(mine.sizes().values()) != sizes:
            yield f"{visited.name}: {option} {value}"
        out.unlink()
    out = visited.folder / "out"
    piped = run_corefilt(visited.full, 0x33, out, way="pipe-to-pipe").core
    expected = compare(visited, PIPE, findings(visited, PIPE))
    wrong = {case.start for case in expected.disagreements if 0x33 in case.lost or 0x33 in case.extra}
    kernel = dict(zip(piped.loads, visited.kernel_sizes(0x33), strict=True))
    if {start for start, size in piped.sizes().items() if size != kernel[start]} != wrong:
        yield f"{visited.name}: a pipe keeps what its plan does not"
    out.unlink()


def examine(program: Program, forker: Path, folder: Path) -> Study:
    """Visit all processes of a running program."""
    done = Study([], [], [], [], [])
    for at, (name, pid) in enumerate(program.pids.items()):
        with visit(name, pid, forker, folder / f"visit-{at}") as visited:
            done.results += study(visited)
            done.surprises += surprises(visited)
            done.files += compare_files(visited)
            done.command_line += try_command_line(visited)
        try:
            program.check()
        except HarmedError as error:
            done.harm.append(f"after the visit to {name}: {error}")
    return done


@pytest.fixture(scope="module", params=VISITED)
def program(request: pytest.FixtureRequest, forker: Path, reports: dict[str, str]) -> Study:
    """Start a program, visit its processes, and end it."""
    with open_folder() as folder:
        home = folder / "home"
        home.mkdir()
        try:
            with PROGRAMS[request.param](home) as running:
                done = examine(running, forker, folder)
        except CannotStartError as error:
            pytest.skip(str(error))
    reports[f"agreement with the kernel: {request.param}"] = "\n".join([*summary(done.results), *details(done.results)])
    return done


def within(done: Study, evidence: str, least: float) -> None:
    """Hold every process of a program against the bar."""
    low = [result for result in done.by(evidence) if result.share < least]
    assert not low, "\n".join(f"{result.name}: {result.share:.2%}\n{result.describe()}" for result in low)


def nothing_lost(done: Study, evidence: str) -> None:
    """No process may lose a byte."""
    wrong = [result for result in done.by(evidence) if result.lost]
    assert not wrong, "\n".join(f"{result.name}\n{result.describe()}" for result in wrong)


# ---- programs --------------------------------------------------------------------------------------------


def test_single_bits_make_the_rest(program: Study) -> None:
    """Of several bits the kernel keeps the most that any one of them keeps; all that was dumped shows it."""
    assert not program.surprises


def test_the_program_goes_on(program: Study) -> None:
    """A visit costs the program nothing."""
    assert not program.harm


@by_evidence
def test_programs_agree(program: Study, evidence: str) -> None:
    """Nearly every mapping is kept as the kernel keeps it; with --pid, every one."""
    within(program, evidence, OF_PROGRAMS[evidence])


def test_programs_meet_the_bars(program: Study) -> None:
    """No byte is lost under any filter; smaps and --pid leave open only what they do not hold."""
    assert not list(below_the_bars(program.results))


@by_evidence
def test_programs_lose_nothing(program: Study, evidence: str) -> None:
    """By default, every byte is kept that the kernel would have kept."""
    nothing_lost(program, evidence)


@by_evidence
def test_extra_bytes_are_reported(program: Study, evidence: str) -> None:
    """What is kept beyond the kernel's is kept on an assumption, and counted as such."""
    wrong = [case for result in program.by(evidence) for case in result.disagreements if case.unreported]
    assert not wrong, "\n".join(line for case in wrong for line in case.lines())


def test_files_are_the_kernels(program: Study) -> None:
    """Where every mapping agrees, headers, offsets and size are the kernel's, and every kept byte the input's."""
    assert not program.files


def test_the_command_line_does_the_same(program: Study) -> None:
    """The options mean on the command line what they mean from Python, and a pipe keeps what its plan says."""
    assert not program.command_line


# ---- the zoo ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def zoo(forker: Path, zoo_program: Path, dumps_folder: Path, reports: dict[str, str]) -> Study:
    """Visit the zoo while one of its own twins is held."""
    done = Study([], [], [], [], [])
    with visit_zoo(zoo_program, forker, dumps_folder / "held") as visited:
        done.results = study(visited, ("guess", "keep"))
        done.command_line += try_command_line(visited)
        with open_file(visited.full) as core:
            found = core.plan(0x1FF, sysroot="/").findings
        done.results.append(compare(visited, "--sysroot", found))
    done.surprises = surprises(visited)
    shown = [result for result in done.results if result.evidence in EVIDENCE]
    reports["agreement with the kernel: the zoo"] = "\n".join([*summary(shown), *details(shown)])
    return done


def tags_lost(done: Study, evidence: str) -> dict[str, int]:
    """Return the most bytes that are lost of a mapping, by its tag."""
    (result,) = done.by(evidence)
    return {case.label: case.most_lost for case in result.disagreements if case.lost}


def test_single_bits_make_the_rest_of_the_zoo(zoo: Study) -> None:
    """The same law holds for every kind of mapping."""
    assert not zoo.surprises


@pytest.mark.parametrize("evidence", OF_ZOO)
def test_the_zoo_agrees(zoo: Study, evidence: str) -> None:
    """Each kind of evidence tells more."""
    (result,) = zoo.by(evidence, "guess")
    assert result.share >= OF_ZOO[evidence], result.describe()


def test_the_zoo_agrees_where_it_was_dumped(zoo: Study) -> None:
    """The core alone tells more of the filters that people use."""
    (result,) = zoo.by(CORE, "guess")
    assert result.share_of_dumped >= OF_ZOO_DUMPED, result.describe()


def test_the_zoo_agrees_through_pipes(zoo: Study) -> None:
    """Without a look at the payload most can still be told, by the filters that were dumped."""
    (result,) = zoo.by(PIPE)
    assert result.share_of_dumped >= OF_ZOO_THROUGH_PIPES, result.describe()


def test_only_what_a_core_cannot_tell_disagrees(zoo: Study) -> None:
    """No filter brings a disagreement that has no reason."""
    (result,) = zoo.by(CORE, "guess")
    assert not [case.label for case in result.disagreements if case.label not in A_CORE_CANNOT_TELL]


@by_evidence
def test_the_zoo_loses_nothing_else(zoo: Study, evidence: str) -> None:
    """A few conventions lose bytes, all of which the summary counts; each kind of evidence settles some of them."""
    (result,) = zoo.by(evidence)
    assert not tags_lost(zoo, evidence).keys() - MAY_LOSE[evidence]
    assert result.counted == result.lost


def test_written_text_is_lost_without_smaps(zoo: Study) -> None:
    """An unwritable segment of an image is taken to be the file's; smaps counts the pages that are not."""
    for evidence in (CORE, MAPS):
        assert tags_lost(zoo, evidence).keys() & WRITTEN_TEXT
    assert not tags_lost(zoo, SMAPS).keys() & WRITTEN_TEXT


def test_a_file_made_unwritable_is_lost_without_smaps(zoo: Study) -> None:
    """What a process maps for reading only is taken to be unwritten; smaps counts the pages that are not the file's."""
    for evidence in (CORE, MAPS):
        assert tags_lost(zoo, evidence).keys() & WRITTEN_THEN_READ
    assert not tags_lost(zoo, SMAPS).keys() & WRITTEN_THEN_READ


def test_the_command_line_does_the_same_for_the_zoo(zoo: Study) -> None:
    """As for the programs."""
    assert not zoo.command_line
