"""The process that crashed, while the kernel still writes its core: opened by root, and looked at by nobody yet.

``/proc/PID`` is opened once, and all else relative to it. What is opened is handed to the child as descriptors: the
kernel asked for the right to read smaps when it was opened, and only root may follow map_files, so the child can read
the map and ask each file for its links and mode without any right of its own. The parent reads what is short and
written by the kernel: names, numbers of ``stat`` and ``auxv``, and lines of ``status`` that begin as it expects.
"""

from __future__ import annotations

import os

from corefilt.handler.auxiliary import Auxiliary
from corefilt.procfs.pidfd import dumping, is_process, start_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from corefilt.handler.crash_info import CrashInfo

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Files of one process that are handed over, a descriptor each; a large program maps some thousand.
MOST_FILES = 16384
# For everything else that is opened.
LEFT_OVER = 64
# Threads that are tried where the first has ended before the others.
MOST_THREADS = 256
# Threads that are asked for their rights before anybody but root may read the core. One takes 0.2 ms on a busy machine,
# so the process waits for few of them; of more than these the notes alone, 2.7 KiB each, fill the pipe, and so the
# process is there until the child reads, whatever core_pipe_limit is.
MOST_PLAIN_THREADS, FEW_THREADS = 1024, 24
# A page, as far as the kernel fills it; Groups alone can make status longer.
MOST_OF_STATUS = 1 << 20


class Victim:
    """What was opened, and who it is.

    ``smaps``, ``maps``, ``cmdline`` and ``cgroup`` are descriptors or -1, ``files`` those of the mapped files (O_PATH)
    by their names in map_files. ``comm`` and ``executable`` are names, or None if not known; ``inside`` is the
    process's number in its own pid namespace, ``started`` its start in clock ticks since boot. ``plain`` tells that all
    its threads have one user and one group, those of the crash, and no capability, and that its program gave it no
    right. ``why_not`` says why nothing of it can be used, and ``notices`` what is missing.

    ``program`` is the executable's file (O_PATH) or -1, ``size`` what the process has in memory and swap, in bytes.

    ``pidfd`` is -1 unless it is certain that it is of the process that dumps core, and ``unproven`` says why; ``close``
    leaves it open. ``folder`` is ``/proc/PID`` while its threads, which are many, are still to be asked for their
    rights.
    """

    __slots__ = (
        "cgroup", "cmdline", "comm", "executable", "files", "folder", "inside", "maps", "notices", "pidfd", "plain",
        "program", "size", "smaps", "started", "unproven", "why_not",
    )  # fmt: skip

    def __init__(self) -> None:
        self.smaps = self.maps = self.cmdline = self.cgroup = self.pidfd = self.folder = self.program = -1
        self.size = 0
        self.started: int | None = None
        self.files: dict[str, int] = {}
        self.comm: bytes | None = None
        self.executable: bytes | None = None
        self.inside: int | None = None
        self.plain = False
        self.why_not = self.unproven = ""
        self.notices: list[str] = []

    @property
    def descriptors(self) -> list[int]:
        """All that are open."""
        return [fd for fd in (self.smaps, self.maps, self.cmdline, self.cgroup, *self.files.values()) if fd >= 0]

    def close(self) -> None:
        """Give all of them back."""
        for fd in self.descriptors:
            os.close(fd)
        self.smaps = self.maps = self.cmdline = self.cgroup = -1
        self.files = {}
        for fd in (self.folder, self.program):
            if fd >= 0:
                os.close(fd)
        self.folder = self.program = -1

    def ask_its_threads(self, crash: CrashInfo) -> None:
        """Complete ``plain``, once the child is at work."""
        if self.folder >= 0:
            self.plain = _are_plain(self.folder, crash)


def open_victim(crash: CrashInfo) -> Victim:
    """Open what the process shows; where it is not certainly this process, nothing, and ``why_not`` says so."""
    victim = Victim()
    try:
        folder = os.open(f"/proc/{crash.pid}", _FOLDER)
    except OSError as error:
        victim.why_not = f"process {crash.pid}: {error.strerror}"
        return victim
    pidfd = _open_pidfd(crash)
    try:
        dumps = crash.pidfd is not None or is_dumping(folder)
        _look(victim, folder, crash)
        # The folder is that of one process, whoever has its number later; so once is enough, after all was opened.
        same = is_process(crash.pidfd, crash.pid) if crash.pidfd is not None else dumps and is_dumping(folder)
        unproven = _why_unproven(pidfd, folder, crash) if same else "it is of another process"
    finally:
        os.close(folder)
    if not same:
        victim.close()
        victim = Victim()
        how = "its pidfd is of another one" if crash.pidfd is not None else "it does not dump core"
        victim.why_not = f"process {crash.pid} is not the one that crashed: {how}"
    victim.unproven = unproven
    if not unproven:
        victim.pidfd = pidfd
    elif pidfd >= 0 and pidfd != crash.pidfd:
        os.close(pidfd)
    return victim


def _open_pidfd(crash: CrashInfo) -> int:
    """The kernel's own pidfd, else one of whoever has the number now, -1 where nobody has it."""
    if crash.pidfd is not None:
        return crash.pidfd
    try:
        return os.pidfd_open(crash.pid)
    except OSError:
        return -1


