"""What a rule is: words that are looked for, and what has to stand around them."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass

from corefilt.scrub.words import is_expression, is_name, is_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Data = bytes | bytearray

# What the rules find: a note and every report name it. It grows with each change to a rule.
RULES_VERSION = 3
# How far before a word, and behind it, a rule looks at most, in bytes.
MOST_BEFORE, MOST_BEHIND = 128, 32 << 10
# What is looked up is three bytes, of which a pair is at an even address.
LEAST_ANCHOR = 3
# Shorter values stand in too many places by chance, and the table of literals looks up four bytes of seven.
LEAST_VALUE, MOST_VALUE = 8, 4096

# What stands where a value should, but for names: formats, variables, numbers, versions, colours, dates, options,
# placeholders, URLs, addresses, assignments, escapes, patterns, and what Perl, sed and markup quote.
_NO_VALUE = re.compile(
    rb"%[({A-Za-z%].*|.*%[sr](?![0-9A-Za-z]).*|\$[({].*|\$[A-Za-z_]\w*(?:[\[{(]|-).*|[0-9.:,-]+"
    rb"|[A-Za-z]*[0-9]+(?:\.[0-9]+)+|0x[0-9a-fA-F]+|#[0-9a-fA-F]{3,8}|[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]?[0-9:.Z+-]*"
    rb"|--?[a-z][a-z_-]*|<.*|\[.*|.*\{[\w.]*\}.*"
    rb"|[xX]+|\.+|\*+(?:[A-Za-z_]+\**)?|[a-z]+://[^@]*|urn:.*|[\w.-]+@[a-z-]+\.[a-z.]+"
    rb"|[a-z_]+=|[A-Za-z_]+=[A-Za-z_%][A-Za-z_.:%]*|[`:]+[A-Za-z_].*|\\[a-z0-9].*|[(.]\[?[*+\[].*"
    rb"|q[qrwx]?/.*|s[/#|].*|[A-Za-z]+(?:%20[A-Za-z]+)+|(.)\1*",
    re.DOTALL,
)


def is_value(value: bytes) -> bool:
    """Whether a text that stands behind a keyword can be a secret, and no word of a program or a document."""
    return not (
        _NO_VALUE.fullmatch(value)
        or is_path(value)
        or is_name(value[value[:1] == b"$" :])
        or is_expression(value)
        or entropy(value) < 2.25
    )


def is_no_path(value: bytes) -> bool:
    """Whether a text that can hardly be anything but a secret is neither a path nor a placeholder all the same."""
    if re.fullmatch(rb"%.*|\$[({].*|\$[A-Za-z_]\w*[\[{(].*|<.*|\{[\w.]*\}|\*+|(.)\1*", value, re.DOTALL) is not None:
        return False
    return not is_path(value) and not (value[:1] == b"$" and is_name(value[1:]))


def is_password(value: bytes) -> bool:
    """Whether it is more than the word for a password, as manuals have it."""
    return is_no_path(value) and value.lower() not in (b"pass", b"passwd", b"password", b"pwd", b"secret")


def is_searchable(value: bytes) -> bool:
    """Whether a value that was found is looked for elsewhere: not what programs and documents have many of."""
    if len(value) < LEAST_VALUE or entropy(value) < 2.25 or not is_no_path(value):
        return False
    return is_value(value) or (len(value) >= 12 and value.isalpha())


def entropy(value: bytes) -> float:
    """Bits a byte, by how often each byte stands in the value."""
    counts, length = Counter(value).values(), len(value)
    return -sum(count / length * math.log2(count / length) for count in counts)


@dataclass(frozen=True, slots=True)
class ScrubRule:
    """One rule. ``pattern`` is matched ``back`` bytes before each of ``anchors``; its group ``v`` is what is erased.

    Without a group all of the match is. ``reach`` bytes from the anchor on are looked at. ``text`` is looked for in
    UTF-16LE too, and NULs in it stay. ``before`` says whether what stands before the anchor is as it should be,
    ``accept`` whether the value can be one, ``end`` where a match in binary data ends. ``values`` are what is looked
    for again elsewhere. ``example`` is shown by --list-rules.
    """

    name: str
    example: str
    anchors: tuple[bytes, ...]
    pattern: re.Pattern[bytes]
    back: int = 0
    reach: int = 1024
    text: bool = True
    before: Callable[[Data, int], bool] | None = None
    accept: Callable[[bytes], bool] | None = None
    end: Callable[[Data, int, int], int] | None = None
    values: Callable[[bytes], Iterator[bytes]] | None = None

    def match(self, data: Data, at: int, limit: int) -> tuple[int, int] | None:
        """What is erased of ``data``, which ends at ``limit``, by the anchor ``at``: (start, end), or None."""
        if at < self.back or (self.before is not None and not self.before(data, at)):
            return None
        found = self.pattern.match(data, at - self.back, min(at + self.reach, limit))
        if found is None:
            return None
        start, end = found.span("v") if "v" in self.pattern.groupindex else found.span()
        if self.end is not None:
            end = min(self.end(data, start, end), limit)
        value = bytes(data[start:end])
        # A core that was scrubbed before has nothing but fill there.
        if not value.strip(b"X") or (self.accept is not None and not self.accept(value)):
            return None
        return start, end
