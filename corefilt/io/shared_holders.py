"""Which cores hold blocks for others, by the manifests of --shared-once: such a core must stay as it is.

A manifest lies in the directory of the cores that it speaks of, or in one above; so what is looked at are the names in
these directories, and nothing is read or loaded where none of them is a manifest's. One that belongs to another user
than the caller, root or the core's owner is passed over: anybody could put it there. What reduces or restores cores
keeps the manifest's order itself and does not ask.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.io.shared_manifest import Entry, Manifest

# Manifests of one folder are told apart by the beginning of their ids.
PREFIX, SUFFIX = "corefilt-shared-", ".json"


class Held:
    """A core that holds blocks by a manifest, whose path it has; with ``doubt``, one of which that cannot be known."""

    __slots__ = ("doubt", "manifest")

    def __init__(self, manifest: str, doubt: str = "") -> None:
        self.manifest, self.doubt = manifest, doubt

    @property
    def reason(self) -> str:
        """What is said of the core."""
        if self.doubt:
            return f"whether other cores need its blocks is not known: {self.doubt}"
        return f"holds blocks of shared memory for other cores ({self.manifest})"

    @property
    def lost(self) -> str:
        """What is said of the core where it is replaced all the same."""
        return self.reason if self.doubt else f"held blocks of shared memory for other cores ({self.manifest})"

    @property
    def way_out(self) -> str:
        """What comes first."""
        return f"corefilt restore {self.manifest} completes them"


class Holders:
    """Looks for manifests and remembers them: for one run, during which nothing reduces or restores cores."""

    def __init__(self) -> None:
        self._manifests: dict[str, list[str]] = {}
        self._needed: dict[str, frozenset[str] | str] = {}

    def of(self, core: str) -> Held | None:
        """What a core holds for others; None for nothing, or where nothing stands under that name."""
        path = os.path.realpath(core)
        found, at = None, os.path.dirname(path)
        while True:
            for manifest in self._in(at):
                held = self._by(manifest, path)
                if held is not None and not held.doubt:
                    return held
                found = found or held
            if at == os.path.dirname(at):
                return found
            at = os.path.dirname(at)

    def _in(self, folder: str) -> list[str]:
        if folder not in self._manifests:
            try:
                self._manifests[folder] = manifests_of(folder)
            except OSError:
                self._manifests[folder] = []
        return self._manifests[folder]

    def _by(self, manifest: str, core: str) -> Held | None:
        try:
            owners = 0, os.geteuid(), os.stat(core).st_uid
            status = os.stat(manifest, follow_symlinks=False)
        except OSError:
            return None
        if status.st_uid not in owners or not stat.S_ISREG(status.st_mode):
            return None
        if manifest not in self._needed:
            self._needed[manifest] = _needed_or_why_not(manifest)
        needed = self._needed[manifest]
        if isinstance(needed, str):
            return Held(manifest, needed)
        return Held(manifest) if core in needed else None


def manifests_of(folder: str) -> list[str]:
    """The manifests in a folder. Raises OSError."""
    return [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if is_manifest(name)]


def is_manifest(name: str) -> bool:
    """Whether a file's name is that of a manifest."""
    return name.startswith(PREFIX) and name.endswith(SUFFIX)


def _needed_or_why_not(path: str) -> frozenset[str] | str:
    from corefilt.errors import InputError
    from corefilt.io.shared_manifest import read_manifest

    try:
        return needed_cores(os.path.dirname(path), read_manifest(path))
    except InputError as error:
        return str(error)


def needed_cores(folder: str, manifest: Manifest) -> frozenset[str]:
    """The paths of the cores that hold blocks which another one, or the core itself, lacks at the moment.

    A core is told to be a reduced one by its size; what has been deleted needs nothing.
    """
    sizes = [_size(os.path.join(folder, entry.name)) for entry in manifest.cores]
    runs = sorted(
        (first, first + count)
        for entry, size in zip(manifest.cores, sizes, strict=True)
        if size not in (None, entry.size)
        for _, first, count in entry.taken
    )
    holders: set[int] = set()
    done = 0
    for first, end in runs:
        # Each block once, however many cores lack it.
        holders.update(block.core for block in manifest.blocks[max(first, done) : end])
        done = max(done, end)
    # What has another size and was never reduced is another core by now.
    return frozenset(
        os.path.join(folder, manifest.cores[k].name) for k in holders if _can_hold(manifest.cores[k], sizes[k])
    )


def _can_hold(entry: Entry, size: int | None) -> bool:
    return size is not None and (size == entry.size or bool(entry.taken))


def _size(path: str) -> int | None:
    """A regular file's size; None where there is none."""
    try:
        status = os.stat(path, follow_symlinks=False)
    except (OSError, ValueError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None
