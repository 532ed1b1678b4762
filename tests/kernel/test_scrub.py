"""Real programs with secrets of this run in their memory: how many copies are gone, and that gdb shows the same."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from kernel.crashing import need_system
from kernel.programs import CannotStartError
from kernel.scrubbing import PROGRAMS
from support.planted import forms
from support.run import corefilt

pytestmark = pytest.mark.slow
MOST_FALSE_A_GB = 20


def copies(data: bytes, secrets: Iterable[bytes]) -> int:
    """Count the places where secrets stand, in any form."""
    return sum(data.count(form) for secret in secrets for form in {form for _, form in forms(secret)})


def strangers(raw: bytes, told: dict[str, Any], planted: dict[str, list[bytes]]) -> list[tuple[str, bytes]]:
    """What is overwritten in a core and has nothing of the secrets in it; openssl has keys of its own in its data."""
    known = set(planted.get("numbers", ()))
    known |= {
        form for secrets in planted.values() for secret in secrets if secret.isascii() for _, form in forms(secret)
    }
    pieces = {form[at : at + 8] for form in known for at in range(max(len(form) - 7, 1))}
    shift, found = told["output_bytes"] - len(raw), []
    for entry in told["ranges"]:
        at = entry["offset"] - shift
        text = raw[at : at + entry["length"]]
        if not entry["rule"].startswith("private-key") and not any(
            text[k : k + 8] in pieces for k in range(max(len(text) - 7, 1))
        ):
            found.append((entry["rule"], text))
    return found


def dense(core: Path) -> bytes:
    """Read a core without its pages of zeros, so that counting is quick."""
    raw, zeros = core.read_bytes(), bytes(4096)
    pages = (raw[at : at + 4096] for at in range(0, len(raw), 4096))
    return b"".join(page for page in pages if page != zeros)


def backtrace(program: str, core: Path, *, full: bool) -> list[str]:
    """Return what gdb shows of all threads, behind the command line, which can have several lines."""
    command = ["gdb", "-batch", "-nx", "-q", "-ex", "set print thread-events off"]
    command += ["-ex", "thread apply all bt full" if full else "thread apply all bt", program, str(core)]
    told = subprocess.run(command, capture_output=True, check=False).stdout.decode("utf-8", "backslashreplace")
    lines = told[told.index("\nThread ") :].splitlines()
    return [re.sub(r"\(.*", "", line) for line in lines if line.startswith("#")] if not full else lines


@pytest.mark.parametrize("name", PROGRAMS)
def test_secrets_are_gone_and_backtraces_stay(name: str, tmp_path: Path) -> None:
    need_system()
    try:
        program, core, planted = PROGRAMS[name](tmp_path)
    except CannotStartError as error:
        pytest.skip(str(error))
    (tmp_path / "values").write_bytes(b"\n".join(planted.get("literals", ())) + b"\n")
    before, counted = dense(core), {}
    shown = {full: backtrace(program, core, full=full) for full in (True, False)} if shutil.which("gdb") else {}
    for level in ("secrets", "env", "stacks"):
        out, report = tmp_path / f"out.{level}", tmp_path / f"report.{level}"
        options = ("--secret-file", tmp_path / "values") if planted.get("literals") else ()
        done = corefilt("scrub", core, "-o", out, "--level", level, "--report", report, "--no-sync", *options)
        assert done.code == 0, done.err
        proved = corefilt("verify", core, out, "--scrubbed", report)
        assert proved.code == 0, proved.out
        after = dense(out)
        for kind, secrets in planted.items():
            if kind == "numbers":
                was, now = (sum(data.count(raw) for raw in secrets) for data in (before, after))
            else:
                was, now = copies(before, secrets), copies(after, secrets)
            counted[level, kind] = was, now
            assert was, kind
            assert was - now >= (0.91 if kind == "keywords" else 1) * was, (level, kind, was, now)
        if level == "secrets":
            strays = strangers(core.read_bytes(), json.loads(report.read_text()), planted)
            assert len(strays) <= MOST_FALSE_A_GB * len(before) / 1e9, strays
        if shown and level != "stacks":
            lines = list(zip(shown[True], backtrace(program, out, full=True), strict=True))
            assert all(_same(a, b) for a, b in lines), [pair for pair in lines if not _same(*pair)][:3]
        elif shown:
            assert backtrace(program, out, full=False) == shown[False]
    print(name, len(before), counted, {r: t["matches"] for r, t in json.loads(report.read_text())["totals"].items()})


def _same(before: str, after: str) -> bool:
    """Whether a line is the same but for characters that became X, in text or as numbers of it."""
    if before == after:
        return True
    words = [re.split(r"[^\w.$/+=~%@:;{}-]+", line) for line in (before, after)]
    changed = [b for a, b in zip(*words, strict=False) if a != b]
    return bool(changed) and all("XX" in word or "5858" in word or word == "88" for word in changed)
