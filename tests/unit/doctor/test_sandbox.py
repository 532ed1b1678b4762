"""The row about the layers around the handler's child."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from corefilt.doctor.row import OK, UNKNOWN
from corefilt.doctor.sandbox import layer_rows


def stand_in(folder: Path, text: str) -> bytes:
    """A line that starts corefilt's handler by a program that tells something else."""
    program = folder / "python"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return b"|%s -I -m corefilt.handler %%P %%u" % os.fsencode(program)


@pytest.mark.parametrize("pattern", [b"core", b"", b"|/bin/false %p", b"|/bin/false", b"@@/run/x.sock"])
def test_other_patterns_have_none(pattern: bytes) -> None:
    assert layer_rows(pattern) == []


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only what is root's is asked")
    line = stand_in(tmp_path, """echo '{"seccomp": "no binding", "network": "refused"}'""")
    (row,) = layer_rows(line)
    assert (row.answer, row.reason) == (OK, "the core is read without seccomp: no binding; network: refused")


@pytest.mark.parametrize("text", ["exit 3", "echo x", "echo '['"])
def test_who_does_not_tell(text: str, tmp_path: Path) -> None:
    (row,) = layer_rows(stand_in(tmp_path, text))
    assert row.answer == UNKNOWN


def test_another_users_interpreter_is_not_run(tmp_path: Path) -> None:
    line = stand_in(tmp_path, f"touch {tmp_path}/run")
    (tmp_path / "python").chmod(0o777)
    (row,) = layer_rows(line)
    assert (row.answer, (tmp_path / "run").exists()) == (UNKNOWN, False)


def test_of_this_interpreter() -> None:
    (row,) = layer_rows(b"|%s -I -m corefilt.handler %%P" % os.fsencode(sys.executable))
    assert row.answer in (OK, UNKNOWN)
