"""Puts together which lines the processes of a traced run wrote down, each in a file of its own (python .ci/lines.py).

``coverage combine`` does not take them: the compiled module tells its source by a path below the folder in which a
process stands, and where no source is found there, its lines count as those of another language. A module that nothing
has loaded counts with none of its lines. Lines that an earlier call put together count too; files that were read are
removed, for ``coverage report`` would combine them.
"""

import os
import sqlite3
from pathlib import Path

from coverage import CoverageData
from coverage.numbits import numbits_to_nums, numbits_union

PACKAGE = Path("corefilt").resolve()
LINES = "select path, numbits from line_bits join file on file.id = file_id"


def main() -> None:
    """Write .coverage; a process that was killed while it wrote left half a file, which is counted."""
    seen = {os.fspath(path): b"" for path in PACKAGE.rglob("*.py*") if path.suffix in (".py", ".pyx")}
    parts, unread = list(Path().glob(".coverage*")), 0
    for part in parts:
        try:
            rows = sqlite3.connect(part).execute(LINES).fetchall()
        except sqlite3.DatabaseError:
            unread += 1
            continue
        for path, bits in rows:
            name = os.fspath(PACKAGE / path.rpartition("/corefilt/")[2])
            # In a clone called corefilt, packages of others are below such a folder, too.
            if name in seen:
                seen[name] = numbits_union(seen[name], bits)
    whole = CoverageData()
    whole.erase()
    whole.add_lines({name: numbits_to_nums(bits) for name, bits in seen.items()})
    whole.add_file_tracers({name: "Cython.Coverage.Plugin" for name in seen if name.endswith(".pyx")})
    whole.close()
    for part in Path().glob(".coverage.*"):
        part.unlink()
    print(f"lines of {len(seen)} modules by {len(parts)} processes, {unread} of which left no readable file")


main()
