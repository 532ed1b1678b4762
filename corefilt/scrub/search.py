"""The first pass: anchors, and what stands around them; and the values that the second pass looks for."""

from __future__ import annotations

from array import array

from corefilt.scrub import der
from corefilt.scrub.forms import utf16
from corefilt.scrub.found import BYTES, TEXT, Match, Matches
from corefilt.scrub.regions import MemoryRun, RunReader
from corefilt.scrub.rule import MOST_BEFORE, MOST_VALUE, ScrubRule, is_searchable
from corefilt.scrub.tables import Anchors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Values that are looked for again: no process was seen with a hundredth of so many.
MOST_VALUES = 20_000
# Numbers of the size of RSA's moduli and primes that are kept.
MOST_NUMBERS = 20_000
# How DER begins that has an INTEGER of such a size: primes of RSA-1536, -2048 and -3072, and moduli and primes of 2048
# to 8192 bits.
_NUMBERS = tuple(
    b"\x02" + head + b"\0"
    for head in (
        b"\x81\x61", b"\x81\x81", b"\x81\xc1", b"\x82\x01\x01", b"\x82\x01\x41", b"\x82\x01\x81", b"\x82\x02\x01",
        b"\x82\x04\x01",
    )
)  # fmt: skip


class Captured:
    """Values that were found, and numbers that may be RSA's, each with the address where it was found first."""

    def __init__(self) -> None:
        # By value: the rule, the address, and what comes to stand in copies.
        self.values: dict[bytes, tuple[str, int | None, str]] = {}
        self.moduli: dict[int, int | None] = {}
        # Of them those that certificates of authorities have.
        self.authorities: set[int] = set()
        self.primes: dict[int, int | None] = {}
        self.left_out = 0

    def take_value(self, value: bytes, rule: ScrubRule, address: int | None) -> None:
        """Take a value that is worth looking for."""
        if value in self.values or not is_searchable(value[:MOST_VALUE]):
            return
        if len(self.values) >= MOST_VALUES:
            self.left_out += 1
            return
        self.values[value[:MOST_VALUE]] = rule.name, address, TEXT if rule.text else BYTES

    def take_numbers(self, raw: bytes | bytearray, at: int, address: int | None) -> None:
        """Take the INTEGER at an offset, if it may be one of RSA's."""
        found = der.number(raw, at)
        if found is None:
            return
        value, is_public = found
        if is_public and der.is_authority(raw, at):
            self.authorities.add(value)
        into = self.moduli if is_public else self.primes
        if len(into) < MOST_NUMBERS:
            into.setdefault(value, address)

    def take_numbers_of(self, raw: bytes) -> None:
        """Take all of a text in DER that is not part of the core: a certificate, or a key that was encoded."""
        for head in _NUMBERS:
            at = raw.find(head)
            while at >= 0:
                self.take_numbers(raw, at, None)
                at = raw.find(head, at + 1)

    def take_all(self, other: Captured) -> None:
        """Take the numbers of another."""
        for into, taken in ((self.moduli, other.moduli), (self.primes, other.primes)):
            for value, address in taken.items():
                if len(into) < MOST_NUMBERS:
                    into.setdefault(value, address)
        self.authorities |= other.authorities


