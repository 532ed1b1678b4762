"""The kernel's settings for cores: read, written and read back; and the drop-in that sets them when it starts.

Everything stands below a root: ``ROOT/proc/sys`` is the running kernel's, ``ROOT/etc/sysctl.d`` what sysctl(8) or
systemd-sysctl writes there at every start.
"""

from __future__ import annotations

import json
import os

from corefilt.errors import InstallError
from corefilt.handler.admin.config_files import read_file, remove_file, replace_file
from corefilt.procfs.core_pattern import as_kept

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PATTERN = "kernel.core_pattern"
PIPE_LIMIT = "kernel.core_pipe_limit"
# What core_pattern can name: file, pipe, socket (Linux 6.17).
MODES = "kernel.core_modes"

# Behind systemd-coredump's 50-coredump.conf: of two files that set one thing, the later name wins.
DROP_IN = "/etc/sysctl.d/60-corefilt.conf"
# sysctl.d(5): a name in an earlier folder hides the same name in a later one.
FOLDERS = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d")
_FORMER, _WITHOUT = "# former:", "# without:"
_HEAD = """\
# The program that the kernel gives core dumps to. Written by "corefilt install"; "corefilt uninstall" removes this
# file and restores the former values, which the next line records.
"""


class Sysctls:
    """The kernel's settings below ``root``."""

    def __init__(self, root: str = "/") -> None:
        self._folder = os.path.join(root, "proc/sys")

    def get(self, name: str) -> bytes | None:
        """A setting without its newline, None where there is none: in an image, or in a kernel that lacks it."""
        text = read_file(self._place(name))
        return text.removesuffix(b"\n") if text is not None else None

    def set(self, name: str, value: bytes) -> None:
        """Write a setting and read it back. Raises InstallError, with the former value set again."""
        before = self.get(name)
        self._write(name, value)
        kept = self.get(name)
        if kept != value:
            if before is not None:
                self._write(name, before)
            raise InstallError(f"{name}: the kernel made {_shown(kept)} of {_shown(value)}")

    def _write(self, name: str, value: bytes) -> None:
        try:
            with open(self._place(name), "wb", buffering=0) as file:
                # One write: the kernel takes each for a new value.
                file.write(value + b"\n")
        except OSError as error:
            raise InstallError(f"{name} cannot be set to {_shown(value)}: {error.strerror}") from None

    def _place(self, name: str) -> str:
        return os.path.join(self._folder, name.replace(".", "/"))


class DropIn:
    """What the drop-in file sets, and what was set before: each a setting's value by its name.

    ``without`` are the layers around the child that root did without when it was installed.
    """

    def __init__(self, settings: dict[str, bytes], former: dict[str, bytes], without: Sequence[str] = ()) -> None:
        self.settings, self.former, self.without = settings, former, tuple(without)

    @classmethod
    def read(cls, root: str = "/") -> DropIn | None:
        """The file below ``root``, None where there is none. Raises InstallError for one that others wrote."""
        path = _below(root, DROP_IN)
        text = read_file(path)
        if text is None:
            return None
        lines = os.fsdecode(text).splitlines()
        former = [line.removeprefix(_FORMER) for line in lines if line.startswith(_FORMER)]
        without = [line.removeprefix(_WITHOUT).split() for line in lines if line.startswith(_WITHOUT)]
        try:
            values: dict[str, str] = json.loads(former[0])
            before = {name: os.fsencode(value) for name, value in values.items()}
            return cls(dict(settings_in(text)), before, without[0] if without else ())
        except (IndexError, ValueError, TypeError, AttributeError):
            raise InstallError(f"{path}: does not record the previous value", "remove it yourself") from None

    def text(self) -> bytes:
        """The file."""
        former = json.dumps({name: os.fsdecode(value) for name, value in self.former.items()})
        lines = [b"%s = %s" % (name.encode(), value) for name, value in self.settings.items()]
        head = f"{_FORMER} {former}\n" + (f"{_WITHOUT} {' '.join(self.without)}\n" if self.without else "")
        return _HEAD.encode() + head.encode() + b"\n".join(lines) + b"\n"

    def write(self, root: str = "/") -> None:
        """Put the file in its place, whole or not at all. Raises InstallError."""
        replace_file(_below(root, DROP_IN), self.text())


def remove_drop_in(root: str = "/") -> None:
    """Remove the file, if it is there. Raises InstallError."""
    remove_file(_below(root, DROP_IN))


def at_start(name: str, root: str = "/") -> tuple[str, bytes] | None:
    """The file that decides on a setting when the system starts, and its value; None where no file does."""
    found: dict[str, str] = {}
    for folder in FOLDERS:
        try:
            names = os.listdir(_below(root, folder))
        except OSError:
            continue
        for entry in names:
            if entry.endswith(".conf"):
                found.setdefault(entry, os.path.join(folder, entry))
    last = None
    for _, path in sorted(found.items()):
        for setting, value in settings_in(read_file(_below(root, path)) or b""):
            if setting == name:
                last = path, value
    return last


def settings_in(text: bytes) -> list[tuple[str, bytes]]:
    """The settings of a file in the form of sysctl.d(5), in their order; what cannot be read is left out."""
    found = []
    for line in text.splitlines():
        name, equals, value = line.strip().partition(b"=")
        if equals and not name.startswith((b"#", b";")):
            setting = name.strip().removeprefix(b"-").replace(b"/", b".")
            found.append((os.fsdecode(setting), as_kept(value.strip())))
    return found


def _below(root: str, path: str) -> str:
    return os.path.join(root, path.lstrip("/"))


def _shown(value: bytes | None) -> str:
    return repr(os.fsdecode(value)) if value is not None else "nothing"
