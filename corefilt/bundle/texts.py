"""What a bundle has for people without corefilt: the debuggers' commands, a script that starts them, and a README."""

from __future__ import annotations

import os

from corefilt.bundle.debuggers import DebuggerScene, gdb_commands, is_plain, lldb_commands
from corefilt.bundle.names import CORE, DEBUG, ROOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.bundle.collect import Collected

_OPEN = """\
#!/bin/sh
# Shows the core with gdb or lldb: sh open.sh [gdb|lldb] [ARGUMENT...]
cd "$(dirname "$0")" || exit 1
unset DEBUGINFOD_URLS
case "${1-gdb}" in
lldb) shift; exec lldb --no-lldbinit -s lldbinit "$@" ;;
gdb) shift $(($# > 0)) ;;
esac
exec gdb -nx -x gdbinit "$@"
"""

_README = """\
A core dump with the executable, libraries and debug files that belong to it, made by corefilt.

    corefilt open BUNDLE            checks the build-ids and starts gdb; nothing of the bundle is run
    corefilt open BUNDLE --trust    also runs the bundle's Python and loads its libthread_db

Without corefilt (only if you trust whoever made the bundle, because gdb then runs the Python in it):

    mkdir bundle && tar --zstd -xf BUNDLE -C bundle && sh bundle/open.sh

core            the core dump
root/           the files that were mapped, by their paths
debug/          debug files, by their build-ids
manifest.json   every file with its build-id and whether the core verifies it, and what is missing
"""


def texts(collected: Collected, executable: bytes | None) -> dict[str, bytes]:
    """The files by name."""
    program = os.fsdecode(ROOT.encode() + executable) if executable is not None else None
    folders = [os.fsdecode(ROOT.encode() + folder) for folder in _searched(collected)]
    thread_db = os.fsdecode(ROOT.encode() + collected.thread_db) if collected.thread_db is not None else None
    scene = DebuggerScene(
        CORE,
        program,
        ROOT,
        DEBUG,
        thread_db=thread_db if thread_db is not None and is_plain(thread_db) else None,
        search=":".join(filter(is_plain, folders)) or None,
        trusted=True,
    )
    return {
        "README": _README.encode(),
        "gdbinit": ("\n".join(gdb_commands(scene)) + "\n").encode(errors="surrogateescape"),
        "lldbinit": ("\n".join(lldb_commands(scene)) + "\n").encode(errors="surrogateescape"),
        "open.sh": _OPEN.encode(),
    }


def _searched(collected: Collected) -> list[bytes]:
    return sorted({path.rpartition(b"/")[0] for path in collected.links.by_name})
