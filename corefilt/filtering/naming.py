"""Names of cores by a template of core_pattern, from what a finished core can tell."""

from __future__ import annotations

import os
import stat

from corefilt.corefile.owner import Owner
from corefilt.errors import NameTemplateError, UsageError
from corefilt.filtering.kernel_file import KernelFile
from corefilt.procfs.core_pattern import ESCAPED, SPECIFIERS, USES_PID, check_template, expand

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corefilt.corefile.corefile import CoreFile

# The largest number of 64 bits is RLIM_INFINITY, and what %c shows of no limit.
_MOST_DIGITS = 20


class Naming:
    """How to name: a template, a folder (None: as the template says), values given for specifiers, and the habit.

    ``uses_pid`` is one of corepattern.USES_PID. Raises NameTemplateError or UsageError.
    """

    __slots__ = ("directory", "given", "template", "uses_pid")

    def __init__(
        self,
        template: str,
        *,
        directory: str | None = None,
        given: Mapping[str, str] | None = None,
        uses_pid: str = "no",
    ) -> None:
        self.template, self.directory, self.uses_pid = os.fsencode(template), directory, uses_pid
        check_template(self.template)
        if uses_pid not in USES_PID:
            raise UsageError(f"uses_pid is {uses_pid!r}", f"it can be {', '.join(USES_PID)}")
        if directory is not None and self.template[:1] == b"/":
            raise NameTemplateError(f"the template {template!r} names its directory itself", "omit --directory")
        self.given = {letter: _checked(letter, value) for letter, value in (given or {}).items()}

    def path(self, core: CoreFile) -> tuple[str, list[str]]:
        """The path of the core, and what is not certain of it, in words.

        Raises NameTemplateError that names the specifier for what this core does not tell.
        """
        values = Values(core, self.given)
        adds_pid = self.uses_pid == "yes" or (self.uses_pid == "threads" and core.notes.threads > 1)
        name = os.fsdecode(expand(self.template, values.of, uses_pid=adds_pid))
        if not name:
            raise NameTemplateError(f"the template {os.fsdecode(self.template)!r} gives no name for this core")
        if name.endswith("/"):
            raise NameTemplateError(f"the template gives the name {name!r}, which is a directory")
        return os.path.join(self.directory or "", name), values.notices

    def file(self, core: CoreFile, *, force: bool) -> tuple[KernelFile, list[str]]:
        """The file of this name, made by the kernel's rules, over an old one with ``force``; as ``path`` besides."""
        path, notices = self.path(core)
        return KernelFile(path, replace=force, dumpable=self.dumpable), notices

    @property
    def dumpable(self) -> int:
        """The dump mode that was given with ``d``: 0, 1 or 2; 1 if none was."""
        mode = int(self.given.get("d", b"1"))
        if mode > 2:
            raise NameTemplateError(f"d is {mode}, and dump modes are 0, 1 and 2")
        return mode


def parse_given(words: Sequence[str]) -> dict[str, str]:
    """Values of ``--set``, each like ``h=web1``. Raises NameTemplateError."""
    given: dict[str, str] = {}
    for word in words:
        letter, equals, value = word.partition("=")
        if not equals:
            raise NameTemplateError(f"--set {word!r} has no value", "write it like h=web1")
        given[letter.removeprefix("%")] = value
    return given


def _checked(letter: str, value: str) -> bytes:
    if letter not in SPECIFIERS:
        raise NameTemplateError(f"unknown specifier {letter!r}", f"there are {' '.join(SPECIFIERS)}")
    raw = os.fsencode(value)
    if letter not in ESCAPED and not (raw.isdigit() and len(raw) <= _MOST_DIGITS):
        raise NameTemplateError(f"%{letter} ({SPECIFIERS[letter]}) is a number, not {value!r}")
    if b"\0" in raw:
        raise NameTemplateError(f"the value of %{letter} has a zero byte")
    return raw


class Values:
    """What each specifier stands for in one core; ``notices`` say what is not certain of it."""

    def __init__(self, core: CoreFile, given: Mapping[str, bytes]) -> None:
        self._core, self._given = core, given
        self._identity = Owner(core.notes, core.ehdr)
        self.notices: list[str] = []

    def of(self, letter: str) -> bytes:
        """The value, not escaped. Raises NameTemplateError where the core does not tell it."""
        if letter in self._given:
            return self._given[letter]
        value = self._told(letter)
        if value is None:
            raise NameTemplateError(
                f"{self._core.source.name}: does not tell what %{letter} is ({SPECIFIERS[letter]})",
                f"--set {letter}=VALUE sets it",
            )
        return value

    def _told(self, letter: str) -> bytes | None:
        who = self._identity
        if letter == "F":
            # Only a program behind a pipe is given one.
            return b""
        if letter == "e":
            if who.comm is not None and who.tid != who.pid:
                self.notices.append("%e is the name of the process; the thread that crashed may have had another")
            return who.comm
        if letter == "E":
            return who.executable
        if letter == "f":
            return who.executable.rpartition(b"/")[2] if who.executable is not None else None
        number = {"p": who.pid, "i": who.tid, "u": who.uid, "g": who.gid, "s": who.signal, "t": self._dumped()}.get(
            letter
        )
        return b"%d" % number if number is not None else None

    def _dumped(self) -> int | None:
        """When the core was last written to, in seconds since 1970; a pipe does not tell."""
        source = self._core.source.origin
        if not source.seekable:
            return None
        status = os.fstat(source.fd)
        return int(status.st_mtime) if stat.S_ISREG(status.st_mode) else None
