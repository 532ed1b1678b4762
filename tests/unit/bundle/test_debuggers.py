"""The commands of debuggers: their order, and that no name changes what they mean."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from corefilt.bundle.debuggers import DebuggerScene, command_line, gdb_commands, is_plain, lldb_commands, quoted

SCENE = DebuggerScene("/t/core", "/t/program/x", "/t/root", "/t/debug", thread_db="/t/thread_db", search="/t/search")


def trusted(scene: DebuggerScene = SCENE, *, own: bool = False) -> DebuggerScene:
    return DebuggerScene(
        scene.core, scene.executable, scene.sysroot, scene.debug, scene.thread_db, scene.search, trusted=True, own=own
    )


def test_gdb_runs_nothing_of_a_bundle() -> None:
    assert gdb_commands(SCENE) == [
        "set debuginfod enabled off",
        "set auto-load off",
        "set debug-file-directory /t/debug",
        "set sysroot /t/root",
        "set solib-search-path /t/search",
        "file /t/program/x",
        "core-file /t/core",
    ]


def test_gdb_of_a_trusted_bundle_in_the_order_that_works() -> None:
    assert gdb_commands(trusted())[:5] == [
        "set debuginfod enabled off",
        "set auto-load safe-path /t/root:/t/debug",
        "set libthread-db-search-path /t/thread_db",
        "set debug-file-directory /t/debug",
        "set sysroot /t/root",
    ]


def test_gdb_knows_what_it_may_load_of_its_own_machine() -> None:
    assert not any("auto-load" in command or "libthread" in command for command in gdb_commands(trusted(own=True)))


def test_lldb() -> None:
    assert lldb_commands(SCENE) == [
        "settings set target.load-script-from-symbol-file false",
        "settings set symbols.enable-external-lookup false",
        "settings set target.debug-file-search-paths /t/debug",
        "settings set target.exec-search-paths /t/search",
        "platform select remote-linux --sysroot /t/root",
        "target create --core /t/core /t/program/x",
    ]
    assert lldb_commands(trusted())[0].endswith(" true")


def test_a_core_without_its_program() -> None:
    scene = DebuggerScene("/t/core", None, "/t/root", "/t/debug")
    assert gdb_commands(scene)[-1] == "core-file /t/core"
    assert not any(command.startswith("file ") for command in gdb_commands(scene))
    assert lldb_commands(scene)[-1] == "target create --core /t/core"


def test_command_lines() -> None:
    line = command_line("gdb", SCENE, backtraces=True, more=["-ex", "info threads"])
    assert line[:4] == ["gdb", "-nx", "-q", "-batch"]
    assert line[-4:] == ["-ex", "thread apply all bt full", "-ex", "info threads"]
    # What settles what may be loaded is read before the first file.
    assert line.index("-iex") < line.index("-ex")
    assert next(line[n + 1] for n, word in enumerate(line) if word == "-ex") == "file /t/program/x"
    assert "-batch" not in command_line("gdb", SCENE, backtraces=False, more=[])
    line = command_line("lldb", SCENE, backtraces=True, more=[])
    assert line[:5] == ["lldb", "--no-lldbinit", "--batch", "--script-language", "none"]
    assert "--script-language" not in command_line("lldb", trusted(), backtraces=True, more=[])
    assert line[-2:] == ["-o", "thread backtrace all"]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("root/usr/bin/x", "root/usr/bin/x"),
        ("root/a b", '"root/a b"'),
        ('root/"x', '"root/\\"x"'),
        ("root/\\x", '"root/\\\\x"'),
        ("root/`id`", '"root/\\`id\\`"'),
        ("root/x\nshell touch /tmp/x", None),
        ("root/\x1b[2J", None),
    ],
)
def test_quoting(path: str, shown: str | None) -> None:
    assert quoted(path) == shown
    assert is_plain(path) == (path == shown)


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_gdb_reads_a_quoted_name_as_it_is(tmp_path: Path) -> None:
    for name in ('a b"c', "a'b", "x\\y"):
        path = tmp_path / name
        shutil.copy("/bin/true", path)
        name_for_gdb = quoted(str(path))
        command = ["gdb", "-nx", "-batch", "-ex", f"file {name_for_gdb}", "-ex", "info files"]
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        assert "Entry point" in told.stdout, (name, told.stderr)
