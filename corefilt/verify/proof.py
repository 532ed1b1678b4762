"""Holds a filtered core against the full one: headers, segments, notes, every kept byte, and what nobody claims."""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import partial

from corefilt.api import local_copy, name_of_file
from corefilt.errors import DamagedCoreError, NotACoreError
from corefilt.sizes import parse_limit, show_size
from corefilt.text import counted
from corefilt.verify.cut import check_cut
from corefilt.verify.expected import Expectation
from corefilt.verify.files import difference
from corefilt.verify.guard import Passed, guarded
from corefilt.verify.headers import check_header, check_sections
from corefilt.verify.note_segments import FITS, extents, own_notes
from corefilt.verify.notes import check_notes
from corefilt.verify.pairs import MTE, Pair, check_places, pair_segments
from corefilt.verify.plain import open_plain
from corefilt.verify.scrubbed import ScrubList, check_scrubbed
from corefilt.verify.tables import Tables
from corefilt.verify.unclaimed import check_unclaimed
from corefilt.verify.verdict import Finding, Verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corefilt.sizes import Limit
    from corefilt.verify.files import MappedCore


def verify(
    full: str | os.PathLike[str],
    filtered: str | os.PathLike[str],
    *,
    filter: int | str | None = None,
    assume: str | Sequence[str] = (),
    maps: str | None = None,
    pid: int | None = None,
    sysroot: str | None = None,
    dumper: str = "current",
    truncate: int | str | None = None,
    scrubbed: str | os.PathLike[str] | None = None,
    names: tuple[str, str] | None = None,
    progress: Callable[[int, int | None], object] | None = None,
) -> Verdict:
    """Check whether ``filtered`` keeps the promises about ``full``; both are files or URLs.

    With a ``filter``, also check that it keeps what that filter keeps; the other options are the evidence that it was
    filtered with. ``truncate`` is the limit that cut it, as for corefilt.filter(): it must end where the kernel would
    have ended it. ``scrubbed`` is the report of ``corefilt scrub``: the ranges that it lists must contain fill,
    and all other bytes must be the same. ``names`` are the names of the two in errors. ``progress`` is called, from a
    thread, with the bytes that were compared and the total. Compressed files and URLs are copied to a temporary file.
    Files are read in a child process, so that truncating one meanwhile is an error and not a crash. Raises InputError
    for a file that cannot be read and for a full core that is none or changes meanwhile, UsageError for an invalid
    limit, and what ``Core.plan`` raises.
    """
    expectation = None
    if filter is not None:
        expectation = Expectation(filter, assume=assume, maps=maps, pid=pid, sysroot=sysroot, dumper=dumper)
    limit = parse_limit(truncate) if truncate is not None else None
    if limit is not None and not limit.cuts:
        limit = None
    paths = name_of_file(full), name_of_file(filtered)
    names = names or paths
    scrubs = ScrubList(name_of_file(scrubbed)) if scrubbed is not None else None
    passed = Passed()
    with ExitStack() as stack:
        local = local_copy(paths[0], stack), local_copy(paths[1], stack)
        work = partial(_prove, local, names, expectation, limit, scrubs, passed)
        return guarded(work, *names, passed=passed, progress=progress)


def _prove(
    paths: tuple[str, str],
    names: tuple[str, str],
    expectation: Expectation | None,
    limit: Limit | None,
    scrubs: ScrubList | None,
    passed: Passed,
) -> Verdict:
    verdict, cut = Verdict(*names), limit is not None
    with ExitStack() as stack:
        one = stack.enter_context(open_plain(paths[0], names[0]))
        old = Tables(one)
        verdict.segments, verdict.damage = len(old.segments), one.damage
        try:
            other = stack.enter_context(open_plain(paths[1], names[1]))
            new = Tables(other, cut=cut)
        except (NotACoreError, DamagedCoreError) as error:
            verdict.findings.append(Finding("header", str(error)))
            return verdict
        if other.damage is not None:
            verdict.findings.append(Finding("header", f"{other.name}: {other.damage}"))
        verdict.short = new.is_short
        if scrubs is not None:
            other.excused = scrubs.spans("text", "bytes", "zeros")
        files, cores = (one, other), (old, new)
        fitted = verdict.fitted = FITS in own_notes(other, new)
        pairs = pair_segments(old, new, verdict, may_split=fitted, extents=(extents(one, old), extents(other, new)))
        check_places(old, new, pairs, verdict, cut=cut)
        passed.expect(sum(new.present(pair.filtered) for pair in pairs))
        one.passed = passed
        converted = False
        for pair in pairs:
            if old.segments[pair.full].p_type == "PT_NOTE":
                converted |= check_notes(files, cores, (pair.full, pair.filtered), verdict, cut=cut)
            else:
                _check_payload(files, cores, pair, verdict)
        present = (old.present(i) for i, segment in enumerate(old.segments) if segment.p_type == "PT_LOAD")
        verdict.dropped_bytes = sum(present) - verdict.kept_bytes
        check_header(old, new, verdict, fitted=fitted, converted=converted)
        check_sections(files, cores, verdict, fitted=fitted, cut=cut)
        check_unclaimed(files, cores, verdict)
        if scrubs is not None:
            check_scrubbed(files, cores, pairs, scrubs, verdict)
        if limit is not None:
            check_cut(files, cores, pairs, limit, verdict)
        if expectation is not None:
            expectation.check(paths[0], cores, pairs, verdict, fitted=fitted)
        for file in files:
            file.check_unchanged()
    return verdict


def _check_payload(
    files: tuple[MappedCore, MappedCore], cores: tuple[Tables, Tables], pair: Pair, verdict: Verdict
) -> None:
    """Every byte that the filtered core has of a segment must be the full one's."""
    was, now = cores[0].segments[pair.full], cores[1].segments[pair.filtered]
    there = max(0, cores[0].present(pair.full) - pair.skip)
    called = f"segment {pair.full} ({was.where})"
    if now.p_filesz > there:
        invented = now.p_filesz - there
        where = f"{show_size(invented)} from {now.p_vaddr + there:#x} on"
        text = f"{called}: {where} are invented: the full core has none there"
        verdict.findings.append(
            Finding("payload", text, segment=pair.full, address=now.p_vaddr + there, bytes=invented)
        )
    length = min(there, cores[1].present(pair.filtered))
    if was.p_type == "PT_LOAD":
        verdict.kept_bytes += length
    found = difference(files[0], was.p_offset + pair.skip, files[1], now.p_offset, length)
    if found is None:
        return
    if was.p_type in MTE:
        address, place = None, f"byte {found.first} of the tags"
    else:
        address = now.p_vaddr + found.first
        place = f"{address:#x}"
    text = f"{called}: {found.count} of {counted(length, 'byte')} differ, the first at {place}: {found}"
    verdict.findings.append(Finding("payload", text, segment=pair.full, address=address, bytes=found.count))
