"""What the kernel starts: ``corefilt-handle [--config FILE] %P %u %g %s %t %c %d %F``, the core on standard input."""

from __future__ import annotations

import os
import sys

from corefilt.errors import CorefiltError, NoSettingsError, UsageError
from corefilt.handler.crash_info import parse_crash
from corefilt.handler.log import ERROR, WARNING, Messages
from corefilt.handler.worker_process import Forked
from corefilt.startup import after_loading, before_loading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from corefilt.handler.config import Config
    from corefilt.handler.crash_info import CrashInfo
    from corefilt.handler.records import StoreRecord


def main(argv: list[str]) -> int:
    """Save one core; returns 0, or 1 where none was saved, 2 where that was not asked for."""
    _reserve()
    sys.dont_write_bytecode = True
    os.environ.clear()
    path, numbers = None, argv
    if argv[:1] == ["--config"] and len(argv) > 1:
        path, numbers = argv[1], argv[2:]
    try:
        crash = parse_crash(numbers)
        if os.geteuid():
            raise UsageError("only root can take a core from the kernel")
    except CorefiltError as error:
        return _fail(error, Messages())
    return _run(crash, path)


def _run(crash: CrashInfo, path: str | None) -> int:
    messages = Messages()
    try:
        with Forked(crash, 0) as child:
            # Only now: what this loads, the child does not wait for.
            from corefilt.handler.records import StoreRecord

            record = StoreRecord(crash, child.victim)
            code = 1
            try:
                from corefilt.handler.supervisor import handle

                config = _settings(path, messages)
                after_loading()
                messages = Messages(journal=config.journal)
                code = 0 if handle(crash, child, config, messages) is not None else 1
            except CorefiltError as error:
                code = _fail(error, messages)
            finally:
                _finish(crash, child, record, messages, saved=not code)
            return code
    except CorefiltError as error:
        messages.say(f"process {crash.pid}: no core was saved: {error}", ERROR)
    except Exception as error:
        messages.say(f"process {crash.pid}: no core was saved: {type(error).__name__}: {error}", ERROR)
    return 1


def _settings(named: str | None, messages: Messages) -> Config:
    """The settings; a core is not lost because the file that --config names is not there. Raises ConfigError."""
    from corefilt.handler.config import Config, settings_of

    try:
        return settings_of(named)
    except NoSettingsError as error:
        messages.say(f"the default settings apply: {error}", WARNING)
        return Config()


def _fail(error: CorefiltError, messages: Messages) -> int:
    messages.say(f"no core was saved: {error}" + (f" ({error.hint})" if error.hint else ""), ERROR)
    return error.exit_code


def _finish(crash: CrashInfo, child: Forked, record: StoreRecord, messages: Messages, *, saved: bool) -> None:
    """See that no slot stays taken, and say what this handler and earlier ones could not."""
    from corefilt.handler.records import BEGUN, left_behind

    words = child.free_the_slot() if not saved else ""
    if words:
        messages.say(f"process {crash.pid}: {words}", ERROR)
    if record.why_not:
        messages.say(f"process {crash.pid}: a kill of this handler would not be noticed: {record.why_not}", WARNING)
    if child.stuck:
        record.leave_stuck()
    else:
        record.remove()
    try:
        before = left_behind(clear=True)
    except (CorefiltError, OSError):
        # The record has said so.
        return
    for lost in before:
        if lost.state == BEGUN:
            messages.say(f"{lost}: no core was saved: its handler was killed", ERROR)


def _reserve() -> None:
    """Have descriptors 0 to 2 open: the kernel leaves the last two closed, and the next file opened would be one."""
    fd = 0
    while fd <= 2:
        fd = os.open("/dev/null", os.O_RDWR)
    os.close(fd)


def entry() -> NoReturn:
    """The installed program."""
    before_loading()
    os._exit(main(sys.argv[1:]))
