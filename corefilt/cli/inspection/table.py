"""The rows of mappings, of groups of them, and of loaded files: columns for people, CSV for programs."""

from __future__ import annotations

from corefilt.cli.inspection.page import ELLIPSIS, shorten
from corefilt.cli.inspection.rows import COLUMNS, NUMBERS, Remembered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import TypeAlias

    from corefilt.cli.inspection.page import Page
    from corefilt.cli.inspection.rows import Column, Rows

    # The numbers of mappings, some at once.
    Batches: TypeAlias = Iterable[Sequence[int]]

# From this width on a row has the whole range of addresses, and what the memory took.
WIDE = 100
NARROW_COLUMNS = ("start", "present", "kept", "flags", "kind", "file")
WIDE_COLUMNS = ("address", "size", "present", "kept", "flags", "kind", "file")
VERBOSE_COLUMNS = (
    "address", "size", "present", "kept", "flags", "kind", "certainty", "bits", "offset", "file", "evidence",
)  # fmt: skip
CSV_COLUMNS = tuple(name for name in COLUMNS if name != "address")
HEADS = {"start": "address", "bits": "bits 0-8", "inferred": "by convention"}
# show_size has at most eight characters: 1000 KiB.
SIZE_WIDTH = 8
# A file's name is never cut to less.
LEAST_NAME = 12
# Behind the last address that programs have: the gate page of x86-64.
LAST_USER_ADDRESS = 1 << 56


def columns_for(page: Page, *, listed: bool, verbose: bool) -> Sequence[str]:
    """The columns where none are named; ``listed`` tells that all mappings are."""
    if verbose:
        return VERBOSE_COLUMNS
    if page.width is None:
        return (*WIDE_COLUMNS, "evidence") if listed else WIDE_COLUMNS
    return WIDE_COLUMNS if page.width >= WIDE else NARROW_COLUMNS


def blocks(rows: Rows, batches: Batches, columns: Sequence[str], page: Page, *, verbose: bool) -> Iterator[str]:
    """The heads of the columns, and the lines of the mappings of each batch.

    Evidence is shown only of what is ambiguous, or ``verbose``.
    """
    widths = _widths(rows, columns)
    made = rows.columns(ambiguous=not verbose)
    gap = " " if page.width is not None and page.width < WIDE else "  "
    if page.width is not None:
        fixed = sum(widths[name] + len(gap) for name in columns if name not in ("file", "evidence"))
        room = page.width - fixed
        for name in ("file", "evidence"):
            if name in columns:
                share = room if columns[-1] == name else room // 2
                widths[name] = max(share, LEAST_NAME)
                made[name] = _cut(made[name], widths[name], ELLIPSIS if page.draws else "~")
    # Formatting a row at once takes half the time of padding each of its cells.
    row = gap.join(_slot(name, widths[name], last=name == columns[-1]) for name in columns)
    yield (row % tuple(HEADS.get(name, name) for name in columns)).rstrip()
    # Mostly only the first cell is new: the others are formatted once for all rows that have them.
    first, *others = columns
    lead = _slot(first, widths[first], last=not others) + "%s"
    rest = "".join(gap + _slot(name, widths[name], last=name == columns[-1]) for name in others)
    tails = Remembered(rest.__mod__)
    for numbers in batches:
        if numbers:
            cells = zip(*[made[name](numbers) for name in others], strict=True) if others else [()] * len(numbers)
            pairs = zip(made[first](numbers), map(tails.__getitem__, cells), strict=True)
            yield "\n".join(map(str.rstrip, map(lead.__mod__, pairs)))


def csv_lines(rows: Rows, batches: Batches, columns: Sequence[str]) -> Iterator[str]:
    """The rows as CSV (RFC 4180, lines end in a line feed): sizes in bytes, addresses with 0x."""
    yield from as_csv(columns, _records(rows.columns(raw=True), batches, columns))


def _records(made: dict[str, Column], batches: Batches, columns: Sequence[str]) -> Iterator[tuple[object, ...]]:
    """The cells of each row."""
    makers = [made[name] for name in columns]
    for numbers in batches:
        yield from zip(*[make(numbers) for make in makers], strict=True)


def as_csv(heads: Sequence[str], records: Iterable[Sequence[object]]) -> Iterator[str]:
    """Records as lines of CSV, the heads first."""
    import csv
    from io import StringIO

    held = StringIO()
    writer = csv.writer(held, lineterminator="")
    writer.writerow(heads)
    yield held.getvalue()
    for record in records:
        held.seek(0)
        held.truncate()
        writer.writerow(record)
        yield held.getvalue()


def plain_table(heads: Sequence[str], records: Sequence[tuple[str, ...]], page: Page) -> Iterator[str]:
    """A small table of texts, whose last column is cut to the width of the terminal."""
    table = (tuple(heads), *records)
    widths = [max(len(row[i]) for row in table) for i in range(len(heads))]
    if page.width is not None:
        widths[-1] = min(widths[-1], max(page.width - sum(widths[:-1]) - 2 * (len(heads) - 1), LEAST_NAME))
    mark = ELLIPSIS if page.draws else "~"
    for row in table:
        yield "  ".join(
            shorten(cell, width, mark).ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()


def _widths(rows: Rows, columns: Sequence[str]) -> dict[str, int]:
    """How wide each column is. Only the gate page has addresses that are longer than the others'."""
    table = rows.maps.table
    last = max(table.p_vaddr, default=0)
    if last >= LAST_USER_ADDRESS:
        last = max((at for at in table.p_vaddr if at < LAST_USER_ADDRESS), default=0)
    digits = len(f"{last:x}")
    findings = rows.plan.findings
    found = (findings.of_class[number] for number in set(findings.numbers))
    kind = max((len(f.kind) + f.uncertain for f in found), default=4)
    widths = {
        "address": 2 * digits + 1, "start": digits, "end": digits, "flags": 5, "kind": max(kind, 4), "certainty": 9,
        "bits": 18, "offset": 10, "file": 0, "evidence": 0,
    }  # fmt: skip
    return {
        name: max(widths.get(name, SIZE_WIDTH), len(HEADS.get(name, name)) if name != "file" else 0) for name in columns
    }


def _slot(name: str, width: int, *, last: bool) -> str:
    """Where a cell goes in a row."""
    return "%s" if last or not width else f"%{width}s" if name in NUMBERS else f"%-{width}s"


def _cut(column: Column, width: int, mark: str) -> Column:
    return lambda numbers: [shorten(str(text), width, mark) for text in column(numbers)]
