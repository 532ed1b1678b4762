"""The child: reads the core, filters it, and tells how it went. It holds descriptors, and no right to anything else."""

from __future__ import annotations

import os
import stat
from importlib import import_module

from corefilt.corefile.corefile import MAX_HEADERS, CoreFile, open_core
from corefilt.errors import CorefiltError, EvidenceError, MissingLibraryError, OutputError
from corefilt.evidence.gather import gather
from corefilt.filterbits import Bit
from corefilt.filtering.options import Options
from corefilt.filtering.write import write_filtered
from corefilt.handler.outputs import Output, check_floor, floor_under
from corefilt.handler.process_evidence import Handed
from corefilt.handler.request import MOST as MOST_OF_A_REQUEST
from corefilt.handler.request import Allowance
from corefilt.handler.result import FAILED, FILTERED, WHOLE, Result
from corefilt.handler.zstd_copy import compress
from corefilt.io.decoding import check_decoder
from corefilt.io.engine import Engine
from corefilt.io.opening import open_source
from corefilt.io.sources import PipeSource
from corefilt.io.steps import TO_THE_END, Step
from corefilt.sizes import RLIM_INFINITY, show_size
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from corefilt.evidence.evidence import Evidence
    from corefilt.filtering.report import Report
    from corefilt.handler.config import Config
    from corefilt.handler.crash_info import CrashInfo
    from corefilt.handler.crashed_process import Victim
    from corefilt.io.sources import Source


# What a run may load late. Once it is confined, the child sees no file of the package or the interpreter's.
_LATE = tuple(
    f"corefilt.{name}"
    for name in (
        "classify.guesses",
        "classify.rules_evidence",
        "classify.rules_fdpic",
        "corefile.corefilt_note",
        "corefile.formats",
        "corefile.loadmaps",
        "corefile.memory",
        "corefile.punched",
        "corefile.truncation",
        "evidence.evidence",
        "evidence.note_records",
        "filtering.missing",
        "filtering.streamed",
        "io.copy_threads",
        "io.pace",
        "io.page_cache",
        "io.skip",
        "procfs.maps",
    )
)
_FOR_TRUNCATION = ("corefilt.filtering.truncated", "corefilt.plan.rlimit", "array")
_FOR_FIT = (
    "corefilt.plan.fit.choose",
    "corefilt.plan.fit.request",
    "corefilt.plan.fit.runtimes.unwalked",
    "corefilt.plan.fit.split_layout",
    *_FOR_TRUNCATION,
)
_FOR_SIGNATURE = (
    "corefilt.crash.signature",
    "corefilt.crash.command_line",
    "corefilt.crash.image_files",
    "corefilt.crash.process_memory",
    "corefilt.crash.unwind.unwinder",
    "corefilt.corefile.images",
    "hashlib",
    "re",
)


def needed(config: Config) -> tuple[str, ...]:
    """The modules that some settings take beside those of any work."""
    names: tuple[str, ...] = _FOR_TRUNCATION if config.rlimit == "truncate" else ()
    if config.rlimit == "fit" or config.minimal or config.most is not None or config.awaits:
        names = _FOR_FIT
    return (*names, *_FOR_SIGNATURE) if config.signs else names


def load() -> None:
    """Load what any work takes and nothing has loaded yet."""
    for name in (*_LATE, "zlib"):
        import_module(name)


