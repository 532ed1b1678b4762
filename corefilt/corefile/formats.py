"""What a file that is not an ELF core is, by its first bytes, and what to try with it.

Signatures are those of the formats' own documents and writers; magic(5) has most of them.
"""

from __future__ import annotations

import re

from corefilt.corefile.elf import ELFMAG, ET_CORE
from corefilt.text import counted

# Bytes that are looked at; tar has its magic at 257.
HEAD = 512

_BATCH = "corefilt batch FILTER {name} --to DIR takes the cores out of it"
_KERNEL = "makedumpfile filters dumps of kernels, and crash reads them"
_GUEST = "that is a virtual machine's memory; corefilt filters cores of processes"
_UNPACK = "{tool} {name} | corefilt FILTER decompresses it first"

# What begins with these bytes is this.
_MAGICS: tuple[tuple[bytes, str, str], ...] = (
    (b"MDMP", "a minidump", "minidump-2-core, of breakpad, makes an ELF core of one"),
    (b"PAGEDUMP", "a dump of a Windows kernel", ""),
    (b"PAGEDU64", "a dump of a Windows kernel", ""),
    (b"KDUMP   ", "a kdump, a compressed dump of a kernel", _KERNEL),
    (b"DISKDUMP", "a diskdump, a compressed dump of a kernel", _KERNEL),
    (b"makedumpfile\0", "a flattened dump of a kernel", "makedumpfile -R makes a plain one of it; " + _KERNEL),
    (b"QEVM", "a saved state of QEMU", _GUEST),
    (b"LibvirtQemudSave", "a saved state of libvirt", _GUEST),
    (b"LibvirtQemudPart", "a part of a saved state of libvirt", _GUEST),
    (b"QFI\xfb", "a disk image of QEMU (qcow2)", _GUEST),
    (b"\xfe\xed\xfa\xce", "a Mach-O file of 32 bits, big-endian", "lldb reads cores of macOS"),
    (b"\xce\xfa\xed\xfe", "a Mach-O file of 32 bits", "lldb reads cores of macOS"),
    (b"\xfe\xed\xfa\xcf", "a Mach-O file of 64 bits, big-endian", "lldb reads cores of macOS"),
    (b"\xcf\xfa\xed\xfe", "a Mach-O file of 64 bits", "lldb reads cores of macOS"),
    (b"PK\3\4", "a zip archive", _BATCH),
    (b"PK\5\6", "an empty zip archive", ""),
    (b"PK\7\x08", "a part of a zip archive", "join the parts first (zip -s 0)"),
    (b"\x37\x7a\xbc\xaf\x27\x1c", "a 7z archive", "take the core out of it first"),
    (b"Rar!\x1a\7", "a rar archive", "take the core out of it first"),
    (b"070701", "a cpio archive", "take the core out of it first"),
    (b"070702", "a cpio archive", "take the core out of it first"),
    (b"!<arch>\n", "an ar archive", "take the core out of it first"),
    (b"\x02\x21\x4c\x18", "an lz4 stream of the legacy format (lz4 -l)", _UNPACK.replace("{tool}", "lz4 -dc")),
    (b"LZIP", "an lzip stream", _UNPACK.replace("{tool}", "lzip -dc")),
    (b"\x89LZO\0\r\n\x1a\n", "an lzop stream", _UNPACK.replace("{tool}", "lzop -dc")),
    (b"\x1f\x9d", "a stream of compress (.Z)", _UNPACK.replace("{tool}", "gzip -dc")),
    (b"\xff\6\0\0sNaPpY", "a snappy stream", "decompress it first"),
    (b"JAVA PROFILE 1.0", "a heap dump of a JVM (hprof)", "the core of that process is another file"),
    (b"LPKSHHRH", "a journal of systemd", "coredumpctl dump --file={name} gives the cores in it"),
)
_JVM_ERROR = b"# A fatal error has been detected by the Java Runtime Environment"
_REPORT = re.compile(rb"^(?:ProblemType|CoreDump|ProcMaps):", re.MULTILINE)
# What `esp_core_dump_to_uart` of ESP-IDF prints around a core in base64.
_ON_A_CONSOLE = b"CORE DUMP START"
# The properties of .lzma that are written by every encoder that was seen (lc=3, lp=0, pb=2), and what may follow: a
# window of 2^n or 2^n + 2^(n-1) bytes, and a length that xz takes for one, of less than 256 GiB or not told.
_LZMA_PROPERTIES = 0x5D
_LZMA_LONGEST = 1 << 38


