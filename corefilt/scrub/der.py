"""As much of DER as keys and certificates need (X.690), and of OpenSSH's format. Whatever it is given, it ends."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.scrub.rule import Data

_SEQUENCE, _INTEGER, _OCTETS = 0x30, 0x02, 0x04
# Private scalars of the curves up to P-521, in bytes.
_SCALARS = (32, 48, 56, 57, 66)
# What an OpenSSH key's parts can be, in bytes.
_MOST_OPENSSH = 1 << 14


def header(data: Data, at: int) -> tuple[int, int] | None:
    """Where the content of the element at an offset begins and how long it is, in bytes; None where there is none."""
    head = bytes(data[at : at + 4])
    if len(head) < 2:
        return None
    if head[1] < 0x80:
        return at + 2, head[1]
    count = head[1] & 0x7F
    if not 1 <= count <= 2 or len(head) < 2 + count:
        return None
    return at + 2 + count, int.from_bytes(head[2 : 2 + count], "big")


def elements(data: Data, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The elements in a range: (tag, where the content begins, where it ends), up to the first that is cut."""
    while at < end:
        head = header(data, at)
        if head is None or head[0] + head[1] > end:
            return
        yield data[at], head[0], head[0] + head[1]
        at = head[0] + head[1]


def scalar(raw: bytes) -> bytes | None:
    """The private scalar of an EC or Edwards key, in SEC1 or PKCS#8; None of any other."""
    top = next(elements(raw, 0, len(raw)), None)
    if top is None or top[0] != _SEQUENCE:
        return None
    parts = list(elements(raw, top[1], top[2]))[:4]
    octets = next(((start, end) for tag, start, end in parts if tag == _OCTETS), None)
    if octets is None:
        return None
    start, end = octets
    if end - start in _SCALARS:
        return raw[start:end]
    inner = next(elements(raw, start, end), None)
    if inner is None:
        return None
    if inner[0] == _OCTETS and inner[2] - inner[1] in _SCALARS:
        return raw[inner[1] : inner[2]]
    return scalar(raw[start:end]) if inner[0] == _SEQUENCE else None


def openssh_end(data: Data, start: int, end: int) -> int:
    """Where an OpenSSH key ends whose first string begins at ``start``: PROTOCOL.key of OpenSSH."""
    at = start
    for _ in range(3):
        at += 4 + int.from_bytes(data[at : at + 4], "big")
        if at > start + _MOST_OPENSSH or at + 4 > len(data):
            return end
    count = int.from_bytes(data[at : at + 4], "big")
    at += 4
    for _ in range(min(count, 4) + 1):
        size = int.from_bytes(data[at : at + 4], "big")
        if at + 4 + size > min(len(data), start + _MOST_OPENSSH):
            return end
        at += 4 + size
    return at


# An INTEGER of a size that RSA's moduli and primes have, from 512 bits on; a zero stands before its highest bit.
_NUMBER = re.compile(rb"(?s)\x02(?:\x41|\x81[\x61\x81\xc1]|\x82(?:\x01[\x01\x41\x81]|\x02\x01|\x04\x01))\x00")
_EXPONENT = re.compile(rb"\x02[\x01-\x05][\x01-\xff]")
# What stands in a certificate behind the modulus, as far as extensions go, in bytes.
MOST_OF_CERTIFICATE = 3072
# basicConstraints (RFC 5280, 4.2.1.9) with cA TRUE, critical or not.
_AUTHORITY = re.compile(rb"\x06\x03\x55\x1d\x13(?:\x01\x01\xff)?\x04[\x05-\x08]\x30[\x03-\x06]\x01\x01\xff")


def is_authority(data: Data, at: int) -> bool:
    """Whether the modulus at an offset stands in the certificate of an authority."""
    return _AUTHORITY.search(data, at, at + MOST_OF_CERTIFICATE) is not None


def number(data: Data, at: int) -> tuple[int, bool] | None:
    """The INTEGER at an offset, if it has the size of RSA's, and whether a short one follows it, as in public keys."""
    found = _NUMBER.match(data, at)
    head = header(data, at)
    if found is None or head is None:
        return None
    start, end = head[0] + 1, head[0] + head[1]
    if end > len(data) or not data[start] & 0x80:
        return None
    return int.from_bytes(data[start:end], "big"), _EXPONENT.match(data, end) is not None
