"""What the mappings show taken together: files, folders, the order of segments, what a partial dump left out."""

from __future__ import annotations

from corefilt.corefile.elf import PF_R, PF_W, PF_X
from corefilt.corefile.mappings import NO_FILE, Mappings
from corefilt.corefile.notes import AT_SYSINFO_EHDR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.classify.payload import Payload

# Two segments of one image differ in address less file offset by their alignment; 2 MiB pages are the most
# that linkers use (max-page-size of ld for x86-64 was 2 MiB until 2.31).
MOST_DRIFT = 16 << 20

# Names of what holds no ELF image.
NO_IMAGE = (b"/dev/zero", b"/anon_hugepage", b"/SYSV", b"/[aio]", b"anon_inode:", b"socket:[", b"/dev/dax")
# Names of what has no header page, whatever a partial dump looks like; a memfd can hold an image.
HEADLESS = (*NO_IMAGE, b"/memfd:")


class AddressSpace:
    """Facts over all mappings of a core, from the table and NT_FILE only.

    ``private_files_dumped``: the filter in force at the dump had bit 2 (text is there); ``private_files_left_out``: it
    had not (a header page stands alone somewhere); ``private_anonymous_dumped``: it had bit 0 (a nameless writable
    mapping is there); ``shared_anonymous_dumped``: it had bit 1; ``last``: the last mapping with bytes, which a limit
    may have cut; ``shares_memory``: there is System V or POSIX shared memory.
    """

    def __init__(self, mappings: Mappings) -> None:
        self._mappings = mappings
        self._by_path: dict[bytes, list[int]] = {}
        self._rank: dict[int, int] = {}
        self._roles: dict[bytes, dict[int, str]] = {}
        self._edges: dict[bytes, tuple[dict[int, int], dict[int, int]]] = {}
        self._shapes: dict[bytes, int] = {}
        self._first_pages: set[bytes | None] = set()
        self.private_files_left_out = self.private_files_dumped = False
        self.private_anonymous_dumped = False
        self.shared_anonymous_dumped = False
        self.last = -1
        alone: list[int] = []
        named = mappings.notes.files is not None
        # What is special is in every core, whatever its flags.
        vdso = mappings.notes.auxv.get(AT_SYSINFO_EHDR, -1)
        page = mappings.page_size
        for m, (i, file) in enumerate(zip(mappings.phdr, mappings.file, strict=True)):
            present = mappings.table.p_filesz[i] + mappings.given_up.get(i, 0)
            if present:
                self.last = m
            if file == NO_FILE:
                if named and present and not self.private_anonymous_dumped:
                    memory = mappings.flags(m) & (PF_W | PF_X) == PF_W and mappings.start(m) != vdso
                    self.private_anonymous_dumped = memory
                continue
            path = mappings.path(m)
            if path is None:
                continue
            self._by_path.setdefault(path, []).append(m)
            if present and path == b"/dev/zero (deleted)":
                self.shared_anonymous_dumped = True
            folder = path.rpartition(b"/")[0]
            offset = mappings.file_offset(m) or 0
            if present and not offset:
                self._first_pages.add(path)
            shape = mappings.start(m) | mappings.end(m) | offset
            self._shapes[folder] = self._shapes.get(folder, 0) | shape
            if present == mappings.end(m) - mappings.start(m) > page and not path.startswith((*HEADLESS, b"/memfd:")):
                self.private_files_dumped |= mappings.flags(m) & (PF_W | PF_X) == PF_X
            one_page = present == page < mappings.end(m) - mappings.start(m) and mappings.file_offset(m) == 0
            if one_page and mappings.flags(m) & PF_R and not path.startswith(HEADLESS):
                alone.append(m)
        # Of the last one with bytes a limit may have left the page.
        self.private_files_left_out = any(m != self.last for m in alone)
        if mappings.notes.fitted:
            # What is missing was cut for its size.
            self.private_files_left_out = self.private_anonymous_dumped = self.shared_anonymous_dumped = False
        self._begun = {path for path, group in self._by_path.items() if any(not mappings.file_offset(m) for m in group)}
        self._flags = {path: _all_flags(mappings, group) for path, group in self._by_path.items()}
        self.shares_memory = any(path.startswith((b"/SYSV", b"/dev/shm/")) for path in self._by_path)

    def writable_somewhere(self, path: bytes) -> bool:
        """Whether any mapping of the file can be written to now."""
        return bool(self._flags.get(path, 0) & PF_W)

    def touched_somewhere(self, path: bytes) -> bool:
        """Whether any mapping of the file can be written to or executed now."""
        return bool(self._flags.get(path, 0) & (PF_W | PF_X))

    def small_pages_beside(self, path: bytes, huge: int) -> bool:
        """Whether some mapping of a file in the same folder is not shaped in pages of ``huge`` bytes.

        The kernel's own names (``/memfd:``, ``/SYSV``) stand in no folder and tell nothing.
        """
        folder = path.rpartition(b"/")[0]
        return bool(folder) and self._shapes.get(folder, 0) & huge - 1 != 0

    def nameless_images(self, payload: Payload | None) -> bool:
        """Whether images were found that NT_FILE does not name; any mapping may then belong to one of them."""
        return payload is not None and self._mappings.notes.files is None and bool(payload.images)

    def headers_lost(self, m: int, payload: Payload) -> bool:
        """Whether the first page of the mapping's file was mapped, and is not in the core, so that nobody knows it."""
        path = self._mappings.path(m)
        return path in self._begun and path not in payload.seen

    def starts_image(self, m: int) -> bool:
        """Whether the mapping begins a group that is laid out like an ELF image."""
        path = self._mappings.path(m)
        return path is not None and self._mappings.file_offset(m) == 0 and self.role_by_order(m) is not None

    def role_by_order(self, m: int) -> str | None:
        """What the order of a file's segments says that this one is; None if it is no image's order.

        In an image offsets rise with addresses from 0 on, flags differ, and something is executable. ``data`` is what
        is writable, and a read-only segment between a read-only and a writable one (PT_GNU_RELRO as GNU ld lays it
        out); ``constants`` are other read-only ones right before a writable one (RELRO of ld.lld, constants of Go's
        linker), behind one, or behind a read-only one: they may have been relocated. The rest is ``text``.
        """
        path = self._mappings.path(m)
        if path is None or path.startswith(NO_IMAGE):
            return None
        if path not in self._roles:
            self._roles[path] = self._read_order(self._by_path[path])
        return self._roles[path].get(m)

    def image_begun(self, m: int) -> bool:
        """Whether the dump has bytes of a mapping of the file's first page; what was not written goes by one bit."""
        return self._mappings.path(m) in self._first_pages

    def like(self, m: int) -> list[int]:
        """The mappings that touch this one with the same flags and file and the next file offset.

        What was one mapping once, and stands in several program headers of one entry of NT_FILE, is not counted.
        """
        mappings = self._mappings
        path = mappings.path(m)
        if path is None:
            return []
        if path not in self._edges:
            group = self._by_path[path]
            starts = {mappings.start(i): i for i in group}
            self._edges[path] = starts, {mappings.end(i): i for i in group}
        starts, ends = self._edges[path]
        near = [ends.get(mappings.start(m)), starts.get(mappings.end(m))]
        return [i for i in near if i is not None and i != m and self._continues(m, i)]

    def _continues(self, m: int, other: int) -> bool:
        mappings = self._mappings
        apart = mappings.start(other) - mappings.start(m)
        return (
            mappings.flags(m) == mappings.flags(other)
            and (mappings.file_offset(other) or 0) - (mappings.file_offset(m) or 0) == apart
            and mappings.file[m] != mappings.file[other]
        )

    def _read_order(self, group: list[int]) -> dict[int, str]:
        mappings = self._mappings
        roles: dict[int, str] = {}
        ordered = sorted(group, key=mappings.start)
        at = 0
        while at < len(ordered):
            run = self._run_from(ordered, at)
            flags = [mappings.flags(i) for i in run]
            if len(set(flags)) > 1 and any(f & PF_X for f in flags) and not flags[0] & PF_W:
                roles.update(zip(run, _roles(flags), strict=True))
            at += max(len(run), 1)
        return roles

    def _run_from(self, ordered: list[int], at: int) -> list[int]:
        """The mappings from one at file offset 0 on whose offsets rise with their addresses."""
        mappings = self._mappings
        if mappings.file_offset(ordered[at]) != 0:
            return []
        run = [ordered[at]]
        before = 0
        for i in range(at + 1, len(ordered)):
            m = ordered[i]
            offset = mappings.file_offset(m) or 0
            drift = (mappings.start(m) - offset) - (mappings.start(run[-1]) - before)
            if not offset or offset < before or not 0 <= drift <= MOST_DRIFT:
                break
            run.append(m)
            before = offset
        return run


def _all_flags(mappings: Mappings, group: list[int]) -> int:
    together = 0
    for m in group:
        together |= mappings.flags(m)
    return together


def _roles(flags: list[int]) -> list[str]:
    """The roles of segments by their flags, in order of their addresses."""
    roles = []
    for at, own in enumerate(flags):
        before = flags[at - 1] if at else 0
        behind = flags[at + 1] if at + 1 < len(flags) else 0
        if own & PF_W or (own == before == PF_R and behind & PF_W):
            roles.append("data")
        elif own == PF_R and at and (behind & PF_W or before == PF_R or any(f & PF_W for f in flags[:at])):
            roles.append("constants")
        else:
            roles.append("text")
    return roles
