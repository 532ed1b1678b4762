"""The bits of ``/proc/PID/coredump_filter`` and every way to write them down.

The bits are those of core(5); names are systemd's (``CoredumpFilter=`` in systemd.exec(5)). The interfaces of
the 2007 patch series, which became coredump_filter in Linux 2.6.23, keep the meaning that they had then.
"""

from __future__ import annotations

from corefilt.errors import FilterError, did_you_mean


class Bit:
    """Which mappings are kept, one bit each: the kernel's ``MMF_DUMP_*``, shifted down to bit 0.

    A filter is an int. ``coredump_filter.py`` has them as the IntFlag that Python's users see: loading that took 12 of
    the 104 million instructions of a run on a small core (docs/performance.md, Start-up).
    """

    NONE = 0
    PRIVATE_ANONYMOUS = 0x1
    SHARED_ANONYMOUS = 0x2
    PRIVATE_FILE_BACKED = 0x4
    SHARED_FILE_BACKED = 0x8
    ELF_HEADERS = 0x10
    PRIVATE_HUGE = 0x20
    SHARED_HUGE = 0x40
    PRIVATE_DAX = 0x80
    SHARED_DAX = 0x100
    DEFAULT = 0x33
    ALL = 0x1FF


NAMES = {
    "private-anonymous": Bit.PRIVATE_ANONYMOUS,
    "shared-anonymous": Bit.SHARED_ANONYMOUS,
    "private-file-backed": Bit.PRIVATE_FILE_BACKED,
    "shared-file-backed": Bit.SHARED_FILE_BACKED,
    "elf-headers": Bit.ELF_HEADERS,
    "private-huge": Bit.PRIVATE_HUGE,
    "shared-huge": Bit.SHARED_HUGE,
    "private-dax": Bit.PRIVATE_DAX,
    "shared-dax": Bit.SHARED_DAX,
}
ALIASES = {
    "default": Bit.DEFAULT,
    "all": Bit.ALL,
    "none": Bit.NONE,
    "omit-anonymous-shared": Bit.DEFAULT & ~Bit.SHARED_ANONYMOUS,
}

# The files of the 2007 series hold flags of the opposite sense: what is set is left out. Kernels of that time
# dumped written private memory and anonymous shared memory (0x3) and nothing else.
KERNEL_OF_2007 = Bit.PRIVATE_ANONYMOUS | Bit.SHARED_ANONYMOUS


def parse_filter(text: str) -> tuple[int, list[str]]:
    """Read a filter as a person writes it.

    Returns the filter and a list of warnings. Raises FilterError with both readings where there are two.
    """
    if not text:
        raise FilterError("the filter is empty")
    if text[0] in "+-":
        kept = "default" if text[0] == "-" else "none"
        raise FilterError(f"filter {text!r} starts with {text[0]!r}", f"write {kept},{text}")
    warnings: list[str] = []
    value = Bit.NONE
    for term in text.split(","):
        sign, body = (term[0], term[1:]) if term[:1] in ("+", "-") else ("+", term)
        bits = _term(body, text, warnings)
        value = value & ~bits if sign == "-" else value | bits
    return value, warnings


def _term(term: str, text: str, warnings: list[str]) -> int:
    word = term.strip().lower().replace("_", "-") if ":" not in term else term.strip().lower()
    if not word:
        raise FilterError(f"filter {text!r} has an empty term")
    if word in NAMES:
        return NAMES[word]
    if word in ALIASES:
        return ALIASES[word]
    if ":" in word:
        return _interface_of_2007(word)
    return _number(word, warnings)


