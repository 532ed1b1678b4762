"""Makes a standalone directory start where it is: the loader's path in bin/python3, and the first lines of programs.

Usage: DIRECTORY/lib/ld-linux-*.so.* DIRECTORY/bin/python3 -I DIRECTORY/relocate.py DIRECTORY [PREFIX]

PREFIX is where it will be, if not where it is. Until this is done bin/python3 starts with the loader's help only.
"""

import os
import struct
import sys
from pathlib import Path

# elf.h
PT_INTERP = 3
_E_PHOFF, _E_PHENTSIZE = 32, 54


def interpreter(python: bytes) -> tuple[int, int]:
    """Offset and size of the loader's path in a 64-bit little-endian program."""
    (phoff,) = struct.unpack_from("<Q", python, _E_PHOFF)
    size, count = struct.unpack_from("<HH", python, _E_PHENTSIZE)
    for n in range(count):
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", python, phoff + n * size)
        if kind == PT_INTERP:
            return offset, length
    raise SystemExit("bin/python3 has no PT_INTERP")


def main(directory: Path, prefix: str) -> None:
    """Write the paths; the program is replaced whole, for it runs."""
    program = directory / "bin/python3"
    raw = bytearray(program.read_bytes())
    offset, size = interpreter(raw)
    (loader,) = (path.name for path in (directory / "lib").glob("ld-linux-*.so.*"))
    path = os.fsencode(f"{prefix}/lib/{loader}")
    if not path.startswith(b"/") or len(path) >= size:
        raise SystemExit(f"{prefix}: no absolute path of at most {size - len(loader) - 6} bytes")
    raw[offset : offset + size] = path.ljust(size, b"\0")
    replace(program, bytes(raw))
    for name in ("corefilt", "corefilt-handle"):
        script = directory / "bin" / name
        replace(script, f"#!{prefix}/bin/python3\n".encode() + script.read_bytes().partition(b"\n")[2])


def replace(path: Path, content: bytes) -> None:
    """Put a program in the place of another."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(content)
    new.chmod(0o755)
    new.replace(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), (sys.argv[2:] or [os.path.abspath(sys.argv[1])])[0])
