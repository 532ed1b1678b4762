"""Cores of real programs, cut to fit: gdb and elfutils show the same of them as of the whole core."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from kernel.dumps import run_corefilt
from kernel.programs import PATIENCE, CannotStartError
from kernel.victims import VICTIMS, ours

import corefilt
from corefilt.errors import FitError

SIZES = ("smallest", "minimal", *(pytest.param(size, marks=pytest.mark.slow) for size in (1 << 20, 16 << 20)))


@dataclass(frozen=True)
class Victim:
    """A program and its core, and what readers show of that."""

    program: str
    core: Path
    shown: dict[str, str]


def shown(program: str, core: Path) -> dict[str, str]:
    """What gdb and elfutils say of a core, warnings included, by the tool's name."""
    gdb = [f"-ex={command}" for command in ("set debuginfod enabled off", "set width 0", "thread apply all bt",
                                            "info sharedlibrary")]  # fmt: skip
    commands = {
        "gdb": ["gdb", "-nx", "-batch", *gdb, program, str(core)],
        "eu-stack": ["eu-stack", "-n", "0", "-e", program, "--core", str(core)],
        "eu-unstrip": ["eu-unstrip", "-n", "--core", str(core)],
    }
    said = {}
    for name, command in commands.items():
        if shutil.which(name):
            done = subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE)
            said[name] = (done.stdout + done.stderr).decode(errors="replace").replace(str(core), "CORE")
    return said


# To make PostgreSQL's cluster, and to ask gdb about a JVM, takes longer than all other crashes. gdb walks the 8 MiB of
# a stack that overflowed as long in each of three programs.
LONG = ("java", "postgresql", "overflow in a thread", "overflow without handler")
CRASHES = (
    *(name for name in VICTIMS if name not in LONG),
    *(pytest.param(name, marks=pytest.mark.slow) for name in LONG),
)


@pytest.fixture(scope="module", params=CRASHES)
def victim(request: pytest.FixtureRequest, cores: None, tmp_path_factory: pytest.TempPathFactory) -> Victim:
    """Let a program die, and look at its whole core."""
    if not shutil.which("gdb") and not shutil.which("eu-stack"):
        pytest.skip("no gdb and no eu-stack in PATH")
    folder = tmp_path_factory.mktemp("victim")
    request.addfinalizer(lambda: shutil.rmtree(folder))
    try:
        program, core = VICTIMS[request.param](folder)
    except CannotStartError as error:
        pytest.skip(str(error))
    return Victim(program, core, shown(program, core))


def smallest(core: Path) -> int:
    """The size that the error names."""
    with pytest.raises(FitError) as caught:
        corefilt.filter(core, os.devnull, filter="all", fit=0)
    return caught.value.smallest


@pytest.mark.parametrize("size", SIZES)
def test_readers_show_the_same(victim: Victim, size: str | int, tmp_path: Path) -> None:
    """Every frame of every thread, every library and build-id, and not a warning more."""
    least = smallest(victim.core)
    limit = least if size == "smallest" else size
    out = tmp_path / "small"
    if size == "minimal":
        report = corefilt.filter(victim.core, out, filter="all", minimal=True, sync=False)
    elif int(limit) < least:
        with pytest.raises(FitError, match=f"works is {least}"):
            corefilt.filter(victim.core, out, filter="all", fit=limit)
        return
    else:
        report = corefilt.filter(victim.core, out, filter="all", fit=limit, sync=False)
        assert out.stat().st_size <= int(limit)
    assert report.fit is not None
    assert report.fit.whole == report.fit.threads > 0
    assert shown(victim.program, out) == victim.shown


def test_no_kind_is_mistaken(victim: Victim, tmp_path: Path) -> None:
    """What a part of a mapping could be, the mapping could be, wherever the fitted core is certain."""
    corefilt.filter(victim.core, tmp_path / "small", filter="all", minimal=True, sync=False)
    with corefilt.open(victim.core) as core:
        whole = {mapping.start: mapping for mapping in core.mappings}
    with corefilt.open(tmp_path / "small") as core:
        parts = list(core.mappings)
    starts = sorted(whole)
    at = -1
    wrong = []
    for part in parts:
        while at + 1 < len(starts) and starts[at + 1] <= part.start:
            at += 1
        mapping = whole[starts[at]]
        if part.certainty in ("exact", "inferred") and part.kind not in {mapping.kind, *mapping.finding.others()}:
            wrong.append(f"{part.start:#x}: {mapping.kind} became {part.kind} ({'; '.join(part.evidence)})")
    assert not wrong


