"""Holds corefilt against the kernel: the same mappings, dumped under F and filtered to F.

A core does not show everything the kernel decides by. What it cannot show is listed here by name, with the
reason, and nothing else may go wrong: with `--unknown guess` every disagreement must be on the list, and
every entry must earn its place; with `--unknown keep`, the default, no byte may be lost but for two
conventions, which the summary counts.
"""

from collections.abc import Iterable

import pytest
from kernel.dumps import (
    FILTERS,
    FULL,
    WAYS,
    Zoo,
    agreement_table,
    changed_bytes,
    inspect,
    kernel_version,
    matrix,
    rule,
)

POLICIES = ("keep", "guess")
by_filter = pytest.mark.parametrize("coredump_filter", FILTERS, ids=lambda value: f"{value:#x}")
by_policy = pytest.mark.parametrize("unknown", POLICIES)

# What corefilt loses by convention under `keep`: text that a debugger or a hot patch wrote to and made unwritable
# again, and a file that was written to, made unwritable, and is mapped for reading only ever since.
WRITTEN_TEXT = {"libpatched.so#1:r-xp"}
WRITTEN_THEN_READ = {"file-private-written-r"}
# From pipe to pipe nothing tells of relocated text: DT_TEXTREL stands behind it.
RELOCATED_TEXT = {"libtextrel.so#1:r-xp"}

# Of these, a convention goes against what happened, so that nothing is left open.
WRONGLY_INFERRED = WRITTEN_TEXT

SHARING = "shared and private mappings of a file bear the same name"
VIEWS = "two writable mappings of one file: nothing says which of them is the private one"
WRITES = "a page that was written to looks like the page of another file"
LINKS = "the name is gone or says (deleted), which tells nothing of other links"
MODE = "the mode of a file is not in a core, and the content does not give it away"
HUGE = "huge pages of hugetlbfs look like small ones"
MEMFD = "a writable memfd is nearly always shared"

A_CORE_CANNOT_TELL = {
    "file-private-rw": SHARING,
    "file-private-written": SHARING,
    "file-private-written-dontneed": SHARING,
    "file-private-written-unlinked": SHARING,
    "file-shared-none": SHARING,
    "file-shared-r": SHARING,
    "file-shared-unlinked-r": SHARING,
    "shm-private-written": SHARING,
    "exec-junk-written": SHARING,
    "elf-shared": SHARING,
    "memfd-shared-r": SHARING,
    "memfd-shared-rx": SHARING,
    "huge-private": SHARING,
    "huge-private-written": SHARING,
    "huge-file-private": SHARING,
    "views-same-private": VIEWS,
    "views-differ-private": VIEWS,
    "file-private-written-r": WRITES,
    "memfd-private-written-r": WRITES,
    "elf-rw": WRITES,
    "libpatched.so#1:r-xp": WRITES,
    "file-shared-called-deleted": LINKS,
    "file-shared-hard-link-left": LINKS,
    "file-shared-tmpfile-linked": LINKS,
    "exec-junk": MODE,
    "exec-junk-unlinked": MODE,
    "exec-junk-one-page": MODE,
    "script-0644": MODE,
    "memfd-private-noexec": MODE,
    "huge-memfd-private": HUGE,
    "huge-sysv": HUGE,
    "memfd-private-rw": MEMFD,
    "memfd-private-written": MEMFD,
}


def known_loss(tag: str, way: str) -> bool:
    """Tell whether `keep` may lose this: what the summary counts as dropped on a convention."""
    return tag in WRITTEN_TEXT | WRITTEN_THEN_READ or (way == "pipe-to-pipe" and tag in RELOCATED_TEXT)


def idle(zoo: Zoo, excuses: Iterable[str], needed: set[str]) -> list[str]:
    """Name the excuses that nothing needs, although their mapping (or the image it is of) could be made."""
    return [tag for tag in excuses if tag not in needed and tag.split("#")[0] not in zoo.skipped]


def losses(zoo: Zoo, coredump_filter: int, way: str) -> list[str]:
    """Name what the kernel kept and corefilt did not, outside the conventions."""
    return [
        str(case)
        for case in zoo.disagreements(coredump_filter, "keep", way)
        if case.corefilt < case.kernel and not known_loss(case.tag, way)
    ]


# ---- the fixture itself ----------------------------------------------------------------------------------


def test_the_zoo_holds_what_it_should(wild: Zoo, reports: dict[str, str]) -> None:
    """Most kinds can be made anywhere; what could not is named with its reason."""
    reports["mappings that could not be made here"] = (
        "\n".join(f"{tag}: {reason}" for tag, reason in wild.skipped.items()) or "none"
    )
    assert len(wild.categories) >= 90, wild.skipped


