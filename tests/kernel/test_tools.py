"""What debuggers show of filtered cores is what docs/tools.md says, for the versions that it names."""

import re
from pathlib import Path

import pytest
from kernel.programs import CannotStartError
from kernel.tools import CUTS, PROCESSES, VERSIONS, answers, version
from support.pages import ROOT

PAGE = (ROOT / "docs" / "tools.md").read_text()


def documented(name: str) -> dict[tuple[str, str], list[str]]:
    """The rows of a process's table, by tool and what is asked."""
    section = PAGE.partition(f"### {name}\n")[2].partition("\n### ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", section, re.M)]
    assert rows[0][2:] == list(CUTS)
    return {(row[0], row[1]): row[2:] for row in rows[2:] if row[0]}


@pytest.mark.parametrize("name", PROCESSES)
def test_every_question_has_a_row(name: str) -> None:
    rows = documented(name)
    assert list(rows) == [(question.tool, question.shows) for question in PROCESSES[name].questions]
    assert {cell for row in rows.values() for cell in row} <= {"yes", "in part", "no", "-"}


@pytest.mark.slow
@pytest.mark.parametrize("name", PROCESSES)
def test_tools_show_what_the_page_says(name: str, cores: None, tmp_path: Path) -> None:
    known = {tool: re.search(rf"\b{tool}\s(\d[\w.]*\w)", PAGE)[1] for tool in VERSIONS}
    try:
        _, shown = answers(name, tmp_path)
    except CannotStartError as error:
        pytest.skip(str(error))
    rows = documented(name)
    found = {
        (question.tool, question.shows): list(cells.values())
        for question, cells in shown.items()
        if version(question.tool) == known[question.tool]
    }
    if not found:
        pytest.skip("no tool of the versions that the page names")
    for key, cells in found.items():
        # Of some cores jhsdb shows ZGC's heap, and of most not even of the full one.
        if set(rows[key]) != {"-"}:
            assert cells == rows[key], key
