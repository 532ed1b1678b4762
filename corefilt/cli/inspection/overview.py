"""Sums over the mappings of a core by kind or file, with what the filter keeps of each; and what is uncertain."""

from __future__ import annotations

from array import array

from corefilt.cli.inspection.page import ELLIPSIS, shorten
from corefilt.cli.inspection.table import LEAST_NAME, SIZE_WIDTH
from corefilt.filtering.report import evidence_texts
from corefilt.sizes import show_size
from corefilt.text import counted, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from corefilt.cli.inspection.page import Page, Span
    from corefilt.cli.inspection.rows import Rows
    from corefilt.kinds import Classification

# Bars are at most so many columns wide, and at least so many, or not there.
BAR = (6, 30)
# Different reasons for an uncertain kind that are told one by one.
MOST_REASONS = 3
NO_FILE = "(no file)"


class MappingGroup:
    """Mappings of one kind or file: how many, and their bytes of memory, in the core, kept and ambiguous."""

    __slots__ = ("assumed", "count", "kept", "name", "present", "size")

    def __init__(self, name: str) -> None:
        """Begin with none."""
        self.name = name
        self.count = self.size = self.present = self.kept = self.assumed = 0

    def add(self, count: int, size: int, present: int, kept: int, assumed: int) -> None:
        """Count mappings in."""
        self.count += count
        self.size += size
        self.present += present
        self.kept += kept
        self.assumed += assumed

    @property
    def dropped(self) -> int:
        """The bytes in the core that the filter does not keep."""
        return self.present - self.kept

    def as_dict(self) -> dict[str, object]:
        """The group for JSON and CSV, but for its name; sizes are in bytes."""
        return {
            "mappings": self.count, "size": self.size, "present": self.present, "kept": self.kept,
            "dropped": self.dropped,
        }  # fmt: skip


GROUP_KEYS = ("name", "mappings", "size", "present", "kept", "dropped")


def groups(rows: Rows, by: str, numbers: Iterable[int] | None = None) -> list[MappingGroup]:
    """The groups by ``kind`` or ``file``, those with the most bytes in the core first."""
    if by == "kind" and numbers is None:
        found = _of_kinds(rows)
    else:
        found = _of_mappings(rows, by, range(len(rows)) if numbers is None else numbers)
    return sorted(found, key=lambda group: (-group.present, -group.size, group.name))


def _of_kinds(rows: Rows) -> Iterable[MappingGroup]:
    """The groups by kind, from the sums of each class."""
    plan, findings, phdr = rows.plan, rows.plan.findings, rows.maps.phdr
    sums = zip(
        findings.of_class,
        findings.count(),
        findings.sums(rows.maps.table.p_memsz, phdr),
        findings.sums(plan.core.present, phdr),
        findings.sums(plan.sizes, phdr),
        findings.sums(plan.assumed),
        strict=True,
    )
    found: dict[str, MappingGroup] = {}
    for finding, count, size, present, kept, assumed in sums:
        if count:
            found.setdefault(finding.kind, MappingGroup(finding.kind)).add(count, size, present, kept, assumed)
    return found.values()


def _of_mappings(rows: Rows, by: str, numbers: Iterable[int]) -> Iterable[MappingGroup]:
    """The groups of these mappings."""
    plan, maps = rows.plan, rows.maps
    present, sizes, memsz, phdr = plan.core.present, plan.sizes, maps.table.p_memsz, maps.phdr
    findings, assumed = plan.findings, plan.assumed
    found: dict[object, MappingGroup] = {}
    for m in numbers:
        key = findings[m].kind if by == "kind" else maps.path(m)
        group = found.get(key)
        if group is None:
            name = key if isinstance(key, str) else NO_FILE if key is None else printable(maps.path(m) or b"")
            group = found[key] = MappingGroup(name)
        i = phdr[m]
        group.add(1, memsz[i], present[i], sizes[i], assumed[m])
    return found.values()


