"""Asks debuggers what they show of filtered cores; prints the tables of docs/tools.md.

Run it as ``PYTHONPATH=tests python -m kernel.tools``, in an environment that has drgn and pystack. What a tool shows of
a filtered core is held against what it shows of the core with all mappings, line by line.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kernel import stacks
from kernel.dumps import CannotCompileError, compile_c
from kernel.programs import PATIENCE, CannotStartError, need
from kernel.victims import crashed

import corefilt
from corefilt.sizes import show_size

# The columns, and what makes them of a core with all mappings.
CUTS: dict[str, dict[str, object]] = {
    "`0x33`": {"filter": 0x33},
    "`0x31`": {"filter": 0x31},
    "`0x35`": {"filter": 0x35},
    "`0x37`": {"filter": 0x37},
    "`0x1`": {"filter": 0x1},
    "`--minimal`": {"filter": "all", "minimal": True},
    "`--minimal --follow 3`": {"filter": "all", "minimal": True, "follow": 3},
    "`--fit 16M`": {"filter": "all", "fit": "16M"},
}
# Runs a command whose core has all mappings.
ALL_OF = [sys.executable, "-m", "corefilt", "set", "all", "--"]


@dataclass(frozen=True)
class Question:
    """What a tool is asked, and which lines of its answer count."""

    tool: str
    shows: str
    command: Callable[[str, Path], list[str]]
    counts: str

    def ask(self, program: str, core: Path) -> Counter[str]:
        """Give the lines that count, and how often each stands there."""
        done = subprocess.run(
            self.command(program, core), capture_output=True, check=False, timeout=4 * PATIENCE,
            stdin=subprocess.DEVNULL, env=os.environ | {"DEBUGINFOD_URLS": ""},
        )  # fmt: skip
        return Counter(re.findall(self.counts, done.stdout.decode(errors="replace"), flags=re.MULTILINE))


# ---- how each tool is asked ------------------------------------------------------------------------------


def gdb(*commands: str) -> Callable[[str, Path], list[str]]:
    """Ask gdb, which has the program; what python3-dbg has for it lies in a folder that has to be trusted."""
    before = ["gdb", "-nx", "-batch", "-iex=add-auto-load-safe-path /usr/share/gdb", "-ex=set width 0"]
    return lambda program, core: [*before, *(f"-ex={each}" for each in commands), program, str(core)]


def gdb_alone(*commands: str) -> Callable[[str, Path], list[str]]:
    """Ask gdb, which has the core only."""
    given = [f"-ex={each}" for each in commands]
    return lambda _program, core: ["gdb", "-nx", "-batch", *given, "-c", str(core)]


def lldb(*commands: str) -> Callable[[str, Path], list[str]]:
    """Ask lldb."""
    given = [part for each in ("settings set symbols.enable-external-lookup false", *commands) for part in ("-o", each)]
    return lambda program, core: ["lldb", "--no-lldbinit", "-b", *given, "-c", str(core), program]


DRGN = """
import sys
from drgn import Program
program = Program()
program.set_core_dump(sys.argv[1])
try:
    program.load_default_debug_info()
except Exception as error:
    print(error, file=sys.stderr)
if len(sys.argv) > 2:
    print("value", program[sys.argv[2]].string_().decode())
else:
    for thread in program.threads():
        print(thread.stack_trace())
"""


def drgn(*names: str) -> Callable[[str, Path], list[str]]:
    """Ask drgn for a variable, or for the stacks."""
    return lambda _program, core: [sys.executable, "-c", DRGN, str(core), *names]


def eu_stack(program: str, core: Path) -> list[str]:
    """Ask elfutils, which has the program."""
    return ["eu-stack", "-n", "0", "-e", program, "--core", str(core)]


def eu_stack_alone(_program: str, core: Path) -> list[str]:
    """Ask elfutils, which has to find the program by the core."""
    return ["eu-stack", "-n", "0", "--core", str(core)]


def eu_unstrip(_program: str, core: Path) -> list[str]:
    """Ask elfutils for the modules."""
    return ["eu-unstrip", "-n", "--core", str(core)]


def pystack(program: str, core: Path) -> list[str]:
    """Ask pystack, which need not be in PATH."""
    start = "import sys; from pystack.__main__ import main; sys.exit(main())"
    return [sys.executable, "-c", start, "core", "--locals", str(core), program]


def delve(program: str, core: Path) -> list[str]:
    """Ask delve for all goroutines."""
    script = core.parent / "goroutines"
    script.write_text("goroutines -t 50\nexit\n")
    return ["dlv", "core", program, str(core), "--allow-non-terminal-interactive=true", "--init", str(script)]


def jhsdb(*words: str) -> Callable[[str, Path], list[str]]:
    """Ask HotSpot's own debugger."""
    return lambda program, core: ["jhsdb", *words, "--exe", program, "--core", str(core)]