@pytest.mark.skipif(kernel_version() < (5, 19), reason="header pages followed other rules before 5.19")
def test_the_kernel_follows_its_rules(wild: Zoo) -> None:
    """If the kernel's own answers surprise, the rest of this file compares with the wrong thing."""
    surprises = []
    for value, twin in wild.twins.items():
        for address, load in twin.loads.items():
            category = wild.categories.get(wild.tag(address))
            if category and load.p_filesz != rule(category, value, load.p_memsz):
                surprises.append(f"{value:#x} {wild.tag(address)} ({category}): {load.p_filesz}")
    assert not surprises, "\n".join([*surprises, matrix(wild)])


def test_twins_differ_only_in_what_they_keep(wild: Zoo) -> None:
    """Twins list the same mappings in the same order."""
    for value, twin in wild.twins.items():
        assert list(twin.loads) == list(wild.full.loads), f"{value:#x}"


# ---- sizes -----------------------------------------------------------------------------------------------


def test_guess_agrees_with_the_kernel(wild: Zoo, reports: dict[str, str]) -> None:
    """A core alone is enough for nearly everything."""
    table, share = agreement_table(wild, "guess")
    reports["agreement with the kernel, --unknown guess"] = table
    reports["agreement with the kernel, --unknown keep"], _ = agreement_table(wild, "keep")
    print(table)
    assert share >= 0.95, table


@by_filter
def test_guess_errs_only_where_a_core_cannot_tell(wild: Zoo, coredump_filter: int) -> None:
    """Every disagreement has a reason."""
    wrong = wild.disagreements(coredump_filter, "guess")
    assert not [str(case) for case in wrong if case.tag not in A_CORE_CANNOT_TELL]


def test_every_excuse_is_needed(wild: Zoo) -> None:
    """An entry of A_CORE_CANNOT_TELL that never disagrees hides the next mistake."""
    disagree = {case.tag for value in FILTERS for case in wild.disagreements(value, "guess")}
    assert not idle(wild, A_CORE_CANNOT_TELL, disagree)


def test_only_what_is_assumed_is_wrong(wild: Zoo) -> None:
    """A mapping that is reported as exact or inferred is dumped as the kernel would have, under any filter."""
    certainty = inspect(wild.full.path, "certainty")
    start = {tag: address for address, tag in wild.tags.items()}
    wrong = {
        case.tag: certainty[start[case.tag]]
        for value in FILTERS
        for case in wild.disagreements(value, "guess")
        if certainty[start[case.tag]] != "assumed"
    }
    assert "exact" not in wrong.values(), wrong
    assert not [tag for tag in wrong if tag not in WRONGLY_INFERRED], wrong
    assert not idle(wild, WRONGLY_INFERRED, set(wrong))


def test_the_tame_agree_everywhere(tame: Zoo) -> None:
    """What a core can tell, corefilt tells, whatever the policy."""
    for unknown in POLICIES:
        table, share = agreement_table(tame, unknown)
        assert share == 1, table


@by_filter
@pytest.mark.parametrize("way", WAYS)
def test_keep_loses_nothing(wild: Zoo, coredump_filter: int, way: str) -> None:
    """The default keeps at least what the kernel would have kept."""
    lost = losses(wild, coredump_filter, way)
    assert not lost, "\n".join(lost)


def test_every_known_loss_happens(wild: Zoo) -> None:
    """A convention that loses nothing any more is not one."""
    lost = {
        way: {
            case.tag
            for value in FILTERS
            for case in wild.disagreements(value, "keep", way)
            if case.corefilt < case.kernel
        }
        for way in ("file", "pipe-to-pipe")
    }
    assert not idle(wild, WRITTEN_TEXT | WRITTEN_THEN_READ, lost["file"])
    assert not idle(wild, RELOCATED_TEXT, lost["pipe-to-pipe"])


# ---- bytes -----------------------------------------------------------------------------------------------


@by_filter
@by_policy
def test_kept_bytes_are_the_inputs(wild: Zoo, coredump_filter: int, unknown: str) -> None:
    """Whatever is kept stands at its address as it did in the input."""
    assert not changed_bytes(wild.full, wild.filtered(coredump_filter, unknown).core)


@by_filter
def test_kept_bytes_are_the_inputs_through_a_pipe(wild: Zoo, coredump_filter: int) -> None:
    """The same, where corefilt can neither seek nor look ahead."""
    assert not changed_bytes(wild.full, wild.filtered(coredump_filter, "keep", "pipe-to-pipe").core)


@by_filter
@by_policy
def test_a_pipe_into_a_file_changes_nothing(wild: Zoo, coredump_filter: int, unknown: str) -> None:
    """Reading from a pipe costs nothing as long as the output can be patched afterwards."""
    direct = wild.filtered(coredump_filter, unknown).core
    piped = wild.filtered(coredump_filter, unknown, "pipe-to-file").core
    assert direct.sizes() == piped.sizes()
    assert direct.data[:] == piped.data[:]


@pytest.mark.parametrize("way", WAYS)
@by_policy
def test_all_bits_change_nothing(wild: Zoo, unknown: str, way: str) -> None:
    """Under the filter it was dumped with, a core stays what it is."""
    assert wild.filtered(FULL, unknown, way).core.data[:] == wild.full.data[:]
