"""CPython as a worker on data: multiprocessing's shared memory, numpy arrays and memmaps, a database, compression.

    shared.py FOLDER

Makes its files in FOLDER, says "ready PID WORKER", answers every line of standard input with a sum over all of
it, and ends with the input.
"""

import lzma
import mmap
import multiprocessing
import os
import sqlite3
import ssl
import sys
from multiprocessing import shared_memory

import numpy

MEBIBYTE = 1 << 20
SHARED_BYTES = 3 * MEBIBYTE


def attend(name, conn):
    """Attach to the block and the files like any worker, and hold them until the pipe closes."""
    block = shared_memory.SharedMemory(name)
    array = numpy.ndarray((SHARED_BYTES // 8,), dtype="f8", buffer=block.buf)
    scratch = numpy.ones(MEBIBYTE)
    while True:
        try:
            conn.recv()
        except EOFError:
            break
        conn.send(float(array.sum() + scratch.sum()))
    del array
    block.close()


def main():
    folder = sys.argv[1]
    block = shared_memory.SharedMemory(create=True, size=SHARED_BYTES)
    array = numpy.ndarray((SHARED_BYTES // 8,), dtype="f8", buffer=block.buf)
    array[:] = 1
    ours, theirs = multiprocessing.Pipe()
    worker = multiprocessing.get_context("spawn").Process(target=attend, args=(block.name, theirs))
    worker.start()
    theirs.close()

    counter = multiprocessing.RawArray("d", 100_000)
    counter[0] = 1
    numbers = numpy.random.default_rng(1).random(MEBIBYTE)
    path = os.path.join(folder, "numbers.npy")
    numpy.save(path, numbers)
    raw = os.path.join(folder, "raw")
    numbers.tofile(raw)
    read = numpy.memmap(raw, dtype="f8", mode="r")
    copied = numpy.memmap(raw, dtype="f8", mode="c")
    copied[0] = 2
    written = numpy.memmap(os.path.join(folder, "written"), dtype="f8", mode="w+", shape=(MEBIBYTE,))
    written[:] = numbers
    loaded = numpy.load(path, mmap_mode="r+")
    anonymous = mmap.mmap(-1, MEBIBYTE)
    anonymous[:4] = b"anon"
    own = mmap.mmap(-1, MEBIBYTE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    own[:4] = b"mine"
    database = sqlite3.connect(os.path.join(folder, "results"))
    database.execute("create table results as select ? as version", (ssl.OPENSSL_VERSION,))
    packed = lzma.compress(numbers.tobytes()[:MEBIBYTE])

    ours.send("ready?")
    ours.recv()
    print("ready", os.getpid(), worker.pid, flush=True)
    for _ in sys.stdin:
        ours.send("sum")
        total = sum(float(part.sum()) for part in (array, read, copied, written, loaded))
        print(total + ours.recv() + counter[0] + packed[0] + anonymous[0] + own[0], flush=True)

    ours.close()
    worker.join()
    del array
    block.close()
    block.unlink()


if __name__ == "__main__":
    main()
