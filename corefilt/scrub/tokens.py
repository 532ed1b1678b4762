"""The rules for what bears its own format: tokens of services, and hashes of passwords."""

from __future__ import annotations

import re

from corefilt.scrub.rule import ScrubRule, is_password

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.scrub.rule import Data

_WORD = re.compile(rb"[A-Za-z0-9_]")


def _apart(data: Data, at: int) -> bool:
    """Whether no word goes on at an offset; one character behind binary data is a length (PostgreSQL's varlena)."""
    return at == 0 or _WORD.match(data, at - 1, at) is None or at == 1 or not 0x20 <= data[at - 2] < 0x7F


def _mixed(value: bytes) -> bool:
    """Whether digits and letters stand in it: names of programs and languages have no digits."""
    return re.search(rb"[0-9]", value) is not None and re.search(rb"[A-Za-z]", value) is not None


def _token(
    name: str, example: str, anchors: tuple[bytes, ...], pattern: bytes, *, reach: int = 512, mixed: bool = False
) -> ScrubRule:
    return ScrubRule(
        name, example, anchors, re.compile(pattern), reach=reach, before=_apart, accept=_mixed if mixed else None
    )


TOKENS = (
    ScrubRule(
        "jwt", "eyJhbGciOi....eyJzdWIiOi....c2ln...", (b"eyJ",),
        re.compile(rb"eyJ[A-Za-z0-9_-]{8,1024}\.(?:eyJ[A-Za-z0-9_-]{8,8192})?(?:\.[A-Za-z0-9_-]{8,8192}){1,3}"),
        reach=16 << 10, before=_apart,
    ),
    _token("aws-key-id", "AKIA and 16 letters and digits", (b"AKIA", b"ASIA", b"ABIA", b"ACCA"),
           rb"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}(?![A-Za-z0-9])"),
    _token("google-api-key", "AIza and 35 letters and digits", (b"AIza",), rb"AIza[0-9A-Za-z_-]{35}"),
    _token("google-token", "ya29. and letters and digits", (b"ya29.",), rb"ya29\.[0-9A-Za-z_.-]{20,2048}", reach=2100),
    _token("google-secret", "GOCSPX- and letters and digits", (b"GOCSPX-",), rb"GOCSPX-[0-9A-Za-z_-]{20,64}"),
    ScrubRule(
        "azure-key", "AccountKey=, SharedAccessKey= or sig= and base64", (b"AccountKey=", b"SharedAccessKey=", b"sig="),
        re.compile(rb"(?:AccountKey|SharedAccessKey|sig)=(?P<v>[A-Za-z0-9+/%]{42,128}={0,2})"), before=_apart,
    ),
    _token("github-token", "ghp_ and 36 letters and digits", (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_"),
           rb"gh[pousr]_[A-Za-z0-9]{36,255}"),
    _token("github-pat", "github_pat_ and letters and digits", (b"github_pat_",), rb"github_pat_[A-Za-z0-9_]{22,255}"),
    _token("gitlab-token", "glpat- and letters and digits", (b"glpat-", b"gldt-", b"glrt-", b"glcbt-", b"glptt-"),
           rb"gl(?:pat|dt|rt|cbt|ptt)-[A-Za-z0-9_.-]{20,300}"),
    _token("slack-token", "xoxb- and digits and letters",
           (b"xoxa-", b"xoxb-", b"xoxe-", b"xoxo-", b"xoxp-", b"xoxr-", b"xoxs-", b"xapp-"),
           rb"(?:xox[abeoprs]|xapp)-[A-Za-z0-9-]{10,250}", mixed=True),
    ScrubRule(
        "slack-webhook", "hooks.slack.com/services/T.../B.../...", (b"hooks.slack.com/services/",),
        re.compile(rb"hooks\.slack\.com/services/(?P<v>T[A-Z0-9]{6,12}/B[A-Z0-9]{6,12}/[A-Za-z0-9]{20,30})"),
    ),
    _token("stripe-key", "sk_live_ and letters and digits",
           (b"sk_live_", b"sk_test_", b"rk_live_", b"rk_test_", b"whsec_"),
           rb"(?:(?:sk|rk)_(?:live|test)|whsec)_[A-Za-z0-9+/=]{16,250}"),
    _token("npm-token", "npm_ and 36 letters and digits", (b"npm_",), rb"npm_[A-Za-z0-9]{36}"),
    _token("pypi-token", "pypi-AgE and letters and digits", (b"pypi-AgE",), rb"pypi-AgE[A-Za-z0-9_-]{50,1000}",
           reach=1100),
    _token("sk-key", "sk- and 32 letters and digits or more", (b"sk-",), rb"sk-[A-Za-z0-9_-]{32,250}", mixed=True),
    _token("crypt-hash", "$6$salt$ and 86 letters and digits",
           (b"$1$", b"$5$", b"$6$", b"$7$", b"$y$", b"$gy$", b"$2a$", b"$2b$", b"$2x$", b"$2y$", b"$apr1$",
            b"$argon2"),
           rb"\$(?:1|5|6|7|y|gy|2[abxy]|apr1|argon2(?:id|i|d))\$[A-Za-z0-9./$=,+-]{20,180}", mixed=True),
    ScrubRule(
        "scram", "SCRAM-SHA-256$4096:salt$StoredKey:ServerKey", (b"SCRAM-SHA-",),
        re.compile(
            rb"SCRAM-SHA-(?:1|256|512)\$[0-9]{1,8}:"
            rb"(?P<v>[A-Za-z0-9+/=]{8,88}\$[A-Za-z0-9+/=]{20,90}:[A-Za-z0-9+/=]{20,90})"
        ),
    ),
    _token("postgres-md5", "md5 and 32 hexadecimal digits", (b"md5",), rb"md5[0-9a-f]{32}(?![0-9a-zA-Z])", mixed=True),
    ScrubRule(
        "password-in-url", "postgresql://user:password@host", (b"://",),
        re.compile(
            rb"://[^/\s:@\"'<>\x00-\x1f\x7f-\xff]{0,64}:(?P<v>[^/\s@\"'<>\x00-\x1f\x7f-\xff]{3,256})@[A-Za-z0-9\[]"
        ),
        accept=is_password,
    ),
)  # fmt: skip
