"""The public face: ``corefilt.filter``, ``corefilt.open``, and what they give."""

from __future__ import annotations

from functools import cached_property

from corefilt.corefile.corefile import MAX_HEADERS, CoreFile
from corefilt.errors import UsageError
from corefilt.filterbits import CoredumpFilter, as_filter
from corefilt.filtering.options import options_for
from corefilt.filtering.write import write_filtered, write_plan
from corefilt.plan import plan as plans

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Unpack

    from corefilt.crash.command_line import CommandLine
    from corefilt.crash.identity import Identity, ThreadInfo
    from corefilt.crash.modules import Module
    from corefilt.crash.signal import Signal
    from corefilt.filtering.keywords import FilterOptions, PlanOptions, WriteOptions
    from corefilt.filtering.report import Report
    from corefilt.io.sources import Place
    from corefilt.plan.plan import Mapping


class Core(CoreFile):
    """A core dump that is open for reading; a context manager."""

    @property
    def mappings(self) -> Sequence[Mapping]:
        """All mappings with what is known of their kinds."""
        return self._everything.mappings

    @cached_property
    def _everything(self) -> Plan:
        return self.plan(CoredumpFilter.ALL)

    @cached_property
    def identity(self) -> Identity:
        """Whose core it is, by the core alone. Of a pipe, ask before anything is written."""
        from corefilt.crash.identity import identify

        return identify(self)

    @property
    def threads(self) -> Sequence[ThreadInfo]:
        """All threads, the one that crashed first; none of a pipe."""
        return self.identity.threads

    @property
    def modules(self) -> Sequence[Module]:
        """The ELF files that were loaded, with their build-ids, in the order of their addresses; none of a pipe."""
        return self.identity.modules

    @property
    def signal(self) -> Signal | None:
        """What killed the process; None where nothing did, or the core does not tell."""
        return self.identity.signal

    @property
    def command_line(self) -> CommandLine | None:
        """The whole command line and where it was read."""
        return self.identity.command_line

    def read(self, address: int, size: int) -> bytes:
        """Return up to ``size`` bytes of the process's memory at an address, as far as the core holds them.

        Fewer come where the mapping ends or the rest of it was dropped, none of a pipe. Raises InputError.
        """
        if not self.source.seekable or size <= 0:
            return b""
        return self.memory(size).read(address, size)

    def __repr__(self) -> str:
        return f"<corefilt.Core {self.source.name!r}: {self.machine}, {len(self.maps)} mappings>"

    def plan(
        self,
        filter: int | str,
        **options: Unpack[PlanOptions],
    ) -> Plan:
        """Return what the filter leaves of this core, by what can be known before it is written.

        The options are those of ``corefilt filter``. Raises FilterError, UsageError, EvidenceError, or SelectorError
        for an assumption that fits nothing.
        """
        given = options_for("Core.plan()", options)
        return Plan.of(
            self, filter, unknown=given.unknown, assume=given.assume, maps=given.maps, pid=given.pid,
            sysroot=given.sysroot, dumper=given.dumper,
        )  # fmt: skip


class Plan(plans.KeepPlan):
    """What a filter keeps of every mapping of a core, in bytes; ``write`` carries it out."""

    def write(
        self,
        output: Place,
        **options: Unpack[WriteOptions],
    ) -> Report:
        """Write the filtered core; the options are those of ``corefilt filter``. Raises CorefiltError's children.

        A pipe can be written once, and into a file what it keeps is settled only at its end.
        """
        given = options_for("Plan.write()", options)
        # Core.plan() has checked the word.
        given.unknown = self.unknown  # type: ignore[assignment]
        return write_plan(self, output, given)


def open_core(path: Place, *, max_headers: int = MAX_HEADERS, spool: bool = False) -> Core:
    """Open a core: a path, ``-`` for standard input, a descriptor or a binary file. Raises InputError and its kin."""
    return Core.open(path, max_headers=max_headers, spool=spool)


def filter_core(
    source: Place,
    output: Place | None = None,
    *,
    filter: int | str,
    **options: Unpack[FilterOptions],
) -> Report:
    """Filter a core into another: paths, ``-``, or descriptors or binary files, which stay open.

    The options are those of ``corefilt filter``; ``values`` are what ``--set`` gives. Either ``output`` or ``name``
    says where to. Returns the report; ``report.damaged`` tells that the input was, ``report.output`` is the path.
    Raises CorefiltError's children.
    """
    given = options_for("corefilt.filter()", options)
    if (output is None) == (given.name is None):
        raise UsageError("the output is either a place or a template's name", "give output or name")
    wanted, warnings = as_filter(filter)
    with open_core(source, max_headers=given.max_headers, spool=given.spool) as core:
        target, notices = given.naming.file(core, force=given.force) if given.naming is not None else (output, [])
        if target is None:
            raise AssertionError("there is an output or a name")
        report = write_filtered(core, wanted, target, given)
        report.notices += warnings + notices
        return report
