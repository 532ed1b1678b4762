"""The commands: what they take, and what they are for."""

from __future__ import annotations

# Each command is the module of its name in this package; what it is for, as --help says it.
COMMANDS = {
    "filter": ("FILTER [CORE] [-o OUT]", "filters one core, as a bare FILTER does"),
    "inspect": ("[CORE [ADDRESS...]]", "shows whose core it is, its mappings, and what a filter keeps"),
    "handle": ("NUMBER...", "saves and filters the core of a crash; started by core_pattern"),
    "install": ("", "makes the kernel give cores to the handler"),
    "uninstall": ("", "restores what install changed"),
    "serve": ("[SOCKET]", "takes cores from the kernel through a socket"),
    "status": ("", "says whether cores reach the handler, and what prevents it"),
    "show": ("PID...", "shows the filters of processes, and what they would keep"),
    "set": ("FILTER (PID... | -- COMMAND...)", "sets the filter of processes, or of a command"),
    "doctor": ("[PID]", "shows why a process would leave no core"),
    "verify": ("FULL FILTERED", "checks a filtered core against the original"),
    "scrub": ("CORE -o OUT", "overwrites secrets in a copy of a core"),
    "bundle": ("CORE -o BUNDLE [FILTER]", "packs a core with its executable, libraries and debug files"),
    "open": ("(BUNDLE | CORE) [-- ARGUMENT...]", "opens a bundle or a core in gdb or lldb, with the right files"),
    "digest": ("CORE", "prints the xxh3_128 hash of every segment"),
    "batch": ("FILTER SOURCE... (--to DIR | --replace)", "filters all cores of an archive"),
    "list": ("DIR...", "lists the cores of directories, one per line"),
    "vacuum": ("DIR", "deletes cores of a directory by the handler's limits"),
    "restore": ("(MANIFEST | CORE)...", "completes cores that --shared-once has reduced"),
    "demo": ("", "crashes a small process here and filters its core"),
    "help": ("[COMMAND]", "prints the help of a command"),
    "version": ("", "prints the version, the engines and the libraries"),
    "man": ("[PAGE]", "prints a manual page, for man -l -"),
    "completion": ("SHELL", "prints a completion script for bash, zsh or fish"),
}


def before_and_after_options(command: str) -> tuple[str, str]:
    """What a command takes, split where its options end: what follows ``--`` is another program's."""
    operands = COMMANDS[command][0]
    dashes = operands.find("-- ")
    if dashes < 0:
        return operands, ""
    at = max(operands.rfind(" [", 0, dashes), operands.rfind(" (", 0, dashes))
    return operands[:at], operands[at:]


# Commands that replace the file of a report with -f only; the others have no -f.
FORCED = ("filter", "batch", "scrub", "bundle")
