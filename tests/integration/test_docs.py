"""The commands of README.md and docs/ do what is said of them, and name only what there is."""

import re
import subprocess
from importlib import import_module
from pathlib import Path

import pytest
from support.pages import ELSEWHERE, EVERYWHERE, LANGUAGES, PAGES, ROOT, blocks, prepare, run, to_run

import corefilt
from corefilt.cli import COMMANDS as COMMANDS_OF_COREFILT

RUN_BY = {
    "fdpic.md": "integration/test_fdpic.py",
    "live.md": "integration/test_live.py",
    "tutorial.md": "kernel/test_docs.py",
}
"""Pages whose files and processes only the test of their subject can make; it runs them by ``support.pages.run``."""
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
COMMANDS = [page for page in PAGES if to_run(page) and page.name not in RUN_BY]


@pytest.mark.parametrize("page", COMMANDS, ids=lambda page: page.name)
def test_commands(page: Path, tmp_path: Path) -> None:
    prepare(page, tmp_path)
    run(page, tmp_path)


@EVERY_PAGE
def test_fences_say_what_becomes_of_them(page: Path) -> None:
    found = blocks(page)
    assert 2 * len(found) == len(re.findall(r"^ *```", page.read_text(), flags=re.MULTILINE))
    for block in found:
        assert block.language, f"line {block.line}: a block without a language is neither run nor known not to be"
        assert block.where in (EVERYWHERE, ELSEWHERE), f"line {block.line}: run where?"


@EVERY_PAGE
def test_what_cannot_be_run_here_can_be_read(page: Path) -> None:
    for block in blocks(page):
        if block.language in LANGUAGES and block.language != "python":
            for command, _ in block.commands():
                done = subprocess.run(["bash", "-n"], input=command.encode(), capture_output=True, check=False)
                assert done.returncode == 0, f"line {block.line}: {done.stderr.decode()}"


@EVERY_PAGE
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_pages_run_elsewhere_are() -> None:
    for page, test in RUN_BY.items():
        assert re.search(rf'\brun\(.*"{re.escape(page)}"', (ROOT / "tests" / test).read_text())


def test_the_two_commands_are_what_ci_runs() -> None:
    commands = re.findall(r"^    (python3 -m venv .*)$", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert len(commands) == 2
    script = (ROOT / ".ci" / "run").read_text()
    assert commands[1].replace("pip install ", "pip install --quiet ") in script


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    linked = re.findall(r"^- \[.*\]\(([\w-]+)\.(?:md|rst)\)", index.read_text(), flags=re.MULTILINE)
    pages = {page.stem for page in index.parent.iterdir() if page.suffix in (".md", ".rst")} - {"index"}
    assert sorted(linked) == sorted(pages)


def test_every_public_name_is_in_the_python_reference() -> None:
    reference = (ROOT / "docs" / "python-reference.rst").read_text()
    named = set(re.findall(r"^\.\. auto(?:function|class):: (\w+)$", reference, flags=re.MULTILINE))
    # Errors are listed as a module.
    assert named == set(corefilt.__all__) - {"CorefiltError"}


def test_every_command_is_in_the_list_of_commands() -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    named = {
        word
        for row in re.findall(r"^\| (`corefilt.*?) \|", page, flags=re.MULTILINE)
        for word in re.findall(r"\w+", row)
    }
    assert set(COMMANDS_OF_COREFILT) - {"filter"} <= named


def known_options() -> set[str]:
    """Return the options of all commands."""
    parsers = [import_module(f"corefilt.cli.{name}").parser() for name in COMMANDS_OF_COREFILT]
    return {flag for parser in parsers for action in parser._actions for flag in action.option_strings}


@EVERY_PAGE
def test_options_are_spelled_as_corefilt_knows_them(page: Path) -> None:
    """Also in what is not run: a unit, a manifest, a command for another machine, a word in the text."""
    known = known_options()
    text = page.read_text()
    lines = [line for block in blocks(page) for line in block.text.splitlines()]
    lines += [quoted for quoted in re.findall(r"`([^`\n]+)`", text) if quoted.startswith("corefilt ")]
    for line in lines:
        for command in re.findall(r"\bcorefilt ((?:(?! -- )[^|;&>])*)", line):
            assert set(re.findall(r"(?<!\S)--?[a-zA-Z][\w-]*", command)) <= known, line
