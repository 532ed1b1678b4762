"""Completion, asked of the shells themselves: what Tab makes of words that are half typed."""

import os
import pty
import shutil
import subprocess
from pathlib import Path

import pytest
from support.run import assert_usage, corefilt, environment

from corefilt.cli.generate.files import SHELLS, completion
from corefilt.filterbits import NAMES

COMMAND_NAMES = ("inspect", "demo", "man", "completion")


@pytest.mark.parametrize("shell", SHELLS)
def test_it_can_be_printed(shell: str) -> None:
    done = corefilt("completion", shell)
    assert (done.code, done.out.decode(), done.err) == (0, completion(shell), ())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder with files to complete to, and beside it the scripts."""
    place = tmp_path / "here"
    place.mkdir()
    (place / "big core").touch()
    (place / "maps").touch()
    (place / "root fs").mkdir()
    for shell in SHELLS:
        path = script(shell, place)
        path.parent.mkdir(parents=True)
        path.write_text(completion(shell))
    return place


def script(shell: str, folder: Path) -> Path:
    """Return where the script for a shell is."""
    return folder.parent / SHELLS[shell][0]


def by_bash(line: str, folder: Path) -> set[str]:
    """Return what bash would offer at the end of a line."""
    program = """
        source "$1"; shift
        COMP_LINE=$1 COMP_POINT=${#1}; shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _corefilt corefilt
        ((${#COMPREPLY[@]} == 0)) || printf '%s\\n' "${COMPREPLY[@]}"
    """
    words = line.replace("=", " = ").replace("  =", " =").split(" ")
    if line.endswith("="):
        words = words[:-1]
    done = subprocess.run(
        ["bash", "-uc", program, "bash", script("bash", folder), line, *words],
        cwd=folder, capture_output=True, text=True, env=environment(), check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return set(done.stdout.splitlines())


def by_fish(line: str, folder: Path) -> set[str]:
    """Return what fish would offer at the end of a line."""
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    program = 'source $argv[1]; complete -C "$argv[2]"'
    done = subprocess.run(
        ["fish", "--no-config", "-c", program, script("fish", folder), line],
        cwd=folder, capture_output=True, text=True, env={**environment(), "HOME": str(folder.parent)}, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return {offer.partition("\t")[0].rstrip("/") for offer in done.stdout.splitlines()}


BOTH = pytest.mark.parametrize("offered", [by_bash, by_fish])


@BOTH
def test_the_first_word_is_a_command_or_a_filter(offered, folder: Path) -> None:  # type: ignore[no-untyped-def]
    found = offered("corefilt ", folder)
    assert found >= {*COMMAND_NAMES, *NAMES, "default", "all", "none"}
    assert "maps" not in found


@BOTH
def test_options_of_the_command_at_hand(offered, folder: Path) -> None:  # type: ignore[no-untyped-def]
    assert {"--annotate", "--in-place"} <= offered("corefilt all core --", folder)
    assert "--annotate" not in offered("corefilt inspect --", folder)
    assert offered("corefilt inspect core --sysr", folder) == {"--sysroot"}


@BOTH
def test_values_of_options(offered, folder: Path) -> None:  # type: ignore[no-untyped-def]
    assert offered("corefilt all core --unknown ", folder) == {"keep", "guess", "drop"}
    assert offered("corefilt all core --engine re", folder) == {"reflink", "readwrite"}
    assert offered("corefilt all core --maps ma", folder) == {"maps"}
    assert {name.replace("\\", "") for name in offered("corefilt all core --sysroot ", folder)} == {"root fs"}
    assert str(os.getpid()) in offered("corefilt all core --pid ", folder)


@BOTH
def test_terms_of_a_filter(offered, folder: Path) -> None:  # type: ignore[no-untyped-def]
    found = {name.rpartition(",")[2] for name in offered("corefilt default,shared-d", folder)}
    assert found == {"shared-dax"}


@BOTH
def test_a_core_behind_the_filter(offered, folder: Path) -> None:  # type: ignore[no-untyped-def]
    assert {name.replace("\\", "") for name in offered("corefilt 0x33 big", folder)} == {"big core"}
    assert {name.replace("\\", "") for name in offered("corefilt inspect big", folder)} == {"big core"}


def test_bash_takes_signs_and_equals_signs(folder: Path) -> None:
    assert by_bash("corefilt all,-shared-d", folder) == {"all,-shared-dax"}
    assert by_bash("corefilt all core --unknown=g", folder) == {"guess"}
    assert by_bash("corefilt all core --unknown=", folder) == {"keep", "guess", "drop"}
    assert by_bash("corefilt all core --json=ma", folder) == {"maps"}
    assert by_bash("corefilt all --maps maps -f big", folder) == {"big core"}
    assert by_bash("corefilt all core another ", folder) == set()
    assert by_bash("corefilt all core --fit ", folder) == set()
    assert by_bash("corefilt completion ", folder) == {"bash", "zsh", "fish"}


def typed(shell: list[str], start: str, keys: str, folder: Path) -> list[bytes]:
    """Type into an interactive shell, where `corefilt` prints its words; returns them."""
    define = 'corefilt() { printf "<%s>" "$@"; printf "END\\n"; exit; }'
    controller, terminal = pty.openpty()
    variables = {**environment(), "HOME": str(folder.parent), "TERM": "dumb", "HISTFILE": ""}
    with subprocess.Popen(
        shell, cwd=folder, stdin=terminal, stdout=terminal, stderr=terminal, env=variables, start_new_session=True
    ):
        os.close(terminal)
        os.write(controller, f"{start}\n{define}; printf 'REA''DY\\n'\n".encode())
        said = b""
        try:
            while True:
                part = os.read(controller, 1 << 16)
                if b"READY" in said + part and b"READY" not in said:
                    os.write(controller, f"{keys}\n".encode())
                said += part
        except OSError:  # EIO: the shell has left
            pass
        os.close(controller)
    words = said.rpartition(b"END")[0].rpartition(b"\n")[2]
    return [word.partition(b">")[0] for word in words.split(b"<")[1:]]


def test_bash_as_it_is_typed(folder: Path) -> None:
    start = f"source {script('bash', folder)}"
    keys = "corefilt default,-shared-an\t big\t --unk\tgu\t --sysroot ro\t"
    assert typed(["bash", "--norc", "-i"], start, keys, folder) == [
        b"default,-shared-anonymous", b"big core", b"--unknown", b"guess", b"--sysroot", b"root fs/",
    ]  # fmt: skip


def test_zsh_as_it_is_typed(folder: Path) -> None:
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    start = f"fpath=({script('zsh', folder).parent} $fpath); autoload -U compinit; compinit -u -D"
    keys = "corefilt default,-shared-an\t big\t --unk\tgu\t --sysroot ro\t"
    found = typed(["zsh", "-f", "-i"], start, keys, folder)
    assert found == [b"default,-shared-anonymous", b"big core", b"--unknown=guess", b"--sysroot", b"root fs"]
    keys = "corefilt insp\t big\t --filter default,shared-d\t"
    assert typed(["zsh", "-f", "-i"], start, keys, folder) == [
        b"inspect", b"big core", b"--filter", b"default,shared-dax"
    ]  # fmt: skip


def test_a_shell_that_is_none_of_them() -> None:
    assert_usage(corefilt("completion", "tcsh"), "tcsh")
