"""RSA by division: from a modulus and a prime all private numbers follow; of what looks like primes, only so much."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from support.builder import Load, kernel_notes, make_core
from support.planted import integer, pem, rsa_key

from corefilt.corefile.corefile import open_core
from corefilt.errors import InputError
from corefilt.scrub import rsa
from corefilt.scrub.found import Matches
from corefilt.scrub.regions import RunReader, runs
from corefilt.scrub.rsa import Factors, add_certificates, private_numbers
from corefilt.scrub.search import Captured

KEY = rsa_key(1024)


def test_all_private_numbers_follow_from_one_prime() -> None:
    for prime in (KEY.p, KEY.q):
        assert set(KEY.private.values()) <= set(private_numbers(KEY.n, prime))
    assert list(private_numbers(KEY.p * KEY.p, KEY.p)) == [KEY.p]


def captured(*, prime: int | None = None, authority: bool = False) -> Captured:
    """A modulus that is known, and a number that may be a factor of it."""
    held = Captured()
    held.moduli[KEY.n] = None
    if authority:
        held.authorities.add(KEY.n)
    if prime is not None:
        held.primes[prime] = 0x1000
    return held


def test_a_prime_that_is_known_divides_at_once() -> None:
    assert Factors(captured(prime=KEY.q), Matches("core")).split == {KEY.n: (KEY.q, 0x1000)}
    factors = Factors(captured(prime=KEY.q + 2), Matches("core"))
    assert not factors.split and factors.open == {64: {KEY.n}}
    factors.divide(KEY.p, 0x2000)
    assert factors.split == {KEY.n: (KEY.p, 0x2000)} and factors.open == {64: set()}


def heaps(*numbers: int, length: int = 64) -> Core:
    """A core with one mapping that has numbers in limbs, and what looks like primes around them."""
    draw = random.Random(7)
    parts = [b"".join(draw.randbytes(length - 1) + b"\xff" for _ in range(64)) for _ in range(len(numbers) + 1)]
    raw = parts[0] + b"".join(
        number.to_bytes(length, "little") + part for number, part in zip(numbers, parts[1:], strict=True)
    )
    return Core(raw.ljust(-(-len(raw) // 4096) * 4096, b"\0"))


class Core:
    """Finds factors in a core of one mapping."""

    def __init__(self, raw: bytes) -> None:
        self._raw = make_core([Load(0x10000, raw)], kernel_notes())

    def search(self, folder: Path, factors: Factors) -> None:
        (folder / "core").write_bytes(self._raw)
        with open_core(folder / "core") as core:
            factors.search(core, RunReader(core), runs(core, files=False))


def test_a_prime_in_memory_is_found_with_its_address(tmp_path: Path) -> None:
    for prime in (KEY.p, KEY.q):
        factors = Factors(captured(), Matches("core"))
        heaps(prime).search(tmp_path, factors)
        assert factors.split == {KEY.n: (prime, 0x10000 + 64 * 64)}
    factors = Factors(captured(), Matches("core"))
    heaps(KEY.p + 2, KEY.q - 2).search(tmp_path, factors)
    assert not factors.split


def test_a_prime_of_two_moduli_splits_both(tmp_path: Path) -> None:
    held, other = captured(), rsa_key(1024 + 128)
    held.moduli[other.n] = None
    factors = Factors(held, Matches("core"))
    heaps(KEY.p).search(tmp_path, factors)
    heaps(other.q, length=72).search(tmp_path, factors)
    assert {modulus: prime for modulus, (prime, _) in factors.split.items()} == {KEY.n: KEY.p, other.n: other.q}


def test_there_is_only_so_much_labour(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(rsa, "MOST_LABOUR", 150)
    monkeypatch.setattr(rsa, "LABOUR_OF_A_BYTE", 0)
    found = Matches("core")
    factors = Factors(captured(), found)
    heaps(KEY.p).search(tmp_path, factors)
    assert not factors.split
    assert found.notices == ["RSA keys were not searched for completely: too many numbers look like primes"]


def test_there_are_only_so_many_divisions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rsa, "MOST_DIVISIONS", 3)
    found = Matches("core")
    factors = Factors(captured(), found)
    for n in range(5):
        factors.divide(KEY.p + 2 * n + 2, None)
    factors.divide(KEY.p, None)
    assert not factors.split
    assert found.notices == ["RSA keys were not searched for completely: too many numbers look like primes"]


def test_moduli_of_authorities_are_left_out_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(rsa, "OF_AUTHORITIES", 0)
    found, held = Matches("core"), captured(authority=True)
    other = rsa_key(1024 + 128)
    held.moduli[other.n] = None
    factors = Factors(held, found)
    heaps(KEY.p).search(tmp_path, factors)
    heaps(other.q, length=72).search(tmp_path, factors)
    assert set(factors.split) == {other.n}
    assert found.notices == ["RSA keys of 1 certificate authority were not searched for completely"]


def test_moduli_of_certificates(tmp_path: Path) -> None:
    raw = b"\x30\x82\x01\x00" + integer(KEY.n) + integer(KEY.e)
    (tmp_path / "der").write_bytes(raw)
    (tmp_path / "pem").write_bytes(b"first\n" + pem("CERTIFICATE", raw) * 2 + b"-----BEGIN CERTIFICATE-----\nAAAA")
    for name in ("der", "pem"):
        held = Captured()
        add_certificates([str(tmp_path / name)], held)
        assert list(held.moduli) == [KEY.n]
    (tmp_path / "none").write_bytes(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n")
    with pytest.raises(InputError, match="none: has no certificate with an RSA key"):
        add_certificates([str(tmp_path / "none")], Captured())
    with pytest.raises(InputError, match="No such file"):
        add_certificates([str(tmp_path / "missing")], held)
