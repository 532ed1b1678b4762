"""The command line: its options, its exit codes, closed streams, the progress bar, and what a run loads."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.builder import Load, kernel_notes, make_core, page
from support.builds import UNTRACED
from support.maps import map_of
from support.run import COREFILT, assert_error, assert_promises, assert_usage, corefilt, environment, finish, start
from support.terminal import told_on_a_terminal

import corefilt as api
from corefilt.cli import COMMANDS, main
from corefilt.cli.options import taken_by
from corefilt.filterbits import ALIASES, NAMES

OPTIONS = {
    "-h", "--help", "-o", "--output", "-f", "--force", "--unknown", "--assume", "--strict", "--sparse", "--engine",
    "--threads", "--cache", "--no-sync", "--spool", "--max-headers", "-n", "--dry-run", "--json", "--progress", "-q",
    "--quiet", "-v", "--verbose", "--version", "--maps", "--pid", "--sysroot", "--annotate", "-i", "--in-place",
    "--compact", "--fit", "--fit-allocated", "--ladder", "--minimal", "--follow", "--truncate", "--format",
    "--loadmaps", "--dumper", "--name", "--directory", "--set", "--uses-pid", "--compress",
    "--compress-threads",
}  # fmt: skip
INSPECT_OPTIONS = {
    "--all", "--top", "--sort", "--kind", "--group-by", "--columns", "--csv", "--modules", "-v", "--verbose",
    "-h", "--help", "--filter", "--assume", "--spool", "--max-headers", "--json", "--version", "--maps", "--pid",
    "--sysroot", "--unknown", "--dumper",
}  # fmt: skip
INSTALL_OPTIONS = {
    "-h",
    "--help",
    "-f",
    "--force",
    "--pipe-limit",
    "--without-seccomp",
    "--socket",
    "-n",
    "--dry-run",
    "--root",
    "--version",
}
UNINSTALL_OPTIONS = {"-h", "--help", "-f", "--force", "-n", "--dry-run", "--root", "--version"}
SERVE_OPTIONS = {"-h", "--help", "--config", "--version"}
STATUS_OPTIONS = {"-h", "--help", "--json", "--root", "--version"}
VERIFY_OPTIONS = {
    "-h", "--help", "--filter", "--assume", "--json", "--version", "--maps", "--pid", "--sysroot", "--dumper",
    "--truncate",
}  # fmt: skip
DIGEST_OPTIONS = {"-h", "--help", "--json", "--version"}
BATCH_OPTIONS = OPTIONS - {
    "-o", "--output", "--pid", "-i", "--in-place", "--compact", "--cache", "--name", "--directory", "--set",
    "--uses-pid", "--maps", "--threads",
} | {
    "--to", "--replace", "--verify", "--writers", "--keep-free", "--shared-once", "--dedupe", "--policy", "--html",
    "--dask", "--evidence", "--jobs",
}  # fmt: skip
RESTORE_OPTIONS = {"-h", "--help", "-q", "--quiet", "--json", "--version"}
DEMO_OPTIONS = {"-h", "--help", "--filter", "--version"}
SHOW_OPTIONS = {"-h", "--help", "--filter", "-v", "--verbose", "--json", "--version"}
DOCTOR_OPTIONS = {"-h", "--help", "--json", "--version"}
SET_OPTIONS = {"-h", "--help", "-q", "--quiet", "--version"}


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Give back the signal handlers that the command line sets."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def said_by(args: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run a command in this process: its exit code, standard output and standard error."""
    try:
        code = main(list(args))
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


