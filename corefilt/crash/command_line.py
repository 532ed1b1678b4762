"""The command line and the environment, as the kernel laid them on the first stack."""

from __future__ import annotations

from corefilt.corefile.notes import AT_EXECFN, AT_NULL, AT_PLATFORM, AT_RANDOM
from corefilt.value import FrozenValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from typing import Final

    from corefilt.corefile.corefile import CoreFile
    from corefilt.corefile.memory import Memory

AT_BASE_PLATFORM = 24
STACK, TITLE, PRPSINFO = "stack", "stack, rewritten by the program", "NT_PRPSINFO"
# What stands right above the auxiliary vector: names of the platform and the random bytes (create_elf_tables in
# fs/binfmt_elf.c of Linux 6.18). A vector has some 25 entries, 400 bytes; those of PowerPC have 40.
_ABOVE = 4096
# AT_EXECFN's string stands above those of the environment, which have some KiB.
_ABOVE_WITHOUT = 256 << 10
# The kernel lets arguments and environment have three quarters of 8 MiB in all (bprm_stack_limits, fs/exec.c).
MOST_OF_STRINGS = 6 << 20
MOST_POINTERS = MOST_OF_STRINGS // 8
# Where pr_psargs stands in struct elf_prpsinfo, by its size; 80 bytes (ELF_PRARGSZ) are left of the command line.
_PSARGS = {136: 56, 128: 48, 124: 44}
_ELF_PRARGSZ = 80


class CommandLine(FrozenValue):
    """The arguments; ``source`` says where they were read.

    ``stack``: whole and as they were given. ``stack, rewritten by the program``: what the program wrote there
    (setproctitle). ``NT_PRPSINFO``: its first 79 bytes, in one argument, because the stack is not in the core or the
    program moved them elsewhere (prctl PR_SET_MM_ARG_START).
    """

    __slots__ = ("arguments", "source")

    def __init__(self, arguments: tuple[bytes, ...], source: str) -> None:
        self.arguments: Final = arguments
        self.source: Final = source

    def __str__(self) -> str:
        """The arguments as a shell takes them; what is not text is shown escaped."""
        import shlex

        from corefilt.text import printable

        if self.source != STACK:
            return " ".join(printable(argument) for argument in self.arguments)
        return shlex.join(printable(argument) for argument in self.arguments)

    def as_dict(self) -> dict[str, object]:
        """The command line as JSON; bytes that are no UTF-8 are escaped."""
        from corefilt.text import printable

        return {"arguments": [printable(argument) for argument in self.arguments], "source": self.source}


def command_line(core: CoreFile, memory: Memory | None) -> CommandLine | None:
    """The command line, or None where neither the stack nor NT_PRPSINFO has it. ``memory`` None: by the notes alone."""
    told = _psargs(core)
    found = _on_stack(core, memory) if memory is not None else None
    if found is not None:
        raw = b"\0".join(found.arguments)
        if told is None or _agree(raw, told):
            return found
    return CommandLine((told,), PRPSINFO) if told else found


def environment(core: CoreFile, memory: Memory) -> list[bytes]:
    """The environment that the process was started with, as ``NAME=value``; it can hold secrets."""
    place = _place(core, memory)
    if place is None:
        return []
    budget = MOST_OF_STRINGS
    found: list[bytes] = []
    for pointer in place[1]:
        text = memory.text(pointer, min(budget, MOST_OF_STRINGS))
        budget -= len(text) + 1
        found.append(text)
        if budget <= 0:
            break
    return found


def _psargs(core: CoreFile) -> bytes | None:
    """What NT_PRPSINFO has of the command line, where it has any."""
    desc = core.notes.prpsinfo
    if len(desc) not in _PSARGS:
        return None
    at = _PSARGS[len(desc)]
    # The kernel makes the zeros between arguments blanks, the last one too.
    return desc[at : at + _ELF_PRARGSZ].split(b"\0", 1)[0].rstrip(b" ") or None


