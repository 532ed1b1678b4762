"""Where every kind can be told, corefilt's file is laid out like the kernel's own, field by field."""

from pathlib import Path

import pytest
from kernel.dumps import FILTERS, PAGE, Core, Zoo

PF_W = 2

by_filter = pytest.mark.parametrize("coredump_filter", FILTERS, ids=lambda value: f"{value:#x}")
by_policy = pytest.mark.parametrize("unknown", ["keep", "guess"])


@pytest.fixture(autouse=True)
def unsorted() -> None:
    """Skip where the kernel orders segments by what it keeps of them: a later filter cannot follow that."""
    sort = Path("/proc/sys/kernel/core_sort_vma")
    if sort.exists() and sort.read_text().strip() != "0":
        pytest.skip("kernel.core_sort_vma is set: the order of the segments depends on the filter")


POLICIES = ("keep", "guess")
# From a pipe every filter with one policy, and with the other one when slow tests run.
CASES = [
    *((value, unknown, "file") for value in FILTERS for unknown in POLICIES),
    *(
        pytest.param(value, unknown, "pipe-to-file", marks=pytest.mark.slow if (n + k) % 2 else ())
        for n, value in enumerate(FILTERS)
        for k, unknown in enumerate(POLICIES)
    ),
]


@pytest.mark.parametrize(
    ("coredump_filter", "unknown", "way"), CASES, ids=lambda value: f"{value:#x}" if isinstance(value, int) else value
)
def test_headers_are_the_kernels(tame: Zoo, coredump_filter: int, unknown: str, way: str) -> None:
    """ELF header, program headers and length are those of the kernel's dump under this filter."""
    kernel = tame.twins[coredump_filter]
    mine = tame.filtered(coredump_filter, unknown, way).core
    assert mine.ident == kernel.ident
    assert mine.ehdr == kernel.ehdr
    assert mine.phdrs == kernel.phdrs
    assert len(mine.data) == len(kernel.data)


@by_filter
@by_policy
def test_notes_are_the_inputs(tame: Zoo, coredump_filter: int, unknown: str) -> None:
    """Notes name the process that was dumped, so the input is the measure, not the twin."""
    assert tame.filtered(coredump_filter, unknown).core.notes == tame.full.notes


def pages_that_differ(kernel: Core, mine: Core) -> list[tuple[int, int]]:
    """Return (mapping, offset) of every page of which the two cores hold different bytes."""
    different = []
    for address in mine.loads:
        one, other = kernel.kept(address), mine.kept(address)
        if one != other:
            pages = range(0, len(one), PAGE)
            different += [(address, at) for at in pages if one[at : at + PAGE] != other[at : at + PAGE]]
    return different


@by_filter
def test_pages_are_the_kernels(tame: Zoo, coredump_filter: int, reports: dict[str, str]) -> None:
    """A twin writes to its own stack and thread block before it dies; all other pages are equal."""
    mine = tame.filtered(coredump_filter, "keep").core
    different = pages_that_differ(tame.twins[coredump_filter], mine)
    kept = sum(load.p_filesz for load in mine.loads.values()) // PAGE
    names = sorted({tame.tag(address) for address, _ in different})
    title = "pages that a twin wrote to itself"
    line = f"{coredump_filter:#5x}: {len(different)} of {kept} pages, in {', '.join(names) or 'none'}"
    reports[title] = "\n".join(filter(None, [reports.get(title), line]))
    read_only = [tame.tag(address) for address, _ in different if not mine.loads[address].p_flags & PF_W]
    assert not read_only


def test_data_follows_without_gaps(wild: Zoo) -> None:
    """Offsets are the running sum of sizes, dropped mappings included, as the kernel writes them."""
    for value in FILTERS:
        core = wild.filtered(value, "keep").core
        offset = next(iter(core.loads.values())).p_offset
        assert offset == next(iter(wild.full.loads.values())).p_offset
        for load in core.loads.values():
            assert load.p_offset == offset
            offset += load.p_filesz
        assert len(core.data) == offset
