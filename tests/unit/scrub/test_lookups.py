"""What ``_fast`` finds in bytes by tables, held against searches that are written down in a line."""

from __future__ import annotations

import math
import random
import struct
import sys
from array import array
from collections.abc import Callable

import pytest

from corefilt import _fast
from corefilt.scrub.tables import LEAST_LITERAL, Anchors, Literals

WORDS = [b"abc", b"bca", b"eyJ", b"abcd", b"token", b"\x02\x82\x01\x01\0", b"p\0a\0s\0s\0", b"a" * 40, b"cabcabcab"]


def everywhere(data: bytes, words: list[bytes]) -> set[tuple[int, int]]:
    """Where each word stands."""
    found = set()
    for n, word in enumerate(words):
        at = data.find(word)
        while at >= 0:
            found.add((at, n))
            at = data.find(word, at + 1)
    return found


def texts(seed: int) -> bytes:
    """Words in every alignment, between bytes that are like them, zeros and pages of zeros."""
    draw = random.Random(seed)
    out = bytearray()
    while len(out) < 20_000:
        kind = draw.randrange(6)
        if kind == 0:
            out += draw.choice(WORDS)
        elif kind == 1:
            out += bytes(draw.randrange(1, 9))
        elif kind == 2 and draw.randrange(20) == 0:
            out += bytes(draw.randrange(4096, 9000))
        else:
            out += bytes(draw.choice(b"abcpst\0\x01\x02\x82eyJok") for _ in range(draw.randrange(1, 12)))
    return bytes(out) + bytes(-len(out) % 8)


@pytest.mark.parametrize("seed", range(4))
def test_anchors_are_found_wherever_they_stand(seed: int) -> None:
    data = texts(seed)
    found = list(Anchors(list(enumerate(WORDS))).find(data, 0, len(data)))
    assert set(found) == everywhere(data, WORDS)
    assert len(found) == len(set(found))


