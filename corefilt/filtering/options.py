"""The table of options that decide how one core is read, filtered and written.

An attribute of ``Options`` is one record: its spelling on the command line, its words, default, help and group, the
commands and Python functions that take it. Parsers, completion, manual pages, the jobs of a batch and the keywords of
the Python functions are made from it; ``cli/options.py`` and ``cli/command_options.py`` add what only the command line
has. ``keywords.py`` repeats names and types for type checkers, which read no table; a test holds the two equal.
"""

from __future__ import annotations

from corefilt.corefile.corefile import MAX_HEADERS
from corefilt.errors import UsageError
from corefilt.filtering.option import EVIDENCE, KEEP, OUTPUT, PERFORMANCE, SIZE, Option, whole_number
from corefilt.io.movers import CACHE, ENGINES, MOST_THREADS, SPARSE
from corefilt.kinds import CURRENT, DUMPERS
from corefilt.plan.plan import UNKNOWN
from corefilt.sizes import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any, Protocol, Unpack

    from corefilt.filtering.keywords import AllOptions, Cache, Dumper, Engine, Format, Sparse, Unknown, UsesPid
    from corefilt.filtering.naming import Naming
    from corefilt.io.steps import Step
    from corefilt.plan.fit.request import FitRequest

    class Overwrite(Protocol):
        """Other bytes for some of those that are kept; ``told`` is what a note in the output says of that."""

        @property
        def told(self) -> bytes:
            """The note's text."""

        def steps(self, steps: Iterator[Step]) -> Iterator[Step]:
            """The steps of a layout, with other bytes put in."""


FORMATS = ("same", "elf", "fdpic")
# What changes lengths or offsets, and so needs another file than CORE.
NOT_IN_PLACE = ("annotate", "format", "loadmaps", "truncate", "fit", "minimal", "ladder", "unreadable", "compress")
# What stood for an option before one word meant one thing.
RENAMED = {"jobs": "threads"}


def option(flags: str, help: str, **record: Any) -> Any:
    """Return an Option as the value of an attribute, whose annotation is the type of its keyword."""
    return Option(flags, help, **record)


def _pid(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) < 1 << 31:
        raise UsageError(f"--pid: {text!r} is not a process ID", "ps -e lists the processes")
    return int(text)


def _truncate(text: str) -> str:
    from corefilt.sizes import parse_limit

    parse_limit(text)
    return text


def _loadmaps(text: str) -> tuple[int, int]:
    from corefilt.plan.format import parse_loadmaps

    return parse_loadmaps(text)


def _compress(text: str) -> str:
    from corefilt.io.compression import parse_compress

    parse_compress(text)
    return text


def _runtime(text: str) -> str:
    from corefilt.plan.fit.request import parse_runtimes

    parse_runtimes(text)
    return text


def _compress_threads(text: str) -> int:
    from corefilt.io.compression import parse_threads

    return parse_threads(text)


