"""The public face: ``corefilt.filter``, ``corefilt.open``, and what they give."""

from __future__ import annotations

import os
import sys
from functools import cached_property

from corefilt.corefile.corefile import MAX_HEADERS, CoreFile
from corefilt.errors import UnstreamableError, UsageError
from corefilt.filterbits import Bit, as_filter
from corefilt.filtering.hints import in_python
from corefilt.filtering.observer import observer
from corefilt.filtering.options import check_output, options_for
from corefilt.filtering.shown import Shown, kinds_table
from corefilt.filtering.write import write_filtered, write_plan
from corefilt.io.opening import check_storage_options, open_source
from corefilt.io.sources import refuse_content
from corefilt.plan.plan import KeepPlan
from corefilt.sizes import parse_size, show_size
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import ExitStack
    from types import TracebackType
    from typing import Any, NoReturn, Self, Unpack

    from corefilt.coredump_filter import CoredumpFilter
    from corefilt.crash.command_line import CommandLine
    from corefilt.crash.identity import Identity, ThreadInfo
    from corefilt.crash.modules import Module
    from corefilt.crash.signal import Signal
    from corefilt.filtering.keywords import FilterOptions, PlanOptions, WriteOptions
    from corefilt.filtering.observer import Event
    from corefilt.filtering.options import Options
    from corefilt.filtering.report import Report
    from corefilt.io.sinks import NamedFile
    from corefilt.io.sources import Place
    from corefilt.plan.plan import Mapping as CoreMapping


class Core(Shown):
    """A core dump that is open for reading; a context manager."""

    def __init__(self, file: CoreFile) -> None:
        self._file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close what was opened for it; a descriptor or file that was given stays open."""
        self._file.__exit__(None, None, None)

    def __del__(self, ending: Callable[[], bool] = sys.is_finalizing) -> None:
        file = self.__dict__.get("_file")
        # At the end of the interpreter its threads stand still, so none can be waited for.
        if file is None or file.source.closed or not file.source.owned or ending():
            return
        if file.source.origin.made:
            # A thread fetches it, which may wait for its file.
            import threading

            threading.Thread(target=self.close, name="corefilt-closing", daemon=True).start()
        else:
            self.close()
        from warnings import warn

        warn(f"unclosed core {self.name!r}", ResourceWarning, stacklevel=2, source=self)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Core cannot be copied or pickled: it has an open file")

    @property
    def _opened(self) -> CoreFile:
        """The core where it is to be read. Raises UsageError if it is closed."""
        self._file.source.check_open()
        return self._file

    @property
    def name(self) -> str:
        """Its path or URL, or a name for what it was opened from."""
        return self._file.source.name

    @property
    def size(self) -> int | None:
        """Its length in bytes, without compression; None of one that passes only once and was not read to its end."""
        return self._file.end

    @property
    def elf_class(self) -> str:
        """ELF32 or ELF64."""
        return self._file.elf_class

    @property
    def machine(self) -> str:
        """The machine's name, or its EM_ number."""
        return self._file.machine

    @property
    def page_size(self) -> int:
        """The size of a page, in bytes, of the machine that wrote it."""
        return self._file.maps.page_size

    @property
    def warnings(self) -> list[str]:
        """What is wrong with it, in words."""
        return self._file.warnings

    @property
    def damaged(self) -> bool:
        """Whether anything in it contradicts itself or is missing."""
        return self._file.damaged

    @property
    def mappings(self) -> Sequence[CoreMapping]:
        """All mappings with their kinds."""
        return self._everything.mappings

    @cached_property
    def _everything(self) -> KeepPlan:
        # No Plan: that refers to the core, which would then wait for the garbage collector.
        return self.plan(Bit.ALL)._made

    @cached_property
    def identity(self) -> Identity:
        """Whose core it is, and what is noted beside it. Of a pipe, ask before anything is written."""
        from corefilt.crash.identity import identify, with_metadata

        return with_metadata(identify(self._opened), self._opened)

    @property
    def threads(self) -> Sequence[ThreadInfo]:
        """All threads, beginning with the one that crashed.

        Raises UnstreamableError if the core is read in one pass; ``identity.threads`` is then None.
        """
        found = self.identity.threads
        if found is None:
            raise self._passes("threads are read")
        return found

    @property
    def modules(self) -> Sequence[Module]:
        """The ELF files that were loaded, with their build-ids, in the order of their addresses.

        Raises UnstreamableError if the core is read in one pass; ``identity.modules`` is then None.
        """
        found = self.identity.modules
        if found is None:
            raise self._passes("modules are read")
        return found

    @property
    def signal(self) -> Signal | None:
        """The signal that ended the process; None if there was none, or if the core does not record it."""
        return self.identity.signal

    @property
    def command_line(self) -> CommandLine | None:
        """The command line and the source that it was read from; it is surely whole only if that is ``stack``."""
        return self.identity.command_line

    def read(self, address: int, size: int) -> bytes:
        """Return up to ``size`` bytes of the process's memory at an address, as far as the core holds them.

        It returns fewer if the mapping ends or the rest of it was dropped. Raises InputError, and UnstreamableError if
        the core is read in one pass.
        """
        file = self._opened
        if not file.source.seekable:
            raise self._passes("memory is read")
        return file.memory(size).read(address, size) if size > 0 else b""

    def _passes(self, what: str) -> UnstreamableError:
        """Say why a core that passes only once is refused."""
        compressed = self._file.source.compression is not None
        return UnstreamableError(
            f"{self.name}: {what} in any order, and this core passes only once",
            "add spool=True to keep a temporary copy, or decompress it"
            if compressed
            else "name the core as a file, or add spool=True to keep a temporary copy",
        )

    def plan(
        self,
        filter: int | str,
        **options: Unpack[PlanOptions],
    ) -> Plan:
        """Return what the filter keeps of this core, as far as it is known before it is written.

        The options are ``unknown`` and those of evidence: ``maps``, ``pid``, ``sysroot``, ``assume``, ``dumper``.
        Raises FilterError, UsageError, EvidenceError, or SelectorError for an assumption that matches nothing.
        """
        with in_python():
            given = options_for("Core.plan()", options)
            made = KeepPlan.of(
                self._opened, filter, unknown=given.unknown, assume=given.assume, maps=given.maps, pid=given.pid,
                sysroot=given.sysroot, dumper=given.dumper,
            )  # fmt: skip
        return Plan(self, made)

    def __repr__(self) -> str:
        return f"<corefilt.Core {self.name!r}: {self.machine}, {counted(len(self._file.maps), 'mapping')}>"

    def _repr_html_(self) -> str | None:
        if self._file.source.closed and "_everything" not in self.__dict__:
            # A notebook shows the repr instead.
            return None
        return kinds_table(f"{self.name}: {self.elf_class} {self.machine}", self._everything.by_kind())


