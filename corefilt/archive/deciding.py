"""A task with a policy becomes one with a rule's filter and options, or an outcome where the rule leaves nothing to do.

A core that the same policy has been carried out on is not filtered by it again, as it is another core now; but it can
have grown old enough to be deleted.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace

from ..core import MAX_HEADERS, Core
from ..filterbits import CoredumpFilter
from ..identity import Identity
from ..sources import FileSource
from . import provenance, wrappings
from .facts import facts_of
from .lock import lock_file
from .policy import DELETE, FIT, KEEP, MINIMAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..rules import Rules
    from .facts import Facts
    from .outcome import Outcome
    from .places import Place
    from .policy import Decision, Policy
    from .task import Task

# Options that leave less of a core or change it; a rule that keeps it whole goes without them.
_CHANGING = ("fit", "truncate", "annotate", "format", "loadmaps")


def decided(task: Task, policy: Policy, file: FileSource, place: Place) -> Task | Outcome:
    """What the policy makes of the task on an open file at its place; where a rule says so, the file is deleted.

    Raises InputError for what is no core, LockedError and OSError.
    """
    status = os.fstat(file.fd)
    own = FileSource(os.dup(file.fd), file.name, size=file.size)
    most = task.options.get("max_headers")
    most = most if isinstance(most, int) else MAX_HEADERS
    with Core(wrappings.opened(own, task.wrapping, task.member, max_headers=most)) as core:
        rules = _rules(core, task) if policy.asks_for_shares else None
        facts = facts_of(core, age=time.time() - status.st_mtime, rules=rules)
        executable = Identity(core.notes, core.ehdr).comm
    decision = policy.decide(facts)
    chosen = replace(task, rule=decision.rule)
    if decision.action.name == DELETE:
        name = facts.executable or (os.fsdecode(executable) if executable is not None else None)
        return _deleted(chosen, facts, name, file, place)
    if decision.action.name == KEEP and task.replace:
        words = f"rule {decision.rule!r} keeps it" + (f", {decision.doubt}" if decision.doubt else "")
        return chosen.outcome("kept", words, input_bytes=facts.size, allocated_before=status.st_blocks * 512)
    return carried_over(chosen, decision)


def carried_over(task: Task, decision: Decision) -> Task:
    """The task with what the decision says of filter and options, and no policy any more."""
    action = decision.action
    options = dict(task.options)
    wanted = task.filter if action.filter is None else int(action.filter)
    if decision.rule is not None and action.name != KEEP:
        options.pop("fit", None)
    if action.name in (FIT, MINIMAL):
        options.pop("truncate", None)
        options["fit"] = {
            "fit": action.size, "allocated": False, "minimal": action.name == MINIMAL, "follow": None, "ladder": None,
        }  # fmt: skip
    elif action.name == KEEP:
        wanted = int(CoredumpFilter.ALL)
        options = {name: value for name, value in options.items() if name not in _CHANGING}
    return replace(task, filter=wanted, options=options, policy=None, work=provenance.work_of(task))


def _rules(core: Core, task: Task) -> Rules:
    """The rules over this core by the evidence that it will be filtered by."""
    maps, sysroot = task.options.get("maps"), task.options.get("sysroot")
    evidence = core.evidence(
        maps=maps if isinstance(maps, str) else None, sysroot=sysroot if isinstance(sysroot, str) else None
    )
    return core.rules(evidence=evidence)


def _deleted(task: Task, facts: Facts, executable: str | None, file: FileSource, place: Place) -> Outcome:
    status = os.fstat(file.fd)
    told: dict[str, Any] = {
        "input_bytes": facts.size, "allocated_before": status.st_blocks * 512, "executable": executable,
        "signal": facts.signal,
    }  # fmt: skip
    if not task.replace:
        return task.outcome("deleted", "is left out; the file itself stays", **told)
    if task.dry_run:
        return task.outcome("deleted", "would be deleted", **told)
    lock_file(file.fd, task.source)
    there = place.status()
    if there is None or (there.st_dev, there.st_ino) != (status.st_dev, status.st_ino):
        return task.outcome("kept", "another file has its name now")
    os.unlink(place.leaf, dir_fd=place.folder)
    return task.outcome("deleted", **told)
