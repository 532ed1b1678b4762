"""The limits that end a core before it begins: RLIMIT_CORE and RLIMIT_FSIZE."""

from __future__ import annotations

import os

from corefilt.doctor.row import NO, OK, Row
from corefilt.doctor.settings import FILE, PIPE, Settings
from corefilt.doctor.subject import Subject
from corefilt.sizes import show_size

# ELF_EXEC_PAGESIZE, below which min_coredump in fs/binfmt_elf.c ends the dump; it is a page, or 4 KiB on some machines.
LEAST = os.sysconf("SC_PAGE_SIZE")


def core_limit(subject: Subject, settings: Settings) -> Row:
    """RLIMIT_CORE: for a file at least a page, for a pipe anything but 1, for a socket anything."""
    name = "RLIMIT_CORE"
    soft, hard = subject.limits["Max core file size"]
    raised = f"prlimit --pid {subject.pid} --core=unlimited"
    if settings.way == PIPE and soft == 1:
        return Row(name, NO, "it is 1, which marks a crash of the pipe's own program", raised)
    if settings.way != FILE:
        return Row(name, OK, f"it does not count for a {settings.way}")
    if soft is None:
        return Row(name, OK, "unlimited")
    if soft < LEAST:
        what = "it is 0" if soft == 0 else f"it is {soft}, less than a page"
        if hard is not None and hard < LEAST:
            return Row(name, NO, f"{what}, and so is the hard limit", f"as root: {raised}:unlimited")
        return Row(name, NO, what, raised)
    return Row(name, OK, f"{show_size(soft)}; the kernel cuts what is longer", raised)


def file_size_limit(subject: Subject, settings: Settings) -> Row:
    """RLIMIT_FSIZE counts for a file from its first byte on: with 0 an empty one is left."""
    name = "RLIMIT_FSIZE"
    soft, _ = subject.limits["Max file size"]
    if settings.way != FILE:
        return Row(name, OK, f"it does not count for a {settings.way}")
    if soft is None:
        return Row(name, OK, "unlimited")
    raised = f"prlimit --pid {subject.pid} --fsize=unlimited"
    if soft == 0:
        return Row(name, NO, "it is 0: the file would stay empty", raised)
    return Row(name, OK, f"{show_size(soft)}; the file ends there, in the middle of a page or not", raised)