def _number(word: str, warnings: list[str]) -> int:
    shown_by_kernel = len(word) == 8 and word[:2] != "0b" and _is_hex(word)
    if len(word) > 66:
        raise FilterError(f"filter {word[:20]!r}... is too long for a number")
    if shown_by_kernel or (word[:2] == "0x" and _is_hex(word[2:])):
        value = int(word, 16)
    elif word[:2] == "0b" and word[2:] and not word[2:].strip("01"):
        value = int(word[2:], 2)
    elif word.isascii() and word.isdigit():
        value = int(word)
        if value != int(word, 16):
            raise FilterError(
                f"filter {word!r} could be decimal ({_hex(value)}) or hexadecimal ({_hex(int(word, 16))})",
                f"write {_hex(value)} or {_hex(int(word, 16))}",
            )
    else:
        near = f"{near_names(word)} the names are {', '.join([*NAMES, *ALIASES])}".lstrip()
        hint = f"write 0x{word}" if _is_hex(word) else near
        raise FilterError(f"filter {word!r} is neither a number nor a name", hint)
    unknown = value & ~Bit.ALL
    if unknown:
        if not shown_by_kernel and value != 0xFFFFFFFF:
            raise FilterError(f"filter {word!r} has bits that do not exist: {_hex(unknown)}", "all is 0x1ff")
        warnings.append(f"filter {word}: bits that do not exist are ignored: {_hex(unknown)}")
    return value & Bit.ALL


def near_names(word: str) -> str:
    """Return ``did you mean ...?`` with the names that begin with a word, or else the nearest one, if one is near."""
    names = [*NAMES, *ALIASES]
    begun = [name for name in names if name.startswith(word)]
    return f"did you mean {', '.join(begun)}?" if begun else did_you_mean(word, names)


def _interface_of_2007(word: str) -> int:
    """The /proc files and sysctl of the patch series of December 2006 to March 2007, by the mails' changelogs."""
    name, _, number = word.partition(":")
    if len(number) > 66:
        raise FilterError(f"filter {word[:40]!r}... is too long for a number")
    try:
        # These files took any base that the kernel's strtoul knows, octal by a leading 0 included.
        value = int(number, 8) if number[:1] == "0" and number.isdigit() else int(number, 0)
    except ValueError:
        raise FilterError(f"filter {word!r} has no number after the colon", f"write {name}:1") from None
    if value < 0:
        raise FilterError(f"filter {word!r} has a negative number", f"write {name}:1")
    without_shared = Bit.PRIVATE_ANONYMOUS
    if name in ("coremask", "core_flags"):
        return without_shared if value & 1 else KERNEL_OF_2007
    if name == "coredump_omit_anonymous_shared":
        return without_shared if value else KERNEL_OF_2007
    if name == "core_flags_enable":
        if value:
            raise FilterError(f"filter {word!r} only lets core_flags decide", "write core_flags:N")
        return KERNEL_OF_2007
    if name == "coredump_anonymous_shared":
        raise FilterError(
            f"filter {word!r} could mean to dump anonymous shared memory, as it reads (0x3 for 1), or to omit "
            "it, as the file of that series does (0x1 for 1)",
            "write coredump_omit_anonymous_shared:N, 0x1 or 0x3",
        )
    raise FilterError(f"filter {word!r} names no interface that ever was")


def as_filter(value: int | str) -> tuple[int, list[str]]:
    """A filter from Python: an int is its bits, a text is read as on the command line; with its warnings."""
    if isinstance(value, str):
        return parse_filter(value)
    if not isinstance(value, int):
        raise FilterError(f"filter {value!r} is neither a number nor a text")
    return parse_filter(f"{int(value):#x}") if int(value) >= 0 else parse_filter(str(value))


def _is_hex(word: str) -> bool:
    return bool(word) and not word.strip("0123456789abcdef")


def _hex(value: int) -> str:
    return f"{value:#x}"


def describe(value: int) -> str:
    """Return the filter as ``default (0x33)``, ``all (0x1ff)``, or ``0x31 (private-anonymous, ...)``."""
    for word in ("default", "all"):
        if value == ALIASES[word]:
            return f"{word} ({value:#x})"
    names = ", ".join(name for name, bit in NAMES.items() if value & bit)
    return f"{value:#x} ({names or 'none'})"
