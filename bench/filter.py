"""Answers: how fast is a 2 GiB core, file to file and through pipes, and at what peak memory.

corefilt filters one core (half private, half shared anonymous memory, all of it random bytes) with
0x33, 0x31 and 0x10, which keep all, half and none of the payload, beside programs that move the same bytes
without thinking: ``cp``, ``cat``, and a minimal stage in C that the bench compiles. The page cache is warm,
all pipes hold 1 MiB, and what runs side by side is run in turn. Start-up is the time of a tiny core beside
that of the bare interpreter; memory is the most RssAnon seen while corefilt runs, in runs that are not timed.

It changes nothing on the machine: no cache is dropped, no setting is touched, no privilege is needed. It
writes only into folders of its own, made under ``--dir`` (default: the temporary folder) and on a tmpfs,
which are removed at the end, whatever happened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench import memory, rivals
from bench.cores import KEPT, Core, plan_core
from bench.figures import SAME, Comparison, Memory, Peak
from bench.measure import BenchError, Contestant, Pipeline, bytecode_in, check, interleave, peak_memory, run, warm
from bench.options import Options
from bench.places import Place, find_tmpfs, temporary_place
from bench.report import Results
from bench.rivals import Argv, Programs

QUESTION = "How fast is one core, file to file and through pipes, and at what peak memory?"

TARGET_COPY = 1.0
"""Of the faster of cp and dd of the kept bytes, and of ``cat core | cat > out``."""
TARGET_STAGE = 1.05
"""Of a minimal C stage in the same place of a pipeline."""
TARGET_START = 2.0
"""Of the bare interpreter."""

_TINY = 128 << 10
_MEMORY_BASE = 40 << 20
_MEMORY_PER_SEGMENT = 360


def measure(options: Options, tell: Callable[[str], None]) -> Results:
    """Run all rows that were asked for; ``tell`` hears what is going on."""
    results = Results()
    with temporary_place(options.folder, options.size) as place, bytecode_in(place.folder / "bytecode"):
        programs = rivals.prepare(options.corefilt, options.engine, place.folder)
        if options.quick:
            results.remarks.append("a quick run: so small a core is mostly start-up, the targets are not for it")
        if memory.available() < 3 * options.size:
            results.remarks.append("little memory: the page cache may not have stayed warm")
        bench = _Bench(options, programs, results, tell, place, plan_core(options.size), plan_core(_TINY))
        bench.write_inputs()
        bench.file_to_file()
        bench.pipe_to_pipe()
        bench.pipe_to_file()
        bench.file_to_pipe()
        bench.start_up()
        bench.memory()
        bench.remove_inputs()
        if place.file_system == "tmpfs":
            return results
        if not options.works & {"file-to-file", "pipe-to-file"}:
            return results
        parent, reason = find_tmpfs(options.tmpfs, options.size)
        if parent is None:
            results.missing.append(f"rows on tmpfs: {reason}")
            return results
        with temporary_place(parent, options.size) as second:
            bench.place = second
            bench.write_inputs()
            bench.file_to_file()
            bench.pipe_to_file()
    return results


@dataclass
class _Bench:
    """One core in one place, and everything that is measured on it."""

    options: Options
    programs: Programs
    results: Results
    tell: Callable[[str], None]
    place: Place
    core: Core
    tiny: Core
    files: dict[int, Path] = field(default_factory=dict)

    def write_inputs(self) -> None:
        """Write the full core and what the kernel would have written instead; both stay in the page cache."""
        self.tell(f"writing the core on {self.place.file_system}")
        self.results.file_systems.append(self.place.file_system)
        for kept, coredump_filter in KEPT.items():
            self.files[kept] = self.place.folder / f"core.{kept}"
            self.core.write(self.files[kept], coredump_filter)
            warm(self.files[kept])

    def remove_inputs(self) -> None:
        """Give the space back before the next place."""
        for path in self.files.values():
            path.unlink()

    def file_to_file(self) -> None:
        """Time files against cp and dd of the kept bytes, with and without waiting for the disk."""
        out = self.out
        for kept in (100, 50):
            for sync in (True, False):
                argv = self.programs.corefilt(KEPT[kept], self.full, out, sync)
                after = (Pipeline((rivals.sync(out),)),) if sync else ()
                size = self.core.size(KEPT[kept])
                others = [
                    Contestant(
                        f"{name} && sync" if sync else name,
                        (Pipeline((argv_of(self.files[kept], out),)), *after),
                        out,
                        size,
                    )
                    for name, argv_of in (("cp", rivals.copy), ("dd bs=256K", rivals.copy_by_dd))
                ]
                self._compare(
                    "file-to-file" if sync else "file-to-file --no-sync",
                    kept,
                    Contestant("corefilt", (Pipeline((argv,)),), out, size),
                    others,
                    [TARGET_COPY, TARGET_COPY],
                    moved=size,
                )

    def pipe_to_pipe(self) -> None:
        """Time a stage in the middle of a pipeline against the C stage in the same place."""
        feed = self.programs.stage("readwrite")
        for kept, coredump_filter in KEPT.items():
            ranges = self.core.kept_ranges(coredump_filter)
            self._compare(
                "pipe-to-pipe",
                kept,
                self._drained("corefilt", kept, feed, self.programs.corefilt(coredump_filter)),
                [
                    self._drained(f"C {mode}", kept, feed, self.programs.stage(mode, ranges))
                    for mode in ("readwrite", "splice")
                ],
                [TARGET_STAGE, TARGET_STAGE],
                moved=self.core.size(KEPT[100]),
            )

    def pipe_to_file(self) -> None:
        """Time the last stage of a pipeline: all of it against cat, half of it against the C stage."""
        out, feed = self.out, rivals.cat(self.full)
        for kept in (100, 50):
            coredump_filter = KEPT[kept]
            argv = self.programs.corefilt(coredump_filter, None, out, sync=False)
            if kept == 100:
                name, last = "cat | cat >", rivals.cat()
            else:
                name = "cat | C readwrite >"
                last = self.programs.stage("readwrite", self.core.kept_ranges(coredump_filter))
            size = self.core.size(coredump_filter)
            self._compare(
                "pipe-to-file --no-sync",
                kept,
                Contestant("corefilt", (Pipeline((feed, argv)),), out, size),
                [Contestant(name, (Pipeline((feed, last), sink=out),), out, size)],
                [TARGET_COPY if kept == 100 else None],
                moved=self.core.size(KEPT[100]),
            )

    def file_to_pipe(self) -> None:
        """Time the first stage of a pipeline against the C stage, which steps over what it does not keep."""
        for kept in (100, 50):
            coredump_filter = KEPT[kept]
            ranges = self.core.kept_ranges(coredump_filter)
            self._compare(
                "file-to-pipe",
                kept,
                self._drained("corefilt", kept, self.programs.corefilt(coredump_filter, self.full)),
                [
                    self._drained(f"C {mode}", kept, self.programs.stage(mode, ranges), source=self.full)
                    for mode in ("readwrite", "splice")
                ],
                [TARGET_STAGE, TARGET_STAGE],
                moved=self.core.size(coredump_filter),
            )

    def start_up(self) -> None:
        """Time a core that takes no time against an interpreter that does nothing."""
        tiny, expected = self._write_tiny()
        size, moved = self.tiny.size(KEPT[50]), self.tiny.size(KEPT[100])
        runs = 5 if self.options.quick else max(20, 4 * self.options.runs)
        bare, drain = self.programs.bare(), self.programs.drain()
        to_file = Pipeline((self.programs.corefilt(KEPT[50], tiny, self.out, sync=False),))
        to_pipe = Pipeline((self.programs.corefilt(KEPT[50]), drain), source=tiny)
        pairs = (
            (
                "start-up",
                Contestant("corefilt", (to_file,), self.out, size),
                Contestant("python -c pass", (Pipeline((bare,)),)),
            ),
            (
                "start-up into a pipe",
                Contestant("corefilt", (to_pipe,), None, size),
                Contestant("python -c pass", (Pipeline((bare, drain)),), None, 0),
            ),
        )
        for work, ours, rival in pairs:
            self._compare(work, 50, ours, [rival], [TARGET_START], moved=moved, runs=runs, expected=expected)

    def memory(self) -> None:
        """Watch how much anonymous memory corefilt holds, for the core and for a tiny one."""
        if "memory" not in self.options.works:
            return
        self.tell("memory")
        tiny, _ = self._write_tiny()
        asleep = Contestant("python", (Pipeline((self.programs.bare(0.2),)),))
        bare = peak_memory(asleep, 0)
        feed = self.programs.stage("readwrite")
        for core, path in ((self.tiny, tiny), (self.core, self.full)):
            to_file = self.programs.corefilt(KEPT[100], path, self.out, sync=False)
            from_pipe = self.programs.corefilt(KEPT[100], None, self.out, sync=False)
            between = self.programs.corefilt(KEPT[50])
            drain = self.programs.drain()
            watched = (
                ("file-to-file", 100, Contestant("corefilt", (Pipeline((to_file,)),), self.out), 0),
                ("pipe-to-file", 100, self._fed(path, feed, from_pipe, out=self.out), 1),
                ("pipe-to-pipe", 50, self._fed(path, feed, between, drain), 1),
            )
            for work, kept, contestant, stage in watched:
                row = f"{work}, {kept} %"
                try:
                    self._record_peak(row, core, peak_memory(contestant, stage), bare)
                except BenchError as error:
                    self.results.failures.append(f"memory of {row}: {error}")

    @property
    def full(self) -> Path:
        """The full core."""
        return self.files[100]

    @property
    def out(self) -> Path:
        """Where everything that makes a file makes it."""
        return self.place.folder / "out"

    def _write_tiny(self) -> tuple[Path, Path]:
        tiny, expected = self.place.folder / "tiny", self.place.folder / "tiny.50"
        for path, kept in ((tiny, 100), (expected, 50)):
            path.unlink(missing_ok=True)
            self.tiny.write(path, KEPT[kept])
        return tiny, expected

    def _fed(self, source: Path, *stages: Argv, out: Path | None = None) -> Contestant:
        return Contestant("corefilt", (Pipeline(stages, source=source),), out)

    def _drained(self, name: str, kept: int, *stages: Argv, source: Path | None = None) -> Contestant:
        """Return a pipeline that ends in the stage that counts; the first of several reads the core."""
        source = self.full if len(stages) > 1 else source
        pipeline = Pipeline((*stages, self.programs.drain()), source=source)
        return Contestant(name, (pipeline,), None, self.core.size(KEPT[kept]))

    def _record_peak(self, work: str, core: Core, ours: Memory, bare: Memory) -> None:
        allowed = _MEMORY_BASE + _MEMORY_PER_SEGMENT * len(core.segments) + core.nt_file_bytes
        self.results.peaks.append(Peak(work, core.payload, ours, bare, allowed))

    def _compare(
        self,
        work: str,
        kept: int,
        ours: Contestant,
        others: list[Contestant],
        targets: list[float | None],
        *,
        moved: int,
        runs: int | None = None,
        expected: Path | None = None,
    ) -> None:
        """Run ours and the others in turn, after one run of ours whose output is compared byte by byte.

        That is compared with ``expected``, or with what the kernel would have written of the big core.
        """
        if work.split()[0] not in self.options.works:
            return
        row = f"{work}, {kept} % kept, {self.place.file_system}"
        self.tell(row)
        try:
            output = check(self._to_a_file(ours), expected or self.files[kept])
            for rival in others:
                self._see_that_it_works(rival)
            inputs = {self.full, self.files[kept]} if expected is None else ()
            seconds, sizes = interleave([ours, *others], runs or self.options.runs, tuple(inputs))
        except BenchError as error:
            self.results.failures.append(f"{row}: {error}")
            return
        if output == SAME and sizes[0] != ours.expected:
            output = f"{sizes[0]:,} bytes, not {ours.expected:,}"
        for index, (rival, target) in enumerate(zip(others, targets, strict=True), 1):
            self.results.comparisons.append(
                Comparison(
                    work,
                    kept,
                    self.place.file_system,
                    rival.name,
                    tuple(seconds[0]),
                    tuple(seconds[index]),
                    moved,
                    target,
                    output,
                )
            )

    def _to_a_file(self, contestant: Contestant) -> Contestant:
        """Return the same work with its output in a file, where the last stage only counts."""
        if contestant.output is not None:
            return contestant
        (pipeline,) = contestant.steps
        stages = (*pipeline.stages[:-1], self.programs.stage("readwrite"))
        return Contestant(contestant.name, (Pipeline(stages, pipeline.source, self.out),), self.out)

    def _see_that_it_works(self, rival: Contestant) -> None:
        _, size = run(rival)
        if size != rival.expected:
            raise BenchError(f"{rival.name} gave {size} bytes, not {rival.expected}")
