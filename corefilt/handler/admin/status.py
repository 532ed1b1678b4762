"""Whether cores reach the handler, and what stands in their way."""

from __future__ import annotations

import os
import sys

from corefilt import __version__
from corefilt.errors import CorefiltError
from corefilt.handler.account import find_account
from corefilt.handler.admin import audit as footing
from corefilt.handler.admin.install import is_ours
from corefilt.handler.admin.recent_logs import last_troubles
from corefilt.handler.admin.sysctl import DROP_IN, PATTERN, PIPE_LIMIT, DropIn, Sysctls, at_start
from corefilt.handler.config import PATH, Config, read_config
from corefilt.handler.pattern import interpreter_of, knows_pidfd, socket_of
from corefilt.handler.records import BEGUN, FOLDER, left_behind, stands_still
from corefilt.handler.secure_open import open_folder
from corefilt.handler.serve.listener import is_listened_at
from corefilt.handler.serve.rules import parse_serve_rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.handler.path_trust import Fault

# Recommended as systemd-coredump has it: each waits for a core, and has a process or two of some 20 MiB.
USUAL_PIPE_LIMIT = 16
NO_PIPE_LIMIT = (
    f"{PIPE_LIMIT} is 0: the kernel does not limit the number of handlers, and a process that crashed can be gone "
    f"before its /proc was read; corefilt install --pipe-limit {USUAL_PIPE_LIMIT} makes it wait"
)
MAKE_ACCOUNT = "useradd --system --no-create-home --shell /usr/sbin/nologin"


class Ground:
    """What the handler needs below ``root``, installed or not; each ``..._error`` is a sentence, or None."""

    def __init__(self, root: str = "/") -> None:
        self.config_path = os.path.join(root, PATH.lstrip("/"))
        self.config_error: str | None = None
        self.config = Config()
        try:
            self.config = read_config(self.config_path)
            parse_serve_rules(self.config.serve)
        except CorefiltError as error:
            self.config_error = _sentence(error)
        self.config_state = "usable" if os.path.exists(self.config_path) else "missing, so the defaults apply"
        self.account_error: str | None = None
        try:
            find_account(self.config.user, os.path.join(root, "etc/passwd"))
        except CorefiltError as error:
            self.account_error = f"{error}; {MAKE_ACCOUNT} {self.config.user} creates it"
        self.directory = os.path.join(root, self.config.directory.lstrip("/"))
        self.directory_error: str | None = None
        try:
            os.close(open_folder(self.directory))
        except CorefiltError as error:
            self.directory_error = _sentence(error)

    @property
    def problems(self) -> list[str]:
        """All that is wrong with it."""
        errors = (self.config_error, self.account_error, self.directory_error)
        return [error for error in errors if error is not None]


