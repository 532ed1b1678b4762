"""Makes manual pages of those pages of the documentation that say in their first line that they are one.

The line: ``<!-- man: NAME(SECTION): PURPOSE -->``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from markdown_it import MarkdownIt
from markdown_it.token import Token

from corefilt.cli.generate import roff

_FILE = re.compile(r"[a-z-]+\.md")
_DECLARED = re.compile(r"<!-- man: ([\w-]+)\((\d)\): (.*?) -->\n")


@dataclass(frozen=True)
class PageHead:
    """A manual page's name, section and purpose."""

    name: str
    section: str
    purpose: str


def declared(text: str) -> PageHead:
    """Return what the first line of a page of the documentation says of its manual page. Raises ValueError."""
    match = _DECLARED.match(text)
    if match is None:
        raise ValueError("the first line names no manual page")
    return PageHead(match[1], match[2], match[3])


def page(text: str, others: list[str]) -> str:
    """Return the manual page that a page of the documentation makes; ``others`` are pages like ``corefilt(1)``."""
    about = declared(text)
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    see_also = [".SH SEE ALSO", roff.escape(", ".join([*others, roff.SEE_ALSO]))]
    return roff.tidy(
        [roff.head(about.name, about.section, about.purpose), ".SH DESCRIPTION", *_blocks(tokens), *see_also]
    )


def _blocks(tokens: list[Token]) -> list[str]:
    found: list[str] = []
    lists: list[str] = []
    item = False
    header: list[str] = []
    row: list[str] = []
    for before, token in zip([None, *tokens], tokens, strict=False):
        match token.type:
            case "inline":
                text = roff.lines(_inline(token))
                opened = before.type if before else ""
                if opened == "heading_open" and before is not None:
                    if before.tag != "h1":
                        title = roff.escape(re.sub("[`*]", "", token.content))
                        found.append(f'.SH "{title.upper()}"' if before.tag == "h2" else f'.SS "{title}"')
                elif opened in ("th_open", "td_open"):
                    row.append(text)
                elif item:
                    found.append(f'.IP "{lists[-1]}" 3\n{text}')
                    item = False
                else:
                    found.append(f".PP\n{text}")
            case "fence" | "code_block":
                found.append(roff.verbatim(token.content))
            case "bullet_list_open":
                lists.append("\\(bu")
            case "ordered_list_open":
                lists.append("0.")
            case "list_item_open":
                if lists[-1] != "\\(bu":
                    lists[-1] = f"{int(lists[-1][:-1]) + 1}."
                item = True
            case "bullet_list_close" | "ordered_list_close":
                lists.pop()
            case "thead_close":
                header, row = row, []
            case "tr_close" if header:
                found.append(_row(header, row))
                row = []
            case "table_close":
                header = []
    return found


def _row(header: list[str], row: list[str]) -> str:
    """A row of a table: its first cell, and under it the others, by their columns' names where there are several."""
    first, *others = row
    named = [f"{name}: {cell}" if name else cell for name, cell in zip(header[1:], others, strict=True) if cell]
    text = "\n.br\n".join(named) if len(others) > 1 else "".join(others)
    return f".TP\n{first or chr(92) + '&'}\n{text}"


@cache
def _manual_names() -> dict[str, str]:
    """The manual pages by the files of the documentation that they are made of: ``corefilt-note(5)``."""
    found = {}
    for file in files(__package__).joinpath("pages").iterdir():
        about = declared(file.read_text(encoding="utf-8"))
        found[file.name] = f"{about.name}({about.section})"
    return found


def _inline(token: Token) -> str:
    found = []
    for child in token.children or []:
        match child.type:
            case "text":
                # A link whose text is a file of the documentation leads to its manual page, if it has one.
                text = child.content
                shown = _manual_names().get(text, f"docs/{text}") if _FILE.fullmatch(text) else text
                found.append(roff.escape(shown))
            case "code_inline":
                found.append(roff.bold(child.content))
            case "softbreak" | "hardbreak":
                found.append("\n")
            case "strong_open":
                found.append("\\fB")
            case "em_open":
                found.append("\\fI")
            case "strong_close" | "em_close":
                found.append("\\fR")
    return "".join(found)