class Work:
    """What there is to do: a core that comes by ``stream``, what its process shows, and two empty files.

    Every step writes the file that it does not read. ``awaited`` are two pipes: by the first comes what the
    core may take, once the second is closed; there are none where that is not awaited.
    """

    def __init__(
        self,
        crash: CrashInfo,
        config: Config,
        victim: Victim,
        stream: int,
        files: tuple[int, int],
        awaited: Sequence[int] = (),
    ) -> None:
        self.crash, self.config, self.victim, self.stream = crash, config, victim, stream
        self.awaited = awaited
        self.outputs = [Output(fd) for fd in files]
        self.check = floor_under(files[0], config.free_space)
        self.notices: list[str] = []
        for name in needed(config):
            import_module(name)
        self.level = config.compress
        if self.level is not None:
            try:
                check_decoder("zstd")
            except MissingLibraryError as error:
                self.level = None
                self.notices.append(f"not compressed: {error}")

    def carry_out(self) -> Result:
        """Do all of it; whatever stands against it is in the result's words."""
        try:
            check_floor(self.stream_to.fd, self.config.free_space)
            process = self._evidence()
            source = self._source()
            try:
                result = self._filter(source, process)
            except OutputError:
                raise
            except CorefiltError as error:
                if source.seekable or source.position:
                    raise
                result = self._save_whole(source, error)
            # The kernel waits for no disk: it is done with the process from here on.
            os.close(self.stream)
            allowance = self._allowance()
            self._sign(result, allowance)
            self._shrink(result, process, allowance)
            self._compress(result)
            os.fsync(self.outputs[result.file].fd)
        except CorefiltError as error:
            return Result(FAILED, str(error))
        except OSError as error:
            return Result(FAILED, str(error.strerror or error))
        except MemoryError:
            return Result(FAILED, "out of memory")
        result.words = "; ".join(self.notices)
        return result

    @property
    def stream_to(self) -> Output:
        """The file that the stream is written to."""
        return self.outputs[0]

    def _source(self) -> Source:
        """The stream; its pipe stays as the kernel made it.

        1 GiB was dumped to a tmpfs in 2.9 s by cat and in 3.0 s by this; with a pipe of 1 MiB half of it took cat 2.1 s
        instead of 1.5 (medians of three, two busy processors): what the kernel puts in leaves the processor's cache.
        """
        if stat.S_ISREG(os.fstat(self.stream).st_mode):
            return open_source(self.stream, max_headers=MAX_HEADERS)
        return PipeSource(self.stream, "the core", most_ahead=MAX_HEADERS, owned=False)

    def _evidence(self) -> Handed | None:
        name = f"process {self.crash.pid}"
        if self.victim.why_not:
            self.notices.append(f"no evidence: {self.victim.why_not}")
            return None
        try:
            return Handed(name, self.victim, self.config.smaps_budget)
        except EvidenceError as error:
            self.notices.append(f"no evidence: {error}")
            return None

    def _shown(self, core: CoreFile, process: Handed | None) -> Evidence | None:
        """What the process showed, as far as it is that of this core."""
        if process is None:
            return None
        try:
            return gather(core, process=process)
        except EvidenceError as error:
            self.notices.append(f"no evidence: {error}")
            return None

    @property
    def _wanted(self) -> int:
        return Bit.ALL if self.config.annotate_full else self.config.filter

    def _filter(self, source: Source, process: Handed | None) -> Result:
        core = CoreFile(source)
        truncate = self.crash.limit if self.config.rlimit == "truncate" else None
        options = Options(annotate=self.config.annotate_full, truncate=truncate, sync=False, on_progress=self.check)
        options.signs = False
        report = write_filtered(core, self._wanted, self.stream_to, options, evidence=self._shown(core, process))
        if process is not None:
            self.notices += process.notices
        return self._result(report)

    def _result(self, report: Report) -> Result:
        result = Result(FILTERED)
        result.damaged = report.damaged or report.input_bytes is None
        result.input_bytes, result.output_bytes = report.input_bytes or 0, report.output_bytes
        result.dropped, result.assumed = report.dropped_bytes, report.assumed_bytes
        self.notices += report.warnings
        return result

    def _save_whole(self, source: Source, error: CorefiltError) -> Result:
        """Save what cannot be filtered as it comes."""
        sink = self.stream_to.open(source)
        engine = Engine(source, sink, on_progress=self.check)
        engine.run([Step(0, TO_THE_END, 0)])
        if not engine.moved:
            raise OutputError("the kernel sent no data")
        sink.commit(engine.moved, sync=False)
        result = Result(WHOLE)
        result.damaged, result.input_bytes, result.output_bytes = True, engine.moved, engine.moved
        self.notices.append(f"saved unfiltered: {error}")
        return result

    def _allowance(self) -> Allowance:
        if not self.awaited:
            return Allowance()
        allowed, asks = self.awaited
        os.close(asks)
        raw = os.read(allowed, MOST_OF_A_REQUEST)
        if not raw:
            raise OutputError("the parent has ended")
        return Allowance.unpack(raw)

    def _sign(self, result: Result, allowance: Allowance) -> None:
        """Find out which crash it is, by what was saved alone: no file is opened for that."""
        if not self.config.signs or result.status != FILTERED:
            return
        from corefilt.crash.identity import identify
        from corefilt.crash.signature import crash_of

        try:
            with self._saved() as core:
                recorded = crash_of(core, identify(core)).recorded
        except CorefiltError as error:
            self.notices.append(f"no signature: {error}")
            return
        result.signature = recorded.encode()
        result.small = recorded.certain in allowance.full

    def _saved(self) -> CoreFile:
        os.lseek(self.stream_to.fd, 0, os.SEEK_SET)
        return open_core(self.stream_to.fd)

    def _shrink(self, result: Result, process: Handed | None, allowance: Allowance) -> None:
        """Make what was saved smaller where the settings want that; what a backtrace needs comes first."""
        config = self.config
        if result.status != FILTERED:
            return
        if config.minimal or result.small:
            why = "a repeat of a crash that is saved often enough" if result.small else "by a rule"
            self._again(result, process, f"made minimal: {why}", minimal=True)
        limits = [config.most] if config.most is not None else []
        words = f"made to fit external-size-max or its rule ({config.most} bytes)"
        if config.rlimit == "fit" and self.crash.limit < (config.most or RLIM_INFINITY):
            limits, words = [self.crash.limit], f"made to fit RLIMIT_CORE ({counted(self.crash.limit, 'byte')})"
        if limits and result.output_bytes > limits[0]:
            self._again(result, process, words, fit=limits[0])
        if allowance.budget is not None and self._taken(result) > allowance.budget:
            self._again(result, process, "made minimal: there is no space for more", minimal=True)
            least = self._taken(result)
            if least > allowance.budget:
                raise OutputError(
                    f"there is space for {show_size(allowance.budget)}, and a backtrace needs {show_size(least)}"
                )

    def _taken(self, result: Result) -> int:
        """The disk use of the result, in bytes."""
        return os.fstat(self.outputs[result.file].fd).st_blocks * 512

    def _again(self, result: Result, process: Handed | None, words: str, **wanted: Any) -> None:
        """Filter what was saved once more, into the second file."""
        with self._saved() as core:
            options = Options(
                **wanted, runtime="none", annotate=self.config.annotate_full, sync=False, on_progress=self.check
            )
            options.signs = False
            report = write_filtered(core, self._wanted, self.outputs[1], options, evidence=self._shown(core, process))
        result.file, result.output_bytes = 1, report.output_bytes
        self.notices.append(words)

    def _compress(self, result: Result) -> None:
        if self.level is None:
            return
        source, target = self.outputs[result.file], self.outputs[1 - result.file]
        try:
            result.output_bytes = compress(source.fd, target.fd, self.level, self.check)
        except (OSError, OutputError) as error:
            target.abort()
            self.notices.append(f"not compressed: {error}")
            return
        result.file, result.compressed = 1 - result.file, True
