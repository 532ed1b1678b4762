"""What a core file says: ELF header, tables, notes, mappings, memory, registers, FDPIC, the COREFILT note."""
