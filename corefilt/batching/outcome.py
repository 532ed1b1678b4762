"""What became of one thing that was found: the record that reports, tables and other machines work with."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields

from corefilt import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from corefilt.crash.repeats import CrashSummary

# filtered: a smaller core was written. unchanged: it had been done before, or there was nothing to take out.
# skipped: no core, and why. failed: and why. kept: left alone on purpose, and why. deleted: by a policy.
STATUSES = ("filtered", "unchanged", "skipped", "failed", "kept", "deleted")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One file or member, and what was done with it; sizes are in bytes.

    ``source`` is a path or URL, with ``!member`` behind it for what is inside; ``wrapping`` what the core came in, from
    the outside in, joined by ``+`` (``tar+zstd``), or ``raw``. ``input_bytes`` and ``output_bytes`` are the core's
    lengths without compression, ``allocated_before`` and ``allocated_after`` what the files take where they are stored.
    ``damage`` is what is wrong with the core, that of a truncated one for instance; ``undecided_bytes`` depend on an
    assumption; ``kinds`` maps each kind's name to its bytes before and after; ``crash`` is known where it was asked
    for.
    """

    source: str
    status: str
    output: str | None = None
    wrapping: str = "raw"
    reason: str = ""
    damage: str = ""
    rule: str | None = None
    input_bytes: int | None = None
    output_bytes: int | None = None
    allocated_before: int | None = None
    allocated_after: int | None = None
    undecided_bytes: int = 0
    executable: str | None = None
    command_line: str | None = None
    signal: int | None = None
    kinds: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    seconds: float = 0.0
    crash: CrashSummary | None = None

    def as_dict(self) -> dict[str, object]:
        """The fields as JSON takes them."""
        kinds = {name: list(pair) for name, pair in self.kinds.items()}
        return {**asdict(self), "kinds": kinds, "crash": self.crash.as_dict() if self.crash is not None else None}

    def as_line(self) -> dict[str, object]:
        """What a line of JSON says of it."""
        return {"schema": 1, "version": __version__, **self.as_dict()}

    @classmethod
    def of_dict(cls, values: Mapping[str, object]) -> Outcome:
        """What ``as_dict`` gave, read back; unknown keys are passed over. Raises ValueError for what is none."""
        names = {field.name for field in fields(cls)}
        known = {name: value for name, value in values.items() if name in names}
        kinds = known.get("kinds", {})
        if not isinstance(kinds, dict) or known.get("status") not in STATUSES or not isinstance(known["source"], str):
            raise ValueError("no outcome of a task")
        known["kinds"] = {str(name): (int(before), int(after)) for name, (before, after) in kinds.items()}
        crash = known.get("crash")
        known["crash"] = None
        if isinstance(crash, dict):
            from corefilt.crash.repeats import CrashSummary

            known["crash"] = CrashSummary.of_dict(crash)
        return cls(**known)  # type: ignore[arg-type]
