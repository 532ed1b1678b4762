"""The system calls that are left to the child, by libseccomp, where a binding of it is installed."""

from __future__ import annotations

import ctypes
import os
import sys
from importlib import import_module
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What reading, filtering and compressing take; whatever else is asked for is refused with EPERM.
ALLOWED = (
    "access", "brk", "cachestat", "clock_gettime", "clock_nanosleep", "close", "copy_file_range", "dup", "exit",
    "exit_group", "fadvise64", "fallocate", "fcntl", "fdatasync", "fstat", "fstatfs", "fsync", "ftruncate", "futex",
    "getcwd", "getdents64", "getegid", "geteuid", "getgid", "getgroups", "getpid", "getppid", "getrandom", "gettid",
    "getuid", "ioctl", "lseek", "lstat", "madvise", "membarrier", "mincore", "mmap", "mprotect", "mremap", "munmap",
    "nanosleep", "newfstatat", "poll", "pread64", "preadv", "pwrite64", "pwritev", "read", "readlink", "readlinkat",
    "readv", "restart_syscall", "rseq", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sched_getaffinity",
    "sched_yield", "sendfile", "set_robust_list", "sigaltstack", "splice", "stat", "statfs", "statx",
    "sync_file_range", "sysinfo", "uname", "write", "writev",
)  # fmt: skip

_CLONE_THREAD = 0x10000
_EPERM, _ENOSYS = 1, 38
# What is opened is opened for reading; where dropped bytes cannot be spliced to /dev/null, they are read.
_TO_WRITE = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC


def find_library() -> Any:
    """The binding: libseccomp's own (``seccomp``) or pyseccomp, which has the same names; None without one."""
    # What is there of this name would load subprocess and, asked, start ldconfig, a compiler and a linker, as root.
    stand_in = ModuleType("ctypes.util")
    stand_in.find_library = {"c": "libc.so.6", "seccomp": "libseccomp.so.2"}.get  # type: ignore[attr-defined]
    sys.modules["ctypes.util"] = ctypes.util = stand_in  # type: ignore[attr-defined]
    for name in ("seccomp", "pyseccomp"):
        try:
            return import_module(name)
        except (ImportError, OSError, RuntimeError):
            continue
    return None


def allow_calls(seccomp: Any) -> None:
    """Refuse all system calls but ALLOWED and new threads, from here on and for good."""
    rules = seccomp.SyscallFilter(seccomp.ERRNO(_EPERM))
    for name in ALLOWED:
        try:
            rules.add_rule(seccomp.ALLOW, name)
        except (OSError, ValueError, RuntimeError):
            # A call that this library or machine does not know.
            continue
    # Threads, not processes. clone3 keeps its flags behind a pointer, so the C library is told to do without.
    rules.add_rule(seccomp.ALLOW, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, _CLONE_THREAD, _CLONE_THREAD))
    rules.add_rule(seccomp.ERRNO(_ENOSYS), "clone3")
    rules.add_rule(seccomp.ALLOW, "openat", seccomp.Arg(2, seccomp.MASKED_EQ, _TO_WRITE, 0))
    rules.load()
