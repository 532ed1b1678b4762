"""Answers: what do engines, threads, a cold disk and holes make of one copy.

The core of the filter script, all kept and half kept, goes from file to file by every engine and with one, two
and four threads, beside ``cp``; from a cold page cache, beside ``dd`` that reads what is kept from the same disk
and writes nothing; and a core of 1 TiB that holds 100 MiB of data and else holes, beside ``cp`` of a file of
100 MiB. No privilege is needed: only the pages of files of its own are dropped from the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench import rivals
from bench.cores import KEPT, Core, plan_core
from bench.figures import SAME, Comparison
from bench.measure import BenchError, Contestant, Pipeline, bytecode_in, check, interleave, run
from bench.options import Options
from bench.places import Place, temporary_place
from bench.report import Results
from bench.rivals import Programs

QUESTION = "What do engines, threads, a cold disk and holes make of one copy from file to file?"

TARGET_COLD = 1 / 0.95
"""Of dd that reads what is kept: 0.95 of its rate."""

_ENGINES = ("copy_file_range", "sendfile", "readwrite")
_JOBS = (2, 4)
_SPARSE, _DATA, _PIECE = 1 << 40, 100 << 20, 1 << 20


def measure(options: Options, tell: Callable[[str], None]) -> Results:
    """Run all rows."""
    results = Results()
    with temporary_place(options.folder, options.size) as place, bytecode_in(place.folder / "bytecode"):
        programs = rivals.prepare(options.corefilt, options.engine, place.folder)
        results.file_systems.append(place.file_system)
        core = plan_core(options.size)
        files = {kept: place.folder / f"core.{kept}" for kept in (100, 50)}
        for kept, path in files.items():
            tell(f"writing the core on {place.file_system}, {kept} %")
            core.write(path, KEPT[kept])
        bench = _Bench(options, programs, results, tell, place, core, files)
        bench.engines()
        if place.file_system == "tmpfs":
            results.remarks.append("no cold page cache on tmpfs")
        else:
            bench.cold()
        for path in files.values():
            path.unlink()
        bench.holes()
    return results


class _Bench:
    """One core in one place."""

    def __init__(
        self,
        options: Options,
        programs: Programs,
        results: Results,
        tell: Callable[[str], None],
        place: Place,
        core: Core,
        files: dict[int, Path],
    ) -> None:
        self.options, self.programs, self.results, self.tell = options, programs, results, tell
        self.place, self.core, self.files = place, core, files
        self.out = place.folder / "out"

    def engines(self) -> None:
        """Time every engine, and several threads, against cp of what is kept; nobody waits for the disk."""
        ways = [("", ())]
        ways += [(f" --engine {name}", ("--engine", name)) for name in _ENGINES]
        ways += [(f" --threads {jobs}", ("--threads", str(jobs))) for jobs in _JOBS]
        for kept in (100, 50):
            rival = Contestant(
                "cp", (Pipeline((rivals.copy(self.files[kept], self.out),)),), self.out, self.core.size(KEPT[kept])
            )
            for name, more in ways:
                self._compare(f"copy{name}", kept, more, rival)

    def cold(self) -> None:
        """Time a copy out of a cold cache against dd; with and without the page cache left as it was."""
        for kept in (100, 50):
            rival = Contestant("dd", (Pipeline((rivals.read(self.files[kept]),)),))
            for name, more in (("", ()), (" --cache keep", ("--cache", "keep")), (" --threads 4", ("--threads", "4"))):
                self._compare(f"cold{name}", kept, more, rival, target=TARGET_COLD, cold=True)

    def holes(self) -> None:
        """Time a core that is nearly all holes against cp of as much data as it holds."""
        self.tell("1 TiB of holes")
        core, full, data = plan_core(_SPARSE), self.place.folder / "sparse", self.place.folder / "data"
        try:
            core.write_sparse(full, _DATA, _PIECE)
        except OSError as error:
            self.results.remarks.append(f"no core of 1 TiB on {self.place.file_system}: {error.strerror}")
            return
        plan_core(_DATA).write(data, KEPT[100])
        size = core.size(KEPT[100])
        ours = self.programs.corefilt(KEPT[100], full, self.out, False)
        rival = Contestant("cp of the data", (Pipeline((rivals.copy(data, self.out),)),), self.out, data.stat().st_size)
        try:
            seconds, sizes = interleave(
                [Contestant("corefilt", (Pipeline((ours,)),), self.out, size), rival], self.options.runs, (data,)
            )
        except BenchError as error:
            self.results.failures.append(f"1 TiB of holes: {error}")
            return
        finally:
            full.unlink(missing_ok=True)
        output = SAME if sizes[0] == size else f"{sizes[0]:,} bytes, not {size:,}"
        self._record("1 TiB of holes", 100, rival.name, seconds, _DATA, None, output)

    def _compare(
        self,
        work: str,
        kept: int,
        more: tuple[str, ...],
        rival: Contestant,
        *,
        target: float | None = None,
        cold: bool = False,
    ) -> None:
        row = f"{work}, {kept} % kept, {self.place.file_system}"
        self.tell(row)
        size = self.core.size(KEPT[kept])
        argv = self.programs.corefilt(KEPT[kept], self.files[100], self.out, False, *more)
        ours = Contestant("corefilt", (Pipeline((argv,)),), self.out, size)
        try:
            output = check(ours, self.files[kept])
            run(replace(rival, expected=None))
            seconds, _ = interleave([ours, rival], self.options.runs, tuple(set(self.files.values())), cold=cold)
        except BenchError as error:
            self.results.failures.append(f"{row}: {error}")
            return
        self._record(work, kept, rival.name, seconds, size, target, output)

    def _record(
        self,
        work: str,
        kept: int,
        rival: str,
        seconds: list[list[float]],
        moved: int,
        target: float | None,
        output: str,
    ) -> None:
        self.results.comparisons.append(
            Comparison(
                work, kept, self.place.file_system, rival, tuple(seconds[0]), tuple(seconds[1]), moved, target, output
            )
        )
