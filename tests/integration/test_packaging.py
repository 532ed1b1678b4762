"""What packages install beside modules: units, the line for core_pattern, the libraries that they bring."""

import re
import shlex
import shutil
import subprocess
import tomllib
from importlib import import_module
from importlib.resources import files
from pathlib import Path

import pytest
from support.pages import ROOT

from corefilt.cli.commands import COMMANDS
from corefilt.handler.admin.install import KERNELS_OWN
from corefilt.handler.admin.sysctl import PATTERN, PIPE_LIMIT, DropIn
from corefilt.handler.pattern import handler_line

PACKAGING = ROOT / "packaging"
SAMPLES = Path(str(files("corefilt.handler"))) / "samples"
UNITS = sorted(unit for unit in SAMPLES.iterdir() if unit.suffix != ".conf")
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
# The units are for this version on (Debian 12's); an older one knows fewer settings.
SYSTEMD = 252
# Of 10; issue by issue systemd-analyze counts what a service could do.
MOST_EXPOSED = 3.0


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
    assert program == "/opt/corefilt/bin/corefilt" and command in COMMANDS
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
    lines = [line for line in said.splitlines() if "/opt/corefilt/bin/corefilt is not executable" not in line]
    assert [line for line in lines if "corefilt" in line] == []


def test_every_library_that_is_asked_for_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked_for = [*project["dependencies"], *project["optional-dependencies"]["handler"]]
    pinned = re.findall(r"^([a-z0-9-]+)==", (PACKAGING / "requirements.txt").read_text(), re.MULTILINE)
    names = {re.split(r"[<>=;\[ ]", requirement)[0].replace(".", "-") for requirement in asked_for}
    assert names - set(pinned) == set()


def test_every_part_that_is_tried_is_described_and_has_its_programs() -> None:
    script = (PACKAGING / "try.sh").read_text()
    listed = re.search(r"^#   PART: (.*) \(all\)$", script, re.MULTILINE)
    needed = re.search(r"^# Needs (.*?),\n# and ", script, re.MULTILINE | re.DOTALL)
    assert listed is not None and needed is not None
    parts = listed[1].split()
    assert set(parts) <= set(re.findall(r"^(\w+)\(\) \{", script, re.MULTILINE))
    rows = re.findall(r"^\| (`.*?) \|", (PACKAGING / "README.md").read_text(), re.MULTILINE)
    assert set(parts) <= set(re.findall(r"`(\w+)`", " ".join(rows)))
    nightly = (ROOT / ".ci/nightly").read_text()
    programs = set(re.findall(r"[\w-]+", needed[1].replace(" and ", " "))) - {"gcc"}
    assert programs <= set(re.search(r"try_packages\(\) \{\n  packages (.*) &&", nightly)[1].split())  # type: ignore[index]


def test_nobody_is_told_to_install_corefilt_by_a_name_that_anybody_could_register() -> None:
    package = Path(str(files("corefilt")))
    texts = [*package.rglob("*.py"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    told = [
        f"{path.name}: {found[0]}"
        for path in texts
        for found in re.finditer(r"(?:pip|pipx|uv tool) install (?:-\S+ )*['\"]?corefilt\b[^./_-].*", path.read_text())
    ]
    assert told == []