# --- options ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ([], OPTIONS),
        (["filter"], OPTIONS),
        (["inspect"], INSPECT_OPTIONS),
        (["install"], INSTALL_OPTIONS),
        (["uninstall"], UNINSTALL_OPTIONS),
        (["serve"], SERVE_OPTIONS),
        (["status"], STATUS_OPTIONS),
        (["demo"], DEMO_OPTIONS),
        (["show"], SHOW_OPTIONS),
        (["set"], SET_OPTIONS),
        (["doctor"], DOCTOR_OPTIONS),
        (["verify"], VERIFY_OPTIONS),
        (["digest"], DIGEST_OPTIONS),
        (["batch"], BATCH_OPTIONS),
        (["restore"], RESTORE_OPTIONS),
    ],
)
def test_help_names_exactly_the_options(
    command: list[str], options: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = said_by([*command, "--help"], capsys)
    assert (code, err) == (0, "")
    listed = [line for line in out.splitlines() if re.match(r"  -", line)]
    named = {name for line in listed for name in re.findall(r"(?:^  |, )(--?[A-Za-z][a-z-]*)", line)}
    assert named >= options | {"-V"}
    flags = {flag for _, record in taken_by((command or ["filter"])[0]) for flag in record.flags}
    assert named == flags | {"-h", "--help", "-V", "--version"}


def test_help_names_the_filters(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = said_by(["--help"], capsys)
    assert not [name for name in NAMES if name not in out]
    assert not [name for name in ("default (0x33)", "all (0x1ff)", "none") if name not in out]
    assert "inspect" in out
    assert "demo" in out


LONG = sorted(name for name in OPTIONS if name.startswith("--"))


@pytest.mark.parametrize("option", LONG)
def test_no_option_can_be_abbreviated(option: str, core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = {"--output": "out", "--unknown": "keep", "--sparse": "auto", "--engine": "auto", "--progress": "never"}
    given = f"={value[option]}" if option in value else ""
    code, out, err = said_by(["0x33", str(core), "-n", option[:-1] + given], capsys)
    assert (code, out) == (2, "")
    assert f"unknown option {option[:-1]}\n" in err


@pytest.mark.parametrize(
    "option",
    [
        "-o",
        "--output",
        "--assume",
        "--max-headers",
        "--unknown",
        "--engine",
        "--sparse",
        "--threads",
        "--cache",
        "--fit",
        "--ladder",
        "--follow",
        "--truncate",
    ],
)
def test_an_option_wants_its_value(option: str, core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said_by(["0x33", str(core), option], capsys)
    assert (code, out) == (2, "")
    assert option in err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--unknown", "toss"),
        ("--sparse", "sometimes"),
        ("--engine", "teleport"),
        ("--progress", "maybe"),
        ("--cache", "toss"),
        ("--threads", "0"),
        ("--threads", "9"),
        ("--threads", "-1"),
        ("--threads", "two"),
        ("--threads", ""),
    ],
)
def test_a_choice_is_one_of_those_listed(
    option: str, value: str, core: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = said_by(["0x33", str(core), option, value], capsys)
    assert (code, out) == (2, "")
    assert repr(value) in err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ([], *([name] for name in COMMANDS if name != "handle")):
        code, out, err = said_by([*command, "--version"], capsys)
        assert (code, out.splitlines()[0], err) == (0, f"corefilt {api.__version__}", "")


@pytest.mark.parametrize("name", ["-0x33", "-33", *(f"-{name}" for name in [*NAMES, *ALIASES])])
def test_a_filter_that_looks_like_an_option_is_refused_with_the_spelling(
    name: str, core: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = said_by([name, str(core)], capsys)
    assert (code, out) == (2, "")
    assert f"filter {name!r} starts with '-'" in err
    assert f"default,{name}" in err
    assert os.listdir(core.parent) == [core.name]


def test_a_filter_that_begins_with_a_sign_in_a_list(core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = said_by(["-private-huge,+elf-headers", str(core)], capsys)
    assert (code, "default,-private-huge,+elf-headers" in err) == (2, True)
    code, _, err = said_by(["+elf-headers", str(core)], capsys)
    assert (code, "none,+elf-headers" in err) == (2, True)
    code, _, err = said_by(["--", "-private-huge", str(core)], capsys)
    assert (code, "default,-private-huge" in err) == (2, True)


@pytest.mark.parametrize(
    "order",
    ["FLT CORE -o OUT", "FLT -o OUT CORE", "-o OUT FLT CORE", "FLT -q CORE -oOUT", "-q FLT --output=OUT CORE"],
)
def test_options_may_stand_before_between_and_behind(order: str, core: Path) -> None:
    out = core.with_name("out")
    words = {"FLT": "0x31", "CORE": str(core), "OUT": str(out), "-oOUT": f"-o{out}", "--output=OUT": f"--output={out}"}
    assert main([words.get(word, word) for word in order.split()]) == 0
    assert_promises(core.read_bytes(), out.read_bytes())


@pytest.mark.parametrize(
    ("args", "words"),
    [
        pytest.param([], "FILTER", id="nothing"),
        pytest.param(["inspekt", "CORE"], "'inspekt' is neither a command nor a filter", id="unknown command"),
        pytest.param(["0x33", "CORE", "more"], "there is more than one CORE: more", id="one too many"),
        pytest.param(["inspect", "CORE", "more"], "address 'more' cannot be read", id="no address to inspect"),
        pytest.param(["inspect", "CORE", "1000"], "could be decimal or hexadecimal", id="which address to inspect"),
        pytest.param(["inspect", "CORE", "0x1" + "0" * 16], "larger than 64 bits", id="too large an address"),
        pytest.param(["inspect", "CORE", "--kind", "heap"], "no kind 'heap'", id="no kind to inspect"),
        pytest.param(["inspect", "CORE", "--columns", "name"], "no column 'name'", id="no column to inspect"),
        pytest.param(
            ["inspect", "CORE", "--top", "few"], "--top 'few' is not a number of rows", id="no number to inspect"
        ),
        pytest.param(["inspect", "CORE", "--all", "--top", "3"], "--all and --top", id="all and some to inspect"),
        pytest.param(
            ["inspect", "CORE", "--modules", "--group-by", "kind"], "--group-by and --modules", id="two lists"
        ),
        pytest.param(["inspect", "CORE", "0x1000", "--csv"], "--csv and ADDRESS", id="an address as CSV"),
        pytest.param(["demo", "more"], "unrecognized arguments: more", id="one too many for the demo"),
        pytest.param(["0x33", "CORE", "--colour"], "unknown option --colour", id="unknown option"),
        pytest.param(["0x33", "CORE", "--max-headers", "many"], "size 'many' cannot be read", id="no size"),
        pytest.param(["0x33", "CORE", "--truncate", "much"], "size 'much' cannot be read", id="no limit"),
        pytest.param(["0x33", "CORE", "--truncate", "-1"], "size '-1' cannot be read", id="a limit below nothing"),
        pytest.param(["0x33", "CORE", "--assume", "x"], "is not a SELECTOR=KIND", id="no selector"),
        pytest.param(["0x33", "CORE", "--assume", "x=y"], "no kind 'y'", id="no kind"),
        pytest.param(["demo", "--filter", "33"], "could be decimal", id="a filter for the demo"),
        pytest.param(["inspect", "CORE", "--filter", "33"], "could be decimal", id="a filter to inspect"),
        pytest.param(["inspect", "CORE", "--unknown", "toss"], "'toss'", id="no policy to inspect"),
        pytest.param(["0x33", "CORE", "--maps", "m", "--pid", "1"], "both give the map", id="two maps"),
        pytest.param(["inspect", "CORE", "--maps", "auto", "--pid", "1"], "both give the map", id="two to inspect"),
        *(
            pytest.param([*command, "--pid", pid], f"{pid!r} is not a process ID", id=f"pid {pid!r} {command[0]}")
            for command in (["0x33", "CORE"], ["inspect", "CORE"])
            for pid in ("0", "+1", "self", "1.5", " 1", "1 ", "0x1", "", "\u0661", "2147483648", "9" * 50)
        ),
    ],
)
def test_usage_errors(args: list[str], words: str, core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said_by([str(core) if arg == "CORE" else arg for arg in args], capsys)
    assert (code, out) == (2, "")
    assert words in err
    assert err.startswith("corefilt: ")
    assert os.listdir(core.parent) == [core.name]


def test_a_usage_error_shows_no_traceback_from_a_shell(core: Path) -> None:
    assert_usage(corefilt("0x33", core, "--colour"), "--colour", "corefilt --help")


# --- exit codes -------------------------------------------------------------------------------------------


def test_exit_codes(core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = core.with_name("out")
    arguments = ["0x33", str(core), "-o", str(out)]
    assert main(arguments) == 0
    assert main(arguments) == 1
    assert main(["33", *arguments[1:]]) == 2
    assert main([*arguments, "-f", "--strict"]) == 4
    core.write_bytes(core.read_bytes()[:-1])
    assert main([*arguments, "-f"]) == 3
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("module", ["corefilt", "corefilt.__main__"])
def test_the_module_is_the_program(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, check=True)
    assert done.stdout.decode().startswith(f"corefilt {api.__version__}\n")


# --- evidence ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["0x33", "CORE", "-o", "OUT"], ["inspect", "CORE"], ["0x33", "CORE", "-n"]])
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("none", "No such file or directory"),
        ("folder", "is a directory"),
        ("empty", "is empty"),
        ("text", "is neither maps nor smaps"),
        ("cut", "is cut off"),
        ("other", "does not match this core"),
    ],
)
def test_a_map_that_cannot_be_used_is_an_error(
    command: list[str], kind: str, words: str, core: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("evidence")
    path = Path(map_of(core, folder, moved=1 << 30 if kind == "other" else 0))
    if kind == "none":
        path.unlink()
    elif kind == "folder":
        path = folder
    elif kind in ("empty", "text"):
        path.write_text("" if kind == "empty" else "nothing of the kind\n")
    elif kind == "cut":
        path.write_bytes(path.read_bytes() + b"7ffe0000")
    places = {"CORE": core, "OUT": core.with_name("out")}
    done = corefilt(*(places.get(word, word) for word in command), "--maps", path)
    assert_error(done, words, str(path))
    assert os.listdir(core.parent) == [core.name]


def test_a_map_settles_what_the_core_leaves_open(core: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    maps = map_of(core, tmp_path_factory.mktemp("evidence"))
    out = core.with_name("out")
    assert corefilt("0x1", core, "-o", out, "--strict").code == 4
    done = corefilt("0x8", core, "-o", out, "--strict", "--maps", maps)
    assert done.code == 0
    assert_promises(core.read_bytes(), out.read_bytes())
    assert f"note: {maps}: lacks 1 of 13 mappings" in "\n".join(done.err)


@pytest.mark.parametrize("piped", [False, True])
def test_a_map_is_taken_for_a_pipe_as_for_a_file(
    piped: bool, core: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    maps = map_of(core, tmp_path_factory.mktemp("evidence"))
    expected = corefilt("0x9", core, "--maps", maps).out
    data = core.read_bytes() if piped else None
    assert corefilt("0x9", "-" if piped else core, "--maps", maps, "-o", core.with_name("out"), pipe=data).code == 0
    assert core.with_name("out").read_bytes() == expected


def test_a_map_and_the_core_may_both_come_through_pipes(core: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    maps = map_of(core, tmp_path_factory.mktemp("evidence"))
    fifo = core.parent.parent / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen(["cp", maps, fifo]):
        done = corefilt("0x9", "--maps", fifo, pipe=core.read_bytes())
    assert done.code == 0
    assert done.out == corefilt("0x9", "--maps", maps, pipe=core.read_bytes()).out


def test_looking_for_a_map_goes_on_without(core: Path) -> None:
    done = corefilt("0x33", core, "-o", core.with_name("out"), "--maps", "auto")
    assert done.code == 0
    assert done.err[-1] == "  note: --maps auto found no map of this process"
    assert core.with_name("out").read_bytes() == corefilt("0x33", core).out


def test_inspect_shows_where_reasons_come_from(core: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    maps = map_of(core, tmp_path_factory.mktemp("evidence"))
    done = corefilt("inspect", core, "--maps", maps, "--json")
    assert done.code == 0
    report = json.loads(done.out)
    evidence = {mapping["start"]: mapping["evidence"] for mapping in report["mappings"]}
    assert all(isinstance(reason, str) for reasons in evidence.values() for reason in reasons)
    assert "maps shows no file" in evidence["0x1000000"]
    assert "private by maps" in evidence["0x3000000"]
    assert report["warnings"] == [f"{maps}: lacks 1 of 13 mappings"]
    table = corefilt("inspect", core, "--maps", maps, "-v")
    assert "private by maps" in table.out.decode()
    assert table.err == (f"corefilt: {core}: {maps}: lacks 1 of 13 mappings",)


def test_the_report_of_unusable_evidence_is_an_object_too(core: Path) -> None:
    done = corefilt("0x33", core, "-n", "--json", "--maps", core.with_name("none"))
    assert done.code == 1
    assert json.loads(done.out)["error"]["type"] == "EvidenceError"


def test_an_option_of_evidence_wants_its_value(core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--maps", "--pid", "--sysroot"):
        for command in (["0x33", str(core)], ["inspect", str(core)]):
            code, out, err = said_by([*command, option], capsys)
            assert (code, out, option in err) == (2, "", True)


# --- streams that are not there ---------------------------------------------------------------------------


def shell(command: str, *args: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Run a line of sh in which "$@" is corefilt."""
    arguments = ["sh", "-c", command, *COREFILT[:1], *COREFILT, *(os.fspath(arg) for arg in args)]
    return subprocess.run(
        arguments, capture_output=True, stdin=subprocess.DEVNULL, env=environment(), timeout=60, check=False
    )


def test_without_standard_error_all_is_done_in_silence(core: Path) -> None:
    out = core.with_name("out")
    done = shell('"$@" 2>&-', "0x31", core, "-o", out, "-v")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert_promises(core.read_bytes(), out.read_bytes())


def test_without_standard_error_a_failure_is_still_one(core: Path) -> None:
    assert shell('"$@" 2>&-', "0x31", core, "-o", core).returncode == 1
    assert shell('"$@" 2>&-', "33", core).returncode == 2


def test_without_standard_output_the_core_cannot_go_there(core: Path) -> None:
    done = shell('"$@" >&-', "0x31", core)
    assert done.returncode == 1
    assert done.stderr.startswith(b"corefilt: standard output: ")
    assert b"Traceback" not in done.stderr


def test_without_standard_output_a_file_can_be_written(core: Path) -> None:
    out = core.with_name("out")
    assert shell('"$@" >&- 0<&-', "0x31", core, "-o", out).returncode == 0
    assert_promises(core.read_bytes(), out.read_bytes())


def test_the_report_to_a_full_standard_output_is_a_failure(core: Path) -> None:
    done = shell('"$@" >/dev/full', "0x31", core, "-o", core.with_name("out"), "--json")
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    done = shell('"$@" >/dev/full', "inspect", core)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr


def test_nobody_reads_the_table(core: Path) -> None:
    """Silence, and the signal that says so."""
    loads = [Load(0x10000 * (1 + i), page(b"x")) for i in range(400)]
    core.write_bytes(make_core(loads, kernel_notes([])))
    process = start("inspect", core)
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    done = finish(process)
    assert (done.code, done.err) == (-signal.SIGPIPE, ())


# --- the bar ----------------------------------------------------------------------------------------------

# Every look at the clock takes two seconds, so that the bar comes at once.
IN_NO_HURRY = """
import sys, time
ticks = iter(range(0, 1 << 40, 2))
time.monotonic = lambda: float(next(ticks))
from corefilt.cli import COMMANDS, main
from corefilt.cli.options import taken_by
sys.exit(main(sys.argv[1:]))
"""


def slowly(core: Path, *args: str) -> tuple[int, str]:
    """Filter a core from a pipe, slowly, with a terminal for words: the exit code and what the terminal got."""
    command = [sys.executable, "-c", IN_NO_HURRY, "0x31", "-", "-o", core.with_name("out"), *args]
    piped = ["sh", "-c", 'cat "$0" | "$@"', core, *command]
    code, said = told_on_a_terminal(piped, {**environment(), "TERM": "xterm"}, stdout=subprocess.DEVNULL)
    return code, said.decode()


BAR = re.compile(r"[━╸╺]+")


@pytest.mark.parametrize("args", [(), ("--progress", "auto"), ("--progress", "always"), ("--progress", "always", "-q")])
def test_a_bar_is_drawn_on_a_terminal(args: tuple[str, ...], core: Path) -> None:
    code, said = slowly(core, *args)
    assert code == 0
    assert BAR.search(said)


@pytest.mark.parametrize("args", [("--progress", "never"), ("-q",)])
def test_no_bar_is_drawn_where_none_is_wanted(args: tuple[str, ...], core: Path) -> None:
    code, said = slowly(core, *args)
    assert code == 0
    assert not BAR.search(said)
    assert "\x1b" not in said


def test_no_bar_is_drawn_where_there_is_no_terminal(core: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_NO_HURRY, "0x31", "-", "-o", str(core.with_name("out"))],
        input=core.read_bytes(),
        capture_output=True,
        env=environment(),
        check=True,
    )
    assert not BAR.search(done.stderr.decode())


def test_a_short_run_draws_no_bar(core: Path) -> None:
    """And does not load what draws it."""
    code, raw = told_on_a_terminal([*COREFILT, "0x31", core, "-o", core.with_name("out")], environment())
    said = raw.decode()
    assert code == 0
    assert said.startswith("corefilt: ")
    assert not BAR.search(said)


# --- start-up ---------------------------------------------------------------------------------------------


def loaded(*args: str, tmp_path: Path) -> set[str]:
    """Return the modules that a run loads beyond those of the bare interpreter."""

    def modules(code: str) -> set[str]:
        told = "import sys; print(*sys.modules, file=sys.stderr)"
        done = subprocess.run(
            [sys.executable, "-c", f"{code}; {told}", *args],
            env={**os.environ, **UNTRACED},
            capture_output=True,
            cwd=tmp_path,
            check=True,
        )
        return set(done.stderr.splitlines()[-1].decode().split())

    return modules("from corefilt.cli import main; import sys; main(sys.argv[1:])") - modules("pass")


HEAVY = {
    "asyncio", "ctypes", "dataclasses", "elftools", "hashlib", "hmac", "http", "importlib.metadata", "inspect",
    "json", "logging", "multiprocessing", "random", "rich", "secrets", "socket", "ssl", "subprocess", "tempfile",
    "threading", "tokenize", "typing", "typing_extensions", "unittest", "uuid", "xxhash",
}  # fmt: skip


@pytest.mark.parametrize(
    "args",
    [
        ("0x31", "CORE", "-o", "OUT"),
        ("0x31", "CORE", "-n", "-v"),
        ("0x33", "CORE", "-o", "OUT", "--assume", "*table.db=shared-file-backed"),
    ],
)
def test_filtering_loads_nothing_heavy(args: tuple[str, ...], core: Path, tmp_path: Path) -> None:
    places = {"CORE": str(core), "OUT": str(tmp_path / "out")}
    names = loaded(*(places.get(arg, arg) for arg in args), tmp_path=tmp_path)
    assert "corefilt.filtering.write" in names
    assert not {name for name in names if name.partition(".")[0] in HEAVY or name in HEAVY}


def test_inspecting_loads_no_tools_for_making_classes(core: Path, tmp_path: Path) -> None:
    names = loaded("inspect", str(core), "--all", tmp_path=tmp_path)
    assert "corefilt.crash.signature" in names
    assert not names & {"ctypes", "dataclasses", "inspect", "json", "typing"}


# What only evidence beside the core needs.
BESIDE = {
    "classify.rules_evidence", "corefile.corefilt_note", "evidence.apport", "evidence.evidence",
    "evidence.file_compare", "evidence.journal", "evidence.saved_text", "evidence.sidecars", "evidence.sysroot",
    "procfs.maps", "procfs.snapshot",
}  # fmt: skip


def beside(names: set[str]) -> set[str]:
    return {name.removeprefix("corefilt.") for name in names} & BESIDE


def test_what_evidence_needs_is_loaded_for_evidence(core: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("evidence")
    maps, run = map_of(core, folder), ("0x31", str(core), "-n")
    names = loaded(*run, tmp_path=folder)
    # The note's format is asked for at every look at notes.
    assert beside(names) == {"corefile.corefilt_note"}
    assert beside(loaded(*run, "--maps", maps, tmp_path=folder)) == BESIDE - {
        "evidence.file_compare", "evidence.sysroot", "procfs.snapshot",
    }  # fmt: skip
    assert beside(loaded(*run, "--sysroot", "/", tmp_path=folder)) == {
        "classify.rules_evidence", "corefile.corefilt_note", "evidence.evidence", "evidence.file_compare",
        "evidence.sysroot",
    }  # fmt: skip
    # The signature of the crash needs files only for what the core lacks.
    assert beside(loaded(*run, "--annotate", tmp_path=folder)) == {"corefile.corefilt_note"}


def test_filtering_does_not_load_the_other_commands(core: Path, tmp_path: Path) -> None:
    names = loaded("0x31", str(core), "-n", tmp_path=tmp_path)
    others = {f"corefilt.cli.{name}" for name in COMMANDS} - {"corefilt.cli.filter"}
    assert not names & (others | {"corefilt.cli.demo_core"})


def test_json_is_loaded_for_json(core: Path, tmp_path: Path) -> None:
    """The check above can see what is loaded late."""
    assert "json" in loaded("0x31", str(core), "-n", "--json", tmp_path=tmp_path)


def test_an_error_is_said_in_one_line(tmp_path: Path) -> None:
    assert_error(corefilt("0x33", tmp_path / "none"), "No such file or directory")
