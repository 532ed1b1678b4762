"""Opens the core of a task; one that cannot be read in one pass, as gdb's gcore writes them, from a temporary copy."""

from __future__ import annotations

from corefilt.corefile.corefile import CoreFile
from corefilt.errors import UnstreamableError
from corefilt.io.opening import spooled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corefilt.io.sources import Source


def opened_core(open_source: Callable[[], Source], folder: str | None, *, spools: bool = False) -> CoreFile:
    """The core in a source, which is opened again where it has to be copied to ``folder``, or where such files go.

    ``spools`` copies what cannot be sought in any case. Raises InputError.
    """
    source = open_source()
    try:
        if spools and not source.seekable:
            source = spooled(source, folder)
        return CoreFile(source)
    except UnstreamableError:
        if source.seekable:
            source.close()
            raise
    except BaseException:
        source.close()
        raise
    source.close()
    again = open_source()
    try:
        return CoreFile(spooled(again, folder))
    except BaseException:
        again.close()
        raise
