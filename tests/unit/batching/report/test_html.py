"""The HTML report: its figures are the JSON's, hostile names are texts, and a browser finds nothing to complain of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.browser import Browser, browser, needs_chromium

from corefilt.batching.outcome import STATUSES, Outcome
from corefilt.batching.report.html import About, page
from corefilt.batching.report.svg import bars, shortened
from corefilt.batching.report.totals import Sum, largest, lengths, total
from corefilt.documents.strict_json import as_json
from corefilt.sizes import show_size

HOSTILE = "/tmp/</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>\u202e\x1b[2J\udcff\"'&amp;"
ABOUT = About("0x31 (private-anonymous)", "2026-11-28 02:40 UTC")


def outcomes() -> list[Outcome]:
    """One of each status, with names that want to be more than names."""
    gib = 1 << 30
    return [
        Outcome(
            "/cores/a", "filtered", input_bytes=4 * gib, output_bytes=gib, executable="/bin/postgres", signal=11,
            allocated_before=gib, allocated_after=gib // 4, undecided_bytes=4096, rule="databases",
            kinds={"shared-anonymous": (3 * gib, 0), "private-anonymous": (gib, gib)},
        ),
        Outcome(HOSTILE, "filtered", input_bytes=1000, output_bytes=10, executable=HOSTILE, rule=HOSTILE),
        Outcome("/cores/b", "unchanged", input_bytes=77, output_bytes=77, signal=7),
        Outcome("/cores/c", "skipped", reason="is not a core <b>at all</b>"),
        Outcome("/cores/d", "failed", input_bytes=9000, reason=HOSTILE),
        Outcome("/cores/e", "kept", input_bytes=5 * gib, executable="/bin/java", rule="java"),
        Outcome(
            "/cores/f.tar!core", "deleted", input_bytes=gib, wrapping="zstd", allocated_before=100, rule="old",
            kinds={"private-anonymous": (gib, gib)},
        ),
    ]  # fmt: skip


class Reader(HTMLParser):
    """What a page holds: its tags and links, the text of its scripts, and that of its tables by row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.rows: list[list[str]] = []
        self._within = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag == "script":
            self.scripts.append("")
        elif tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append("")
        self._within = tag

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within == "script":
            self.scripts[-1] += data
        elif self._within == "td":
            self.rows[-1][-1] += data


def embedded(reader: Reader) -> list[object]:
    return [json.loads(line) for line in reader.scripts[0].strip().splitlines()]


def test_what_has_grown_is_told_as_such() -> None:
    more = [
        Outcome(
            "/a",
            "filtered",
            input_bytes=100 << 10,
            output_bytes=112 << 10,
            executable="/a",
            rule="all",
            allocated_before=152 << 10,
            allocated_after=164 << 10,
            kinds={"private-anonymous": (10, 11)},
        )
    ]
    text = page(more, ABOUT)
    assert text.count(">-12.0 KiB<") == 3 and "12 % more<" in text and "10 % more<" in text
    assert not re.search(r"-\d+ (B|%)", text)


def test_a_column_of_command_lines_is_called_so() -> None:
    """The bars above the table are by executable in either case."""
    assert '<button type="button">executable</button>' in page(outcomes(), ABOUT)
    text = page([*outcomes(), Outcome("/cores/g", "filtered", executable="/bin/x", command_line="x --now")], ABOUT)
    assert '<button type="button">command line</button>' in text and 'data-name="command line">x --now<' in text
    assert '<button type="button">executable</button>' not in text and "By executable" in text


# --- sums ---------------------------------------------------------------------------------------------------


