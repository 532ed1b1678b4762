"""What the kernel was built with: CONFIG_COREDUMP and CONFIG_ELF_CORE, by what they leave in /proc."""

from __future__ import annotations

import gzip
import os
import zlib

from corefilt.doctor.row import NO, OK, UNKNOWN, Row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# What shows in /proc that an option is built in (fs/coredump.c and fs/proc/base.c).
OPTIONS = {"CONFIG_COREDUMP": "/proc/sys/kernel/core_pattern", "CONFIG_ELF_CORE": "/proc/self/coredump_filter"}
# A configuration of 6.18 has 270 KiB, of which allyesconfig makes twice that.
MOST = 4 << 20


def places() -> tuple[str, ...]:
    """Where a kernel's configuration can be."""
    release = os.uname().release
    return "/proc/config.gz", f"/boot/config-{release}", f"/lib/modules/{release}/config"


def configuration(files: Sequence[str]) -> tuple[str, bytes]:
    """The first of the files that can be read, and its text; empty without any."""
    for name in files:
        try:
            with (gzip.open if name.endswith(".gz") else open)(name, "rb") as file:
                text = file.read(MOST)
        except (OSError, EOFError, zlib.error):
            continue
        if text:
            return name, text
    return "", b""


def kernel_rows(files: Sequence[str] | None = None) -> list[Row]:
    """One row an option; what /proc shows counts, and the configuration is named beside."""
    name, text = configuration(places() if files is None else files)
    lines = set(text.splitlines())
    rows = []
    for option, shown in OPTIONS.items():
        configured = f"{option}=y".encode() in lines
        said = f"; {name} says {'y' if configured else 'n'}" if name else ""
        if os.path.exists(shown):
            rows.append(Row(option, OK, f"{shown} exists{said}"))
        elif configured:
            rows.append(Row(option, UNKNOWN, f"{shown} does not exist{said}", "mount /proc"))
        else:
            rows.append(Row(option, NO, f"{shown} does not exist{said}", f"a kernel with {option}"))
    return rows
