"""The parser's manners: it raises, never abbreviates, and says what may have been meant."""

from __future__ import annotations

import argparse
import os

from corefilt.cli.reportfile import STDOUT
from corefilt.cli.streams import tell
from corefilt.errors import UsageError, did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn


# A line of a description that is so long goes on in the next one.
WRAPPED = 100


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Wraps at the terminal's width, which argparse asks shutil for: 1.6 ms at every start, help or not."""

    def __init__(self, prog: str) -> None:
        try:
            columns = int(os.environ.get("COLUMNS", "")) or os.get_terminal_size().columns
        except (OSError, ValueError):
            columns = 80
        super().__init__(prog, width=max(columns - 2, 20))

    def _format_action_invocation(self, action: argparse.Action) -> str:
        """Write a value that must be joined by ``=`` as it is typed: ``--json[=FILE]``."""
        return super()._format_action_invocation(action).replace(" [=", "[=")

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Fold a description, whose lines are as long as the source's, for a narrower terminal; lists stay lists."""
        from textwrap import wrap

        joined: list[str] = []
        before = 0
        for line in text.splitlines():
            if before >= WRAPPED and line[:1].strip():
                joined[-1] += f" {line}"
            else:
                joined.append(line)
            before = len(line)
        made: list[str] = []
        for line in joined:
            # A list's second column goes on below itself, where it leaves half of the line.
            leading = len(line) - len(line.lstrip())
            column = line.rfind("  ") + 2 if leading else 0
            blanks = indent + " " * (column if leading < column <= width // 2 else leading)
            made += wrap(line, width, subsequent_indent=blanks, break_on_hyphens=False) or [""]
        return "\n".join(made)


def tell_version(version: str) -> None:
    """Tell what a report of a bug should name."""
    from corefilt.doctor.versions import lines

    tell("\n".join([version, *lines()]) + "\n")


class _Version(argparse.Action):
    """``action="version"``: everything that a report of a fault should name, found out when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, version: str, **options: Any) -> None:
        """Take no value; ``version`` is the first line."""
        words = "print the version, the engines and the libraries"
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=words)
        self.version = version

    def __call__(self, parser: argparse.ArgumentParser, *about: object) -> None:
        tell_version(self.version)
        parser.exit()


class _Help(argparse.Action):
    """``action="help"``: all of it by the long flag, and by the short one a screen."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str, **options: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, namespace: object, values: object, flag: Any = None) -> None:
        short = flag == "-h" and isinstance(parser, Parser)
        tell(parser.format_short_help() if isinstance(parser, Parser) and short else parser.format_help())
        parser.exit()


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises, and never abbreviates."""

    def __init__(self, prog: str, description: str, epilog: str | None = None) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=_Formatter,
            add_help=False,
        )
        self.register("action", "help", _Help)
        self._help = self.add_argument("-h", "--help", action="help", help="show this help")
        # Lines that show how the command is called, each with what it does.
        self.examples: tuple[tuple[str, str], ...] = ()
        self.register("action", "version", _Version)
        # What options were called before, and what stands for them.
        self.renamed: dict[str, str] = {}
        self._words: list[str] = []

    def add_argument_group(self, *about: Any, **options: Any) -> Any:
        """Add a group of options, of which ``-h`` shows only the names."""
        if hasattr(self, "_help"):
            self._help.help = "show the names of the options (-h), or explain them all (--help)"
        return super().add_argument_group(*about, **options)

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the whole usage."""
        for word, file in zip(self._words, self._words[1:], strict=False):
            if word == f"--json={STDOUT}" and message.startswith("unrecognized arguments: ") and file[:1] != "-":
                hint = f"--json={file.removeprefix('=')}"
                raise UsageError(f"--json takes its file with '=', not {file!r} as the next argument", hint)
        surplus = message.removeprefix("unrecognized arguments: ")
        if self.prog == "corefilt" and surplus != message and surplus[:1] != "-":
            hint = "-o OUT names the output; corefilt batch filters several cores"
            raise UsageError(f"there is more than one CORE: {surplus}", hint)
        raise UsageError(message, f"{self.prog} --help")

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        """Raise UsageError for an option that there is not, with the one that may be meant."""
        self._words = self._words or list(args or ())
        for word in args or ():
            if word == "--":
                break
            name = word.partition("=")[0]
            if word[:2] == "--" and " " not in name and name not in self._option_string_actions:
                raise UsageError(f"unknown option {name}", self._meant(name))
        return super().parse_known_args(args, namespace)

    def format_help(self) -> str:
        """Everything: the usage, examples, what the command does, and every option."""
        usage, _, rest = super().format_help().partition("\n\n")
        return "\n\n".join([usage, *self._shown_examples(), rest])

    def format_short_help(self) -> str:
        """A screen: the usage, examples, and the names of the options; all of it for a command with few options."""
        groups = [(group.title, group._group_actions) for group in self._action_groups[2:]]
        if not groups:
            return self.format_help()
        width = max(len(title or "") for title, _ in groups) + 1
        lines = []
        for title, actions in groups:
            names = " ".join(action.option_strings[-1] for action in actions)
            lines += wrapped(f"  {f'{title}:':{width}} ", names)
        first = (self.description or "").split("\n\n")[0]
        options = "options by what they do:\n" + "\n".join(lines)
        return "\n\n".join([self.format_usage().rstrip(), first, *self._shown_examples(), options]) + (
            f"\n\n{self.prog} --help explains them all.\n"
        )

    def _shown_examples(self) -> list[str]:
        if not self.examples:
            return []
        return ["examples:\n" + "\n".join(f"  {line}\n      {what}" for line, what in self.examples)]

    def _meant(self, name: str) -> str:
        if name in self.renamed:
            return f"use {self.renamed[name]}"
        return f"{did_you_mean(name, self._option_string_actions)} {self.prog} --help".lstrip()


def wrapped(before: str, words: str) -> list[str]:
    """Return words in lines of 80 columns, the first behind ``before``, the others below it."""
    from textwrap import wrap

    return wrap(words, 80, initial_indent=before, subsequent_indent=" " * len(before), break_on_hyphens=False)


def pid_number(text: str) -> int:
    """A process's number; argparse says what is wrong with another text."""
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) < 1 << 31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a process ID")
    return int(text)
