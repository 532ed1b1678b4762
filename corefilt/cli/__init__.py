"""The command line: finds the command, and turns whatever happens into words and an exit code."""

from __future__ import annotations

# The module signal, which takes 2 ms to load, only gives its numbers names.
import _signal as signal  # type: ignore[import-not-found]
import os
import sys

from corefilt.cli.commands import COMMANDS, FORCED
from corefilt.errors import CorefiltError, ReportPlaceError
from corefilt.startup import after_loading, before_loading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import NoReturn


class Terminated(BaseException):
    """A signal that asks to end; raised so that everything is cleaned up on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)


def main(argv: list[str] | None = None, *, interruptible: bool = False) -> int:
    """Run one command; returns the exit code. Dies by the signal that it was sent, after cleaning up.

    ``interruptible`` tells that SIGINT ends the process at once, and is to be raised from when the command is loaded.
    """
    try:
        return _main(sys.argv[1:] if argv is None else argv, interruptible=interruptible)
    except KeyboardInterrupt:
        return _die_by(signal.SIGINT)
    except Terminated as terminated:
        return _die_by(terminated.number)
    finally:
        if interruptible:
            # Nothing is left to clean up, and what Python does at its end would print a traceback.
            signal.signal(signal.SIGINT, signal.SIG_DFL)


def _main(argv: list[str], *, interruptible: bool) -> int:
    try:
        code = _dispatch(argv, interruptible=interruptible)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except CorefiltError as error:
        return _fail(error, argv)
    except BrokenPipeError:
        return _die_by(signal.SIGPIPE)
    except MemoryError:
        return _fail(CorefiltError("out of memory"), argv)
    except OSError as error:
        return _fail(CorefiltError(f"{error.filename or 'system'}: {error.strerror or error}"), argv)
    except Exception as error:
        if os.environ.get("COREFILT_TRACEBACK"):
            raise
        hint = "this is a bug in corefilt: please report it; COREFILT_TRACEBACK=1 shows where it is"
        return _fail(CorefiltError(f"{type(error).__name__}: {error}", hint), argv)


def entry(*, interruptible: bool = False) -> NoReturn:
    """Run one command as ``main`` does, and end with no more than the kernel's own tidying up.

    Taking the interpreter apart would cost 3 ms, a third of what starting it costs (bench/filter.py, start-up).
    """
    before_loading()
    code = main(interruptible=interruptible)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            try:
                stream.flush()
            except (OSError, ValueError):
                code = code or 1
    os._exit(code)


def _dispatch(argv: list[str], *, interruptible: bool) -> int:
    if None in (sys.stdin, sys.stdout, sys.stderr):
        _occupy_closed()
    name, rest = (argv[0], argv[1:]) if argv and argv[0] in COMMANDS else ("filter", argv)
    # Not importlib.import_module: loading importlib and warnings takes 0.9 ms of a run of 35 ms.
    run: Callable[[list[str]], int] = __import__(f"{__name__}.{name}", fromlist=["run"]).run
    after_loading()
    # Until here there was nothing to clean up, and an exception raised among imports can get lost.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _terminate)
    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run(rest)


def _occupy_closed() -> None:
    """Put something in the place of closed standard descriptors, so that no file that is opened gets their numbers.

    It can only be used the wrong way round: who reads standard input or writes to the others is told that he cannot.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            try:
                os.open(os.devnull, os.O_WRONLY if fd == 0 else os.O_RDONLY)
            except OSError:
                return


def _fail(error: CorefiltError, argv: list[str]) -> int:
    from corefilt.cli.hints import for_command
    from corefilt.cli.reportfile import is_named_twice, json_target, write_json
    from corefilt.cli.streams import say

    hint = for_command(error.hint, argv[0] if argv and argv[0] in COMMANDS else "filter")
    say(f"corefilt: {error}" + (f"\n  try: {hint}" if hint else ""))
    target = json_target(argv)
    # The words may be values of other options: only what surely means it makes a file be replaced.
    forced = any(word in ("-f", "--force") for word in argv)
    force = True if forced else None if argv and argv[0] in COMMANDS and argv[0] not in FORCED else False
    if target and not isinstance(error, ReportPlaceError) and not is_named_twice(target, argv):
        from corefilt.filtering.report import error_as_dict

        try:
            report = error_as_dict(type(error).__name__, str(error), hint, error.exit_code)
            write_json(report, target, force=force)
        except (CorefiltError, BrokenPipeError):
            # The first error has been told; that it cannot be told twice adds nothing.
            return error.exit_code
    return error.exit_code


def _die_by(number: int) -> int:
    """End as the signal would have ended a program that does not know it."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number