class Status:
    """What is installed below ``root``, and whether it works; the attributes are the keys of the JSON report."""

    def __init__(self, root: str = "/") -> None:
        sysctls = Sysctls(root)
        self.ground = Ground(root)
        self.drop_in: DropIn | None = None
        self.problems: list[str] = []
        try:
            self.drop_in = DropIn.read(root)
        except CorefiltError as error:
            self.problems.append(_sentence(error))
        self.pattern = sysctls.get(PATTERN)
        self.ours = self.pattern is not None and is_ours(PATTERN, self.pattern, self.drop_in)
        limit = sysctls.get(PIPE_LIMIT)
        self.pipe_limit = int(limit) if limit is not None and limit.isdigit() else None
        self.at_start = at_start(PATTERN, root)
        self.python = (interpreter_of(self.pattern) if self.pattern is not None else None) or sys.executable
        self.untrusted: list[Fault] = []
        try:
            self.untrusted = footing.faults(self.python)
        except CorefiltError as error:
            self.problems.append(_sentence(error))
        self.missing: dict[str, str] = {}
        if not self.untrusted:
            try:
                self.missing = footing.missing_layers(self.python)
            except CorefiltError as error:
                self.problems.append(_sentence(error))
        self.lost, self.stuck, self.lost_error = _left_behind(os.path.join(root, FOLDER.lstrip("/")))
        self.messages = [*self.lost, *last_troubles()]
        self.listening = self._is_listened_at(os.path.join(root, "proc/net/unix"))
        self.problems += [*self._misplaced(), *self.ground.problems, *map(str, self.untrusted), *self.stuck]
        self.problems += [_without(name, why) for name, why in self.missing.items() if self._is_lost(name)]

    @property
    def recommendations(self) -> list[str]:
        """What works, and would work better otherwise."""
        found = [_without(name, why) for name, why in self.missing.items() if not self._is_lost(name)]
        if not self.ours or self.pattern is None or not self.pattern.startswith(b"|"):
            return found
        found += [NO_PIPE_LIMIT] if self.pipe_limit == 0 else []
        if knows_pidfd(os.uname().release) and b"%F" not in self.pattern.split():
            found.append(
                "this kernel can pass a pidfd (%F), and core_pattern does not request it: corefilt install adds it"
            )
        return found

    def as_dict(self) -> dict[str, object]:
        """The report for programs."""
        return {
            "schema": 1,
            "version": __version__,
            "installed": self.drop_in is not None,
            "pattern": _text(self.pattern),
            "ours": self.ours,
            "drop_in": {
                "path": DROP_IN,
                "settings": {name: _text(value) for name, value in self.drop_in.settings.items()},
                "former": {name: _text(value) for name, value in self.drop_in.former.items()},
            }
            if self.drop_in is not None
            else None,
            "at_start": {"path": self.at_start[0], "pattern": _text(self.at_start[1])} if self.at_start else None,
            "listening": self.listening,
            "core_pipe_limit": self.pipe_limit,
            "python": self.python,
            "config": {"path": self.ground.config_path, "error": self.ground.config_error},
            "account": {"user": self.ground.config.user, "error": self.ground.account_error},
            "directory": {"path": self.ground.directory, "error": self.ground.directory_error},
            "untrusted": [fault._asdict() for fault in self.untrusted],
            "messages": self.messages,
            "problems": self.problems,
            "recommendations": self.recommendations,
        }

    def lines(self) -> list[str]:
        """The report for people, but for problems and recommendations."""
        pattern = _text(self.pattern)
        lines = [
            f"core_pattern     {'corefilt' if self.ours else 'not corefilt'}: {pattern}",
            f"at boot          {f'{self.at_start[0]}: {_text(self.at_start[1])}' if self.at_start else 'not set'}",
        ]
        if self.drop_in is not None:
            former = self.drop_in.former.get(PATTERN)
            lines.append(f"before           {_text(former) if former is not None else 'not known'}")
        ground = self.ground
        lines += [
            f"core_pipe_limit  {self.pipe_limit if self.pipe_limit is not None else 'missing'}",
            f"configuration    {ground.config_path}: {'not usable' if ground.config_error else ground.config_state}",
            f"account          {ground.config.user}: {'not usable' if ground.account_error else 'usable'}",
            f"directory        {ground.directory}: {'not usable' if ground.directory_error else 'usable'}",
            f"interpreter      {self.python}: {'others' if self.untrusted else 'root alone'} can change what it runs",
        ]
        lines.append(f"layers missing   {', '.join(self.missing) if self.missing else self._no_layer_is_missing()}")
        if self.lost_error is not None:
            lines.append(f"lost cores       unknown: {self.lost_error}")
        return lines + [f"message          {line}" for line in self.messages]

    def _is_lost(self, layer: str) -> bool:
        """Whether an installed handler was to have this layer: all can be refused but seccomp, and that by root."""
        return layer == "seccomp" and self.drop_in is not None and layer not in self.drop_in.without

    def _no_layer_is_missing(self) -> str:
        if self.untrusted:
            return "not checked: other users can change what would be checked"
        return "none" if not os.geteuid() else "not seccomp; only root can check the others"

    def _misplaced(self) -> list[str]:
        """What keeps cores from the handler, now and after the next start."""
        found = []
        if not self.ours and self.pattern is not None:
            found.append(f"core_pattern is not corefilt's: {_text(self.pattern)!r}")
        if self.listening is False:
            found.append(
                "no process listens on the socket that core_pattern names, and cores are lost: start corefilt serve"
            )
        if self.drop_in is not None and self.at_start is not None:
            path, value = self.at_start
            if value != self.drop_in.settings.get(PATTERN):
                found.append(f"{path} sets another core_pattern when the system starts: {_text(value)!r}")
        elif self.drop_in is None:
            found.append(f"{DROP_IN} is missing: after the next boot core_pattern will not be corefilt's")
        return found

    def _is_listened_at(self, table: str) -> bool | None:
        path = socket_of(self.pattern) if self.pattern is not None and self.ours else None
        return is_listened_at(path, table) if path is not None else None


def _left_behind(folder: str) -> tuple[list[str], list[str], str | None]:
    """What is to be said of cores that were lost, and of processes that cannot be ended; and why that is not known."""
    try:
        records = left_behind(folder)
    except (CorefiltError, OSError) as error:
        return [], [], str(error)
    lost = [f"{record}: no core was saved: its handler was killed" for record in records if record.state == BEGUN]
    stuck = [
        f"{record}: hangs in its dump, waiting for a page of its memory, and occupies a slot of {PIPE_LIMIT}: "
        "the server of its mapped files does not answer"
        for record in records
        if stands_still(record)
    ]
    return lost, stuck, None


def _without(layer: str, why: str) -> str:
    return f"the process that reads cores runs without {layer}: {why}"


def _sentence(error: CorefiltError) -> str:
    return f"{error} ({error.hint})" if error.hint else str(error)


def _text(value: bytes | None) -> str:
    return os.fsdecode(value) if value is not None else "missing"
