"""Level ``env``: arguments and environment as the process was started with them, and pr_psargs of NT_PRPSINFO."""

from __future__ import annotations

from corefilt.corefile.notes import AT_RANDOM, NT_PRPSINFO, OF_THE_PROCESS
from corefilt.scrub.found import TEXT, Match, Matches
from corefilt.scrub.notes import spans
from corefilt.scrub.rule import LEAST_VALUE, is_searchable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.corefile.corefile import CoreFile
    from corefilt.corefile.memory import Memory
    from corefilt.scrub.search import Captured

ENVIRONMENT, ARGUMENTS = "environment-block", "arguments"
# struct elf_prpsinfo ends with pr_psargs, of ELF_PRARGSZ bytes (include/uapi/linux/elfcore.h of Linux 6.18).
_PSARGS = 80
# The kernel gives arguments and environment no more than 6 MiB, and one of them no more than 128 KiB
# (bprm_stack_limits and MAX_ARG_STRLEN in Linux 6.18).
_MOST_OF_BLOCK, _MOST_OF_STRING = 8 << 20, 128 << 10
# AT_RANDOM's bytes stand above the auxiliary vector with no more than two names and an alignment between them.
_ABOVE = 4096


def take_environment(core: CoreFile, found: Matches, captured: Captured) -> None:
    """Have all of it overwritten, and values of the environment looked for elsewhere. Raises ScrubError."""
    for n_type, name, offset, length in spans(core):
        if n_type == NT_PRPSINFO and name in OF_THE_PROCESS and length > _PSARGS:
            raw = core.source.peek(offset + length - _PSARGS, _PSARGS)
            used = len(raw.rstrip(b"\0"))
            if used:
                found.add(Match(offset + length - _PSARGS, None, used, ARGUMENTS))
    memory = core.memory(4 * _MOST_OF_BLOCK)
    vectors = _vectors(core, memory)
    if vectors is None:
        found.notices.append(
            "the arguments and the environment of the process were not found: its first stack is not in the core"
        )
        return
    for address in vectors[0]:
        _overwrite(core, memory, found, address, memory.text(address, _MOST_OF_STRING), ARGUMENTS)
    for address in vectors[1]:
        entry = memory.text(address, _MOST_OF_STRING)
        name, equals, value = entry.partition(b"=")
        skip = len(name) + len(equals)
        _overwrite(core, memory, found, address + skip, value, ENVIRONMENT)
        if len(value) >= LEAST_VALUE and b"/" not in value and is_searchable(value):
            captured.values.setdefault(value, (ENVIRONMENT, address + skip, TEXT))


def _overwrite(core: CoreFile, memory: Memory, found: Matches, address: int, value: bytes, rule: str) -> None:
    i = memory.find(address)
    if value and i is not None:
        found.add(Match(core.table.p_offset[i] + address - memory.start(i), address, len(value), rule))


def _vectors(core: CoreFile, memory: Memory) -> tuple[list[int], list[int]] | None:
    """Where argv's and envp's strings are, by the auxiliary vector that follows their pointers on the stack."""
    pairs = list(core.notes.auxv.items())
    above = core.notes.auxv.get(AT_RANDOM)
    if above is None or len(pairs) < 2:
        return None
    word, order = memory.word, "big" if core.ehdr.big else "little"
    needle = b"".join(number.to_bytes(word, order) for pair in pairs[:2] for number in pair)  # type: ignore[arg-type]
    start = max(0, above - _ABOVE)
    at = memory.read(start, above - start).find(needle)
    if at < 0:
        return None
    at += start
    environment = list(_backwards(memory, at - word))
    arguments = list(_backwards(memory, at - word * (2 + len(environment))))
    return arguments, environment


def _backwards(memory: Memory, at: int) -> Iterator[int]:
    """The pointers below the null at an address, down to the next null, or to argc, which is not an address."""
    if memory.numbers(at, 1) != [0]:
        return
    block = _MOST_OF_BLOCK // 64
    while block:
        at, block = at - memory.word, block - 1
        number = memory.numbers(at, 1)
        if not number or memory.find(number[0]) is None:
            return
        yield number[0]
