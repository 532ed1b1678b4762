"""What packages install beside the wheel: settings, units, the line for core_pattern, the libraries that they bring."""

import re
import shlex
import shutil
import subprocess
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from support.pages import ROOT

from corefilt.cli.commands import COMMANDS
from corefilt.handler import config
from corefilt.handler.admin.install import KERNELS_OWN
from corefilt.handler.admin.sysctl import PATTERN, PIPE_LIMIT, DropIn
from corefilt.handler.config import Config, parse_config
from corefilt.handler.pattern import handler_line
from corefilt.handler.serve import rules
from corefilt.handler.serve.rules import parse_serve_rules

PACKAGING = ROOT / "packaging"
UNITS = sorted((PACKAGING / "units").iterdir())
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
# The units are for this version on (Debian 12's); an older one knows fewer settings.
SYSTEMD = 252
# Of 10; issue by issue systemd-analyze counts what a service could do.
MOST_EXPOSED = 3.0


def sample() -> str:
    """The settings as a package installs them, with every key in force."""
    text = (PACKAGING / "corefilt.conf").read_text()
    return re.sub(r"^#(?=\[|[a-z-]+ = )", "", text, flags=re.MULTILINE)


def test_settings_are_commented_out_as_they_are_installed() -> None:
    assert tomllib.loads((PACKAGING / "corefilt.conf").read_text()) == {}


def test_settings_have_every_key_with_its_default() -> None:
    values = tomllib.loads(sample())
    assert set(values) == set(config._KEYS)
    assert set(values["serve"]) == set(rules._KEYS)
    assert [set(rule) for rule in values["serve"]["rule"]] == [set(rules._RULE_KEYS)]
    # Two keys that exclude each other have their defaults by turns.
    for left_out in ("filter", "annotate-full"):
        text = "\n".join(line for line in sample().splitlines() if not line.startswith(f"{left_out} = "))
        parsed, plain = parse_config(text.encode(), "corefilt.conf"), Config()
        assert {name for name in Config.__slots__ if getattr(parsed, name) != getattr(plain, name)} == {"serve"}
    served, usual = parse_serve_rules(parsed.serve), parse_serve_rules({})
    assert {name for name in served.__slots__ if getattr(served, name) != getattr(usual, name)} == {"rules"}


def test_the_line_for_core_pattern_is_what_install_would_set() -> None:
    line = handler_line("/usr/lib/corefilt/bin/python3", pidfd=False)
    made = DropIn({PATTERN: line, PIPE_LIMIT: b"16"}, KERNELS_OWN).text()
    assert (PACKAGING / "60-corefilt.conf").read_bytes() == made


def commands(unit: Path) -> list[list[str]]:
    """What a service starts, with the values that its Environment= has."""
    values: dict[str, str] = {}
    found = []
    for line in unit.read_text().splitlines():
        name, _, value = line.partition("=")
        if name == "Environment":
            values |= dict(pair.partition("=")[::2] for pair in shlex.split(value))
        if name == "ExecStart":
            found.append([part for word in value.split() for part in values.get(word.lstrip("$"), word).split()])
    return found


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_units_start_commands_that_there_are(unit: Path) -> None:
    ((program, command, *arguments),) = commands(unit)
    assert program == "/usr/bin/corefilt" and command in COMMANDS
    import_module(f"corefilt.cli.{command}").parser().parse_intermixed_args(arguments)


def systemd_analyze(*arguments: str | Path) -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    version = re.search(r"systemd (\d+)", subprocess.run([program, "--version"], capture_output=True, text=True).stdout)
    if version is None or int(version[1]) < SYSTEMD:
        pytest.skip(f"systemd is older than {SYSTEMD}")
    done = subprocess.run([program, "--no-pager", *arguments], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_services_can_do_little(unit: Path) -> None:
    said = systemd_analyze("security", "--offline=true", unit)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found is not None, said
    assert float(found[1]) <= MOST_EXPOSED


def test_systemd_knows_every_setting_of_the_units() -> None:
    said = systemd_analyze("verify", "--man=no", *UNITS)
    # Where the package is not installed.
    lines = [line for line in said.splitlines() if "/usr/bin/corefilt is not executable" not in line]
    assert [line for line in lines if "corefilt" in line] == []


def test_every_library_that_is_asked_for_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked_for = [*project["dependencies"], *project["optional-dependencies"]["handler"]]
    pinned = re.findall(r"^([a-z0-9-]+)==", (PACKAGING / "requirements.txt").read_text(), re.MULTILINE)
    names = {re.split(r"[<>=;\[ ]", requirement)[0].replace(".", "-") for requirement in asked_for}
    assert names - set(pinned) == set()
