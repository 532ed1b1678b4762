"""The commands that have gdb or lldb show a core with the files of one directory, and nothing of this machine's.

Of gdb the order matters (gdb 13 and 16): what may be loaded is settled before ``file`` loads anything, and the
directories are known before ``core-file`` looks for libraries.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

GDB, LLDB = DEBUGGERS = ("gdb", "lldb")
# gdb takes some names as they are up to the end of the line, splits some at blanks or colons, and its versions differ
# in which they unquote (core-file: not before gdb 16). Of these characters all read the same.
_PLAIN = re.compile(r"[A-Za-z0-9_./+@%,=-]+")


@dataclass(frozen=True, slots=True)
class DebuggerScene:
    """What a debugger is to show, by paths: the core, the program, and where it finds the rest.

    ``debug`` are directories with ``.build-id``, ``thread_db`` has the libthread_db of the core's machine, ``search``
    libraries that are found by their last name. With ``trusted``, Python beside the files runs, and libthread_db is
    loaded into gdb; ``own`` files are this machine's, of which gdb knows itself what it may load.
    """

    core: str
    executable: str | None
    sysroot: str
    debug: str
    thread_db: str | None = None
    search: str | None = None
    trusted: bool = False
    own: bool = False


def is_plain(path: str) -> bool:
    """Whether every command of every debugger reads a path as it stands."""
    return _PLAIN.fullmatch(path) is not None


def quoted(path: str) -> str | None:
    """A path as an argument of ``file`` and of lldb's commands; None for what no quoting gets through a line."""
    if is_plain(path):
        return path
    if not path.isprintable():
        return None
    return '"' + re.sub(r'(["\\`$])', r"\\\1", path) + '"'


def gdb_commands(scene: DebuggerScene) -> list[str]:
    """Gdb's commands, the first ones those that must come before anything is loaded."""
    commands = ["set debuginfod enabled off"]
    if scene.trusted and not scene.own:
        commands += [f"set auto-load safe-path {scene.sysroot}:{scene.debug}"]
        commands += [f"set libthread-db-search-path {scene.thread_db}"] if scene.thread_db is not None else []
    elif not scene.trusted:
        commands += ["set auto-load off"]
    commands += [f"set debug-file-directory {scene.debug}", f"set sysroot {scene.sysroot}"]
    commands += [f"set solib-search-path {scene.search}"] if scene.search is not None else []
    program = quoted(scene.executable) if scene.executable is not None else None
    commands += [f"file {program}"] if program is not None else []
    return [*commands, f"core-file {scene.core}"]


def lldb_commands(scene: DebuggerScene) -> list[str]:
    """Lldb's commands."""
    program = quoted(scene.executable) if scene.executable is not None else None
    return [
        f"settings set target.load-script-from-symbol-file {'true' if scene.trusted else 'false'}",
        "settings set symbols.enable-external-lookup false",
        f"settings set target.debug-file-search-paths {scene.debug}",
        *([f"settings set target.exec-search-paths {scene.search}"] if scene.search is not None else []),
        f"platform select remote-linux --sysroot {scene.sysroot}",
        f"target create --core {scene.core}" + (f" {program}" if program is not None else ""),
    ]


def command_line(debugger: str, scene: DebuggerScene, *, backtraces: bool, more: list[str]) -> list[str]:
    """The arguments that start a debugger with no settings but these; ``more`` are the user's own.

    ``backtraces`` has all of them printed, and the debugger end.
    """
    if debugger == GDB:
        line = ["gdb", "-nx", "-q", *(["-batch"] if backtraces else [])]
        for command in gdb_commands(scene):
            line += ["-iex" if command.startswith("set ") else "-ex", command]
        return [*line, *(["-ex", "thread apply all bt full"] if backtraces else []), *more]
    line = ["lldb", "--no-lldbinit", *(["--batch"] if backtraces else [])]
    line += [] if scene.trusted else ["--script-language", "none"]
    for command in lldb_commands(scene):
        line += ["-o", command]
    return [*line, *(["-o", "thread backtrace all"] if backtraces else []), *more]
