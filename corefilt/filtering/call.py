"""``corefilt.filter``: one core made of another, in one call."""

from __future__ import annotations

from corefilt.corefile.corefile import open_core
from corefilt.errors import UsageError
from corefilt.filterbits import as_filter
from corefilt.filtering.options import Options, make_naming, make_wish
from corefilt.filtering.write import write_filtered
from corefilt.kinds import CURRENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corefilt.filtering.report import Report
    from corefilt.io.sources import Place


def filter_core(
    source: Place,
    output: Place | None = None,
    *,
    filter: int | str,
    name: str | None = None,
    directory: str | None = None,
    values: Mapping[str, str] | None = None,
    uses_pid: str = "no",
    unknown: str = "keep",
    assume: Sequence[str] = (),
    maps: str | None = None,
    pid: int | None = None,
    sysroot: str | None = None,
    annotate: bool = False,
    fit: int | str | None = None,
    fit_allocated: bool = False,
    minimal: bool = False,
    follow: int | str | None = None,
    ladder: str | Sequence[str] | None = None,
    truncate: int | str | None = None,
    format: str = "same",
    loadmaps: tuple[int, int] | None = None,
    dumper: str = CURRENT,
    strict: bool = False,
    sparse: str = "auto",
    engine: str = "auto",
    jobs: int | None = None,
    cache: str = "auto",
    compress: str | None = None,
    compress_threads: int | None = None,
    sync: bool = True,
    force: bool = False,
    spool: bool = False,
) -> Report:
    """Filter a core into another: paths, ``-``, or descriptors or binary files, which stay open.

    The options are those of ``corefilt filter``; ``values`` are what ``--set`` gives. Either ``output`` or ``name``
    says where to. Returns the report; ``report.damaged`` tells that the input was, ``report.output`` is the path.
    Raises CorefiltError's children.
    """
    if (output is None) == (name is None):
        raise UsageError("the output is either a place or a template's name", "give output or name")
    naming = make_naming(name, directory=directory, given=values, uses_pid=uses_pid)
    wanted, warnings = as_filter(filter)
    options = Options(
        fit=make_wish(fit=fit, allocated=fit_allocated, minimal=minimal, follow=follow, ladder=ladder),
        unknown=unknown, assume=assume, maps=maps, pid=pid, sysroot=sysroot, annotate=annotate, truncate=truncate,
        format=format, loadmaps=loadmaps, dumper=dumper, strict=strict, sparse=sparse, engine=engine, jobs=jobs,
        cache=cache, compress=compress, compress_threads=compress_threads, sync=sync, force=force,
    )  # fmt: skip
    with open_core(source, spool=spool) as core:
        target, notices = naming.file(core, force=force) if naming is not None else (output, [])
        if target is None:
            raise AssertionError("there is an output or a name")
        report = write_filtered(core, wanted, target, options)
        report.notices += warnings + notices
        return report
