"""RSA by division: from a modulus and a prime all private numbers follow; of what looks like primes, only so much."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.planted import integer, pem, rsa_key

from corefilt.errors import InputError
from corefilt.scrub import rsa
from corefilt.scrub.found import Matches
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


def test_there_are_only_so_many_divisions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rsa, "MOST_DIVISIONS", 3)
    found = Matches("core")
    factors = Factors(captured(), found)
    for n in range(5):
        factors.divide(KEY.p + 2 * n + 2, None)
    factors.divide(KEY.p, None)
    assert not factors.split
    assert found.notices == ["RSA keys were not looked for to the end: too much looks like primes"]


def test_moduli_of_authorities_are_left_out_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rsa, "OF_AUTHORITIES", 2)
    found, held = Matches("core"), captured(authority=True)
    other = rsa_key(1024 + 64)
    held.moduli[other.n] = None
    factors = Factors(held, found)
    for n in range(4):
        factors.divide(KEY.p + 2 * n + 2, None)
    factors.divide(KEY.p, None)
    factors.divide(other.q, None)
    assert set(factors.split) == {other.n}
    assert found.notices == ["RSA keys of 1 certificate authorities were not looked for to the end"]


def test_moduli_of_certificates(tmp_path: Path) -> None:
    raw = b"\x30\x82\x01\x00" + integer(KEY.n) + integer(KEY.e)
    (tmp_path / "der").write_bytes(raw)
    (tmp_path / "pem").write_bytes(b"first\n" + pem("CERTIFICATE", raw) * 2 + b"-----BEGIN CERTIFICATE-----\nAAAA")
    for name in ("der", "pem"):
        held = Captured()
        add_certificates([str(tmp_path / name)], held)
        assert list(held.moduli) == [KEY.n]
    (tmp_path / "none").write_bytes(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n")
    held = Captured()
    add_certificates([str(tmp_path / "none")], held)
    assert not held.moduli
    with pytest.raises(InputError, match="No such file"):
        add_certificates([str(tmp_path / "missing")], held)
