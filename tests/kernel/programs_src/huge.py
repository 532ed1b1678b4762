"""CPython and numpy on huge pages, in all the ways to get them: private, shared, memfd, hugetlbfs, System V.

    huge.py HUGETLBFS

HUGETLBFS is a mounted hugetlbfs. Says "ready PID", answers every line of standard input with a sum over its
arrays, and ends with the input. Seven huge pages must be free.
"""

import ctypes
import hashlib
import mmap
import os
import sqlite3
import sys

import numpy

HUGE_PAGE = 2 << 20
MAP_HUGETLB, SHM_HUGETLB, IPC_PRIVATE, IPC_CREAT, IPC_RMID = 0x40000, 0o4000, 0, 0o1000, 0


def anonymous(sharing, pages):
    return mmap.mmap(-1, pages * HUGE_PAGE, flags=sharing | mmap.MAP_ANONYMOUS | MAP_HUGETLB)


def of(fd, sharing):
    os.ftruncate(fd, HUGE_PAGE)
    made = mmap.mmap(fd, HUGE_PAGE, flags=sharing)
    os.close(fd)
    return made


def file(folder, name):
    return os.open(os.path.join(folder, name), os.O_RDWR | os.O_CREAT, 0o600)


def segment():
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    number = libc.shmget(IPC_PRIVATE, ctypes.c_size_t(HUGE_PAGE), IPC_CREAT | SHM_HUGETLB | 0o600)
    if number < 0:
        raise OSError(ctypes.get_errno(), "shmget")
    at = libc.shmat(number, None, 0)
    libc.shmctl(number, IPC_RMID, None)
    return (ctypes.c_char * HUGE_PAGE).from_address(at)


def main():
    folder = sys.argv[1]
    maps = [
        anonymous(mmap.MAP_PRIVATE, 2),
        anonymous(mmap.MAP_SHARED, 1),
        of(os.memfd_create("pool", os.MFD_CLOEXEC | os.MFD_HUGETLB), mmap.MAP_SHARED),
        of(file(folder, "shared"), mmap.MAP_SHARED),
        of(file(folder, "private"), mmap.MAP_PRIVATE),
        segment(),
    ]
    arrays = [numpy.frombuffer(each, dtype="u1") for each in maps]
    for array in arrays:
        array[::4096] = 1
    counts = sqlite3.connect(":memory:")
    counts.execute("create table counts (pages integer)")
    counts.executemany("insert into counts values (?)", [(array.size // HUGE_PAGE,) for array in arrays])
    transparent = numpy.ones(2 * HUGE_PAGE, dtype="u1")
    print("ready", os.getpid(), flush=True)
    for _ in sys.stdin:
        (pages,) = counts.execute("select sum(pages) from counts").fetchone()
        digests = {hashlib.sha256(array[:4096]).digest() for array in arrays}
        print(len(digests) + pages + sum(int(array.sum()) for array in (*arrays, transparent)), flush=True)


if __name__ == "__main__":
    main()
