"""A task with a policy becomes one with a rule's filter and options, or an outcome where a rule leaves nothing to do.

A core that the same policy has been carried out on is not filtered by it again, as it is another core now; but it can
have grown old enough to be deleted.
"""

from __future__ import annotations

import os
from dataclasses import replace

from corefilt.batching.files.lock import lock_file
from corefilt.batching.policy.facts import facts_of
from corefilt.batching.policy.policy import DELETE, FIT, KEEP, MINIMAL
from corefilt.batching.work import provenance
from corefilt.batching.work.core_opening import opened_core
from corefilt.classify.classifier import classifier_for
from corefilt.corefile.corefile import CoreFile
from corefilt.corefile.owner import Owner
from corefilt.evidence.gather import gather
from corefilt.filterbits import Bit
from corefilt.filtering.options import FITTING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from corefilt.batching.files.safe_paths import OpenPlace
    from corefilt.batching.outcome import Outcome
    from corefilt.batching.policy.policy import Decision, Policy
    from corefilt.batching.task import Task
    from corefilt.classify.classifier import Classifier
    from corefilt.io.sources import Source

# Options that leave less of a core or change it; a rule that keeps it whole goes without them.
_CHANGING = (*FITTING, "truncate", "annotate", "format", "loadmaps")


def decided(
    task: Task, policy: Policy, open_source: Callable[[], Source], *, age: float | None, stored: int
) -> Task | Outcome:
    """What the policy makes of a task, whose core is opened for that and closed.

    ``age`` is the file's in seconds, ``stored`` are the bytes that it takes. An outcome says ``deleted`` of what is to
    be deleted; nothing is deleted here. Raises InputError for what is not a core.
    """
    spools = policy.asks_for_memory and bool(task.options.get("spool"))
    with opened_core(open_source, None, spools=spools) as core:
        sysroot = task.options.get("sysroot")
        facts = facts_of(
            core,
            age=age,
            classifier=_classifier(core, task) if policy.asks_for_shares else None,
            asked=policy.asked,
            sysroot=sysroot if isinstance(sysroot, str) else None,
            repeat=task.repeat,
        )
        comm = Owner(core.notes, core.ehdr).comm
    decision = policy.decide(facts)
    name, chosen = decision.action.name, replace(task, rule=decision.rule, doubt=decision.doubt)
    if name not in (DELETE, KEEP) or (name == KEEP and not task.replace):
        return carried_over(chosen, decision)
    told: dict[str, Any] = {
        "input_bytes": facts.size,
        "allocated_before": stored,
        "executable": facts.executable or (os.fsdecode(comm) if comm is not None else None),
        "signal": facts.signal,
    }
    if name == KEEP:
        return chosen.outcome("kept", f"rule {decision.rule!r} keeps it", **told)
    words = "is left out; it stays where it is" if not task.replace else "would be deleted" if task.dry_run else ""
    return chosen.outcome("deleted", words, **told)


def delete(outcome: Outcome, fd: int, place: OpenPlace) -> Outcome:
    """Delete the open file at its place; the outcome that told so, or what stands against it.

    Raises LockedError and OSError.
    """
    lock_file(fd, outcome.source)
    status, there = os.fstat(fd), place.status()
    if there is None or (there.st_dev, there.st_ino) != (status.st_dev, status.st_ino):
        return replace(outcome, status="kept", reason="another file has its name now")
    os.unlink(place.leaf, dir_fd=place.folder)
    return outcome


def carried_over(task: Task, decision: Decision) -> Task:
    """The task with what the decision says of filter and options, and no policy any more."""
    action = decision.action
    options = dict(task.options)
    wanted = task.filter if action.filter is None else action.filter
    if decision.rule is not None and action.name != KEEP:
        options = without(options, FITTING)
    if action.name in (FIT, MINIMAL):
        options = without(options, ("truncate", *FITTING))
        options |= {"fit": action.size} if action.name == FIT else {"minimal": True}
    elif action.name == KEEP:
        wanted = Bit.ALL
        options = without(options, _CHANGING)
    return replace(task, filter=wanted, options=options, policy=None, work=provenance.work_of(task))


def without(options: Mapping[str, object], names: tuple[str, ...]) -> dict[str, object]:
    """The options but for those of some names."""
    return {name: value for name, value in options.items() if name not in names}


def _classifier(core: CoreFile, task: Task) -> Classifier:
    """The classifier of this core, by the evidence that it will be filtered by."""
    maps, sysroot = task.options.get("maps"), task.options.get("sysroot")
    evidence = gather(
        core, maps=maps if isinstance(maps, str) else None, sysroot=sysroot if isinstance(sysroot, str) else None
    )
    return classifier_for(core, evidence=evidence)
