"""``corefilt scrub``: what it finds, what it leaves, and what ``verify --scrubbed`` proves of it."""

from __future__ import annotations

import base64
import json
import os
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.builder import (
    EM_AARCH64,
    FileEntry,
    Load,
    Note,
    kernel_notes,
    make_core,
    nt_auxv,
    payload_at,
)
from support.planted import Planted, bearing_formats, by_keyword, forms, limbs, pem, rsa_key, some
from support.run import assert_error, assert_usage, corefilt

from corefilt.corefile.corefile import open_core
from corefilt.errors import ScrubError
from corefilt.scrub import found, search
from corefilt.scrub.find import find
from corefilt.scrub.regions import CHUNK
from corefilt.scrub.request import make_request
from corefilt.scrub.rule import RULES_VERSION
from corefilt.scrub.rules import OTHERS, RULES
from corefilt.text import counted

HEAP, STACK = 0x10000000, 0x7FFC00000000
PAGE = 4096


def memory(*texts: bytes, apart: int = 37, least: int = PAGE) -> bytes:
    """Texts that stand apart from each other, filled up to whole pages."""
    out = b"".join(text.ljust(len(text) + apart, b"\0") for text in (b"", *texts))
    return out.ljust(max(least, -(-len(out) // PAGE) * PAGE), b"\0")


def heap_core(*texts: bytes, **options: Any) -> bytes:
    return make_core([Load(HEAP, memory(*texts, **options))], kernel_notes())


class Scrubbed:
    """A core, its scrubbed copy, and the report; the proof is asked at once."""

    def __init__(self, folder: Path, core: bytes, *options: str | Path, proved: bool = True) -> None:
        self.core, self.path, self.out_path, self.list = core, folder / "core", folder / "out", folder / "report.json"
        self.path.write_bytes(core)
        done = corefilt("scrub", self.path, "-o", self.out_path, "-f", "--report", self.list, "--no-sync", *options)
        assert done.code == 0, done.err
        self.said = done.err
        self.out = self.out_path.read_bytes()
        self.report: dict[str, Any] = json.loads(self.list.read_text())
        assert self.path.read_bytes() == core
        if proved:
            self.prove()

    def prove(self, *words: str) -> None:
        done = corefilt("verify", self.path, self.out_path, "--scrubbed", self.list)
        if not words:
            assert done.code == 0, done.out
        else:
            assert done.code == 4
            assert all(word in done.out.decode() for word in words), done.out

    @property
    def ranges(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.report["ranges"]
        return found

    def by_rule(self, rule: str) -> list[tuple[int, int]]:
        return [(int(r["address"], 16), r["length"]) for r in self.ranges if r["rule"] == rule and r["address"]]


@pytest.fixture(scope="module")
def planted() -> list[Planted]:
    return [*bearing_formats(), *by_keyword()]


def test_every_rule_finds_its_secret(tmp_path: Path, planted: list[Planted]) -> None:
    texts = [each.text for each in planted]
    done = Scrubbed(tmp_path, heap_core(*texts))
    for each in planted:
        assert each.secret not in done.out, each.rule
        assert each.rule in done.report["totals"], each.rule
    # Only the secret is gone, and the report has none of it.
    assert b"postgresql://app:XXXXXXXXXXXXXXXXXXXX@db.example/app" in done.out
    told = done.list.read_bytes() + "\n".join(done.said).encode()
    assert not any(each.secret in told for each in planted)


def test_a_length_before_a_token_is_no_part_of_a_word(tmp_path: Path) -> None:
    """PostgreSQL has one byte before a short text, twice its length and one more: S before 40 characters."""
    token = "gh" + "p_" + some(36)
    assert token.encode() not in Scrubbed(tmp_path, heap_core(b"\0S" + token.encode())).out
    assert Scrubbed(tmp_path, heap_core(b"wordS" + token.encode(), b" S" + token.encode())).ranges == []


def test_text_in_utf16_is_found_and_its_nuls_stay(tmp_path: Path, planted: list[Planted]) -> None:
    wide = [each for each in planted if b"\0" not in each.text]
    done = Scrubbed(tmp_path, heap_core(*(each.text.decode().encode("utf-16-le") for each in wide)))
    for each in wide:
        assert each.secret.decode().encode("utf-16-le") not in done.out, each.rule
    assert "password=XXXXXXXX".encode("utf-16-le") in done.out


def test_values_are_found_again_in_every_form(tmp_path: Path) -> None:
    for each in (next(iter(by_keyword())), Planted("pair", b"", b"")):
        if not each.text:
            value = some(21).encode()
            each = Planted("pair", b"token=" + value, value)
        surrounded = []
        for name, form in forms(each.secret):
            if name.startswith("base64"):
                skip = int(name[-1])
                surrounded.append(base64.b64encode(b"\xa5" * skip + each.secret + b"\x5a" * 3))
            else:
                surrounded.append(form)
        for shift in range(4):
            done = Scrubbed(tmp_path, heap_core(each.text, *surrounded, apart=36 + shift), proved=shift == 0)
            for name, form in forms(each.secret):
                assert form not in done.out, (name, shift)
            assert {r["copy_of"] for r in done.ranges} > {None}


def test_edges_of_chunks_and_of_mappings_hide_nothing(tmp_path: Path) -> None:
    token = ("gh" + "p_" + some(36)).encode()
    size = 2 * CHUNK
    for shift in (-39, -21, -20, -1, 0, 1):
        data = bytearray(os.urandom(size))
        # Nothing stands before or behind that could belong to it.
        put = b"\x01" + token + b"\x01"
        for edge in (CHUNK, size):
            at = edge + shift - 1
            data[at : at + 42] = put[: max(0, size - at)]
        assert len(data) == size
        second = put[size - at :].ljust(PAGE, b"\x01") if at < size else b"\x01" * PAGE
        # In the file the second mapping does not follow the first.
        loads = [Load(HEAP + size, second), Load(0x50000000, b"x" * PAGE), Load(HEAP, bytes(data))]
        done = Scrubbed(tmp_path, make_core(loads, kernel_notes()), proved=False)
        assert token not in done.out
        found = sorted(done.by_rule("github-token"))
        assert (HEAP + CHUNK + shift, 40) in found
        if shift < 0:
            assert (HEAP + size + shift, -shift) in found
            assert (HEAP + size, 40 + shift) in found
        done.prove()


def test_nothing_is_found_in_what_is_random(tmp_path: Path) -> None:
    done = Scrubbed(tmp_path, make_core([Load(HEAP, os.urandom(16 << 20))], kernel_notes()))
    assert done.ranges == []
    assert done.said[0].endswith(f"rules of version {RULES_VERSION}")


def test_what_headers_of_requests_give_away(tmp_path: Path) -> None:
    digest, letters = some(32, "0123456789abcdef"), base64.b64encode(b"user:" + some(7).encode()).decode()
    done = Scrubbed(
        tmp_path,
        heap_core(
            f'Authorization: Digest username="user", realm="x", nonce="n", response="{digest}"\r\n'.encode(),
            f"Authorization: Basic {letters}".encode(), b"Authorization: Basic dXNlcjpwYXNz",
        ),
    )  # fmt: skip
    assert len(done.by_rule("authorization")) == 3
    assert not any(text.encode() in done.out for text in (digest, letters, "dXNlcjpwYXNz"))
    assert b'username="user", realm="x"' in done.out


def test_words_of_programs_are_no_secrets(tmp_path: Path) -> None:
    texts = (
        b"password: str", b"def login(password=None, token='%s')", b"PWD=/home/user",
        b"\0PWD=/srv/abc123def\0", b"token=${TOKEN}", b"task-" + b"a" * 40,
        b"secret=<redacted>", b"password: /etc/passwd.d/x1", b"OLDPWD=/tmp/x", b"tokens = state[stack[-1]]",
        b"password=********",
        b"password: typing.Optional[bytes]", b"https://example.org:8080/path@x",
        b"-----BEGIN PRIVATE KEY-----", b"sk-SK",
        b"task-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        b"bool is(AsmToken::TokenKind)", b"hide node::credentials::HasOnly", b":type passphrase: :py:data:`bytes`",
        b"d.tokens = d.tokens[:0]", b"l.password = f[i+1]", b"credentials = standard_b64encode(x)",
        b"provide ``token_type_hint=None``.", b"Only if it has `tokens: true`.", b"our $exists_token = \\undef",
        b"my $Token = qr/[\\x21\\x23-\\x27]/", b'publicKeyToken="1fc8b3b9a1e18e3b"', b"https://user:pass@example.com/",
        b"Set-Cookie: fig=newton\\r\\nSet-Cookie: vienna='finger'", b"Set-Cookie: oreo=doublestuff; Path=/",
        b'Authorization: Digest username="user", realm="x"', b"Authorization: Bearer YOUR_TOKEN",
        b"arn:aws:secretsmanager:us-east-1:01234567890:secret:MyBroker-a1b2c3", b"IDENTIFIED BY 'password'",
        b"private_key_file = projects/my-project/secrets/my-secret/versions/1",
        b'key="-----BEGIN PRIVATE KEY-----\\nXXXX\\nXXXX\\n', b'0.\x02\x01\0000\x05\x06\x03+ep\x04"\x04 \0_prefix',
    )  # fmt: skip
    assert Scrubbed(tmp_path, heap_core(*texts)).ranges == []


# What takes longest, of some forty that were tried; texts of programs take 0.001 seconds a MB.
LABOUR = (b"eyJ-", b"token=", b"password='", b"ookie: ", b"\0TOKEN=", b"TOKEN=", b"sk--", b"$6$", b"t\0o\0k\0e\0n\0=\0")


@pytest.mark.parametrize("unit", LABOUR, ids=repr)
def test_the_time_grows_with_the_anchors_only(tmp_path: Path, unit: bytes) -> None:
    """Each is looked at, and what stands behind it as far as a rule reaches, and no further.

    Of eight times as many the time is eight times as long, or 64 times if each were held against each. A machine that
    is busy with something else has made one of two runs three times as long: one of three goes well.
    """
    path = tmp_path / "core"

    def taken(size: int) -> float:
        path.write_bytes(make_core([Load(HEAP, (unit * (size // len(unit) + 1))[:size])], kernel_notes()))
        with open_core(path) as core:
            began = time.process_time()
            find(core, make_request())
            return time.process_time() - began

    assert any(taken(1 << 17) < 24 * taken(1 << 14) for _ in range(3))


def test_more_secrets_than_can_be_told_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found, "MOST_MATCHES", 9)
    path = tmp_path / "core"
    path.write_bytes(heap_core(*(f"password='{some(12)}'".encode() for _ in range(10))))
    with open_core(path) as core, pytest.raises(ScrubError, match="more than 9 places"):
        find(core, make_request())


def test_more_values_than_are_looked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MOST_VALUES", 2)
    path = tmp_path / "core"
    path.write_bytes(heap_core(*(f"password='q7Zk{n}xW2vR9'".encode() for n in range(5))))
    with open_core(path) as core:
        told = find(core, make_request())
    assert len(told.matches) == 5
    assert told.notices == ["3 values were not searched for again: there are too many"]


def test_read_only_files_are_left_alone(tmp_path: Path) -> None:
    token = ("gh" + "p_" + some(36)).encode()
    loads = [Load(HEAP, memory(token), flags="r--"), Load(HEAP + 0x100000, memory(b"x"))]
    core = make_core(loads, kernel_notes([FileEntry(HEAP, HEAP + PAGE, 0, "/usr/share/tokens")]))
    assert Scrubbed(tmp_path, core).ranges == []
    assert token not in Scrubbed(tmp_path, core, "--files").out


def test_notes_are_looked_through(tmp_path: Path) -> None:
    value = some(20)
    notes = kernel_notes()
    desc = notes[1].desc[:-80] + f"app --password={value} run".encode().ljust(80, b"\0")
    notes[1] = Note("CORE", notes[1].type, desc)
    done = Scrubbed(tmp_path, make_core([Load(HEAP, memory(value.encode()))], notes))
    assert value.encode() not in done.out
    assert sorted(r["address"] is None for r in done.ranges) == [False, True]


@pytest.mark.parametrize("bits", [2048, pytest.param(4096, marks=pytest.mark.slow)])
def test_rsa_is_found_by_division(tmp_path: Path, bits: int) -> None:
    key = rsa_key(bits)
    for source in ("core", "pem", "file"):
        parts: list[bytes] = [key.public()] if source == "core" else []
        if source == "pem":
            parts = [pem("CERTIFICATE", key.public())]
        wanted = {}
        for name, value in key.private.items():
            size = bits // 8 if name == "d" else bits // 16
            for how, raw in limbs(value, size=size).items():
                wanted[name, how] = raw[4:] if how == "DER" else raw
                parts.append(raw)
        # Limbs are aligned as an allocator aligns them.
        data = b"".join(part.ljust(-(-len(part) // 16) * 16 + 16, b"\0") for part in parts)
        core = make_core([Load(HEAP, memory() + data.ljust(-(-len(data) // PAGE) * PAGE, b"\0"))], kernel_notes())
        options: list[str | Path] = []
        if source == "file":
            options = ["--certificate", tmp_path / "cert.pem"]
            (tmp_path / "cert.pem").write_bytes(pem("CERTIFICATE", key.public()))
        done = Scrubbed(tmp_path, core, *options, proved=source == "core")
        for which, raw in wanted.items():
            assert raw.strip(b"\0") not in done.out, (source, which)
        assert key.n.to_bytes(bits // 8, "big") in (core if source == "core" else key.public())
        if source == "core":
            assert key.public() in done.out


def test_private_keys_in_der_and_pem(tmp_path: Path) -> None:
    key = rsa_key(2048)
    text = pem("RSA PRIVATE KEY", key.pkcs1())
    certificate = pem("CERTIFICATE", key.public())
    limb = key.p.to_bytes(128, "little")
    done = Scrubbed(tmp_path, heap_core(text + certificate, key.pkcs1(), key.pkcs8(), text.splitlines()[7]) + b"")
    assert key.pkcs1()[8:] not in done.out
    assert key.p.to_bytes(128, "big") not in done.out
    assert text.splitlines()[7] not in done.out
    assert certificate in done.out
    assert {"private-key-pem", "private-key-pkcs1", "private-key-pkcs8"} <= set(done.report["totals"])
    # Known by the key in PEM alone, its limbs are found.
    core = make_core([Load(HEAP, memory(text) + limb.ljust(PAGE, b"\0"))], kernel_notes())
    assert limb not in Scrubbed(tmp_path, core).out


def test_secret_files_and_rules_of_ones_own(tmp_path: Path) -> None:
    literal, number = some(12), "INT-" + some(8, "0123456789a")
    (tmp_path / "secrets").write_text(f"{literal}\n\n")
    (tmp_path / "rules").write_text('[[rule]]\nname = "ticket"\nanchor = "INT-"\npattern = "INT-(?P<v>[0-9a]{8})"\n')
    core = heap_core(literal.encode(), literal.encode().hex().encode(), b"see " + number.encode())
    assert Scrubbed(tmp_path, core).ranges == []
    done = Scrubbed(tmp_path, core, "--secret-file", tmp_path / "secrets", "--rule", tmp_path / "rules")
    assert literal.encode() not in done.out and literal.encode().hex().encode() not in done.out
    assert b"INT-XXXXXXXX" in done.out
    assert {r["rule"] for r in done.ranges} == {"secret-file", "ticket"}


@pytest.mark.parametrize(
    ("option", "text", "words"),
    [
        ("--secret-file", "short\n", ("line 1", "5 bytes")),
        ("--rule", "nonsense", ("TOML",)),
        ("--rule", "[[rule]]\nname='x'\n", ("rule 1",)),
        ("--rule", "[[rule]]\nname='x1'\nanchor='ab'\npattern='ab'", ("anchor",)),
        ("--rule", "[[rule]]\nname='x1'\nanchor='abc'\npattern='('", ("pattern",)),
        ("--rule", "[[rule]]\nname='jwt'\nanchor='abc'\npattern='abc'", ("name",)),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, option: str, text: str, words: Sequence[str]) -> None:
    (tmp_path / "core").write_bytes(heap_core(b"x"))
    (tmp_path / "file").write_text(text)
    assert_usage(corefilt("scrub", tmp_path / "core", "-o", tmp_path / "out", option, tmp_path / "file"), *words)
    assert not (tmp_path / "out").exists()


def first_stack(arguments: Sequence[bytes], environment: Sequence[bytes], auxv: dict[int, int]) -> tuple[bytes, int]:
    """The end of a stack as the kernel leaves it to a new process (ELF64), and AT_RANDOM's address in it."""
    strings = [*arguments, *environment]
    blob = b"".join(text + b"\0" for text in strings)
    top = STACK + 4 * PAGE
    base = top - len(blob) - 8
    random = (base - 32) & ~15
    where, at = [], base
    for text in strings:
        where.append(at)
        at += len(text) + 1
    pairs = {**auxv, 25: random, 0: 0}
    count = len(arguments)
    numbers = [count, *where[:count], 0, *where[count:], 0]
    numbers += [number for pair in pairs.items() for number in pair]
    raw = struct.pack(f"<{len(numbers)}Q", *numbers)
    start = (random - len(raw)) & ~15
    data = bytearray(4 * PAGE)
    data[start - STACK : start - STACK + len(raw)] = raw
    data[base - STACK : base - STACK + len(blob)] = blob
    return bytes(data), random


def test_level_env(tmp_path: Path) -> None:
    value = some(18)
    entries = [b"PATH=/usr/bin:/bin", f"DEPLOY_ID={value}".encode(), b"EMPTY="]
    arguments = [b"/usr/bin/app", b"--name", b"plain argument"]
    vector = {33: 0x7FFC10000000, 6: 4096}
    stack, random = first_stack(arguments, entries, vector)
    notes = kernel_notes()
    notes[1] = Note("CORE", notes[1].type, notes[1].desc[:-80] + b"/usr/bin/app --name plain".ljust(80, b"\0"))
    notes[3] = nt_auxv({**vector, 25: random})
    core = make_core([Load(HEAP, memory(value.encode())), Load(STACK, stack)], notes)
    assert Scrubbed(tmp_path, core).ranges == []
    done = Scrubbed(tmp_path, core, "--level", "env")
    for text in (*arguments, value.encode(), b"/usr/bin:/bin"):
        assert text not in done.out
    assert b"PATH=XXXXXXXXXXXXX\0" in done.out
    assert sum(r["address"] is None for r in done.ranges) == 1
    assert any(int(r["address"] or "0", 16) < STACK for r in done.ranges if r["copy_of"])


def test_level_stacks(tmp_path: Path) -> None:
    words = [7, HEAP + 16, 0x0123456789ABCDEF, (1 << 64) - 1, STACK + 8, 0xFEDCBA9876543210]
    data = struct.pack(f"<{len(words)}Q", *words).ljust(PAGE, b"\0")
    registers = bytes(range(1, 255)) * 3
    notes = [
        *kernel_notes(stack_pointers=[STACK + 64]),
        Note("CORE", 2, registers[:512]),
        Note("LINUX", 0x202, registers),
    ]
    core = make_core([Load(HEAP, memory(b"x")), Load(STACK, data)], notes)
    done = Scrubbed(tmp_path, core, "--level", "stacks")
    found = struct.unpack_from(f"<{len(words)}Q", payload_at(done.out, STACK, 8 * len(words)))
    fill = int.from_bytes(b"XXXXXXXX", "little")
    assert list(found) == [7, HEAP + 16, fill, (1 << 64) - 1, STACK + 8, fill]
    assert registers[32:416] not in done.out and registers[:32] in done.out and registers[416:512] in done.out
    assert done.report["totals"]["vector-registers"]["matches"] == 3
    arm = tmp_path / "arm"
    arm.write_bytes(make_core([Load(HEAP, memory(b"x"))], kernel_notes(machine=EM_AARCH64), machine=EM_AARCH64))
    assert_error(corefilt("scrub", arm, "-o", tmp_path / "no", "--level", "stacks"), "x86-64", "AArch64")
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("options", [(), ("--filter", "0x33"), ("--minimal",), ("--fit", "48K")], ids=str)
def test_filters_go_with_it(tmp_path: Path, options: tuple[str, ...]) -> None:
    token = ("gh" + "p_" + some(36)).encode()
    loads = [Load(HEAP + n * 0x100000, memory(b"x", token, least=2 * PAGE)) for n in range(6)]
    loads.append(Load(STACK, memory(token)))
    shared = FileEntry(HEAP, HEAP + 2 * PAGE, 0, "/srv/table")
    notes = kernel_notes([shared], stack_pointers=[STACK + 64])
    done = Scrubbed(tmp_path, make_core(loads, notes), *options)
    assert token not in done.out
    kept = done.out.count(b"X" * 40)
    assert len(done.ranges) == kept > 0
    for each in done.ranges:
        assert done.out[each["offset"] : each["offset"] + each["length"]] == b"X" * 40


def test_a_scrubbed_core_says_so_and_has_nothing_left(tmp_path: Path, planted: list[Planted]) -> None:
    done = Scrubbed(tmp_path, heap_core(*(each.text for each in planted)))
    told = corefilt("inspect", done.out_path)
    assert f"level secrets, rules of version {RULES_VERSION}".encode() in told.out + "\n".join(told.err).encode()
    again = Scrubbed(tmp_path, done.out)
    assert again.ranges == []


def test_the_proof_fails_for_every_byte_outside(tmp_path: Path) -> None:
    token = ("gh" + "p_" + some(36)).encode()
    done = Scrubbed(tmp_path, heap_core(token, b"kept"))
    listed = done.ranges[0]
    start, end = listed["offset"], listed["offset"] + listed["length"]
    for at in (start - 1, end, start - 30, end + 1000, 0x10, 80):
        changed = bytearray(done.out)
        changed[at] ^= 1
        done.out_path.write_bytes(changed)
        assert corefilt("verify", done.path, done.out_path, "--scrubbed", done.list).code == 4, at
    for at in (start, end - 1):
        changed = bytearray(done.out)
        changed[at] = 0x59
        done.out_path.write_bytes(changed)
        done.prove("fill (text)")
    # The original in a listed range is no fill either.
    changed = bytearray(done.out)
    changed[start:end] = token
    done.out_path.write_bytes(changed)
    done.prove("fill (text)")
    done.out_path.write_bytes(done.out)
    for key, value, word in (
        ("address", "0x1000", "another address"), ("offset", 3, "in no segment"), ("fill", "zeros", "fill (zeros)"),
        ("length", listed["length"] - 1, "bytes differ"),
    ):  # fmt: skip
        report = {**done.report, "ranges": [{**listed, key: value}]}
        done.list.write_text(json.dumps(report))
        assert word in corefilt("verify", done.path, done.out_path, "--scrubbed", done.list).out.decode(), key
    done.list.write_text(json.dumps({**done.report, "level": "env"}))
    done.prove("no COREFILT note")
    done.list.write_text("[]")
    assert_error(
        corefilt("verify", done.path, done.out_path, "--scrubbed", done.list), "not a report by corefilt scrub"
    )


def test_the_command(tmp_path: Path) -> None:
    path, out = tmp_path / "core", tmp_path / "out"
    path.write_bytes(heap_core(b"password=" + some(16).encode()))
    assert_usage(corefilt("scrub"), "CORE")
    assert_usage(corefilt("scrub", path), "-o OUT")
    assert_usage(corefilt("scrub", path, "-o", out, "--level", "all"), "--level")
    assert_error(corefilt("scrub", path, "-o", path, "-f"), "the input itself")
    listed = corefilt("scrub", "--list-rules").out.decode()
    assert all(f"  {name} " in listed for name in [rule.name for rule in RULES] + [name for name, _ in OTHERS])
    tried = corefilt("scrub", path, "-n", "--report", "-")
    assert tried.code == 0 and not out.exists()
    assert json.loads(tried.out)["totals"] == {"pair": {"matches": 1, "copies": 0, "bytes": 16}}
    assert corefilt("scrub", path, "-o", out, "-q").err == ()
    assert_error(corefilt("scrub", path, "-o", out), "exists")
    streamed = corefilt("scrub", "-", "-o", "-", pipe=path.read_bytes())
    assert streamed.out == out.read_bytes()
    packed = tmp_path / "out.gz"
    assert corefilt("scrub", path, "-o", packed).code == 0
    assert corefilt("scrub", packed, "-n").code == 0


def test_a_byte_that_two_rules_find_counts_once(tmp_path: Path) -> None:
    """In the summary, in the report, and in what verify says; the note is as long in all."""
    token = b"ghp_" + some(36).encode()
    (tmp_path / "secrets").write_bytes(token)
    done = Scrubbed(tmp_path, heap_core(b"token=" + token + b"\n"), "--secret-file", tmp_path / "secrets")
    assert sum(r["length"] for r in done.ranges) > len(token) == done.report["overwritten_bytes"]
    assert any(f"{counted(len(done.ranges), 'range')} overwritten (40 B)" in line for line in done.said), done.said
    told = corefilt("verify", done.path, done.out_path, "--scrubbed", done.list).out.decode()
    assert "but 40 bytes that the report lists" in told
    assert "of corefilt scrub of 4096 bytes is new" in told
    assert any("a COREFILT note of 4096 bytes" in line for line in done.said)


def test_archives(tmp_path: Path) -> None:
    tokens = [("gh" + "p_" + some(36)).encode() for _ in range(2)]
    (tmp_path / "in").mkdir()
    for n, token in enumerate(tokens):
        (tmp_path / "in" / f"core.{n}").write_bytes(heap_core(token))
    command = ("batch", "all", tmp_path / "in", "--scrub", "secrets", "--to", tmp_path / "to", "--no-sync")
    assert corefilt(*command, "--verify").code == 0
    for n, token in enumerate(tokens):
        assert token not in (tmp_path / "to" / f"core.{n}").read_bytes()
        pair = (tmp_path / "in" / f"core.{n}", tmp_path / "to" / f"core.{n}")
        listed = tmp_path / "to" / f"core.{n}.scrubbed.json"
        assert corefilt("verify", *pair, "--scrubbed", listed).code == 0
    again = corefilt(*command, "--json")
    assert again.code == 0 and b'"unchanged"' in again.out
    assert_usage(corefilt("batch", "all", tmp_path / "in", "--scrub", "env", "--replace"), "--scrub", "--replace")
    assert_usage(corefilt("batch", "all", tmp_path / "in", "--scrub", "env", "--to", "s3://x/y"), "URL")
    # A report that stands there is somebody's.
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "core.0.scrubbed.json").write_text("{}")
    done = corefilt("batch", "all", tmp_path / "in" / "core.0", "--scrub", "secrets", "--to", tmp_path / "other")
    assert done.code == 4 and not (tmp_path / "other" / "core.0").exists()
