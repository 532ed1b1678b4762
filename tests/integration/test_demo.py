"""``corefilt demo``: a core of a process crashed here, or the small one that ships."""

from __future__ import annotations

import io
import os
import re
import resource
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from kernel.dumps import dumping
from support.builds import PATIENCE
from support.opening import open_file
from support.run import COREFILT, assert_promises, corefilt, environment

import corefilt as api
from corefilt.cli import demo_core as demo


def run_demo(*args: str, no_core: bool = False, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the demo with its temporary files in a folder of its own."""

    def forbid() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    return subprocess.run(
        [*COREFILT, "demo", *args],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**environment(), "TMPDIR": str(folder)},
        preexec_fn=forbid if no_core else None,
        timeout=PATIENCE,
        check=False,
    )


def sizes(out: str) -> dict[str, list[str]]:
    """Return the rows of the table: mappings, bytes before, bytes after."""
    rows = re.findall(r"^([a-z -]+?) {2,}(\d+) +([\d.]+ \w+) +([\d.]+ \w+)$", out, re.MULTILINE)
    return {name: list(cells) for name, *cells in rows}


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Run the demo once where a core can be had."""
    folder = tmp_path_factory.mktemp("demo")
    with dumping():
        if demo.no_core_here() is not None:
            pytest.skip(f"no core file here: {demo.no_core_here()}")
        done = run_demo(folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.listdir(folder) == []
    if "No core file can be made here" in done.stdout:
        pytest.skip("the kernel wrote no core file")
    return done.stdout


def test_a_process_is_crashed_and_its_core_filtered(crashed: str) -> None:
    assert crashed.startswith("Crashed a small process")
    rows = sizes(crashed)
    assert rows["shared-anonymous"][1:] == ["64.0 MiB", "0 B"]
    assert rows["private-anonymous"][1] == rows["private-anonymous"][2]
    assert {"private-file-written", "shared-file-backed", "special", "whole file"} <= set(rows)


def test_gdb_is_asked_if_there_is_one(crashed: str) -> None:
    last = crashed.strip().splitlines()[-1]
    assert last.startswith(("gdb opens the result: Program terminated", "gdb is not installed"))


def test_where_no_core_may_be_written_it_says_so_and_shows_the_small_one(tmp_path: Path) -> None:
    done = run_demo(no_core=True, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    first = done.stdout.splitlines()[0]
    assert first.startswith("No core file can be made here: ")
    assert first.endswith("Instead, this shows a small core that ships with corefilt.")
    rows = sizes(done.stdout)
    assert rows["shared-anonymous"][2] == "0 B"
    assert os.listdir(tmp_path) == []


def test_the_reason_is_the_limit(tmp_path: Path) -> None:
    with dumping():
        if demo.no_core_here() is not None:
            pytest.skip("no core file can be had here anyway")
        said = run_demo(no_core=True, folder=tmp_path).stdout
    assert "the hard limit for core files (ulimit -Hc) is 0" in said


def test_another_filter(tmp_path: Path) -> None:
    rows = sizes(run_demo("--filter", "none", no_core=True, folder=tmp_path).stdout)
    assert {name: row[2] for name, row in rows.items() if name not in ("special", "whole file")} == {
        name: "0 B" for name in rows if name not in ("special", "whole file")
    }


def test_a_filter_that_cannot_be_read(tmp_path: Path) -> None:
    done = run_demo("--filter", "33", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "could be decimal" in done.stderr


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("|/usr/lib/systemd/systemd-coredump %P", "hands cores to a program (/usr/lib/systemd/systemd-coredump %P)"),
        ("@/run/coredump.socket", "to a socket"),
        ("@@/run/coredump.socket", "to a socket"),
        ("/var/crash/core.%p", "names another directory (/var/crash/core.%p)"),
        ("crash/core", "names another directory"),
        ("", "is empty"),
        ("core.%p", None),
    ],
)
def test_what_the_core_pattern_says(pattern: str, words: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "open", lambda *args, **options: io.StringIO(pattern + "\n"), raising=False)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (0, resource.RLIM_INFINITY))
    answer = demo.no_core_here()
    assert (answer is None) if words is None else (words in (answer or ""))


# --- the core that ships ----------------------------------------------------------------------------------


def test_the_small_core_is_read_by_others_when_filtered(tmp_path: Path) -> None:
    core = Path(demo.small_core(str(tmp_path)))
    out = tmp_path / "out"
    report = api.filter(core, out, filter=0x31)
    assert not report.damaged
    assert_promises(core.read_bytes(), out.read_bytes())
    assert report.dropped_bytes > 0
    with open(out, "rb") as file:
        elf = ELFFile(file)
        assert elf["e_type"] == "ET_CORE"
        notes, *loads = elf.iter_segments()
        names = [note["n_type"] for note in notes.iter_notes()]
        assert {"NT_PRSTATUS", "NT_PRPSINFO", "NT_AUXV", "NT_FILE"} <= set(names)
        assert sum(len(load.data()) for load in loads) == report.kept_bytes


def test_the_small_core_shows_memory_of_several_kinds(tmp_path: Path) -> None:
    with open_file(demo.small_core(str(tmp_path))) as core:
        kinds = {mapping.kind for mapping in core.mappings if mapping.present}
        assert {"private-anonymous", "shared-anonymous", "private-file-written", "special"} <= kinds
        assert core.warnings == []


def test_the_small_core_is_small() -> None:
    from importlib.resources import files

    assert files("corefilt.cli").joinpath("small.core.gz").stat().st_size < 200_000


def test_the_small_core_from_a_pipe(tmp_path: Path) -> None:
    core = Path(demo.small_core(str(tmp_path)))
    done = corefilt("0x31", pipe=core.read_bytes())
    assert done.code == 0
    assert_promises(core.read_bytes(), done.out)
