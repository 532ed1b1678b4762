"""Finds the runtimes of a process and walks each; what cannot be walked is told of, and costs nothing else."""

from __future__ import annotations

import os
from contextlib import ExitStack
from importlib import import_module

from corefilt.crash.image_files import ImageFiles
from corefilt.crash.modules import ModuleIndex, find_modules
from corefilt.crash.process_memory import ProcessMemory
from corefilt.errors import EvidenceError
from corefilt.evidence.sysroot import Sysroot, sysroot_for
from corefilt.plan.fit.request import AUTO, RUNTIMES
from corefilt.plan.fit.runtimes.images import loaded_images
from corefilt.plan.fit.runtimes.reader import MOST_BLOCKS, LostError, MemoryReader, StepCount, TooMuchError
from corefilt.plan.fit.runtimes.scene import Scene, Walk
from corefilt.plan.fit.runtimes.unwalked import NAMES
from corefilt.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corefilt.corefile.memory import Memory
    from corefilt.corefile.registers import Thread
    from corefilt.plan.fit.runtimes.reader import Range
    from corefilt.plan.plan import KeepPlan

# Where one runtime is looked for: a program has an interpreter in itself, in a library, or in a few.
MOST_PLACES = 16


def walk_runtimes(
    plan: KeepPlan, memory: Memory, threads: list[Thread], stacks: list[list[Range]], wanted: Sequence[str]
) -> list[Walk]:
    """Walk the runtimes that were asked for, or that are recognised (``auto``), each by itself."""
    with ExitStack() as undo:
        index = ModuleIndex(find_modules(plan.core, memory))
        files = ImageFiles(index, lambda: _sysroot(plan, undo))
        undo.callback(files.close)
        reader = MemoryReader(ProcessMemory(plan.core, memory, index, files, MOST_BLOCKS), StepCount())
        images = list(loaded_images(reader))
        walks = []
        for name in RUNTIMES if AUTO in wanted else wanted:
            where = _recognised(name, reader, images)
            if where is None:
                if AUTO not in wanted:
                    walk = Walk(name)
                    walk.reason = "no such runtime was found in this core"
                    walks.append(walk)
                continue
            walks.append(_walked(name, Scene(reader.fresh(), threads, stacks), where, files))
        return walks


def _walked(name: str, scene: Scene, where: list[tuple[bytes, int]], files: ImageFiles) -> Walk:
    walk = Walk(name)
    module = import_module(f"corefilt.plan.fit.runtimes.{name}")
    reasons = []
    for path, start in where:
        scene.reader = scene.reader.fresh()
        try:
            module.walk(walk, scene, path, start)
        except TooMuchError as error:
            reasons.append(str(error))
            break
        except LostError as error:
            reasons.append(_with_file(str(error), path, files))
            continue
        walk.ranges = scene.reader.ranges()
        return walk
    walk.reason = "; ".join(dict.fromkeys(reasons))
    return walk


def _with_file(reason: str, path: bytes, files: ImageFiles) -> str:
    refused = files.refused.get(path)
    if refused is None:
        return reason
    return f"{reason}; {printable(os.fsdecode(path))} was not used instead: {refused}"


def _recognised(name: str, reader: MemoryReader, images: list[tuple[bytes, int]]) -> list[tuple[bytes, int]] | None:
    """Where the images lie that may be the runtime; None where there are none."""
    if name == "go":
        from corefilt.plan.fit.runtimes.go import build_info

        found = [image for image in images[:1] if build_info(reader, image[1]) is not None]
    else:
        found = [image for image in images if NAMES[name].search(image[0])]
    return found[:MOST_PLACES] or None


def _sysroot(plan: KeepPlan, undo: ExitStack) -> Sysroot | None:
    """The folder of --sysroot; where none was given, / for the caller's own cores, which ``undo`` gives back."""
    evidence, core = plan.classifier.context.evidence, plan.core
    if evidence is not None and evidence.sysroot is not None:
        return evidence.sysroot
    try:
        found = sysroot_for(None, core.source.origin.fd)
    except EvidenceError:
        return None
    undo.callback(found.close)
    return found
