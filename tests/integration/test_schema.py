"""The JSON of every command fits the schema that is in the package, and docs/json.md says what each key is."""

from __future__ import annotations

import gzip
import json
import os
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from support.builder import FileEntry, Load, kernel_notes, make_core, page
from support.bundles import system
from support.pages import ROOT
from support.run import corefilt
from support.samples import ANON, sample_core

from corefilt.plan.fit.runtimes.scene import Walk

SCHEMA: dict[str, Any] = json.loads(files("corefilt.cli").joinpath("schema.json").read_text())


def check(name: str, out: bytes) -> Any:
    """Hold one JSON text against the definition of a command."""
    report = json.loads(out)
    validator = Draft202012Validator({**SCHEMA, "anyOf": [{"$ref": f"#/$defs/{name}"}]})
    errors = [
        f"{'/'.join(map(str, error.absolute_path))}: {error.message[:200]}" for error in validator.iter_errors(report)
    ]
    assert not errors, errors[:5]
    return report


@pytest.fixture
def core(tmp_path: Path) -> Path:
    path = tmp_path / "core"
    path.write_bytes(sample_core())
    return path


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert {"filter", "inspect", "verify", "batch", "digest", "error"} <= SCHEMA["$defs"].keys()


@pytest.mark.parametrize("more", [(), ("--unknown", "drop"), ("--minimal",), ("--truncate", "20K")], ids=str)
def test_filter(more: tuple[str, ...], core: Path) -> None:
    check("filter", corefilt("0x31", core, "-o", core.with_name("out"), "--json", *more).out)
    check("filter", corefilt("0x31", core, "-n", "--json", *more).out)


def test_what_fit_chose(core: Path) -> None:
    """Of a size that fits everything, of one that does not, and of a ladder."""

    def chosen(*options: str) -> dict[str, Any]:
        found: dict[str, Any] = check("filter", corefilt("all", core, "-n", "--json", *options).out)["fit"]
        return found

    assert chosen("--minimal")["smallest"]
    assert chosen("--fit", "60K", "--fit-allocated", "--unreadable")["cut_bytes"]
    whole = chosen("--fit", "1M", "--ladder", "0x33,minimal")
    assert (whole["rung"], whole["smallest"], whole["cut"]) == (None, None, {})
    assert chosen("--fit", "60K", "--ladder", "0x0,minimal")["rung"]
    walk = Walk("go")
    walk.reason = "its version is unknown"
    validator = Draft202012Validator({**SCHEMA, "anyOf": [{"$ref": "#/$defs/runtime"}]})
    assert validator.is_valid(walk.as_dict()) and not validator.is_valid({**walk.as_dict(), "name": "perl"})


@pytest.mark.parametrize("more", [(), ("--filter", "0x1"), (hex(ANON), "0x10"), ("--kind", "special")], ids=str)
def test_inspect(more: tuple[str, ...], core: Path) -> None:
    report = check("inspect", corefilt("inspect", core, "--json", *more).out)
    everything = check("inspect", corefilt("inspect", core, "--json").out)["mappings"]
    assert (len(report["mappings"]) == len(everything)) == (not more or more[0] == "--filter")


def test_inspect_of_damaged_and_odd_cores(core: Path, tmp_path: Path) -> None:
    core.write_bytes(core.read_bytes()[:-5000])
    report = check("inspect", corefilt("inspect", core, "--json").out)
    assert any("missing" in mapping for mapping in report["mappings"])
    odd = os.fsencode(tmp_path) + b"/odd\xff"
    with open(odd, "wb") as file:
        file.write(make_core([Load(ANON, page(b"x"))], kernel_notes([FileEntry(ANON, ANON + 4096, 0, b"/t\xff")])))
    report = check("inspect", corefilt("inspect", os.fsdecode(odd), "--json").out)
    assert report["mappings"][0]["path_bytes"] == b"/t\xff".hex()
    passed = check("inspect", corefilt("inspect", "-", "--json", pipe=sample_core()).out)
    assert (passed["input_bytes"], passed["modules"], passed["identity"]["threads"]) == (None, None, None)


