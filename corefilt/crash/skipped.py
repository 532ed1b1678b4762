"""Modules that are skipped on top of a backtrace: what runs there is how a crash is made known, not where it is.

The list is a part of the signature's version: another list is another version.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.crash.unwind.unwinder import Frame

VERSION = 1
# By the last part of the path. From the top only: what calls into these libraries ends the skipping.
SKIPPED = (
    ("C library", r"libc[.-].*|libc\.musl-.*|libpthread[.-].*"),
    ("dynamic loader", r"ld-.*\.so.*|ld\.so.*|ld64\.so.*"),
    ("vDSO", r"\[vdso\]"),
    ("C++ library", r"libstdc\+\+\.so.*|libc\+\+\.so.*|libc\+\+abi\.so.*"),
    ("unwinder", r"libgcc_s[.-].*|libunwind\.so.*"),
    ("sanitizer", r"lib(a|t|l|ub|hwa)san\.so.*|libclang_rt\..*san.*\.so.*"),
)
# What reports a failure of the Java virtual machine is in the machine's own library; it runs on top without a signal
# frame where the machine gives itself up (-XX:+CrashOnOutOfMemoryError).
REPORTERS = (("Java", r"libjvm\.so"),)

_GO_RUNTIME = (b"runtime.", b"runtime/")


def counted(frames: list[Frame], *, aborted: bool) -> list[Frame]:
    """The frames without those on top that are skipped; ``aborted`` tells that the process gave itself up."""
    # It takes 6 ms to load, and VERSION is asked for where there are no frames.
    import re

    skipped, reporters = (
        re.compile("|".join(f"(?:{pattern})" for _, pattern in names).encode()) for names in (SKIPPED, REPORTERS)
    )
    for n, frame in enumerate(frames):
        name = frame.module.name if frame.module is not None else b""
        of_go = frame.name is not None and frame.name.startswith(_GO_RUNTIME)
        if not (skipped.fullmatch(name) or of_go or (aborted and reporters.fullmatch(name))):
            return frames[n:]
    return []
