"""Names by a template of core_pattern, from what a finished core tells; the kernel's own names are in tests/kernel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.builder import EM_68K, EM_386, EM_RISCV, Load, kernel_notes, make_core, nt_prstatus, page
from support.run import assert_error, assert_usage, corefilt
from support.samples import PAGE

import corefilt as api
from corefilt.errors import CorefiltError, NameTemplateError, OutputError, UsageError
from corefilt.filtering.naming import Naming, parse_given
from corefilt.procfs.core_pattern import MOST_OF_A_PATTERN, arguments, as_kept, check_template, escaped, expand

A, TEXT = 0x10000000, 0x400000
SHAPES = [(64, True, 62), (64, False, 21), (32, True, EM_386), (32, False, EM_68K), (32, True, EM_RISCV)]
AT_PHDR, AT_ENTRY = 3, 9


def named_core(bits: int = 64, little_endian: bool = True, machine: int = 62, **options: object) -> bytes:
    files = [(TEXT, TEXT + PAGE, 0, "/usr/bin/a tool"), (A, A + PAGE, 0, "/lib/other.so")]
    shape = {"bits": bits, "little_endian": little_endian, "machine": machine}
    options.setdefault("auxv", {AT_PHDR: TEXT + 64, AT_ENTRY: A + 8})
    notes = kernel_notes(files, **shape, **options)  # type: ignore[arg-type]
    return make_core([Load(TEXT, page(b"x"), flags="r-x"), Load(A, page(b"y"))], notes, **shape)  # type: ignore[arg-type]


def name_of(core: bytes, template: str, folder: Path, **options: object) -> str:
    """Return the name that the template gave, below the folder."""
    source, target = folder / "the-core", folder / "named"
    source.write_bytes(core)
    os.utime(source, (1_600_000_000, 1_600_000_000.9))
    target.mkdir(exist_ok=True)
    report = api.filter(source, filter="all", name=template, directory=str(target), **options)  # type: ignore[arg-type]
    assert report.output == str(target / next(iter(os.listdir(target))))
    return os.path.relpath(report.output, target)


@pytest.mark.parametrize(("bits", "little_endian", "machine"), SHAPES)
def test_what_a_core_tells(bits: int, little_endian: bool, machine: int, tmp_path: Path) -> None:
    core = named_core(bits, little_endian, machine)
    name = name_of(core, "%p.%i.%u.%g.%s.%t.%e.%f.%E.%%.%F.%z.x%", tmp_path)
    assert name == "4242.4242.0.0.6.1600000000.victim.a tool.!usr!bin!a tool.%...x"


@pytest.mark.parametrize("letter", "PIdhcC")
def test_what_no_core_tells_is_an_error_unless_given(letter: str, tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(named_core())
    template = f"c.%{letter}"
    with pytest.raises(NameTemplateError, match=f"does not tell what %{letter} is") as caught:
        api.filter(tmp_path / "core", filter="all", name=template, directory=str(tmp_path))
    assert caught.value.hint == f"values={{{letter!r}: 'VALUE'}} sets it"
    done = corefilt("all", tmp_path / "core", "--name", template, "--directory", tmp_path, "--set", f"{letter}=1")
    assert (done.code, (tmp_path / "c.1").exists()) == (0, True)


def test_a_pipe_does_not_tell_when(tmp_path: Path) -> None:
    done = corefilt("all", "--name", "c.%t", "--directory", tmp_path, pipe=named_core())
    assert_error(done, "does not tell what %t is", "--set t=VALUE", code=2)
    done = corefilt("all", "--name", "c.%t.%p", "--directory", tmp_path, "--set", "t=7", pipe=named_core())
    assert (done.code, os.listdir(tmp_path)) == (0, ["c.7.4242"])


def test_the_executable_by_its_entry_where_the_headers_are_not_mapped(tmp_path: Path) -> None:
    assert name_of(named_core(auxv={AT_PHDR: 0x99, AT_ENTRY: TEXT + 9}), "%f", tmp_path) == "a tool"


def test_a_core_without_files_has_no_executable(tmp_path: Path) -> None:
    core = make_core([Load(A, page(b"y"))], kernel_notes(None, {AT_PHDR: A}))
    for letter in "fE":
        with pytest.raises(NameTemplateError, match=f"%{letter}"):
            name_of(core, f"%{letter}", tmp_path)


def test_notes_of_no_known_size_tell_nothing(tmp_path: Path) -> None:
    core = make_core([Load(A, page(b"y"))], [nt_prstatus(7)])
    for letter in "pue":
        with pytest.raises(NameTemplateError, match=f"%{letter}"):
            name_of(core, f"x%{letter}", tmp_path)
    assert name_of(core, "%i.%s", tmp_path) == "7.6"


@pytest.mark.parametrize(
    ("threads", "uses_pid", "template", "name"),
    [
        (1, "no", "core", "core"),
        (1, "yes", "core", "core.4242"),
        (1, "yes", "c.%p", "c.4242"),
        (1, "yes", "c%", "c.4242"),
        (1, "threads", "core", "core"),
        (3, "threads", "core", "core.4242"),
        (3, "threads", "c.%p.x", "c.4242.x"),
        (300, "threads", "core", "core.4242"),
    ],
)
def test_the_process_at_the_end(threads: int, uses_pid: str, template: str, name: str, tmp_path: Path) -> None:
    assert name_of(named_core(threads=threads), template, tmp_path, uses_pid=uses_pid) == name


# --- templates --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "safe"),
    [(b"", b"!"), (b".", b"!"), (b"..", b"!."), (b"...", b"..."), (b"a/b", b"a!b"), (b"/", b"!"), (b"x\n", b"x\n")],
)
def test_values_never_leave_their_folder(value: bytes, safe: bytes) -> None:
    assert escaped(value) == safe
    assert expand(b"z%e", lambda letter: value) == b"z" + safe


def test_numbers_and_literal_text_are_not_escaped() -> None:
    assert expand(b"a/%p/%q.%%", lambda letter: b"..") == b"a/../.%"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (b"", "empty"),
        (b"|/bin/cat", "names a program"),
        (b"@/run/x", "names a socket"),
        (b"x" * (MOST_OF_A_PATTERN + 1), "has 128 bytes, and the kernel keeps 127"),
        (b"a\nb", "newline"),
        (b"a\0b", "zero byte"),
    ],
)
def test_templates_that_name_no_file(template: bytes, words: str) -> None:
    with pytest.raises(NameTemplateError, match=words):
        check_template(template)


def test_what_the_kernel_keeps_of_a_line() -> None:
    assert as_kept(b"a\nb") == as_kept(b"a\0b") == b"a"
    assert as_kept(b"y" * 200) == b"y" * MOST_OF_A_PATTERN
    check_template(b"y" * MOST_OF_A_PATTERN)


def test_no_value_adds_an_argument() -> None:
    values = {"e": b"a b\tc", "p": b"1", "F": b""}
    assert arguments(b"|/x  %e\t%p%% '%e' %F ", values.__getitem__) == [b"/x", b"a b\tc", b"1%", b"'a b\tc'", b""]


# --- the command line -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--name", "c", "-o", "x"), "--name and -o both name the output"),
        (("--name", "c", "-i"), "--name and -i both name the output"),
        (("--directory", "d"), "go with --name"),
        (("--set", "h=x"), "go with --name"),
        (("--uses-pid", "yes"), "go with --name"),
        (("--name", "c", "--uses-pid", "maybe"), "no, yes, threads"),
        (("--name", "/x/c", "--directory", "d"), "names its directory itself"),
        (("--name", "c", "--set", "h"), "has no value"),
        (("--name", "c", "--set", "z=1"), "unknown specifier 'z'"),
        (("--name", "c", "--set", "p=x"), "is a number, not 'x'"),
        (("--name", "c", "--set", "d=3"), "dump modes are 0, 1 and 2"),
        (("--name", "|x"), "names a program"),
        (("--name", "%"), "gives no name"),
        (("--name", "c/"), "which is a directory"),
    ],
)
def test_what_cannot_be_meant(args: tuple[str, ...], words: str, core: Path) -> None:
    before = sorted(core.parent.iterdir())
    assert_usage(corefilt("all", core, *args, cwd=core.parent), words)
    assert sorted(core.parent.iterdir()) == before


def test_the_name_is_told_and_may_be_found_out_first(tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(named_core())
    done = corefilt("all", tmp_path / "core", "--name", "c.%p", "-n", cwd=tmp_path)
    assert done.code == 0
    assert "  note: its name would be c.4242" in done.err
    assert os.listdir(tmp_path) == ["core"]
    assert corefilt("all", tmp_path / "core", "--name", "c.%p", cwd=tmp_path).code == 0
    assert (tmp_path / "c.4242").stat().st_mode & 0o7777 == 0o600
    assert_error(corefilt("all", tmp_path / "core", "--name", "c.%p", cwd=tmp_path), "c.4242: exists", "-f replaces it")


def test_values_may_come_with_their_percent_sign() -> None:
    assert parse_given(["%h=a=b", "u=1"]) == {"h": "a=b", "u": "1"}
    with pytest.raises(NameTemplateError, match="zero byte"):
        Naming("%h", given={"h": "a\0b"})


@pytest.mark.parametrize(("mode", "name", "words"), [("0", "/x/c", "dump mode 0"), ("2", "c", "relative name")])
def test_dump_modes_that_leave_no_core(mode: str, name: str, words: str, core: Path) -> None:
    assert_error(corefilt("all", core, "--name", name, "--set", f"d={mode}", cwd=core.parent), words)


def test_the_input_is_never_replaced(core: Path) -> None:
    with pytest.raises(OutputError, match="is the input itself"):
        api.filter(core, filter="all", name=core.name, directory=str(core.parent), force=True)


def test_from_python_either_a_place_or_a_name(core: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="missing output"):
        api.filter(core, filter="all")
    with pytest.raises(UsageError, match="both name the output"):
        api.filter(core, tmp_path / "out", filter="all", name="c")
    with pytest.raises(CorefiltError, match="its directory does not exist"):
        api.filter(core, filter="all", name="missing/c", directory=str(tmp_path))
