"""Where cores go: a folder that is opened once, files in it that have no name until they are whole, and their names."""

from __future__ import annotations

import os

from corefilt.errors import OutputError
from corefilt.procfs.core_pattern import expand

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.handler.config import Config
    from corefilt.handler.crash_info import CrashInfo
    from corefilt.handler.crashed_process import Victim

# NAME_MAX, less what is added to a name that somebody has taken already, and what compression adds.
MOST_OF_A_NAME = 255 - 24
# Seconds that the file system of an executable may take to tell who owns it.
_TO_TELL = 1.0
# Names that are tried in their order before one is drawn by lot.
TRIES = 16


class Target:
    """A folder by its descriptor; ``path`` is for messages."""

    __slots__ = ("fd", "path")

    def __init__(self, fd: int, path: str) -> None:
        self.fd, self.path = fd, path

    @property
    def free(self) -> int:
        """Bytes that others than root can still write."""
        return free(self.fd)

    def new_file(self) -> int:
        """A file of mode 0600 without a name. Raises OutputError."""
        try:
            return os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=self.fd)
        except OSError as error:
            hint = "its file system must support O_TMPFILE, as ext4, XFS, Btrfs and tmpfs do"
            raise OutputError(f"{self.path}: cannot create a file in it: {error.strerror}", hint) from None

    def give_name(self, fd: int, name: bytes, ending: bytes) -> str:
        """Link a file under a name that nothing has, with a number before the ending if need be. Raises OutputError.

        Whatever bears the name already, a link or a FIFO that was put there, stays as it is and is not opened.
        """
        for attempt in range(TRIES + 1):
            added = b"" if not attempt else b".%d" % attempt
            if attempt == TRIES:
                added = b"." + os.urandom(8).hex().encode()
            leaf = os.fsdecode(name + added + ending)
            try:
                # With a dir_fd, Python calls linkat and follows the link in /proc to the nameless file.
                os.link(f"/proc/self/fd/{fd}", leaf, dst_dir_fd=self.fd, follow_symlinks=True)
            except FileExistsError:
                continue
            except OSError as error:
                path = os.path.join(self.path, leaf)
                raise OutputError(f"{path}: the core cannot be given its name: {error.strerror}") from None
            return os.path.join(self.path, leaf)
        raise OutputError(f"{self.path}: every name for the core is taken")

    def sync(self) -> None:
        """Wait until names that were given are on the disk."""
        try:
            os.fsync(self.fd)
        except OSError:
            # The names are there; some file systems do not sync folders.
            return


def free(fd: int) -> int:
    """Bytes that others than root can still write to the file system of a descriptor."""
    status = os.fstatvfs(fd)
    return status.f_bavail * status.f_frsize


def name_of(config: Config, crash: CrashInfo, victim: Victim) -> bytes:
    """The name by the template: numbers from the kernel, names escaped as the kernel escapes them, no ``/`` ever."""
    name = expand(config.name, lambda letter: _value(letter, crash, victim, config))[:MOST_OF_A_NAME]
    return name if name not in (b"", b".", b"..") else b"core" + name


def _value(letter: str, crash: CrashInfo, victim: Victim, config: Config) -> bytes:
    comm = victim.comm if victim.comm is not None else b""
    if config.is_systemds:
        # A dot ends the name there, so systemd-coredump escapes it, too (make_filename).
        comm = comm.replace(b".", b"\\x2e")
    if letter == "h":
        return os.fsencode(os.uname().nodename)
    if letter == "e":
        return comm
    if letter == "E":
        return victim.executable if victim.executable is not None else comm + b" (path unknown)"
    if letter == "f":
        return victim.executable.rpartition(b"/")[2] if victim.executable is not None else comm
    numbers = {
        "P": crash.pid,
        "p": victim.inside if victim.inside is not None else crash.pid,
        "u": crash.uid,
        "g": crash.gid,
        "s": crash.signal,
        "t": crash.time,
        "c": crash.limit,
        "d": crash.dumpable,
    }
    return b"%d" % numbers[letter] if letter in numbers else b""


def program_owner(program: int) -> str:
    """Who owns an executable, by its descriptor, as a number; "-" where its file system does not tell within a second.

    A descriptor of -1 is none.
    """
    if program < 0:
        return "-"
    import threading

    found: list[int] = []

    def ask() -> None:
        try:
            found.append(os.fstat(program).st_uid)
        except OSError:
            return

    # On a thread that is left behind where a server does not answer.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_TO_TELL)
    return str(found[0]) if found else "-"
