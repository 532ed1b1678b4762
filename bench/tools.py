"""Answers: what do the tools give that people would try instead, how long do they take, and what is it worth.

A process of our own, half private and half shared anonymous memory beside a mapped file and a few threads, is
dumped by the kernel with everything in it, and the goal is the core without the shared memory: 0x31. corefilt
and the tools that are there run in turn: objcopy, llvm-objcopy, LIEF and a script with pyelftools on the core;
gdb's gcore and lldb's save-core on a second such process that lives. What each leaves is read back once: by gdb,
lldb and eu-readelf as far as they are there, and page by page beside the full core and beside what the kernel
itself wrote of a third such process under 0x31.

It changes nothing on the machine, writes only into a folder of its own under ``--dir``, and ends what it starts.
It needs a core_pattern that leaves cores in the working directory.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench import memory, process, rivals, worth
from bench.figures import Trial
from bench.measure import BenchError, bytecode_in, warm
from bench.options import Options
from bench.places import temporary_place
from bench.process import Process
from bench.report import Results
from bench.rivals import Argv
from bench.worth import Image, Judge, NotACore, Truth

QUESTION = "What do the tools give that people would try instead?"

FILTER = 0x31
"""Without anonymous shared memory."""

_PATIENCE = 120.0
_NEVER_STOPS = 5.0
_MAPPED = 16
"""The mapped file is a sixteenth of the memory."""
_VERSIONS = ("gdb", "lldb", "objcopy", "llvm-objcopy", "eu-readelf")
_LIEF = Path(__file__).with_name("withlief.py")
_PYELFTOOLS = Path(__file__).with_name("withpyelftools.py")


@dataclass(frozen=True)
class Done:
    """One run of a program; ``code`` is None if it had to be killed."""

    seconds: float
    code: int | None
    output: str
    complaints: str

    @property
    def last_words(self) -> str:
        """What it said of its failure, or the last that it said at all."""
        lines = [line.strip() for line in (self.complaints + "\n" + self.output).splitlines() if line.strip()]
        errors = [line for line in lines if "error:" in line.lower()]
        return (errors or lines or ["no word of why"])[-1]


@dataclass
class Tool:
    """One way to go: how it is started, where its output will be, and what was seen of it."""

    name: str
    argv: Argv
    output: Path
    live: bool = False
    seconds: list[float] = field(default_factory=list)
    size: int | None = None
    allocated: int | None = None
    image: Image | None = None
    words: list[str] = field(default_factory=list)


def measure(options: Options, tell: Callable[[str], None]) -> Results:
    """Run all tools that are there; ``tell`` hears what is going on."""
    results = Results()
    if reason := process.why_no_cores():
        results.remarks.append(f"no rows: {reason}")
        return results
    with temporary_place(options.folder, options.size) as place, bytecode_in(place.folder / "bytecode"):
        results.file_systems.append(place.file_system)
        if memory.available() < 3 * options.size:
            results.remarks.append("little memory: the page cache may not have stayed warm")
        _Bench(options, results, tell, place.folder).run()
    return results


class _Bench:
    """Three processes, one after the other, and all that is tried on the first one's core and on the last one."""

    def __init__(self, options: Options, results: Results, tell: Callable[[str], None], folder: Path) -> None:
        self._options = options
        self._results = results
        self._tell = tell
        self._folder = folder
        self._programs = rivals.prepare(options.corefilt, options.engine, folder)
        self._program = process.build(folder)
        self._mapped = folder / "mapped"
        self._mapped.write_bytes(os.urandom(max(options.size // _MAPPED, 1 << 16)))
        self._judge = Judge(self._program, _call)

    def run(self) -> None:
        """Have the cores dumped, run everything in turn, and judge what came back."""
        self._tell(f"letting the kernel dump a process under {process.ALL_BITS:#x} and {FILTER:#x}")
        with self._process("small") as small:
            core = small.crash(FILTER)
            filtered = [p_filesz for _, p_filesz, _ in worth.read_image(core).loads]
            core.unlink()
        with self._process("full") as dumped:
            core = dumped.crash(process.ALL_BITS)
        (self._folder / "smaps").write_text(dumped.smaps)
        truth = self._truth(core, dumped, filtered)
        self._results.remarks += self._judge.learn(core)
        with self._process("live") as living:
            living.set_filter(FILTER)
            tools = [*self._of_core(core, dumped, truth), *self._of_process(living)]
            self._run_in_turn(tools, core, living)
            core.unlink()
            truths = {False: truth, True: self._truth(living.crash(process.ALL_BITS), living, filtered)}
        for tool in tools:
            if tool.image is not None:
                tool.words += worth.by_bytes(tool.image, truths[tool.live])
        self._report(tools)

    def _process(self, name: str) -> AbstractContextManager[Process]:
        return process.running(self._program, self._mapped, self._options.size, self._folder / name)

    def _truth(self, core: Path, dumped: Process, filtered: list[int]) -> Truth:
        """Join the sizes under the filter by position: the processes have the same mappings elsewhere."""
        try:
            full = worth.read_image(core)
        except NotACore as error:
            raise BenchError(f"the kernel's core: {error}") from error
        if len(full.loads) != len(filtered):
            raise BenchError("two processes of one program have not the same mappings")
        kept = {load[0]: p_filesz for load, p_filesz in zip(full.loads, filtered, strict=True)}
        return Truth(full, kept, dumped.mappings)

    def _of_core(self, core: Path, dumped: Process, truth: Truth) -> list[Tool]:
        """Return what works on the core; corefilt is the first of all."""
        out = self._folder / "out"
        ours = self._programs.corefilt(FILTER, core, out, sync=False)
        tools = [
            Tool(f"corefilt {FILTER:#x}", ours, out),
            Tool(f"corefilt {FILTER:#x} --maps smaps", (*ours, "--maps", str(self._folder / "smaps")), out),
        ]
        shared = [mapping.start for mapping in dumped.mappings if mapping.shared_anonymous]
        numbers = [n for n, load in enumerate(truth.full.loads, 1) if load[0] in shared]
        remove = [f"--remove-section=load{number}" for number in numbers]
        unload = [f"--set-section-flags=load{number}=noload" for number in numbers]
        tools += [
            Tool(f"{name} {options[0].partition('=')[0]}", (name, *options, str(core), str(out)), out)
            for name, options in (("objcopy", remove), ("objcopy", unload), ("llvm-objcopy", remove))
            if self._found(name)
        ]
        if self._importable("lief"):
            for how in ("remove", "empty"):
                argv = (sys.executable, str(_LIEF), how, str(core), str(out), *map(hex, shared))
                tools.append(Tool(f"LIEF, {how} segments", argv, out))
        if self._importable("elftools"):
            argv = (sys.executable, str(_PYELFTOOLS), str(core), str(out))
            tools.append(Tool("a script with pyelftools", argv, out))
        return tools

    def _of_process(self, living: Process) -> list[Tool]:
        """Return what works on a process; its coredump_filter holds the goal."""
        pid, out = str(living.popen.pid), self._folder / "out"
        tools = []
        if self._found("gcore"):
            left = Path(f"{out}.{pid}")
            tools += [
                Tool(f"gcore, coredump_filter {FILTER:#x}", ("gcore", "-o", str(out), pid), left, True),
                Tool("gcore -a", ("gcore", "-a", "-o", str(out), pid), left, True),
            ]
        if self._found("lldb"):
            for style in ("modified-memory", "stack"):
                command = f"process save-core -s {style} {out}"
                argv = ("lldb", "--batch", "--no-lldbinit", "-p", pid, "-o", command, "-o", "detach")
                tools.append(Tool(f"lldb save-core -s {style}", argv, out, True))
        return tools

    def _found(self, name: str) -> bool:
        if shutil.which(name) is not None:
            return True
        self._note(f"not tried: {name} (not found)")
        return False

    def _importable(self, module: str) -> bool:
        if importlib.util.find_spec(module) is not None:
            return True
        self._note(f"not tried: {module} (this Python cannot import it)")
        return False

    def _note(self, remark: str) -> None:
        if remark not in self._results.remarks:
            self._results.remarks.append(remark)

    def _run_in_turn(self, tools: list[Tool], core: Path, living: Process) -> None:
        """Run all, in another order each turn, and look into the first output of each."""
        order = list(tools)
        for turn in range(self._options.runs):
            for tool in order:
                self._tell(f"turn {turn + 1}: {tool.name}")
                self._run_once(tool, core, first=turn == 0)
                if tool.live:
                    living.wake()
            order = order[1:] + order[:1]

    def _run_once(self, tool: Tool, core: Path, *, first: bool) -> None:
        if not first and tool.size is None:
            return
        try:
            memory.settle(tool.size or self._options.size)
            if not tool.live:
                warm(core)
            done = _run(tool.argv)
            tool.seconds.append(done.seconds)
            if first:
                self._look(tool, done)
            elif not tool.output.exists():
                raise BenchError(f"{tool.name} gave a file the first time and now none: {done.last_words}")
        finally:
            tool.output.unlink(missing_ok=True)

    def _look(self, tool: Tool, done: Done) -> None:
        """Note what came back; what needs the full core is said of it later."""
        code = f"killed after {_PATIENCE:.0f} s" if done.code is None else f"exit code {done.code}"
        if done.code is None or not tool.output.exists():
            tool.words.append(f"nothing, {code}: {done.last_words}")
            return
        status = tool.output.stat()
        tool.size, tool.allocated = status.st_size, status.st_blocks * 512
        if done.code != 0:
            tool.words.append(code)
        tool.words += self._judge.by_programs(tool.output)
        try:
            tool.image = worth.read_image(tool.output)
        except NotACore as error:
            if "minidump" not in "".join(tool.words):
                tool.words.append(str(error))

    def _report(self, tools: list[Tool]) -> None:
        ours = tools[0]
        if ours.size is None:
            raise BenchError(f"corefilt: {'; '.join(ours.words)}")
        for tool in tools:
            times = tuple(ours.seconds[: len(tool.seconds)]), tuple(tool.seconds)
            work = "process" if tool.live else "core"
            words = "; ".join(tool.words).replace(str(self._folder) + "/", "")
            self._results.trials.append(Trial(tool.name, work, *times, tool.size, tool.allocated, words))
        self._results.remarks += [f"{name}: {said}" for name in _VERSIONS if (said := _version(name))]


def _call(argv: Iterable[str]) -> tuple[int | None, str, str]:
    done = _run(tuple(argv))
    return done.code, done.output, done.complaints


def _run(argv: Argv) -> Done:
    """Run it in a session of its own, which ends with it; what hangs is killed."""
    environment = {name: value for name, value in os.environ.items() if name != "DEBUGINFOD_URLS"} | {"LC_ALL": "C"}
    started = time.perf_counter()
    popen = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        cwd="/",
        env=environment,
        start_new_session=True,
    )
    code: int | None = None
    with popen:
        try:
            output, complaints = popen.communicate(timeout=_PATIENCE)
            code = popen.returncode
        except subprocess.TimeoutExpired:
            _kill(popen)
            output, complaints = popen.communicate(timeout=_NEVER_STOPS)
        finally:
            if popen.returncode is None:
                _kill(popen)
    return Done(time.perf_counter() - started, code, output, complaints)


def _kill(popen: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(popen.pid, signal.SIGKILL)


def _version(name: str) -> str:
    """Return the first line with a number that a program says of itself."""
    if shutil.which(name) is None:
        return ""
    lines = _run((name, "--version")).output.splitlines()
    return next((line.strip() for line in lines if any(map(str.isdigit, line))), "")