def test_anchors_at_both_ends() -> None:
    """The last pair has none behind it."""
    for word in WORDS:
        data = word.ljust(-(-len(word) // 8) * 8, b"\0")
        assert list(Anchors([(7, word)]).find(data, 0, len(data))) == [(0, 7)]
        data = word.rjust(-(-len(word) // 8) * 8, b"\0")
        assert list(Anchors([(7, word)]).find(data, 0, len(data))) == [(len(data) - len(word), 7)]


def test_more_than_there_is_room_for() -> None:
    data = b"abc_" * 20_000
    found = list(Anchors([(0, b"abc")]).find(data, 0, len(data)))
    assert found == [(at, 0) for at in range(0, len(data), 4)]


def test_many_anchors_share_the_buckets() -> None:
    draw = random.Random(1)
    words = sorted({draw.randbytes(draw.randrange(3, 7)) for _ in range(600)})
    words = [word for word in words if b"\0" not in word]
    data = b"".join(b"\0" * draw.randrange(4) + word for word in draw.choices(words, k=1500))
    data += bytes(-len(data) % 8)
    assert set(Anchors(list(enumerate(words))).find(data, 0, len(data))) == everywhere(data, words)


@pytest.mark.parametrize("seed", range(4))
def test_literals_are_found_wherever_they_stand(seed: int) -> None:
    draw = random.Random(seed)
    words = [word for word in WORDS if len(word) >= LEAST_LITERAL]
    words += [draw.randbytes(draw.randrange(LEAST_LITERAL, 60)).replace(b"\0", b"z") for _ in range(50)]
    data = bytearray(texts(seed))
    for word in words:
        at = draw.randrange(len(data) - 64)
        data[at : at + len(word)] = word
    literals = Literals(enumerate(words))
    # Four bytes that are zero are not looked up.
    taken = [
        word
        for word in words
        if any(all(word[k + n : k + n + 4].strip(b"\0") for n in range(4)) for k in range(0, len(word) - 6, 4))
    ]
    assert literals.left_out == len(words) - len(taken)
    found = {(at, words[number]) for at, number in literals.find(data, 0, len(data))}
    assert found == {(at, word) for word in taken for at in range(len(data)) if data.startswith(word, at)}


def test_literals_that_begin_alike_are_left_out_beyond_some() -> None:
    words = [b"alikealike" + b"%04d" % n for n in range(200)]
    literals = Literals(enumerate(words))
    assert 0 < literals.left_out < 200 and literals.count == 200 - literals.left_out


SMALL = math.prod((3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41))
SHAPES: dict[tuple[bool, bool], Callable[[int, int], bytes]] = {
    (False, False): lambda n, size: n.to_bytes(size, "little"),
    (True, True): lambda n, size: n.to_bytes(size, "big"),
    (True, False): lambda n, size: b"".join(n.to_bytes(size, "big")[k : k + 4][::-1] for k in range(0, size, 4)),
    (False, True): lambda n, size: b"".join(n.to_bytes(size, "big")[k : k + 4] for k in reversed(range(0, size, 4))),
}


def limbs_of(*moduli: int, length: int) -> array[int]:
    """Moduli as `_fast` reads them."""
    packed = array("Q" if _fast.LIMB == 8 else "I", b"".join(n.to_bytes(2 * length, "little") for n in moduli))
    if sys.byteorder == "big":
        packed.byteswap()
    return packed


@pytest.mark.parametrize("length", [16, 24, 64, 128, 512])
def test_factors_are_found_in_every_form(length: int) -> None:
    """Numbers of which the product is known, at each alignment, between what is odd and large as well."""
    draw = random.Random(length)
    bits, found = 8 * length, 0
    numbers = [draw.getrandbits(bits) | 3 << (bits - 2) | 1 for _ in range(96)]
    products = [a * b for a, b in zip(numbers[:64:2], numbers[1:64:2], strict=True)]
    least, out = min(n >> 16 * length - 32 for n in products), array("Q", bytes(8 * 200))
    moduli, filler = limbs_of(*products, length=length), draw.randbytes(40 * length)
    for (first, big), write in SHAPES.items():
        for step in (4, 8):
            data, wanted = bytearray(filler), set()
            for k, n in enumerate(numbers):
                data += draw.randbytes(4096 * draw.randrange(2) + step * draw.randrange(5))
                data += bytes(-len(data) % step)
                words = write(n, length)
                if math.gcd(n, SMALL) == 1 and k < 64:
                    wanted.add(len(data))
                data += words
            data += bytes(-len(data) % 8)
            stop, at, places = len(data), 0, set()
            while at < stop:
                count, at, left = _fast.find_factors(
                    data, at, stop, length, step, moduli, 1 << 60, out, first=first, big=big, least=least
                )
                assert 0 < left <= 1 << 60
                places |= set(out[:count])
            assert places == wanted
            found += len(wanted)
    assert found > 8 * 10


def test_factors_go_on_where_they_stopped() -> None:
    draw = random.Random(2)
    numbers = (draw.getrandbits(128) | 3 << 126 | 1 for _ in range(100))
    p, q = [n for n in numbers if math.gcd(n, SMALL) == 1][:2]
    data, moduli = p.to_bytes(16, "little") * 50, limbs_of(p * q, length=16)
    out, at, places = array("Q", bytes(8 * 3)), 0, list[int]()
    while at < len(data):
        count, at, _ = _fast.find_factors(data, at, len(data), 16, 8, moduli, 1 << 40, out, first=False, big=False)
        assert count <= 3
        places += out[:count]
    assert places == list(range(0, 800, 16))
    # Two limbs of eight bytes: three multiplications for the inverse, and four for each modulus.
    once = 16 // _fast.LIMB * (16 // _fast.LIMB + 1) // 2 + 2 * 16 // _fast.LIMB
    big_room = array("Q", bytes(8 * 100))
    found = _fast.find_factors(data, 0, len(data), 16, 8, moduli, once, big_room, first=False, big=False)
    assert found[0] == 1 and 0 < found[1] < len(data) and found[2] == 0
    # Without moduli, and without bytes, there is nothing to find.
    assert _fast.find_factors(data, 0, len(data), 16, 8, b"", 1 << 40, out, first=False, big=False)[0] == 0
    assert _fast.find_factors(b"", 0, 0, 16, 8, moduli, 9, out, first=False, big=False) == (0, 0, 9)


@pytest.mark.parametrize("stop", range(1, 25))
def test_a_factor_is_found_that_begins_before_the_end_of_the_range(stop: int) -> None:
    draw = random.Random(2)
    numbers = (draw.getrandbits(128) | 3 << 126 | 1 for _ in range(100))
    p, q = [n for n in numbers if math.gcd(n, SMALL) == 1][:2]
    data, out = p.to_bytes(16, "little") * 3, array("Q", bytes(8 * 3))
    count, *_ = _fast.find_factors(
        data, 0, stop, 16, 8, limbs_of(p * q, length=16), 1 << 40, out, first=False, big=False
    )
    assert list(out[:count]) == list(range(0, stop, 16))


def test_strangers_are_neither_small_nor_in_a_range() -> None:
    draw = random.Random(6)
    starts, ends = array("Q", [0x1000, 0x5000, 1 << 47]), array("Q", [0x2000, 0x5008, (1 << 47) + 4096])
    words = [
        draw.choice((draw.randrange(0x6000), draw.getrandbits(64), (1 << 47) + draw.randrange(5000)))
        for _ in range(2000)
    ]
    words += [(1 << 64) - 1, (1 << 64) - 0x800, (1 << 64) - 0x801, 0x800, 0x801, 0x1FFF, 0x2000]
    out = array("Q", bytes(8 * len(words)))
    count = _fast.find_strangers(struct.pack(f"={len(words)}Q", *words), starts, ends, 0x800, out)
    assert list(out[:count]) == [
        n
        for n, word in enumerate(words)
        if 0x800 < word < (1 << 64) - 0x800 and not any(a <= word < b for a, b in zip(starts, ends, strict=True))
    ]


def test_tables_that_do_not_fit_are_refused() -> None:
    sieve, table, buckets = bytes(1 << 17), bytes(1 << 16), array("I", bytes(257 * 4))
    room, nothing = bytearray(16 * 1024), b""
    anchors = (sieve, table, buckets, nothing, nothing)
    assert _fast.find_anchors(b"12345678", 0, 8, *anchors, room) == (0, 8)
    falling, large = array("I", [2, 1] + [0] * 255), array("I", [0] + [257] * 256)
    for start, stop, tables, out in (
        (0, 9, anchors, room),
        (8, 0, anchors, room),
        (0, 8, (sieve[1:], *anchors[1:]), room),
        (0, 8, (sieve, table[1:], *anchors[2:]), room),
        (0, 8, (sieve, table, buckets[1:], nothing, nothing), room),
        (0, 8, (sieve, table, falling, nothing, nothing), room),
        (0, 8, (sieve, table, large, nothing, nothing), room),
        (0, 8, anchors, bytearray(16)),
    ):
        with pytest.raises(ValueError):
            _fast.find_anchors(b"12345678", start, stop, *tables, out)
    heads, bits = array("I", bytes(4 << 8)), bytes(1 << 5)
    assert _fast.find_literals(b"12345678", 0, 8, bits, heads, nothing, nothing, room) == (0, 8)
    for data_end, b, h, out in (
        (9, bits, heads, room),
        (8, bits[1:], heads, room),
        (8, bits, heads[1:], room),
        (8, bits, heads, bytearray(16)),
    ):
        with pytest.raises(ValueError):
            _fast.find_literals(b"12345678", 0, data_end, b, h, nothing, nothing, out)
    for length, step, stop, moduli, out, least in (
        (4, 4, 8, nothing, room, 1 << 31),
        (12, 4, 8, nothing, room, 1 << 31),
        (520, 4, 8, nothing, room, 1 << 31),
        (8, 2, 8, nothing, room, 1 << 31),
        (8, 4, 9, nothing, room, 1 << 31),
        (8, 4, 8, bytes(8), room, 1 << 31),
        (8, 4, 8, nothing, bytearray(7), 1 << 31),
        (8, 4, 8, nothing, room, 1 << 30),
    ):
        with pytest.raises(ValueError):
            _fast.find_factors(b"12345678", 0, stop, length, step, moduli, 9, out, first=True, big=True, least=least)
    for starts, ends, out in ((bytes(16), bytes(8), bytearray(8)), (b"", b"", bytearray(7))):
        with pytest.raises(ValueError):
            _fast.find_strangers(b"12345678", starts, ends, 8, out)


def test_tables_with_numbers_that_lead_nowhere() -> None:
    """Anchors and literals of any numbers: nothing outside is read, and nothing is found."""
    draw = random.Random(9)
    sieve, table = b"\xff" * (1 << 17), bytes([1]) * (1 << 16)
    room, data = bytearray(16 * 1024), draw.randbytes(256)
    for _ in range(50):
        anchors = draw.randbytes(16 * 8)
        buckets = array("I", [0] + [0] + [draw.randrange(200)] * 255)
        count, reached = _fast.find_anchors(data, 0, 256, sieve, table, buckets, anchors, b"words", room)
        assert count == 0 and reached == 256
        heads, literals = array("I", [draw.randrange(12) for _ in range(256)]), bytearray(draw.randbytes(24 * 8))
        for n in range(8):
            literals[24 * n : 24 * n + 4] = data[4 * n : 4 * n + 4]
            literals[24 * n + 4 : 24 * n + 8] = draw.randrange(12).to_bytes(4, "little")
        assert _fast.find_literals(data, 0, 256, b"\xff" * 32, heads, literals, b"words", room)[1] == 256