def _why_unproven(pidfd: int, folder: int, crash: CrashInfo) -> str:
    """Why it is not certain that a pidfd is of the process that dumps this core; empty where it may be killed by it.

    With %F the kernel says so of the pidfd that it made. Without, the folder's process has just shown that it is
    dumping core, so it had this number before the pidfd was opened, and has it still; and it is no later process, that
    crashed too, if it started before this crash.
    """
    if pidfd < 0:
        return "it cannot be opened"
    try:
        if crash.pidfd is not None:
            who = dumping(pidfd)
            if who is None:
                return "the kernel does not say that it dumps core"
            return "" if who.pid == crash.pid else f"the kernel says that it is of process {who.pid}"
        started = start_time(folder)
        if started is None or not is_process(pidfd, crash.pid) or not is_dumping(folder):
            return "it is of a process that does not dump core"
    except OSError as error:
        return f"the kernel says nothing of it: {error.strerror}"
    import time

    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    # %t is whole seconds, and a clock can have been set by a little since.
    before = boot + started / os.sysconf("SC_CLK_TCK") < crash.time + 2
    return "" if before else "it is of a process that started after the crash, or the clock was set"


def _look(victim: Victim, folder: int, crash: CrashInfo) -> None:
    with _living(folder) as living:
        victim.comm = _short(living, "comm")
        victim.executable = _link(living, "exe")
        victim.started = start_time(folder)
        try:
            victim.program = os.open("exe", os.O_PATH | os.O_CLOEXEC, dir_fd=living)
        except OSError:
            victim.program = -1
        _read_status(victim, _short(living, "status", MOST_OF_STATUS) or b"", crash)
        auxiliary = Auxiliary(_short(living, "auxv") or b"")
        if victim.plain and auxiliary.is_plain(crash.uid, crash.gid):
            victim.plain = _are_plain(folder, crash, FEW_THREADS)
            if not victim.plain:
                victim.folder = os.dup(folder)
        else:
            victim.plain = False
        for name in ("smaps", "maps", "cmdline", "cgroup"):
            try:
                setattr(victim, name, os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=living))
            except OSError as error:
                victim.notices.append(f"its {name} cannot be opened: {error.strerror}")
    try:
        files = os.open("map_files", _FOLDER, dir_fd=folder)
    except OSError as error:
        victim.notices.append(f"its files cannot be examined: {error.strerror}")
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
        for thread in _threads(self._folder, MOST_THREADS):
            if _link(thread, "exe") is not None:
                self._thread = thread
                return thread
            os.close(thread)
        return self._folder

    def __exit__(self, *about: object) -> None:
        if self._thread >= 0:
            os.close(self._thread)


def _threads(folder: int, most: int) -> Iterator[int]:
    """Folders of the threads of a process, which the caller closes."""
    try:
        task = os.open("task", _FOLDER, dir_fd=folder)
    except OSError:
        return
    try:
        for name in os.listdir(task)[:most]:
            try:
                yield os.open(name, _FOLDER, dir_fd=task)
            except OSError:
                continue
    finally:
        os.close(task)


def _open_files(victim: Victim, folder: int) -> None:
    """Open every mapped file by O_PATH: no file system is asked for anything, so none can hold this up."""
    try:
        names = os.listdir(folder)
    except OSError as error:
        victim.notices.append(f"its files cannot be listed: {error.strerror}")
        return
    most = _room(len(names))
    if len(names) > most:
        victim.notices.append(f"only {most} of its {len(names)} mapped files are examined")
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


def _read_status(victim: Victim, status: bytes, crash: CrashInfo) -> None:
    lines = _lines_of(status)
    inside = lines.get(b"NSpid", b"").split()
    victim.inside = int(inside[-1]) if inside and inside[-1].isdigit() else None
    victim.size = memory_size(status)
    victim.plain = crash.dumpable == 1 and _is_plain(lines, crash)


def _is_plain(lines: Mapping[bytes, bytes], crash: CrashInfo) -> bool:
    """Whether a thread has one user and one group, those of the crash, and no capability that it could use."""
    ids = [lines.get(name, b"").split() for name in (b"Uid", b"Gid")]
    one = ids == [[b"%d" % crash.uid] * 4, [b"%d" % crash.gid] * 4]
    return one and lines.get(b"CapPrm", b"").strip() == b"0" * 16


def memory_size(status: bytes) -> int:
    """What ``/proc/PID/status`` shows of memory and swap, in bytes."""
    lines = _lines_of(status)
    values = (lines.get(name, b"").split() for name in (b"VmRSS", b"VmSwap"))
    return sum(int(value[0]) << 10 for value in values if value and value[0].isdigit())


def still_dumps(victim: Victim, pid: int) -> bool:
    """Whether the process stands in its dump, where it takes one of core_pipe_limit's places."""
    try:
        folder = os.open(f"/proc/{pid}", _FOLDER)
    except OSError:
        return False
    try:
        # Whoever has the number after it, the pidfd is not of that one, and its start is another.
        if victim.pidfd >= 0:
            return is_dumping(folder) and is_process(victim.pidfd, pid)
        return victim.started is not None and start_time(folder) == victim.started and is_dumping(folder)
    finally:
        os.close(folder)


def _are_plain(folder: int, crash: CrashInfo, most: int = MOST_PLAIN_THREADS) -> bool:
    """Whether all threads are: each has rights of its own, and the memory is everyone's.

    Where there are more than ``most`` of them, that is not known.
    """
    count = 0
    for thread in _threads(folder, most + 1):
        status = _short(thread, "status", MOST_OF_STATUS) or b""
        os.close(thread)
        count += 1
        if count > most or not _is_plain(_lines_of(status), crash):
            return False
    return count > 0


def _lines_of(status: bytes) -> dict[bytes, bytes]:
    """The lines that begin a line: the kernel escapes newlines in the name, which alone is the process's."""
    return dict(line.split(b":\t", 1) for line in status.split(b"\n") if b":\t" in line)


def is_dumping(folder: int) -> bool:
    """Whether the process of an open ``/proc/PID`` stands in its dump: not before it, and not in its end behind it."""
    with _living(folder) as living:
        return b"\nCoreDumping:\t1\n" in (_short(living, "status", MOST_OF_STATUS) or b"")


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
