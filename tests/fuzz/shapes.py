"""What several targets share: the choices at the end of an input, and the classes, byte orders and machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from support.builder import (
    EM_68K,
    EM_386,
    EM_AARCH64,
    EM_ARM,
    EM_PPC,
    EM_PPC64,
    EM_RISCV,
    EM_S390,
    EM_SH,
    EM_X86_64,
    EM_XTENSA,
    make_core,
)

if TYPE_CHECKING:
    from corefilt.corefile.elf import Ehdr


class Shape(NamedTuple):
    """How a core is written."""

    bits: int
    little_endian: bool
    machine: int

    @property
    def ehdr(self) -> Ehdr:
        """An ELF header of this shape."""
        from corefilt.corefile.elf import Ehdr

        return Ehdr(make_core([], bits=self.bits, little_endian=self.little_endian, machine=self.machine)[:64])


SHAPES = [
    Shape(64, True, EM_X86_64), Shape(32, True, EM_386), Shape(64, False, EM_PPC64), Shape(32, False, EM_PPC),
    Shape(64, True, EM_AARCH64), Shape(32, True, EM_ARM), Shape(64, True, EM_RISCV), Shape(32, True, EM_RISCV),
    Shape(64, False, EM_S390), Shape(32, True, EM_SH), Shape(32, False, EM_68K), Shape(32, True, EM_XTENSA),
]  # fmt: skip


class Choices:
    """The last bytes of an input, of which each decides something; what is before them is the content.

    At the end, so that a whole file that somebody else wrote is an input as it stands.
    """

    COUNT = 4

    def __init__(self, data: bytes) -> None:
        """Part the two; an input that is too short decides everything as zeros do."""
        self.content = data[: -self.COUNT]
        self._left = bytearray(data[-self.COUNT :].rjust(self.COUNT, b"\0"))

    def number(self, below: int) -> int:
        """A number from 0 on, by the next byte."""
        return self._left.pop() % below if self._left else 0

    def filter(self) -> int:
        """One of the 512 filters."""
        return self.number(256) | self.number(2) << 8

    def shape(self) -> Shape:
        """One of SHAPES."""
        return SHAPES[self.number(len(SHAPES))]