class Plan(Shown):
    """What a filter keeps of every mapping of a core, in bytes; ``write`` carries it out."""

    def __init__(self, core: Core, made: KeepPlan) -> None:
        self.core = core
        self._made = made

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Plan cannot be copied or pickled: its core has an open file")

    @property
    def filter(self) -> CoredumpFilter:
        """The filter."""
        from corefilt.coredump_filter import CoredumpFilter

        return CoredumpFilter(self._made.filter)

    @property
    def mappings(self) -> Sequence[CoreMapping]:
        """The mappings as this plan's evidence decides them, in the order of ``Core.mappings``."""
        return self._made.mappings

    def kept(self, mapping: int) -> int:
        """Return how many bytes of a mapping are kept, by its number in ``mappings``."""
        return self._made.kept(mapping)

    def by_kind(self) -> Iterator[tuple[str, int, int, int]]:
        """Yield for every kind that occurs: its name, and the bytes kept, dropped and ambiguous."""
        return self._made.by_kind()

    def write(
        self,
        output: Place,
        *,
        progress: Callable[[int, int | None], object] | None = None,
        cancel: Event | None = None,
        storage_options: Mapping[str, Any] | None = None,
        **options: Unpack[WriteOptions],
    ) -> Report:
        """Write the filtered core; the options are those of ``corefilt.filter`` for the output. Raises CorefiltError.

        Not among them are ``fit``, ``minimal`` and what belongs to these: only ``corefilt.filter`` takes them.
        A core that passes only once (a pipe, a compressed core) can be written only once; the second time raises
        UnstreamableError. From a pipe into a file, what is kept is decided only at its end. ``progress``, ``cancel``
        and ``storage_options`` are those of ``corefilt.filter``.
        """
        with in_python():
            given = options_for("Plan.write()", options)
            # Core.plan() has checked the word.
            given.unknown = self._made.unknown  # type: ignore[assignment]
            given.on_progress = observer(progress, cancel, self.core._opened.length)
            return write_plan(self._made, _target(output, given, storage_options), given)

    def __repr__(self) -> str:
        kept, dropped = (sum(column) for column in list(zip(*self.by_kind(), strict=True))[1:3] or ((), ()))
        what = f"keeps {show_size(kept)}, drops {show_size(dropped)}"
        return f"<corefilt.Plan {self._made.filter:#x} of {self.core.name!r}: {what}>"

    def _repr_html_(self) -> str:
        return kinds_table(f"{self.core.name}, filter {self._made.filter:#x}", self.by_kind())


