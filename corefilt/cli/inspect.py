"""``corefilt inspect CORE``: whose core it is, what its mappings come to, and what a filter keeps of them."""

from __future__ import annotations

from itertools import chain

from corefilt.cli.arguments import read, refuse_exchanged
from corefilt.cli.command_options import TOP
from corefilt.cli.inspection.rows import COLUMNS, Rows, parse_kinds, parse_names
from corefilt.cli.options import Arguments, make_parser
from corefilt.cli.progress import bar_for
from corefilt.cli.reportfile import STDOUT, check_report_place, with_json_target
from corefilt.cli.streams import need_standard_output, say
from corefilt.corefile.corefile import open_core
from corefilt.errors import UsageError
from corefilt.filterbits import parse_filter
from corefilt.filtering.report import convention_lines, notices
from corefilt.plan.plan import KeepPlan
from corefilt.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from corefilt.cli.inspection.overview import MappingGroup
    from corefilt.cli.inspection.page import Page
    from corefilt.cli.parser import Parser
    from corefilt.cli.progress import Bar
    from corefilt.corefile.corefile import CoreFile
    from corefilt.crash.identity import Identity
    from corefilt.crash.modules import Module
    from corefilt.crash.signature import Crash
    from corefilt.io.sources import Source

DESCRIPTION = """\
Shows whose core it is, how many bytes it holds of each kind of mapping, what FILTER keeps of them, and the largest
mappings. With an ADDRESS, shows which mapping has it, and whether the core holds that byte.

--columns: address, start, end, size, present, kept, dropped, inferred, flags, kind, certainty, bits, offset, file,
evidence. present is what the core holds, kept what FILTER keeps of that, inferred what it drops by a convention.
bits: what each bit of a filter alone keeps: W the whole mapping, h its first page, - nothing; ? it is ambiguous."""

MODULE_KEYS = ("start", "end", "build_id", "path")


def parser() -> Parser:
    """The options of ``corefilt inspect``."""
    p = make_parser("inspect", DESCRIPTION)
    p.add_argument("core", metavar="CORE", nargs="?", default="-", help="a core, or - for standard input (default)")
    p.add_argument("address", metavar="ADDRESS", nargs="*", help="look at these addresses, like 0x7f12a4c01000")
    return p


def run(argv: list[str]) -> int:
    """Show one core; returns the exit code."""
    arguments = _read(with_json_target(argv))
    if arguments.address:
        _refuse_exchanged(arguments.address[0], arguments.core)
    wanted, warnings = parse_filter(arguments.filter)
    view = View(arguments)
    with open_core(
        arguments.core, max_headers=arguments.max_headers, spool=arguments.spool, seeks=not arguments.spool
    ) as core:
        view.check_readable(core.source)
        plan = KeepPlan.of(
            core,
            wanted,
            unknown=arguments.unknown,
            assume=arguments.assume,
            maps=arguments.maps,
            pid=arguments.pid,
            sysroot=arguments.sysroot,
            dumper=arguments.dumper,
        )
        check_report_place(arguments.json, core.source, None)
        changed = core.source.check()
        if changed is not None and changed not in core.warnings:
            core.warnings.append(changed)
        with bar_for(arguments, unit="mappings", prints=True) as bar:
            told = Inspection(core, Rows(plan), view, bar)
            if arguments.json is not None:
                from corefilt.cli.inspection.document import write

                write(arguments.json, told.json())
            if arguments.json != STDOUT:
                told.show()
        for warning in [*core.warnings, *notices(plan), *warnings]:
            say(f"corefilt: {printable(core.source.name)}: {printable(warning)}")
        return 3 if core.damaged else 0


def _read(argv: list[str]) -> Arguments:
    found = read("inspect", argv)
    if found is None:
        return Arguments(**vars(parser().parse_intermixed_args(argv)))
    arguments, operands = found
    arguments.core, arguments.address = operands[0] if operands else "-", operands[1:]
    return arguments


def _refuse_exchanged(word: str, core: str) -> None:
    """Raise UsageError for a core behind a filter or an address."""
    from corefilt.cli.inspection.address import parse_address

    first, what = "the core comes first: corefilt inspect", "an address"
    refuse_exchanged(word, core, (first + " {1} --filter {0}").format, what=what)
    refuse_exchanged(word, core, (first + " {1} {0}").format, what=what, read=parse_address)


