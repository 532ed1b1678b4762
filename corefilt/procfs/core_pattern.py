"""Templates of ``/proc/sys/kernel/core_pattern``: what the kernel makes of each specifier.

``coredump_parse`` (before 6.18 ``format_corename``) and ``cn_esc_printf`` in fs/coredump.c of Linux 6.18; held against
the names of files that a 6.18 kernel created.
"""

from __future__ import annotations

from corefilt.errors import NameTemplateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# CORENAME_MAX_SIZE less the final zero: what the sysctl holds of a longer line (fs/coredump.c).
MOST_OF_A_PATTERN = 127

SPECIFIERS = {
    "p": "process in its own pid namespace",
    "P": "process in the first pid namespace",
    "i": "thread that crashed, in its own pid namespace",
    "I": "thread that crashed, in the first pid namespace",
    "u": "real user",
    "g": "real group",
    "d": "dump mode",
    "s": "signal",
    "t": "seconds since 1970",
    "h": "host",
    "e": "name of the thread that crashed",
    "f": "file name of the executable",
    "E": "path of the executable",
    "c": "RLIMIT_CORE in bytes",
    "C": "CPU",
    "F": "pidfd for the program behind a pipe",
}
# Values that the process or the machine names itself; every other one is a number.
ESCAPED = frozenset("hefE")

# isspace in lib/ctype.c, which takes Latin-1's no-break space for one.
_SPACES = b" \t\n\v\f\r\xa0"

# When a name that has no %p gets the process's number as its ending: with core_uses_pid, or the habit of Linux 2.6.27
# and before, for processes with several threads even without it (mm_users in format_corename).
USES_PID = ("no", "yes", "threads")


def as_kept(line: bytes) -> bytes:
    """What the sysctl keeps of a line that is written to it: up to a newline, and no more than 127 bytes."""
    return line.split(b"\n", 1)[0].split(b"\0", 1)[0][:MOST_OF_A_PATTERN]


def check_template(template: bytes) -> None:
    """Raise NameTemplateError for what the kernel would not take as the name of a file, or not as it is written."""
    shown = template.decode("utf-8", "backslashreplace")
    if not template:
        raise NameTemplateError("the template is empty, and the kernel writes no core then")
    if template[:1] in (b"|", b"@"):
        what = "a program" if template[:1] == b"|" else "a socket"
        raise NameTemplateError(f"the template {shown!r} names {what}, not a file", "write ./ before it to name a file")
    if len(template) > MOST_OF_A_PATTERN:
        raise NameTemplateError(
            f"the template has {len(template)} bytes, and the kernel keeps {MOST_OF_A_PATTERN} of them",
            "use --directory for the directory",
        )
    if as_kept(template) != template:
        raise NameTemplateError(f"the template {shown!r} has a newline or a zero byte, where the kernel stops reading")


def escaped(value: bytes) -> bytes:
    """A value that the process chose, as the kernel puts it into a name: it never leaves its folder.

    ``/`` since 3.6 at the latest, ``.``, ``..`` and the empty value since 4.9 at the latest (``cn_esc_vprintf``).
    """
    if value in (b".", b".."):
        value = b"!" + value[1:]
    return value.replace(b"/", b"!") or b"!"


def specifiers(template: bytes) -> Iterator[str]:
    """The letters behind each ``%``, the unknown ones too, without ``%%`` and the lone one at the end."""
    for literal, letter in _pieces(template):
        if not literal and letter:
            yield letter


def expand(template: bytes, value_of: Callable[[str], bytes], *, uses_pid: bool = False) -> bytes:
    """The name that a template makes of values; ``value_of`` is asked for each specifier as it comes.

    ``uses_pid`` adds a dot and ``%p`` where the template has no ``%p`` (``%P`` and ``%i`` do not count).
    """
    made = bytearray()
    for literal, letter in _pieces(template):
        made += literal
        if letter in SPECIFIERS:
            value = value_of(letter)
            made += escaped(value) if letter in ESCAPED else value
    if uses_pid and "p" not in specifiers(template):
        made += b"." + value_of("p")
    return bytes(made)


def arguments(pattern: bytes, value_of: Callable[[str], bytes]) -> list[bytes]:
    """The program and its arguments that a pattern with ``|`` makes; the ``|`` may be there or not.

    Split at blanks before anything is expanded (Linux 5.4 and later), so that no value adds an argument; nothing is
    quoted, and what expands to nothing stays as an empty argument.
    """
    line = as_kept(pattern).removeprefix(b"|")
    for blank in _SPACES[1:]:
        line = line.replace(bytes([blank]), b" ")
    return [expand(word, value_of) for word in line.split(b" ") if word]


def _pieces(template: bytes) -> Iterator[tuple[bytes, str]]:
    """Literal bytes and the letter of the specifier behind them (empty: none)."""
    at = 0
    while at < len(template):
        percent = template.find(b"%", at)
        if percent < 0:
            yield template[at:], ""
            return
        if percent > at:
            yield template[at:percent], ""
        letter = template[percent + 1 : percent + 2]
        if letter == b"%":
            yield b"%", ""
        else:
            # A lone one at the end is dropped, an unknown one with its letter.
            yield b"", letter.decode("latin-1")
        at = percent + 2
