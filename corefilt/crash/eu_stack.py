"""The frames of the crashed thread as eu-stack of elfutils finds them (``--unwinder eu-stack``).

It opens files that the core names by itself, with the caller's privileges: that is why it is never the default.
"""

from __future__ import annotations

import re
import subprocess

from corefilt.crash.unwind.unwinder import Backtrace, Frame
from corefilt.errors import InputError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.corefile.corefile import CoreFile
    from corefilt.corefile.registers import Thread
    from corefilt.crash.modules import ModuleIndex
    from corefilt.crash.unwind.unwinder import Unwinder

# A core of 10,000 threads takes it some seconds.
TIMEOUT = 60
_FRAME = re.compile(r"#(\d+)\s+0x([0-9a-f]+)")


def backtrace(core: CoreFile, walker: Unwinder, index: ModuleIndex, thread: Thread, most: int) -> Backtrace:
    """The frames, named as our own. Raises UsageError where eu-stack is missing, InputError where it fails."""
    if not core.source.seekable or core.source.base:
        raise UsageError("--unwinder eu-stack reads uncompressed files only", "decompress the core to a file first")
    core.source.need(0, core.source.size or 0)
    fd = core.source.fd
    # LLVM's debuginfod would be asked over the network.
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "DEBUGINFOD_URLS": ""}
    try:
        done = subprocess.run(
            ["eu-stack", "-n", str(most), f"--core=/proc/self/fd/{fd}"], pass_fds=[fd], stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=TIMEOUT, env=environment, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise UsageError("--unwinder eu-stack: eu-stack is not installed", "install elfutils") from None
    except subprocess.TimeoutExpired:
        raise InputError(f"{core.source.name}: eu-stack took more than {TIMEOUT} s") from None
    trace = Backtrace()
    exact = True
    for line in _of_thread(done.stdout, thread.pid):
        found = _FRAME.match(line)
        if found is None or len(trace.frames) >= most:
            continue
        pc = int(found[2], 16)
        place = pc if exact else pc - 1
        exact = walker.is_signal_frame(place)
        trace.frames.append(Frame(place, walker.function_at(place), index.at(place), "eu-stack", signal=exact))
    if not trace.frames:
        raise InputError(f"{core.source.name}: eu-stack shows no frame: {done.stderr.strip().splitlines()[:1] or ''}")
    trace.complete = not done.stderr and len(trace.frames) < most
    return trace


def _of_thread(text: str, tid: int) -> list[str]:
    """The lines of one thread."""
    lines, ours = [], False
    for line in text.splitlines():
        if line.startswith("TID "):
            ours = line.split()[1].rstrip(":") == str(tid)
        elif ours:
            lines.append(line)
    return lines
