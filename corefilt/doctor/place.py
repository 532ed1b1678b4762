"""The folder that a core would be put into, and what stands there under its name; seen from the process.

All is opened relative to the process's own folder and root, in its mount namespace.
"""

from __future__ import annotations

import os
import stat
import subprocess

from corefilt.doctor.privileges import dump_mode_is_ordinary
from corefilt.doctor.row import NO, OK, UNKNOWN, Row
from corefilt.doctor.settings import FILE, Settings
from corefilt.doctor.subject import CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_SYS_RESOURCE, Subject
from corefilt.doctor.template import foreseen, split, unforeseen
from corefilt.io.openat import StepError, walk
from corefilt.sizes import show_size
from corefilt.text import printable

_CLOSED = "may not be examined"
_FLAGS = os.O_PATH | os.O_CLOEXEC
# How long test(1) may take on a file system that does not answer, in seconds.
PATIENCE = 5


class CoreFolder:
    """The folder of a core, held open: ``folder`` (-1: it cannot be opened), ``shown`` for people; a context manager.

    ``error`` says why it cannot be opened, ``answer`` whether that stands in the way. ``base`` is where the kernel
    begins to look, ``path`` the way from there; ``as_root`` tells that root makes the file, by the machine's root.
    """

    def __init__(self, subject: Subject, settings: Settings) -> None:
        template, self.template = split(settings.pattern or b"")
        self.base = self.folder = -1
        self.error, self.answer, self.remedy = "", OK, ""
        self.as_root = template[:1] == b"/" and dump_mode_is_ordinary(subject, settings) is False
        self.path = foreseen(template, subject, settings).lstrip(b"/") or b"."
        start = ("root" if template[:1] == b"/" else "cwd") if not self.as_root else "/"
        self.shown = printable(foreseen(template, subject, settings)) or _link(subject, "cwd")
        unknown = unforeseen(template)
        if unknown:
            self.error, self.answer = f"the directory depends on {unknown}, which only the crash knows", UNKNOWN
            return
        try:
            self.base = os.open(start, _FLAGS | os.O_DIRECTORY, dir_fd=subject.folder.fd)
            self.folder = self._open(subject)
        except PermissionError:
            self.error, self.answer, self.remedy = f"its {start} {_CLOSED}", UNKNOWN, "ask as root"
        except OSError as error:
            self.error, self.answer = f"{self.shown}: {error.strerror}", NO
            self.remedy = "create the directory: the kernel does not"

    def _open(self, subject: Subject) -> int:
        if not subject.same_root and not self.as_root:
            # A symbolic link that is absolute, or .. in its root, would lead us to another place than the process.
            parts = [os.fsdecode(part) for part in self.path.split(b"/") if part not in (b"", b".")]
            if os.pardir in parts:
                self.error, self.answer = f"{self.shown} is reached by .. in another root", UNKNOWN
                return -1
            try:
                return walk(os.dup(self.base), parts, flags=_FLAGS | os.O_DIRECTORY)
            except StepError as error:
                if stat.S_ISLNK(os.stat(error.filename, dir_fd=self.base, follow_symlinks=False).st_mode):
                    self.error, self.answer = f"{self.shown} is reached by a link in another root", UNKNOWN
                    return -1
                raise OSError(error.errno, error.strerror) from None
        return os.open(self.path, _FLAGS | os.O_DIRECTORY, dir_fd=self.base)

    def __enter__(self) -> CoreFolder:
        return self

    def __exit__(self, *about: object) -> None:
        for fd in {self.base, self.folder} - {-1}:
            os.close(fd)


def _link(subject: Subject, name: str) -> str:
    try:
        return printable(os.readlink(name, dir_fd=subject.folder.fd))
    except OSError:
        return "its working directory"


def place_rows(subject: Subject, settings: Settings, data: int | None) -> list[Row]:
    """All about the place; ``data`` is how many bytes the core may take at most, None if that is not known."""
    if settings.way != FILE:
        return [Row("directory", OK, f"the core goes to a {settings.way}, not to a directory")]
    with CoreFolder(subject, settings) as place:
        if place.folder < 0:
            return [Row("directory", place.answer, place.error, place.remedy)]
        return [
            _there(place),
            _writable(place, subject),
            _mounted(place),
            _room(place, subject, data),
            _name(place, subject, settings),
        ]


def _there(place: CoreFolder) -> Row:
    if os.fstat(place.folder).st_nlink == 0:
        return Row("directory", NO, f"{place.shown} was removed", "the process has to change its working directory")
    return Row("directory", OK, place.shown)


