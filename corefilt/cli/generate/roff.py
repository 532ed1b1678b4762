"""Writes manual pages: roff with the macros of man(7), as every formatter of manual pages reads it."""

from __future__ import annotations

import re

import corefilt
from corefilt.cli.commands import before_and_after_options
from corefilt.cli.generate.parsers import Command, ParsedOption
from corefilt.filterbits import NAMES

# What each bit keeps, as core(5) has it.
KEPT = {
    "private-anonymous": "anonymous private mappings",
    "shared-anonymous": "anonymous shared mappings",
    "private-file-backed": "file-backed private mappings",
    "shared-file-backed": "file-backed shared mappings",
    "elf-headers": "the first page of mapped ELF files",
    "private-huge": "private huge pages (hugetlb)",
    "shared-huge": "shared huge pages (hugetlb)",
    "private-dax": "private DAX pages",
    "shared-dax": "shared DAX pages",
}
FILES = (
    ("/proc/PID/coredump_filter", "the filter of a process; corefilt show and corefilt set read and write it"),
    ("/proc/PID/maps, /proc/PID/smaps", "read by --pid; --maps takes a saved copy"),
    ("/proc/sys/kernel/core_pattern", "where the kernel sends cores; corefilt install sets it"),
    ("/etc/corefilt.conf", "settings of the handler"),
    ("/etc/sysctl.d/60-corefilt.conf", "written by corefilt install, and applied at every boot"),
)
SEE_ALSO = "core(5), proc(5), gdb(1), coredumpctl(1)"


def escape(text: str) -> str:
    """Text that roff shows as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "".join(f"\\[u{ord(c):04X}]" if ord(c) > 126 else c for c in text)


def lines(text: str) -> str:
    """Lines of roff, none of which is taken for a request."""
    return "\n".join("\\&" + line if line[:1] in (".", "'") else line for line in text.split("\n"))


def bold(text: str) -> str:
    """Words that are typed as they stand."""
    return f"\\fB{escape(text)}\\fR"


def italic(text: str) -> str:
    """Words that stand for others."""
    return f"\\fI{escape(text)}\\fR"


def verbatim(text: str) -> str:
    """Lines that are not filled."""
    return f".PP\n.RS 4\n.nf\n{lines(escape(text.rstrip()))}\n.fi\n.RE"


def head(name: str, section: str, purpose: str) -> str:
    """The first lines of a page; without a date, so that two builds of one version are the same."""
    title = f'.TH {name.upper()} {section} "" "corefilt {corefilt.__version__}"'
    return f"{title}\n.nh\n.ad l\n.SH NAME\n{escape(name)} \\- {escape(purpose)}"


def page(commands: list[Command], purpose: str, others: list[str]) -> str:
    """corefilt(1): what --help says of every command; ``others`` are the other pages, like ``corefilt-note(5)``."""
    first = next(command for command in commands if command.name == "filter")
    parts = [head("corefilt", "1", purpose), ".SH SYNOPSIS", "\n.br\n".join(map(synopsis, commands))]
    parts += [".SH DESCRIPTION", paragraphs(first.description), '.SS "The bits of a filter"', bits()]
    parts += [".SH OPTIONS", *map(option, first.options)]
    parts += [".SH COMMANDS"]
    for command in commands:
        if command is not first:
            parts.append(f'.SS "corefilt {escape(f"{command.name} {command.operands}".strip())}"')
            parts += [paragraphs(command.description or command.purpose), *map(option, command.options)]
            parts += [paragraphs(command.epilog)] if command.epilog else []
            parts += [examples(command)] if command.examples else []
    parts += [".SH EXAMPLES", examples(first), ".SH FILES"]
    parts += [f".TP\n{italic(name)}\n{lines(escape(what))}" for name, what in FILES]
    for title, text in sections(first.epilog):
        parts += [f'.SH "{escape(title.upper())}"', items(text)]
    return tidy([*parts, ".SH SEE ALSO", escape(", ".join([*others, SEE_ALSO]))])


def bits() -> str:
    """The bits of coredump_filter, one a line."""
    width = max(map(len, NAMES))
    return verbatim(
        "\n".join(
            f"{int(bit).bit_length() - 1}  {int(bit):#5x}  {name:{width}}  {KEPT[name]}" for name, bit in NAMES.items()
        )
    )


def examples(command: Command) -> str:
    """A command's examples: what each does, and under it how it is typed."""
    return "\n".join(f".PP\n{lines(escape(f'{what[0].upper()}{what[1:]}:'))}\n{verbatim(line)}"
                     for line, what in command.examples)  # fmt: skip


def tidy(parts: list[str]) -> str:
    """The parts of a page put together; a heading begins a paragraph by itself."""
    return re.sub(r"^(\.S[HS] .*\n)\.PP\n", r"\1", "\n".join(parts) + "\n", flags=re.MULTILINE)


def synopsis(command: Command) -> str:
    """One way to call corefilt."""
    name = "" if command.name == "filter" else f" {command.name}"
    before, after = before_and_after_options(command.name)
    words = (before and italic(before), "[options]", after and italic(after.lstrip()))
    return " ".join([bold(f"corefilt{name}"), *filter(None, words)])


def option(option: ParsedOption) -> str:
    """An option and what it is for."""
    between = "" if option.joined else " "
    value = between + italic(option.value.name) if option.value is not None else ""
    return f".TP\n{', '.join(bold(flag) + value for flag in option.flags)}\n{lines(escape(option.help))}"


def paragraphs(text: str) -> str:
    """Text as --help shows it: what is indented stays as it is, the rest is filled."""
    found = []
    for paragraph in text.strip().split("\n\n"):
        for indented, part in _parts(paragraph):
            found.append(verbatim(part) if indented else f".PP\n{lines(escape(part))}")
    return "\n".join(found)


def _parts(paragraph: str) -> list[tuple[bool, str]]:
    found: list[tuple[bool, str]] = []
    for line in paragraph.split("\n"):
        indented = line.startswith("  ")
        if found and found[-1][0] == indented:
            found[-1] = (indented, f"{found[-1][1]}\n{line.strip()}")
        else:
            found.append((indented, line.strip()))
    return found


def sections(epilog: str) -> list[tuple[str, str]]:
    """The paragraphs of an epilog that have a title, but for the list of commands."""
    titled = [re.fullmatch(r"([a-z ]+): (.*)", paragraph, re.DOTALL) for paragraph in epilog.split("\n\n")]
    return [(match[1], match[2]) for match in titled if match]


def items(text: str) -> str:
    """A sentence that lists words with what they mean, as a list."""
    found = []
    for item in re.sub(r"\s+", " ", text).split("; "):
        word, _, meaning = item.partition(" ")
        found.append(f".TP\n{bold(word)}\n{lines(escape(meaning))}")
    return "\n".join(found)
