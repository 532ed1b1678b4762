"""The conventions: what programs are known to do, by which rules drop bytes that nothing in the evidence disproves.

A convention may drop bytes only while no real program is known to break it; ``python -m kernel.agreement`` counts, for
each name below, the mappings that agree with it and those that break it (docs/evidence.md has the table). The names
are stable: reports, counts and documentation use them.
"""

from __future__ import annotations

from corefilt.kinds import Convention

# What the kernel writes down, read as if it could not be otherwise.
NT_FILE = Convention("nt-file", "a mapping that NT_FILE does not name has no file")
LINKED_NAME = Convention("linked-name", "a file whose name does not end in (deleted) has a link")
DEV_ZERO = Convention("dev-zero", "/dev/zero (deleted) is shared anonymous memory")
SYSV = Convention("sysv", "System V shared memory is never private")
SYSV_MODE = Convention("sysv-mode", "System V shared memory has an executable mode")
KERNEL_RING = Convention("kernel-ring", "rings of aio, io_uring, KVM and sockets are shared")
DAX_DEVICE = Convention("dax-device", "a DAX device is mapped shared")
NO_DAX = Convention("no-dax", "no file system is mounted with DAX")
SMALL_PAGES = Convention("small-pages", "the files of a directory are either all on hugetlbfs or none")
SPECIAL_SHAPE = Convention("special-shape", "a special mapping is one executable page, an ELF image, or next to [vdso]")
VVAR = Convention("vvar", "a small unwritable mapping next to [vdso] is [vvar]")
STACK_POINTER = Convention("stack-pointer", "a thread's stack is private memory without a file")

# What a dump that left something out shows.
HEADER_LEFT = Convention(
    "header-left", "if only the first page was dumped, it is the header page (0x10) of a private file mapping"
)
BIT_0_IN_FORCE = Convention(
    "bit-0-in-force", "the dump's filter included 0x1, so a mapping that it left out was not written to"
)
BIT_1_IN_FORCE = Convention(
    "bit-1-in-force", "the dump's filter included 0x2, so a mapping that it left out is not shared memory"
)
BIT_2_LEFT_OUT = Convention(
    "bit-2-left-out", "the dump's filter lacked 0x4, so a file mapping that was dumped whole was written to"
)

# What loaders and programs do.
IMAGE_PRIVATE = Convention("image-private", "segments of a loaded ELF image are private")
IMAGE_TEXT = Convention("image-text", "an unwritable segment of an ELF image was not written to")
IMAGE_DATA = Convention("image-data", "a writable segment that the loader relocates or clears was written to")
MAPPED_AGAIN = Convention("mapped-again", "text of an ELF image that is mapped a second time was not written to")
LAYOUT_PRIVATE = Convention("layout-private", "mappings that are laid out like an ELF image are private")
LAYOUT_TEXT = Convention("layout-text", "a mapping that is laid out like text of an ELF image was not written to")
LAYOUT_DATA = Convention("layout-data", "a mapping that is laid out like data of an ELF image was written to")
LOADMAP = Convention("loadmap", "a segment that a loadmap names is private, and unwritten unless it is writable")
ELF_UNSHARED = Convention(
    "elf-unshared", "an unwritable mapping of an ELF file is private, or its file was not opened for writing"
)
RUNTIME_ARCHIVE = Convention(
    "runtime-archive", "heap images of language runtimes are private, and relocated if writable"
)
SYSTEM_FILE = Convention(
    "system-file", "a system file that is writable nowhere in the process is private and unwritten"
)
SHM_ONE_LINK = Convention("shm-one-link", "an unlinked file in /dev/shm has no second link")
SHARED_NAME = Convention(
    "shared-name", "some names (memfd:java_heap, PostgreSQL.*, psm_*, ...) occur only on shared mappings"
)
READ_ONLY_FILE = Convention("read-only-file", "a file that the process maps for reading only was not written to")
SCRIPT = Convention("script", "a file that begins with #! is executable")
DATA_MODE = Convention("data-mode", "data files in the system's directories have no executable mode")

# What evidence beside the core shows.
SWAPPED = Convention("swapped", "a mapping of which smaps counts pages in Swap was written to")
NEVER_WRITABLE = Convention(
    "never-writable", "a mapping whose VmFlags lack ac was never writable, so it was not written to"
)
MEMORY_DEVICE = Convention("memory-device", "shared memory on another device than that of small pages has huge pages")
FILE_COPY = Convention("file-copy", "the file below --sysroot is the one that was mapped")
RECORDED = Convention("recorded", "the COREFILT note recorded it as a convention")