def open_core(
    path: Place,
    *,
    max_headers: int | str = MAX_HEADERS,
    spool: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> Core:
    """Open a core: a path or URL, ``-`` for standard input, a descriptor or a binary file.

    ``storage_options`` are passed by fsspec to the library for a URL. Raises InputError.
    """
    with in_python():
        most = parse_size(str(max_headers))
        source = open_source(path, max_headers=most, spool=spool, storage_options=storage_options)
        return Core(CoreFile.of(source))


def filter_core(
    source: Place,
    output: Place | None = None,
    *,
    filter: int | str,
    progress: Callable[[int, int | None], object] | None = None,
    cancel: Event | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **options: Unpack[FilterOptions],
) -> Report:
    """Filter a core into another: paths, URLs, ``-``, or descriptors or binary files, which stay open.

    The options are those of ``corefilt filter``; ``values`` are those of ``--set``. Give exactly one of ``output``,
    ``name`` and ``in_place``. ``progress`` is called with the bytes that were processed and the total (None if it is
    unknown); ``cancel`` is an event like threading.Event: once it is set, CancelledError is raised. ``storage_options``
    are passed by fsspec to the library for URLs. Returns the report; ``report.damaged`` says whether the input was
    damaged, ``report.output`` is the path. Raises CorefiltError.
    """
    with in_python():
        given = options_for("corefilt.filter()", options)
        check_output(given.__dict__, output)
        if output is None and given.name is None and not given.in_place:
            raise UsageError("missing output", "give output, name or in_place=True")
        wanted, warnings = as_filter(filter)
        opened = open_source(
            source, max_headers=given.most_headers, spool=given.spool, seeks=given.fit_request is not None,
            storage_options=storage_options,
        )  # fmt: skip
        with CoreFile.of(opened) as core:
            given.on_progress = observer(progress, cancel, core.length)
            target, notices = given.naming.file(core, force=given.force) if given.naming is not None else (output, [])
            report = write_filtered(core, wanted, _target(target, given, storage_options), given)
    report.notices += warnings + notices
    return report


def _target(
    output: Place | NamedFile | None, given: Options, storage_options: Mapping[str, Any] | None
) -> Place | NamedFile:
    """The output as the writer takes it; a URL with the options of its store."""
    check_storage_options(storage_options)
    if output is None:
        # In place there is none.
        return ""
    if storage_options and isinstance(output, str) and "://" in output:
        from corefilt.io.remote.upload import RemoteFile
        from corefilt.io.remote.url import is_url, local_path

        output = local_path(output)
        if is_url(output):
            return RemoteFile(output, force=given.force, storage_options=storage_options)
    return output


def name_of_file(place: str | bytes | os.PathLike[str]) -> str:
    """Return the path or URL of what is to be read as a file. Raises UsageError for what is neither."""
    if not isinstance(place, str | bytes | os.PathLike):
        raise UsageError(f"a file is named by its path or URL, not by {type(place).__name__}")
    if isinstance(place, bytes):
        refuse_content(place)
    return os.fsdecode(place)


def local_copy(place: str, stack: ExitStack) -> str:
    """Return the path of what is to be read as a file: of a URL that of a copy, which lasts as long as ``stack``."""
    from corefilt.io.remote.url import is_url, local_path

    path = local_path(place)
    if not is_url(path):
        return path
    from corefilt.io.remote.download import copied

    return stack.enter_context(copied(path))


def expected_bounds(
    path: str, filter: int | str, **options: Unpack[PlanOptions]
) -> tuple[int, dict[int, tuple[int, int]]]:
    """Return a filter, and the least and the most bytes that it may leave of every segment of a core.

    ``corefilt verify`` asks it, so messages name options as its command line does. Raises what ``Core.plan`` does.
    """
    given = options_for("Core.plan()", options)
    # A pipe would leave of it what it has to leave, for want of looking ahead.
    with CoreFile.of(open_source(path, max_headers=MAX_HEADERS, spool=True)) as core:
        plan = KeepPlan.of(
            core, filter, assume=given.assume, maps=given.maps, pid=given.pid, sysroot=given.sysroot,
            dumper=given.dumper,
        )  # fmt: skip
        return plan.filter, plan.bounds()
