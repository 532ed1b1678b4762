"""Leaves the segments at some addresses out of a core with LIEF, in one of the two ways that it offers.

python withlief.py remove|empty CORE OUT ADDRESS...
"""

import sys

import lief

how, core, out = sys.argv[1:4]
addresses = {int(word, 0) for word in sys.argv[4:]}
parsed = lief.ELF.parse(core)
if parsed is None:
    sys.exit("LIEF does not read it")
for segment in list(parsed.segments):
    if segment.type == lief.ELF.Segment.TYPE.LOAD and segment.virtual_address in addresses:
        if how == "remove":
            parsed.remove(segment)
        else:
            segment.content = []
            segment.physical_size = 0
parsed.write(out)