class View:
    """What was asked to be shown. Raises UsageError for what does not go together."""

    def __init__(self, arguments: Arguments) -> None:
        from corefilt.cli.inspection.address import parse_address

        self.addresses = [parse_address(text) for text in arguments.address]
        self.kinds = parse_kinds(arguments.kind)
        self.group_by, self.modules, self.csv = arguments.group_by, arguments.modules, arguments.csv
        self.columns = parse_names(arguments.columns, COLUMNS, "column") if arguments.columns is not None else None
        self.sysroot, self.unwinder = arguments.sysroot, arguments.unwinder
        self.environment = arguments.environment
        self.verbose, self.top = arguments.verbose, arguments.top
        self.all = arguments.all or (self.csv and self.top is None)
        self.sort = arguments.sort
        given = {
            "ADDRESS": bool(self.addresses), "--group-by": bool(self.group_by), "--modules": self.modules,
        }  # fmt: skip
        chosen = [name for name, is_given in given.items() if is_given]
        if len(chosen) > 1:
            raise UsageError(f"{chosen[0]} and {chosen[1]} cannot be combined", "leave one of them out")
        if arguments.all and self.top is not None:
            raise UsageError("--all and --top cannot be combined", "leave one of them out")
        if self.columns is not None and chosen:
            raise UsageError(f"--columns and {chosen[0]} cannot be combined", "leave one of them out")
        if self.csv and self.addresses:
            raise UsageError("--csv and ADDRESS cannot be combined", "--json reports addresses too")
        if self.csv and arguments.json == STDOUT:
            raise UsageError("--csv and --json both go to standard output", "write the report to a file: --json=FILE")

    def check_readable(self, source: Source) -> None:
        """Refuse what has to be looked up in a core that passes only once. Raises UnstreamableError."""
        if source.seekable:
            return
        asked = {
            "--modules reads the loaded files' first pages": self.modules,
            "--environment reads the first stack": self.environment,
            f"--unwinder {self.unwinder} reads the stacks": self.unwinder != "auto",
        }
        for what, is_asked in asked.items():
            if is_asked:
                raise source.refused(f"{what}, and {source.passing} cannot be read twice")

    def numbers(self, rows: Rows, *, everything: bool = False) -> Sequence[int]:
        """The mappings to list; ``everything`` unless a number was given."""
        whole = self.all or everything
        top = self.top if self.top is not None else None if whole else TOP
        sort = self.sort or ("size" if not whole or self.top is not None else None)
        return rows.chosen(kinds=self.kinds, sort=sort, top=top)


