"""Finds what could be cores: below folders, by globs, and by lists. What is in them is told by ``wrappings``."""

from __future__ import annotations

import glob
import os
import stat
import sys

from corefilt.batching.files.safe_paths import enter, open_folder
from corefilt.batching.sources import containers as wrappings
from corefilt.batching.sources.content import Content, unsafe
from corefilt.errors import CorefiltError, InputError
from corefilt.io.remote.url import files_below, is_url, local_path
from corefilt.io.sources import FileSource
from corefilt.io.tempfiles import is_temporary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from corefilt.io.remote.url import ObjectInfo

STDIN = "-"
_SOURCES = "a source is a directory, a file, a glob, a URL, or - for a list of paths"
_NEVER = frozenset[tuple[int, int]]()


class Item:
    """A file that was found: ``path``, the ``root`` that no link is followed below, and ``below``, its name there.

    ``below`` is what the name of an output is made of. ``reason`` says why it is not looked at, or is empty. ``listed``
    is what a listing told of an object.
    """

    __slots__ = ("below", "listed", "path", "reason", "root", "unreadable")

    def __init__(
        self,
        path: str,
        root: str,
        below: str,
        reason: str = "",
        *,
        unreadable: bool = False,
        listed: ObjectInfo | None = None,
    ) -> None:
        self.path, self.root, self.below, self.reason, self.unreadable = path, root, below, reason, unreadable
        self.listed = listed


def check_sources(sources: Iterable[str]) -> None:
    """Raise InputError for a source that is not there; what a pattern matches is not asked."""
    for source in map(local_path, sources):
        if source == STDIN or is_url(source):
            continue
        if not os.path.lexists(source) and not glob.has_magic(source):
            raise InputError(f"{source}: does not exist", _SOURCES)
        if not os.path.isabs(source):
            try:
                os.getcwd()
            except OSError as error:
                raise InputError(f"{source}: the working directory is missing: {error.strerror}", _SOURCES) from None


def find(sources: Iterable[str], without: frozenset[tuple[int, int]] = _NEVER) -> Iterator[Item]:
    """All files of the sources, each once; folders ``without`` (device, inode) are not entered.

    Raises InputError for a source that is not there.
    """
    seen: set[tuple[int, int, str]] = set()
    for item in _all_items(sources, without):
        try:
            status = os.lstat(item.path)
            key = status.st_dev, status.st_ino, os.path.basename(item.path)
        except (OSError, ValueError):
            yield item
            continue
        if key not in seen:
            seen.add(key)
            yield item


def _all_items(sources: Iterable[str], without: frozenset[tuple[int, int]]) -> Iterator[Item]:
    for source in map(local_path, sources):
        if is_url(source):
            yield from _behind(source)
        elif source == STDIN:
            for path in _listed(sys.stdin.buffer.read() if sys.stdin is not None else b""):
                yield from _named(path, os.path.normpath(path).lstrip(os.sep), without)
        elif os.path.lexists(source):
            yield from _named(source, os.path.basename(os.path.abspath(source)), without)
        elif glob.has_magic(source):
            found = sorted(glob.iglob(source, include_hidden=True))
            if not found:
                raise InputError(f"{source}: matches nothing", _SOURCES)
            fixed = _fixed_part(source)
            for path in found:
                yield from _named(path, os.path.relpath(path, fixed), without)
        else:
            raise InputError(f"{source}: does not exist", _SOURCES)


def _behind(url: str) -> Iterator[Item]:
    """All files behind a URL. Raises InputError and its kin."""
    for found in files_below(url):
        # One that was named itself is meant.
        if found.url == url or not is_temporary(os.path.basename(found.relative)):
            yield Item(found.url, "", found.relative, unsafe(found.relative), listed=found.info)


def _fixed_part(pattern: str) -> str:
    """The folder that everything lies in which a pattern can fit."""
    folder = pattern
    while glob.has_magic(folder):
        folder = os.path.dirname(folder)
    return folder or os.curdir


def _listed(text: bytes) -> list[str]:
    """The paths of a list: they end in NUL if there is one, else with the line."""
    return [os.fsdecode(path) for path in text.split(b"\0" if b"\0" in text else b"\n") if path]


def _named(path: str, below: str, without: frozenset[tuple[int, int]]) -> Iterator[Item]:
    """What a person has named: a file, or everything below a folder."""
    steps = below.split(os.sep)
    if os.path.isdir(path):
        yield from _below(path, without)
    elif os.pardir in steps:
        yield Item(path, "", os.path.basename(path))
    else:
        yield Item(path, "", below)


def _below(root: str, without: frozenset[tuple[int, int]]) -> Iterator[Item]:
    """Every file below a folder; no link is followed, and so none leads round in circles."""
    waiting = [""]
    while waiting:
        steps = waiting.pop()
        path = os.path.join(root, steps) if steps else root
        try:
            folder = open_folder(root, steps)
        except InputError as error:
            yield Item(path, root, steps or os.curdir, str(error).partition(": ")[2], unreadable=True)
            continue
        try:
            status = os.fstat(folder)
            if (status.st_dev, status.st_ino) in without:
                continue
            names = sorted(os.listdir(folder))
            folders = []
            for name in names:
                below = os.path.join(steps, name) if steps else name
                item = _item(folder, name, below, root)
                if item is None:
                    folders.append(below)
                elif not is_temporary(name):
                    yield item
            waiting += reversed(folders)
        except OSError as error:
            yield Item(path, root, steps or os.curdir, f"cannot be listed: {error.strerror}", unreadable=True)
        finally:
            os.close(folder)


def _item(folder: int, name: str, below: str, root: str) -> Item | None:
    """What a name stands for; None for a folder."""
    path = os.path.join(root, below)
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except OSError as error:
        return Item(path, root, below, error.strerror or "does not exist any more", unreadable=True)
    if stat.S_ISDIR(mode):
        return None
    if stat.S_ISLNK(mode):
        return Item(path, root, below, "is a symbolic link, which is not followed")
    return Item(path, root, below, "" if stat.S_ISREG(mode) else "not a regular file")


def look_into(item: Item) -> Iterator[tuple[Content, int]]:
    """What is in a file, and how many bytes the file has; what cannot be read is told as its content's reason."""
    if item.reason:
        yield Content((), reason=item.reason, unreadable=item.unreadable), 0
        return
    size = 0
    try:
        if item.listed is not None:
            from corefilt.batching.sources.object import content_of

            size = item.listed.size
            yield content_of(item.path, item.listed), size
            return
        with enter(item.path, item.root) as place:
            fd, status = place.open()
            size = status.st_size
            source = FileSource(fd, item.path, size=size)
            try:
                for content in wrappings.contents(source, place.leaf, place.folder):
                    yield content, size
            finally:
                source.close()
    except CorefiltError as error:
        yield Content((), reason=str(error).removeprefix(f"{item.path}: "), unreadable=True), size
    except OSError as error:
        yield Content((), reason=error.strerror or str(error), unreadable=True), size
    except MemoryError:
        yield Content((), reason="needs more memory than is available", unreadable=True), size
    except Exception as error:
        # Whatever a reader of archives makes of hostile bytes, one file does not end the job.
        yield Content((), reason=f"cannot be read: {type(error).__name__}: {error}", unreadable=True), size
