"""Where kernel.core_pattern sends cores: a file's name, a program behind a pipe, or a socket."""

from __future__ import annotations

import os
import stat

from corefilt.doctor.row import NO, OK, UNKNOWN, Row
from corefilt.doctor.sandbox import layer_rows
from corefilt.doctor.settings import FILE, PIPE, Settings
from corefilt.doctor.subject import Subject
from corefilt.doctor.template import foreseen
from corefilt.procfs.core_pattern import arguments
from corefilt.text import counted, printable

# sun_path less its final zero.
MOST_OF_A_SOCKET = 107
_SO_ACCEPTCON = 0x10000
_SET = "sysctl kernel.core_pattern=..."


def pattern_rows(subject: Subject, settings: Settings) -> list[Row]:
    """The pattern, and what it names besides."""
    pattern = settings.pattern
    if pattern is None:
        # The row of the kernel's configuration says what that means.
        return []
    if settings.way == PIPE:
        return [_helper(subject, settings, pattern), *layer_rows(pattern), _pipe_limit(settings)]
    if settings.way != FILE:
        return [_socket(pattern)]
    if not pattern and not settings.uses_pid:
        return [Row("core_pattern", NO, "it is empty, and core_uses_pid is 0", _SET)]
    return [Row("core_pattern", OK, f"a file: {printable(pattern) or '.PID'}")]


def _helper(subject: Subject, settings: Settings, pattern: bytes) -> Row:
    """The program behind a pipe, which the kernel starts as root, in the first mount namespace, from ``/``."""
    name = "core_pattern"
    words = arguments(pattern, lambda letter: foreseen(b"%" + letter.encode(), subject, settings))
    if not words:
        return Row(name, NO, "it is a pipe without a program", _SET)
    path = os.path.join(b"/", words[0])
    shown = printable(path)
    try:
        status = os.stat(path)
    except OSError as error:
        return Row(name, NO, f"a pipe to {shown}: {error.strerror}", f"install it, or {_SET}")
    if not stat.S_ISREG(status.st_mode) or not status.st_mode & 0o111:
        return Row(name, NO, f"a pipe to {shown}, which is not an executable file", f"chmod +x {shown}, or {_SET}")
    if os.statvfs(path).f_flag & os.ST_NOEXEC:
        return Row(name, NO, f"a pipe to {shown}, on a file system that is mounted noexec", _SET)
    missing = _missing_interpreter(path)
    if missing:
        return Row(name, NO, f"a pipe to {shown}, whose interpreter {missing} does not exist", "install it")
    if status.st_uid != 0 or status.st_mode & 0o022:
        why = f"it is user {status.st_uid}'s, mode {stat.filemode(status.st_mode)}"
        return Row(name, OK, f"a pipe to {shown}", f"{why}: anybody who can write to it becomes root at the next crash")
    return Row(name, OK, f"a pipe to {shown}, which decides what happens to the core")


def _missing_interpreter(path: bytes) -> str:
    """The interpreter that a script's first line names, if it is not there."""
    try:
        with open(path, "rb") as file:
            head = file.read(256)
    except OSError:
        return ""
    words = head[2:].split(b"\n", 1)[0].split()
    if head[:2] != b"#!" or not words or os.path.exists(words[0]):
        return ""
    return printable(words[0])


def _socket(pattern: bytes) -> Row:
    name = "core_pattern"
    path = pattern.lstrip(b"@")
    shown = printable(path)
    if path[:1] != b"/" or b".." in path.split(b"/") or b" " in path or len(path) > MOST_OF_A_SOCKET:
        return Row(name, NO, f"a socket with the name {shown!r}, which the kernel does not accept", _SET)
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return Row(name, NO, f"{shown} is not a socket", _SET)
    except OSError as error:
        return Row(name, NO, f"the socket {shown}: {error.strerror}", f"start its server, or {_SET}")
    if _is_listening(path):
        return Row(name, OK, f"the socket {shown}, whose server decides what happens to the core")
    return Row(name, UNKNOWN, f"no process is seen to listen on the socket {shown}", "start its server")


def _is_listening(path: bytes) -> bool:
    try:
        with open("/proc/net/unix", "rb") as file:
            rows = [line.rstrip(b"\n").split(b" ", 7) for line in file]
    except OSError:
        return False
    # Num RefCount Protocol Flags Type St Inode Path; the inode is padded to five figures.
    return any(len(row) == 8 and row[7].lstrip() == path and int(row[3], 16) & _SO_ACCEPTCON for row in rows[1:])


def _pipe_limit(settings: Settings) -> Row:
    if not settings.pipe_limit:
        return Row("core_pipe_limit", OK, "0: any number of cores at once, and the kernel does not wait for the reader")
    return Row("core_pipe_limit", OK, f"{counted(settings.pipe_limit, 'core')} at once; a further crash leaves no core")
