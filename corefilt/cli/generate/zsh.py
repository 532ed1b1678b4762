"""Writes completion for zsh, by its own _arguments."""

from __future__ import annotations

from corefilt.cli.generate.parsers import FILTERS, Command, ParsedOption, Value

SCRIPT = """\
#compdef corefilt
# Completes corefilt in zsh; made by `corefilt completion` from what --help tells.

_corefilt_filter() {
    local -a names=(@filters@)
    compset -P '*,'
    compset -P '[+-]'
    compadd -S '' -a names
}

_corefilt() {
    local command=filter
    local -a commands=(
@commands@
    )
    if ((CURRENT == 2)) && [[ $PREFIX != -* ]]; then
        _describe -t commands command commands
        _corefilt_filter
        return
    fi
    if ((${commands[(I)${words[2]}:*]})); then
        command=${words[2]}
        shift words
        ((CURRENT--))
    fi
    case $command in
@cases@
    esac
}

_corefilt "$@"
"""
ACTIONS = {"filter": "_corefilt_filter", "file": "_files", "directory": "_files -/", "pid": "_pids", "word": " "}


def script(commands: list[Command]) -> str:
    """The script."""
    names = "\n".join(f"        {_quoted(f'{command.name}:{command.purpose}')}" for command in commands)
    cases = "\n".join(_case(command) for command in commands)
    return SCRIPT.replace("@filters@", " ".join(FILTERS)).replace("@commands@", names).replace("@cases@", cases)


def _case(command: Command) -> str:
    specs = [spec for option in command.options for spec in _option(option)]
    specs += [f"{'*' if value.repeats else ''}:{_plain(value.name)}:{_action(value)}" for value in command.values]
    arguments = " \\\n".join(f"                {_quoted(spec)}" for spec in specs)
    return f"        {command.name})\n            _arguments -S \\\n{arguments}\n            ;;"


def _option(option: ParsedOption) -> list[str]:
    value = ""
    if option.value is not None:
        value = f":{_plain(option.value.name)}:{_action(option.value)}"
        value = ":" + value if option.joined else value
    others = " ".join(option.flags)
    return [
        f"({others}){flag}{'=' if value and flag.startswith('--') else ''}{'-' if option.joined else ''}"
        f"[{_plain(option.help)}]{value}"
        for flag in option.flags
    ]


def _action(value: Value) -> str:
    return f"({' '.join(value.words)})" if value.words else ACTIONS[value.kind]


def _plain(text: str) -> str:
    """Text without what _arguments reads."""
    return "".join("\\" + c if c in "[]:\\" else c for c in text)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
