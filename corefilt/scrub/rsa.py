"""RSA's private numbers, by division: a prime in memory divides a modulus that is known, and the rest follows."""

from __future__ import annotations

import math
import sys
from array import array
from typing import NamedTuple

from corefilt import _fast
from corefilt.errors import InputError
from corefilt.scrub.again import Known, SecondPass
from corefilt.scrub.found import BYTES, Matches
from corefilt.scrub.regions import MemoryRun, RunReader
from corefilt.scrub.rules import read_small
from corefilt.scrub.search import Captured, CertificateTexts, take_pem
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from corefilt.corefile.corefile import CoreFile

RULE = "private-key-rsa"
# Multiplications of words that a search may need: so many, and for each byte of memory some more. With all that goes
# before, a thousand million took 2 seconds for one modulus of 2048 bits and 0.5 for a hundred; random bytes need two a
# byte for the first, and 75 for the others.
MOST_LABOUR, LABOUR_OF_A_BYTE = 4_000_000_000, 16
# Of them this part may be for moduli of certificate authorities, which a process has by the hundred from a bundle:
# their keys are elsewhere, but for one that signed its own certificate.
OF_AUTHORITIES = 0.5
# Divisions of what passed the search: a modulus of 2048 bits takes some three microseconds.
MOST_DIVISIONS = 400_000
# Public exponents that are tried where none was found beside the modulus.
_EXPONENTS = (65537, 3, 17, 37, 257)
# Moduli of certificates are no longer.
MOST_BITS = 8192
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
    """Take the moduli of certificates in PEM or DER. Raises InputError, also for a file without any."""
    for path in paths:
        raw, own = read_small(path), Captured()
        own.take_numbers_of(raw)
        at = raw.find(CertificateTexts.HEAD)
        while at >= 0:
            end = raw.find(CertificateTexts.FOOT, at)
            if end < 0:
                break
            take_pem(raw[at + len(CertificateTexts.HEAD) : end], own)
            at = raw.find(CertificateTexts.HEAD, end)
        if not own.moduli:
            raise InputError(f"{path}: has no certificate with an RSA key", "name a certificate in PEM or DER")
        captured.take_all(own)


class Factors:
    """The moduli that are known, and of which of them a factor was found."""

    def __init__(self, captured: Captured, found: Matches) -> None:
        # By the length of their factors in bytes.
        self.open: dict[int, set[int]] = {}
        self.split: dict[int, tuple[int, int | None]] = {}
        self._authorities, self._found = captured.authorities, found
        self._left, self._divisions = MOST_LABOUR, MOST_DIVISIONS
        self._left_of_authorities = int(self._left * OF_AUTHORITIES)
        self._out = array("Q", bytes(8 * _ROOM))
        # The moduli as ``_fast`` reads them.
        self._packed: dict[int, array[int]] = {}
        for modulus in captured.moduli:
            if modulus.bit_length() % 128 == 0 and modulus.bit_length() <= MOST_BITS:
                self.open.setdefault(modulus.bit_length() // 16, set()).add(modulus)
        self._try(captured.primes)

    def divide(self, prime: int, address: int | None) -> None:
        """Try a number that may be a prime."""
        moduli = self.open.get(-(-prime.bit_length() // 8), set())
        if self._divisions < len(moduli):
            self._end()
            return
        self._divisions -= len(moduli)
        for modulus in moduli:
            if not modulus % prime and 1 < prime < modulus:
                self.split[modulus] = prime, address
                moduli.discard(modulus)
                self._packed.clear()
                return

    def search(self, core: CoreFile, reader: RunReader, runs: Sequence[MemoryRun]) -> None:
        """Look through runs for primes. Raises InputError."""
        more = LABOUR_OF_A_BYTE * sum(run.length for run in runs)
        self._left += more
        self._left_of_authorities += int(more * OF_AUTHORITIES)
        shapes = _shapes(core)
        for run in runs if any(self.open.values()) else ():
            for start, stop, limit, shift in reader.chunks(run):
                data = memoryview(reader.buffer)[: max(limit, stop)]
                for length in list(self.open):
                    for shape in shapes:
                        for at in self._windows(data, start, stop, length, shape):
                            self.divide(_number(reader.buffer[at : at + length], shape), run.address(at + shift))

    def _try(self, primes: Mapping[int, int | None]) -> None:
        """Try numbers that stand apart in the core, each with its address."""
        for length in list(self.open):
            some = [prime for prime in primes if -(-prime.bit_length() // 8) == length]
            raw = b"".join(prime.to_bytes(length, "little") for prime in some)
            for at in self._windows(raw, 0, len(raw), length, _Shape(8, False, False)):
                if at % length == 0:
                    self.divide(some[at // length], primes[some[at // length]])

    def _windows(self, data: bytes | memoryview, start: int, stop: int, length: int, shape: _Shape) -> Iterator[int]:
        """Where a factor of a modulus can stand."""
        while start < stop and (moduli := self.open.get(length)):
            if length not in self._packed:
                self._packed[length] = _packed(moduli, length)
            # The other factor is no longer than this one.
            least = min(modulus >> 16 * length - 32 for modulus in moduli)
            most = min(self._left, self._left_of_authorities) if self._authorities else self._left
            count, start, left = _fast.find_factors(
                data, start, stop, length, shape.step, self._packed[length], most, self._out,
                first=shape.first, big=shape.big, least=least,
            )  # fmt: skip
            self._left -= most - left
            self._left_of_authorities -= most - left
            yield from self._out[:count]
            if not left:
                self._leave_out()

    def _leave_out(self) -> None:
        """Search no longer for what there is too much labour for."""
        if not self._authorities or self._left <= 0:
            self._end()
            return
        for moduli in self.open.values():
            moduli -= self._authorities
        self._packed.clear()
        authorities = counted(len(self._authorities), "certificate authority", "certificate authorities")
        self._found.notices.append(f"RSA keys of {authorities} were not searched for completely")
        self._authorities = set()

    def _end(self) -> None:
        if self.open:
            self._found.notices.append("RSA keys were not searched for completely: too many numbers look like primes")
        self.open.clear()


def _packed(moduli: Iterable[int], length: int) -> array[int]:
    """Moduli in limbs of this machine, least significant first."""
    packed = array("Q" if _fast.LIMB == 8 else "I")
    packed.frombytes(b"".join(modulus.to_bytes(2 * length, "little") for modulus in moduli))
    if sys.byteorder == "big":
        packed.byteswap()
    return packed


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
