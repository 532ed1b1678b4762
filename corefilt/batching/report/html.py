"""The report of a batch as one HTML page that needs nothing else: no network, no other file.

Everything but sorting and filtering is there without a script. The page forbids itself, by its Content-Security-Policy,
to load anything or to run any script but its own, so that a name out of a core is a text and nothing else.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from importlib.resources import files
from string import Template

from corefilt import __version__
from corefilt.batching.outcome import STATUSES
from corefilt.batching.report.svg import bars
from corefilt.batching.report.totals import NO_RULE, by_signature, largest, lengths, total
from corefilt.corefile.signals import show_signal
from corefilt.documents.strict_json import as_json
from corefilt.sizes import show_size
from corefilt.text import counted, day, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from corefilt.batching.outcome import Outcome
    from corefilt.batching.report.totals import CrashSum, Sum, Totals

# More bars than this are no picture.
MOST_BARS = 12
# Of the table of cores: what a column is called, and the class of its cells.
_COLUMNS = (
    ("core", "path"), ("status", "status"), ("executable", "path"), ("signal", ""), ("before", "number"),
    ("after", "number"), ("saved", "number"), ("ambiguous", "number"), ("container", ""), ("rule", "rule"),
    ("reason", "reason"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class About:
    """What the head of the page says of the run: the filter in words, when and where it was, and what was named.

    ``dry_run`` tells that nothing was written, ``by_signature`` has a table of the crashes.
    """

    filter: str
    when: str
    dry_run: bool = False
    host: str = ""
    sources: Sequence[str] = ()
    by_signature: bool = False


def _columns(outcomes: Sequence[Outcome]) -> tuple[tuple[str, str], ...]:
    """The columns of the table of cores; with --command-line, command lines stand where executables do."""
    program = "command line" if any(outcome.command_line for outcome in outcomes) else "executable"
    return tuple((program if name == "executable" else name, css) for name, css in _COLUMNS)


def page(outcomes: Sequence[Outcome], about: About) -> str:
    """The page, in ASCII but for what names and signs bring."""
    totals, columns = total(outcomes), _columns(outcomes)
    room = files(__package__).joinpath("page")
    style, script = (room.joinpath(name).read_text("utf-8") for name in ("style.css", "script.js"))
    verb = "would do" if about.dry_run else "did"
    host = f" on {printable(about.host)}" if about.host else ""
    sources = f"; from {', '.join(map(printable, about.sources))}" if about.sources else ""
    return Template(room.joinpath("template.html").read_text("utf-8")).substitute(
        title="Cores of an archive, before and after",
        about=escape(f"What corefilt batch {printable(about.filter)} {verb}{host}, {about.when}{sources}"),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        tiles="".join(_tiles(len(outcomes), totals)),
        by_executable=bars(largest(totals.executables, MOST_BARS), "Bytes before and after by executable"),
        by_kind=bars(largest(totals.kinds, MOST_BARS), "Bytes before and after by kind of mapping"),
        by_rule=_by_rule(totals),
        by_signature=_by_signature(outcomes) if about.by_signature else "",
        statuses="".join(f"<option>{status}</option>" for status in STATUSES if totals.statuses[status]),
        heads="".join(
            f'<th scope="col" class="{css}"><button type="button">{name}</button></th>' for name, css in columns
        ),
        count=len(outcomes),
        rows="\n".join(_row(outcome, columns) for outcome in sorted(outcomes, key=_urgency)),
        json="\n".join(map(_json, outcomes)),
        version=__version__,
    )


def _urgency(outcome: Outcome) -> int:
    """What failed comes first, then what is damaged, in the order that it was found in."""
    return 0 if outcome.status == "failed" else 1 if outcome.damage else 2


def _hash(text: str) -> str:
    """As a Content-Security-Policy names what it lets be: a style or script of exactly this text."""
    return "sha256-" + b64encode(sha256(text.encode()).digest()).decode()


def _json(outcome: Outcome) -> str:
    r"""The outcome's JSON line, with ``<`` as ``\u003c``: nothing in it ends the element that it stands in."""
    return as_json(outcome.as_line()).replace("<", "\\u003c")


