"""What a policy can ask about a core."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from corefilt.corefile.owner import Owner
from corefilt.corefile.ranges import end_of_segments
from corefilt.kinds import NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from corefilt.classify.classifier import Classifier
    from corefilt.corefile.corefile import CoreFile


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one core; None is what is not.

    ``age`` is in seconds, ``size`` is the core's length in bytes without compression, ``machine`` a name of
    elf.MACHINES. ``shares`` maps the name of a kind to the least and the most that it can have of the payload, from 0
    to 1, apart where some mapping could be of several kinds; a kind that is not in it has nothing.
    """

    age: float | None = None
    size: int | None = None
    executable: str | None = None
    signal: int | None = None
    machine: str = ""
    uid: int | None = None
    shares: Mapping[str, tuple[float, float]] | None = field(default_factory=dict)


def facts_of(core: CoreFile, *, age: float | None, classifier: Classifier | None) -> Facts:
    """The facts of an open core; shares are not known without a ``classifier``.

    An age below zero is a clock that was wrong once, and so none.
    """
    identity = Owner(core.notes, core.ehdr)
    size = core.end
    if size is None:
        size = end_of_segments(core.table, core.table.p_filesz)
    return Facts(
        age=age if age is not None and age >= 0 else None,
        size=size,
        executable=os.fsdecode(identity.executable) if identity.executable is not None else None,
        signal=identity.signal,
        machine=core.machine,
        uid=identity.uid,
        shares=_shares(core, classifier) if classifier is not None else None,
    )


def _shares(core: CoreFile, classifier: Classifier) -> dict[str, tuple[float, float]]:
    least, most = dict.fromkeys(NAMES, 0), dict.fromkeys(NAMES, 0)
    total = 0
    for m, i in enumerate(core.maps.phdr):
        there = core.present[i]
        if not there:
            continue
        total += there
        possible = classifier.decide(m).possible
        for name, kinds in NAMES.items():
            if possible & kinds:
                most[name] += there
                if not possible & ~kinds:
                    least[name] += there
    return {name: (least[name] / total, most[name] / total) for name in NAMES if most[name]}
