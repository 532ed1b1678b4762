"""What ``corefilt status --prometheus`` tells: the cores that are there, what failed, and whether cores arrive."""

from __future__ import annotations

import os
from typing import NamedTuple

from corefilt.corefile.signals import show_signal
from corefilt.handler.admin.recent_logs import failures_since_boot
from corefilt.store.attributes import INPUT, fact, number, text
from corefilt.store.listing import candidates
from corefilt.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from corefilt.handler.admin.status import Status
    from corefilt.store.listing import Candidate

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
# Who crashes programs of many names would fill the memory of who collects this; the rest is one row.
MOST_ROWS = 200
OTHERS = ("(others)", "")


class CoreSums(NamedTuple):
    """The cores of one executable and signal; sizes in bytes, times in seconds since the epoch."""

    cores: int
    input_bytes: int
    allocated_bytes: int
    last: float

    def plus(self, other: CoreSums) -> CoreSums:
        """Both together."""
        return CoreSums(
            self.cores + other.cores,
            self.input_bytes + other.input_bytes,
            self.allocated_bytes + other.allocated_bytes,
            max(self.last, other.last),
        )


_NOTHING = CoreSums(0, 0, 0, 0.0)


def metrics(status: Status) -> str:
    """Every metric, in the text format of Prometheus (version 0.0.4). Raises InputError."""
    directory = status.ground.directory
    rows = bounded(rows_of(candidates([directory])) if status.ground.directory_error is None else {})
    labels = {key: {"executable": key[0], "signal": key[1]} for key in rows}
    made = [
        _metric("cores", "gauge", "Cores in the directory.", [(labels[key], row.cores) for key, row in rows.items()]),
        _metric(
            "core_input_bytes", "gauge", "What the kernel wrote of the cores in the directory.",
            [(labels[key], row.input_bytes) for key, row in rows.items()],
        ),
        _metric(
            "core_bytes", "gauge", "Disk use of the cores in the directory.",
            [(labels[key], row.allocated_bytes) for key, row in rows.items()],
        ),
        _metric(
            "last_core_timestamp_seconds", "gauge", "When the latest core in the directory was written.",
            [(labels[key], row.last) for key, row in rows.items()],
        ),
        _metric("problems", "gauge", "What keeps cores from the handler.", [({}, len(status.problems))]),
        _metric("lost_cores", "gauge", "Handlers that were killed, since the last one.", [({}, len(status.lost))]),
        _metric("stuck_processes", "gauge", "Processes that cannot be ended in their dump.", [({}, len(status.stuck))]),
    ]  # fmt: skip
    failures = failures_since_boot()
    if failures is not None:
        made.append(_metric("failures_total", "counter", "Cores not saved since the start.", [({}, failures)]))
    if status.ground.directory_error is None:
        free = os.statvfs(directory)
        made.append(
            _metric("free_bytes", "gauge", "Free on the directory's disk.", [({}, free.f_bavail * free.f_frsize)])
        )
    return "".join(made)


def rows_of(found: Iterable[Candidate]) -> dict[tuple[str, str], CoreSums]:
    """The files on which the handler has noted a crash, by executable and name of the signal."""
    rows: dict[tuple[str, str], CoreSums] = {}
    for candidate in found:
        try:
            fd = os.open(candidate.path, _OPEN)
        except OSError:
            # It was removed since.
            continue
        try:
            signal = number(fact(fd, "signal"))
            if signal is None:
                continue
            name = printable(fact(fd, "exe") or fact(fd, "comm") or b"")
            status = os.fstat(fd)
            row = CoreSums(1, number(text(fd, INPUT)) or 0, status.st_blocks * 512, candidate.time)
            key = (name, show_signal(signal))
            rows[key] = rows.get(key, _NOTHING).plus(row)
        finally:
            os.close(fd)
    return rows


def bounded(rows: dict[tuple[str, str], CoreSums]) -> dict[tuple[str, str], CoreSums]:
    """At most MOST_ROWS rows, those with most bytes, and one for the others."""
    ranked = sorted(rows.items(), key=lambda pair: (-pair[1].allocated_bytes, pair[0]))
    kept = dict(sorted(ranked[:MOST_ROWS]))
    for _, row in ranked[MOST_ROWS:]:
        kept[OTHERS] = kept.get(OTHERS, _NOTHING).plus(row)
    return kept


def _metric(name: str, kind: str, purpose: str, samples: list[tuple[dict[str, str], float]]) -> str:
    lines = [f"# HELP corefilt_{name} {purpose}", f"# TYPE corefilt_{name} {kind}"]
    for labels, value in samples:
        pairs = ",".join(f'{label}="{_escaped(word)}"' for label, word in labels.items())
        lines.append(f"corefilt_{name}{f'{{{pairs}}}' if pairs else ''} {value}")
    return "\n".join(lines) + "\n"


def _escaped(word: str) -> str:
    return word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
