"""Names in a bundle: which one a path gets, the links that lead there from the linker's names, what is refused.

Every name that is unpacked was chosen by somebody else, so nothing is resolved here: a name is one that can lead
nowhere else, or it is refused.
"""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MANIFEST, CORE, ROOT, DEBUG = "manifest.json", "core", "root", "debug"
# Written for people who have no corefilt; corefilt unpacks them and uses none.
TEXTS = ("README", "gdbinit", "lldbinit", "open.sh")
# Directories that are links into /usr where those two are merged (file-hierarchy(7)).
MERGED = (b"bin", b"lib", b"lib32", b"lib64", b"libx32", b"sbin")
# NAME_MAX of Linux's file systems, and directories in one another; a JVM's libraries lie 7 deep.
MOST_OF_A_NAME = 255
MOST_FOLDERS = 64


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link below root/: its path there, without the first slash, and where it leads."""

    name: bytes
    target: bytes


@dataclass(frozen=True, slots=True)
class Links:
    """Links, the directories that have to be there for the linker's names, and files that are found by name alone."""

    links: tuple[Link, ...]
    folders: tuple[bytes, ...]
    by_name: tuple[bytes, ...]


def is_plain(path: bytes) -> bool:
    """Whether an absolute path names its file without detours, so that it can be one below root/."""
    steps = path.split(b"/")
    return (
        path.startswith(b"/")
        and len(steps) <= MOST_FOLDERS
        and all(step not in (b"", b".", b"..") and len(step) <= MOST_OF_A_NAME for step in steps[1:])
        and b"\0" not in path
    )


def build_id_path(build_id: bytes) -> bytes:
    """Where below a debug file directory debuggers look for a build-id's file."""
    text = build_id.hex().encode()
    return b"/.build-id/" + text[:2] + b"/" + text[2:] + b".debug"


def links_for(objects: Iterable[tuple[bytes, bytes]]) -> Links:
    """How debuggers get from the names of the link map to the files: (name, path of the file) each.

    Links of whole directories come first, as /lib that leads to /usr/lib. Names that are not absolute are looked for
    by their last part.
    """
    pairs = [(name, path) for name, path in objects if is_plain(path)]
    absolute = [(name, path) for name, path in pairs if name.startswith(b"/") and b"\0" not in name]
    files = {path for _, path in pairs}
    made: dict[bytes, Link] = {}
    merged = []
    for top in MERGED:
        below = b"/" + top + b"/"
        if any(name.startswith(below) and path == b"/usr" + name for name, path in absolute) and not any(
            path.startswith(below) for path in files
        ):
            merged.append(below)
            made[b"/" + top] = Link(top, b"usr/" + top)
    folders: set[bytes] = set()
    taken = files | {parent for path in files for parent in _parents(path)}
    for name, path in absolute:
        name = _within_usr(name, merged)
        folders.update(_left_again(name))
        name = _within_usr(posixpath.normpath(b"/" + name.lstrip(b"/")), merged)
        if name == path or name in taken or not is_plain(name) or any(p in files or p in made for p in _parents(name)):
            continue
        taken.update((name, *_parents(name)))
        made[name] = Link(name[1:], posixpath.relpath(path, posixpath.dirname(name)))
    return Links(
        tuple(made.values()),
        tuple(sorted(folder[1:] for folder in folders if is_plain(folder) and folder not in files | made.keys())),
        tuple(sorted({path for name, path in pairs if name and not name.startswith(b"/")})),
    )


def _within_usr(name: bytes, merged: list[bytes]) -> bytes:
    return b"/usr" + name if name.startswith(tuple(merged)) else name


def _parents(path: bytes) -> list[bytes]:
    steps = path.split(b"/")
    return [b"/".join(steps[:n]) for n in range(2, len(steps))]


def _left_again(name: bytes) -> list[bytes]:
    """The directories that a name goes into and out of again by ``..``: they must be there for it to lead on."""
    steps = name.split(b"/")
    return [
        posixpath.normpath(b"/".join(steps[:n]))
        for n, step in enumerate(steps)
        if step == b".." and b".." not in steps[:n]
    ]


# --- what is unpacked -------------------------------------------------------------------------------------


def why_unsafe(name: str, kind: str, target: str = "") -> str | None:
    """Why a member must not be unpacked, in words that follow its name; None where it may.

    ``kind`` is ``file``, ``folder``, ``link``, or what else it is.
    """
    steps = name.rstrip("/").split("/")
    if any(step in ("", ".", "..") for step in steps) or "\0" in name:
        return "has a name that could lead out of the bundle"
    if len(steps) > MOST_FOLDERS + 1 or any(len(os.fsencode(step)) > MOST_OF_A_NAME for step in steps):
        return "has a name that is too long"
    if kind == "folder":
        return None if steps[0] in (ROOT, DEBUG) else "not part of a bundle"
    if kind == "link":
        if steps[0] != ROOT or len(steps) < 2:
            return "is a link outside root/"
        return _why_unsafe_link(len(steps) - 2, target)
    if kind != "file":
        return f"is a {kind}"
    alone = len(steps) == 1 and name in (MANIFEST, CORE, *TEXTS)
    return None if alone or (len(steps) > 1 and steps[0] in (ROOT, DEBUG)) else "not part of a bundle"


def _why_unsafe_link(depth: int, target: str) -> str | None:
    """Why a link must not be made that lies ``depth`` directories below root/; those are no links themselves.

    ``..`` may only come first and not lead above root/: then what follows leads down, through links that hold to the
    same, and no chain of them gets out.
    """
    steps = target.split("/")
    ups = next((n for n, step in enumerate(steps) if step != ".."), len(steps))
    if ups > depth or any(step in ("", ".", "..") for step in steps[ups:]) or "\0" in target:
        return "is a link that could lead out of the bundle"
    return None
