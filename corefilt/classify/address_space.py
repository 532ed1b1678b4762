"""What the mappings show taken together: files, folders, the order of segments, what a partial dump left out."""

from __future__ import annotations

from array import array

from corefilt import _fast
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
        self._looked = False
        self._continuing: bytearray | None = None
        self._roles: dict[int, dict[int, str]] = {}
        self._again: dict[int, bool] = {}
        self._edges: dict[int, tuple[dict[int, int], dict[int, int]]] = {}
        names, held, table = mappings.names, mappings.held, mappings.table
        self._number = {path: k for k, path in enumerate(names)}
        # By the file's number: all flags and all bits of addresses and offsets of its mappings, and what there is.
        self._flags, self._bits = array("I", bytes(4 * len(names))), array("Q", bytes(8 * len(names)))
        self._begun, self._seen = bytearray(len(names)), bytearray(len(names))
        if names:
            _fast.by_path(
                mappings.phdr, mappings.name, table.p_flags, table.p_vaddr, table.p_memsz, held, mappings.offset,
                self._flags, self._bits, self._begun, self._seen,
            )  # fmt: skip
        self._shapes: dict[bytes, int] = {}
        for path, bits in zip(names, self._bits, strict=True):
            folder = path.rpartition(b"/")[0]
            self._shapes[folder] = self._shapes.get(folder, 0) | bits
        present = (m for m in reversed(range(len(mappings))) if held[mappings.phdr[m]])
        self.last = next(present, -1)
        self.shares_memory = any(
            seen and path.startswith((b"/SYSV", b"/dev/shm/")) for path, seen in zip(names, self._seen, strict=True)
        )
        self.private_files_left_out = self.private_files_dumped = False
        self.private_anonymous_dumped = self.shared_anonymous_dumped = False
        self._read_filter(held)
        if mappings.notes.fitted:
            # What is missing was cut for its size.
            self.private_files_left_out = self.private_anonymous_dumped = self.shared_anonymous_dumped = False

    def _read_filter(self, held: array[int]) -> None:
        """Find out of which bits of the filter in force at the dump what is there speaks."""
        mappings, page = self._mappings, self._mappings.page_size
        if mappings.notes.files is None:
            return
        # What is special is in every core, whatever its flags.
        vdso = mappings.notes.auxv.get(AT_SYSINFO_EHDR, -1)
        memory = mappings.matching(named=False, mask=PF_W | PF_X, flags=PF_W, sizes=held, least=1)
        self.private_anonymous_dumped = any(mappings.start(m) != vdso for m in memory)
        self.shared_anonymous_dumped = self._has(b"/dev/zero (deleted)", _fast.WITH_BYTES)
        # The kernel's own names stand for memory, whatever a partial dump looks like.
        headless = [path.startswith(HEADLESS) for path in mappings.names]
        text = mappings.matching(named=True, mask=PF_W | PF_X, flags=PF_X, sizes=held, least=page + 1)
        self.private_files_dumped = any(
            held[mappings.phdr[m]] == mappings.end(m) - mappings.start(m) and not headless[mappings.name[m]]
            for m in text
        )
        first = mappings.matching(named=True, mask=PF_R, flags=PF_R, sizes=held, least=page, most=page)
        # Of the last one with bytes a limit may have left the page.
        self.private_files_left_out = any(
            m != self.last
            and mappings.end(m) - mappings.start(m) > page
            and mappings.offset[m] == 0
            and not headless[mappings.name[m]]
            for m in first
        )

    def _has(self, path: bytes, what: int) -> bool:
        number = self._number.get(path)
        return number is not None and bool(self._seen[number] & what)

    def laid_out(self, number: int) -> bool:
        """Whether the file's mappings may have roles: an image has something that is executable."""
        return bool(self._flags[number] & PF_X)

    @property
    def continuing(self) -> bytearray | None:
        """A byte for each mapping: whether ``like`` has any; None where mappings lie over each other."""
        if not self._looked:
            self._looked, self._continuing = True, self._look_for_neighbours()
        return self._continuing

    def _look_for_neighbours(self) -> bytearray | None:
        mappings, table = self._mappings, self._mappings.table
        count = len(mappings)
        marks = bytearray(count)
        if not mappings.names:
            return marks
        columns = mappings.phdr, mappings.name, table.p_flags, table.p_vaddr, table.p_memsz, mappings.offset
        if _fast.touching(*columns, mappings.file, array("I"), marks):
            return marks
        marks = bytearray(count)
        order = array("I", sorted(range(count), key=mappings.start))
        return marks if _fast.touching(*columns, mappings.file, order, marks) else None

    def writable_somewhere(self, path: bytes) -> bool:
        """Whether any mapping of the file can be written to now."""
        return bool(self._all_flags(path) & PF_W)

    def touched_somewhere(self, path: bytes) -> bool:
        """Whether any mapping of the file can be written to or executed now."""
        return bool(self._all_flags(path) & (PF_W | PF_X))

    def _all_flags(self, path: bytes) -> int:
        number = self._number.get(path)
        return 0 if number is None else self._flags[number]

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
        number = self._mappings.name[m]
        return number != NO_FILE and bool(self._begun[number]) and self._mappings.names[number] not in payload.seen

    def begun_again(self, m: int) -> bool:
        """Whether the mapping's file is mapped from its first byte on more than once, as an image that stands twice."""
        number = self._mappings.name[m]
        if number not in self._again:
            mappings = self._mappings
            self._again[number] = sum(mappings.file_offset(i) == 0 for i in mappings.of_name(number)) > 1
        return self._again[number]

    def starts_image(self, m: int) -> bool:
        """Whether the mapping begins a group that is laid out like an ELF image."""
        path = self._mappings.path(m)
        return path is not None and self._mappings.file_offset(m) == 0 and self.role_by_order(m) is not None

    def role_by_order(self, m: int) -> str | None:
        """What the order of a file's segments says that this one is; None if it is not an image's order.

        In an image offsets rise with addresses from 0 on, flags differ, and something is executable. ``data`` is what
        is writable, and a read-only segment between a read-only and a writable one (PT_GNU_RELRO as GNU ld lays it
        out); ``constants`` are other read-only ones right before a writable one (RELRO of ld.lld, constants of Go's
        linker), behind one, or behind a read-only one: they may have been relocated. The rest is ``text``.
        """
        number = self._mappings.name[m]
        if number == NO_FILE or not self.laid_out(number) or self._mappings.names[number].startswith(NO_IMAGE):
            return None
        if number not in self._roles:
            self._roles[number] = self._read_order(self._mappings.of_name(number))
        return self._roles[number].get(m)

    def image_begun(self, m: int) -> bool:
        """Whether the dump has bytes of a mapping of the file's first page; what was not written goes by one bit."""
        number = self._mappings.name[m]
        return number != NO_FILE and bool(self._seen[number] & _fast.WITH_FIRST_BYTES)

    def like(self, m: int) -> list[int]:
        """The mappings that touch this one with the same flags and file and the next file offset.

        What was one mapping once, and stands in several program headers of one entry of NT_FILE, is not counted.
        """
        mappings = self._mappings
        number = mappings.name[m]
        marks = self.continuing
        if number == NO_FILE or (marks is not None and not marks[m]):
            return []
        if number not in self._edges:
            group = mappings.of_name(number)
            starts = {mappings.start(i): i for i in group}
            self._edges[number] = starts, {mappings.end(i): i for i in group}
        starts, ends = self._edges[number]
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
