"""What a filter should have left of every mapping, by corefilt's rules over the full core."""

from __future__ import annotations

from corefilt.api import expected_bounds
from corefilt.verify.verdict import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corefilt.verify.pairs import Pair
    from corefilt.verify.tables import Tables
    from corefilt.verify.verdict import Verdict


class Expectation:
    """A filter, and the evidence that it goes by: the options of ``corefilt inspect``."""

    def __init__(
        self,
        filter: int | str,
        *,
        assume: str | Sequence[str] = (),
        maps: str | None = None,
        pid: int | None = None,
        sysroot: str | None = None,
        dumper: str = "current",
    ) -> None:
        self.filter = filter
        self.assume, self.maps, self.pid, self.sysroot, self.dumper = assume, maps, pid, sysroot, dumper

    def check(
        self, path: str, cores: tuple[Tables, Tables], pairs: list[Pair], verdict: Verdict, *, fitted: bool
    ) -> None:
        """Hold what is kept of every segment against the least and the most that the filter leaves.

        What was cut to fit a size may be less. Raises what ``Core.plan`` raises.
        """
        full, filtered = cores
        kept: dict[int, int] = {}
        for pair in pairs:
            kept[pair.full] = kept.get(pair.full, 0) + filtered.segments[pair.filtered].p_filesz
        wanted, bounds = expected_bounds(
            path, self.filter, assume=self.assume, maps=self.maps, pid=self.pid, sysroot=self.sysroot,
            dumper=self.dumper,  # type: ignore[arg-type]
        )  # fmt: skip
        verdict.filter = f"{wanted:#x}"
        for i, (least, most) in bounds.items():
            there = kept.get(i)
            if there is None or (0 if fitted else least) <= there <= most:
                continue
            start, size = full.segments[i].p_vaddr, full.segments[i].p_memsz
            where = f"segment {i} ({start:#x}-{start + size:#x})"
            leaves = f"{most}" if least == most else f"{least} to {most}"
            text = f"{where} has {there} bytes; filter {verdict.filter} leaves {leaves}"
            verdict.findings.append(
                Finding("filter", text, segment=i, address=start, bytes=max(least - there, there - most))
            )