class Options:
    """How to read, filter and write one core; every attribute with a record is an option."""

    unknown: Unknown = option(
        "--unknown",
        "what to do with an ambiguous mapping, which could be of several kinds: keep what any of them would keep "
        "(default), guess the likeliest, or drop everything that not all of them would keep",
        choices=UNKNOWN, default="keep", group=KEEP, takers="filter batch inspect corefilt.filter() Core.plan()",
    )  # fmt: skip
    minimal: bool = option(
        "--minimal", "keep only what a backtrace needs",
        default=False, group=KEEP, takers="filter batch scrub bundle corefilt.filter()",
    )  # fmt: skip
    follow: int | str | None = option(
        "--follow",
        "with --minimal or --fit: also keep what registers and stacks point to, N levels deep, at most SIZE bytes "
        "(default 16M)",
        metavar="N[:SIZE]", group=KEEP, takers="filter batch corefilt.filter()",
    )  # fmt: skip
    runtime: str | Sequence[str] | None = option(
        "--runtime",
        "with --minimal or --fit: also keep what the tools of these runtimes need to show all stacks, separated by "
        "commas: java, python, go; auto: those that are recognised (default), or none",
        metavar="RUNTIME", read=_runtime, group=KEEP, takers="filter batch corefilt.filter()",
    )  # fmt: skip
    unreadable: bool = option(
        "--unreadable",
        "with --minimal or --fit: have debuggers report that dropped memory cannot be read, instead of showing zeros",
        default=False, group=KEEP, takers="filter batch corefilt.filter()",
    )  # fmt: skip
    strict: bool = option(
        "--strict", "write no output, and exit 4, if any byte is ambiguous, or a compressed core is cut off or damaged",
        default=False, group=KEEP, takers="filter batch corefilt.filter() Plan.write()",
    )  # fmt: skip

    maps: str | None = option(
        "--maps", "a saved /proc/PID/maps or smaps, alone or in a report or journal; auto: look beside the core",
        metavar="FILE", group=EVIDENCE, takers="filter inspect verify corefilt.filter() Core.plan()",
    )  # fmt: skip
    pid: int | None = option(
        "--pid", "read the mappings of this process, while it still exists",
        metavar="PID", read=_pid, group=EVIDENCE, takers="filter inspect verify corefilt.filter() Core.plan()",
    )  # fmt: skip
    sysroot: str | None = option(
        "--sysroot", "look for the mapped files below DIR",
        metavar="DIR", group=EVIDENCE, takers="filter batch inspect list verify corefilt.filter() Core.plan()",
    )  # fmt: skip
    assume: str | Sequence[str] = option(
        "--assume", "state the kind of a mapping; SELECTOR is an address, a path glob, or a size like 'size>64G'",
        metavar="SELECTOR=KIND", default=(), group=EVIDENCE,
        takers="filter batch inspect verify corefilt.filter() Core.plan()",
    )  # fmt: skip
    dumper: Dumper = option(
        "--dumper", "which kernel's rules apply: fdpic-old is the FDPIC dumper before Linux 5.10",
        choices=DUMPERS, default=CURRENT, group=EVIDENCE,
        takers="filter batch inspect verify corefilt.filter() Core.plan()",
    )  # fmt: skip
    annotate: bool = option(
        "--annotate", "record kinds and evidence in a note of the output, for a later filter",
        default=False, group=EVIDENCE, takers="filter batch corefilt.filter() Plan.write()",
    )  # fmt: skip

    truncate: int | str | None = option(
        "--truncate", "cut the core where the kernel would with RLIMIT_CORE = SIZE; rlimit: this process's soft limit",
        metavar="SIZE", read=_truncate, group=SIZE, takers="filter batch corefilt.filter() Plan.write()",
    )  # fmt: skip
    fit: int | str | None = option(
        "--fit",
        "write a complete core of at most SIZE bytes: what a backtrace needs first, then the most useful memory until "
        "SIZE is reached; rlimit: this process's soft RLIMIT_CORE",
        metavar="SIZE", group=SIZE, takers="filter batch scrub bundle corefilt.filter()",
    )  # fmt: skip
    fit_allocated: bool = option(
        "--fit-allocated", "with --fit: count disk use instead of length",
        default=False, group=SIZE, takers="filter batch corefilt.filter()",
    )  # fmt: skip
    ladder: str | Sequence[str] | None = option(
        "--ladder", "with --fit: begin with the one of these filters that keeps most and fits; minimal is one of them",
        metavar="F1,F2,...", group=SIZE, takers="filter batch corefilt.filter()",
    )  # fmt: skip

    force: bool = option(
        "-f --force",
        "replace OUT, or the file of --json, if it exists; with -i: go ahead although the core is damaged, has more "
        "than one hard link, or ambiguous bytes would be dropped",
        default=False, group=OUTPUT, takers="filter corefilt.filter() Plan.write()",
    )  # fmt: skip
    in_place: bool = option(
        "-i --in-place", "make holes in CORE where the dropped bytes are, and write no other file; its length stays",
        default=False, group=OUTPUT, takers="filter corefilt.filter()",
    )  # fmt: skip
    compact: bool = option(
        "--compact", "with -i: shorten CORE too: cut its end off, or replace it by a copy without the holes",
        default=False, group=OUTPUT, takers="filter corefilt.filter()",
    )  # fmt: skip
    name: str | None = option(
        "--name", "name OUT as core_pattern does, like core.%e.%p",
        metavar="TEMPLATE", group=OUTPUT, takers="filter corefilt.filter()",
    )  # fmt: skip
    directory: str | None = option(
        "--directory", "with --name: the directory for OUT (default: the current one)",
        metavar="DIR", group=OUTPUT, takers="filter corefilt.filter()",
    )  # fmt: skip
    values: Mapping[str, str] | None = option(
        "--set", "with --name: the value of %X, if the core does not have it, like --set h=web1",
        metavar="X=VALUE", default=(), keyword_default=None, name="values",
        group=OUTPUT, takers="filter corefilt.filter()",
    )  # fmt: skip
    uses_pid: UsesPid = option(
        "--uses-pid",
        "with --name: append .PID to a name without %p: yes as core_uses_pid does, threads as Linux 2.6.27 and before "
        "did for processes of several threads",
        metavar="no|yes|threads", default="no", group=OUTPUT, takers="filter corefilt.filter()",
    )  # fmt: skip
    compress: str | None = option(
        "--compress",
        "zstd, lz4, xz, gzip or bzip2; zstd:seekable or zstd:LEVEL:seekable, which can be read in parts; same: as CORE "
        "is; none (default: what OUT's name ends in)",
        metavar="FORMAT[:LEVEL]", read=_compress, group=OUTPUT, takers="filter corefilt.filter() Plan.write()",
    )  # fmt: skip
    format: Format = option(
        "--format", "write the notes as the ELF-FDPIC dumper does, or as the plain one does, which debuggers read",
        choices=FORMATS, default="same", group=OUTPUT, takers="filter batch corefilt.filter() Plan.write()",
    )  # fmt: skip
    loadmaps: tuple[int, int] | None = option(
        "--loadmaps", "with --format fdpic: addresses of the loadmaps, if the core does not record them; 0 for none",
        metavar="EXEC,INTERP", read=_loadmaps, group=OUTPUT, takers="filter batch corefilt.filter() Plan.write()",
    )  # fmt: skip
    sparse: Sparse = option(
        "--sparse",
        "auto: keep the holes of a file, make holes of zeros from a pipe; always: look for zeros; never: no holes",
        choices=SPARSE, default="auto", group=OUTPUT, takers="filter batch corefilt.filter() Plan.write()",
    )  # fmt: skip
    dry_run: bool = option("-n --dry-run", "plan and report only", default=False, group=OUTPUT, takers="filter")

    engine: Engine = option(
        "--engine", "how to move bytes; probe: compare all ways on the first 24 to 36 MiB (COREFILT_ENGINE sets it, "
        "too)",
        choices=ENGINES, default="auto", environment="COREFILT_ENGINE", group=PERFORMANCE,
        takers="filter batch corefilt.filter() Plan.write()",
    )  # fmt: skip
    threads: int | None = option(
        "--threads", "threads that copy between files (default: two for a large core where they are faster, else one)",
        metavar="N", read=whole_number("--threads", MOST_THREADS), group=PERFORMANCE,
        takers="filter corefilt.filter() Plan.write()",
    )  # fmt: skip
    cache: Cache = option(
        "--cache",
        "auto: leave the page cache as it was when more than an eighth of the memory is copied; keep: leave the copy "
        "in it",
        choices=CACHE, default="auto", group=PERFORMANCE, takers="filter corefilt.filter() Plan.write()",
    )  # fmt: skip
    compress_threads: int | None = option(
        "--compress-threads", "threads for zstd (default: one for each CPU; in a batch, one)",
        metavar="N", read=_compress_threads, group=PERFORMANCE, takers="filter batch corefilt.filter() Plan.write()",
    )  # fmt: skip
    sync: bool = option(
        "--no-sync", "do not wait until the output is on the disk",
        default=True, name="sync", group=PERFORMANCE, takers="filter batch scrub bundle corefilt.filter() Plan.write()",
    )  # fmt: skip
    spool: bool = option(
        "--spool", "copy a pipe, or what is compressed, to a temporary file first, for cores made by gdb and for what "
        "reads stacks (--fit, --minimal, signatures)",
        default=False, group=PERFORMANCE, takers="filter batch inspect corefilt.filter()",
    )  # fmt: skip
    max_headers: int | str = option(
        "--max-headers", "refuse piped and compressed cores whose headers and notes exceed SIZE (default 64M)",
        metavar="SIZE", default=MAX_HEADERS, read=parse_size, group=PERFORMANCE,
        takers="filter batch inspect corefilt.filter()",
    )  # fmt: skip

    # Told of bytes that went by.
    on_progress: Callable[[int], None] | None
    # What a batch records of the core in a note, by the ambiguous bytes.
    stamp: Callable[[int], bytes] | None
    # Whether an annotation tells the signature of the crash, which takes files that the core names.
    signs: bool
    # What puts other bytes into what is kept.
    overwrite: Overwrite | None

    def __init__(self, on_progress: Callable[[int], None] | None = None, **values: Unpack[AllOptions]) -> None:
        """Hold the options that differ from their defaults. Raises UsageError, TypeError for one that is not there."""
        refuse_unknown("Options()", values, TABLE)
        self.__dict__.update(DEFAULTS, on_progress=on_progress, stamp=None, overwrite=None, signs=True)
        self.__dict__.update(values)
        self.fit_request: FitRequest | None = _request(self)
        self.naming: Naming | None = _naming(self)

    @property
    def most_headers(self) -> int:
        """What --max-headers is, in bytes. Raises UsageError."""
        return parse_size(str(self.max_headers))

    @property
    def names_evidence(self) -> bool:
        """Whether they say what lies beside the core."""
        return self.maps is not None or self.pid is not None or self.sysroot is not None


