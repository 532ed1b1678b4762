"""Options that decide what becomes of a core, for the commands that filter some."""

from __future__ import annotations

import os

from corefilt.errors import UsageError
from corefilt.filtering.options import FORMATS
from corefilt.io.movers import ENGINES, SPARSE
from corefilt.kinds import CURRENT, DUMPERS
from corefilt.plan.plan import UNKNOWN

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from corefilt.cli.words import Parser


def add_decisions(p: Parser) -> None:
    """Add what says which bytes stay and how they are written."""
    p.add_argument(
        "--unknown",
        choices=UNKNOWN,
        default="keep",
        help="what to do with a mapping that could be of several kinds: keep what any of them would keep "
        "(default), guess the likeliest, or drop all but what each of them would keep",
    )
    p.add_argument(
        "--assume",
        metavar="SELECTOR=KIND",
        action="append",
        default=[],
        help="say what a mapping is; SELECTOR is an address, a path glob, or like 'size>64G'",
    )
    p.add_argument(
        "--annotate",
        action="store_true",
        help="record kinds and evidence in a note, to be filtered by later",
    )
    p.add_argument(
        "--truncate",
        metavar="SIZE",
        help="cut where the kernel would have cut this under RLIMIT_CORE = SIZE; rlimit: this process's soft limit",
    )
    p.add_argument(
        "--fit",
        metavar="SIZE",
        default=None,
        help="at most SIZE bytes, and complete: what a backtrace needs first, then the rest by its worth; rlimit takes "
        "this process's RLIMIT_CORE",
    )
    p.add_argument("--fit-allocated", action="store_true", help="have --fit count disk use instead of length")
    p.add_argument(
        "--ladder",
        metavar="F1,F2,...",
        default=None,
        help="with --fit: take the richest of these filters whole that fits, before filling up; minimal is one",
    )
    p.add_argument("--minimal", action="store_true", help="keep only what a backtrace needs")
    p.add_argument(
        "--follow",
        metavar="N[:SIZE]",
        default=None,
        help="keep also what registers and stacks point to, N levels deep, SIZE bytes at most (default 16M)",
    )
    p.add_argument(
        "--format",
        choices=FORMATS,
        default="same",
        help="the notes as the ELF-FDPIC dumper writes them, or as the plain one does, which debuggers read",
    )
    p.add_argument(
        "--loadmaps",
        metavar="EXEC,INTERP",
        default=None,
        help="with --format fdpic: addresses of the loadmaps of a core that does not tell; 0 for none",
    )
    p.add_argument(
        "--dumper",
        choices=DUMPERS,
        default=CURRENT,
        help="whose rules: fdpic-old is the FDPIC dumper before Linux 5.10",
    )
    p.add_argument("--strict", action="store_true", help="write nothing while anything hangs on an assumption")
    p.add_argument(
        "--sparse",
        choices=SPARSE,
        default="auto",
        help="auto: keep the holes of a file, make holes of zeros from a pipe; always: look for zeros; never: no holes",
    )
    p.add_argument("--engine", choices=ENGINES, default=None, help="demand one way to move bytes (or COREFILT_ENGINE)")


def add_compression(p: Parser, default: str) -> None:
    """Add what says how an output is compressed; ``default`` is in words."""
    p.add_argument(
        "--compress",
        metavar="FORMAT[:LEVEL]",
        help=f"zstd, lz4, xz, gzip or bzip2; same: as CORE is; none (default: {default})",
    )
    p.add_argument("--compress-threads", metavar="N", help="threads for zstd (default: one for each processor)")


def engine_of(arguments: argparse.Namespace) -> str:
    """The mover that is demanded, also by the environment. Raises UsageError."""
    engine = arguments.engine or os.environ.get("COREFILT_ENGINE") or "auto"
    if engine not in ENGINES:
        raise UsageError(f"COREFILT_ENGINE is {engine!r}", f"it can be {', '.join(ENGINES)}")
    if arguments.sparse == "always" and engine not in ("auto", "readwrite"):
        raise UsageError(
            f"--sparse always looks for zeros, which --engine {engine} does not see",
            "use --engine readwrite",
        )
    return str(engine)


def check_compression(arguments: argparse.Namespace) -> None:
    """Read --compress-threads, and find out whether --compress can be meant. Raises UsageError."""
    if arguments.compress is None and arguments.compress_threads is None:
        return
    from corefilt.io.compression import parse_compress, parse_threads

    threads = arguments.compress_threads
    arguments.compress_threads = parse_threads(threads) if threads is not None else None
    if arguments.compress is not None:
        parse_compress(arguments.compress)
