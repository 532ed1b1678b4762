"""Takes every right from the process that is to read hostile bytes, for good, and looks whether it has gone."""

from __future__ import annotations

import ctypes
import os
import resource
import signal

from corefilt.errors import CorefiltError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from corefilt.handler.account import Account

# linux/prctl.h and linux/capability.h
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 1, 4, 24, 38, 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_MOST_CAPABILITIES = 64
_NO_DESCRIPTOR = (1 << 31) - 1
_EMPTY = (b"CapInh:\t" + b"0" * 16, b"CapPrm:\t" + b"0" * 16, b"CapEff:\t" + b"0" * 16, b"CapAmb:\t" + b"0" * 16)


def close_others(kept: Iterable[int]) -> None:
    """Close every descriptor but these."""
    before = -1
    for fd in sorted({*kept}):
        if fd > before + 1:
            os.closerange(before + 1, fd)
        before = fd
    os.closerange(before + 1, _NO_DESCRIPTOR)


def confine(account: Account, parent: int) -> None:
    """Become the account, with no groups, capabilities or way to new ones; end when ``parent`` does.

    Raises OSError, or CorefiltError where anything is left.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(_MOST_CAPABILITIES):
        # EINVAL behind the last one that the kernel knows.
        if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
            break
    os.chdir("/")
    os.umask(0o077)
    os.setgroups([])
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)
    header = (ctypes.c_uint32 * 2)(_LINUX_CAPABILITY_VERSION_3, 0)
    for call, *arguments in (
        (libc.capset, header, (ctypes.c_uint32 * 6)()),
        (libc.prctl, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0),
        (libc.prctl, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        # Nobody of the same user traces it, and a crash of its own leaves no core.
        (libc.prctl, _PR_SET_DUMPABLE, 0, 0, 0, 0),
        # A change of user takes this back, so it comes behind it.
        (libc.prctl, _PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0),
    ):
        if call(*arguments):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.getppid() != parent:
        raise CorefiltError("the parent has ended")
    _look(account)


def _look(account: Account) -> None:
    with open("/proc/self/status", "rb") as file:
        lines = set(file.read().split(b"\n"))
    ids = [b"Uid:" + b"\t%d" % account.uid * 4, b"Gid:" + b"\t%d" % account.gid * 4, b"NoNewPrivs:\t1"]
    missing = [line for line in (*_EMPTY, *ids) if line not in lines]
    if missing or os.getgroups():
        raise CorefiltError(f"rights are left: no {missing[0].decode()!r}" if missing else "groups are left")