TABLE: dict[str, Option] = {name: record for name, record in vars(Options).items() if isinstance(record, Option)}
DEFAULTS = {name: record.keyword_default for name, record in TABLE.items()}
# The options that ask for a part of a core by what it is worth.
FITTING = ("fit", "fit_allocated", "minimal", "follow", "ladder", "runtime", "unreadable")


def taken_by(taker: str) -> Iterator[tuple[str, Option]]:
    """Yield the options of a command or Python function, by their keywords."""
    return ((name, record) for name, record in TABLE.items() if taker in record.takers)


def refuse_unknown(function: str, values: Mapping[str, object], known: Mapping[str, object]) -> None:
    """Raise UsageError for a keyword that has another name now, TypeError for one that there never was."""
    for name in values:
        if name not in known:
            if name in RENAMED:
                raise UsageError(f"{function} takes {RENAMED[name]}, not {name}", f"write {RENAMED[name]}=")
            raise TypeError(f"{function} got an unexpected keyword argument {name!r}")


def options_for(function: str, values: Mapping[str, Any]) -> Options:
    """Return the options that a Python function was given. Raises UsageError, and TypeError as Python does."""
    refuse_unknown(function, values, dict(taken_by(function)))
    return Options(**checked_values(values))


def checked_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values that Python gave, as the types of their options have them. Raises UsageError."""
    from corefilt.filtering.values import checked

    return {name: checked(name, TABLE[name], Options.__annotations__[name], value) for name, value in values.items()}


def check_output(values: Mapping[str, object], output: object) -> None:
    """Refuse options that say in two ways where the core goes, or that -i cannot do. Raises UsageError.

    ``values`` are options by their keywords, ``output`` what is named besides, or None.
    """
    in_place = bool(values.get("in_place"))
    if values.get("name") is not None and (output is not None or in_place):
        raise UsageError(f"--name and {'-i' if in_place else '-o'} both name the output", "leave one of them out")
    if in_place:
        if output is not None:
            raise UsageError("-i and -o cannot be combined", "leave -i or -o out")
        for name in NOT_IN_PLACE:
            if values.get(name) not in (None, False, "same"):
                raise UsageError(f"-i cannot move anything, and --{name} does", "use -o OUT")
    elif values.get("compact"):
        raise UsageError("--compact needs -i: what -o writes has no holes to remove", "add -i, or leave it out")


def wants_fit(values: Mapping[str, object]) -> bool:
    """Return whether any of the options asks for a part of a core by what it is worth."""
    # A size of 0 is one.
    return any(values.get(name) is not None and values[name] is not False for name in FITTING)


def _request(options: Options) -> FitRequest | None:
    if not wants_fit(options.__dict__):
        return None
    from corefilt.plan.fit.request import FitRequest

    return FitRequest(
        fit=options.fit, allocated=options.fit_allocated, minimal=options.minimal, follow=options.follow,
        ladder=options.ladder, runtime=options.runtime, unreadable=options.unreadable,
    )  # fmt: skip


def _naming(options: Options) -> Naming | None:
    if options.name is None:
        if options.directory is not None or options.values or options.uses_pid != "no":
            raise UsageError("--directory, --set and --uses-pid go with --name", "add --name TEMPLATE")
        return None
    from corefilt.filtering.naming import Naming

    return Naming(options.name, directory=options.directory, given=options.values, uses_pid=options.uses_pid)
