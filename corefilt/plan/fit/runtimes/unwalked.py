"""Runtimes of a process that nothing of this run walks: their frames are not among what a backtrace needs."""

from __future__ import annotations

import os
import re

from corefilt.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from corefilt.corefile.mappings import Mappings

# The files by whose names a runtime of --runtime is recognised; Go's programs are recognised by their data.
NAMES = {
    "java": re.compile(rb"(^|/)libjvm\.so$"),
    "python": re.compile(rb"(^|/)(libpython3\.\d+\w*\.so[.\d]*|python3?(\.\d+)?[a-z]*)$"),
}
# Those that --runtime does not know.
OTHERS = {
    ".NET": re.compile(rb"(^|/)libcoreclr\.so$"),
    "Node.js": re.compile(rb"(^|/)(node|libnode\.so[.\d]*)$"),
    "Ruby": re.compile(rb"(^|/)(libruby[-.\d]*\.so[.\d]*|ruby[.\d]*)$"),
    "PHP": re.compile(rb"(^|/)(libphp[.\d]*\.so|php(-fpm)?[.\d]*)$"),
    "Erlang": re.compile(rb"(^|/)beam(\.smp)?$"),
}


def unwalked(maps: Mappings, walked: Sequence[str]) -> Iterator[str]:
    """Yield what is missing for the frames of each runtime that is loaded and not among the ``walked`` ones."""
    paths = {path for path in map(maps.path, range(len(maps))) if path is not None}
    known = {name.title(): pattern for name, pattern in NAMES.items() if name not in walked}
    for title, pattern in (known | OTHERS).items():
        path = next((path for path in sorted(paths) if pattern.search(path)), None)
        if path is None:
            continue
        more = f"--runtime {title.lower()} keeps it" if title in known else "only a filter without --minimal keeps it"
        yield (
            f"{title} ({printable(os.path.basename(path))}): a debugger shows its native frames; its own frames are in "
            f"memory that --minimal drops, and {more}"
        )
