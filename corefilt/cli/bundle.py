"""``corefilt bundle CORE -o BUNDLE``: a core with the files that it belongs to."""

from __future__ import annotations

from corefilt.cli.arguments import refuse_exchanged
from corefilt.cli.options import given_options, make_parser
from corefilt.cli.reportfile import STDOUT, check_report_place, with_json_target, write_json
from corefilt.cli.streams import say
from corefilt.corefile.corefile import open_core
from corefilt.errors import ReportPlaceError, UsageError
from corefilt.filterbits import Bit, parse_filter
from corefilt.filtering.options import Options
from corefilt.io.compression import SUFFIXES
from corefilt.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from corefilt.cli.parser import Parser

DESCRIPTION = """\
Writes an archive (tar, zstd) with the core, its executable, libraries and other mapped ELF files, their debug files,
the matching libthread_db, and gdb's scripts for them; corefilt open shows it on any other machine. Each file is
compared with the core by build-id, and a file of another build is left out.

With FILTER, --minimal or --fit the core is filtered; otherwise it is packed unchanged."""

EPILOG = """\
exit status: 0 done; 1 failed, BUNDLE not created; 2 usage; 3 written, but CORE was damaged or truncated; 4 written, but
files are missing or of another build"""


# Ends of names that stand for an archive or a compression which a bundle does not have.
OTHER_FORMATS = (
    ".tar", ".zip", ".tgz", ".txz", ".tbz2", *(suffix for name, suffix in SUFFIXES.items() if name != "zstd")
)  # fmt: skip


def parser() -> Parser:
    """The options of ``corefilt bundle``."""
    p = make_parser("bundle", DESCRIPTION, EPILOG)
    p.add_argument("core", metavar="CORE", help="a core, or - for standard input")
    p.add_argument("filter", metavar="FILTER", nargs="?", help="which mappings to keep, as corefilt --help says")
    return p


def parse(argv: list[str]) -> argparse.Namespace:
    """The arguments. Raises UsageError."""
    arguments = parser().parse_intermixed_args(with_json_target(argv))
    if arguments.filter is not None:
        refuse_exchanged(arguments.filter, arguments.core, "the core comes first: corefilt bundle {1} {0}".format)
    if arguments.output is None:
        raise UsageError("-o BUNDLE is missing", "corefilt bundle CORE -o CORE.corebundle.tar.zst")
    _refuse_other_format(arguments.output)
    if arguments.json == STDOUT == arguments.output:
        raise ReportPlaceError("--json and the bundle both go to standard output", "--json=FILE separates them")
    if arguments.debuginfod and not arguments.debug:
        raise UsageError("--debuginfod and --no-debug contradict each other", "leave one of them out")
    return arguments


def _refuse_other_format(output: str) -> None:
    """Raise UsageError for a name that stands for another format than a bundle has."""
    name = output.rpartition("/")[2]
    suffix = next((suffix for suffix in OTHER_FORMATS if name.endswith(suffix)), None)
    if suffix is not None:
        stem = name.removesuffix(suffix).removesuffix(".tar").removesuffix(".corebundle") or "core"
        raise UsageError(
            f"-o {output}: a bundle is tar compressed with zstd, and this name ends in {suffix}",
            f"name it {stem}.corebundle.tar.zst",
        )


def run(argv: list[str]) -> int:
    """Write one bundle; returns the exit code."""
    arguments = parse(argv)
    from corefilt.bundle.write import BundleRequest, write_bundle

    options = Options(**given_options(arguments, "bundle"), force=arguments.force)
    wanted, notices = parse_filter(arguments.filter) if arguments.filter is not None else (None, [])
    if wanted is None and options.fit_request is not None:
        wanted = Bit.ALL
    request = BundleRequest(arguments.sysroot, arguments.debug_dir, arguments.debug, arguments.debuginfod)
    with open_core(arguments.core, spool=True) as core:
        check_report_place(arguments.json, core.source, arguments.output, force=arguments.force)
        report = write_bundle(core, arguments.output, request, options, wanted=wanted)
    if not arguments.quiet:
        say(report.summary())
    for warning in [*(report.warnings if arguments.quiet else ()), *notices]:
        say(f"corefilt: {printable(report.input)}: {printable(warning)}")
    if arguments.json is not None:
        write_json(report.as_dict(), arguments.json, force=arguments.force)
    if report.lacking:
        return 4
    return 3 if report.warnings else 0
