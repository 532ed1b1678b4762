"""Leaves anonymous shared memory out of a core: what a person writes with pyelftools and struct.

python withpyelftools.py CORE OUT
"""

import struct
import sys

from elftools.elf.elffile import ELFFile

PHDR = struct.Struct("<IIQQQQQQ")

with open(sys.argv[1], "rb") as source, open(sys.argv[2], "wb") as out:
    core = ELFFile(source)
    shared = set()
    for segment in core.iter_segments("PT_NOTE"):
        for note in segment.iter_notes():
            if note["n_type"] == "NT_FILE":
                files = note["n_desc"]
                for entry, name in zip(files["Elf_Nt_File_Entry"], files["filename"], strict=True):
                    if name == b"/dev/zero (deleted)":
                        shared.add(entry["vm_start"])

    loads = list(core.iter_segments("PT_LOAD"))
    source.seek(0)
    out.write(source.read(loads[0]["p_offset"]))
    headers = []
    for segment in core.iter_segments():
        header = dict(segment.header)
        if header["p_type"] == "PT_LOAD":
            header["p_offset"] = out.tell()
            if header["p_vaddr"] in shared:
                header["p_filesz"] = 0
            else:
                out.write(segment.data())
        headers.append(header)

    out.seek(core["e_phoff"])
    for header in headers:
        out.write(
            PHDR.pack(
                {"PT_LOAD": 1, "PT_NOTE": 4}[header["p_type"]],
                header["p_flags"],
                header["p_offset"],
                header["p_vaddr"],
                header["p_paddr"],
                header["p_filesz"],
                header["p_memsz"],
                header["p_align"],
            )
        )
