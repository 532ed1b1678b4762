"""``corefilt open (BUNDLE | CORE)``: gdb or lldb on a core with the files that it belongs to."""

from __future__ import annotations

from corefilt.bundle.debuggers import GDB, LLDB
from corefilt.cli.arguments import need_local, need_named
from corefilt.cli.options import make_parser
from corefilt.cli.streams import say, tell
from corefilt.errors import UsageError
from corefilt.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from corefilt.bundle.opening import Prepared
    from corefilt.cli.parser import Parser

DESCRIPTION = """\
Unpacks a bundle into a private directory, compares its files with the core by build-id once more, and starts gdb or
lldb there with its own commands. Nothing in the bundle is run, no gdbinit, no script, no library, unless --trust is
given. A CORE without a bundle is shown with the files of this machine, or of --sysroot DIR.

Arguments after -- are passed to the debugger."""

EPILOG = """\
exit status: 0 done; 1 failed, or the debugger did; 2 usage; 4 a file is from another build than the core's or,
with --list, missing"""


def parser() -> Parser:
    """The options of ``corefilt open``."""
    p = make_parser("open", DESCRIPTION, EPILOG)
    p.add_argument("core", metavar="BUNDLE", help="a bundle, or a core")
    return p


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The arguments, and those of the debugger. Raises UsageError."""
    at = argv.index("--") if "--" in argv else len(argv)
    arguments = parser().parse_intermixed_args(argv[:at])
    if arguments.gdb and arguments.lldb:
        raise UsageError("--gdb and --lldb are two debuggers", "leave one of them out")
    return arguments, argv[at + 1 :]


def run(argv: list[str]) -> int:
    """Show one core; returns the exit code."""
    arguments, more = parse(argv)
    need_local(arguments.core)
    need_named("open", arguments.core)
    from corefilt.bundle.manifest import lacking
    from corefilt.bundle.opening import prepared, run_debugger
    from corefilt.bundle.report import file_lines

    with prepared(arguments.core, sysroot=arguments.sysroot, trusted=arguments.trust) as found:
        if arguments.list:
            tell("".join(f"{line}\n" for line in _listed(found)))
            return 4 if lacking(found.files) else 0
        found.check()
        for line in file_lines(lacking(found.files)):
            say(f"corefilt: {line.strip()}")
        debugger = LLDB if arguments.lldb else GDB
        code = run_debugger(debugger, found, backtraces=arguments.bt, more=more)
    if code:
        say(f"corefilt: {debugger} ended with {f'signal {-code}' if code < 0 else f'exit status {code}'}")
    return 1 if code else 0


def _listed(found: Prepared) -> list[str]:
    """Every file with its build-id, and its package as the manifest has it."""
    told = {file.path: file for file in found.manifest.files} if found.manifest is not None else {}
    lines = []
    for file in found.files:
        package = told.get(file.path, file)
        build_id = file.build_id.hex() if file.build_id is not None else "-"
        of = f" ({printable(package.package)} {printable(package.version or '')})" if package.package else ""
        lines.append(f"{file.status:10}  {file.role:9}  {build_id:40}  {printable(file.path)}{of}")
    return lines
