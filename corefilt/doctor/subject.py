"""What /proc tells of the process that is asked about."""

from __future__ import annotations

import os
import stat

from corefilt.errors import ProcessError
from corefilt.procfs.coredump_filter import read_limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.procfs.pid import ProcFolder

# Bits of CapEff (include/uapi/linux/capability.h).
CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_SYS_RESOURCE = 1, 3, 24


class Program:
    """The file that a process runs: its ``status``, whether it ``has_capabilities``, whether set-ID bits count."""

    __slots__ = ("has_capabilities", "path", "set_id_counts", "status")

    def __init__(self, fd: int, path: str) -> None:
        self.path, self.status = path, os.fstat(fd)
        self.set_id_counts = not os.fstatvfs(fd).f_flag & os.ST_NOSUID
        try:
            self.has_capabilities = bool(os.getxattr(f"/proc/self/fd/{fd}", "security.capability"))
        except OSError:
            self.has_capabilities = False


class Subject:
    """A process: its ids (real, effective, saved, of the file system), rights, limits, and what it runs.

    ``owner`` is the user that its files in /proc belong to, ``program`` None where it may not be looked at.
    """

    def __init__(self, folder: ProcFolder) -> None:
        """Read all of it. Raises ProcessError."""
        self.folder, self.pid, self.name = folder, folder.pid, folder.name
        self.status = _status(folder)
        self.uids, self.gids = (_numbers(self.status.get(key, "")) for key in ("Uid", "Gid"))
        self.groups = _numbers(self.status.get("Groups", ""))
        if len(self.uids) != 4 or len(self.gids) != 4:
            raise ProcessError(f"{self.name}: its status names no users and groups")
        self.capabilities = int(self.status.get("CapEff", "0"), 16)
        self.no_new_privileges = self.status.get("NoNewPrivs") == "1"
        self.comm = folder.read("comm").removesuffix(b"\n")
        self.limits = read_limits(folder)
        self.owner = os.stat("status", dir_fd=folder.fd).st_uid
        self.same_users = _same("ns/user", "/proc/self/ns/user", folder)
        self.same_root = _same("root", "/", folder)
        self.program = _program(folder)

    def may(self, capability: int) -> bool:
        """Whether it has a capability that counts for files of this user namespace."""
        return bool(self.capabilities >> capability & 1) and self.same_users

    @property
    def has_memory(self) -> bool:
        """Whether it is neither a zombie nor a thread of the kernel."""
        return "VmSize" in self.status


def _status(folder: ProcFolder) -> dict[str, str]:
    lines = folder.read("status").decode("utf-8", "backslashreplace").splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split()]


def _same(name: str, other: str, folder: ProcFolder) -> bool:
    try:
        return os.path.samestat(os.stat(name, dir_fd=folder.fd), os.stat(other))
    except OSError:
        return False


def _program(folder: ProcFolder) -> Program | None:
    try:
        fd = os.open("exe", os.O_PATH | os.O_CLOEXEC, dir_fd=folder.fd)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return None
            return Program(fd, os.readlink("exe", dir_fd=folder.fd))
        finally:
            os.close(fd)
    except OSError:
        return None
