"""The forms in which a value can stand in memory: as it is, UTF-16, hexadecimal, URL, base64; numbers as limbs."""

from __future__ import annotations

import base64
import urllib.parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def forms(value: bytes) -> Iterator[bytes]:
    """Every form once, as it is first; of base64 the part that does not hang on what stands beside it."""
    seen: set[bytes] = set()
    for form in _forms(value):
        if form not in seen:
            seen.add(form)
            yield form


def _forms(value: bytes) -> Iterator[bytes]:
    yield value
    yield utf16(value)
    yield value.hex().encode()
    yield value.hex().upper().encode()
    yield urllib.parse.quote_from_bytes(value, safe="").encode()
    yield urllib.parse.quote_plus(value).encode()
    for skip in range(3):
        whole = base64.b64encode(bytes(skip) + value).rstrip(b"=")
        first, odd = (0, 2, 3)[skip], (skip + len(value)) % 3
        part = whole[first : len(whole) - bool(odd)]
        yield part
        yield part.translate(_URL_SAFE)


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def utf16(value: bytes) -> bytes:
    """The bytes as UTF-16LE would have them, were they Latin-1."""
    out = bytearray(2 * len(value))
    out[::2] = value
    return bytes(out)


def limbs(number: int, *, big: bool) -> Iterator[bytes]:
    """A number as bytes, most significant first (DER, network); least first; and as words of the machine.

    BigInteger of Java has int[], most significant word first; on a big-endian machine multi-precision libraries have
    words of eight or four bytes, least significant first. Leading zeros are left out.
    """
    size = -(-number.bit_length() // 32) * 4
    first = number.to_bytes(size, "big")
    yield first.lstrip(b"\0")
    if not big:
        yield number.to_bytes(size, "little").rstrip(b"\0")
        yield b"".join(first[at : at + 4][::-1] for at in range(0, size, 4))
        return
    for unit in (8, 4):
        padded = number.to_bytes(-(-size // unit) * unit, "big")
        yield b"".join(padded[at : at + unit] for at in reversed(range(0, len(padded), unit)))
