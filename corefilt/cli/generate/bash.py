"""Writes completion for bash; it needs nothing of the package bash-completion but to be found by it."""

from __future__ import annotations

from corefilt.cli.generate.parsers import FILTERS, Command, Value

SCRIPT = """\
# Completes corefilt in bash; made by `corefilt completion` from what --help tells.

_corefilt_filter() {
    local before=${1%,*}
    [[ $1 == *,* ]] && before+=, || before=
    local term=${1#"$before"} names=(@filters@)
    [[ $term == [+-]* ]] && before+=${term:0:1} term=${term:1}
    compopt -o nospace 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -P "$before" -W "${names[*]}" -- "$term")
}

# $1: what is wanted, $2: what is there.
_corefilt_value() {
    case $1 in
        filter) _corefilt_filter "$2" ;;
        file | directory)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen "-${1:0:1}" -- "$2")
            ;;
        pid) mapfile -t COMPREPLY < <(cd /proc && compgen -W "$(printf '%s ' [0-9]*)" -- "$2") ;;
        words*) mapfile -t COMPREPLY < <(compgen -W "${1#words }" -- "$2") ;;
    esac
}

_corefilt() {
    local word=${COMP_WORDS[COMP_CWORD]} command=filter first=1 option wanted= n position=0
    local commands='@commands@' options rest=
    local -A value
    local -a values
    COMPREPLY=()
    if ((COMP_CWORD > 1)) && [[ " $commands " == *" ${COMP_WORDS[1]} "* ]]; then
        command=${COMP_WORDS[1]} first=2
    fi
    case $command in
@cases@
    esac

    # bash takes --option=value for three words.
    option=${COMP_WORDS[COMP_CWORD - 1]}
    if [[ $word == = ]]; then
        word='' option+==
    elif [[ $option == = ]]; then
        option=${COMP_WORDS[COMP_CWORD - 2]}=
    fi
    wanted=${value[$option]-${value[${option%=}]-}}
    if ((COMP_CWORD > first)) && [[ -n $wanted ]]; then
        _corefilt_value "$wanted" "$word"
        return
    fi
    if [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
        return
    fi

    for ((n = first; n < COMP_CWORD; n++)); do
        option=${COMP_WORDS[n]}
        if [[ $option == -?* ]]; then
            if [[ ${COMP_WORDS[n + 1]-} == = ]]; then
                ((n += 2))
            elif [[ -n ${value[$option]-} ]]; then
                ((n += 1))
            fi
        else
            ((position += 1))
        fi
    done
    _corefilt_value "${values[position]-$rest}" "$word"
    if ((COMP_CWORD == 1)); then
        local filters=("${COMPREPLY[@]}")
        mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$word")
        COMPREPLY+=("${filters[@]}")
    fi
}

complete -F _corefilt corefilt
"""


def script(commands: list[Command]) -> str:
    """The script."""
    names = " ".join(command.name for command in commands)
    cases = "\n".join(_case(command) for command in commands)
    return SCRIPT.replace("@filters@", " ".join(FILTERS)).replace("@commands@", names).replace("@cases@", cases)


def _case(command: Command) -> str:
    options = " ".join(flag for option in command.options for flag in option.flags)
    values = " ".join(f"[{flag}{'=' if option.joined else ''}]='{_kind(option.value)}'"
                      for option in command.options if option.value for flag in option.flags)  # fmt: skip
    operands = " ".join(f"'{_kind(value)}'" for value in command.values)
    rest = [f"rest='{_kind(value)}'" for value in command.values if value.repeats]
    lines = [f"options='{options}'", f"value=({values})", f"values=({operands})", *rest, ";;"]
    return f"        {command.name})\n" + "\n".join(f"            {line}" for line in lines)


def _kind(value: Value) -> str:
    return f"words {' '.join(value.words)}" if value.words else value.kind
