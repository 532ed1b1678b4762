"""The child as the parent has it: forked first of all, so that it loads what it needs while the settings are read.

The process that crashed waits until the child reads its core, and what both load takes longer than all else.
"""

from __future__ import annotations

import os
import select
import time

from corefilt.errors import CorefiltError, OutputError
from corefilt.handler import request as order
from corefilt.handler import result
from corefilt.handler.crashed_process import open_victim, still_dumps
from corefilt.procfs import pidfd as pidfds
from corefilt.startup import after_loading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from corefilt.handler.crash_info import CrashInfo
    from corefilt.handler.request import Allowance, Order
    from corefilt.handler.result import Result
    from corefilt.handler.statement import Statement

# Seconds that a killed child may take to end; one that waits for a server that does not answer may not end at all. With
# a hundred crashes at once, 7 children took longer: one that has done its work has as long as there was for that.
TO_END = 1.0
# Once nobody reads its core, the kernel is done with a process at its next write: in less than 0.1 s, unless the
# process waits for a page. Then it is killed, and has as long again as it takes a busy machine.
TO_FINISH, TO_DIE = 2.0, 5.0
STEP = 0.05


class Forked:
    """A child that holds the core's stream and what was opened of the process; a context manager.

    ``program`` is the executable's file (O_PATH) or -1.
    Its end is the end of all reading: the kernel stops to write then, and waits for nobody.
    """

    def __init__(self, crash: CrashInfo, stream: int) -> None:
        """Open the process, and fork; ``stream`` is closed here. Raises OutputError."""
        self.began = time.monotonic()
        self.stuck = False
        self._crashed = crash.pid
        self._pid = 0
        self.victim = open_victim(crash)
        try:
            self._fork(crash, stream)
        except OSError as error:
            # Nobody reads its core, so that it ends, and if it waits for a page it is killed.
            os.close(stream)
            words = self.free_the_slot()
            raise OutputError(f"no child can be started: {error.strerror}" + (f"; {words}" if words else "")) from None
        self.victim.ask_its_threads(crash)
        # Whose it is, is asked when nobody waits any more.
        self.program, self.victim.program = self.victim.program, -1
        self.victim.close()

    def _fork(self, crash: CrashInfo, stream: int) -> None:
        # The child needs it too, and the process that crashed waits for the child.
        from corefilt.handler import sandbox, statement

        self._stated = statement.new_file()
        told, self._teller = os.pipe2(os.O_CLOEXEC)
        self._listener, report = os.pipe2(os.O_CLOEXEC)
        allowed, self._allower = os.pipe2(os.O_CLOEXEC)
        self._asked, asks = os.pipe2(os.O_CLOEXEC)
        parent = os.getpid()
        ours, why_not = sandbox.own_pids()
        pid = os.fork()
        if not pid:
            os.close(self._teller)
            os.close(self._allower)
            os.close(self._asked)
            missing = {"pids": why_not} if why_not else {}
            self._be_the_child(crash, stream, (told, allowed, asks), report, parent, missing)
        if ours >= 0:
            sandbox.back(ours)
        self._pidfd = os.pidfd_open(pid)
        self._pid = pid
        for fd in (told, allowed, asks, report, stream):
            os.close(fd)

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *about: object) -> None:
        self._end()
        for fd in (self._listener, self._stated, self._teller, self._allower, self._asked, self._pidfd, self.program):
            if fd >= 0:
                os.close(fd)

    def have_done(self, what: Order, deadline: float, allow: Callable[[], Allowance]) -> Result:
        """Have the work done within ``deadline`` seconds from the start; then there is no child. Raises OutputError.

        What the child awaits ``allow`` finds out once the core is read, so that the process that crashed does not wait.
        """
        try:
            os.write(self._teller, order.pack(what))
        except BrokenPipeError:
            # What it says, if anything, is read below.
            pass
        os.close(self._teller)
        self._teller = -1
        waiting = select.poll()
        waiting.register(self._listener, select.POLLIN)
        until = self.began + deadline
        if what.config.awaits:
            asking = select.poll()
            # The child closes its end to ask; so does its end.
            asking.register(self._asked, 0)
            if asking.poll(max(0.0, until - time.monotonic()) * 1000):
                raw = allow().pack()
                try:
                    os.write(self._allower, raw)
                except BrokenPipeError:
                    # What it says, if anything, is read below.
                    pass
        if not waiting.poll(max(0.0, until - time.monotonic()) * 1000):
            raise OutputError(f"it took longer than {deadline:g} s (deadline)")
        raw = os.read(self._listener, result.MOST)
        # Nothing writes to the files from here on.
        if not self._end(max(TO_END, until - time.monotonic())):
            raise OutputError("the child that read it did not end")
        found = result.unpack(raw)
        if found is None:
            raise OutputError(
                "the child that reads it ended before it was done" if not raw else "the child's report is bad"
            )
        return found

    def stated(self) -> Statement:
        """What the child stated before it read the core; nothing if it had not come so far."""
        from corefilt.handler.statement import read_statement

        return read_statement(self._stated)

    def free_the_slot(self) -> str:
        """Once the core is given up: see that its dump ends, killed if it must be, so that no slot stays taken.

        Returns words about what that took, which are empty where it ended by itself; without a pidfd that is proven to
        be its own nobody is killed. ``stuck`` tells afterwards whether it still stands there.
        """
        self._end()
        if self._has_finished(TO_FINISH):
            return ""
        if self.victim.pidfd < 0:
            self.stuck = True
            why = f"was not killed, as its pidfd is not proven: {self.victim.unproven}"
            return f"it waits for a page of its memory, {why}; it occupies a slot of core_pipe_limit"
        pidfds.kill(self.victim.pidfd)
        if self._has_finished(TO_DIE):
            return "it waited for a page of its memory, and was killed: it occupied a slot of core_pipe_limit"
        self.stuck = True
        return "it waits for a page of its memory, cannot be killed, and occupies a slot of core_pipe_limit"

    def _has_finished(self, seconds: float) -> bool:
        """Whether the process leaves its dump within so many seconds; its own end can take longer."""
        until = time.monotonic() + seconds
        while still_dumps(self.victim, self._crashed):
            if time.monotonic() > until:
                return False
            if self.victim.pidfd >= 0:
                pidfds.has_ended(self.victim.pidfd, STEP)
            else:
                time.sleep(STEP)
        return True

    def _end(self, seconds: float = TO_END) -> bool:
        """Kill the child; tells whether it has ended within so many seconds."""
        if self._pid:
            pidfds.kill(self._pidfd)
            if not pidfds.has_ended(self._pidfd, seconds):
                return False
            os.waitpid(self._pid, 0)
            self._pid = 0
        return True

    def _be_the_child(
        self,
        crash: CrashInfo,
        stream: int,
        tells: tuple[int, int, int],
        report: int,
        parent: int,
        missing: dict[str, str],
    ) -> NoReturn:
        code, (told, *allowance) = 1, tells
        try:
            from corefilt.handler.journal_facts import gather
            from corefilt.handler.sandbox import close_others, confine
            from corefilt.handler.seccomp import allow_calls, find_library
            from corefilt.handler.statement import state
            from corefilt.handler.worker import Work, load

            load()
            seccomp = find_library()
            raw = os.read(told, order.MOST)
            if not raw:
                raise CorefiltError("the parent has ended")
            what = order.unpack(raw)
            # Of the files that the parent opened meanwhile; /proc shows them to root.
            files = [os.open(f"/proc/{parent}/fd/{fd}", os.O_RDWR | os.O_CLOEXEC) for fd in what.files]
            awaited = allowance if what.config.awaits else []
            work = Work(crash, what.config, self.victim, stream, (files[0], files[1]), awaited)
            after_loading()
            close_others([0, 1, 2, stream, *files, *self.victim.descriptors, self._stated, report, *awaited])
            missing.update(confine(what.account, report))
            if seccomp is not None:
                allow_calls(seccomp)
            else:
                missing["seccomp"] = "no binding of libseccomp"
            facts, notices = gather(self.victim, with_map=what.config.journal_maps)
            left_out = state(self._stated, missing, facts)
            os.close(self._stated)
            work.notices += [*notices, *(f"{name} is too long for the journal" for name in left_out)]
            os.write(report, work.carry_out().pack())
            code = 0
        except BaseException as error:
            os.write(report, result.Result(result.FAILED, f"{type(error).__name__}: {error}").pack())
        finally:
            os._exit(code)
