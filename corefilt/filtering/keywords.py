"""The keywords of the Python functions, for type checkers alone: names and types as in the table in ``options.py``.

Nothing imports this when it runs, because ``typing`` takes longer to load than a small core to filter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

Unknown = Literal["keep", "guess", "drop"]
Dumper = Literal["current", "fdpic-old"]
Sparse = Literal["auto", "always", "never"]
Engine = Literal["auto", "probe", "reflink", "copy_file_range", "sendfile", "splice", "readwrite"]
Cache = Literal["auto", "keep"]
Format = Literal["same", "elf", "fdpic"]
Evidence = Literal["auto", "none"]
ScrubLevel = Literal["secrets", "env", "stacks"]
UsesPid = Literal["no", "yes", "threads"]


class PlanOptions(TypedDict, total=False):
    """Keywords of ``Core.plan``."""

    unknown: Unknown
    maps: str | None
    pid: int | None
    sysroot: str | None
    assume: str | Sequence[str]
    dumper: Dumper


class WriteOptions(TypedDict, total=False):
    """Keywords of ``Plan.write``."""

    strict: bool
    annotate: bool
    truncate: int | str | None
    force: bool
    compress: str | None
    format: Format
    loadmaps: tuple[int, int] | None
    sparse: Sparse
    engine: Engine
    threads: int | None
    cache: Cache
    compress_threads: int | None
    sync: bool


class FilterOptions(PlanOptions, WriteOptions, total=False):
    """Keywords of ``corefilt.filter``."""

    minimal: bool
    follow: int | str | None
    runtime: str | Sequence[str] | None
    unreadable: bool
    fit: int | str | None
    fit_allocated: bool
    ladder: str | Sequence[str] | None
    name: str | None
    directory: str | None
    values: Mapping[str, str] | None
    uses_pid: UsesPid
    in_place: bool
    compact: bool
    spool: bool
    max_headers: int | str


class BatchOptions(TypedDict, total=False):
    """Keywords of ``corefilt.batch`` that decide how each core is filtered."""

    unknown: Unknown
    minimal: bool
    follow: int | str | None
    runtime: str | Sequence[str] | None
    unreadable: bool
    strict: bool
    sysroot: str | None
    assume: str | Sequence[str]
    dumper: Dumper
    annotate: bool
    truncate: int | str | None
    fit: int | str | None
    fit_allocated: bool
    ladder: str | Sequence[str] | None
    format: Format
    loadmaps: tuple[int, int] | None
    sparse: Sparse
    engine: Engine
    compress_threads: int | None
    sync: bool
    spool: bool
    max_headers: int | str


class AllOptions(FilterOptions, total=False):
    """Keywords of ``Options``."""

    dry_run: bool
