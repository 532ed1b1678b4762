"""The commands: what they take, and what they are for."""

from __future__ import annotations

# Each command is the module of its name in this package; what it is for, as --help says it.
COMMANDS = {
    "filter": ("FILTER [CORE] [-o OUT]", "what a bare FILTER does"),
    "inspect": ("CORE", "the mappings, their kinds and evidence, what every bit keeps"),
    "handle": ("NUMBER...", "what core_pattern starts: saves and filters the core of a crash"),
    "install": ("", "has the kernel give cores to the handler"),
    "uninstall": ("", "has it do what it did before"),
    "serve": ("[SOCKET]", "takes cores from the kernel by a socket, and decides on each"),
    "status": ("", "whether cores reach the handler, and what is in the way"),
    "show": ("PID...", "the filters of processes, and what they would keep"),
    "set": ("FILTER (PID... | -- COMMAND...)", "sets the filter of processes, or of a command"),
    "doctor": ("[PID]", "why a process would leave no core, or what this machine allows"),
    "verify": ("FULL FILTERED", "proves the promises on two finished cores"),
    "scrub": ("CORE -o OUT", "overwrites secrets in a copy of a core"),
    "bundle": ("CORE -o BUNDLE [FILTER]", "a core with its executable, libraries and debug files in one archive"),
    "open": ("(BUNDLE | CORE) [-- ARGUMENT...]", "gdb or lldb on a bundle or a core, with the files it belongs to"),
    "digest": ("CORE", "xxh3_128 of every segment"),
    "batch": ("FILTER SOURCE... (--to DIR | --replace)", "filters all cores of an archive"),
    "list": ("DIR...", "the cores of directories, one a line: when, whose, which crash"),
    "vacuum": ("DIR", "removes cores of a directory by the handler's limits"),
    "restore": ("(MANIFEST | CORE)...", "puts back what --shared-once took out"),
    "demo": ("", "crashes a small process here and filters its core"),
    "help": ("[COMMAND]", "what --help says of a command"),
    "version": ("", "the version, the engines and the libraries"),
    "man": ("[PAGE]", "a manual page, for man -l -"),
    "completion": ("SHELL", "what completes corefilt's words in bash, zsh or fish"),
}

# Commands that replace the file of a report with -f only; the others have no -f.
FORCED = ("filter", "batch", "scrub", "bundle")
