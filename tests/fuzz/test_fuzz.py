"""The fuzz targets, as far as a plain run has time: their seeds, what once failed, and some inputs near the seeds."""

from __future__ import annotations

import random

import pytest
from support.thinned import one_in

from fuzz.seeds import FOUND, SEEDS, found
from fuzz.targets import TARGETS, run

RUNS = 60
NUMBERS = (0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 32, 1 << 62, 1 << 63, (1 << 64) - 1, (1 << 64) - 4096)


def test_every_target_has_seeds() -> None:
    assert SEEDS.keys() == TARGETS.keys()


@pytest.mark.parametrize("target", TARGETS)
def test_seeds(target: str) -> None:
    """Most are sound: a target that refuses what it begins with reaches nothing behind that."""
    taken = [run(target, data) for data in SEEDS[target]()]
    assert sum(taken) * 4 >= len(taken)


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_no_input_at_all(target: str) -> None:
    for data in (b"", b"\0", b"\xff" * 300, bytes(5000)):
        run(target, data)


@pytest.mark.parametrize("target", [folder.name for folder in sorted(FOUND.iterdir())])
def test_what_once_failed(target: str) -> None:
    for data in found(target):
        run(target, data)


def mutated(draw: random.Random, data: bytes) -> bytes:
    """Change a few bytes, numbers of header fields among them, or lengths."""
    out = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(out) + 1)
        match draw.randrange(5):
            case 0:
                out[at : at + 1] = draw.randbytes(1)
            case 1:
                out[at : at + 8] = draw.choice(NUMBERS).to_bytes(8, draw.choice(("little", "big")))
            case 2:
                del out[at : at + draw.randint(1, 64)]
            case 3:
                out[at:at] = out[draw.randrange(len(out) + 1) :][: draw.randint(1, 64)]
            case 4:
                # In what a file begins with, most bytes mean something.
                at = draw.randrange(min(len(out), 1024) + 1)
                out[at : at + 1] = draw.randbytes(1)
    return bytes(out)


@one_in(4)
@pytest.mark.parametrize("target", TARGETS)
def test_near_the_seeds(target: str, step: int) -> None:
    """The same inputs each time, without coverage to guide them."""
    draw = random.Random(target)
    seeds = list(SEEDS[target]())
    for _ in range(0, RUNS, step):
        run(target, mutated(draw, draw.choice(seeds)))