def _tiles(found: int, totals: Totals) -> Iterator[str]:
    counts = [f"{totals.statuses[status]} {status}" for status in STATUSES if totals.statuses[status]]
    yield _tile("found", str(found), ", ".join(counts) or "nothing")
    if totals.cores.count:
        before = show_size(totals.cores.before)
        yield _tile(f"{counted(totals.cores.count, 'core')}, before", before, "without compression")
        yield _tile("after", show_size(totals.cores.after), totals.cores.shown_change)
    if totals.stored.count:
        stored = f"{show_size(totals.stored.before)} \u2192 {show_size(totals.stored.after)}"
        yield _tile("saved where they are stored", show_size(totals.stored.saved), stored)
    yield _tile("ambiguous", show_size(totals.undecided), "depend on an assumption")


def _tile(what: str, much: str, more: str) -> str:
    return (
        f'<div class="tile"><div class="what">{escape(what)}</div><div class="much">{escape(much)}</div>'
        f'<div class="more">{escape(more)}</div></div>'
    )


def _by_rule(totals: Totals) -> str:
    """A table of what each rule of the policy came to; nothing where there was no policy."""
    if not set(totals.rules) - {NO_RULE}:
        return ""
    heads = "".join(
        f'<th class="{css}">{name}</th>'
        for name, css in (
            ("rule", ""),
            ("cores", "number"),
            ("before", "number"),
            ("after", "number"),
            ("saved", "number"),
        )
    )
    rows = "".join(_rule_row(name, part) for name, part in largest(totals.rules, len(totals.rules)))
    return (
        '<section class="card"><h2>By rule of the policy</h2><div class="scroller"><table id="rules">'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _rule_row(name: str, part: Sum) -> str:
    cells = (str(part.count), show_size(part.before), show_size(part.after), show_size(part.saved))
    return f"<tr><td>{escape(printable(name))}</td>" + "".join(f'<td class="number">{c}</td>' for c in cells) + "</tr>"


def _by_signature(outcomes: Sequence[Outcome]) -> str:
    """A table of the crashes: how many cores of each, from when to when, and where."""
    numbers = ("cores", "before", "after")
    heads = "".join(
        f'<th class="{"number" if name in numbers else ""}">{name}</th>'
        for name in ("signature", *numbers, "first", "last", "executable", "crash")
    )
    rows = "".join(_signature_row(part) for part in by_signature(outcomes))
    return (
        '<section class="card"><h2>By signature of the crash</h2><div class="scroller"><table id="signatures">'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _signature_row(part: CrashSum) -> str:
    name = f"{part.signature}{'' if part.certain else '?'}" if part.signature is not None else "(not known)"
    texts = (
        day(part.first), day(part.last), ", ".join(sorted(part.executables)), "\n".join((part.kind, *part.frames)),
    )  # fmt: skip
    sizes = (str(part.sum.count), part.sum.shown_before, part.sum.shown_after)
    cells = "".join(f'<td class="number">{size}</td>' for size in sizes)
    cells += "".join(f"<td>{'<br>'.join(escape(printable(line)) for line in text.splitlines())}</td>" for text in texts)
    return f"<tr><td>{escape(name)}</td>{cells}</tr>"


def _row(outcome: Outcome, columns: tuple[tuple[str, str], ...]) -> str:
    sizes = lengths(outcome)
    before, after = sizes if sizes is not None else (None, None)
    saved = before - after if before is not None and after is not None else None
    signal = show_signal(outcome.signal) if outcome.signal is not None else ""
    cells: tuple[str | int | None, ...] = (
        outcome.source, outcome.status, outcome.command_line or outcome.executable or "", signal, before, after, saved,
        outcome.undecided_bytes or None, outcome.wrapping, outcome.rule or "", _why(outcome),
    )  # fmt: skip
    tds = [_cell(value, css, outcome, name) for value, (name, css) in zip(cells, columns, strict=True)]
    return f'<tr data-status="{escape(outcome.status)}">{"".join(tds)}</tr>'


def _why(outcome: Outcome) -> str:
    """The reason, and what is wrong with the core where the reason does not say that."""
    if not outcome.damage or outcome.damage in outcome.reason:
        return outcome.reason
    return "; ".join(filter(None, (outcome.reason, outcome.damage)))


def _cell(value: str | int | None, css: str, outcome: Outcome, name: str) -> str:
    if css == "number":
        number = -1 if value is None else value
        shown = show_size(int(number)) if value is not None else ""
        return f'<td class="number" data-name="{name}" data-value="{number}">{shown}</td>'
    css = f"status {escape(outcome.status)}" if css == "status" else css
    return f'<td class="{css}" data-name="{name}">{escape(printable(str(value)))}</td>'