@pytest.fixture(scope="module")
def fiber(cores: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Crash on a stack on the heap, with a list in hand."""
    folder = tmp_path_factory.mktemp("fiber")
    try:
        return ours("fiber", 5)(folder)
    except CannotStartError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def shown_of_fiber(fiber: tuple[str, Path]) -> dict[str, str]:
    if not shutil.which("gdb") and not shutil.which("eu-stack"):
        pytest.skip("no gdb and no eu-stack in PATH")
    return shown(*fiber)


def test_readers_show_the_same_of_a_mebibyte(
    fiber: tuple[str, Path], shown_of_fiber: dict[str, str], tmp_path: Path
) -> None:
    """As of each of the victims, with -m slow."""
    report = corefilt.filter(fiber[1], tmp_path / "small", filter="all", fit=1 << 20, sync=False)
    assert smallest(fiber[1]) < (tmp_path / "small").stat().st_size <= 1 << 20
    assert report.fit is not None
    assert report.fit.whole == report.fit.threads > 0
    assert shown(fiber[0], tmp_path / "small") == shown_of_fiber


def test_objects_on_the_heap_survive(fiber: tuple[str, Path], tmp_path: Path) -> None:
    """A list is there to its end where pointers were followed."""
    if not shutil.which("gdb"):
        pytest.skip("no gdb in PATH")
    program, full = fiber
    walk = "set $n = list", "while $n", "output $n->text", "set $n = $n->next", "end"
    script = tmp_path / "walk"
    script.write_text("\n".join(walk) + "\n")

    def texts(core: Path) -> list[str]:
        command = ["gdb", "-nx", "-batch", "-x", script, program, core]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
        return re.findall(r"node \d+ of the list", done.stdout)

    assert len(texts(full)) == 100
    followed = run_corefilt(full, 0x1FF, tmp_path / "followed", "--minimal", "--follow", "3").core.path
    assert texts(followed) == texts(full)
    assert followed.stat().st_size < full.stat().st_size // 20


def test_what_was_cut_cannot_be_read(fiber: tuple[str, Path], shown_of_fiber: dict[str, str], tmp_path: Path) -> None:
    """With --unreadable gdb says so instead of showing zeros; its frames and elfutils' are the same."""
    if not shutil.which("gdb"):
        pytest.skip("no gdb in PATH")
    program, full = fiber
    plain = run_corefilt(full, 0x1FF, tmp_path / "plain", "--minimal").core.path
    small = run_corefilt(full, 0x1FF, tmp_path / "small", "--minimal", "--unreadable").core.path

    def first(core: Path) -> str:
        command = ["gdb", "-nx", "-batch", "-ex", "print *list", program, core]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
        return done.stdout + done.stderr

    assert "{next = 0x0, text = " in first(plain)
    assert "next =" not in first(small)
    assert re.search(r"Cannot access memory at address 0x[1-9a-f]", first(small))
    assert shown(program, small) == shown_of_fiber


def test_lldb_shows_the_same(fiber: tuple[str, Path], tmp_path: Path) -> None:
    """Threads, frames and modules."""
    if not shutil.which("lldb"):
        pytest.skip("no lldb in PATH")
    program, full = fiber
    small = run_corefilt(full, 0x1FF, tmp_path / "small", "--fit", "1M").core.path

    def said(core: Path) -> str:
        options = ["-o", "settings set symbols.enable-external-lookup false", "-o", "bt all", "-o", "image list"]
        command = ["lldb", "--no-lldbinit", "-b", *options, "-c", str(core), program]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
        return re.sub(r".*Core file '.*' \(.*\n|.*target create.*\n", "", done.stdout)

    assert said(full).count("frame #") > 40
    assert said(small) == said(full)


def test_disk_use_on_a_real_file_system(fiber: tuple[str, Path], tmp_path: Path) -> None:
    """What the file takes is never more than allowed, once all of it is on the disk."""
    for limit in (300 << 10, 1 << 20, 5 << 20, 12 << 20):
        out = tmp_path / f"{limit}"
        corefilt.filter(fiber[1], out, filter="all", fit=limit, fit_allocated=True)
        os.sync()
        assert out.stat().st_blocks * 512 <= limit