def _agree(raw: bytes, told: bytes) -> bool:
    """Whether NT_PRPSINFO tells of the same command line."""
    shown = raw.replace(b"\0", b" ")
    return shown[: _ELF_PRARGSZ - 1].rstrip(b" ") == told[: _ELF_PRARGSZ - 1]


def _on_stack(core: CoreFile, memory: Memory) -> CommandLine | None:
    place = _place(core, memory)
    if place is None:
        return None
    argv, envp, above = place
    # The strings stand in the order of the arguments, without a gap; getopt may have moved the pointers.
    pointers = sorted(pointer for pointer in argv if above <= pointer)
    if not pointers:
        return None
    ends = [pointer for pointer in envp if pointer > pointers[0]]
    end = min(ends, default=pointers[0] + MOST_OF_STRINGS)
    raw = memory.read(pointers[0], min(end - pointers[0], MOST_OF_STRINGS))
    texts = raw.split(b"\0", len(argv))
    starts, at = [], pointers[0]
    for text in texts[: len(argv)]:
        starts.append(at)
        at += len(text) + 1
    if len(texts) > len(argv) and starts == pointers:
        return CommandLine(tuple(texts[: len(argv)]), STACK)
    title = raw.rstrip(b"\0 ") if ends else raw.split(b"\0", 1)[0]
    return CommandLine(tuple(title.split(b"\0")), TITLE) if title else None


def _place(core: CoreFile, memory: Memory) -> tuple[list[int], list[int], int] | None:
    """The pointers of argv and envp, and the address behind the auxiliary vector on the first stack."""
    auxv = core.notes.auxv
    if len(auxv) < 2:
        return None
    anchors = [(auxv.get(key, 0), _ABOVE) for key in (AT_RANDOM, AT_PLATFORM, AT_BASE_PLATFORM)]
    for anchor, window in [*anchors, (auxv.get(AT_EXECFN, 0), _ABOVE_WITHOUT)]:
        mapping = memory.find(anchor) if anchor else None
        if mapping is None:
            continue
        low = max(anchor - window, memory.start(mapping))
        low = -(-low // memory.word) * memory.word
        words = memory.words(low, anchor)
        at = _vector(words, auxv)
        if at is not None:
            pointers = _pointers(memory, low, words, at, memory.start(mapping))
            if pointers is not None:
                return *pointers, low + at * memory.word
    return None


def _vector(words: array[int], auxv: dict[int, int]) -> int | None:
    """Where the auxiliary vector begins among words of the stack: it is what NT_AUXV holds, behind envp's end."""
    key, value = next(iter(auxv.items()))
    for at in range(1, len(words) - 3):
        if words[at] != key or words[at + 1] != value or words[at - 1]:
            continue
        seen: set[int] = set()
        for n in range(at, len(words) - 1, 2):
            if words[n] == AT_NULL:
                break
            # PowerPC's vector has AT_IGNOREPPC twice.
            if words[n] not in auxv or (words[n] not in seen and auxv[words[n]] != words[n + 1]):
                seen.clear()
                break
            seen.add(words[n])
        if len(seen) == len(auxv):
            return at
    return None


def _pointers(
    memory: Memory, low: int, words: array[int], at: int, start: int
) -> tuple[list[int], list[int]] | None:  # fmt: skip
    """The pointers before the vector: argc, those of argv, NULL, those of envp, NULL."""
    word = memory.word
    before = list(words[: at - 1])
    for _ in range(2):
        found = _split(before)
        if found is not None:
            return found
        # An environment or a command line of more than 4 KiB of pointers.
        first = max(start, low - MOST_POINTERS * word)
        before = list(memory.words(first, low)) + list(words[: at - 1])
    return None


def _split(before: list[int]) -> tuple[list[int], list[int]] | None:
    """The pointers of argv and of envp, of the words up to the NULL that ends envp."""
    n = len(before) - 1
    while n >= 0 and before[n]:
        n -= 1
    if n < 0:
        return None
    envp = before[n + 1 :]
    # The number of arguments stands before the first of their pointers, which are never so small.
    for argc in range(n):
        if before[n - 1 - argc] == argc:
            return before[n - argc : n], envp
        if not before[n - 1 - argc]:
            return None
    return None
