"""DER and OpenSSH's format: keys as programs write them, and what is cut, longer than it says, or something else."""

from __future__ import annotations

import struct

import pytest
from support.planted import der as element
from support.planted import integer, rsa_key

from corefilt.scrub import der

SCALAR = bytes(range(100, 132))
SEC1 = element(0x30, integer(1) + element(0x04, SCALAR))
EDWARDS = element(0x30, integer(0) + element(0x30, b"\x06\x03\x2b\x65\x70") + element(0x04, element(0x04, SCALAR)))
PKCS8_EC = element(0x30, integer(0) + element(0x30, b"\x06\x01\x2a") + element(0x04, SEC1))


@pytest.mark.parametrize("raw", [SEC1, EDWARDS, PKCS8_EC], ids=["SEC1", "Edwards", "PKCS#8"])
def test_the_scalar_of_a_key(raw: bytes) -> None:
    assert der.scalar(raw) == SCALAR
    assert all(der.scalar(raw[:length]) is None for length in range(len(raw)))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x30",
        element(0x31, SCALAR),
        element(0x30, integer(7)),
        element(0x30, element(0x04, b"")),
        element(0x30, element(0x04, element(0x02, b"\1"))),
        b"\x30\x83\0\0\1\0",
        b"\x30\x82\x01",
        rsa_key(1024).pkcs1(),
    ],
)
def test_what_has_no_scalar(raw: bytes) -> None:
    assert der.scalar(raw) is None


def openssh(*fields: bytes, count: int = 1) -> bytes:
    """A key without its first line: cipher, KDF and its options, a number, and strings."""
    texts = [struct.pack(">I", len(field)) + field for field in fields]
    return b"".join(texts[:3]) + struct.pack(">I", count) + b"".join(texts[3:])


def test_where_an_openssh_key_ends() -> None:
    key = openssh(b"none", b"none", b"", b"public" * 9, b"private" * 30)
    assert der.openssh_end(key + b"behind", 0, 50) == len(key)
    two = openssh(b"none", b"none", b"", b"public" * 9, b"another" * 9, b"private" * 30, count=2)
    assert der.openssh_end(two + b"behind", 0, 50) == len(two)
    for cut in (key[:3], key[:40], key[:-1], openssh(b"none", b"none", b"x" * (1 << 14)), b"\xff" * 80):
        assert der.openssh_end(cut, 0, 5) == 5


def test_numbers_of_the_sizes_of_rsa() -> None:
    key = rsa_key(1024)
    modulus = integer(key.n)
    assert der.number(modulus + integer(key.e), 0) == (key.n, True)
    assert der.number(modulus + b"\0\0\0", 0) == (key.n, False)
    assert der.number(modulus[:-1], 0) is None
    assert der.number(b"\x02\x81\x81\0\x7f".ljust(200, b"a"), 0) is None, "the highest bit is not set"
    assert der.number(integer(key.n >> 8), 0) is None, "no such size"


def test_the_certificate_of_an_authority() -> None:
    for said in (b"\x01\x01\xff\x04\x05\x30\x03\x01\x01\xff", b"\x04\x05\x30\x03\x01\x01\xff"):
        raw = integer(rsa_key(1024).n) + bytes(100) + b"\x06\x03\x55\x1d\x13" + said
        assert der.is_authority(raw, 0)
        assert not der.is_authority(raw[:-1] + b"\0", 0)
        assert not der.is_authority(bytes(der.MOST_OF_CERTIFICATE) + raw, 0)
