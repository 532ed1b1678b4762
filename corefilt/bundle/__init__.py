"""A core with the files that a debugger needs for it, in one archive: made, checked, and opened again."""
