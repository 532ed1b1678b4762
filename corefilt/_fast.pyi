from array import array
from collections.abc import Iterable

from typing_extensions import Buffer

READWRITE: int
COPY_FILE_RANGE: int
SPLICE: int
SENDFILE: int
REFLINK: int
DONTCACHE: int
MOST_BUFFERS: int
ALIKE: int
LIMB: int
UNIQUE: int
WITH_BYTES: int
WITH_FIRST_BYTES: int
CYTHON: str

_Columns = tuple[array[int], ...]

def decode_phdrs(data: Buffer, columns: _Columns, *, wide: bool, big: bool) -> None: ...
def encode_phdrs(columns: _Columns, *, wide: bool, big: bool) -> bytes: ...
def shift(offsets: Buffer, out: Buffer, starts: Buffer, ends: Buffer, before: Buffer, last: int) -> None: ...
def walk_notes(data: Buffer, *, big: bool) -> tuple[list[tuple[int, int, int, int, int]], int]: ...
def decode_nt_file(desc: Buffer, ranges: Buffer, names: Buffer, *, wide: bool, big: bool) -> int: ...
def select(column: array[int], value: int, out: Buffer) -> int: ...
def first_beyond(starts: array[int], sizes: Buffer, last: int) -> int | None: ...
def first_within(starts: array[int], sizes: Buffer, low: int, high: int) -> int | None: ...
def filled(starts: array[int], sizes: Buffer, out: Buffer) -> tuple[int, bool]: ...
def last_end(starts: array[int], sizes: Buffer) -> int: ...
def follows(starts: array[int], sizes: Buffer, first: int) -> bool: ...
def clip(starts: array[int], sizes: Buffer, end: int, out: Buffer) -> int: ...
def smaller(column: array[int], other: Buffer, out: Buffer) -> None: ...
def cut(
    offsets: array[int], sizes: Buffer, present: Buffer, reached: int, starts: Buffer, ends: Buffer, before: Buffer
) -> int | None: ...
def covering(
    starts: Buffer,
    sizes: Buffer,
    rows: array[int],
    ranges: Buffer,
    order: array[int],
    unit: int,
    entries: Buffer,
    offsets: Buffer,
) -> tuple[int, bool]: ...
def matching(
    rows: array[int],
    paths: Buffer,
    flags: Buffer,
    sizes: Buffer,
    named: bool,
    mask: int,
    value: int,
    least: int,
    most: int,
    out: Buffer,
) -> int: ...
def look_up(numbers: array[int], column: array[int], out: Buffer) -> None: ...
def single_out(paths: array[int], plain: bytearray, out: Buffer) -> None: ...
def by_path(
    rows: array[int],
    paths: Buffer,
    flags: array[int],
    starts: Buffer,
    sizes: Buffer,
    held_sizes: Buffer,
    offsets: Buffer,
    every: array[int],
    shapes: Buffer,
    begun: Buffer,
    seen: Buffer,
) -> None: ...
def touching(
    rows: array[int],
    paths: Buffer,
    flags: array[int],
    starts: Buffer,
    sizes: Buffer,
    offsets: Buffer,
    entries: Buffer,
    order: array[int],
    marks: Buffer,
) -> bool: ...
def point(rows: array[int], starts: array[int], sizes: Buffer, addresses: array[int], out: Buffer) -> None: ...
def group(
    rows: array[int],
    paths: Buffer,
    flags: array[int],
    starts: Buffer,
    sizes: Buffer,
    held_sizes: Buffer,
    offsets: Buffer,
    marks: Buffer,
    special: Buffer,
    huge_mask: int,
    seed: int,
    out: Buffer,
) -> list[int]: ...
def spread(
    rows: array[int],
    classes: Buffer,
    levels: Buffer,
    present: Buffer,
    page: int,
    sizes: Buffer,
    assumed: Buffer,
    inferred: Buffer,
) -> None: ...
def totals(classes: array[int], values: Buffer, rows: array[int], out: Buffer) -> None: ...
def scatter(rows: array[int], classes: Buffer, marks: Buffer, out: Buffer) -> None: ...
def kept_whole(order: array[int], start: int, known: bytearray, sizes: Buffer, present: Buffer) -> int: ...
def is_zero(data: Buffer) -> bool: ...
def find_anchors(
    data: Buffer,
    start: int,
    stop: int,
    sieve: Buffer,
    table: Buffer,
    buckets: Buffer,
    anchors: Buffer,
    words: Buffer,
    out: Buffer,
) -> tuple[int, int]: ...
def find_literals(
    data: Buffer, start: int, stop: int, bits: Buffer, heads: Buffer, literals: Buffer, words: Buffer, out: Buffer
) -> tuple[int, int]: ...
def find_factors(
    data: Buffer,
    start: int,
    stop: int,
    length: int,
    step: int,
    moduli: Buffer,
    most: int,
    out: Buffer,
    *,
    first: bool,
    big: bool,
    least: int = 0x80000000,
) -> tuple[int, int, int]: ...
def find_strangers(data: Buffer, starts: Buffer, ends: Buffer, small: int, out: Buffer) -> int: ...
def write_at(fd: int, offset: int, data: Buffer, *, granule: int = 0, flags: int = 0) -> int: ...
def write_pieces(fd: int, offset: int, pieces: Iterable[Buffer], *, granule: int = 0, flags: int = 0) -> int: ...
def read_into(fd: int, offset: int, buffer: Buffer, *, flags: int = 0) -> int: ...
def move(
    mover: int,
    fd_in: int,
    offset_in: int,
    fd_out: int,
    offset_out: int,
    length: int,
    buffer: Buffer,
    *,
    granule: int = 0,
    flags_in: int = 0,
    flags_out: int = 0,
) -> tuple[int, int]: ...
def discard(fd: int, length: int, buffer: Buffer) -> int: ...
def data_extent(fd: int, start: int) -> tuple[int, int] | None: ...
def punch(fd: int, offset: int, length: int) -> None: ...
def start_writeback(fd: int, offset: int, length: int) -> None: ...
def wait_writeback(fd: int, offset: int, length: int) -> None: ...
def keep_memory(piece: int) -> None: ...
def file_system(fd: int) -> int: ...
def absent(fd: int, offset: int, length: int) -> list[tuple[int, int]]: ...
def file_status(fd: int) -> tuple[int, int, tuple[int, int], int, int, int]: ...
