"""What a run tells of what is special: a core still being written or done before, frames that are missing, hints."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from support.builder import Load, kernel_notes, make_core, page
from support.run import corefilt
from support.samples import PAGE, sample_core

import corefilt as api
from corefilt.cli.hints import for_command

ANCIENT = 1_000_000_000
CORE = sample_core()


@pytest.mark.parametrize("command", [("0x33", "CORE", "-o", "OUT"), ("inspect", "CORE"), ("0x33", "CORE", "-n")])
def test_a_core_that_was_cut_just_now_may_still_be_written(
    command: tuple[str, ...], core: Path, tmp_path: Path
) -> None:
    core.write_bytes(CORE[:-PAGE])
    asked = re.compile(r"it was written to \d+ s ago: is it still being written\?")
    line = [str({"CORE": core, "OUT": tmp_path / "out"}.get(word, word)) for word in command]
    assert any(asked.search(text) for text in corefilt(*line).err)
    os.utime(core, (ANCIENT, ANCIENT))
    done = corefilt(*line, *(("-f",) if "-o" in command else ()))
    assert any("truncated" in text for text in done.err) and not any(asked.search(text) for text in done.err)


def test_a_pipe_and_a_copy_of_it_tell_no_age(tmp_path: Path) -> None:
    for more in ((), ("--spool",)):
        done = corefilt("0x33", "-", "-o", tmp_path / f"out{len(more)}", *more, pipe=CORE[:-PAGE])
        assert done.code == 3
        assert not any("still being written" in text for text in done.err)


def test_a_batch_asks_it_too(core: Path, tmp_path: Path) -> None:
    core.write_bytes(CORE[:-PAGE])
    done = corefilt("batch", "0x33", core, "--to", tmp_path / "to", "--no-sync")
    assert any("still being written?" in text for text in done.err)


def test_a_second_run_in_place_had_nothing_to_do(core: Path) -> None:
    first, second = corefilt("0x31", core, "-i"), corefilt("0x31", core, "-i")
    assert "changed in place" in first.err[0]
    assert re.match(rf"corefilt: {core}: nothing to do: it holds only what the filter keeps: ", second.err[0])
    assert not any("changed" in text or "freed" in text for text in second.err)
    third = corefilt("0x1", core, "-i")
    assert "changed in place" in third.err[0]


def test_what_was_cut_off_depends_on_no_assumption(tmp_path: Path) -> None:
    """The parts of the summary come to what is left."""
    (tmp_path / "core").write_bytes(CORE)
    whole = api.filter(tmp_path / "core", tmp_path / "whole", filter=0x33)
    assert whole.assumed_bytes
    cut = api.filter(tmp_path / "core", tmp_path / "cut", filter=0x33, truncate=7 * PAGE)
    assert cut.assumed_bytes <= cut.kept_bytes <= cut.output_bytes == 7 * PAGE
    assert sum(kept for _, kept, _, _ in cut.kinds) == cut.kept_bytes
    for _, kept, _, assumed in cut.kinds:
        assert assumed <= kept


@pytest.mark.parametrize(
    ("path", "more", "told"),
    [
        ("/opt/jdk/lib/server/libjvm.so", ("--runtime", "none"), "Java (libjvm.so): .* --runtime java keeps it"),
        ("/usr/bin/python3.11", ("--runtime", "java"), "Python (python3.11): .* --runtime python keeps it"),
        ("/usr/lib/dotnet/libcoreclr.so", (), ".NET (libcoreclr.so): .* only a filter without --minimal keeps it"),
        ("/usr/bin/node", (), "Node.js (node): "),
        ("/usr/lib/libruby-3.1.so.3.1", (), "Ruby (libruby-3.1.so.3.1): "),
        ("/usr/lib/erlang/erts-13/bin/beam.smp", (), "Erlang (beam.smp): "),
        ("/usr/sbin/php-fpm8.2", (), "PHP (php-fpm8.2): "),
        ("/usr/bin/nodejs-like", (), None),
    ],
)
def test_minimal_says_what_frames_of_a_runtime_lack(
    path: str, more: tuple[str, ...], told: str | None, tmp_path: Path
) -> None:
    loads = [Load(0x10000, page(b"\x7fELF", 4), flags="r-x"), Load(0x40000, page(b"heap", 64))]
    notes = kernel_notes([(0x10000, 0x10000 + 4 * PAGE, 0, path)])
    (tmp_path / "core").write_bytes(make_core(loads, notes))
    done = corefilt("all", tmp_path / "core", "--minimal", *more, "-o", tmp_path / "out")
    assert done.code == 0
    said = [text for text in done.err if "native frames" in text]
    if told is None:
        assert said == []
    else:
        assert len(said) == 1
        assert re.search(told.replace("(", r"\(").replace(")", r"\)"), said[0])


@pytest.mark.parametrize(
    ("hint", "command", "left"),
    [
        ("name the core as a file, or add --spool to keep a copy", "inspect", None),
        ("name the core as a file, or add --spool to keep a copy", "digest", "name the core as a file"),
        ("raise --max-headers, or name the core as a file", "scrub", "name the core as a file"),
        ("-o OUT writes another file", "inspect", ""),
        ("save it with journalctl -o json --all, or with journalctl -o export", "inspect", None),
        ("corefilt inspect CORE shows which mappings; settle kinds with --assume SELECTOR=KIND", "scrub",
         "corefilt inspect CORE shows which mappings"),
        ("settle kinds with --assume SELECTOR=KIND; settle header pages with --sysroot DIR, or --pid PID", "batch",
         "settle kinds with --assume SELECTOR=KIND; settle header pages with --sysroot DIR"),
        ("write it like 0x33, or with names like default,-shared-anonymous", "show", None),
        ("-f replaces it", "filter", None),
        ("", "show", None),
    ],
)  # fmt: skip
def test_a_hint_names_only_options_of_the_command(hint: str, command: str, left: str | None) -> None:
    assert for_command(hint, command) == (hint if left is None else left)


def test_hints_of_errors_are_the_commands_own(tmp_path: Path) -> None:
    done = corefilt("verify", tmp_path / "none", tmp_path / "none", "--filter", "nonsense")
    assert done.code == 2 and any("try: " in text for text in done.err)
    (tmp_path / "core").write_bytes(CORE)
    core = tmp_path / "core"
    wrong = corefilt("verify", core, core, "--filter", "all", "--assume", "/none=special")
    assert any("--assume '/none=special' matches no mapping" in text for text in wrong.err)


def test_whole_command_lines_are_reported_on_demand_only(core: Path, tmp_path: Path) -> None:
    for more, known in (((), False), (("--command-line",), True)):
        report = tmp_path / f"{known}.html"
        done = corefilt("batch", "0x33", core, "-n", "--json", "--html", report, *more)
        (outcome,) = map(json.loads, done.out.splitlines())
        assert (outcome["command_line"] is not None) == known
        if known:
            assert outcome["command_line"] in report.read_text()
        assert os.uname().nodename in report.read_text()


def test_a_core_that_cannot_be_read_ends_a_batch_with_4(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "core").write_bytes(CORE)
    (folder / "cut").write_bytes(CORE[:70])
    for i in range(3):
        (folder / f"text{i}").write_text("nothing")
    done = corefilt("batch", "0x33", folder, "--to", tmp_path / "to", "--no-sync")
    assert done.code == 4
    assert any(re.match(r" +failed +1", text) for text in done.err)
    assert any(re.match(r" +skipped +3", text) for text in done.err)
    assert any(re.match(r" +3 +not an ELF file", text) for text in done.err), "reasons are grouped"
