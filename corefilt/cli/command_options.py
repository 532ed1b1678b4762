"""Options that only the command line has, of every command but filter, whose run on a small core loads no others."""

from __future__ import annotations

import os

from corefilt.errors import UsageError
from corefilt.filtering.option import (
    EVIDENCE,
    KEEP,
    OUTPUT,
    PERFORMANCE,
    REPORT,
    SECRETS,
    SHOW,
    SIZE,
    Option,
    whole_number,
)
from corefilt.sizes import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def _jobs(option: str, text: str) -> int:
    from corefilt.batching.pool import MOST_JOBS

    return whole_number(option, MOST_JOBS)(text)


def _handlers(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) >= 1 << 31:
        raise UsageError(f"--pipe-limit: {text!r} is not a number of handlers", "0 means no limit")
    return int(text)


def _compress(text: str) -> str:
    from corefilt.filtering.options import TABLE

    read = TABLE["compress"].read
    return str(read(text)) if read is not None else text


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise UsageError(f"--top {text!r} is not a number of rows", "write it like 20")
    return int(text)


def _uid(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) >= 1 << 32:
        raise UsageError(f"--uid: {text!r} is not a user ID", "id -u NAME tells it")
    return int(text)


def _signature(text: str) -> str:
    if len(text) != 16 or set(text) - set("0123456789abcdef"):
        raise UsageError(f"--signature: {text!r} is not a signature", "it has 16 hex digits, as corefilt list shows it")
    return text


def _limit(key: str) -> Callable[[str], object]:
    """The reader of what corefilt.conf calls ``key``; numbers are numbers there."""

    def read(text: str) -> object:
        from corefilt.documents.fields import read_field
        from corefilt.handler.config import KEYS

        value = int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else text
        return read_field(KEYS[key], value, f"--{key}", UsageError)

    return read


