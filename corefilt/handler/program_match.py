"""Which processes a rule speaks of: by executable, user and size; of the socket's rules and of the handler's own."""

from __future__ import annotations

import fnmatch
import os
import re

from corefilt.documents.fields import a_number, a_size, one_or_more
from corefilt.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.documents.fields import Reader

_MOST_UID = (1 << 32) - 2


class ProgramMatch:
    """Fits a process that has all that is named here; what is None fits every one. Sizes are in bytes."""

    __slots__ = ("executable", "larger_than", "smaller_than", "uids")

    def __init__(self) -> None:
        self.uids: tuple[int, ...] | None = None
        self.executable: re.Pattern[bytes] | None = None
        self.larger_than: int | None = None
        self.smaller_than: int | None = None

    def means(self, executable: bytes | None, uid: int, size: int) -> bool:
        """Whether it speaks of such a process; one whose executable is not known has none of any name."""
        return (
            (self.uids is None or uid in self.uids)
            and (self.executable is None or (executable is not None and bool(self.executable.match(executable))))
            and (self.larger_than is None or size > self.larger_than)
            and (self.smaller_than is None or size < self.smaller_than)
        )


def _executable(value: object) -> re.Pattern[bytes]:
    if not isinstance(value, str) or not value.startswith(("/", "*")):
        raise ConfigError(f"{value!r} is not an absolute path", "* and ? match any characters")
    return re.compile(os.fsencode(fnmatch.translate(value)))


MATCH_KEYS: dict[str, Reader[object]] = {
    "executable": _executable,
    "larger-than": a_size,
    "smaller-than": a_size,
    "uid": one_or_more(a_number(0, _MOST_UID)),
}


def attribute(key: str) -> str:
    """The attribute that holds what a key of MATCH_KEYS says."""
    return "uids" if key == "uid" else key.replace("-", "_")
