"""One piece of work of a batch: a record of plain values that another process or machine can carry out."""

from __future__ import annotations

from dataclasses import dataclass, field

from corefilt.batching.outcome import Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from corefilt.batching.policy.policy import Policy
    from corefilt.crash.repeats import CrashSummary
    from corefilt.io.remote.url import ObjectInfo
    from corefilt.io.shared_holders import Held


@dataclass(frozen=True, slots=True)
class Task:
    """Where a core is, where it goes, and how it is filtered.

    ``source`` is the path or URL of the file, ``root`` the folder below which it was found and from which on no link is
    followed (empty: it was named itself). ``wrapping`` says from the outside in what has to be taken off to come to the
    core, ``member`` which part of a tar or zip it is. It goes to ``output``, a path (below ``output_root``, from which
    on no link is followed either) or URL, or with ``replace`` to where it was; without both, and with ``dry_run``,
    nothing is written. ``filter`` are the bits, ``options`` those of ``corefilt filter`` that differ from their
    defaults, by their names in ``options.Options``, as plain values. ``compress`` is what --compress says. ``verify``
    holds the result against the input before it gets its name, ``force`` goes over what stands against it,
    ``keep_free`` are bytes of the file system that are left free. ``size`` is the file's in bytes; ``device`` the one
    that bounds the work, or 0 where processors do. A ``policy`` has the last word on filter and options, or leaves
    nothing to do; ``rule`` names the rule that had it, ``doubt`` says what its rules asked for and was not known, and
    ``work`` is what provenance tells of the task before that. ``scrub`` is the level at which secrets are overwritten,
    ``bundle`` has a bundle written beside the output. With ``command_line`` the outcome has the whole command line,
    which can hold passwords. ``crash`` is what was found out of the crash before, and ``repeat`` the core's place among
    those of the same one; with ``survey`` that is all that the task is for. ``listed`` is what the store told of an
    object that is the source; ``output_there`` whether there is something at the output, which then did not come of
    this work, and None where that was not asked. ``held`` tells that the file that would be replaced or deleted
    holds blocks for other cores.
    """

    source: str
    filter: int
    root: str = ""
    wrapping: tuple[str, ...] = ()
    member: str | None = None
    output: str | None = None
    output_root: str = ""
    replace: bool = False
    options: Mapping[str, object] = field(default_factory=dict)
    compress: str = "same"
    verify: bool = False
    force: bool = False
    dry_run: bool = False
    keep_free: int = 0
    size: int = 0
    device: int = 0
    policy: Policy | None = None
    rule: str | None = None
    doubt: str = ""
    work: tuple[str, str] | None = None
    scrub: str | None = None
    bundle: bool = False
    command_line: bool = False
    survey: bool = False
    crash: CrashSummary | None = None
    repeat: int | None = None
    listed: ObjectInfo | None = None
    output_there: bool | None = None
    held: Held | None = None

    @property
    def name(self) -> str:
        """The core's name for people."""
        return self.source if self.member is None else f"{self.source}!{self.member}"

    def because(self, *reasons: str) -> str:
        """Reasons of an outcome in one line, those that are not empty, and what the policy did not know."""
        return "; ".join(filter(None, (*reasons, self.doubt)))

    def outcome(self, status: str, reason: str = "", **more: object) -> Outcome:
        """An outcome of this task."""
        wrapping = "+".join(self.wrapping) or "raw"
        known = {"crash": self.crash, **more}
        return Outcome(self.name, status, wrapping=wrapping, reason=self.because(reason), rule=self.rule, **known)  # type: ignore[arg-type]
