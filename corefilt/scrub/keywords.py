"""The rules for values that only a keyword beside them gives away: headers, pairs, the environment."""

from __future__ import annotations

import base64
import binascii
import re

from corefilt.scrub.rule import ScrubRule, is_no_path, is_password, is_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.scrub.rule import Data

_KEYWORDS = (
    "password", "passwd", "passphrase", "secret", "token", "api_key", "apikey", "api-key", "access_key", "access-key",
    "accesskey", "private_key", "credential", "auth_key", "authkey", "requirepass", "masterauth",
)  # fmt: skip


def _cases(words: tuple[str, ...]) -> tuple[bytes, ...]:
    """As programs write them: small, with a capital or one for each part, in capitals."""
    cases = (str, str.capitalize, str.title, str.upper)
    return tuple(dict.fromkeys(case(word).encode() for word in words for case in cases))


# Java and JavaScript write the second word with a capital.
_ANCHORS = (*_cases(_KEYWORDS), b"apiKey", b"ApiKey", b"accessKey", b"AccessKey", b"Passwd", b"Secret", b"Token")
_ANY = b"|".join(re.escape(word) for word in sorted(set(_ANCHORS), key=len, reverse=True))
# The public key token of an assembly of .NET names who made it. A colon on either side stands in names of resources
# (arn:aws:secretsmanager:...).
_NO_NAME = rb"(?<!ublicKey)(?:(?<!:)|(?=[A-Za-z0-9_.-]{0,48}[\"'\s=]))"
_BARE = rb"[^\s\"';&,<>(){}\x00-\x20\x7f-\xff]{6,256}"


def _values_of_header(value: bytes) -> Iterator[bytes]:
    """Credentials, and the password in those of Basic."""
    word = value.rsplit(None, 1)[-1]
    yield word
    try:
        plain = base64.b64decode(word, validate=True)
    except (binascii.Error, ValueError):
        return
    if b":" in plain and plain.isascii():
        yield plain
        yield plain.split(b":", 1)[1]


def _is_credential(value: bytes) -> bool:
    """Whether it is no word of a manual: of Basic, base64 of a name and a password can be letters alone."""
    return is_value(value) or any(b":" in each for each in _values_of_header(value))


def _values_of_cookies(value: bytes) -> Iterator[bytes]:
    for pair in value.split(b";"):
        yield pair.partition(b"=")[2].strip(b" \t\"'")


def _begins_entry(data: Data, at: int) -> bool:
    """Whether from a NUL on only a variable's name stands before an offset: `DB_` of `DB_PASSWORD=`."""
    start = data.rfind(b"\0", max(0, at - 64), at) + 1
    return start > 0 and re.fullmatch(rb"[A-Z0-9_]*", bytes(data[start:at])) is not None


def _is_own_pwd(data: Data, at: int) -> bool:
    """Whether it is the variable PWD or OLDPWD, which is a folder."""
    return bytes(data[max(0, at - 4) : at]).endswith((b"\0", b"\0OLD")) and bytes(data[at : at + 4]) == b"PWD="


def _is_cookie(value: bytes) -> bool:
    parts = _values_of_cookies(value)
    return b"=" in value and any(len(part) >= 6 and not part.isalpha() and is_no_path(part) for part in parts)


KEYWORDS = (
    ScrubRule(
        "authorization", "Authorization: Bearer ...", (b"uthorization", b"UTHORIZATION"),
        re.compile(
            rb"(?i:uthorization)[\"']?\s{0,2}[:=,]\s{0,2}[\"']?"
            rb"(?:(?i:bearer|basic|token|negotiate|apikey)\s{1,2}|(?i:digest)\s[^\r\n\0]{0,512}?\bresponse=\"?)"
            rb"(?P<v>[A-Za-z0-9._~+/=-]{6,8192})"
        ),
        reach=9000, accept=_is_credential, values=_values_of_header,
    ),
    ScrubRule(
        "bearer", "Bearer ... where the header's name is elsewhere", (b"Bearer ",),
        re.compile(rb"Bearer (?P<v>[A-Za-z0-9._~+/=-]{16,8192})"), reach=9000, accept=is_value,
    ),
    ScrubRule(
        "cookie", "Cookie: session=...", (b"ookie: ", b"OOKIE="),
        re.compile(rb"(?:ookie: |OOKIE=)(?P<v>[^\r\n\\\x00-\x1f\x7f-\xff]{8,4096})"), reach=4200,
        accept=_is_cookie, values=_values_of_cookies,
    ),
    ScrubRule(
        "pair-quoted", '"password": "..."', _ANCHORS,
        re.compile(
            _NO_NAME + rb"(?:" + _ANY + rb")[A-Za-z0-9_.-]{0,24}"
            rb"(?:[\"']?\s{0,2}(?::(?!:)|=>?)\s{0,2}|\s{1,2}(?='))"
            rb"[\"'](?P<v>[^\"'\x00-\x20\x7f\\]{6,256})[\"']"
        ),
        accept=is_value,
    ),
    ScrubRule(
        "pair", "password=...", (*_ANCHORS, b"pwd=", b"Pwd="),
        re.compile(
            _NO_NAME + rb"(?:" + _ANY + rb"|[pP]wd)[A-Za-z0-9_.-]{0,24}"
            rb"[\"']?\s{0,2}(?::(?!:)|=>?)\s{0,2}(?P<v>" + _BARE + rb")"
        ),
        accept=is_value,
    ),
    ScrubRule(
        "configured", "requirepass ...", (b"requirepass ", b"masterauth ", b"IDENTIFIED BY '", b"PASSWORD '"),
        re.compile(
            rb"(?:requirepass |masterauth |IDENTIFIED BY '|PASSWORD ')[\"']?(?P<v>[^\s\"'\x00-\x20\x7f]{6,256})"
        ),
        accept=is_password,
    ),
    ScrubRule(
        "redis-auth", "AUTH as the Redis protocol sends it", (b"AUTH\r\n$", b"auth\r\n$"),
        re.compile(rb"(?i:auth)\r\n(?:\$[0-9]{1,3}\r\n[^\r\n\0]{1,64}\r\n)??\$[0-9]{1,4}\r\n(?P<v>[^\r\n\0]{6,512})\r\n"),
    ),
    ScrubRule(
        "environment", "DB_PASSWORD=..., not PWD=",
        (b"PASSWORD", b"PASSWD", b"PASS=", b"SECRET", b"TOKEN", b"PWD=", b"APIKEY", b"API_KEY", b"ACCESS_KEY",
         b"PRIVATE_KEY", b"_KEY=", b"CREDENTIAL", b"_AUTH="),
        re.compile(
            rb"(?:PASSWORD|PASSWD|PASS|SECRET|TOKEN|PWD|API_?KEY|ACCESS_KEY|PRIVATE_KEY|_KEY|CREDENTIAL|_AUTH)"
            rb"[A-Z0-9_]{0,24}=(?P<v>[^\x00]{4,4096})(?=\x00)"
        ),
        reach=4200, accept=is_no_path,
        before=lambda data, at: _begins_entry(data, at) and not _is_own_pwd(data, at),
    ),
)  # fmt: skip
