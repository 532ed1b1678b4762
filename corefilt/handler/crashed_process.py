"""The process that crashed, while the kernel still writes its core: opened by root, and looked at by nobody yet.

``/proc/PID`` is opened once, and all else relative to it. What is opened is handed to the child as descriptors: the
kernel asked for the right to read smaps when it was opened, and only root may follow map_files, so the child can read
the map and ask each file for its links and mode without any right of its own. The parent reads what is short and
written by the kernel: names, and lines of ``status`` that begin as it expects.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.handler.crash_info import Crash

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Files of one process that are handed over, a descriptor each; a large program maps some thousand.
MOST_FILES = 16384
# For everything else that is opened.
LEFT_OVER = 64
# Threads that are tried where the first has ended before the others.
MOST_THREADS = 256
# A page, as far as the kernel fills it; Groups alone can make status longer.
MOST_OF_STATUS = 1 << 20


class Victim:
    """What was opened, and who it is.

    ``smaps`` and ``maps`` are descriptors or -1, ``files`` those of the mapped files (O_PATH) by their names in
    map_files. ``comm`` and ``executable`` are names, or None if not known; ``inside`` is the process's number in its
    own pid namespace, ``plain`` tells that its user and group ids are one each, those of the crash. ``why_not`` says
    why nothing of it can be used, and ``notices`` what is missing.
    """

    __slots__ = ("comm", "executable", "files", "inside", "maps", "notices", "plain", "smaps", "why_not")

    def __init__(self) -> None:
        """Begin with nothing."""
        self.smaps = self.maps = -1
        self.files: dict[str, int] = {}
        self.comm: bytes | None = None
        self.executable: bytes | None = None
        self.inside: int | None = None
        self.plain = False
        self.why_not = ""
        self.notices: list[str] = []

    @property
    def descriptors(self) -> list[int]:
        """All that are open."""
        return [fd for fd in (self.smaps, self.maps, *self.files.values()) if fd >= 0]

    def close(self) -> None:
        """Give all of them back."""
        for fd in self.descriptors:
            os.close(fd)
        self.smaps = self.maps = -1
        self.files = {}


def open_victim(crash: Crash) -> Victim:
    """Open what the process shows; where it is not certainly this process, nothing, and ``why_not`` says so."""
    victim = Victim()
    try:
        folder = os.open(f"/proc/{crash.pid}", _FOLDER)
    except OSError as error:
        victim.why_not = f"process {crash.pid}: {error.strerror}"
        return victim
    try:
        dumping = crash.pidfd is not None or _is_dumping(folder)
        _look(victim, folder, crash)
        # The folder is that of one process, whoever has its number later; so once is enough, after all was opened.
        same = _is_process(crash.pidfd, crash.pid) if crash.pidfd is not None else dumping and _is_dumping(folder)
    finally:
        os.close(folder)
    if not same:
        victim.close()
        victim = Victim()
        how = "its pidfd is of another one" if crash.pidfd is not None else "it does not dump core"
        victim.why_not = f"process {crash.pid} is not the one that crashed: {how}"
    return victim


def _look(victim: Victim, folder: int, crash: Crash) -> None:
    with _living(folder) as living:
        victim.comm = _short(living, "comm")
        victim.executable = _link(living, "exe")
        _read_status(victim, _short(living, "status", MOST_OF_STATUS) or b"", crash)
        for name in ("smaps", "maps"):
            try:
                setattr(victim, name, os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=living))
            except OSError as error:
                victim.notices.append(f"its {name} cannot be opened: {error.strerror}")
    try:
        files = os.open("map_files", _FOLDER, dir_fd=folder)
    except OSError as error:
        victim.notices.append(f"its files cannot be looked at: {error.strerror}")
        return
    try:
        _open_files(victim, files)
    finally:
        os.close(files)


class _living:
    """A folder of a thread that still has memory: the process's own, or that of one of its threads.

    The first thread of a process can have ended before another one crashed.
    """

    def __init__(self, folder: int) -> None:
        self._folder, self._thread = folder, -1

    def __enter__(self) -> int:
        if _link(self._folder, "exe") is not None:
            return self._folder
        for thread in self._threads():
            if _link(thread, "exe") is not None:
                self._thread = thread
                return thread
            os.close(thread)
        return self._folder

    def _threads(self) -> Iterator[int]:
        try:
            task = os.open("task", _FOLDER, dir_fd=self._folder)
        except OSError:
            return
        try:
            for name in os.listdir(task)[:MOST_THREADS]:
                try:
                    yield os.open(name, _FOLDER, dir_fd=task)
                except OSError:
                    continue
        finally:
            os.close(task)

    def __exit__(self, *about: object) -> None:
        if self._thread >= 0:
            os.close(self._thread)


def _open_files(victim: Victim, folder: int) -> None:
    """Open every mapped file by O_PATH: no file system is asked for anything, so none can hold this up."""
    try:
        names = os.listdir(folder)
    except OSError as error:
        victim.notices.append(f"its files cannot be listed: {error.strerror}")
        return
    most = _room(len(names))
    if len(names) > most:
        victim.notices.append(f"only {most} of its {len(names)} mapped files are looked at")
    for name in names[:most]:
        try:
            victim.files[name] = os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=folder)
        except OSError:
            # A mapping that went away: the child misses it and says so.
            continue


def _room(wanted: int) -> int:
    """How many of so many descriptors there can be, others left over; raises RLIMIT_NOFILE for them where it may."""
    import resource

    wanted = min(wanted, MOST_FILES)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted + LEFT_OVER:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted + LEFT_OVER, max(hard, wanted + LEFT_OVER)))
        except (OSError, ValueError):
            return max(0, soft - LEFT_OVER)
    return wanted


def _read_status(victim: Victim, status: bytes, crash: Crash) -> None:
    """Take the lines that begin a line: the kernel escapes newlines in the name, which alone is the process's."""
    lines = dict(line.split(b":\t", 1) for line in status.split(b"\n") if b":\t" in line)
    inside = lines.get(b"NSpid", b"").split()
    victim.inside = int(inside[-1]) if inside and inside[-1].isdigit() else None
    ids = [lines.get(name, b"").split() for name in (b"Uid", b"Gid")]
    victim.plain = ids == [[b"%d" % crash.uid] * 4, [b"%d" % crash.gid] * 4]


def _is_dumping(folder: int) -> bool:
    with _living(folder) as living:
        return b"\nCoreDumping:\t1\n" in (_short(living, "status", MOST_OF_STATUS) or b"")


def _is_process(pidfd: int, pid: int) -> bool:
    """Whether a pidfd is of the process that has this number, and it was not waited for yet."""
    import signal

    try:
        with open(f"/proc/self/fdinfo/{pidfd}", "rb") as file:
            if b"\nPid:\t%d\n" % pid not in file.read():
                return False
        signal.pidfd_send_signal(pidfd, 0)
    except OSError:
        return False
    return True


def _short(folder: int, name: str, most: int = 4096) -> bytes | None:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return None
    try:
        text = os.read(fd, most)
    except OSError:
        return None
    finally:
        os.close(fd)
    return text[:-1] if name == "comm" else text


def _link(folder: int, name: str) -> bytes | None:
    try:
        return os.fsencode(os.readlink(name, dir_fd=folder))
    except OSError:
        return None
