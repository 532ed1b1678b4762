"""Whose core it is, by its notes: process, user, signal, name and executable."""

from __future__ import annotations

from corefilt.corefile.elf import Ehdr
from corefilt.corefile.notes import AT_ENTRY, AT_PHDR, Notes
from corefilt.corefile.registers import Thread

# Where pr_uid, pr_gid, pr_pid and pr_fname stand in struct elf_prpsinfo, and how wide the first two are, in bytes, by
# its size: of 64 bits, of 32, and of 32 with uids of 16 (include/linux/elfcore.h and elfcore-compat.h, Linux 6.18).
_PRPSINFO = {136: (16, 20, 24, 40, 4), 128: (8, 12, 16, 32, 4), 124: (8, 10, 12, 28, 2)}
# TASK_COMM_LEN is 16, the final zero included.
_FNAME = 16
# What stands for an id that 16 bits cannot hold (fs.overflowuid's default, kernel/sys.c).
_OVERFLOW = 65534

# Where pr_cursig stands in struct elf_prstatus, in bytes.
_PR_CURSIG = 12


class Owner:
    """What the notes tell; None is what they do not.

    ``pid`` is the process's and ``tid`` the crashed thread's number in their own pid namespace, ``uid`` and ``gid`` are
    those of its user namespace, ``comm`` is the name of the process's first thread, ``executable`` a path.
    """

    __slots__ = ("comm", "executable", "gid", "pid", "signal", "tid", "uid")

    def __init__(self, notes: Notes, ehdr: Ehdr) -> None:
        self.pid: int | None = None
        self.uid: int | None = None
        self.gid: int | None = None
        self.comm: bytes | None = None
        self._read_prpsinfo(notes.prpsinfo, ehdr)
        try:
            self.tid = Thread(notes.crashed, ehdr).pid or None
        except ValueError:
            self.tid = None
        self.signal = _number(notes.siginfo, 0, 4, ehdr)
        if self.signal is None:
            self.signal = _number(notes.crashed, _PR_CURSIG, 2, ehdr)
        self.executable = _executable(notes)

    def _read_prpsinfo(self, desc: bytes, ehdr: Ehdr) -> None:
        if len(desc) not in _PRPSINFO:
            return
        uid_at, gid_at, pid_at, name_at, wide = _PRPSINFO[len(desc)]
        self.uid, self.gid = (_number(desc, at, wide, ehdr) for at in (uid_at, gid_at))
        if wide == 2:
            self.uid, self.gid = (None if number == _OVERFLOW else number for number in (self.uid, self.gid))
        self.pid = _number(desc, pid_at, 4, ehdr) or None
        self.comm = desc[name_at : name_at + _FNAME].split(b"\0", 1)[0]


def _number(desc: bytes, at: int, length: int, ehdr: Ehdr) -> int | None:
    raw = desc[at : at + length]
    return ehdr.number(raw) if len(raw) == length else None


def _executable(notes: Notes) -> bytes | None:
    """The mapped file that the auxiliary vector's AT_PHDR, else AT_ENTRY, points into."""
    files = notes.files
    if files is None:
        return None
    for key in (AT_PHDR, AT_ENTRY):
        address = notes.auxv.get(key)
        if address:
            found = next((i for i in range(files.count) if files.start(i) <= address < files.end(i)), None)
            if found is not None:
                return files.path(found)
    return None
