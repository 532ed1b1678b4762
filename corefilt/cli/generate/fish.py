"""Writes completion for fish."""

from __future__ import annotations

from corefilt.cli.generate.parsers import FILTERS, Command, ParsedOption, Value

SCRIPT = """\
# Completes corefilt in fish; made by `corefilt completion` from what --help tells.

function __corefilt_command
    set -l words (commandline -opc)
    if contains -- "$words[2]" @commands@
        echo $words[2]
    else
        echo filter
    end
end

function __corefilt_is
    test (__corefilt_command) = $argv[1]
end

function __corefilt_first
    test (count (commandline -opc)) = 1
end

# Names of a filter behind whatever terms are there already.
function __corefilt_filter
    set -l before (string match -r '^.*,' -- (commandline -ct); or echo '')
    printf "$before%s\\n" @filters@
end

complete -c corefilt -f
complete -c corefilt -n __corefilt_first -a '(__corefilt_filter)' -d FILTER
"""


def script(commands: list[Command]) -> str:
    """The script."""
    names = " ".join(command.name for command in commands)
    found = [SCRIPT.replace("@commands@", names).replace("@filters@", " ".join(FILTERS)).rstrip()]
    for command in commands:
        purpose = _quoted(command.purpose)
        found.append(f"complete -c corefilt -n __corefilt_first -a {command.name} -d {purpose}")
        found += [_complete(command.name, option) for option in command.options]
        found += [_operand(command.name, value) for value in command.values if _operand(command.name, value)]
    return "\n".join(found) + "\n"


def _complete(command: str, option: ParsedOption) -> str:
    flags = " ".join(f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags)
    value = "" if option.value is None or option.joined else " " + _value(option.value)
    return f"complete -c corefilt -n '__corefilt_is {command}' {flags}{value} -d {_quoted(option.help)}"


def _operand(command: str, value: Value) -> str:
    if value.kind == "word":
        return ""
    condition = f"'not __corefilt_first; and __corefilt_is {command}'"
    return f"complete -c corefilt -n {condition} {_value(value).replace('-x ', '').replace('-r ', '')}"


def _value(value: Value) -> str:
    if value.words:
        return f"-x -a '{' '.join(value.words)}'"
    return {
        "filter": "-x -a '(__corefilt_filter)'",
        "file": "-r -F",
        "directory": "-x -a '(__fish_complete_directories)'",
        "pid": "-x -a '(__fish_complete_pids)'",
        "word": "-x",
    }[value.kind]


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
