"""manifest.json: what is written is read again, and a lie in it ends in one line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from corefilt.bundle.manifest import (
    FOUND,
    MISMATCHED,
    MISSING,
    MOST_OF_MANIFEST,
    OBJECT,
    SCRIPT,
    UNVERIFIED,
    BundledFile,
    BundleManifest,
    decode_manifest,
    lacking,
)
from corefilt.errors import BundleError

FILES = (
    BundledFile(b"/usr/bin/x", OBJECT, FOUND, b"\1\2", size=7, package="x", version="1:2-3"),
    BundledFile(b"/usr/lib/\xff\n\"'.so", OBJECT, MISMATCHED, b"\1", b"\2", reason="has build-id 02"),
    BundledFile(b"/usr/lib/y.so", OBJECT, MISSING, b"\3", reason="is not there"),
    BundledFile(b"/usr/lib/y.py", SCRIPT, UNVERIFIED, size=0),
)


def test_a_manifest_is_read_as_it_was_written() -> None:
    made = BundleManifest(1 << 40, b"/usr/bin/x", FILES)
    assert decode_manifest(made.encoded(), "b") == made
    assert len(made.encoded()) < MOST_OF_MANIFEST
    assert decode_manifest(BundleManifest(0, None, ()).encoded(), "b").executable is None


def test_what_is_lacking() -> None:
    assert [file.path for file in lacking(FILES)] == [FILES[1].path, FILES[2].path]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "zip"}, "format"),
        ({"version": 2}, "version"),
        ({"more": 1}, "more: no such key"),
        ({"files": 1}, "files"),
        ({"files": [1]}, "files[0]"),
        ({"files": [{}]}, "path"),
        ({"core_size": -1}, "core_size"),
        ({"core_size": 1 << 64}, "core_size"),
        ({"executable": ""}, "executable"),
    ],
)
def test_a_manifest_that_lies(change: dict[str, Any], words: str) -> None:
    value = json.loads(BundleManifest(1, None, FILES).encoded())
    with pytest.raises(BundleError) as caught:
        decode_manifest(json.dumps({**value, **change}).encode(), "b")
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("path", 1), ("role", "virus"), ("status", "fine"), ("build_id", "zz"), ("size", -1), ("path_bytes", "f")],
)
def test_a_file_that_lies(key: str, value: object) -> None:
    made = json.loads(BundleManifest(1, None, FILES).encoded())
    made["files"][0][key] = value
    with pytest.raises(BundleError, match=r"files\[0\]"):
        decode_manifest(json.dumps(made).encode(), "b")


@pytest.mark.parametrize("raw", [b"", b"\xff", b"{", b"[]", b"null", b"[" * 100_000])
def test_what_is_no_manifest(raw: bytes) -> None:
    with pytest.raises(BundleError):
        decode_manifest(raw, "b")
