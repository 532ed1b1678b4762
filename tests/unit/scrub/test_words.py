"""What behind a keyword is a name, a path or a placeholder of programs and manuals, and what can be a secret."""

from __future__ import annotations

import base64
import random
import string
import time

import pytest

from corefilt.scrub.rule import is_no_path, is_value
from corefilt.scrub.words import is_name, is_random

NO_VALUES = """
password OAuth2Token V1SecretReference SHA224PasswordProperty PKCS7PrivateKeyTypes _X509Supplier OAuth2Credentials
GOOGLE_OAUTH2_TOKEN_ENDPOINT TEST_DATA_BASE64 ACCESS_TOKEN_1 subject_token_0 _convert_oauth2_credentials MY_TOKEN
k8s_min.SecretKeySelector base64.b64encode hashlib.sha256 oauth2client_4_0.GOOGLE_TOKEN_URI self.proxy self.password
self.token[1:] t.Union[str state[stack[-1]] self.value!=y Enable/Disable bold+italic none|ssh|cookiefile s/change s#a#b#
projects/my-project/secrets/my-secret/versions/1 roles/iam.serviceAccountTokenCreator latest/api/token
/etc/passwd.d/x1 /run/secrets/db /home/user2/.pgpass urn:ietf:params:oauth:token-type:saml2 bool=False Key=Value
gs_host= key=%s%s InvalidToken:%s:%s %(password)s ${TOKEN} $ENV{SCRIPT_NAME} $password {password} {.accessToken}
ACCESS_TOKEN_{} <redacted> ******** xxxxxxxx **TOKEN** T1003.007 Oauth2.0 2018-03-02T21:26:13Z --with-passphrase
#ff00ff 0x1234abcd anonymous@example.org https://example.org/x \\x07MESSAGE abcdefgh aaaaaaab ([a-z]+)
module$exports$google3$third_party Root%20CA%20Certificates PKCS7PrivateKeyTypes, OAUTH2-CLIENT-SECRET]
"""


@pytest.mark.parametrize("text", NO_VALUES.split())
def test_words_of_programs_and_manuals_are_no_values(text: str) -> None:
    assert not is_value(text.encode())


VALUES = """
hunter2 Password01 MySecret123 Tr0ub4dor&3 correct-horse-1 P4ssword Summer2024! abc$Def9x nBxkqWvT zqxwvkjhtr
/amPfOrWMyzN0cBoYh9cAQ== $xZpD3s2r|da de305d54-75b4-431b-adb2-eb6b9e546014 9f86d081884c7d659a2feaa0c55ad015
"""


@pytest.mark.parametrize("text", VALUES.split())
def test_what_can_be_a_secret_is_a_value(text: str) -> None:
    assert is_value(text.encode())


LETTERS = string.ascii_letters + string.digits
# Of a thousand values of each kind so many are taken for something else, at most.
KINDS = {
    ("letters and digits", 20): (LETTERS, 10), ("letters and digits", 12): (LETTERS, 50),
    ("letters", 20): (string.ascii_letters, 100), ("small letters", 12): (string.ascii_lowercase, 150),
    ("hexadecimal", 32): ("0123456789abcdef", 1), ("base32", 16): ("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 10),
    ("printable", 16): ("".join(sorted(set(string.printable[:94]) - set("\"';&,<>(){}"))), 80),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_random_values_are_values(kind: tuple[str, int]) -> None:
    alphabet, most = KINDS[kind]
    draw = random.Random(3)
    values = ["".join(draw.choices(alphabet, k=kind[1])).encode() for _ in range(1000)]
    assert sum(not is_value(value) for value in values) <= most


def test_tokens_with_dots_are_values() -> None:
    draw = random.Random(5)
    for sizes in ((2, 22, 43), (24, 6, 27)):
        values = [".".join("".join(draw.choices(LETTERS, k=k)) for k in sizes).encode() for _ in range(1000)]
        assert sum(not is_value(value) for value in values) <= 5


def test_base64_is_a_value() -> None:
    draw = random.Random(4)
    for size in (18, 30, 16):
        values = [base64.b64encode(draw.randbytes(size)) for _ in range(1000)]
        assert sum(not is_value(value) for value in values) <= 15
        assert sum(not is_no_path(value) for value in values) <= 10


def test_words_are_not_random() -> None:
    for text in (b"password", b"getElementById", b"HTTPSConnection", b"abcdefgh", b"private_key", b"json", b"xyz", b""):
        assert not is_random(text), text
        assert is_name(text) is bool(text)
    for text in (b"zqxwvkjhtr", b"XkWqBvGh", b"qvxzkjwp"):
        assert is_random(text) and not is_name(text), text


PARTS = [b"a", b"Ab", b"1", b"12", b"_", b".", b"/", b"-", b"~", b"=", b"_1", b"/1", b"{", b"}", b"%", b"$", b"["]


@pytest.mark.parametrize("first", PARTS)
def test_no_text_takes_long(first: bytes) -> None:
    """A core is hostile: what can be read in two ways again and again would never come to an end."""
    began = time.process_time()
    for second in PARTS:
        for third in (b"", b"_", b"a"):
            for end in (b"", b"~", b"9Z+"):
                text = ((first + second + third) * 256)[:256] + end
                is_value(text)
                is_no_path(text)
    assert time.process_time() - began < 5
