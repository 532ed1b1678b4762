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

from corefilt.cli.commands import COMMANDS
from corefilt.cli.examples import EXAMPLES
from corefilt.cli.generate.files import installed, manual_pages
from corefilt.filterbits import NAMES

PAGES = manual_pages()
EVERY_PAGE = pytest.mark.parametrize("name", PAGES)


def test_every_generated_file_is_installed_as_it_would_be_now() -> None:
    there = {str(path): path for path in metadata.files("corefilt") or []}
    if not any("share/man" in path for path in there):
        pytest.skip("an editable or sanitized installation has no files under share/")
    for name, text in installed().items():
        (path,) = (path for path in there if path.endswith(name))
        assert there[path].locate().read_text() == text


def test_the_generator_writes_below_a_directory(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "corefilt.cli.generate", tmp_path], check=True)
    found = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == installed()


def test_the_page_of_the_command_has_everything_that_help_has() -> None:
    done = corefilt("man")
    text = done.out.decode().replace("\\-", "-")
    assert (done.code, done.err) == (0, ())
    for name, (_, purpose) in COMMANDS.items():
        for action in import_module(f"corefilt.cli.{name}").parser()._actions:
            for flag in action.option_strings:
                assert f"\\fB{flag}\\fR" in text
        assert f"corefilt {name}" in text or name == "filter", purpose
    codes = text.partition("EXIT STATUS")[2]
    assert re.findall(r"\\fB(\d)\\fR", codes) == ["0", "1", "2", "3", "4"]
    assert "COREFILT_ENGINE" in text and "NO_COLOR" in text
    for lines in EXAMPLES.values():
        assert [line for line, _ in lines if line not in text] == []
    for name, bit in NAMES.items():
        assert re.search(rf"^\d +{int(bit):#x}  {name} ", text, re.MULTILINE)
    assert ".SH EXAMPLES" in text and ".SH FILES" in text and "/etc/corefilt.conf" in text


@EVERY_PAGE
def test_man_prints_a_page_that_formatters_have_nothing_to_say_about(name: str, tmp_path: Path) -> None:
    text = corefilt("man", name).out
    assert text.startswith(f".TH {name.upper()} {PAGES[name]} ".encode())
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed")
    page = tmp_path / f"{name}.{PAGES[name]}"
    page.write_bytes(text)
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True, text=True, check=False)
    # A date would make two builds of one version differ.
    assert [line for line in done.stdout.splitlines() if "missing date" not in line] == []
    shown = subprocess.run(["mandoc", "-T", "utf8", page], capture_output=True, text=True, check=True).stdout
    shown = re.sub(".\b", "", shown)
    assert "\\" not in shown and "`" not in shown
    assert re.search(rf"^{name.upper()}\({PAGES[name]}\)", shown)


def test_pages_name_each_other_and_no_file_that_man_cannot_show() -> None:
    others = {f"{name}({section})" for name, section in PAGES.items() if name != "corefilt"}
    text = corefilt("man").out.decode().replace("\\-", "-")
    assert others <= set(text.partition("SEE ALSO")[2].replace(",", "").split())
    for name in PAGES:
        text = corefilt("man", name).out.decode().replace("\\-", "-")
        assert re.findall(r"(?<![/\w-])[a-z-]+\.md", text) == []
    assert "corefilt-retention(7)" in corefilt("man", "corefilt-handle").out.decode().replace("\\-", "-")


def test_a_page_that_there_is_not() -> None:
    assert_usage(corefilt("man", "gdb"), "'gdb'", "corefilt")


def test_man_into_a_closed_pipe_is_no_fault() -> None:
    assert_error(corefilt("man", "corefilt", "too-many"), "too-many", code=2)


def test_the_map_has_every_package_and_nothing_else() -> None:
    there = {m.name for m in pkgutil.iter_modules(import_module("corefilt").__path__) if m.ispkg}
    packages = (ROOT / "CONTRIBUTING.md").read_text().partition("## The packages")[2]
    rows = re.findall(r"^\| `(\w+)/` \| (.+) \|$", packages, flags=re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(there)


def test_the_pages_of_the_handler_have_every_setting() -> None:
    from corefilt.handler.config import KEYS

    text = "".join((ROOT / "docs" / name).read_text() for name in ("handler.md", "retention.md"))
    rows = re.findall(r"^\| (`[a-z-]+`(?:, `[a-z-]+`)*) \| ", text, flags=re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([a-z-]+)`", row)}
    assert set(KEYS) - {"serve", "rule"} <= named
    from corefilt.handler.program_rules import _KEYS, ACTIONS

    assert {*_KEYS, *ACTIONS} - {"action", "size"} <= named


def test_the_sample_of_the_settings_has_every_key_and_each_can_be_set() -> None:
    from importlib.resources import files

    from corefilt.handler.config import KEYS, Config, parse_config

    text = files("corefilt.handler").joinpath("samples/corefilt.conf").read_text()
    assert vars_of(parse_config(text.encode(), "sample")) == vars_of(Config())
    # Uncommented, all of it is settings; two keys exclude each other only where they say something.
    lines = [line.removeprefix("#") for line in text.splitlines() if re.match(r"#(\[|[a-z-]+ = )", line)]
    config = parse_config("\n".join(lines).encode().replace(b'filter = "default"\n', b"", 1), "sample")
    assert {re.match(r"\[*([a-z-]+)", line)[1] for line in lines} >= set(KEYS)  # type: ignore[index]
    assert len(config.rules) == 5 and config.max_use == 10 << 30 and config.keep_free == (0, 15)


def vars_of(config: object) -> dict[str, object]:
    return {name: getattr(config, name) for name in type(config).__slots__}  # type: ignore[attr-defined]


def test_the_units_of_vacuum_are_those_of_the_docs() -> None:
    from importlib.resources import files

    folder = files("corefilt.handler").joinpath("samples")
    service, timer = (folder.joinpath(f"corefilt-vacuum.{kind}").read_text() for kind in ("service", "timer"))
    docs = (ROOT / "docs" / "retention.md").read_text()
    (line,) = [line for line in service.splitlines() if line.startswith("ExecStart=")]
    assert line in docs and "[Install]" in timer and "OnCalendar=" in timer
    command = line.partition("/corefilt ")[2].split()
    import_module(f"corefilt.cli.{command[0]}").parser().parse_args(command[1:])


def test_the_page_of_policies_has_every_action_and_condition() -> None:
    from corefilt.batching.policy import toml_file as policyfile
    from corefilt.batching.policy.policy import ACTIONS

    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs" / "policies.md").read_text(), flags=re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([a-z]+)`", row)}
    assert named >= set(ACTIONS)
    with pytest.raises(policyfile.PolicyError) as refused:
        policyfile.parse_policy(b'[[rule]]\nname = "x"\naction = "keep"\nwhen.nothing = 1\n', "here")
    conditions = set(re.findall(r"[a-z]+", refused.value.hint.partition("are ")[2]))
    assert conditions and conditions <= named
