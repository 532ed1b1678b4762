"""Threads that wait deep in Python's code with locals of many types; the main thread ends as it is told."""

import ctypes
import os
import sys
import threading
import time
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

threads, depth, heap, how = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
there = threading.Barrier(threads + 1)
Point = namedtuple("Point", "x y")


@dataclass
class Job:
    name: str
    size: int
    tags: list


class Plain:
    def __init__(self, n):
        self.n = n
        self.text = "plain " * 3
        self.data = b"\x00\x01" * n


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self):
        self.a, self.b = 1, "two"

    def work(self, level, end):
        return deep(level, end)


def numbers(level, end):
    yield deep(level, end)


def deep(level, end):
    number, text, wide = level, f"level {level}", "gr\u00fc\u00df \u4e2d " * 2
    raw, real, none, yes = b"bytes %d" % level, level / 3, None, level % 2 == 0
    big = 1 << (level * 20)
    pair, many = (level, text), [level, text, {"inner": [level]}]
    table = {"level": level, text: pair, 7: None}
    ordered, some = OrderedDict(a=1), {level, "x"}
    objects = Job(text, level, ["a", "b"]), Plain(level), Point(level, 2)
    job, plain, point = objects
    if level > 0:
        if level % 5 == 0:
            return next(numbers(level - 1, end))
        if level % 7 == 0:
            return Slotted().work(level - 1, end)
        if level % 3 == 0:
            return (lambda: deep(level - 1, end))()
        return deep(level - 1, end) + number
    there.wait()
    end()
    return (
        len(wide)
        + len(raw)
        + real
        + bool(none)
        + yes
        + big
        + len(many)
        + len(table)
        + len(ordered)
        + len(some)
        + (job is plain is point)
    )


def crash():
    if how == "segv":
        ctypes.string_at(0)
    elif how == "abort":
        os.abort()
    else:
        print("ready", flush=True)
        time.sleep(3600)


held = [bytearray(b"x" * 5000) for _ in range(200 * heap)]
lock = threading.Lock()
lock.acquire()
ends = [threading.Event().wait, lambda: time.sleep(3600), lock.acquire]
for n in range(threads):
    how_deep = 1 + (depth + n) % (depth + 1)
    threading.Thread(target=deep, args=(how_deep, ends[n % 3]), daemon=True, name=f"worker-{n}").start()
deep(depth, crash)
