"""Secrets made anew by every run, in the formats that they have: none is ever in a file of the project.

RSA keys are made here, so that no tool has to be there; they are good enough to be found, and for nothing else.
"""

from __future__ import annotations

import base64
import json
import secrets
import string
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

LETTERS = string.ascii_letters + string.digits
BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
HEX = "0123456789abcdef"


def some(length: int, alphabet: str = LETTERS) -> str:
    """Characters at random; a digit and a letter are among them."""
    while True:
        found = "".join(secrets.choice(alphabet) for _ in range(length))
        if any(c.isdigit() for c in found) and any(c.isalpha() for c in found):
            return found


class Planted(NamedTuple):
    """A text that stands in memory, what of it is secret, and the rule that finds it."""

    rule: str
    text: bytes
    secret: bytes


def bearing_formats() -> Iterator[Planted]:
    """What its own format gives away, one of each kind."""

    def whole(rule: str, text: str) -> Planted:
        return Planted(rule, text.encode(), text.encode())

    def json64(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    yield whole("jwt", f"{json64({'alg': 'HS256'})}.{json64({'sub': some(12)})}.{some(43)}")
    for kind in ("AKIA", "ASIA"):
        yield whole("aws-key-id", kind + some(16, BASE32))
    yield whole("google-api-key", "AI" + "za" + some(35))
    yield whole("google-token", "ya29" + "." + some(60))
    yield whole("google-secret", "GOC" + "SPX-" + some(28))
    for kind in "pousr":
        yield whole("github-token", f"gh{kind}_" + some(36))
    yield whole("github-pat", "github" + "_pat_" + some(59))
    yield whole("gitlab-token", "gl" + "pat-" + some(20))
    yield whole("slack-token", "xo" + "xb-" + some(12, string.digits + "a") + "-" + some(24))
    yield whole("stripe-key", "sk_" + "live_" + some(24))
    yield whole("npm-token", "np" + "m_" + some(36))
    yield whole("pypi-token", "pypi-" + "AgE" + some(90))
    yield whole("sk-key", "s" + "k-" + some(48))
    yield whole("crypt-hash", "$6$" + some(16) + "$" + some(86))
    yield whole("crypt-hash", "$2b$12$" + some(53))
    yield whole("postgres-md5", "md5" + some(32, HEX))
    path = f"T{some(9, BASE32)}/B{some(9, BASE32)}/{some(24)}"
    yield Planted("slack-webhook", b"https://hooks.slack.com" + b"/services/" + path.encode(), path.encode())
    scram = f"{some(22)}==${some(43)}=:{some(43)}="
    yield Planted("scram", b"SCRAM-SHA-256" + b"$4096:" + scram.encode(), scram.encode())
    azure = some(86) + "=="
    yield Planted("azure-key", b"AccountKey=" + azure.encode(), azure.encode())


def by_keyword() -> Iterator[Planted]:
    """What only stands beside a keyword, in most of the ways in which programs write that."""
    for rule, text in (
        ("pair-quoted", '{{"password": "{}"}}'), ("pair-quoted", "{{'api_key': '{}'}}"), ("pair", "password={}&user=x"),
        ("pair", "db.password: {}"), ("pair", "client_secret={};"), ("pair", "X-Api-Key: {}"),
        ("pair", "aws_secret_access_key = {}"), ("pair", "Server=db;Pwd={};"),
        ("authorization", "Authorization: Bearer {}"),
        ("bearer", "Bearer {}"), ("cookie", "Cookie: theme=dark; session={}"), ("configured", "requirepass {}"),
        ("password-in-url", "postgresql://app:{}@db.example/app"), ("environment", "\0DB_PASSWORD={}\0"),
        ("environment", "\0STRIPE_KEY={}\0"), ("redis-auth", "*2\r\n$4\r\nAUTH\r\n$20\r\n{}\r\n"),
    ):  # fmt: skip
        value = some(20)
        yield Planted(rule, text.format(value).encode(), value.encode())


def forms(value: bytes) -> Iterator[tuple[str, bytes]]:
    """Every form in which a value can stand elsewhere, with what surrounds it, and the bytes that must be gone."""
    yield "raw", value
    yield "utf-16", value.decode().encode("utf-16-le")
    yield "hex", value.hex().encode()
    yield "HEX", value.hex().upper().encode()
    yield "url", value.replace(b"=", b"%3D").replace(b"/", b"%2F").replace(b"+", b"%2B").replace(b"$", b"%24")
    for skip in range(3):
        whole = base64.b64encode(b"\xa5" * skip + value + b"\x5a" * 3)
        # What hangs on the value alone: whole groups of three bytes of it.
        first, count = -(-skip // 3) * 4, (len(value) - -skip % 3) // 3 * 4
        yield f"base64 after {skip}", whole[first : first + count]


class RsaKey(NamedTuple):
    """The numbers of an RSA key."""

    n: int
    e: int
    d: int
    p: int
    q: int

    @property
    def private(self) -> dict[str, int]:
        """What has to be gone."""
        p, q, d = self.p, self.q, self.d
        return {"p": p, "q": q, "d": d, "dp": d % (p - 1), "dq": d % (q - 1), "qinv": pow(q, -1, p)}

    def pkcs1(self) -> bytes:
        """RSAPrivateKey of RFC 8017, A.1.2."""
        private = self.private
        numbers = [0, self.n, self.e, self.d, self.p, self.q, private["dp"], private["dq"], private["qinv"]]
        return der(0x30, b"".join(integer(number) for number in numbers))

    def pkcs8(self) -> bytes:
        """PrivateKeyInfo of RFC 5208."""
        return der(0x30, integer(0) + der(0x30, RSA_ENCRYPTION) + der(0x04, self.pkcs1()))

    def public(self) -> bytes:
        """SubjectPublicKeyInfo, as certificates have it."""
        inner = der(0x30, integer(self.n) + integer(self.e))
        return der(0x30, der(0x30, RSA_ENCRYPTION) + der(0x03, b"\0" + inner))


RSA_ENCRYPTION = bytes.fromhex("06092a864886f70d0101010500")


def pem(label: str, raw: bytes) -> bytes:
    """A text as OpenSSL writes it."""
    text = base64.b64encode(raw).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()


def der(tag: int, content: bytes) -> bytes:
    """An element."""
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    size = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + content


def integer(value: int) -> bytes:
    """An INTEGER."""
    return der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


@cache
def rsa_key(bits: int) -> RsaKey:
    """A key of this run."""
    while True:
        p, q = _prime(bits // 2), _prime(bits // 2)
        phi = (p - 1) * (q - 1)
        if p != q and phi % 65537:
            return RsaKey(p * q, 65537, pow(65537, -1, phi), p, q)


_SMALL = [n for n in range(3, 2000, 2) if all(n % k for k in range(3, int(n**0.5) + 1, 2))]


def _prime(bits: int) -> int:
    start = secrets.randbits(bits) | 3 << (bits - 2) | 1
    rests = [start % small for small in _SMALL]
    for step in range(0, 1 << 16, 2):
        if all((rest + step) % small for rest, small in zip(rests, _SMALL, strict=True)):
            found = start + step
            if pow(2, found - 1, found) == 1:
                return found
    return _prime(bits)


def limbs(value: int, *, size: int) -> dict[str, bytes]:
    """A number as libraries on a little-endian machine have it in memory."""
    first = value.to_bytes(size, "big")
    return {
        "limbs": value.to_bytes(size, "little"),
        "DER": integer(value),
        "BigInteger": b"".join(first[at : at + 4][::-1] for at in range(0, size, 4)),
    }