def show_groups(found: Sequence[MappingGroup], what: str, page: Page, *, most: int) -> None:
    """A line for each of the first ``most`` groups, with its share and, on a terminal, a bar; then the others, and all.

    What a terminal is too narrow for is cut out of the names.
    """
    total, others = _sum("total", found), _sum(counted(len(found) - most, "other"), found[most:])
    shown = [*found[:most], *([others] if others.count else []), *([total] if len(found) > 1 else [])]
    names = max(len(text) for text in (what, *(group.name for group in shown)))
    bar = 0
    if page.width is not None:
        room = page.width - 4 * (SIZE_WIDTH + 2) - 6
        names = min(names, max(room - (BAR[0] + 2 if what == "kind" else 0), LEAST_NAME))
        bar = min(room - names - 2, BAR[1])
    bar = bar if bar >= BAR[0] and page.draws else 0
    heads = [f"{head:>{SIZE_WIDTH}}" for head in ("mappings", "present", "kept", "dropped")]
    page.line((f"{what:{names}}  {heads[0]}  {heads[1]} {'':5}  {heads[2]}  {heads[3]}", "bold"))
    for group in shown:
        page.line(*_group_line(group, total, names, bar, page))


def _sum(name: str, found: Iterable[MappingGroup]) -> MappingGroup:
    total = MappingGroup(name)
    for group in found:
        total.add(group.count, group.size, group.present, group.kept, group.assumed)
    return total


def _group_line(group: MappingGroup, total: MappingGroup, names: int, bar: int, page: Page) -> Iterator[Span]:
    share = group.present / total.present if total.present else 0.0
    percent = "<1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"
    name = shorten(group.name, names, ELLIPSIS if page.draws else "~")
    yield (
        f"{name:{names}}  {group.count:>8}  {show_size(group.present):>8} {percent:>5}  "
        f"{show_size(group.kept):>8}  {show_size(group.dropped):>8}"
    )
    if bar and group is not total:
        kept = round(bar * group.kept / total.present) if total.present else 0
        whole = max(round(bar * share), kept, 1 if group.present else 0)
        kept = max(kept, whole if group.kept and not group.dropped else 0)
        yield "  "
        yield "\u2588" * kept, "green"
        yield "\u2591" * (whole - kept), "red"


def show_uncertain(rows: Rows, page: Page, *, verbose: bool) -> None:
    """What is uncertain: how much, how much of it is ambiguous, what it could be, and how to settle it.

    Mappings of which the core holds nothing matter to nobody, but for ``verbose``.
    """
    plan, findings, phdr = rows.plan, rows.plan.findings, rows.maps.phdr
    present = plan.core.present
    counts = findings.count() if verbose else findings.sums(array("Q", map(bool, present)), phdr)
    sums = zip(findings.of_class, counts, findings.sums(present, phdr), findings.sums(plan.assumed), strict=True)
    held: dict[Classification, MappingGroup] = {}
    for finding, count, there, assumed in sums:
        if count and finding.uncertain:
            group = held.setdefault(finding, MappingGroup("; ".join(evidence_texts(finding))))
            group.add(count, 0, there, 0, assumed)
    if not held:
        return
    found = sorted(held.items(), key=lambda item: -item[1].present)
    total = _sum("", held.values())
    ambiguous = show_size(total.assumed) if total.assumed else "nothing"
    page.line(
        ("uncertain", "yellow"),
        f": {counted(total.count, 'mapping')}, {show_size(total.present)}; ambiguous under this filter: {ambiguous}",
    )
    for finding, group in found[: len(found) if verbose else MOST_REASONS]:
        page.text(
            f"  {finding.kind}? {counted(group.count, 'mapping')}, {show_size(group.present)}: {printable(group.name)}",
            indent=4,
        )
    if len(found) > MOST_REASONS and not verbose:
        page.line(f"  {counted(len(found) - MOST_REASONS, 'other reason')}: -v shows the evidence for every mapping")
    if total.assumed:
        page.line("  try: --maps, --pid, --sysroot or --assume for kinds, --pid or --sysroot for header pages")
