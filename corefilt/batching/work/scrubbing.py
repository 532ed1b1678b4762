"""Overwrites secrets in a core of an archive, proves that where it is asked, and leaves the report beside the core."""

from __future__ import annotations

import os
from functools import partial

from corefilt.batching.files.safe_paths import OpenPlace
from corefilt.batching.work.output_check import check
from corefilt.documents.strict_json import as_json
from corefilt.errors import OutputError
from corefilt.io.sinks import NewFileSink, reported
from corefilt.scrub.find import find
from corefilt.scrub.overwrite import Overwriting
from corefilt.scrub.request import make_request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corefilt.batching.task import Task
    from corefilt.corefile.corefile import CoreFile
    from corefilt.filtering.options import Options

SUFFIX = ".scrubbed.json"


def scrubbing(
    task: Task, level: str, core: CoreFile, target: OpenPlace | None, options: Options
) -> Callable[[int], None] | None:
    """Have ``options`` overwrite what is found in a core, and return what is to be done before the output's name.

    That is to prove it, with --verify, and to write the report. Raises OutputError, InputError and ScrubError.
    """
    if target is not None and not task.force and _place(target).status() is not None:
        raise OutputError(f"{_place(target).path}: exists", "-f replaces it")
    request = make_request(level)
    overwriting = Overwriting(core, find(core, request), request)
    options.overwrite = overwriting
    return None if target is None else partial(_complete, task, core, target, overwriting)


def _place(target: OpenPlace) -> OpenPlace:
    return OpenPlace(target.folder, target.leaf + SUFFIX, target.path + SUFFIX)


def _complete(task: Task, core: CoreFile, target: OpenPlace, overwriting: Overwriting, fd: int) -> None:
    place = _place(target)
    report = {"input": task.name, "output": target.path, **overwriting.listed()}
    raw = (as_json(report) + "\n").encode()
    sink = NewFileSink(place.path, replace=task.force, folder=place.folder)
    try:
        with reported(place.path):
            os.pwrite(sink.fd, raw, 0)
        if task.verify and (full := core.source.file) is not None:
            folder = f"/proc/self/fd/{target.folder}"
            check(full, fd, task, folder, scrubbed=f"/proc/self/fd/{sink.fd}")
        sink.commit(len(raw), sync=True)
    except BaseException:
        sink.abort()
        raise