def test_verify(core: Path) -> None:
    small = core.with_name("small")
    assert corefilt("0x31", core, "-o", small).code == 0
    assert check("verify", corefilt("verify", core, small, "--filter", "0x31", "--json").out)["holds"]
    raw = bytearray(small.read_bytes())
    raw[-1] ^= 1
    small.write_bytes(raw)
    assert check("verify", corefilt("verify", core, small, "--json").out)["findings"]


def test_verify_of_scrubbed_and_of_damaged_cores(core: Path) -> None:
    clean, listed, packed = (core.with_name(name) for name in ("clean", "listed", "core.gz"))
    assert corefilt("scrub", core, "-o", clean, "--report", listed).code == 0
    assert "overwritten_bytes" in check("verify", corefilt("verify", core, clean, "--scrubbed", listed, "--json").out)
    packed.write_bytes(gzip.compress(core.read_bytes()) + b"behind")
    assert check("verify", corefilt("verify", packed, core, "--json").out)["damage"]


def test_digest(core: Path) -> None:
    assert check("digest", corefilt("digest", core, "--json").out)["segments"]


def test_bundle(tmp_path: Path) -> None:
    """A bundle with a file that is there, and one whose path is not UTF-8 and is not."""
    core, root = system(tmp_path)
    out = tmp_path / "out"
    assert check("bundle", corefilt("bundle", core, "-o", out, "--sysroot", root, "--json").out)["found"] == 1
    core.write_bytes(
        make_core([Load(ANON, page(b"x"), flags="r-x")], kernel_notes([FileEntry(ANON, ANON + 4096, 0, b"/t\xff")]))
    )
    done = corefilt("bundle", core, "-o", out, "-f", "--sysroot", root, "--json")
    assert done.code in (0, 4)
    check("bundle", done.out)


def test_batch(core: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    (archive / "core").write_bytes(sample_core())
    (archive / "cut").write_bytes(sample_core()[:-1])
    (archive / "torn").write_bytes(sample_core()[:100])
    (archive / "text").write_bytes(b"a text")
    lines = corefilt("batch", "0x31", archive, "--to", tmp_path / "out", "--json").out.splitlines()
    assert {check("batch", line)["status"] for line in lines} == {"filtered", "failed", "skipped"}


def test_a_failure(core: Path) -> None:
    for args in (["0x31", core.with_name("none"), "-n"], ["inspect", core.with_name("none")], ["verify", core, "none"]):
        check("error", corefilt(*args, "--json").out)


# The heading of each definition on the page; those of the commands begin with the command.
HEADINGS = {
    "filter": "`corefilt FILTER --json`",
    "inspect": "`corefilt inspect --json`",
    "verify": "`corefilt verify --json`",
    "batch": "`corefilt batch --json`, each line",
    "list": "`corefilt list --json`",
    "digest": "`corefilt digest --json`",
    "bundle": "`corefilt bundle --json`",
    "bundled_file": "bundled file",
    "crash_summary": "crash",
    "fit": "fit",
    "runtime": "runtime",
    "mapping": "mapping",
    "identity": "identity",
    "module": "module",
    "sum": "sum",
    "address": "address",
}


def test_every_definition_has_its_table() -> None:
    others = {"error", "inspected_mapping"}
    assert HEADINGS.keys() == {name for name, one in SCHEMA["$defs"].items() if "properties" in one} - others


@pytest.mark.parametrize("name", HEADINGS)
def test_the_page_says_of_each_key_what_the_schema_says(name: str) -> None:
    """Each row begins with the schema's description; values and links may follow."""
    text = (ROOT / "docs" / "json.md").read_text()
    section = text.partition(f"\n## {HEADINGS[name]}\n")[2].partition("\n## ")[0]
    definition = SCHEMA["$defs"][name]
    rows = re.findall(r"^\| `(\w+)`( \(optional\))? \| (.*?) ?\|$", section, re.MULTILINE)
    assert [key for key, _, _ in rows] == list(definition["properties"])
    for key, optional, meaning in rows:
        described = definition["properties"][key]["description"]
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", meaning)
        assert described and plain.startswith(described), key
        assert bool(optional) == (key not in definition["required"]), key