def is_report(head: bytes) -> bool:
    """Whether this begins like an apport report."""
    return _REPORT.search(head) is not None


def is_tar(head: bytes) -> bool:
    """Whether this begins like a tar."""
    return head[257:262] == b"ustar"


def described(head: bytes, name: str) -> tuple[str, str] | None:
    """What begins with these bytes, with the field and value that tell, and what to try with the file ``name``.

    None for what is not known. What to try can be empty.
    """
    what = next(((words, hint, magic, 0) for magic, words, hint in _MAGICS if head.startswith(magic)), None)
    what = what or _further_in(head)
    if what is None:
        return None
    words, hint, magic, at = what
    shown = magic.decode("ascii").rstrip("\0 \n") if magic.rstrip(b"\0").isascii() and _is_text(magic) else ""
    told = repr(shown) if shown else f"0x{magic.hex()}"
    return f"{words} (signature {told} at byte {at})", hint.replace("{name}", name)


def _is_text(magic: bytes) -> bool:
    return all(32 <= byte < 127 for byte in magic.rstrip(b"\0\n"))


def _further_in(head: bytes) -> tuple[str, str, bytes, int] | None:
    """What is told by more than its first bytes: words, what to try, the bytes that tell and where they are."""
    if is_tar(head):
        return "a tar archive", _BATCH, b"ustar", 257
    at = head.find(ELFMAG)
    if at > 0 and _is_core(head[at:]):
        return _after_a_header(head, at)
    if _JVM_ERROR in head:
        hint = "the line 'Core dump will be written' in it names the core"
        return "an error report of a JVM (hs_err)", hint, b"# A fatal error", head.index(_JVM_ERROR)
    if _ON_A_CONSOLE in head:
        hint = "esp-coredump info_corefile --core-format b64 --save-core CORE decodes it"
        return "a core of ESP-IDF as its console shows it", hint, _ON_A_CONSOLE, head.index(_ON_A_CONSOLE)
    if head.startswith(b"f0VMR"):
        return "an ELF file in base64", "base64 -d {name} | corefilt FILTER decodes it first", b"f0VMR", 0
    report = _REPORT.search(head)
    if report is not None:
        return "an apport report", _BATCH, report.group(), report.start()
    if _is_lzma(head):
        return "an lzma stream (.lzma)", _UNPACK.replace("{tool}", "xz -dc"), head[:5], 0
    if _is_zlib(head):
        return "a zlib stream", _UNPACK.replace("{tool}", "pigz -dc"), head[:2], 0
    return None


def _is_core(head: bytes) -> bool:
    return len(head) >= 18 and int.from_bytes(head[16:18], "big" if head[5] == 2 else "little") == ET_CORE


def _after_a_header(head: bytes, at: int) -> tuple[str, str, bytes, int]:
    """An ELF core that does not begin where the file does, as ESP-IDF keeps it in flash.

    ``core_dump_header_t`` of ESP-IDF has five or six words before it, the second of which is a version whose
    second byte is 1 for ELF (``COREDUMP_VERSION_ELF_CRC32`` and ``_SHA256``).
    """
    words = [int.from_bytes(head[i : i + 4], "little") for i in range(0, at, 4)]
    of_esp = at in (20, 24) and words[1] >> 8 & 0xFF == 1
    what = "a core of ESP-IDF with its own header" if of_esp else "an ELF core with other bytes before it"
    return what, f"tail -c +{at + 1} {{name}} | corefilt FILTER skips the first {counted(at, 'byte')}", ELFMAG, at


def _is_lzma(head: bytes) -> bool:
    if len(head) < 13 or head[0] != _LZMA_PROPERTIES:
        return False
    window, length = int.from_bytes(head[1:5], "little"), int.from_bytes(head[5:13], "little")
    low = window & -window
    return window > 0 and window in (low, 3 * low) and (length < _LZMA_LONGEST or length == (1 << 64) - 1)


def _is_zlib(head: bytes) -> bool:
    """Whether zlib begins to decompress it: 0x78 stands before much else, and a check of 5 bits passes by chance."""
    if head[:1] != b"\x78" or int.from_bytes(head[:2], "big") % 31:
        return False
    import zlib

    try:
        return bool(zlib.decompressobj().decompress(head, 64))
    except zlib.error:
        return False
