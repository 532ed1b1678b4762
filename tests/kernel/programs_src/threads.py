"""Threads that wait deep in Python's code, and a main thread that aborts."""

import os
import threading

there = threading.Barrier(21)


def deep(depth: int) -> int:
    """Wait at some depth."""
    if depth:
        return deep(depth - 1) + 1
    there.wait()
    threading.Event().wait()
    return 0


for n in range(20):
    threading.Thread(target=deep, args=(5 + n,), daemon=True).start()
there.wait()
ballast = [bytearray(b"x" * 5000) for _ in range(2000)]
os.abort()
