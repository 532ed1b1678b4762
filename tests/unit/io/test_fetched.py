"""What a thread fetches comes in order and whole, is not fetched far ahead, and ends whoever gives up first."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from support.samples import noise

from corefilt import _fast
from corefilt.errors import InputError
from corefilt.io.decompress import BATCH
from corefilt.io.fetched import DEPTH, FedSource

DATA = noise(700)


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def cut(length: int) -> Iterator[bytes]:
    for at in range(0, len(DATA), length):
        yield DATA[at : at + length]


@pytest.mark.parametrize("length", [100, 4096, BATCH, 3 * BATCH, len(DATA)])
def test_all_of_it_comes_in_order(length: int) -> None:
    source = FedSource(lambda: cut(length), "it", most_ahead=1 << 20)
    assert source.peek(3, 300_000) == DATA[3:300_003]
    assert source.skip(5) == 5
    came = bytearray(DATA[:5])
    while pieces := source.pieces(70_001):
        assert sum(map(len, pieces)) <= 70_001
        assert len(pieces) <= _fast.MOST_BUFFERS
        came += b"".join(pieces)
        assert source.position == len(came)
    assert came == DATA
    assert source.skip(1) == 0
    assert source.check() is None
    source.close()
    source.close()


def test_no_more_is_fetched_than_a_few_batches() -> None:
    fetched = 0
    full = threading.Event()

    def endless() -> Iterator[bytes]:
        nonlocal fetched
        while True:
            fetched += 1
            if fetched > DEPTH:
                full.set()
            yield bytes(BATCH)

    source = FedSource(endless, "it", most_ahead=1 << 20)
    assert full.wait(60)
    # The one that waits to be handed over; then the thread waits, and is let go.
    source.close()
    assert fetched == DEPTH + 1


def test_an_error_is_told_behind_what_came_before() -> None:
    def fails() -> Iterator[bytes]:
        yield DATA[:1000]
        raise OSError(5, "the store is gone")

    source = FedSource(fails, "it", most_ahead=1 << 20)
    assert b"".join(source.pieces(1 << 20)) == DATA[:1000]
    assert source.pieces(1) == []
    with pytest.raises(InputError, match="the store is gone"):
        source.check()
    source.close()
