"""Takes every right from the process that is to read hostile bytes, for good, and looks whether it has gone."""

from __future__ import annotations

# The module signal only gives its numbers names.
import _signal as signal  # type: ignore[import-not-found]
import ctypes
import os
import resource
import select

from corefilt.errors import CorefiltError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from corefilt.handler.account import Account

# The layers that a kernel or a container can refuse, in the order in which they are put on.
LAYERS = ("pids", "network", "ipc", "mounts", "root", "priority", "seccomp")

# linux/sched.h and sys/mount.h
_NEWNS, _NEWIPC, _NEWPID, _NEWNET = 0x20000, 0x08000000, 0x20000000, 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 1, 2, 4, 8, 0x4000, 0x40000
# linux/prctl.h and linux/capability.h
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 1, 4, 24, 38, 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_MOST_CAPABILITIES = 64
_NO_DESCRIPTOR = (1 << 31) - 1
_EMPTY = (b"CapInh:\t" + b"0" * 16, b"CapPrm:\t" + b"0" * 16, b"CapEff:\t" + b"0" * 16, b"CapAmb:\t" + b"0" * 16)

# As systemd-coredump@.service has them.
NICENESS, OOM_SCORE = 9, 500
# ioprio_set(2): this process; the class "best effort" in its last level. The C library has no name for the call.
_IOPRIO_WHO_PROCESS, _IOPRIO = 1, 2 << 13 | 7
_IOPRIO_SET = {"x86_64": 251, "i686": 289, "armv7l": 314, "ppc64": 273, "ppc64le": 273, "s390x": 282}
_IOPRIO_SET_ELSEWHERE = 30
# Address space beside what is mapped when the limit is set. Of the headers that a pipe may bring before the end of
# NT_FILE (MAX_HEADERS, 64 MiB) the smallest are 32 bytes, and a segment takes up to 360: 784 MiB. smaps of the 65530
# mappings that max_map_count allows is 50 MiB; zstd at level 19 takes 100 MiB; each of four threads reserves 8 MiB of
# stack and 128 MiB of heap, whatever it uses. A core of 1,000,000 segments took 340 MB of it, interpreter and all.
ADDRESS_SPACE = 2 << 30
# Tasks of the account at a time, all workers together: each has three threads, and a server at most 1000 workers then.
MOST_TASKS = 4096


def own_pids() -> tuple[int, str]:
    """Have the next child be the first of its own pid namespace, which ends with it.

    Returns a descriptor for ``back``, or -1 and why that cannot be.
    """
    try:
        ours = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return -1, str(error.strerror)
    try:
        _call("unshare", _NEWPID)
    except OSError as error:
        os.close(ours)
        return -1, str(error.strerror)
    return ours, ""


def back(ours: int) -> None:
    """Have further children be like this process again. Raises OSError."""
    try:
        _call("setns", ours, _NEWPID)
    finally:
        os.close(ours)


def close_others(kept: Iterable[int]) -> None:
    """Close every descriptor but these."""
    before = -1
    for fd in sorted({*kept}):
        if fd > before + 1:
            os.closerange(before + 1, fd)
        before = fd
    os.closerange(before + 1, _NO_DESCRIPTOR)


def confine(account: Account, report: int) -> dict[str, str]:
    """Become the account, alone in empty namespaces, with no groups, capabilities or way to new ones.

    ``report`` is a pipe that the parent reads: this process ends when the parent does. Returns the layers that the
    kernel refuses, and why. Raises OSError, or CorefiltError where any right is left.
    """
    status = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
    missing = _be_last()
    missing.update(_be_alone())
    for capability in range(_MOST_CAPABILITIES):
        try:
            _call("prctl", _PR_CAPBSET_DROP, capability, 0, 0, 0)
        except OSError:
            # EINVAL behind the last one that the kernel knows.
            break
    os.umask(0o077)
    os.setgroups([])
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)
    _call("capset", (ctypes.c_uint32 * 2)(_LINUX_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)())
    _call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # Nobody of the same user traces it, and a crash of its own leaves no core.
    _call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)
    # A change of user takes this back, so it comes behind it.
    _call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Half of what fits into memory is the kernel's own limit: less than this on a machine of a gigabyte.
    most = within_hard_limit(resource.RLIMIT_NPROC, MOST_TASKS)
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    # Its number tells nothing: in a pid namespace of its own the parent of this process is always 0.
    waiting = select.poll()
    waiting.register(report, 0)
    if waiting.poll(0):
        raise CorefiltError("the parent has ended")
    _look(account, status)
    os.close(status)
    return missing


def _be_last() -> dict[str, str]:
    """Let everything else go first, and bound the memory."""
    with open("/proc/self/statm", "rb") as file:
        most = int(file.read().split()[0]) * resource.getpagesize() + ADDRESS_SPACE
    most = within_hard_limit(resource.RLIMIT_AS, most)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    try:
        os.nice(NICENESS)
        with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
            file.write(b"%d" % OOM_SCORE)
        number = _IOPRIO_SET.get(os.uname().machine, _IOPRIO_SET_ELSEWHERE)
        _call("syscall", number, _IOPRIO_WHO_PROCESS, 0, _IOPRIO)
    except OSError as error:
        return {"priority": str(error.strerror)}
    return {}


def within_hard_limit(limit: int, wanted: int) -> int:
    """``wanted``, or the hard limit if that is less: without privileges it cannot be raised."""
    _, hard = resource.getrlimit(limit)
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def _be_alone() -> dict[str, str]:
    """Leave network, IPC and mounts for empty ones, and every file for an empty root that cannot be written to.

    Below another root than that of its mounts no process makes a user namespace (``create_user_ns`` in
    kernel/user_namespace.c of Linux 6.18; since 3.9).
    """
    missing = {}
    for name, flag in (("network", _NEWNET), ("ipc", _NEWIPC), ("mounts", _NEWNS)):
        try:
            _call("unshare", flag)
        except OSError as error:
            missing[name] = str(error.strerror)
    try:
        if "mounts" in missing:
            # What would be mounted here everybody would see.
            os.chdir("/")
            return {**missing, "root": "it needs mounts of its own"}
        _call("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None)
        flags = _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
        _call("mount", b"none", b"/proc", b"tmpfs", flags, b"mode=0555,size=4k")
        os.chroot("/proc")
    except OSError as error:
        missing["root"] = str(error.strerror)
    os.chdir("/")
    return missing


def _look(account: Account, status: int) -> None:
    lines = set(os.pread(status, 1 << 16, 0).split(b"\n"))
    ids = [b"Uid:" + b"\t%d" % account.uid * 4, b"Gid:" + b"\t%d" % account.gid * 4, b"NoNewPrivs:\t1"]
    missing = [line for line in (*_EMPTY, *ids) if line not in lines]
    if missing or os.getgroups():
        raise CorefiltError(f"privileges are left: no {missing[0].decode()!r}" if missing else "groups are left")


def _call(name: str, *arguments: object) -> None:
    """Call a function of the C library. Raises OSError."""
    if getattr(_LIBC, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


_LIBC = ctypes.CDLL(None, use_errno=True)
