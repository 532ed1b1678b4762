"""What ``_fast`` finds in bytes by tables, held against searches that are written down in a line."""

from __future__ import annotations

import random
import struct
from array import array

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


def test_primes_are_odd_large_and_have_no_small_divisor() -> None:
    draw = random.Random(5)
    numbers = [draw.getrandbits(128) | 1 << 127 | 1 for _ in range(300)]
    wanted = {n for n in numbers if all(n % small for small in (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47))}
    assert 0 < len(wanted) < 300
    out = array("Q", bytes(8 * 400))
    shapes = {
        (False, False): lambda n: n.to_bytes(16, "little"),
        (True, True): lambda n: n.to_bytes(16, "big"),
        (True, False): lambda n: b"".join(n.to_bytes(16, "big")[k : k + 4][::-1] for k in range(0, 16, 4)),
    }
    for (first, big), write in shapes.items():
        data = b"".join(b"\0" * 16 + write(n) for n in numbers) + bytes(16)
        count, reached = _fast.find_primes(data, 0, len(data), 16, 8, out, first=first, big=big)
        assert reached == len(data)
        places = {16 + 32 * k for k, n in enumerate(numbers) if n in wanted}
        assert {at for at in out[:count] if at % 32 == 16} == places
        some = [n for n in wanted if n >> 96 >= 0xC0000000]
        count, _ = _fast.find_primes(data, 0, len(data), 16, 8, out, first=first, big=big, least=0xC0000000)
        assert 0 < len(some) < len(wanted)
        assert {numbers[(at - 16) // 32] for at in out[:count] if at % 32 == 16} == set(some)
    # Where there is no room it goes on from there.
    small = array("Q", bytes(8))
    count, reached = _fast.find_primes(data, 0, len(data), 16, 8, small, first=True, big=False)
    assert count == 1 and reached < len(data)


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
    for length, step, stop, out in (
        (4, 4, 8, room),
        (10, 4, 8, room),
        (8, 3, 8, room),
        (8, 4, 9, room),
        (8, 4, 8, bytearray(7)),
    ):
        with pytest.raises(ValueError):
            _fast.find_primes(b"12345678", 0, stop, length, step, out, first=True, big=True)
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
