"""SQLite in WAL mode: the database is mapped for reading, its index (-shm) is shared by all processes.

    wal.py DATABASE write|read

Says "ready PID", answers every line of standard input with a sum, and ends with the input.
"""

import os
import sqlite3
import sys


def main():
    path, role = sys.argv[1:]
    database = sqlite3.connect(path)
    database.execute("pragma journal_mode = wal")
    database.execute("pragma mmap_size = 16777216")
    if role == "write":
        database.execute("create table t (n integer, filler text)")
        with database:
            database.executemany("insert into t values (?, ?)", ((n, "x" * 100) for n in range(50_000)))
        database.execute("pragma wal_checkpoint")
        with database:
            database.execute("insert into t values (1, 'behind the checkpoint')")
    question = "select sum(n), sum(length(filler)) from t"
    print("ready", os.getpid(), flush=True)
    for _ in sys.stdin:
        print(*database.execute(question).fetchone(), flush=True)


if __name__ == "__main__":
    main()
