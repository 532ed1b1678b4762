"""The JSON of ``corefilt inspect``: written as it is made, because a core can have a million mappings."""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as quoted

from corefilt.documents.strict_json import as_json
from corefilt.filtering.report import dropped_texts, evidence_texts, path_as_dict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from corefilt.cli.inspection.rows import Rows
    from corefilt.kinds import Classification

# Rows that make one piece.
ROWS_AT_ONCE = 500
# Names of files that are remembered as JSON.
MOST_REMEMBERED = 1 << 12


def pieces(head: dict[str, object], rows: Rows, numbers: Iterable[int]) -> Iterator[str]:
    """One JSON object in pieces: the keys of ``head``, then ``mappings``."""
    yield as_json(head)[:-1] + ', "mappings": ['
    held: list[str] = []
    first = True
    for entry in entries(rows, numbers):
        held.append(entry)
        if len(held) == ROWS_AT_ONCE:
            yield ("" if first else ", ") + ", ".join(held)
            first = False
            held.clear()
    if held:
        yield ("" if first else ", ") + ", ".join(held)
    yield "]}\n"


def entries(rows: Rows, numbers: Iterable[int]) -> Iterator[str]:
    """Each mapping as a JSON object: the keys of the filter report, and what each bit keeps."""
    plan, maps = rows.plan, rows.maps
    phdr, table, present, sizes = maps.phdr, maps.table, plan.core.present, plan.sizes
    vaddr, memsz, filesz, flags = table.p_vaddr, table.p_memsz, table.p_filesz, table.p_flags
    findings, inferred = plan.findings, plan.inferred
    letters = ["".join(a if f & b else "-" for a, b in (("r", 4), ("w", 2), ("x", 1))) for f in range(8)]
    kinds: dict[tuple[Classification, bool], tuple[str, str]] = {}
    paths: dict[bytes | None, str] = {}
    for m in numbers:
        i, finding, dropped = phdr[m], findings[m], inferred[m]
        parts = kinds.get((finding, bool(dropped)))
        if parts is None:
            evidence = as_json(evidence_texts(finding) + dropped_texts(plan, m))
            parts = kinds[finding, bool(dropped)] = (
                f'"kind": {quoted(finding.kind)}, "certainty": {quoted(finding.certainty)}, "evidence": {evidence}',
                f'"bits": {as_json(rows.bits(finding))}',
            )
        path = maps.path(m)
        file = paths.get(path)
        if file is None:
            if len(paths) >= MOST_REMEMBERED:
                paths.clear()
            file = paths[path] = as_json(path_as_dict(path))[1:-1]
        offset = maps.file_offset(m)
        start, lost = vaddr[i], filesz[i] - present[i]
        missing = f'"missing": {lost}, ' if lost else ""
        yield (
            f'{{"start": "{start:#x}", "end": "{start + memsz[i]:#x}", "flags": "{letters[flags[i] & 7]}", {file}, '
            f'"file_offset": {"null" if offset is None else offset}, {parts[0]}, "present": {present[i]}, '
            f'"kept": {sizes[i]}, "inferred_bytes": {dropped}, '
            f"{missing}{parts[1]}}}"
        )


def write(target: str, made: Iterable[str]) -> None:
    """Write pieces to standard output, or to a file, which appears when it is whole.

    Raises OutputError or ReportPlaceError.
    """
    from corefilt.cli.reportfile import STDOUT, may_replace, write_all
    from corefilt.cli.streams import tell
    from corefilt.io.sinks import open_text, reported

    if target == STDOUT:
        for piece in made:
            tell(piece)
        return
    sink, size = open_text(target, force=may_replace(target, None)), 0
    try:
        for piece in made:
            raw = piece.encode()
            with reported(target):
                write_all(sink.fd, raw)
            size += len(raw)
        sink.commit(size, sync=False)
    except BaseException:
        sink.abort()
        raise