class FirstPass:
    """Looks through runs by the rules."""

    def __init__(self, rules: Iterable[ScrubRule], found: Matches, captured: Captured) -> None:
        self._rules = list(rules)
        self._found, self._captured = found, captured
        # Rules with the same anchor are looked up once.
        self._by_number: list[tuple[list[int], bool]] = []
        self._numbers: dict[tuple[bytes, bool], int] = {}
        for r, rule in enumerate(self._rules):
            for anchor in dict.fromkeys(rule.anchors):
                for wide in (False, True) if rule.text else (False,):
                    word = utf16(anchor) if wide else anchor
                    self._by_number[self._number(word, wide)][0].append(r)
        self._certificate = self._number(CertificateTexts.ANCHOR, wide=False)
        words = [(number, word) for (word, _), number in self._numbers.items()]
        self._first_number = len(self._by_number)
        words += [(self._first_number + n, word) for n, word in enumerate(_NUMBERS)]
        self._anchors = Anchors(words)
        self._certificates = CertificateTexts(captured)

    def _number(self, word: bytes, wide: bool) -> int:
        if (word, wide) not in self._numbers:
            self._numbers[word, wide] = len(self._by_number)
            self._by_number.append(([], wide))
        return self._numbers[word, wide]

    def run(
        self, reader: RunReader, runs: Iterable[MemoryRun], on_progress: Callable[[int], None] | None = None
    ) -> None:
        """Look through all runs. Raises InputError and ScrubError."""
        for run in runs:
            # Up to where each rule has found something in this run.
            done = array("Q", bytes(8 * len(self._rules)))
            for start, stop, limit, shift in reader.chunks(run):
                for at, number in self._anchors.find(reader.buffer, start, stop):
                    if number >= self._first_number:
                        ends = min(at + der.MOST_OF_CERTIFICATE, limit)
                        self._captured.take_numbers(reader.buffer[at:ends], 0, run.address(at + shift))
                        continue
                    rules, wide = self._by_number[number]
                    for r in rules:
                        if at + shift < done[r]:
                            continue
                        if wide:
                            span, value = _match_wide(self._rules[r], reader.buffer, at, limit)
                        else:
                            span, value = self._rules[r].match(reader.buffer, at, limit), None
                        if span is not None:
                            self._take(reader.buffer, span, value, run, shift, self._rules[r])
                            done[r] = span[1] + shift
                    if number == self._certificate:
                        self._certificates.look(reader.buffer, at, limit)
                if on_progress is not None:
                    on_progress(stop - start)

    def _take(
        self, data: bytearray, span: tuple[int, int], value: bytes | None, run: MemoryRun, shift: int, rule: ScrubRule
    ) -> None:
        """Take a match of a rule, whose ``value`` is what is there, but of UTF-16."""
        start, end = span
        if value is None:
            value = bytes(data[start:end])
        # What stands before a run are zeros of the buffer.
        start = max(start, -shift)
        address: int | None = None
        for n, (offset, where, length) in enumerate(run.parts(start + shift, end + shift)):
            address = where if n == 0 else address
            self._found.add(Match(offset, where, length, rule.name, TEXT if rule.text else BYTES))
        for each in rule.values(value) if rule.values is not None else (value,) if rule.text else ():
            self._captured.take_value(each, rule, address)
            if each[:1] == b"\x30":
                self._captured.take_numbers_of(each)


def _match_wide(rule: ScrubRule, data: bytearray, at: int, limit: int) -> tuple[tuple[int, int] | None, bytes | None]:
    """What a rule matches of UTF-16LE at an anchor, and its text."""
    narrow, before = _narrowed(data, at, min(limit, at + 2 * rule.reach))
    span = rule.match(narrow, before, len(narrow))
    if span is None:
        return None, None
    return (at + 2 * (span[0] - before), at + 2 * (span[1] - before)), narrow[span[0] : span[1]]


def _narrowed(data: bytearray, at: int, end: int) -> tuple[bytes, int]:
    """The text in UTF-16LE around an offset as bytes, as far as it is Latin-1, and where in it the offset is."""
    low = max(at % 2, at - 2 * MOST_BEFORE)
    before, high = data[low:at:2], data[low + 1 : at : 2]
    length = len(high) - len(high.rstrip(b"\0"))
    behind = len(data[at + 1 : end : 2]) - len(data[at + 1 : end : 2].lstrip(b"\0"))
    return bytes(before[len(before) - length :] + data[at : at + 2 * behind : 2]), length


class CertificateTexts:
    """Takes moduli from certificates in PEM."""

    ANCHOR = b"-----BEGIN "
    HEAD, FOOT = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"

    def __init__(self, captured: Captured) -> None:
        self._captured = captured
        self._seen: set[int] = set()

    def look(self, data: bytes | bytearray, at: int, limit: int) -> None:
        """Take the modulus of a certificate whose text begins at an offset."""
        if data[at : at + len(self.HEAD)] != self.HEAD:
            return
        end = data.find(self.FOOT, at, min(limit, at + 16384))
        if end < 0:
            return
        text = bytes(data[at + len(self.HEAD) : end])
        if hash(text) not in self._seen and len(self._seen) < MOST_NUMBERS:
            self._seen.add(hash(text))
            take_pem(text, self._captured)


def take_pem(text: bytes, captured: Captured) -> None:
    """Take the numbers of what base64 stands for."""
    from corefilt.scrub.keys import decoded

    raw = decoded(text)
    if raw is not None:
        captured.take_numbers_of(raw)
