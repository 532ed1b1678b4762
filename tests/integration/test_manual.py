"""Manual pages: made of what --help says and of the documentation, installed, and printed by `corefilt man`."""

import pkgutil
import re
import shutil
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path

import pytest
from support.pages import ROOT
from support.run import assert_error, assert_usage, corefilt

from corefilt.cli import COMMANDS
from corefilt.cli.datafiles import manual_pages

PAGES = sorted(ROOT.glob("share/man/man?/*"))
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def test_share_is_what_the_parsers_and_the_documentation_say() -> None:
    done = subprocess.run([sys.executable, ROOT / "manual", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run `python manual`: {done.stderr}"


def test_every_file_of_share_is_installed() -> None:
    there = {str(path) for path in metadata.files("corefilt") or []}
    for path in ROOT.glob("share/**/*"):
        assert path.is_dir() or any(name.endswith(str(path.relative_to(ROOT))) for name in there), path


def test_the_page_of_the_command_has_everything_that_help_has() -> None:
    done = corefilt("man")
    text = done.out.decode().replace("\\-", "-")
    assert (done.code, done.err) == (0, ())
    for name, (_, purpose) in COMMANDS.items():
        for action in import_module(f"corefilt.cli.{name}").parser()._actions:
            for flag in action.option_strings:
                assert f"\\fB{flag}\\fR" in text
        assert f"corefilt {name}" in text or name == "filter", purpose
    codes = text.partition("EXIT CODES")[2]
    assert re.findall(r"\\fB(\d)\\fR", codes) == ["0", "1", "2", "3", "4"]
    assert "COREFILT_ENGINE" in text and "NO_COLOR" in text


@EVERY_PAGE
def test_man_prints_the_installed_page(page: Path) -> None:
    assert corefilt("man", page.stem).out == page.read_bytes()
    assert page.stem in manual_pages()


@EVERY_PAGE
def test_formatters_have_nothing_to_say_about_it(page: Path) -> None:
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed")
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True, text=True, check=False)
    # A date would make two builds of one version differ.
    assert [line for line in done.stdout.splitlines() if "missing date" not in line] == []
    shown = subprocess.run(["mandoc", "-T", "utf8", page], capture_output=True, text=True, check=True).stdout
    text = re.sub(".\b", "", shown)
    assert "\\" not in text and "`" not in text
    assert re.search(rf"^{page.stem.upper()}\({page.suffix[1:]}\)", text)


def test_a_page_that_there_is_not() -> None:
    assert_usage(corefilt("man", "gdb"), "'gdb'", "corefilt")


def test_an_installation_without_pages(tmp_path: Path) -> None:
    package = import_module("corefilt").__path__[0]
    bare = tmp_path / "bare"
    shutil.copytree(package, bare / "corefilt")
    script = f"import sys; sys.path[:] = [{str(bare)!r}, *(p for p in sys.path if 'site-packages' not in p)]\n"
    script += "from corefilt.cli import main; sys.exit(main(['man']))"
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("corefilt: ") and "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_page_that_was_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from corefilt.cli import datafiles as share
    from corefilt.errors import InputError

    monkeypatch.setattr(metadata.PackagePath, "locate", lambda path: tmp_path / path.name)
    with pytest.raises(InputError, match=r"corefilt\.1: No such file"):
        share.read("man", "corefilt")


def test_man_into_a_closed_pipe_is_no_fault() -> None:
    assert_error(corefilt("man", "corefilt", "too-many"), "too-many", code=2)


def test_the_map_has_every_room_and_nothing_else() -> None:
    package = import_module("corefilt").__path__
    found = list(pkgutil.walk_packages(package, "corefilt."))
    there = {module.name for module in found if module.name.count(".") == 1 or module.ispkg}
    rooms = (ROOT / "CONTRIBUTING.md").read_text().partition("## The rooms")[2]
    rows = re.findall(r"^\| `([\w/]+)` \| (.*) \|$", rooms, flags=re.MULTILINE)
    named = {f"corefilt.{name.rstrip('/').replace('/', '.')}" for name, _ in rows}
    assert named == there | {"corefilt.__init__"}
    assert all(job for _, job in rows)


def test_the_page_of_the_handler_has_every_setting() -> None:
    from corefilt.handler.config import Config

    text = (ROOT / "docs" / "handler.md").read_text()
    rows = set(re.findall(r"^\| `([a-z-]+)` \| ", text, flags=re.MULTILINE))
    assert {slot.replace("_", "-") for slot in Config.__slots__} - {"serve"} == rows


def test_the_page_of_policies_has_every_action_and_condition() -> None:
    from corefilt.batch.policy import toml_file as policyfile
    from corefilt.batch.policy.policy import ACTIONS

    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs" / "policies.md").read_text(), flags=re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([a-z]+)`", row)}
    assert named >= set(ACTIONS)
    with pytest.raises(policyfile.PolicyError) as refused:
        policyfile.parse_policy('[[rule]]\nname = "x"\naction = "keep"\nwhen.nothing = 1\n', "here")
    conditions = set(re.findall(r"[a-z]+", refused.value.hint.partition("are ")[2]))
    assert conditions and conditions <= named
