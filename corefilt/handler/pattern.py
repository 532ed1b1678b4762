"""The line for kernel.core_pattern that starts the handler, or that names the socket of ``corefilt serve``."""

from __future__ import annotations

import os
import re

from corefilt.errors import InstallError
from corefilt.handler.crash_info import PATTERN
from corefilt.procfs.core_pattern import MOST_OF_A_PATTERN, as_kept

MODULE = "corefilt.handler"
# The kernels that know %F.
PIDFD_SINCE = (6, 16)
# sun_path without its final zero, which is what the kernel holds a socket's path against.
MOST_OF_A_SOCKET = 107


def knows_pidfd(release: str) -> bool:
    """Whether a kernel of this release (``os.uname().release``) knows %F."""
    numbers = re.match(r"(\d+)\.(\d+)", release)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= PIDFD_SINCE


def handler_line(python: str, *, pidfd: bool) -> bytes:
    """The line that starts the handler with this interpreter. Raises InstallError for what no line can say.

    The kernel splits it at blanks and knows no quotes; ``-I`` keeps the environment, the working directory and the
    user's own folder out of what the interpreter imports.
    """
    if not os.path.isabs(python):
        raise InstallError(f"{python!r}: the kernel needs the absolute path of an interpreter")
    specifiers = PATTERN.split() if pidfd else PATTERN.split()[:-1]
    words = [python.replace("%", "%%"), "-I", "-m", MODULE, *specifiers]
    if re.search(r"\s|\xa0", python):
        raise InstallError(
            f"{python!r}: the kernel splits core_pattern at spaces", "install corefilt into another directory"
        )
    return _checked(b"|" + os.fsencode(" ".join(words)))


def socket_line(path: str) -> bytes:
    """The line that has the kernel connect to a socket and ask first (``@@``). Raises InstallError.

    The sysctl refuses what else is wrong (``check_coredump_socket`` in fs/coredump.c of 6.18), a blank the crash does.
    """
    raw = os.fsencode(path)
    if not raw.startswith(b"/") or b".." in raw.split(b"/") or re.search(rb"[\s\xa0%]", raw):
        raise InstallError(f"{path!r}: the kernel needs an absolute path without .. and blanks", "/run/corefilt.sock")
    if len(raw) > MOST_OF_A_SOCKET:
        raise InstallError(f"{path!r} has {len(raw)} bytes, and the path of a socket at most {MOST_OF_A_SOCKET}")
    return _checked(b"@@" + raw)


def starts_handler(line: bytes) -> bool:
    """Whether a line starts corefilt's handler, with whatever interpreter."""
    return line.startswith(b"|") and line.split()[1:4] == [b"-I", b"-m", MODULE.encode()]


def is_handler(line: bytes) -> bool:
    """Whether a line gives cores to a program or a socket, not to a file."""
    return line[:1] in (b"|", b"@")


def interpreter_of(line: bytes) -> str | None:
    """The interpreter that a line of ours starts, None for every other line."""
    return os.fsdecode(line.split()[0][1:].replace(b"%%", b"%")) if starts_handler(line) else None


def socket_of(line: bytes) -> str | None:
    """The socket that a line has the kernel ask first, None for every other line."""
    return os.fsdecode(line[2:]) if line.startswith(b"@@") else None


def _checked(line: bytes) -> bytes:
    if as_kept(line) != line:
        raise InstallError(
            f"the line for core_pattern has {len(line)} bytes, and the kernel keeps {MOST_OF_A_PATTERN}: "
            f"{os.fsdecode(line)!r}",
            "install corefilt into a directory with a shorter name",
        )
    return line
