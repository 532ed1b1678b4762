"""What the parent opened of the process, read by the child: its map, and what each mapped file is."""

from __future__ import annotations

import os
import threading
import time

from corefilt.errors import EvidenceError
from corefilt.procfs.maps import parse
from corefilt.procfs.snapshot import DEADLINE, MOST_OF_SMAPS, FileFacts, Seen, facts_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.handler.crashed_process import Victim


class Handed(Seen):
    """A process by descriptors that somebody with the right to them has opened."""

    __slots__ = ()

    def __init__(self, name: str, victim: Victim, budget: float) -> None:
        """Read smaps within ``budget`` seconds, else maps. Raises EvidenceError where there is neither."""
        super().__init__(name)
        self.notices += [f"{name}: {notice}" for notice in victim.notices]
        self.areas = parse(*self._read(victim, budget))
        self._look_at(victim.files)

    def _read(self, victim: Victim, budget: float) -> tuple[bytes, str]:
        if victim.smaps >= 0:
            text = read_within(victim.smaps, budget)
            if text:
                return text, f"{self.name}: smaps"
            late = f"was not read within {budget:g} s" if text is None else "is empty"
            self.notices.append(f"{self.name}: its smaps {late}; its maps tells less")
        # That can be under way on the lock of the same memory; a map is read in no time otherwise.
        text = read_within(victim.maps, DEADLINE) if victim.maps >= 0 else None
        if not text:
            raise EvidenceError(f"{self.name}: its map cannot be read")
        return text, f"{self.name}: maps"

    def _look_at(self, files: dict[str, int]) -> None:
        """Ask for the files on a thread that is left behind where a server does not answer."""
        opened = {tuple(int(part, 16) for part in name.split("-")): fd for name, fd in files.items()}
        areas, found, refused = self.areas, dict[int, FileFacts](), list[int]()
        done = threading.Event()

        def ask(i: int) -> FileFacts | None:
            fd = opened.get((areas.start[i], areas.end[i]))
            try:
                return facts_of(fd)[0] if fd is not None else None
            except OSError:
                return None

        def ask_all() -> None:
            if self.ask_files(ask, found, refused):
                done.set()

        worker = threading.Thread(target=ask_all, daemon=True)
        worker.start()
        worker.join(DEADLINE)
        self.facts = dict(found)
        if not done.is_set():
            self.notices.append(f"{self.name}: its files did not all answer within {DEADLINE:g} s")
        if refused:
            self.notices.append(f"{self.name}: {len(refused)} of its files could not be examined for links and modes")


def read_within(fd: int, budget: float, most: int = MOST_OF_SMAPS, *, at_start: bool = False) -> bytes | None:
    """All that a descriptor gives, or None where that takes longer than ``budget`` seconds, is longer, or fails.

    ``at_start`` reads a file from its beginning and leaves its offset alone, for whoever reads it next.

    On a thread that is left behind: the kernel counts the pages of a mapping in one call that nothing interrupts.
    """
    text = bytearray()
    done = threading.Event()
    until = time.monotonic() + budget

    def read() -> None:
        try:
            while piece := os.pread(fd, 1 << 20, len(text)) if at_start else os.read(fd, 1 << 20):
                text.extend(piece)
                if time.monotonic() > until or len(text) > most:
                    return
        except OSError:
            return
        done.set()

    threading.Thread(target=read, daemon=True).start()
    return bytes(text) if done.wait(budget) else None
