"""Calls that type-check under mypy --strict, and what they give. Never run; see test_typed.py."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import assert_type

import corefilt
from corefilt.errors import UsageError

report = corefilt.filter("core", "out", filter=0x33)
assert_type(report, corefilt.Report)
assert_type(report.kept_bytes, int)
assert_type(report.input_bytes, int | None)
assert_type(report.warnings, list[str])
assert_type(report.as_dict(), dict[str, object])
corefilt.filter(Path("core"), b"out", filter="default,-shared-anonymous", assume=["*/data=shared-file-backed"])
corefilt.filter(0, 1, filter=corefilt.CoredumpFilter.DEFAULT, fit="16M", ladder=["0x3f", "0x33"], strict=True)
with open("core", "rb") as source, open("out", "wb") as output:
    corefilt.filter(source, output, filter=0x1FF, annotate=True, sysroot="/", pid=os.getpid(), threads=2)
corefilt.filter("core", filter="all", name="core.%e", directory="/var/tmp", values={"h": "web1"})

with corefilt.open("core", spool=True, max_headers="64M") as core:
    assert_type(core, corefilt.Core)
    assert_type(core.mappings, Sequence[corefilt.Mapping])
    for mapping in core.mappings:
        assert_type(mapping.start, int)
        assert_type(mapping.path, bytes | None)
        assert_type(mapping.evidence, tuple[str, ...])
    plan = core.plan("0x31", unknown="guess", maps="auto")
    assert_type(plan, corefilt.Plan)
    assert_type(plan.kept(0), int)
    assert_type(plan.write("planned", engine="readwrite", sync=False), corefilt.Report)

assert_type(corefilt.CoredumpFilter.ALL & ~corefilt.CoredumpFilter.SHARED_DAX, corefilt.CoredumpFilter)
error: corefilt.CorefiltError = UsageError("what", "try")
assert_type(error.exit_code, int)