# Mappings, or groups of them, that inspect lists where neither --top nor --all says how many.
TOP = 10
DEMO_FILTER = "0x31"
# Those of scrub/request.py, which no other command loads.
LEVELS = ("secrets", "env", "stacks")
OPTIONS = (
    Option("--filter", "show what this filter keeps (default: 0x33, the kernel's)", metavar="FILTER",
           default="default", group=KEEP, takers="inspect"),
    Option("--filter", "which mappings to keep (default all)", metavar="FILTER", default="all", group=KEEP,
           takers="scrub"),
    Option("--level", "secrets: what the rules find (default); env: environment and arguments too; stacks: words of "
           "stacks and vector registers too", choices=LEVELS, default=LEVELS[0], group=SECRETS, takers="scrub"),
    Option("--secret-file", "secret values, one per line, to look for in all forms", metavar="FILE", default=(),
           group=SECRETS, takers="scrub"),
    Option("--rule", "rules of your own, in TOML", metavar="FILE", default=(), group=SECRETS, takers="scrub"),
    Option("--certificate", "also look for the RSA keys of these certificates; those in the core are always used",
           metavar="PEM", default=(), group=SECRETS, takers="scrub"),
    Option("--files", "also search file mappings that cannot be written to", default=False, group=SECRETS,
           takers="scrub"),
    Option("--list-rules", "the rules, with an example each", default=False, group=SECRETS, takers="scrub"),
    Option("--scrub", "overwrite secrets in the cores below DIR, and write a report beside each: secrets, env or "
           "stacks, as for corefilt scrub", metavar="LEVEL", choices=LEVELS, group=SECRETS, takers="batch"),
    Option("--scrubbed", "check that nothing differs but what this report of corefilt scrub lists", metavar="REPORT",
           group=SECRETS, takers="verify"),
    Option("--filter", "check that FILTERED is what this filter leaves", metavar="FILTER", group=KEEP, takers="verify"),
    Option("--filter", "show what this filter would keep", metavar="FILTER", group=KEEP, takers="show"),
    Option("--filter", f"which mappings to keep (default {DEMO_FILTER})", metavar="FILTER", default=DEMO_FILTER,
           group=KEEP, takers="demo"),
    Option("--policy", "rules that say by age, size, executable, signal, user and kinds which core is filtered how, "
           "kept or deleted; cores that match no rule are filtered with FILTER (docs/policies.md)",
           metavar="FILE", group=KEEP, takers="batch"),
    Option("--evidence", "auto: use evidence beside a core, in its report or in the journal (default)",
           choices=("auto", "none"), default="auto", group=EVIDENCE, takers="batch"),
    Option("--unwinder", "what finds the frames of the crash: corefilt itself (auto), or eu-stack of elfutils, which "
           "opens the files named in CORE without any protection", choices=("auto", "eu-stack"), default="auto",
           group=EVIDENCE, takers="inspect"),
    Option("--sysroot", "look for the mapped files below DIR (default: / for your own cores)", metavar="DIR",
           group=EVIDENCE, takers="bundle open"),
    Option("--debug-dir", "look for debug files here too, as .build-id/XX/YYYY.debug", metavar="DIR", default=(),
           group=EVIDENCE, takers="bundle"),
    Option("--no-debug", "leave debug files out", default=True, name="debug", group=EVIDENCE, takers="bundle"),
    Option("--debuginfod", "fetch what is missing from debuginfod's cache, or from the servers in DEBUGINFOD_URLS",
           default=False, group=EVIDENCE, takers="bundle"),
    Option("--trust", "run the Python beside the files, and load their libthread_db into gdb", default=False,
           group=EVIDENCE, takers="open"),
    Option("--truncate", "check that it was cut as RLIMIT_CORE cuts: SIZE or rlimit", metavar="SIZE", group=SIZE,
           takers="verify"),
    Option("-o --output", "a file, or - for standard output", metavar="OUT", group=OUTPUT, takers="scrub"),
    Option("-o --output", "the bundle, like NAME.corebundle.tar.zst, or - for standard output", metavar="BUNDLE",
           group=OUTPUT, takers="bundle"),
    Option("-f --force", "replace BUNDLE, and the file of --json, if they exist", default=False, group=OUTPUT,
           takers="bundle"),
    Option("-f --force", "replace OUT, and the file of --report, if they exist", default=False, group=OUTPUT,
           takers="scrub"),
    Option("-n --dry-run", "search and report only", default=False, group=OUTPUT, takers="scrub"),
    Option("--to", "write the filtered cores below this directory or URL, under the paths that they had", metavar="DIR",
           group=OUTPUT, takers="batch"),
    Option("--replace", "replace each full core by the filtered one, once it is verified: name, format, mode, owner, "
           "attributes and times stay", default=False, group=OUTPUT, takers="batch"),
    Option("-f --force", "replace files in DIR, and those of --html and --json; with --replace, also cores that are "
           "damaged, have more than one hard link, or hold blocks for others", default=False, group=OUTPUT,
           takers="batch"),
    Option("-f --force", "replace another handler", default=False, group=OUTPUT, takers="install"),
    Option("-f --force", "restore what was set before, even if it was changed since", default=False, group=OUTPUT,
           takers="uninstall"),
    Option("--bundle", "pack each filtered core with its executable, libraries and debug files too, beside it as "
           "NAME.corebundle.tar.zst (corefilt bundle)", default=False, group=OUTPUT, takers="batch"),
    Option("--verify", "compare each filtered core with the full one before it gets its name", default=False,
           group=OUTPUT, takers="batch"),
    Option("--compress", "zstd, lz4, xz, gzip or bzip2; zstd:seekable or zstd:LEVEL:seekable, which can be read in "
           "parts; same: as CORE is; none (default: same)",
           metavar="FORMAT[:LEVEL]", read=_compress, group=OUTPUT, takers="batch"),
    Option("--shared-once", "when all is done, keep equal blocks of shared memory in one core only (corefilt restore "
           "puts them back)", default=False, group=OUTPUT, takers="batch"),
    Option("--dedupe", "when all is done, have the file system store equal blocks of shared memory once (XFS, btrfs)",
           default=False, group=OUTPUT, takers="batch"),
    Option("-n --dry-run", "find and plan only", default=False, group=OUTPUT, takers="batch"),
    Option("-n --dry-run", "say what would change, and change nothing", default=False, group=OUTPUT,
           takers="install uninstall"),
    Option("--pipe-limit", "also set kernel.core_pipe_limit: handlers at once, 0: no limit", metavar="N",
           read=_handlers, group=OUTPUT, takers="install"),
    Option("--socket", "the socket of corefilt serve instead of the handler (Linux 6.17 and later)", metavar="PATH",
           group=OUTPUT, takers="install"),
    Option("--without-seccomp", "install without a binding of libseccomp; this is recorded, and status still names "
           "what is missing", default=False, group=OUTPUT, takers="install"),
    Option("--root", "a directory that stands for / with /etc and, unless it is an image, /proc/sys; the interpreter "
           "is this one", metavar="DIR", default="/", read=os.path.abspath, group=OUTPUT,
           takers="install uninstall status"),
    Option("--max-use", "the most bytes that all cores may take on the disk", metavar="SIZE", read=_limit("max-use"),
           group=SIZE, takers="vacuum"),
    Option("--keep-free", "how much of the file system must stay free", metavar="SIZE|N%", read=_limit("keep-free"),
           group=SIZE, takers="vacuum"),
    Option("--max-age", "remove what is older, like 30d", metavar="AGE", read=_limit("max-age"), group=SIZE,
           takers="vacuum"),
    Option("--max-per-executable", "keep at most N cores of each executable of a user", metavar="N",
           read=_limit("max-per-executable"), group=SIZE, takers="vacuum"),
    Option("--keep-per-signature", "keep at most N full cores of each crash of a user", metavar="N",
           read=_limit("keep-per-signature"), group=SIZE, takers="vacuum"),
    Option("-n --dry-run", "say what would be removed, and remove nothing", default=False, group=OUTPUT,
           takers="vacuum"),
    Option("--config", "read this file instead of /etc/corefilt.conf", metavar="FILE", read=os.path.abspath,
           group=OUTPUT, takers="handle serve vacuum"),
    Option("--jobs", "how many cores at a time (default: one for each CPU, if there is enough memory)", metavar="N",
           read=lambda text: _jobs("--jobs", text), group=PERFORMANCE, takers="batch"),
    Option("--writers", "how many of them may copy to one disk at a time (default 1; compressed cores do not count)",
           metavar="N", default=1, read=lambda text: _jobs("--writers", text), group=PERFORMANCE, takers="batch"),
    Option("--keep-free", "stop a core that would leave less space free on its file system (default: a twentieth, at "
           "most 4G)", metavar="SIZE", read=parse_size, group=SIZE, takers="batch"),
    Option("--dask", "let the workers of a dask.distributed scheduler do the work; they must reach SOURCE and DIR "
           "under the same names as this machine", metavar="ADDRESS", group=PERFORMANCE, takers="batch"),
    Option("--gdb", "start gdb (default)", default=False, group=SHOW, takers="open"),
    Option("--lldb", "start lldb", default=False, group=SHOW, takers="open"),
    Option("--bt", "print the backtraces of all threads, and exit", default=False, group=SHOW, takers="open"),
    Option("--list", "list the files and whether they are those of the core, and start no debugger", default=False,
           group=SHOW, takers="open"),
    Option("--all", "list every mapping", default=False, group=SHOW, takers="inspect"),
    Option("--top", f"list N mappings, or groups (default {TOP})", metavar="N", read=_count, group=SHOW,
           takers="inspect"),
    Option("--sort", "size: most bytes in the core first (default); address (default with --all); kind; file",
           choices=("size", "address", "kind", "file"), group=SHOW, takers="inspect"),
    Option("--kind", "list mappings of these kinds only", metavar="KIND,...", default=(), group=SHOW, takers="inspect"),
    Option("--sort", "time: oldest first (default); size: smallest first; name", choices=("time", "size", "name"),
           default="time", group=SHOW, takers="list"),
    Option("-r --reverse", "reverse the order", default=False, group=SHOW, takers="list"),
    Option("--uid", "only cores of this user's processes", metavar="UID", read=_uid, group=SHOW, takers="list"),
    Option("--executable", "only cores of executables whose path matches; * also matches slashes; if the path "
           "is unknown, NAME and */NAME match the name of the first thread, which the list shows instead",
           metavar="GLOB", group=SHOW, takers="list"),
    Option("--signal", "only cores of this signal: a name or number", metavar="SIGNAL", group=SHOW, takers="list"),
    Option("--signature", "only cores of this crash", metavar="HEX", read=_signature, group=SHOW, takers="list"),
    Option("--group-by", "list sums by kind or by file instead of mappings", choices=("kind", "file"), group=SHOW,
           takers="inspect"),
    Option("--columns", "the columns of the list", metavar="NAME,...", group=SHOW, takers="inspect"),
    Option("--csv", "write the list as CSV, with every mapping unless --top is given", default=False, group=SHOW,
           takers="inspect"),
    Option("--modules", "list the loaded ELF files: address range, build-id, path", default=False, group=SHOW,
           takers="inspect"),
    Option("--environment", "also show the environment of the process; it can hold secrets",
           default=False, group=SHOW, takers="inspect"),
    Option("-v --verbose", "cut nothing, and show the evidence for every mapping", default=False, group=SHOW,
           takers="inspect"),
    Option("--json", "one line of JSON for each core that was found, on standard output or in FILE",
           metavar="[=FILE]", group=REPORT, takers="batch list"),
    Option("--prometheus", "metrics for the textfile collector of node_exporter: cores by executable and signal, bytes "
           "before and after, failures, disk space", default=False, group=REPORT, takers="status"),
    Option("--report", "what was overwritten, as one JSON object, on standard output (-) or in FILE", metavar="FILE",
           group=REPORT, takers="scrub"),
    Option("--by-signature", "also report the crashes: how many cores of each, from when to when, and where",
           default=False, group=REPORT, takers="batch"),
    Option("--html", "the report as a page for a browser, with pictures and a table", metavar="FILE", group=REPORT,
           takers="batch"),
    Option("--command-line", "with --html or --json: report whole command lines too, which can hold passwords",
           default=False, group=REPORT, takers="batch"),
    Option("-v --verbose", "report everything that was found", default=False, group=REPORT, takers="batch"),
    Option("-v --verbose", "list every match", default=False, group=REPORT, takers="scrub"),
    Option("-v --verbose", "list every mapping, with the reasons for its kind", default=False, group=REPORT,
           takers="show"),
)  # fmt: skip