def test_totals() -> None:
    gib = 1 << 30
    totals = total(outcomes())
    assert totals.statuses == {"filtered": 2, **dict.fromkeys(STATUSES[1:], 1)}
    assert (totals.cores.before, totals.cores.after) == (10 * gib + 10077, 6 * gib + 9087)
    assert (totals.stored.before, totals.stored.after) == (gib + 100, gib // 4)
    assert totals.executables["/bin/postgres"] == Sum(1, 4 * gib, gib)
    assert totals.executables["/bin/java"] == Sum(1, 5 * gib, 5 * gib)
    assert totals.kinds["private-anonymous"] == Sum(2, 2 * gib, gib)
    assert totals.rules["old"] == Sum(1, gib, 0)
    assert totals.undecided == 4096


OUTCOME = st.builds(
    Outcome,
    st.text(),
    st.sampled_from(STATUSES),
    reason=st.text(),
    rule=st.none() | st.text(),
    input_bytes=st.none() | st.integers(0, 1 << 50),
    output_bytes=st.none() | st.integers(0, 1 << 50),
    allocated_before=st.none() | st.integers(0, 1 << 50),
    allocated_after=st.none() | st.integers(0, 1 << 50),
    executable=st.none() | st.text(),
    signal=st.none() | st.integers(1, 64),
    kinds=st.dictionaries(st.text(), st.tuples(st.integers(0, 1 << 50), st.integers(0, 1 << 50)), max_size=3),
)


@settings(max_examples=30)
@given(st.lists(OUTCOME, max_size=8))
def test_every_way_to_part_the_cores_has_the_same_sum(found: list[Outcome]) -> None:
    totals = total(found)
    for parts in (totals.executables, totals.rules, dict(largest(totals.executables, 3))):
        assert sum(part.before for part in parts.values()) == totals.cores.before
        assert sum(part.after for part in parts.values()) == totals.cores.after
        assert sum(part.count for part in parts.values()) == totals.cores.count
    assert sum(totals.statuses.values()) == len(found)


def test_the_largest_come_first_and_the_rest_together() -> None:
    sums = {str(n): Sum(1, n, n // 2) for n in range(10)}
    assert [name for name, _ in largest(sums, 10)] == [str(n) for n in range(9, -1, -1)]
    assert largest(sums, 3) == [("9", Sum(1, 9, 4)), ("8", Sum(1, 8, 4)), ("8 others", Sum(8, 28, 12))]


# --- the page without a browser -----------------------------------------------------------------------------


def test_the_embedded_json_is_that_of_the_json_lines() -> None:
    reader = Reader(page(outcomes(), ABOUT))
    assert embedded(reader) == [json.loads(as_json(outcome.as_line())) for outcome in outcomes()]


@settings(max_examples=40)
@given(st.lists(OUTCOME, max_size=4), st.text())
def test_no_name_is_more_than_a_text(found: list[Outcome], words: str) -> None:
    text = page(found, About(words, "now"))
    text.encode()
    reader = Reader(text)
    assert len(reader.scripts) == 2
    assert set(reader.tags) <= set(Reader(page(outcomes(), ABOUT)).tags)
    assert embedded(reader) == [json.loads(as_json(outcome.as_line())) for outcome in found]
    assert reader.links == ["data:,"]


def test_hostile_names_are_shown_escaped() -> None:
    text = page(outcomes(), ABOUT)
    rows = {row[0]: row for row in Reader(text).rows if len(row) > 5}
    shown = r"""/tmp/</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>\u202e\x1b[2J\xff"'&amp;"""
    assert rows[shown][2] == shown
    assert rows["/cores/d"][-1] == shown
    assert "\u202e" not in text
    assert "\x1b" not in text


def test_a_row_has_the_figures_of_its_outcome() -> None:
    rows = {row[0]: row for row in Reader(page(outcomes(), ABOUT)).rows if len(row) > 5}
    assert rows["/cores/a"] == [
        "/cores/a", "filtered", "/bin/postgres", "SIGSEGV", "4.00 GiB", "1.00 GiB", "3.00 GiB", "4.00 KiB", "raw",
        "databases", "",
    ]  # fmt: skip
    assert rows["/cores/c"][3:8] == [""] * 5
    assert rows["/cores/e"][4:7] == ["5.00 GiB", "5.00 GiB", "0 B"]
    assert rows["/cores/f.tar!core"][4:7] == ["1.00 GiB", "0 B", "1.00 GiB"]


def test_rules_have_a_table_where_there_are_any() -> None:
    assert 'id="rules"' in page(outcomes(), ABOUT)
    assert 'id="rules"' not in page([Outcome("/cores/b", "unchanged", input_bytes=1)], ABOUT)


def test_an_empty_archive_has_a_page() -> None:
    text = page([], ABOUT)
    assert embedded(Reader(text)) == []
    assert ">nothing<" in text


def test_a_dry_run_is_told() -> None:
    assert "would do" in page([], About("0x33", "now", dry_run=True))
    assert "would do" not in page([], ABOUT)


def test_bars_are_as_long_as_their_bytes() -> None:
    picture = bars([("a", Sum(1, 1000, 250)), ("b", Sum(1, 500, 0)), ("c", Sum(1, 1, 1))], "x")
    widths = re.findall(r'class="(before|after)"[^>]* width="([\d.]+)"', picture)
    assert widths == [("before", "560.0"), ("after", "140.0"), ("before", "280.0"), ("before", "2.0"), ("after", "2.0")]


@given(st.text(max_size=100), st.integers(2, 60))
def test_a_shortened_name_keeps_its_ends(text: str, most: int) -> None:
    short = shortened(text, most)
    assert len(short) == min(len(text), most)
    if len(text) > most:
        front, _, end = short.partition("\u2026") if "\u2026" not in text else ("", "", "")
        assert text.startswith(front)
        assert text.endswith(end)


# --- the page in a browser ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def opened(chromium: Browser, tmp_path: Path) -> Browser:
    (tmp_path / "page.html").write_text(page(outcomes(), ABOUT))
    chromium.open(tmp_path / "page.html")
    return chromium


def column(opened: Browser, index: int) -> list[str]:
    rows = "Array.from(document.querySelectorAll('#cores tbody tr')).filter(row => !row.hidden)"
    texts: list[str] = opened.evaluate(f"{rows}.map(row => row.cells[{index}].textContent)")
    return texts


@needs_chromium
def test_a_browser_shows_it_without_errors_and_asks_for_nothing_else(opened: Browser) -> None:
    assert opened.evaluate("document.title")
    assert opened.errors == []
    assert [url for url in opened.requests if not url.startswith(("data:", "file:"))] == []
    assert sum(url.startswith("file:") for url in opened.requests) == 1


@needs_chromium
def test_the_figures_on_the_page_are_those_of_the_json(opened: Browser) -> None:
    lines = opened.evaluate("document.getElementById('outcomes').textContent").strip().splitlines()
    found = [Outcome.of_dict(json.loads(line)) for line in lines]
    assert found == [Outcome.of_dict(json.loads(as_json(outcome.as_line()))) for outcome in outcomes()]
    # Failures stand first in the table.
    ordered = sorted(found, key=lambda outcome: outcome.status != "failed")
    sizes = [pair for outcome in found if (pair := lengths(outcome)) is not None]
    tiles = opened.evaluate("Array.from(document.querySelectorAll('.tile .much')).map(tile => tile.textContent)")
    assert tiles[:3] == [str(len(found)), show_size(sum(b for b, _ in sizes)), show_size(sum(a for _, a in sizes))]
    figures = opened.evaluate(
        "Array.from(document.querySelectorAll('svg')).map(svg => Array.from(svg.querySelectorAll('g'))"
        ".map(g => [g.querySelector('.name').textContent, g.querySelector('.figure').textContent]))"
    )
    by_kind: dict[str, list[int]] = {}
    for outcome in found:
        for name, (before, after) in outcome.kinds.items():
            entry = by_kind.setdefault(name, [0, 0])
            entry[0] += before
            entry[1] += 0 if outcome.status == "deleted" else after
    assert dict(figures[1]) == {
        name: f"{show_size(after)} of {show_size(before)}" for name, (before, after) in by_kind.items()
    }
    assert ["/bin/postgres", "1.00 GiB of 4.00 GiB"] in figures[0]
    assert column(opened, 4) == [show_size(b[0]) if (b := lengths(o)) is not None else "" for o in ordered]


@needs_chromium
def test_the_table_is_sorted_and_filtered(opened: Browser) -> None:
    def put(name: str, value: str) -> None:
        opened.evaluate(f"{name}.value = '{value}'; {name}.dispatchEvent(new Event('input'))")

    head = "document.querySelectorAll('#cores th button')"
    opened.evaluate(f"{head}[4].click()")
    assert column(opened, 4) == ["", "77 B", "1000 B", "8.79 KiB", "1.00 GiB", "4.00 GiB", "5.00 GiB"]
    opened.evaluate(f"{head}[4].click()")
    assert column(opened, 4)[:2] == ["5.00 GiB", "4.00 GiB"]
    assert opened.evaluate("document.querySelector('th[aria-sort]').getAttribute('aria-sort')") == "descending"
    opened.evaluate(f"{head}[1].click()")
    assert column(opened, 1) == sorted(outcome.status for outcome in outcomes())
    put("words", "POSTGRES")
    assert column(opened, 0) == ["/cores/a"]
    assert opened.evaluate("shown.value") == f"1 of {len(outcomes())}"
    put("words", "")
    put("document.getElementById('status')", "failed")
    assert column(opened, 0) == ["/cores/d"]
    assert opened.errors == []


@needs_chromium
@pytest.mark.parametrize(("scheme", "light"), [("light", True), ("dark", False)])
def test_it_follows_the_colour_scheme(scheme: str, light: bool, chromium: Browser, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page(outcomes(), ABOUT))
    chromium.open(tmp_path / "page.html", scheme=scheme)
    colours = chromium.evaluate(
        "[document.body, document.querySelector('.tile .much')].map(e => getComputedStyle(e))"
        ".map((s, i) => i ? s.color : s.backgroundColor)"
    )
    ground, ink = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours)
    assert (ground > ink) == light
    assert chromium.errors == []


# What is wider than its place, and so cut off or behind a scroll bar; a hidden one is nobody's trouble.
CLIPPED = """
Array.from(document.querySelectorAll("body, body *")).filter(function (e) {
  const box = e.getBoundingClientRect();
  const seen = box.width > 0 && getComputedStyle(e).display !== "inline" && !(e instanceof SVGElement);
  return seen && (e.scrollWidth > e.clientWidth + 1 || box.right > innerWidth + 1 || box.left < -1)
    && !["INPUT", "SELECT"].includes(e.tagName);
}).map(function (e) { return e.tagName + "." + e.className + " " + e.scrollWidth + ">" + e.clientWidth; }).join()
"""


@needs_chromium
def test_nothing_is_cut_off_on_a_screen_and_a_phone(chromium: Browser, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(page(outcomes(), ABOUT))
    for width in (1280, 390):
        chromium.open(path, width=width)
        assert chromium.evaluate("innerWidth") == width
        assert chromium.evaluate(CLIPPED) == ""
        assert chromium.errors == []


def test_failures_stand_first_then_what_is_damaged() -> None:
    found = [*outcomes(), Outcome("/cores/cut", "filtered", damage="the core is truncated: 1 bytes are missing")]
    rows = [row for row in Reader(page(found, ABOUT)).rows if len(row) == 11]
    assert [row[0] for row in rows[:3]] == ["/cores/d", "/cores/cut", "/cores/a"]
    assert rows[1][-1] == "the core is truncated: 1 bytes are missing"


def test_the_head_says_where_and_from_what() -> None:
    about = About("0x31", "2026-11-28 02:40 UTC", host="web<1>", sources=["/var/crash"])
    assert "did on web&lt;1&gt;, 2026-11-28 02:40 UTC; from /var/crash" in page(outcomes(), about)
