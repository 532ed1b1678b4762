"""The bits of a filter as Python's users write them: an IntFlag."""

from __future__ import annotations

from enum import IntFlag

from corefilt.filterbits import Bit


class CoredumpFilter(IntFlag):
    """Which mappings are kept; the values are the kernel's ``MMF_DUMP_*`` bits, shifted down to bit 0."""

    NONE = Bit.NONE
    PRIVATE_ANONYMOUS = Bit.PRIVATE_ANONYMOUS
    SHARED_ANONYMOUS = Bit.SHARED_ANONYMOUS
    PRIVATE_FILE_BACKED = Bit.PRIVATE_FILE_BACKED
    SHARED_FILE_BACKED = Bit.SHARED_FILE_BACKED
    ELF_HEADERS = Bit.ELF_HEADERS
    PRIVATE_HUGE = Bit.PRIVATE_HUGE
    SHARED_HUGE = Bit.SHARED_HUGE
    PRIVATE_DAX = Bit.PRIVATE_DAX
    SHARED_DAX = Bit.SHARED_DAX
    DEFAULT = Bit.DEFAULT
    ALL = Bit.ALL
