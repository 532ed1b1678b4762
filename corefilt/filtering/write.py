"""Writes a filtered core: checks what was asked for, chooses the way, and gives the output its name at the end."""

from __future__ import annotations

import os
import time

from corefilt.classify.classifier import classifier_for
from corefilt.errors import UndecidedError, UsageError
from corefilt.filtering.planned import PlannedRun
from corefilt.filtering.run import stop_if_undecided
from corefilt.io.opening import open_sink, seekable_from
from corefilt.io.sinks import NamedFile
from corefilt.plan.plan import KeepPlan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.classify.classifier import Classifier
    from corefilt.corefile.corefile import CoreFile
    from corefilt.evidence.evidence import Evidence
    from corefilt.filtering.options import Options
    from corefilt.filtering.report import Report
    from corefilt.filtering.run import FilterRun
    from corefilt.io.sources import Place

# Those of corefilt.compression, which no run without compression loads.
COMPRESSED_SUFFIXES = (".zst", ".lz4", ".xz", ".gz", ".bz2")


def write_filtered(
    core: CoreFile,
    wanted: int,
    output: Place | NamedFile,
    options: Options,
    *,
    evidence: Evidence | None = None,
) -> Report:
    """Filter an open core into ``output`` and tell what was done; in place there is no other output.

    ``evidence`` is what was gathered already, instead of what the options name.
    Raises InputError, OutputError, UndecidedError and their kin; whatever is raised, no output bears its name.
    """
    began = time.monotonic()
    output = compressed(core, output, options)
    if options.fit_request is not None:
        check_fit(core, output, options)
    if evidence is None and (core.notes.records or options.names_evidence):
        from corefilt.evidence.gather import gather

        evidence = gather(core, maps=options.maps, pid=options.pid, sysroot=options.sysroot)
    if not core.source.seekable and not options.in_place and seekable_from(output):
        classifier = classifier_for(core, options.assume, evidence=evidence, dumper=options.dumper, with_payload=True)
        return _carry_out(_streamed(core, wanted, classifier, options), output, began)
    plan = KeepPlan(
        core, wanted, classifier_for(core, options.assume, evidence=evidence, dumper=options.dumper), options.unknown
    )
    if options.in_place:
        from corefilt.filtering.inplace import write_in_place

        stop_if_undecided(plan, options)
        return write_in_place(plan, options, began)
    return _carry_out(PlannedRun(plan, options), output, began)


def write_plan(plan: KeepPlan, output: Place | NamedFile, options: Options) -> Report:
    """As write_filtered, with a plan that was made before.

    Raises UnstreamableError if the core has passed already, or if another thread writes it and it passes only once.
    """
    source = plan.core.source
    source.check_descriptor()
    source.claim()
    try:
        return _write_plan(plan, output, options)
    finally:
        source.release()


def _write_plan(plan: KeepPlan, output: Place | NamedFile, options: Options) -> Report:
    began = time.monotonic()
    core = plan.core
    output = compressed(core, output, options)
    if not core.source.seekable and seekable_from(output):
        context = plan.classifier.context
        assume = [assumption.text for assumption in plan.classifier.assumptions]
        classifier = classifier_for(core, assume, evidence=context.evidence, dumper=context.dumper, with_payload=True)
        return _carry_out(_streamed(core, plan.filter, classifier, options), output, began)
    return _carry_out(PlannedRun(plan, options), output, began)


def _streamed(core: CoreFile, wanted: int, classifier: Classifier, options: Options) -> FilterRun:
    from corefilt.filtering.streamed import StreamedRun

    return StreamedRun(core, wanted, classifier, options)


def compressed(core: CoreFile, output: Place | NamedFile, options: Options) -> Place | NamedFile:
    """The output as a place for compressed bytes, where --compress, or without it the name's end, asks for that.

    Raises UsageError.
    """
    name = options.compress
    if name is None:
        path = output.path if isinstance(output, NamedFile) else output
        name = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        if not name.endswith(COMPRESSED_SUFFIXES):
            return output
        from corefilt.io.compression import by_suffix

        name = by_suffix(name)
    elif name == "same":
        name = core.source.compression
    if name is None or name == "none" or options.in_place:
        return output
    from corefilt.io.compress import Packed
    from corefilt.io.compression import default_threads, parse_compress

    compression = parse_compress(name, options.compress_threads or default_threads())
    return output if isinstance(compression, str) else Packed(output, compression, force=options.force)


def _carry_out(run: FilterRun, output: Place | NamedFile, began: float) -> Report:
    core, options = run.core, run.options
    if options.dry_run:
        run.dry()
        _check_input(core, options)
        return run.report(None, time.monotonic() - began)
    sink = open_sink(output, force=options.force, source=core.source)
    try:
        run.write(sink)
        _check_input(core, options)
        if isinstance(output, NamedFile):
            output.on_decided(sum(run.plan.assumed))
        if options.on_progress is not None:
            # The last time that it can be stopped.
            options.on_progress(0)
        sink.commit(run.layout.size, sync=options.sync)
    except BaseException:
        sink.abort()
        raise
    report = run.report(sink, time.monotonic() - began)
    if sink.notice is not None:
        report.notices.append(f"{sink.name}: {sink.notice}")
    return report


def _check_input(core: CoreFile, options: Options) -> None:
    """Take note of what was wrong with the input as it came. Raises InputError, and UndecidedError with ``strict``."""
    damage = core.source.check()
    if damage is None:
        return
    if damage not in core.warnings:
        core.warnings.append(damage)
    if options.strict and not core.source.whole:
        raise UndecidedError(
            f"{core.source.name}: {damage}, and --strict refuses that",
            "leave --strict out to write what came before the damage",
        )


def check_fit(core: CoreFile, output: Place | NamedFile, options: Options) -> None:
    """Refuse what cannot be chosen from. Raises UnstreamableError or UsageError."""
    if options.truncate is not None or options.in_place:
        other = "--truncate cuts at an offset" if options.truncate is not None else "-i cannot move anything"
        raise UsageError(f"{other}, and --fit and --minimal choose what to keep", "leave one of them out")
    if not core.source.seekable:
        raise core.source.refused(
            "--fit and --minimal read the stacks before anything is copied, and "
            f"{core.source.passing} cannot be read twice"
        )
    if (
        options.fit_request is not None
        and options.fit_request.allocated
        and not options.dry_run
        and not seekable_from(output)
    ):
        raise UsageError("--fit-allocated counts disk use, and the output is not a file", "-o FILE names one")
