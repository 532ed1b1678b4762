"""What a policy can ask about a core."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TypedDict

from corefilt.corefile.owner import Owner
from corefilt.corefile.ranges import end_of_segments
from corefilt.kinds import NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from corefilt.classify.classifier import Classifier
    from corefilt.corefile.corefile import CoreFile

# The facts that take a look at the core's memory.
OF_MEMORY = ("command", "modules", "signature")


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one core; None is what is not.

    ``age`` is in seconds, ``size`` is the core's length in bytes without compression, ``machine`` a name of
    elf.MACHINES. ``shares`` maps the name of a kind to the least and the most that it can have of the payload, from 0
    to 1, apart where some mapping could be of several kinds; a kind that is not in it has nothing. Holes of the core's
    file count for no kind. ``command`` is the whole command line, with blanks between the arguments; ``modules`` has
    the path and the build-id (hex digits) of each; ``signature`` is known only where the backtrace is certain
    (``unwound``). ``repeat`` is the core's place among those of the job with the same crash, from 1 for the oldest.
    """

    age: float | None = None
    size: int | None = None
    executable: str | None = None
    signal: int | None = None
    machine: str = ""
    uid: int | None = None
    command: str | None = None
    modules: tuple[str, ...] | None = None
    signature: str | None = None
    repeat: int | None = None
    shares: Mapping[str, tuple[float, float]] | None = field(default_factory=dict)


def facts_of(
    core: CoreFile,
    *,
    age: float | None,
    classifier: Classifier | None,
    asked: Container[str] = (),
    sysroot: str | None = None,
    repeat: int | None = None,
) -> Facts:
    """The facts of an open core; shares are not known without a ``classifier``.

    Those that take a look at its memory are found out where they are ``asked`` for: command, modules and signature;
    the files that a signature may need are looked for below ``sysroot``. Raises EvidenceError for one that cannot be
    used.

    ``repeat`` is found out beforehand, as it takes all cores of the job. An age below zero is a clock that was wrong
    once, and so none.
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
        repeat=repeat,
        shares=_shares(core, classifier) if classifier is not None else None,
        **_looked_at(core, asked, sysroot),
    )


class _Looked(TypedDict, total=False):
    command: str | None
    modules: tuple[str, ...] | None
    signature: str | None


def _looked_at(core: CoreFile, asked: Container[str], sysroot: str | None) -> _Looked:
    found: _Looked = {}
    if not core.source.seekable or not any(name in asked for name in OF_MEMORY):
        return found
    from corefilt.crash.command_line import PRPSINFO
    from corefilt.crash.identity import identify
    from corefilt.crash.signature import find_crash

    identity = identify(core)
    line = identity.command_line
    if line is not None and line.source != PRPSINFO:
        found["command"] = os.fsdecode(b" ".join(line.arguments))
    modules = identity.modules or ()
    paths = [os.fsdecode(module.path) for module in modules if module.path is not None]
    ids = [module.build_id.hex() for module in modules if module.build_id is not None]
    found["modules"] = (*paths, *ids) or None
    if "signature" in asked:
        crash = find_crash(core, identity=identity, sysroot=sysroot)
        found["signature"] = crash.recorded.certain if crash is not None else None
    return found


def _stored(core: CoreFile, i: int) -> int:
    """How many bytes of a segment are there, in bytes: a JVM or Go reserves gigabytes, which are a hole."""
    there = core.present[i]
    if not there or not core.source.seekable:
        return there
    at = core.table.p_offset[i]
    return sum(high - low for low, high in core.data(at, at + there))


def _shares(core: CoreFile, classifier: Classifier) -> dict[str, tuple[float, float]]:
    least, most = dict.fromkeys(NAMES, 0), dict.fromkeys(NAMES, 0)
    total = 0
    for m, i in enumerate(core.maps.phdr):
        there = _stored(core, i)
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
