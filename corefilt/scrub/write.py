"""Writes a scrubbed copy of a core. The core itself is never changed."""

from __future__ import annotations

from corefilt.errors import UsageError
from corefilt.filtering.write import write_filtered
from corefilt.scrub.find import find
from corefilt.scrub.overwrite import Overwriting
from corefilt.scrub.report import ScrubReport
from corefilt.scrub.request import STACKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.corefile.corefile import CoreFile
    from corefilt.filtering.options import Options
    from corefilt.io.sinks import NamedFile
    from corefilt.io.sources import Place
    from corefilt.scrub.request import ScrubRequest


def write_scrubbed(
    core: CoreFile, request: ScrubRequest, wanted: int, output: Place | NamedFile, options: Options
) -> ScrubReport:
    """Filter a core into ``output``, and overwrite what was found in it. Raises CorefiltError's children."""
    if options.in_place or options.format != "same" or options.truncate is not None or options.annotate:
        raise UsageError("a scrubbed core is another file, in the format and with the notes of the first")
    if request.reaches(STACKS):
        from corefilt.scrub.stacks import check_machine

        check_machine(core)
    found = find(core, request)
    overwriting = Overwriting(core, found, request)
    options.overwrite = overwriting
    report = write_filtered(core, wanted, output, options)
    return ScrubReport(found, overwriting.ranges, request, report)
