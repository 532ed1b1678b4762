"""Finds all that is to be overwritten in a core: what the level asks for, the rules, and known values again."""

from __future__ import annotations

from corefilt.scrub.again import BY_OPTION, Known, SecondPass
from corefilt.scrub.found import TEXT, Matches
from corefilt.scrub.regions import RunReader, runs
from corefilt.scrub.request import ENV, STACKS
from corefilt.scrub.rules import RULES
from corefilt.scrub.search import Captured, FirstPass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corefilt.corefile.corefile import CoreFile
    from corefilt.scrub.request import ScrubRequest

SECRET_FILE = "secret-file"


def find(core: CoreFile, request: ScrubRequest, on_progress: Callable[[int], None] | None = None) -> Matches:
    """Look through a core that is a file. Raises InputError, UnstreamableError and ScrubError."""
    if not core.source.seekable:
        raise core.source.refused(f"needs to be searched twice, and {core.source.passing} cannot be read twice")
    found, captured = Matches(core.source.name), Captured()
    if request.reaches(STACKS):
        from corefilt.scrub.stacks import take_stacks

        take_stacks(core, found)
    if request.reaches(ENV):
        from corefilt.scrub.environment import take_environment

        take_environment(core, found, captured)
    parts, reader = runs(core, files=request.files), RunReader(core)
    FirstPass((*RULES, *request.rules), found, captured).run(reader, parts, on_progress)
    second = SecondPass(found)
    for value in request.secrets:
        second.add(value, Known(SECRET_FILE, BY_OPTION, TEXT))
    second.add_values(captured)
    if captured.moduli or request.certificates:
        from corefilt.scrub.rsa import Factors, add_certificates, add_keys

        add_certificates(request.certificates, captured)
        factors = Factors(captured, found)
        factors.search(core, reader, parts)
        add_keys(factors, second, big=core.ehdr.big)
    second.run(reader, parts, on_progress)
    if captured.left_out:
        found.notices.append(f"{captured.left_out} values were not searched for again: there are too many")
    return found