class Inspection:
    """What is told of one core."""

    def __init__(self, core: CoreFile, rows: Rows, view: View, bar: Bar) -> None:
        self.core, self.rows, self.view, self._bar = core, rows, view, bar
        self._identity: Identity | None = None

    @property
    def identity(self) -> Identity:
        """Whose core it is, found out when it is asked for."""
        if self._identity is None:
            from corefilt.crash.identity import identify, with_metadata

            known = identify(self.core, with_environment=self.view.environment)
            self._identity = with_metadata(known, self.core)
        return self._identity

    @property
    def modules(self) -> Sequence[Module]:
        """The loaded ELF files, of a core for which the view may ask for them."""
        return self.identity.modules or ()

    def crash(self) -> Crash | None:
        """Where it crashed, and its signature; None of a core that passes only once."""
        from corefilt.crash.signature import find_crash

        return find_crash(self.core, identity=self.identity, sysroot=self.view.sysroot, unwinder=self.view.unwinder)

    def json(self) -> Iterator[str]:
        """The report as JSON, in pieces."""
        from corefilt.cli.inspection.address import look_at
        from corefilt.cli.inspection.document import pieces
        from corefilt.cli.inspection.head import as_dict
        from corefilt.cli.inspection.overview import groups

        head = as_dict(self.core, self.identity, self.rows.plan)
        crash = self.crash()
        head["crash"] = crash.as_dict() if crash is not None else None
        view = self.view
        numbers = view.numbers(self.rows, everything=True)
        if view.addresses:
            answers = [look_at(self.rows, address) for address in view.addresses]
            head["addresses"] = [answer.as_dict(self.rows) for answer in answers]
            numbers = sorted({answer.m for answer in answers if answer.m is not None})
        head["kinds"] = {group.name: group.as_dict() for group in groups(self.rows, "kind")}
        return pieces(head, self.rows, chain.from_iterable(self._counted(numbers)))

    def show(self) -> None:
        """Show it on standard output."""
        from corefilt.cli.inspection.page import Page

        need_standard_output()
        view, page = self.view, Page(whole=self.view.verbose)
        if view.csv:
            page.lines(self._csv())
        elif view.addresses:
            from corefilt.cli.inspection.address import look_at, show_answer

            for address in view.addresses:
                show_answer(self.rows, look_at(self.rows, address), page)
        elif view.modules:
            self._show_modules(page)
        elif view.group_by is not None:
            self._show_groups(page)
        else:
            self._show_all(page)

    def _csv(self) -> Iterator[str]:
        from corefilt.cli.inspection.overview import GROUP_KEYS
        from corefilt.cli.inspection.table import CSV_COLUMNS, as_csv, csv_lines

        view = self.view
        if view.modules:
            found = [module.as_dict() for module in self.modules]
            return as_csv(MODULE_KEYS, ([module[key] for key in MODULE_KEYS] for module in found))
        if view.group_by is not None:
            return as_csv(GROUP_KEYS, [[group.name, *group.as_dict().values()] for group in self._groups()[: view.top]])
        return csv_lines(self.rows, self._counted(view.numbers(self.rows)), view.columns or CSV_COLUMNS)

    def _counted(self, numbers: Sequence[int]) -> Iterator[Sequence[int]]:
        """Pass the mappings that are listed on, some at once, and show how many they are."""
        self._bar.reach(0, len(numbers))
        return self._bar.batches(numbers)

    def _groups(self) -> list[MappingGroup]:
        from corefilt.cli.inspection.overview import groups

        view = self.view
        numbers = self.rows.chosen(kinds=view.kinds) if view.kinds else None
        found = groups(self.rows, view.group_by, numbers)
        if view.sort in ("kind", "file"):
            found.sort(key=lambda group: group.name)
        return found

    def _show_groups(self, page: Page) -> None:
        from corefilt.cli.inspection.overview import show_groups

        found = self._groups()
        most = self.view.top
        if most is None:
            most = len(found) if self.view.all or self.view.group_by == "kind" else TOP
        show_groups(found, str(self.view.group_by), page, most=most)

    def _show_modules(self, page: Page) -> None:
        from corefilt.cli.inspection.table import WIDE, plain_table

        narrow = page.width is not None and page.width < WIDE
        found = [
            (
                f"{module.start:x}" if narrow else f"{module.start:x}-{module.end:x}",
                (module.build_id or b"").hex(),
                printable(module.path or b""),
            )
            for module in self.modules
        ]
        page.lines(plain_table(("address", "build-id", "path"), found, page))

    def _show_all(self, page: Page) -> None:
        from corefilt.cli.inspection.address import show_filter
        from corefilt.cli.inspection.head import show_head
        from corefilt.cli.inspection.overview import groups, show_groups, show_uncertain
        from corefilt.cli.inspection.table import blocks, columns_for

        rows, view = self.rows, self.view
        show_head(self.core, self.identity, page, verbose=view.verbose)
        crash = self.crash()
        if crash is not None and crash.signature is not None:
            for line in crash.lines():
                page.line(f"  {line}")
        if not rows:
            return
        page.line()
        page.line(f"What filter {show_filter(rows)} keeps:")
        found = groups(rows, "kind")
        show_groups(found, "kind", page, most=len(found))
        for line in convention_lines(rows.plan, everything=view.verbose):
            page.text(line, indent=2)
        show_uncertain(rows, page, verbose=view.verbose)
        page.line()
        numbers = view.numbers(rows)
        self._say_which(numbers, page)
        columns = view.columns or columns_for(page, listed=view.all, verbose=view.verbose)
        page.blocks(
            blocks(rows, self._counted(numbers), columns, page, verbose=view.verbose or view.columns is not None)
        )

    def _say_which(self, numbers: Sequence[int], page: Page) -> None:
        """What list it is, where it is not that of all mappings."""
        view, count = self.view, len(numbers)
        total = len(self.rows.chosen(kinds=view.kinds))
        of = f" of kind {', '.join(view.kinds)}" if view.kinds else ""
        if count < total:
            order = "largest" if view.sort in (None, "size") else "first"
            page.line(f"The {order} {count} of {total} mappings{of} (--all lists every one):")
        elif of:
            page.line(f"All {total} mappings{of}:" if total != 1 else f"The only mapping{of}:")
