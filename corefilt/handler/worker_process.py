"""The child as the parent has it: forked first of all, so that it loads what it needs while the settings are read.

The process that crashed waits until the child reads its core, and what both load takes longer than all else.
"""

from __future__ import annotations

import os
import select
import signal
import time

from corefilt.errors import CorefiltError, OutputError
from corefilt.handler import request as order
from corefilt.handler import result
from corefilt.handler.crashed_process import open_victim

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from corefilt.handler.crash_info import Crash
    from corefilt.handler.request import Order
    from corefilt.handler.result import Result


class Forked:
    """A child that holds the core's stream and what was opened of the process; a context manager.

    Its end is the end of all reading: the kernel stops to write then, and waits for nobody.
    """

    def __init__(self, crash: Crash, stream: int) -> None:
        """Open the process, and fork; ``stream`` is closed here. Raises OSError."""
        self.began = time.monotonic()
        self.victim = open_victim(crash)
        told, self._teller = os.pipe2(os.O_CLOEXEC)
        self._listener, report = os.pipe2(os.O_CLOEXEC)
        parent = os.getpid()
        self._pid = os.fork()
        if not self._pid:
            os.close(self._teller)
            self._be_the_child(crash, stream, told, report, parent)
        for fd in (told, report, stream):
            os.close(fd)
        self.victim.close()

    def __enter__(self) -> Forked:
        """Give itself."""
        return self

    def __exit__(self, *about: object) -> None:
        """End the child, whatever it does."""
        self._end()
        os.close(self._listener)
        if self._teller >= 0:
            os.close(self._teller)

    def have_done(self, what: Order, deadline: float) -> Result:
        """Have the work done within ``deadline`` seconds from the start; then there is no child. Raises OutputError."""
        try:
            os.write(self._teller, order.pack(what))
        except BrokenPipeError:
            # What it says, if anything, is read below.
            pass
        os.close(self._teller)
        self._teller = -1
        waiting = select.poll()
        waiting.register(self._listener, select.POLLIN)
        if not waiting.poll(max(0.0, self.began + deadline - time.monotonic()) * 1000):
            raise OutputError(f"it took longer than {deadline:g} s (deadline)")
        raw = os.read(self._listener, result.MOST)
        # Nothing writes to the files from here on.
        self._end()
        found = result.unpack(raw)
        if found is None:
            raise OutputError(
                "the child that reads it ended before it was done" if not raw else "the child's report is bad"
            )
        return found

    def _end(self) -> None:
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0

    def _be_the_child(self, crash: Crash, stream: int, told: int, report: int, parent: int) -> NoReturn:
        code = 1
        try:
            from corefilt.handler.sandbox import close_others, confine
            from corefilt.handler.seccomp import allow_calls, find_library
            from corefilt.handler.worker import Work, load

            load()
            seccomp = find_library()
            raw = os.read(told, order.MOST)
            if not raw:
                raise CorefiltError("the parent has ended")
            what = order.unpack(raw)
            # Of the files that the parent opened meanwhile; /proc shows them to root.
            files = [os.open(f"/proc/{parent}/fd/{fd}", os.O_RDWR | os.O_CLOEXEC) for fd in what.files]
            work = Work(crash, what.config, self.victim, stream, (files[0], files[1]))
            close_others([0, 1, 2, stream, *files, *self.victim.descriptors, report])
            confine(what.account, parent)
            if seccomp is not None:
                allow_calls(seccomp)
            os.write(report, work.carry_out().pack())
            code = 0
        except BaseException as error:
            os.write(report, result.Result(result.FAILED, f"{type(error).__name__}: {error}").pack())
        finally:
            os._exit(code)
