"""The rules for private keys: PEM and OpenSSH, and PKCS#1, PKCS#8 and SEC1 in DER."""

from __future__ import annotations

import base64
import binascii
import re

from corefilt.scrub import der
from corefilt.scrub.rule import MOST_BEHIND, MOST_VALUE, ScrubRule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.scrub.rule import Data

# Lines of base64 as short as this are looked for again one by one.
_LINE = 40
_NO_BASE64 = re.compile(rb"\\[nr]|[^A-Za-z0-9+/=]")


def pem_values(body: bytes) -> Iterator[bytes]:
    """What may stand elsewhere of a key's text: its lines, and what they encode."""
    text = body.replace(b"\\n", b"\n").replace(b"\\r", b"\r")
    lines = [line.strip() for line in text.splitlines()]
    encoded = [line for line in lines if line and b":" not in line]
    yield from (line for line in encoded if len(line) >= _LINE)
    raw = decoded(b"".join(encoded))
    if raw is not None:
        yield raw[:MOST_VALUE]
        yield from der_values(raw)


def decoded(text: bytes) -> bytes | None:
    """What lines of base64 stand for, or None."""
    joined = _NO_BASE64.sub(b"", text)
    try:
        return base64.b64decode(joined + b"=" * (-len(joined) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def der_values(raw: bytes) -> Iterator[bytes]:
    """The secret numbers of a key in DER: of an EC or Edwards key, for RSA's are found by arithmetic."""
    scalar = der.scalar(raw)
    if scalar is not None:
        yield scalar
        yield scalar[::-1]


def _der_end(data: Data, start: int, end: int) -> int:
    """Where the sequence ends that begins at ``start``; what is cut off is gone."""
    head = der.header(data, start)
    return end if head is None else min(max(end, head[0] + head[1]), len(data), start + MOST_BEHIND)


def _is_key_text(body: bytes) -> bool:
    """Whether it holds more than a placeholder, which is some X."""
    return len(_NO_BASE64.sub(b"", body).replace(b"X", b"")) >= _LINE


def _is_random(raw: bytes) -> bool:
    """Whether the last 32 bytes can be a key, which has some 30 different ones, and not what stands behind a prefix."""
    return len(set(raw[-32:])) >= 20


_SEQUENCE = rb"\x30(?:[\x20-\x7f]|\x81[\x80-\xff]|\x82[\x01-\x7f][\x00-\xff])"
_PKCS8 = _SEQUENCE + rb"\x02\x01[\x00\x01]\x30[\x05-\x14]"


def _behind_sequence(rest: bytes) -> re.Pattern[bytes]:
    # A header has two to four bytes, and a pattern is matched at a fixed place: the alternatives take what is before.
    return re.compile(rb"(?s).??.??.??(?P<v>" + rest + rb")")


KEYS = (
    ScrubRule(
        "private-key-pem", "-----BEGIN RSA PRIVATE KEY----- MIIEow...", (b"-----BEGIN ",),
        re.compile(
            rb"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
            rb"(?P<v>(?:[A-Za-z0-9+/=\r\n\t :,.\\]|-(?!----)){16,24576})"
        ),
        reach=MOST_BEHIND, accept=_is_key_text, values=pem_values,
    ),
    ScrubRule(
        "private-key-openssh", "openssh-key-v1, and what follows it", (b"openssh-key-v1\0",),
        re.compile(rb"(?s)openssh-key-v1\0(?P<v>\0{3}[\x04-\x20].{64,4096})"), reach=8192, text=False,
        end=lambda data, start, end: der.openssh_end(data, start, end),
    ),
    ScrubRule(
        "private-key-pkcs1", "SEQUENCE { INTEGER 0, INTEGER n, INTEGER e, INTEGER d, ... }",
        (b"\x02\x01\x00\x02\x82", b"\x02\x01\x00\x02\x81"),
        _behind_sequence(
            _SEQUENCE + rb"\x02\x01\x00\x02(?:\x81[\x40-\xff]|\x82[\x01-\x10][\x00-\xff])\x00?[\x80-\xff]"
        ),
        back=4, text=False, end=_der_end, values=der_values,
    ),
    ScrubRule(
        "private-key-pkcs8", "SEQUENCE { INTEGER 0, SEQUENCE { rsaEncryption, NULL }, OCTET STRING }",
        (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00\x04",),
        _behind_sequence(_PKCS8 + rb"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00\x04"),
        back=11, text=False, end=_der_end, values=der_values,
    ),
    ScrubRule(
        "private-key-pkcs8-ec", "SEQUENCE { INTEGER 0, SEQUENCE { ecPublicKey, OID }, OCTET STRING }",
        (b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06",),
        _behind_sequence(_PKCS8 + rb"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06[\x05-\x09].{5,9}?\x04"),
        back=9, text=False, end=_der_end, values=der_values,
    ),
    ScrubRule(
        "private-key-pkcs8-edwards", "SEQUENCE { INTEGER 0, SEQUENCE { Ed25519 }, OCTET STRING }",
        (b"\x06\x03\x2b\x65",),
        _behind_sequence(_PKCS8 + rb"\x06\x03\x2b\x65[\x6e-\x71]\x04[\x22\x3a\x3b]\x04[\x20\x38\x39]"),
        back=9, text=False, end=_der_end, accept=_is_random, values=der_values,
    ),
    ScrubRule(
        "private-key-sec1", "SEQUENCE { INTEGER 1, OCTET STRING d, ... }",
        (b"\x02\x01\x01\x04\x20", b"\x02\x01\x01\x04\x30", b"\x02\x01\x01\x04\x42"),
        _behind_sequence(_SEQUENCE + rb"\x02\x01\x01\x04[\x20\x30\x42].{32}"),
        back=4, text=False, end=_der_end, values=der_values,
    ),
)  # fmt: skip
