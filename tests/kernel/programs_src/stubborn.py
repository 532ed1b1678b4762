"""A process that is hard to dump from outside: it handles SIGABRT, and has memory that fork leaves out.

    stubborn.py

Says "ready PID", answers every line of standard input with the address of that memory, and ends with the input.
"""

import ctypes
import mmap
import os
import signal
import sys

BYTES = 1 << 20


def main():
    signal.signal(signal.SIGABRT, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGABRT})
    memory = mmap.mmap(-1, BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[:] = b"x" * BYTES
    memory.madvise(mmap.MADV_DONTFORK)
    print("ready", os.getpid(), flush=True)
    for _ in sys.stdin:
        print(ctypes.addressof(ctypes.c_char.from_buffer(memory)), flush=True)


if __name__ == "__main__":
    main()