def _writable(place: CoreFolder, subject: Subject) -> Row:
    name = "directory writable"
    user = 0 if place.as_root else subject.uids[3]
    answer = _may_write(place, subject)
    if answer is None:
        return Row(name, UNKNOWN, f"only user {user} can tell", "ask as root")
    if answer:
        return Row(name, OK, f"user {user} may create files in it")
    why = f"user {user} may not create files in {place.shown} ({stat.filemode(os.fstat(place.folder).st_mode)})"
    return Row(name, NO, why, "kernel.core_pattern can name another directory")


def _may_write(place: CoreFolder, subject: Subject) -> bool | None:
    """Ask the kernel, in the name of the user that would make the file; None where that is not allowed."""
    path = f"/proc/self/fd/{place.base}/{os.fsdecode(place.path)}"
    almighty = place.as_root or subject.may(CAP_DAC_OVERRIDE)
    own = (os.geteuid(), os.getegid()) == (subject.uids[3], subject.gids[3])
    own = own and set(os.getgroups()) == set(subject.groups)
    if (almighty and os.geteuid() == 0) or (own and subject.uids[3] != 0):
        return os.access(path, os.W_OK | os.X_OK, effective_ids=True)
    if almighty or os.geteuid() != 0 or subject.uids[3] == 0:
        # A user 0 without its rights is one that we cannot become.
        return None
    try:
        asked = subprocess.run(
            ["test", "-w", path, "-a", "-x", path],
            user=subject.uids[3], group=subject.gids[3], extra_groups=subject.groups, pass_fds=(place.base,),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            cwd="/", env={"PATH": os.defpath}, timeout=PATIENCE, check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return {0: True, 1: False}.get(asked.returncode)


def _mounted(place: CoreFolder) -> Row:
    if os.fstatvfs(place.folder).f_flag & os.ST_RDONLY:
        return Row("not read-only", NO, f"{place.shown} is on a file system that is mounted read-only")
    return Row("not read-only", OK, "its file system can be written to")


def _room(place: CoreFolder, subject: Subject, data: int | None) -> Row:
    name, free = "space", os.fstatvfs(place.folder)
    blocks = free.f_bfree if place.as_root or subject.may(CAP_SYS_RESOURCE) else free.f_bavail
    room = blocks * free.f_frsize
    if free.f_blocks and not blocks:
        return Row(
            name, NO, "the file system is full", "free some space, or name another directory in kernel.core_pattern"
        )
    if free.f_files and not free.f_ffree:
        return Row(name, NO, "the file system has no inodes left", "remove files")
    if data is not None and data > room:
        return Row(name, OK, f"{show_size(room)}, less than the {show_size(data)} of the core, which would be cut")
    wants = f", and the core takes up to {show_size(data)}" if data is not None else ""
    return Row(name, OK, f"{show_size(room)}{wants}")


def _name(place: CoreFolder, subject: Subject, settings: Settings) -> Row:
    """What is there by the core's name goes away for it, if it can (vfs_coredump in fs/coredump.c, Linux 4.2.8 on)."""
    row = "nothing in the way"
    unknown = unforeseen(place.template)
    if unknown:
        return Row(row, UNKNOWN, f"the name depends on {unknown}, which only the crash knows")
    name = foreseen(place.template, subject, settings, uses_pid=settings.uses_pid)
    shown = printable(name)
    if name in (b"", b".", b".."):
        return Row(row, NO, f"the pattern gives the name {shown!r}, which no file can have", "set kernel.core_pattern")
    try:
        there = os.stat(name, dir_fd=place.folder, follow_symlinks=False)
    except FileNotFoundError:
        return Row(row, OK, f"there is no {shown}")
    except OSError as error:
        return Row(row, NO, f"{shown}: {error.strerror}", "set a shorter kernel.core_pattern")
    if stat.S_ISDIR(there.st_mode):
        return Row(row, NO, f"{shown} is a directory", "remove it, or set another kernel.core_pattern")
    if place.as_root:
        return Row(row, NO, f"{shown} exists, and a core for root does not replace files", "remove it")
    above = os.fstat(place.folder)
    mine = subject.uids[3] in (there.st_uid, above.st_uid) or subject.may(CAP_FOWNER)
    if above.st_mode & stat.S_ISVTX and not mine:
        return Row(
            row,
            NO,
            f"{shown} belongs to user {there.st_uid}, in a sticky directory, so it cannot be replaced",
            "remove it",
        )
    return Row(row, OK, f"{shown} exists and would be replaced")