# ---- what is asked ---------------------------------------------------------------------------------------

FRAME = r"^ *#\d+ .*$|^ *frame #\d+.*$"
VALUE = r"^(?:\$\d+ = |value |\(.*\) \$\d+ = |0x).*$"
ALL_STACKS, WRITTEN, CONSTANT = "stacks of all threads", "a variable that was written to", "a constant"
# tools.c has it at a fixed address, which is all that is known of it without the program.
FIXED = 0x402020
OF_C = (
    Question("gdb", f"{ALL_STACKS}, with locals", gdb("thread apply all bt full"), FRAME + r"|^ {8}.* = .*$"),
    Question("gdb", "a linked list", gdb("frame function crash_at", "print *list", "print *list->next"), VALUE),
    Question("gdb", WRITTEN, gdb("print changed"), VALUE),
    Question("gdb", CONSTANT, gdb("print fixed"), VALUE),
    Question("gdb", "anonymous shared memory", gdb("frame function crash_at", "x/s shared + 65536"), VALUE),
    Question("lldb", ALL_STACKS, lldb("bt all"), FRAME),
    Question("lldb", WRITTEN, lldb("p changed"), VALUE),
    Question("lldb", CONSTANT, lldb("p fixed"), VALUE),
    Question("eu-stack", f"{ALL_STACKS}, with `-e PROGRAM`", eu_stack, FRAME),
    Question("eu-stack", f"{ALL_STACKS}, given the core alone", eu_stack_alone, FRAME),
    Question("eu-unstrip", "build-ids", eu_unstrip, r"^0x.*$"),
    Question("drgn", ALL_STACKS, drgn(), FRAME),
    Question("drgn", WRITTEN, drgn("changed"), VALUE),
    Question("drgn", CONSTANT, drgn("fixed"), VALUE),
)
WITHOUT_PROGRAM = (
    Question("gdb", f"{CONSTANT}, by its address", gdb_alone(f"x/s {FIXED:#x}"), VALUE),
    Question("eu-stack", ALL_STACKS, eu_stack_alone, FRAME),
    Question("eu-unstrip", "build-ids", eu_unstrip, r"^0x.*$"),
)
OF_PYTHON = (
    Question("pystack", "frames and locals of all threads", pystack, r"^.*\S.*$"),
    Question("gdb", "`py-bt` of all threads", gdb("thread apply all py-bt"), r"^  File .*$"),
)
OF_GO = (Question("delve", "all goroutines and their frames", delve, r"^[*\s]*Goroutine .*$|^\s+\d+ .*$|^\s+at .*$"),)
OF_JAVA = (
    Question("jhsdb", "`jstack`: all threads and their frames", jhsdb("jstack"), r'^ - .*$|^"main".*$'),
    Question("jhsdb", "`jmap --histo`: the heap by class", jhsdb("jmap", "--histo"), r"^\s*\d+:.*$"),
)


# ---- of which process ------------------------------------------------------------------------------------


def c(folder: Path) -> tuple[str, Path]:
    """A program of C, with debug information, at fixed addresses."""
    (folder / "crash").mkdir()
    try:
        flags = ("-O1", "-fno-omit-frame-pointer", "-pthread", "-no-pie")
        program = compile_c("tools.c", folder / "program", *flags)
    except CannotCompileError as error:
        raise CannotStartError(str(error)) from None
    return str(program), crashed([*ALL_OF, str(program), "3"], folder / "crash")


def c_upgraded(folder: Path) -> tuple[str, Path]:
    """The same, whose file is gone."""
    program, core = c(folder)
    Path(program).unlink()
    return program, core


