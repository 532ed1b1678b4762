"""A process that asks the server what to do with its core: what rules can go by, and what the handler is told."""

from __future__ import annotations

import os
import signal
import time

from corefilt.errors import ProtocolError
from corefilt.handler.crash_info import CrashInfo
from corefilt.handler.crashed_process import memory_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.procfs.pidfd import Dumping

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_RLIM_INFINITY = (1 << 64) - 1
# Threads that are tried where the first has ended before the others.
_MOST_THREADS = 256
# A page and what Groups can add; stat and limits are shorter.
_MOST_OF_A_FILE = 1 << 20
# The place of exit_code behind the name in stat (proc_pid_stat(5): field 52, the name is the second).
_EXIT_CODE = 52 - 3


class Peer:
    """``crash`` is what core_pattern would have told; ``size`` is what it holds in memory and swap, in bytes.

    ``executable`` is None where it is not known, or is a name in a mount namespace that is neither this process's nor
    init's: there a user can name a file as he likes.
    """

    __slots__ = ("crash", "executable", "size")

    def __init__(self, crash: CrashInfo, executable: bytes | None, size: int) -> None:
        self.crash, self.executable, self.size = crash, executable, size


def read_peer(dumping: Dumping, pidfd: int, now: int | None = None) -> Peer:
    """Read a dumping process from /proc. Raises ProtocolError where it does not exist any more."""
    try:
        folder = os.open(f"/proc/{dumping.pid}", _FOLDER)
    except OSError as error:
        raise ProtocolError(f"process {dumping.pid}: {error.strerror}") from None
    try:
        number = exit_code(_read(folder, "stat")) & 0x7F
        limit = core_limit(_read(folder, "limits"))
        executable, size = _of_memory(folder)
        # The folder is that of one process; once the pidfd shows that it was this one, all of it was.
        signal.pidfd_send_signal(pidfd, 0)
    except OSError as error:
        raise ProtocolError(f"process {dumping.pid} ended: {error.strerror}") from None
    finally:
        os.close(folder)
    when = int(time.time()) if now is None else now
    crash = CrashInfo(dumping.pid, dumping.uid, dumping.gid, number, when, limit, dumping.dumpable, pidfd)
    return Peer(crash, executable, size)


def exit_code(stat: bytes) -> int:
    """The exit code that ``/proc/PID/stat`` shows, which is the signal once a core is dumped; 0 if none is shown."""
    fields = stat.rpartition(b")")[2].split()
    return int(fields[_EXIT_CODE]) if len(fields) > _EXIT_CODE and fields[_EXIT_CODE].isdigit() else 0


def core_limit(limits: bytes) -> int:
    """The soft RLIMIT_CORE that ``/proc/PID/limits`` shows, in bytes."""
    line = limits.partition(b"Max core file size")[2].split(b"\n", 1)[0].split()
    return int(line[0]) if line and line[0].isdigit() else _RLIM_INFINITY


def _of_memory(folder: int) -> tuple[bytes | None, int]:
    """Executable and size, from a thread that still has its memory: the first can have ended before another crashed."""
    for thread in _threads(folder):
        try:
            # That it was replaced since, by an update say, makes it no other program.
            executable = os.fsencode(os.readlink(f"{thread}/exe", dir_fd=folder)).removesuffix(b" (deleted)")
        except OSError:
            continue
        return executable if _is_in_a_trusted_namespace(folder, thread) else None, memory_size(
            _read(folder, f"{thread}/status")
        )
    return None, 0


def _threads(folder: int) -> Iterator[str]:
    yield "."
    try:
        tasks = os.open("task", _FOLDER, dir_fd=folder)
    except OSError:
        return
    try:
        names = os.listdir(tasks)
    finally:
        os.close(tasks)
    yield from (f"task/{name}" for name in names[:_MOST_THREADS])


def _is_in_a_trusted_namespace(folder: int, thread: str) -> bool:
    return os.readlink(f"{thread}/ns/mnt", dir_fd=folder) in _trusted_namespaces()


def _trusted_namespaces() -> set[str]:
    """This process's mount namespace, and init's: systemd gives a service that it protects one of its own."""
    trusted = {os.readlink("/proc/self/ns/mnt")}
    try:
        trusted.add(os.readlink("/proc/1/ns/mnt"))
    except OSError:
        # In a container init can be another user's; then only this process's own counts.
        pass
    return trusted


def _read(folder: int, name: str) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        return os.read(fd, _MOST_OF_A_FILE)
    finally:
        os.close(fd)
