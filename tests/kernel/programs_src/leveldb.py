"""plyvel, whose libraries were rewritten when its wheel was repaired, over a LevelDB that maps its tables.

    leveldb.py PACKAGES DATABASE

Says "ready PID", answers every line of standard input with a sum, and ends with the input.
"""

import os
import sys


def main():
    sys.path.insert(0, sys.argv[1])
    import plyvel

    database = plyvel.DB(sys.argv[2], create_if_missing=True)
    for n in range(20_000):
        database.put(b"%d" % n, b"x" * 100)
    database.compact_range()
    print("ready", os.getpid(), flush=True)
    for _ in sys.stdin:
        print(sum(len(value) for _, value in database), flush=True)
    database.close()


if __name__ == "__main__":
    main()
