"""RSA's private numbers, by division: a prime in memory divides a modulus that is known, and the rest follows."""

from __future__ import annotations

import math
from array import array
from typing import NamedTuple

from corefilt import _fast
from corefilt.scrub.again import Known, SecondPass
from corefilt.scrub.found import BYTES, Matches
from corefilt.scrub.regions import MemoryRun, RunReader
from corefilt.scrub.rules import read_small
from corefilt.scrub.search import CertificateTexts, take_pem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from corefilt.corefile.corefile import CoreFile
    from corefilt.scrub.search import Captured

RULE = "private-key-rsa"
# A division of a modulus of 2048 bits takes some three microseconds.
MOST_DIVISIONS = 4_000_000
# Of them so many may be of moduli of certificate authorities, which a process has by the hundred from a bundle: their
# keys are elsewhere, but for one that signed its own certificate. openssl s_server with 108 of them needed 480,000
# divisions in all.
OF_AUTHORITIES = 2_000_000
# Public exponents that are tried where none was found beside the modulus.
_EXPONENTS = (65537, 3, 17, 37, 257)
_ROOM = 1 << 14


class _Shape(NamedTuple):
    """How a number stands in memory: aligned to ``step`` bytes, words of one order, most significant ``first``."""

    step: int
    first: bool
    big: bool


def _shapes(core: CoreFile) -> list[_Shape]:
    """Limbs of the machine, bytes as the network has them, and int[] of Java."""
    big = core.ehdr.big
    limb = 8 if core.ehdr.wide else 4
    # Words of four bytes: limbs of eight, least first, of a big-endian machine are looked for by their copies alone.
    found = [_Shape(limb, False, big), _Shape(limb, True, True)]
    return found if big else [*found, _Shape(limb, True, False)]


def add_certificates(paths: Iterable[str], captured: Captured) -> None:
    """Take the moduli of certificates in PEM or DER. Raises InputError."""
    for path in paths:
        raw = read_small(path)
        captured.take_numbers_of(raw)
        at = raw.find(CertificateTexts.HEAD)
        while at >= 0:
            end = raw.find(CertificateTexts.FOOT, at)
            if end < 0:
                break
            take_pem(raw[at + len(CertificateTexts.HEAD) : end], captured)
            at = raw.find(CertificateTexts.HEAD, end)


class Factors:
    """The moduli that are known, and of which of them a factor was found."""

    def __init__(self, captured: Captured, found: Matches) -> None:
        self.open: dict[int, set[int]] = {}
        self._authorities = captured.authorities
        self._left_of_authorities = OF_AUTHORITIES
        for modulus in captured.moduli:
            if modulus.bit_length() % 64 == 0:
                self.open.setdefault(modulus.bit_length() // 16, set()).add(modulus)
        self.split: dict[int, tuple[int, int | None]] = {}
        self._left, self._found = MOST_DIVISIONS, found
        for prime, address in captured.primes.items():
            self.divide(prime, address)

    def divide(self, prime: int, address: int | None) -> int | None:
        """Try a number that may be a prime; returns the modulus that it divides."""
        moduli = self.open.get(-(-prime.bit_length() // 8), ())
        if self._left < len(moduli):
            self._found.notices.append("RSA keys were not looked for to the end: too much looks like primes")
            self._left = 0
            self.open.clear()
            return None
        self._left -= len(moduli)
        self._left_of_authorities -= len(moduli) if self._authorities else 0
        if self._left_of_authorities < 0 and self._authorities:
            self._leave_out_authorities()
        for modulus in moduli:
            if not modulus % prime and 1 < prime < modulus:
                self.split[modulus] = prime, address
                self.open[-(-prime.bit_length() // 8)].discard(modulus)
                return modulus
        return None

    def _leave_out_authorities(self) -> None:
        for moduli in self.open.values():
            moduli -= self._authorities
        self._found.notices.append(
            f"RSA keys of {len(self._authorities)} certificate authorities were not looked for to the end"
        )
        self._authorities = set()

    def search(self, core: CoreFile, reader: RunReader, runs: Iterable[MemoryRun]) -> None:
        """Look through runs for primes. Raises InputError."""
        out = array("Q", bytes(8 * _ROOM))
        if not any(self.open.values()):
            return
        for run in runs:
            for start, stop, limit, shift in reader.chunks(run):
                data = memoryview(reader.buffer)[: max(limit, stop)]
                for length, least in self._wanted():
                    for shape in _shapes(core):
                        for at in _windows(data, start, stop, length, least, shape, out):
                            prime = _number(reader.buffer[at : at + length], shape)
                            modulus = self.divide(prime, None)
                            if modulus is not None:
                                self.split[modulus] = prime, run.address(at + shift)

    def _wanted(self) -> list[tuple[int, int]]:
        """How long primes are, in bytes, and what their first 32 bits are at least: the other one is no longer."""
        return [
            (length, min(modulus >> 16 * length - 32 for modulus in moduli))
            for length, moduli in self.open.items()
            if moduli
        ]


def _windows(
    data: memoryview, start: int, stop: int, length: int, least: int, shape: _Shape, out: array[int]
) -> Iterator[int]:
    while start < stop:
        count, start = _fast.find_primes(
            data, start, stop, length, shape.step, out, first=shape.first, big=shape.big, least=least
        )
        yield from out[:count]


def _number(raw: bytearray, shape: _Shape) -> int:
    if shape.first == shape.big:
        return int.from_bytes(raw, "big" if shape.big else "little")
    words = array("I", bytes(raw))
    words.byteswap()
    return int.from_bytes(words.tobytes(), "big" if shape.first else "little")


def add_keys(factors: Factors, second: SecondPass, *, big: bool) -> None:
    """Have the second pass look for all private numbers of the moduli that were split."""
    for modulus, (prime, address) in factors.split.items():
        for value in private_numbers(modulus, prime):
            second.add_number(value, Known(RULE, address, BYTES), big=big)


def private_numbers(modulus: int, prime: int) -> Iterator[int]:
    """p, q, and d, dp, dq and qinv, by either rule for d and either order of the primes (RFC 8017, appendix A.1.2)."""
    other = modulus // prime
    yield from {prime, other}
    if prime == other or math.gcd(prime, other) != 1:
        return
    yield pow(prime, -1, other)
    yield pow(other, -1, prime)
    phi = (prime - 1) * (other - 1)
    for exponent in _EXPONENTS:
        if math.gcd(exponent, phi) == 1:
            d = pow(exponent, -1, phi)
            yield from {d, pow(exponent, -1, phi // math.gcd(prime - 1, other - 1))}
            yield d % (prime - 1)
            yield d % (other - 1)