def python(folder: Path) -> tuple[str, Path]:
    """CPython with debug symbols."""
    return stacks.python(folder, (5, 20, 40), "segv", ALL_OF)


def go(folder: Path) -> tuple[str, Path]:
    """A program of Go."""
    return stacks.go(folder, (40, 12, 40), "segv", ALL_OF)


def java(collector: str) -> Callable[[Path], tuple[str, Path]]:
    """A JVM with one of the garbage collectors."""
    return lambda folder: stacks.java(folder, ("-Xmx128m", collector), (9, 14, 24), "segv", ALL_OF)


@dataclass(frozen=True)
class Process:
    """What crashes, and what tools are asked of it."""

    start: Callable[[Path], tuple[str, Path]]
    questions: tuple[Question, ...]


PROCESSES = {
    "C": Process(c, OF_C),
    "C, the program's file is gone": Process(c_upgraded, WITHOUT_PROGRAM),
    "CPython": Process(python, OF_PYTHON),
    "Go": Process(go, OF_GO),
    "Java, G1": Process(java("-XX:+UseG1GC"), OF_JAVA),
    "Java, ZGC": Process(java("-XX:+UseZGC"), OF_JAVA),
}
VERSIONS = {
    "gdb": ["gdb", "--version"],
    "lldb": ["lldb", "--version"],
    "eu-stack": ["eu-stack", "--version"],
    "eu-unstrip": ["eu-unstrip", "--version"],
    "drgn": [sys.executable, "-c", "import drgn; print(drgn.__version__)"],
    "pystack": [sys.executable, "-c", "from importlib.metadata import version; print(version('pystack'))"],
    "delve": ["dlv", "version"],
    "jhsdb": ["java", "--version"],
}


def version(tool: str) -> str | None:
    """The version of a tool, or None where there is none."""
    try:
        done = subprocess.run(VERSIONS[tool], capture_output=True, text=True, check=False, timeout=PATIENCE)
    except FileNotFoundError:
        return None
    found = re.search(r"\d+\.\d[\w.]*", re.sub(r"\(.*?\)", "", done.stdout))
    return found[0] if found and done.returncode == 0 else None


def answers(name: str, folder: Path) -> tuple[dict[str, int], dict[Question, dict[str, str]]]:
    """Let a process crash; give the sizes of its cores, and what each tool shows of them."""
    process = PROCESSES[name]
    if process.questions is OF_JAVA:
        need("jhsdb")
    program, full = process.start(folder)
    there = [question for question in process.questions if version(question.tool)]
    whole = {question: question.ask(program, full) for question in there}
    sizes = {"`all`": full.stat().st_size}
    shown: dict[Question, dict[str, str]] = {question: {} for question in there}
    for column, options in CUTS.items():
        out = folder / "filtered"
        report = corefilt.filter(full, out, sync=False, force=True, sysroot="/", **options)
        sizes[column] = report.output_bytes
        for question in there:
            shown[question][column] = compare(whole[question], question.ask(program, out))
    return sizes, shown


def compare(whole: Counter[str], found: Counter[str]) -> str:
    """Tell how much of the lines that a tool shows of the whole core it shows of another; `-`: nothing of either."""
    if found == whole:
        return "yes" if whole else "-"
    return "in part" if found & whole else "no"


def table(sizes: dict[str, int], shown: dict[Question, dict[str, str]]) -> str:
    """The table of one process."""
    lines = [f"| tool | shows | {' | '.join(CUTS)} |", "|---|---|" + "---|" * len(CUTS)]
    lines += [f"| {each.tool} | {each.shows} | {' | '.join(row.values())} |" for each, row in shown.items()]
    lines.append(f"| | size | {' | '.join(show_size(sizes[column]) for column in CUTS)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the versions, and a table for each process."""
    print(", ".join(f"{tool} {version(tool)}" for tool in VERSIONS))
    for name in sys.argv[1:] or PROCESSES:
        with tempfile.TemporaryDirectory() as folder:
            try:
                sizes, shown = answers(name, Path(folder))
            except CannotStartError as error:
                print(f"{name}: {error}", file=sys.stderr)
                continue
        print(f"\n## {name}: {show_size(sizes['`all`'])} with all mappings\n\n{table(sizes, shown)}", flush=True)


if __name__ == "__main__":
    main()
