"""Tells names and words from what is random: a value that stands behind a keyword is either."""

from __future__ import annotations

import re
from itertools import pairwise

# The 280 pairs of letters that are met most often in 15,000 names of Python's library and of C's headers, and those of
# keywords. Each text is a letter and those that follow it.
_USUAL = frozenset(
    (each[0], letter)
    for each in (
        b"abcdgilmnprstuvxy", b"baeiloprstuy", b"cacdehiklmoprstu", b"dabcdeilmoprstu", b"eacdefgilmnopqrstvwxy",
        b"fadefilorstu", b"gaceinprs", b"haeiort", b"iabcdefglmnoprstvxz", b"js", b"keisv", b"ladefilostuy",
        b"mabcdeilmopstu", b"nacdefgiklnostuv", b"oabcdfgiklmnoprstuvwx", b"pacefhilmnoprstu", b"qlu",
        b"racdefgilmnoprstuvy", b"saceghiklmnopqrstuwy", b"tacdefhilmoprstuxy", b"uabdefilmnprstx", b"vaeilms",
        b"wadeiorw", b"xempty", b"ynpst", b"zae",
    )
    for letter in each[1:]
)  # fmt: skip
_WORDS = re.compile(rb"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[A-Z]+")
# Names with digits between words (OAuth2Token, V1SecretRef) or as a part of their own (versions/1, token_0), and those
# whose parts have digits (sha256_crypt, base64.b64encode, TOKEN_BASE64). It never goes back: a number between
# underscores can be read in two ways, and many of them in no time that ends.
_PART = rb"_*[A-Za-z]+(?:[0-9]{1,3}[A-Za-z]*)?"
_NAME = re.compile(
    rb"_*[A-Za-z](?:[A-Za-z_.:$/|+\\-]|[0-9]{1,3}(?:(?:[A-Z][a-z]{2,})+(?![A-Za-z0-9])|(?=[_.:$/|-]))"
    rb"|(?<=[_/.:])[0-9]{1,6}(?![A-Za-z0-9]))*+"
    rb"|" + _PART + rb"(?:[_.](?:" + _PART + rb"|[0-9]{1,2}))+"
)
_APART = re.compile(rb"[_./]")
_BEHIND = b"]),.:;`*"
# How many of letters and digits are digits in a name, at most.
_MOST_DIGITS = 0.3
# One unusual pair in so many, where only letters tell a name from base64.
_STRICT = 12


def is_random(text: bytes, most: int = 4) -> bool:
    """Whether the letters of a text do not follow each other as in words.

    Of the names that the table is made of 1.3 in a hundred are taken for random; of random letters 62 in a hundred of
    eight, 89 of twelve small ones and 94 of twenty are. One in ``most`` pairs, and one more, may be unusual.
    """
    pairs = unusual = 0
    for word in _WORDS.findall(text):
        small = word.lower()
        pairs += len(word) - 1
        # An alphabet is no secret either.
        unusual += sum(a + 1 != b and (a, b) not in _USUAL for a, b in pairwise(small))
    return most * unusual > pairs + most


def is_name(text: bytes) -> bool:
    """Whether it is a word, or a name as programs have them, with parts of any kind: attributes, paths, packages."""
    bare = text.rstrip(_BEHIND)
    if _NAME.fullmatch(bare) is None:
        return False
    digits = sum(byte in b"0123456789" for byte in bare)
    if digits > _MOST_DIGITS * sum(chr(byte).isalnum() for byte in bare):
        return False
    return not is_random(bare, _STRICT if digits and _APART.search(bare) is None else 4)


# What is done with a name in programs: it is indexed, quoted, or has an attribute that is called.
_USED = re.compile(
    rb"([A-Za-z_]\w\w[\w.]*|[A-Za-z_]\w?\.[A-Za-z_]\w+)[\[`]|([A-Za-z_][\w.]*)\[[\w.+*:-]*\]"
    rb"|([A-Za-z_]\w+(?:\.[A-Za-z_]\w+)+)[^\w.$@#%~^?]"
)


def is_expression(text: bytes) -> bool:
    """Whether a name stands at the beginning with which something is done."""
    found = _USED.match(text)
    return found is not None and is_name(found[1] or found[2] or found[3])


def is_path(text: bytes) -> bool:
    """Whether it is a path from the root: base64 can begin with a slash too."""
    first = text[1:].partition(b"/")[0]
    return text[:1] == b"/" and (len(first) <= 4 or not is_random(first, _STRICT))
