# cython: language_level=3, auto_pickle=False, boundscheck=False, wraparound=False, cdivision=True
"""The compiled core: whole program header tables, notes, and payload bytes on their way.

It knows offsets, lengths and file descriptors; it knows no filter bits and no paths. Inner functions run
without the GIL and return a count or -errno; the ``def`` functions around them check every buffer's size,
look for signals and raise.
"""

import os

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EAGAIN, EINTR, ENXIO, errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy, memset

cdef extern from "<unistd.h>" nogil:
    ssize_t c_read "read"(int fd, void *buf, size_t count)
    ssize_t c_write "write"(int fd, const void *buf, size_t count)
    ssize_t c_pread "pread"(int fd, void *buf, size_t count, int64_t offset)
    ssize_t c_pwrite "pwrite"(int fd, const void *buf, size_t count, int64_t offset)
    long c_sysconf "sysconf"(int name)
    const int _SC_PAGESIZE
    int64_t c_lseek "lseek"(int fd, int64_t offset, int whence)
    long c_syscall "syscall"(long number, ...)
    const int SEEK_DATA
    const int SEEK_HOLE
    const int SEEK_SET

cdef extern from "<fcntl.h>" nogil:
    ssize_t c_splice "splice"(int fd_in, int64_t *off_in, int fd_out, int64_t *off_out, size_t n, unsigned int flags)
    int c_fallocate "fallocate"(int fd, int mode, int64_t offset, int64_t n)
    int c_sync_file_range "sync_file_range"(int fd, int64_t offset, int64_t n, unsigned int flags)
    const unsigned int SYNC_FILE_RANGE_WAIT_BEFORE
    const unsigned int SYNC_FILE_RANGE_WRITE
    const unsigned int SYNC_FILE_RANGE_WAIT_AFTER
    const unsigned int SPLICE_F_MOVE
    const int FALLOC_FL_KEEP_SIZE
    const int FALLOC_FL_PUNCH_HOLE

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
    int c_poll "poll"(pollfd *fds, unsigned long n, int timeout)
    const short POLLIN
    const short POLLOUT

cdef extern from "<sys/sendfile.h>" nogil:
    ssize_t c_sendfile "sendfile"(int fd_out, int fd_in, int64_t *off_in, size_t n)

cdef extern from "<sys/mman.h>" nogil:
    void *c_mmap "mmap"(void *address, size_t n, int protection, int flags, int fd, int64_t offset)
    int c_munmap "munmap"(void *address, size_t n)
    int c_mincore "mincore"(void *address, size_t n, unsigned char *pages)
    const int PROT_READ
    const int MAP_SHARED
    void *const MAP_FAILED

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len
    ssize_t c_writev "writev"(int fd, const iovec *pieces, int count)
    ssize_t c_pwritev "pwritev"(int fd, const iovec *pieces, int count, int64_t offset)

cdef extern from "<sys/vfs.h>" nogil:
    struct c_statfs "statfs":
        long f_type
    int c_fstatfs "fstatfs"(int fd, c_statfs *out)

cdef extern from "<sys/ioctl.h>" nogil:
    int c_ioctl "ioctl"(int fd, unsigned long request, ...)

cdef extern from "<linux/fs.h>" nogil:
    struct file_clone_range:
        int64_t src_fd
        uint64_t src_offset
        uint64_t src_length
        uint64_t dest_offset
    const unsigned long FICLONERANGE

cdef extern from "<sys/syscall.h>" nogil:
    const long SYS_copy_file_range
    const long SYS_preadv2
    const long SYS_pwritev2

cdef extern from *:
    """
    /* By number and by hand: the C library that the wheels are built for is older than statx. */
    #ifdef SYS_statx
    #define STATX SYS_statx
    #elif defined(__x86_64__)
    #define STATX 332
    #elif defined(__i386__)
    #define STATX 383
    #elif defined(__arm__)
    #define STATX 397
    #elif defined(__s390x__)
    #define STATX 379
    #elif defined(__powerpc__)
    #define STATX 383
    #else
    #define STATX 291
    #endif
    struct statx_answer {
        unsigned int mask, blksize;
        unsigned long long attributes;
        unsigned int nlink, uid, gid;
        unsigned short mode, spare;
        unsigned long long ino, size, blocks, attributes_mask;
        char times[64];
        unsigned int rdev[2], dev_major, dev_minor;
        char rest[112];
    };
    """
    const long STATX
    struct statx_answer:
        uint32_t mask
        uint64_t attributes
        uint32_t nlink
        uint16_t mode
        uint64_t ino
        uint64_t attributes_mask
        uint32_t dev_major
        uint32_t dev_minor

cdef extern from *:
    """
    #define swap16(x) __builtin_bswap16(x)
    #define swap32(x) __builtin_bswap32(x)
    #define swap64(x) __builtin_bswap64(x)
    #if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    #define HOST_IS_BIG 1
    #else
    #define HOST_IS_BIG 0
    #endif
    #ifndef RWF_DONTCACHE
    #define RWF_DONTCACHE 0x80
    #endif
    #ifdef __GLIBC__
    #include <malloc.h>
    static void keep_memory(int piece) { mallopt(M_MMAP_THRESHOLD, piece); mallopt(M_TRIM_THRESHOLD, 2 * piece); }
    #else
    static void keep_memory(int piece) { (void)piece; }
    #endif
    """
    void c_keep_memory "keep_memory"(int piece) nogil
    uint16_t swap16(uint16_t x) nogil
    uint32_t swap32(uint32_t x) nogil
    uint64_t swap64(uint64_t x) nogil
    const bint HOST_IS_BIG
    const int RWF_DONTCACHE

# One system call moves no more than this, so that a signal is seen within some milliseconds even where the
# kernel would carry on for gigabytes. copy_file_range of 1 GiB on ext4 took 0.27 s in pieces of 1 MiB and of
# 16 MiB alike (Linux 6.18).
cdef enum:
    PIECE = 16 << 20

# And one write into a file puts no more than this: the page cache takes as large a folio as a write fills, and
# looks for it in memory that is in pieces. 2 GiB from a pipe to ext4 took 4.1 s in writes of 1 MiB and 1.9 s in
# writes of 128 KiB beside other programs (medians of five, Linux 6.18, two cores).
cdef extern from *:
    """
    #if CYTHON_COMPILING_IN_LIMITED_API
    /* Cython would import inspect for constants that setup.py defines: 10 ms, as long as Python itself takes. */
    #define __Pyx_init_co_variables() (0 ? __Pyx_init_co_variables() : 0)
    #endif
    """
    const unsigned long CYTHON_HEX_VERSION

cdef enum:
    FOLIO = 128 << 10

cdef enum Mover:
    BY_READWRITE = 0
    BY_COPY_FILE_RANGE = 1
    BY_SPLICE = 2
    BY_SENDFILE = 3
    BY_REFLINK = 4

READWRITE = BY_READWRITE
COPY_FILE_RANGE = BY_COPY_FILE_RANGE
SPLICE = BY_SPLICE
SENDFILE = BY_SENDFILE
REFLINK = BY_REFLINK

DONTCACHE = RWF_DONTCACHE

CYTHON = f"{CYTHON_HEX_VERSION >> 24}.{CYTHON_HEX_VERSION >> 16 & 0xff}.{CYTHON_HEX_VERSION >> 8 & 0xff}"


cdef int fail(ssize_t rc) except -1:
    raise OSError(<int>-rc, os.strerror(<int>-rc))


cdef int go_on(ssize_t rc, int fd_in, int fd_out) except -1:
    """After an inner function was interrupted: wait where a descriptor does not block, look for signals, or raise."""
    cdef pollfd waiting
    if rc == -EAGAIN:
        for fd, events in ((fd_in, POLLIN), (fd_out, POLLOUT)):
            if fd >= 0:
                waiting.fd, waiting.events = fd, events
                with nogil:
                    c_poll(&waiting, 1, -1)
    elif rc != -EINTR:
        fail(rc)
    PyErr_CheckSignals()
    return 0


# --- program headers ------------------------------------------------------------------------------------

cdef struct Columns:
    uint32_t *p_type
    uint32_t *p_flags
    uint64_t *p_offset
    uint64_t *p_vaddr
    uint64_t *p_paddr
    uint64_t *p_filesz
    uint64_t *p_memsz
    uint64_t *p_align


cdef inline uint32_t get32(const uint8_t *p, bint swap) noexcept nogil:
    cdef uint32_t value
    memcpy(&value, p, 4)
    return swap32(value) if swap else value


cdef inline uint64_t get64(const uint8_t *p, bint swap) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, p, 8)
    return swap64(value) if swap else value


cdef inline void put32(uint8_t *p, uint32_t value, bint swap) noexcept nogil:
    if swap:
        value = swap32(value)
    memcpy(p, &value, 4)


cdef inline void put64(uint8_t *p, uint64_t value, bint swap) noexcept nogil:
    if swap:
        value = swap64(value)
    memcpy(p, &value, 8)


cdef void decode(const uint8_t *entry, size_t count, bint wide, bint swap, Columns to) noexcept nogil:
    cdef size_t i
    for i in range(count):
        to.p_type[i] = get32(entry, swap)
        if wide:
            to.p_flags[i] = get32(entry + 4, swap)
            to.p_offset[i] = get64(entry + 8, swap)
            to.p_vaddr[i] = get64(entry + 16, swap)
            to.p_paddr[i] = get64(entry + 24, swap)
            to.p_filesz[i] = get64(entry + 32, swap)
            to.p_memsz[i] = get64(entry + 40, swap)
            to.p_align[i] = get64(entry + 48, swap)
            entry += 56
        else:
            to.p_offset[i] = get32(entry + 4, swap)
            to.p_vaddr[i] = get32(entry + 8, swap)
            to.p_paddr[i] = get32(entry + 12, swap)
            to.p_filesz[i] = get32(entry + 16, swap)
            to.p_memsz[i] = get32(entry + 20, swap)
            to.p_flags[i] = get32(entry + 24, swap)
            to.p_align[i] = get32(entry + 28, swap)
            entry += 32


cdef void encode(uint8_t *entry, size_t count, bint wide, bint swap, Columns f) noexcept nogil:
    cdef size_t i
    for i in range(count):
        put32(entry, f.p_type[i], swap)
        if wide:
            put32(entry + 4, f.p_flags[i], swap)
            put64(entry + 8, f.p_offset[i], swap)
            put64(entry + 16, f.p_vaddr[i], swap)
            put64(entry + 24, f.p_paddr[i], swap)
            put64(entry + 32, f.p_filesz[i], swap)
            put64(entry + 40, f.p_memsz[i], swap)
            put64(entry + 48, f.p_align[i], swap)
            entry += 56
        else:
            put32(entry + 4, <uint32_t>f.p_offset[i], swap)
            put32(entry + 8, <uint32_t>f.p_vaddr[i], swap)
            put32(entry + 12, <uint32_t>f.p_paddr[i], swap)
            put32(entry + 16, <uint32_t>f.p_filesz[i], swap)
            put32(entry + 20, <uint32_t>f.p_memsz[i], swap)
            put32(entry + 24, f.p_flags[i], swap)
            put32(entry + 28, <uint32_t>f.p_align[i], swap)
            entry += 32


cdef int with_columns(data, columns, bint wide, bint big, bint decoding) except -1:
    """Run decode or encode over ``data`` and the eight columns, all of one length."""
    cdef Py_buffer raw
    cdef Py_buffer view[8]
    cdef Columns c
    cdef int held = 0
    cdef size_t count, entry = 56 if wide else 32
    if len(columns) != 8:
        raise ValueError("a program header has eight fields")
    PyObject_GetBuffer(data, &raw, PyBUF_SIMPLE)
    try:
        count = <size_t>raw.len / entry
        if <size_t>raw.len % entry:
            raise ValueError("the table's length is not a multiple of its entry's")
        for i in range(8):
            PyObject_GetBuffer(columns[i], &view[i], PyBUF_WRITABLE)
            held += 1
            if <size_t>view[i].len / (4 if i < 2 else 8) != count or <size_t>view[i].len % (4 if i < 2 else 8):
                raise ValueError("a column's length differs from the table's")
        c.p_type = <uint32_t *>view[0].buf
        c.p_flags = <uint32_t *>view[1].buf
        c.p_offset = <uint64_t *>view[2].buf
        c.p_vaddr = <uint64_t *>view[3].buf
        c.p_paddr = <uint64_t *>view[4].buf
        c.p_filesz = <uint64_t *>view[5].buf
        c.p_memsz = <uint64_t *>view[6].buf
        c.p_align = <uint64_t *>view[7].buf
        with nogil:
            if decoding:
                decode(<const uint8_t *>raw.buf, count, wide, big != HOST_IS_BIG, c)
            else:
                encode(<uint8_t *>raw.buf, count, wide, big != HOST_IS_BIG, c)
    finally:
        for i in range(held):
            PyBuffer_Release(&view[i])
        PyBuffer_Release(&raw)
    return 0


def decode_phdrs(data, columns, *, bint wide, bint big):
    """Fill the eight columns (two of 32-bit, six of 64-bit items) from a table of program headers."""
    with_columns(data, columns, wide, big, True)


def encode_phdrs(columns, *, bint wide, bint big):
    """The eight columns as a table of program headers; ELF32 keeps the low 32 bits."""
    count = len(columns[0]) if len(columns) else 0
    out = PyBytes_FromStringAndSize(NULL, count * (56 if wide else 32))
    # Nobody else has it yet.
    with_columns(out, columns, wide, big, False)
    return out


def shift(offsets, out, starts, ends, before, uint64_t last):
    """Where every one of ``offsets``, but no more than ``last``, comes to stand when ranges are cut out before it.

    All are buffers of 64-bit items; ``out`` receives as many as ``offsets`` holds. ``starts`` and ``ends`` are the
    ranges, ascending; ``before`` is one item longer and counts the bytes cut before each. An offset inside a
    range comes to stand where the range began.
    """
    cdef Py_buffer view[5]
    cdef int held = 0, i
    cdef const uint64_t *from_
    cdef const uint64_t *first
    cdef const uint64_t *stop
    cdef const uint64_t *cut
    cdef uint64_t *to
    cdef uint64_t count, ranges, n, low, high, middle, offset
    try:
        for each in (offsets, out, starts, ends, before):
            PyObject_GetBuffer(each, &view[held], PyBUF_WRITABLE if held == 1 else PyBUF_SIMPLE)
            held += 1
        count, ranges = <uint64_t>view[0].len / 8, <uint64_t>view[2].len / 8
        if <uint64_t>view[1].len / 8 < count or <uint64_t>view[3].len / 8 < ranges:
            raise ValueError("the columns differ in length")
        if <uint64_t>view[4].len / 8 < ranges + 1:
            raise ValueError("the columns differ in length")
        from_, to = <const uint64_t *>view[0].buf, <uint64_t *>view[1].buf
        first, stop, cut = <const uint64_t *>view[2].buf, <const uint64_t *>view[3].buf, <const uint64_t *>view[4].buf
        with nogil:
            for n in range(count):
                offset = min(from_[n], last)
                low, high = 0, ranges
                while low < high:
                    middle = low + (high - low) / 2
                    if offset < first[middle]:
                        high = middle
                    else:
                        low = middle + 1
                to[n] = offset if low == 0 else offset - cut[low - 1] - min(offset, stop[low - 1]) + first[low - 1]
    finally:
        for i in range(held):
            PyBuffer_Release(&view[i])


# --- notes ----------------------------------------------------------------------------------------------

def walk_notes(data, *, bint big):
    """Split a run of notes.

    Returns ``(notes, done)``: a list of ``(n_type, name_offset, n_namesz, desc_offset, n_descsz)`` for every
    note that lies wholly in ``data`` and the count of bytes that they fill. What is left over is a note that
    needs more bytes than there are.
    """
    cdef Py_buffer view
    cdef uint64_t at = 0, name, desc, end, size
    cdef uint32_t n_namesz, n_descsz, n_type
    cdef const uint8_t *p
    cdef bint swap = big != HOST_IS_BIG
    notes = []
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        p = <const uint8_t *>view.buf
        size = <uint64_t>view.len
        while size - at >= 12:
            n_namesz = get32(p + at, swap)
            n_descsz = get32(p + at + 4, swap)
            n_type = get32(p + at + 8, swap)
            name = at + 12
            desc = name + ((<uint64_t>n_namesz + 3) & ~<uint64_t>3)
            end = desc + n_descsz
            if end > size:
                break
            notes.append((n_type, name, n_namesz, desc, n_descsz))
            at = min(size, desc + ((<uint64_t>n_descsz + 3) & ~<uint64_t>3))
        return notes, at
    finally:
        PyBuffer_Release(&view)


def decode_nt_file(desc, ranges, names, *, bint wide, bint big):
    """Split the descriptor of NT_FILE.

    ``ranges`` holds 3 x count 64-bit items and receives start, end and file offset (in pages) of each entry;
    ``names`` holds count + 1 64-bit items and receives where each name starts in ``desc``, and where the last
    one ends. Returns the count of entries whose name is whole.
    """
    cdef Py_buffer view, out, at
    cdef const uint8_t *p
    cdef uint64_t *r
    cdef uint64_t *n
    cdef uint64_t size, word = 8 if wide else 4, count, i, pos, field
    cdef bint swap = big != HOST_IS_BIG
    PyObject_GetBuffer(desc, &view, PyBUF_SIMPLE)
    try:
        PyObject_GetBuffer(ranges, &out, PyBUF_WRITABLE)
        try:
            PyObject_GetBuffer(names, &at, PyBUF_WRITABLE)
            try:
                p = <const uint8_t *>view.buf
                r = <uint64_t *>out.buf
                n = <uint64_t *>at.buf
                size = <uint64_t>view.len
                count = <uint64_t>out.len / 24
                if <uint64_t>at.len / 8 < count + 1 or size < 2 * word or (size - 2 * word) / (3 * word) < count:
                    raise ValueError("NT_FILE does not hold that many entries")
                for i in range(3 * count):
                    field = 2 * word + i * word
                    r[i] = get64(p + field, swap) if wide else get32(p + field, swap)
                pos = (2 + 3 * count) * word
                n[0] = pos
                for i in range(count):
                    while pos < size and p[pos]:
                        pos += 1
                    if pos == size:
                        return i
                    pos += 1
                    n[i + 1] = pos
                return count
            finally:
                PyBuffer_Release(&at)
        finally:
            PyBuffer_Release(&out)
    finally:
        PyBuffer_Release(&view)


# --- columns of tables ----------------------------------------------------------------------------------

# What a column holds is told by its item's size: 64-bit items for offsets, addresses and lengths, 32-bit ones for
# types, flags and numbers of rows. A core can have 2^24 mappings, so that none of this makes an object for each.

cdef enum:
    MOST_COLUMNS = 12
    NO_ROW = 0xFFFFFFFF
    # Where a mapping is the only one of its class, whatever the others look like.
    ALONE = 1
    HUGE_SHAPED = 1
    AT_FILE_START = 2
    TOUCHES = 4
    IS_MAPPED = 1
    HAS_BYTES = 2
    HAS_FIRST_BYTES = 4

UNIQUE = ALONE
WITH_BYTES = HAS_BYTES
WITH_FIRST_BYTES = HAS_FIRST_BYTES


cdef struct Held:
    Py_buffer view[MOST_COLUMNS]
    int count


cdef void *hold(Held *held, column, uint64_t items, int width, bint written) except? NULL:
    """The items of a column that has at least ``items`` of ``width`` bytes."""
    PyObject_GetBuffer(column, &held.view[held.count], PyBUF_WRITABLE if written else PyBUF_SIMPLE)
    held.count += 1
    if <uint64_t>held.view[held.count - 1].len / <uint64_t>width < items:
        raise ValueError("a column is too short")
    return held.view[held.count - 1].buf


cdef void release(Held *held) noexcept:
    while held.count:
        held.count -= 1
        PyBuffer_Release(&held.view[held.count])


cdef inline bint below(uint64_t at, uint64_t size, uint64_t most) noexcept nogil:
    """Whether ``[at, at + size)`` ends at or before ``most``."""
    return at <= most and size <= most - at


def select(column, uint32_t value, out):
    """Write the numbers of the rows in which a 32-bit column has a value; returns how many there are."""
    cdef Held held
    cdef const uint32_t *items
    cdef uint32_t *to
    cdef uint64_t n, count = len(column), found = 0
    held.count = 0
    try:
        items = <const uint32_t *>hold(&held, column, count, 4, False)
        to = <uint32_t *>hold(&held, out, count, 4, True)
        with nogil:
            for n in range(count):
                if items[n] == value:
                    to[found] = <uint32_t>n
                    found += 1
        return found
    finally:
        release(&held)


def first_beyond(starts, sizes, uint64_t last):
    """The first row that starts behind byte ``last``, or has bytes behind it; None if none does."""
    cdef Held held
    cdef const uint64_t *start
    cdef const uint64_t *size
    cdef uint64_t n, count = len(starts)
    held.count = 0
    try:
        start = <const uint64_t *>hold(&held, starts, count, 8, False)
        size = <const uint64_t *>hold(&held, sizes, count, 8, False)
        with nogil:
            for n in range(count):
                if start[n] > last or (size[n] and size[n] - 1 > last - start[n]):
                    break
            else:
                n = count
        return n if n < count else None
    finally:
        release(&held)


def first_within(starts, sizes, uint64_t low, uint64_t high):
    """The first row that has bytes in ``[low, high)``, or None."""
    cdef Held held
    cdef const uint64_t *start
    cdef const uint64_t *size
    cdef uint64_t n, count = len(starts)
    held.count = 0
    try:
        start = <const uint64_t *>hold(&held, starts, count, 8, False)
        size = <const uint64_t *>hold(&held, sizes, count, 8, False)
        with nogil:
            for n in range(count):
                if size[n] and start[n] < high and not below(start[n], size[n], low):
                    break
            else:
                n = count
        return n if n < count else None
    finally:
        release(&held)


def filled(starts, sizes, out):
    """Write the numbers of the rows that have bytes.

    Returns ``(count, ascending)``: whether each of them starts where the one before ends, or behind.
    """
    cdef Held held
    cdef const uint64_t *start
    cdef const uint64_t *size
    cdef uint32_t *to
    cdef uint64_t n, count = len(starts), found = 0, reached = 0
    cdef bint ascending = True
    held.count = 0
    try:
        start = <const uint64_t *>hold(&held, starts, count, 8, False)
        size = <const uint64_t *>hold(&held, sizes, count, 8, False)
        to = <uint32_t *>hold(&held, out, count, 4, True)
        with nogil:
            for n in range(count):
                if size[n]:
                    ascending = ascending and start[n] >= reached
                    reached = start[n] + size[n]
                    to[found] = <uint32_t>n
                    found += 1
        return found, bool(ascending)
    finally:
        release(&held)


def last_end(starts, sizes):
    """Where the range of any row ends at most, in bytes; 0 if there is none."""
    cdef Held held
    cdef const uint64_t *start
    cdef const uint64_t *size
    cdef uint64_t n, count = len(starts), last = 0
    held.count = 0
    try:
        start = <const uint64_t *>hold(&held, starts, count, 8, False)
        size = <const uint64_t *>hold(&held, sizes, count, 8, False)
        with nogil:
            for n in range(count):
                last = max(last, start[n] + size[n])
        return last
    finally:
        release(&held)


def follows(starts, sizes, uint64_t first):
    """Whether every row from ``first`` on starts where the one before ends."""
    cdef Held held
    cdef const uint64_t *start
    cdef const uint64_t *size
    cdef uint64_t n, count = len(starts)
    cdef bint all_do = True
    held.count = 0
    try:
        start = <const uint64_t *>hold(&held, starts, count, 8, False)
        size = <const uint64_t *>hold(&held, sizes, count, 8, False)
        with nogil:
            for n in range(first + 1, count):
                if start[n] != start[n - 1] + size[n - 1]:
                    all_do = False
                    break
        return bool(all_do)
    finally:
        release(&held)


def clip(starts, sizes, uint64_t end, out):
    """Write how many bytes of each row stand before ``end``; returns how many do not."""
    cdef Held held
    cdef const uint64_t *start
    cdef const uint64_t *size
    cdef uint64_t *to
    cdef uint64_t n, count = len(starts), low = 0, high = 0, missing
    held.count = 0
    try:
        start = <const uint64_t *>hold(&held, starts, count, 8, False)
        size = <const uint64_t *>hold(&held, sizes, count, 8, False)
        to = <uint64_t *>hold(&held, out, count, 8, True)
        with nogil:
            for n in range(count):
                to[n] = min(size[n], end - start[n]) if start[n] < end else 0
                missing = size[n] - to[n]
                low += missing
                high += low < missing
        return (int(high) << 64) + low
    finally:
        release(&held)


def smaller(column, other, out):
    """Write the smaller of two 64-bit items for each row."""
    cdef Held held
    cdef const uint64_t *one
    cdef const uint64_t *two
    cdef uint64_t *to
    cdef uint64_t n, count = len(column)
    held.count = 0
    try:
        one = <const uint64_t *>hold(&held, column, count, 8, False)
        two = <const uint64_t *>hold(&held, other, count, 8, False)
        to = <uint64_t *>hold(&held, out, count, 8, True)
        with nogil:
            for n in range(count):
                to[n] = min(one[n], two[n])
    finally:
        release(&held)


def cut(offsets, sizes, present, uint64_t reached, starts, ends, before):
    """Write the ranges that are cut out where ``sizes`` of the ``present`` bytes of each row stay.

    ``starts`` and ``ends`` receive them, neighbours joined, ``before``, one item longer, the bytes cut before each.
    Returns their count, or None where the rows do not follow each other from ``reached`` on.
    """
    cdef Held held
    cdef const uint64_t *offset
    cdef const uint64_t *size
    cdef const uint64_t *there
    cdef uint64_t *start
    cdef uint64_t *end
    cdef uint64_t *passed
    cdef uint64_t n, count = len(offsets), found = 0, total = 0, at
    cdef bint ordered = True
    held.count = 0
    try:
        offset = <const uint64_t *>hold(&held, offsets, count, 8, False)
        size = <const uint64_t *>hold(&held, sizes, count, 8, False)
        there = <const uint64_t *>hold(&held, present, count, 8, False)
        start = <uint64_t *>hold(&held, starts, count, 8, True)
        end = <uint64_t *>hold(&held, ends, count, 8, True)
        passed = <uint64_t *>hold(&held, before, count + 1, 8, True)
        with nogil:
            for n in range(count):
                if not there[n]:
                    continue
                if offset[n] < reached:
                    ordered = False
                    break
                reached = offset[n] + there[n]
                if size[n] >= there[n]:
                    continue
                at = offset[n] + size[n]
                if not found or end[found - 1] != at:
                    start[found] = at
                    passed[found] = total
                    found += 1
                end[found - 1] = reached
                total += reached - at
            passed[found] = total
        return found if ordered else None
    finally:
        release(&held)


def covering(starts, sizes, rows, ranges, order, uint64_t unit, entries, offsets):
    """Which range of NT_FILE covers each mapping, and where in its file the mapping begins.

    ``rows`` are the mappings' rows in the 64-bit columns ``starts`` and ``sizes``; ``ranges`` are 64-bit items
    (start, end, file offset in ``unit``), three an entry; ``order`` are the entries by ascending start. ``entries``
    receives an entry's number for each mapping, or NO_ROW, and ``offsets`` its offset in bytes. Returns ``(shared,
    wide)``: how many mappings have the entry of the mapping before, and whether an offset could have more than 64 bits;
    it is written as the largest number.
    """
    cdef Held held
    cdef const uint64_t *start
    cdef const uint64_t *size
    cdef const uint64_t *entry
    cdef const uint32_t *row
    cdef const uint32_t *nth
    cdef uint32_t *to
    cdef uint64_t *place
    cdef uint64_t n, count = len(rows), most = len(order), low, high, middle, at = 0, first, shared = 0, offset
    cdef uint64_t wide = 0
    held.count = 0
    try:
        row = <const uint32_t *>hold(&held, rows, count, 4, False)
        start = <const uint64_t *>hold(&held, starts, 0, 8, False)
        size = <const uint64_t *>hold(&held, sizes, held.view[1].len / 8, 8, False)
        nth = <const uint32_t *>hold(&held, order, most, 4, False)
        entry = <const uint64_t *>hold(&held, ranges, 3 * most, 8, False)
        to = <uint32_t *>hold(&held, entries, count, 4, True)
        place = <uint64_t *>hold(&held, offsets, count, 8, True)
        check_rows(row, count, <uint64_t>held.view[1].len / 8)
        check_rows(nth, most, most)
        with nogil:
            for n in range(count):
                first = start[row[n]]
                to[n] = NO_ROW
                # ``at`` counts the entries that start at or before the mapping; the next mapping has mostly the next.
                if at < most and entry[3 * nth[at]] <= first:
                    at += 1
                if (at and entry[3 * nth[at - 1]] > first) or (at < most and entry[3 * nth[at]] <= first):
                    low, high = 0, most
                    while low < high:
                        middle = low + (high - low) / 2
                        if first < entry[3 * nth[middle]]:
                            high = middle
                        else:
                            low = middle + 1
                    at = low
                if not at or not below(first, size[row[n]], entry[3 * nth[at - 1] + 1]):
                    continue
                to[n] = nth[at - 1]
                if n and to[n - 1] == to[n]:
                    shared += 1
                offset = entry[3 * nth[at - 1] + 2]
                if unit and offset > (<uint64_t>0xFFFFFFFFFFFFFFFF - first) / unit:
                    wide = 1
                    place[n] = <uint64_t>0xFFFFFFFFFFFFFFFF
                else:
                    place[n] = offset * unit + first - entry[3 * nth[at - 1]]
        return shared, bool(wide)
    finally:
        release(&held)


cdef int check_rows(const uint32_t *rows, uint64_t count, uint64_t most) except -1:
    """Raise ValueError where a column of row numbers has one that the table has not."""
    cdef uint64_t n
    for n in range(count):
        if rows[n] >= most:
            raise ValueError("a row's number is past its table")
    return 0


def matching(rows, paths, flags, sizes, bint named, uint32_t mask, uint32_t value, uint64_t least, uint64_t most, out):
    """Write the numbers of the mappings with a path (``named``), or without, whose flags and sizes are as asked for.

    ``paths`` are 32-bit items, NO_ROW for none, and ``rows`` say where each mapping stands in the columns ``flags`` and
    ``sizes``: ``flags & mask == value`` and ``least <= size <= most`` (bytes). Returns how many there are.
    """
    cdef Held held
    cdef const uint32_t *row
    cdef const uint32_t *path
    cdef const uint32_t *flag
    cdef const uint64_t *size
    cdef uint32_t *to
    cdef uint64_t n, count = len(rows), found = 0
    held.count = 0
    try:
        row = <const uint32_t *>hold(&held, rows, count, 4, False)
        path = <const uint32_t *>hold(&held, paths, count, 4, False)
        flag = <const uint32_t *>hold(&held, flags, 0, 4, False)
        size = <const uint64_t *>hold(&held, sizes, held.view[2].len / 4, 8, False)
        to = <uint32_t *>hold(&held, out, count, 4, True)
        check_rows(row, count, <uint64_t>held.view[2].len / 4)
        with nogil:
            for n in range(count):
                if (path[n] != NO_ROW) == named and flag[row[n]] & mask == value and least <= size[row[n]] <= most:
                    to[found] = <uint32_t>n
                    found += 1
        return found
    finally:
        release(&held)


def look_up(numbers, column, out):
    """Write ``column[number]`` (32-bit items) for each number, and NO_ROW for NO_ROW."""
    cdef Held held
    cdef const uint32_t *number
    cdef const uint32_t *item
    cdef uint32_t *to
    cdef uint64_t n, count = len(numbers), most = len(column)
    held.count = 0
    try:
        number = <const uint32_t *>hold(&held, numbers, count, 4, False)
        item = <const uint32_t *>hold(&held, column, most, 4, False)
        to = <uint32_t *>hold(&held, out, count, 4, True)
        with nogil:
            for n in range(count):
                to[n] = item[number[n]] if number[n] < most else <uint32_t>NO_ROW
    finally:
        release(&held)


def single_out(paths, plain, out):
    """Set ``out`` (32-bit) to UNIQUE for each mapping with a path whose byte in ``plain`` is 0."""
    cdef Held held
    cdef const uint32_t *path
    cdef const uint8_t *mark
    cdef uint32_t *to
    cdef uint64_t n, count = len(paths), names = len(plain)
    held.count = 0
    try:
        path = <const uint32_t *>hold(&held, paths, count, 4, False)
        mark = <const uint8_t *>hold(&held, plain, names, 1, False)
        to = <uint32_t *>hold(&held, out, count, 4, True)
        with nogil:
            for n in range(count):
                if path[n] != NO_ROW and not (path[n] < names and mark[path[n]]):
                    to[n] = ALONE
    finally:
        release(&held)


def by_path(rows, paths, flags, starts, sizes, held_sizes, offsets, every, shapes, begun, seen):
    """Gather for each path what its mappings have among them.

    ``paths`` and ``offsets`` (in bytes) are one item a mapping, the other columns one a row. By the path's number
    ``every`` (32-bit) receives all flags together, ``shapes`` (64-bit) all bits of addresses and offsets, ``begun``
    (bytes) whether a mapping begins at the file's first byte, and ``seen`` (bytes) 1, with WITH_BYTES where the core
    has bytes of any, and WITH_FIRST_BYTES where it has bytes of such a one.
    """
    cdef Held held
    cdef const uint32_t *row
    cdef const uint32_t *path
    cdef const uint32_t *flag
    cdef const uint64_t *start
    cdef const uint64_t *size
    cdef const uint64_t *there
    cdef const uint64_t *offset
    cdef uint32_t *all_flags
    cdef uint64_t *shape
    cdef uint8_t *first
    cdef uint8_t *told
    cdef uint64_t n, count = len(rows), table = len(flags), names = len(every), i, p
    held.count = 0
    try:
        row = <const uint32_t *>hold(&held, rows, count, 4, False)
        path = <const uint32_t *>hold(&held, paths, count, 4, False)
        offset = <const uint64_t *>hold(&held, offsets, count, 8, False)
        flag = <const uint32_t *>hold(&held, flags, table, 4, False)
        start = <const uint64_t *>hold(&held, starts, table, 8, False)
        size = <const uint64_t *>hold(&held, sizes, table, 8, False)
        there = <const uint64_t *>hold(&held, held_sizes, table, 8, False)
        all_flags = <uint32_t *>hold(&held, every, names, 4, True)
        shape = <uint64_t *>hold(&held, shapes, names, 8, True)
        first = <uint8_t *>hold(&held, begun, names, 1, True)
        told = <uint8_t *>hold(&held, seen, names, 1, True)
        check_rows(row, count, table)
        with nogil:
            for n in range(count):
                p, i = path[n], row[n]
                if p >= names:
                    continue
                all_flags[p] |= flag[i]
                shape[p] |= start[i] | (start[i] + size[i]) | offset[n]
                first[p] |= offset[n] == 0
                told[p] |= IS_MAPPED
                if there[i]:
                    told[p] |= HAS_BYTES if offset[n] else HAS_BYTES | HAS_FIRST_BYTES
    finally:
        release(&held)


def touching(rows, paths, flags, starts, sizes, offsets, entries, order, marks):
    """Mark the mappings that continue a neighbour: the same path and flags, the next address, the next file offset.

    ``order`` has the mappings by ascending address, or is empty where they stand so; parts of one range of NT_FILE
    (``entries``) are not counted. ``marks`` receives a byte a mapping. Returns False where mappings lie over each other
    in that order, so that the marks tell nothing.
    """
    cdef Held held
    cdef const uint32_t *row
    cdef const uint32_t *path
    cdef const uint32_t *flag
    cdef const uint64_t *start
    cdef const uint64_t *size
    cdef const uint64_t *offset
    cdef const uint32_t *entry
    cdef const uint32_t *nth
    cdef uint8_t *mark
    cdef uint64_t n, count = len(rows), table = len(flags), a, b, i, k
    cdef bint apart = True, sorted_ = len(order) > 0
    held.count = 0
    try:
        row = <const uint32_t *>hold(&held, rows, count, 4, False)
        path = <const uint32_t *>hold(&held, paths, count, 4, False)
        offset = <const uint64_t *>hold(&held, offsets, count, 8, False)
        entry = <const uint32_t *>hold(&held, entries, count, 4, False)
        nth = <const uint32_t *>hold(&held, order, count if sorted_ else 0, 4, False)
        mark = <uint8_t *>hold(&held, marks, count, 1, True)
        flag = <const uint32_t *>hold(&held, flags, table, 4, False)
        start = <const uint64_t *>hold(&held, starts, table, 8, False)
        size = <const uint64_t *>hold(&held, sizes, table, 8, False)
        check_rows(row, count, table)
        if sorted_:
            check_rows(nth, count, count)
        with nogil:
            for n in range(1, count):
                if sorted_:
                    a, b = nth[n - 1], nth[n]
                else:
                    a, b = n - 1, n
                i, k = row[a], row[b]
                if not below(start[i], size[i], start[k]) or start[i] == start[k]:
                    apart = False
                    break
                if path[a] == NO_ROW or path[a] != path[b] or flag[i] != flag[k] or entry[a] == entry[b]:
                    continue
                if start[i] + size[i] == start[k] and offset[b] - offset[a] == size[i]:
                    mark[a] = mark[b] = 1
        return bool(apart)
    finally:
        release(&held)


def point(rows, starts, sizes, addresses, out):
    """Set ``out`` (32-bit) to UNIQUE for each mapping that holds, or starts at, any of ascending 64-bit addresses."""
    cdef Held held
    cdef const uint32_t *row
    cdef const uint64_t *start
    cdef const uint64_t *size
    cdef const uint64_t *address
    cdef uint32_t *to
    cdef uint64_t n, count = len(rows), table = len(starts), marks = len(addresses), low, high, middle, first
    held.count = 0
    try:
        row = <const uint32_t *>hold(&held, rows, count, 4, False)
        start = <const uint64_t *>hold(&held, starts, table, 8, False)
        size = <const uint64_t *>hold(&held, sizes, table, 8, False)
        address = <const uint64_t *>hold(&held, addresses, marks, 8, False)
        to = <uint32_t *>hold(&held, out, count, 4, True)
        check_rows(row, count, table)
        with nogil:
            for n in range(count):
                first = start[row[n]]
                low, high = 0, marks
                while low < high:
                    middle = low + (high - low) / 2
                    if address[middle] < first:
                        low = middle + 1
                    else:
                        high = middle
                if low < marks and address[low] - first < max(size[row[n]], <uint64_t>1):
                    to[n] = ALONE
    finally:
        release(&held)


cdef struct Look:
    # What the rules read of a mapping, without padding, so that memcmp compares it.
    uint64_t held
    uint64_t size
    uint32_t flags
    uint32_t path
    uint32_t special
    uint32_t bits


cdef inline uint64_t mixed(uint64_t value) noexcept nogil:
    # The finalizer of MurmurHash3 (public domain).
    value ^= value >> 33
    value *= <uint64_t>0xFF51AFD7ED558CCD
    value ^= value >> 33
    value *= <uint64_t>0xC4CEB9FE1A85EC53
    return value ^ (value >> 33)


cdef uint64_t hash_of(const Look *look, uint64_t seed) noexcept nogil:
    cdef uint64_t words[4]
    cdef int n
    memcpy(words, look, sizeof(Look))
    for n in range(4):
        seed = mixed(seed ^ words[n]) + <uint64_t>0x9E3779B97F4A7C15
    return seed


cdef struct Table:
    uint32_t *slots   # numbers of classes, NO_ROW where free
    Look *looks       # one a class
    uint32_t *first   # each class's first mapping
    uint64_t room     # slots, a power of two
    uint64_t classes
    uint64_t most     # classes that ``looks`` and ``first`` hold


cdef bint grow(Table *t, uint64_t seed) noexcept nogil:
    """Make room for twice as many classes; False where there is no memory."""
    cdef uint64_t most = 2 * t.most if t.most else 1024, room = 4 * most, n, at
    cdef Look *looks = <Look *>realloc(t.looks, most * sizeof(Look))
    cdef uint32_t *first
    cdef uint32_t *slots
    if looks == NULL:
        return False
    t.looks = looks
    first = <uint32_t *>realloc(t.first, most * 4)
    if first == NULL:
        return False
    t.first = first
    slots = <uint32_t *>realloc(t.slots, room * 4)
    if slots == NULL:
        return False
    t.slots, t.most, t.room = slots, most, room
    memset(slots, 0xFF, room * 4)
    for n in range(t.classes):
        if looks[n].special == ALONE:
            continue
        at = hash_of(&looks[n], seed) & (room - 1)
        while slots[at] != NO_ROW:
            at = (at + 1) & (room - 1)
        slots[at] = <uint32_t>n
    return True


cdef uint32_t class_of(Table *t, const Look *look, uint32_t m, uint64_t seed) noexcept nogil:
    """The number of the class of mappings that look so; NO_ROW where there is no memory."""
    cdef uint64_t at
    if t.classes == t.most and not grow(t, seed):
        return NO_ROW
    if look.special != ALONE:
        at = hash_of(look, seed) & (t.room - 1)
        while t.slots[at] != NO_ROW:
            if memcmp(&t.looks[t.slots[at]], look, sizeof(Look)) == 0:
                return t.slots[at]
            at = (at + 1) & (t.room - 1)
        t.slots[at] = <uint32_t>t.classes
    t.looks[t.classes] = look[0]
    t.first[t.classes] = m
    t.classes += 1
    return <uint32_t>(t.classes - 1)


def group(rows, paths, flags, starts, sizes, held_sizes, offsets, marks, special, uint64_t huge_mask, uint64_t seed,
          out):
    """Number the classes of mappings of which the rules see the same, in the order of their first ones.

    Two mappings are of one class where flags, size, bytes held, path and ``special`` (32-bit items) are the same, and
    whether addresses and file offset are multiples of the smallest huge page, the offset is 0, and ``marks`` has a byte
    for it; one whose ``special`` is UNIQUE is alone in its class. ``out`` receives a number for each mapping. Returns
    the first mapping of each class. ``seed`` is a random number, so that no core can choose what falls together in the
    table. Raises MemoryError.
    """
    cdef Held held
    cdef const uint32_t *row
    cdef const uint32_t *path
    cdef const uint32_t *flag
    cdef const uint64_t *start
    cdef const uint64_t *size
    cdef const uint64_t *there
    cdef const uint64_t *offset
    cdef const uint8_t *mark
    cdef const uint32_t *extra
    cdef uint32_t *to
    cdef uint64_t n, count = len(rows), table = len(flags), i, place
    cdef Look look
    cdef Table t
    held.count = 0
    t.slots, t.looks, t.first, t.room, t.classes, t.most = NULL, NULL, NULL, 0, 0, 0
    try:
        row = <const uint32_t *>hold(&held, rows, count, 4, False)
        path = <const uint32_t *>hold(&held, paths, count, 4, False)
        flag = <const uint32_t *>hold(&held, flags, table, 4, False)
        start = <const uint64_t *>hold(&held, starts, table, 8, False)
        size = <const uint64_t *>hold(&held, sizes, table, 8, False)
        there = <const uint64_t *>hold(&held, held_sizes, table, 8, False)
        offset = <const uint64_t *>hold(&held, offsets, 0, 8, False)
        if 0 < held.view[6].len / 8 < count:
            raise ValueError("a column is too short")
        mark = <const uint8_t *>hold(&held, marks, count if held.view[6].len else 0, 1, False)
        extra = <const uint32_t *>hold(&held, special, count, 4, False)
        to = <uint32_t *>hold(&held, out, count, 4, True)
        check_rows(row, count, table)
        if not held.view[6].len:
            for n in range(count):
                if path[n] != NO_ROW:
                    raise ValueError("a column is too short")
        with nogil:
            for n in range(count):
                i = row[n]
                place = 0
                look.held, look.size, look.flags, look.path = there[i], size[i], flag[i], path[n]
                look.special, look.bits = extra[n], 0
                if path[n] != NO_ROW:
                    place = offset[n]
                    look.bits = (AT_FILE_START if place == 0 else 0) | (TOUCHES if mark[n] else 0)
                if (start[i] | (start[i] + size[i]) | place) & huge_mask == 0:
                    look.bits |= HUGE_SHAPED
                to[n] = class_of(&t, &look, <uint32_t>n, seed)
                if to[n] == NO_ROW:
                    break
        if count and to[count - 1] == NO_ROW:
            raise MemoryError
        return [t.first[n] for n in range(t.classes)]
    finally:
        free(t.slots)
        free(t.looks)
        free(t.first)
        release(&held)


cdef inline uint64_t at_level(uint8_t level, uint64_t present, uint64_t page) noexcept nogil:
    if level == 0:
        return 0
    return min(page, present) if level == 1 else present


def spread(rows, classes, levels, present, uint64_t page, sizes, assumed, inferred):
    """Write how many bytes stay of each mapping, by the levels of its class: 0 nothing, 1 one page, 2 all.

    ``levels`` has four bytes a class: what is kept, the least and the most that may be, and the most if no convention
    holds. ``sizes`` receives the first by row, for rows that are ``present``; ``assumed`` by mapping the difference of
    the next two, ``inferred`` that of the last and the most.
    """
    cdef Held held
    cdef const uint32_t *row
    cdef const uint32_t *number
    cdef const uint8_t *level
    cdef const uint64_t *there
    cdef uint64_t *kept
    cdef uint64_t *open
    cdef uint64_t *lost
    cdef uint64_t n, count = len(rows), i, most
    held.count = 0
    try:
        row = <const uint32_t *>hold(&held, rows, count, 4, False)
        number = <const uint32_t *>hold(&held, classes, count, 4, False)
        level = <const uint8_t *>hold(&held, levels, 0, 1, False)
        there = <const uint64_t *>hold(&held, present, 0, 8, False)
        kept = <uint64_t *>hold(&held, sizes, held.view[3].len / 8, 8, True)
        open = <uint64_t *>hold(&held, assumed, count, 8, True)
        lost = <uint64_t *>hold(&held, inferred, count, 8, True)
        check_rows(row, count, <uint64_t>held.view[3].len / 8)
        check_rows(number, count, <uint64_t>held.view[2].len / 4)
        with nogil:
            for n in range(count):
                i = row[n]
                if not there[i]:
                    continue
                kept[i] = at_level(level[4 * number[n]], there[i], page)
                most = at_level(level[4 * number[n] + 2], there[i], page)
                open[n] = most - at_level(level[4 * number[n] + 1], there[i], page)
                lost[n] = at_level(level[4 * number[n] + 3], there[i], page) - most
    finally:
        release(&held)


def totals(classes, values, rows, out):
    """Add up the values of each class's mappings: ``values[rows[m]]``, or ``values[m]`` where ``rows`` is empty.

    ``out`` has two 64-bit items a class, which receive the low and the high half of the sum.
    """
    cdef Held held
    cdef const uint32_t *number
    cdef const uint64_t *value
    cdef const uint32_t *row
    cdef uint64_t *sums
    cdef uint64_t n, count = len(classes), each
    cdef bint by_row = len(rows) > 0
    held.count = 0
    try:
        number = <const uint32_t *>hold(&held, classes, count, 4, False)
        row = <const uint32_t *>hold(&held, rows, count if by_row else 0, 4, False)
        value = <const uint64_t *>hold(&held, values, 0 if by_row else count, 8, False)
        sums = <uint64_t *>hold(&held, out, 0, 8, True)
        check_rows(number, count, <uint64_t>held.view[3].len / 16)
        if by_row:
            check_rows(row, count, <uint64_t>held.view[2].len / 8)
        with nogil:
            for n in range(count):
                each = value[row[n]] if by_row else value[n]
                sums[2 * number[n]] += each
                sums[2 * number[n] + 1] += sums[2 * number[n]] < each
    finally:
        release(&held)


def scatter(rows, classes, marks, out):
    """Write each mapping's byte in ``marks``, by its class, to its row in ``out``."""
    cdef Held held
    cdef const uint32_t *row
    cdef const uint32_t *number
    cdef const uint8_t *mark
    cdef uint8_t *to
    cdef uint64_t n, count = len(rows)
    held.count = 0
    try:
        row = <const uint32_t *>hold(&held, rows, count, 4, False)
        number = <const uint32_t *>hold(&held, classes, count, 4, False)
        mark = <const uint8_t *>hold(&held, marks, 0, 1, False)
        to = <uint8_t *>hold(&held, out, 0, 1, True)
        check_rows(number, count, <uint64_t>held.view[2].len)
        check_rows(row, count, <uint64_t>held.view[3].len)
        with nogil:
            for n in range(count):
                to[row[n]] = mark[number[n]]
    finally:
        release(&held)


def kept_whole(order, uint64_t start, known, sizes, present):
    """How many rows from ``start`` on, in ``order``, are known and kept as a whole; ``known`` has a byte a row."""
    cdef Held held
    cdef const uint32_t *nth
    cdef const uint8_t *sure
    cdef const uint64_t *size
    cdef const uint64_t *there
    cdef uint64_t at = start, count = len(order), table = len(known)
    held.count = 0
    try:
        nth = <const uint32_t *>hold(&held, order, count, 4, False)
        sure = <const uint8_t *>hold(&held, known, table, 1, False)
        size = <const uint64_t *>hold(&held, sizes, table, 8, False)
        there = <const uint64_t *>hold(&held, present, table, 8, False)
        with nogil:
            while at < count and nth[at] < table and sure[nth[at]] and size[nth[at]] == there[nth[at]]:
                at += 1
        return at - start
    finally:
        release(&held)


# --- zeros ----------------------------------------------------------------------------------------------

cdef inline bint all_zero(const uint8_t *p, size_t n) noexcept nogil:
    return n == 0 or (p[0] == 0 and memcmp(p, p + 1, n - 1) == 0)


def is_zero(data):
    """Whether ``data`` holds nothing but zero bytes."""
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        return bool(all_zero(<const uint8_t *>view.buf, <size_t>view.len))
    finally:
        PyBuffer_Release(&view)


# --- secrets --------------------------------------------------------------------------------------------

cdef struct Anchor:
    uint32_t number  # whose
    uint32_t back    # how far before the two bytes that are looked up it begins
    uint32_t place   # where it stands among the words
    uint32_t length


cdef struct Literal:
    uint32_t gram    # the four bytes that are looked up
    uint32_t next    # the next one of the same place in the table, counted from 1, or 0
    uint32_t number
    uint32_t back
    uint32_t place
    uint32_t length


cdef struct Words:
    const uint8_t *data
    uint64_t size
    const uint8_t *words
    uint64_t words_size
    uint64_t *out
    uint64_t room    # pairs that ``out`` holds
    uint64_t found


cdef inline void take(Words *w, uint64_t at, uint32_t number, uint32_t back, uint32_t place,
                      uint32_t length) noexcept nogil:
    """Count a word that stands ``back`` bytes before ``at``, if it does."""
    if back > at or <uint64_t>place + length > w.words_size or length > w.size - (at - back):
        return
    if memcmp(w.data + at - back, w.words + place, length) == 0:
        w.out[2 * w.found] = at - back
        w.out[2 * w.found + 1] = number
        w.found += 1


cdef uint64_t anchors_in(Words *w, uint64_t start, uint64_t stop, const uint16_t *sieve, const uint8_t *table,
                         const uint32_t *buckets, const Anchor *anchors, uint64_t count) noexcept nogil:
    cdef uint64_t at = start, eight, each, n
    cdef uint16_t five[5]
    cdef uint32_t s0, s1, s2, s3, s4
    cdef int k
    cdef uint8_t bucket
    while at + 8 <= stop:
        if at % 4096 == 0 and at + 4096 <= stop and all_zero(w.data + at, 4096):
            at += 4096
            continue
        memcpy(&eight, w.data + at, 8)
        if eight:
            memcpy(five, &eight, 8)
            s0, s1, s2, s3, s4 = sieve[five[0]], sieve[five[1]], sieve[five[2]], sieve[five[3]], 0xffff
            if at + 10 <= w.size:
                memcpy(&five[4], w.data + at + 8, 2)
                s4 = sieve[five[4]]
            # In texts every fifth of these has a pair that some word has, and one of three hundred has two.
            if ((s0 & s1 >> 8) | (s1 & s2 >> 8) | (s2 & s3 >> 8) | (s3 & s4 >> 8)) & 0xff:
                n = 0
                for k in range(4):
                    bucket = table[five[k]]
                    n += buckets[bucket + 1] - buckets[bucket]
                if w.found + n > w.room:
                    return at
                for k in range(4):
                    bucket = table[five[k]]
                    for each in range(buckets[bucket], min(<uint64_t>buckets[bucket + 1], count)):
                        take(w, at + 2 * <uint64_t>k, anchors[each].number, anchors[each].back,
                             anchors[each].place, anchors[each].length)
        at += 8
    return stop


cdef uint64_t literals_in(Words *w, uint64_t start, uint64_t stop, const uint8_t *bits, const uint32_t *heads,
                          int shift, const Literal *literals, uint64_t count) noexcept nogil:
    cdef uint64_t at = start
    cdef uint32_t gram, place, each
    cdef int turns
    while at + 4 <= stop:
        memcpy(&gram, w.data + at, 4)
        if gram:
            place = <uint32_t>(gram * <uint32_t>0x9E3779B1) >> shift
            if bits[place >> 3] >> (place & 7) & 1:
                if w.found + MOST_ALIKE > w.room:
                    return at
                each, turns = heads[place], 0
                while 0 < each <= count and turns < MOST_ALIKE:
                    if literals[each - 1].gram == gram:
                        take(w, at, literals[each - 1].number, literals[each - 1].back, literals[each - 1].place,
                             literals[each - 1].length)
                    each, turns = literals[each - 1].next, turns + 1
        at += 4
    return stop


cdef enum:
    # Literals that share a place in the table; more are not followed, so that no core makes a search slow.
    MOST_ALIKE = 64

ALIKE = MOST_ALIKE


def find_anchors(data, uint64_t start, uint64_t stop, sieve, table, buckets, anchors, words, out):
    """Where words stand in ``data`` of which a pair of bytes at an even place in ``[start, stop)`` is looked up.

    ``sieve`` has 16 bits for each of the 65536 pairs: eight for sets of words in which it is the one that is looked up,
    and above them eight for those in which it can be the next one; only where both have a set in common there is a
    look. ``table`` has a bucket (0: none) for each of the pairs, ``buckets`` 257 32-bit items that say where each
    bucket begins in ``anchors``: 32-bit items (number, back, place, length), four for each anchor and parity, where
    ``back`` is how far before the pair the word begins and ``place`` where it stands in ``words``. ``out`` receives
    pairs of 64-bit items (offset, number). Returns ``(count, reached)``: ``reached`` is below ``stop`` where ``out``
    is full. Pages of zeros are passed over; both ends are multiples of 8, or ``stop`` the end of ``data``.
    """
    cdef Py_buffer view[7]
    cdef int held = 0, i
    cdef Words w
    cdef uint64_t reached
    try:
        for each in (data, table, buckets, anchors, words, out, sieve):
            PyObject_GetBuffer(each, &view[held], PyBUF_WRITABLE if held == 5 else PyBUF_SIMPLE)
            held += 1
        if stop > <uint64_t>view[0].len or start > stop or view[1].len != 65536 or view[2].len < 257 * 4 \
                or view[6].len != 2 * 65536:
            raise ValueError("a table is too short")
        if view[5].len < 16 * 4 * 256:
            raise ValueError("no room for what is found")
        for i in range(256):
            if (<const uint32_t *>view[2].buf)[i] > (<const uint32_t *>view[2].buf)[i + 1] or \
                    (<const uint32_t *>view[2].buf)[i + 1] - (<const uint32_t *>view[2].buf)[i] > 256:
                raise ValueError("the buckets do not ascend, or one is too large")
        w.data, w.size = <const uint8_t *>view[0].buf, <uint64_t>view[0].len
        w.words, w.words_size = <const uint8_t *>view[4].buf, <uint64_t>view[4].len
        w.out, w.room, w.found = <uint64_t *>view[5].buf, <uint64_t>view[5].len / 16, 0
        with nogil:
            reached = anchors_in(&w, start, stop, <const uint16_t *>view[6].buf, <const uint8_t *>view[1].buf,
                                 <const uint32_t *>view[2].buf,
                                 <const Anchor *>view[3].buf, <uint64_t>view[3].len / sizeof(Anchor))
        return w.found, reached
    finally:
        for i in range(held):
            PyBuffer_Release(&view[i])


def find_literals(data, uint64_t start, uint64_t stop, bits, heads, literals, words, out):
    """Where literals stand in ``data`` of which four bytes at a multiple of 4 in ``[start, stop)`` are looked up.

    ``heads`` are 2**k 32-bit items, and ``bits`` as many bits: by the high k bits of the four bytes (as a number in
    this machine's order) times 0x9E3779B1, the first literal that is looked up there, counted from 1. ``literals``
    are 32-bit items, six each: the four bytes, the next literal of the same place, and number, back, place and length
    as for find_anchors, as are ``words``, ``out`` and what is returned. No more than ALIKE literals are followed.
    """
    cdef Py_buffer view[6]
    cdef int held = 0, i, k = 0
    cdef Words w
    cdef uint64_t reached
    try:
        for each in (data, bits, heads, literals, words, out):
            PyObject_GetBuffer(each, &view[held], PyBUF_WRITABLE if held == 5 else PyBUF_SIMPLE)
            held += 1
        while k < 28 and <uint64_t>4 << (k + 1) <= <uint64_t>view[2].len:
            k += 1
        if k < 8 or <uint64_t>view[2].len != <uint64_t>4 << k or <uint64_t>view[1].len != <uint64_t>1 << (k - 3):
            raise ValueError("the tables do not fit each other")
        if stop > <uint64_t>view[0].len or start > stop or view[5].len < 16 * MOST_ALIKE:
            raise ValueError("no room for what is found")
        w.data, w.size = <const uint8_t *>view[0].buf, <uint64_t>view[0].len
        w.words, w.words_size = <const uint8_t *>view[4].buf, <uint64_t>view[4].len
        w.out, w.room, w.found = <uint64_t *>view[5].buf, <uint64_t>view[5].len / 16, 0
        with nogil:
            reached = literals_in(&w, start, stop, <const uint8_t *>view[1].buf, <const uint32_t *>view[2].buf, 32 - k,
                                  <const Literal *>view[3].buf, <uint64_t>view[3].len / sizeof(Literal))
        return w.found, reached
    finally:
        for i in range(held):
            PyBuffer_Release(&view[i])


cdef extern from *:
    """
    /* The widest word whose products the compiler has a type for. */
    #ifdef __SIZEOF_INT128__
    typedef uint64_t limb_t;
    typedef unsigned __int128 limbs2_t;
    #else
    typedef uint32_t limb_t;
    typedef uint64_t limbs2_t;
    #endif
    """
    ctypedef uint64_t limb_t
    ctypedef uint64_t limbs2_t

LIMB = sizeof(limb_t)

cdef enum:
    # The factors of moduli of 8192 bits.
    MOST_OF_FACTOR = 512
    # Windows that are looked at together begin in as many bytes.
    BLOCK = 4096
    BLOCK_WORDS = (BLOCK + MOST_OF_FACTOR) / 4
    # 3 * 5 * 7 * 11 * 13 * 17 * 19, and 23 * 29 * 31 * 37 * 41: times 2**32, for each of MOST_OF_FACTOR / 4 words, the
    # sum stays below 2**64.
    SMALL_PRIMES = 4849845
    LARGER_PRIMES = 31367009


cdef struct Windows:
    const uint8_t *data
    uint64_t size
    size_t length    # of a factor, in bytes
    size_t step
    bint first       # the most significant word comes first
    bint big         # and in each word the most significant byte
    uint32_t least
    const limb_t *moduli
    uint64_t count
    uint64_t *out
    uint64_t room
    uint64_t found
    uint64_t left    # multiplications
    uint32_t weights[2][BLOCK_WORDS]


cdef inline bint divides(uint64_t value, uint64_t inverse, uint64_t most) noexcept nogil:
    """Whether an odd divisor of which the inverse modulo 2**64 is given divides a value."""
    return value * inverse <= most


cdef inline bint has_small_divisor(uint64_t small, uint64_t larger) noexcept nogil:
    """Whether one of the primes up to 41 divides what has these rests."""
    return (
        divides(small, <uint64_t>0xAAAAAAAAAAAAAAAB, <uint64_t>-1 / 3)
        | divides(small, <uint64_t>0xCCCCCCCCCCCCCCCD, <uint64_t>-1 / 5)
        | divides(small, <uint64_t>0x6DB6DB6DB6DB6DB7, <uint64_t>-1 / 7)
        | divides(small, <uint64_t>0x2E8BA2E8BA2E8BA3, <uint64_t>-1 / 11)
        | divides(small, <uint64_t>0x4EC4EC4EC4EC4EC5, <uint64_t>-1 / 13)
        | divides(small, <uint64_t>0xF0F0F0F0F0F0F0F1, <uint64_t>-1 / 17)
        | divides(small, <uint64_t>0x86BCA1AF286BCA1B, <uint64_t>-1 / 19)
        | divides(larger, <uint64_t>0xD37A6F4DE9BD37A7, <uint64_t>-1 / 23)
        | divides(larger, <uint64_t>0x34F72C234F72C235, <uint64_t>-1 / 29)
        | divides(larger, <uint64_t>0xEF7BDEF7BDEF7BDF, <uint64_t>-1 / 31)
        | divides(larger, <uint64_t>0x14C1BACF914C1BAD, <uint64_t>-1 / 37)
        | divides(larger, <uint64_t>0x8F9C18F9C18F9C19, <uint64_t>-1 / 41)
    )


cdef void invert(const limb_t *p, limb_t *x, size_t limbs) noexcept nogil:
    """The inverse of an odd number modulo two to the power of its size; both least significant limb first."""
    cdef limb_t root = 3 * p[0] ^ 2, low
    cdef limbs2_t product, lows, highs, carry
    cdef size_t i, j
    cdef int _turn
    # Right to five bits, and each turn doubles them.
    for _turn in range(4):
        root *= 2 - p[0] * root
    x[0] = root
    carry = (<limbs2_t>root * p[0]) >> (8 * sizeof(limb_t))
    for j in range(1, limbs):
        lows, highs = <limb_t>carry, carry >> (8 * sizeof(limb_t))
        for i in range(1, j + 1):
            product = <limbs2_t>p[i] * x[j - i]
            lows += <limb_t>product
            highs += product >> (8 * sizeof(limb_t))
        low = <limb_t>lows
        x[j] = -low * root
        product = <limbs2_t>x[j] * p[0]
        carry = highs + (lows >> (8 * sizeof(limb_t))) + (product >> (8 * sizeof(limb_t))) + (low != 0)


cdef inline bint can_divide(const limb_t *p, const limb_t *x, const limb_t *n, size_t limbs) noexcept nogil:
    """Whether a number can divide a modulus of twice its size; ``x`` is its inverse.

    If it does, the quotient has its size too, and is the modulus times the inverse: the upper limb of that follows from
    the last two columns of the product but for a carry of less than ``limbs``. And it is what the first limbs of the
    modulus and of the number have as their quotient.
    """
    cdef limbs2_t product, lows = 0, highs = 0
    cdef limb_t upper
    cdef size_t i
    for i in range(limbs - 1):
        product = <limbs2_t>n[i] * x[limbs - 2 - i]
        lows += <limb_t>product
        highs += product >> (8 * sizeof(limb_t))
    upper = <limb_t>(highs + (lows >> (8 * sizeof(limb_t))))
    for i in range(limbs):
        upper += n[i] * x[limbs - 1 - i]
    product = (<limbs2_t>n[2 * limbs - 1] << (8 * sizeof(limb_t))) + n[2 * limbs - 2]
    return (product - <limbs2_t>upper * p[limbs - 1]) >> (8 * sizeof(limb_t)) <= limbs + 4


cdef uint64_t factors_in(Windows *w, uint64_t start, uint64_t stop) noexcept nogil:
    cdef uint64_t at = start, small, larger, each
    cdef uint32_t words[BLOCK_WORDS + 1]
    cdef uint32_t bits, plain
    cdef uint64_t sums[2][BLOCK_WORDS + 1]
    cdef uint16_t plains[BLOCK_WORDS + 1]
    cdef uint16_t chosen[BLOCK / 4]
    cdef limb_t p[MOST_OF_FACTOR / 4]
    cdef limb_t x[MOST_OF_FACTOR / 4]
    cdef size_t size = w.length / 4, limbs = w.length / sizeof(limb_t), step = w.step / 4
    cdef size_t span, count, i, j, k, some
    cdef size_t low = size - 1 if w.first else 0, high = 0 if w.first else size - 1
    cdef uint64_t labour = limbs * (limbs + 1) / 2 + 2 * limbs * w.count
    cdef bint swap = w.big != HOST_IS_BIG
    while at < stop and w.length <= w.size - at:
        span = <size_t>min(<uint64_t>BLOCK, stop - at)
        count = <size_t>min(w.size - at, span + w.length - 1) / 4
        memcpy(words, w.data + at, 4 * count)
        bits, plain = 0, 0
        words[count] = ~words[count - 1] if count else 0
        for i in range(count):
            bits |= words[i]
            plain |= (words[i] == 0) | (words[i] == words[i + 1])
        # Texts and zeros have no byte with the highest bit set.
        if not bits & <uint32_t>0x80808080:
            at += span
            continue
        if swap:
            for i in range(count + 1):
                words[i] = swap32(words[i])
        some, j = 0, 0
        while 4 * j < span and j + size <= count:
            chosen[some] = <uint16_t>j
            some += (words[j + low] & 1) & (words[j + high] >= w.least)
            j += step
        # Of some ten million primes one has a word that is zero or the same as the next one; pictures have many.
        if plain and some:
            plains[0] = 0
            for i in range(count):
                plains[i + 1] = plains[i] + ((words[i] == 0) | (words[i] == words[i + 1]))
            k, some = some, 0
            for i in range(k):
                j = chosen[i]
                chosen[some] = <uint16_t>j
                some += plains[j] == plains[j + size - 1]
        if some == 0:
            at += span
            continue
        sums[0][0] = sums[1][0] = 0
        for i in range(count):
            sums[0][i + 1] = sums[0][i] + <uint64_t>words[i] * w.weights[0][i]
            sums[1][i + 1] = sums[1][i] + <uint64_t>words[i] * w.weights[1][i]
        k, count = some, 0
        for i in range(k):
            j = chosen[i]
            small, larger = sums[0][j + size] - sums[0][j], sums[1][j + size] - sums[1][j]
            chosen[count] = <uint16_t>j
            count += not has_small_divisor(small, larger)
        for k in range(count):
            j = chosen[k]
            if w.left < labour:
                w.left = 0
                return at + 4 * j
            w.left -= labour
            for i in range(limbs):
                if sizeof(limb_t) == 4:
                    p[i] = words[j + size - 1 - i if w.first else j + i]
                elif w.first:
                    p[i] = <limb_t>(<uint64_t>words[j + size - 2 - 2 * i] << 32 | words[j + size - 1 - 2 * i])
                else:
                    p[i] = <limb_t>(<uint64_t>words[j + 2 * i + 1] << 32 | words[j + 2 * i])
            invert(p, x, limbs)
            for each in range(w.count):
                if can_divide(p, x, w.moduli + 2 * limbs * each, limbs):
                    if w.found == w.room:
                        return at + 4 * j
                    w.out[w.found] = at + 4 * j
                    w.found += 1
                    break
        at += span
    return stop


cdef void weigh(uint32_t *weights, bint first, uint32_t divisor) noexcept nogil:
    """The powers of 2**32 modulo an odd number; where the most significant word comes first, those of its inverse."""
    cdef uint64_t power = 1, factor = (<uint64_t>1 << 32) % divisor, n, _turn
    if first:
        # Divided by two 32 times.
        factor = 1
        for _turn in range(32):
            factor = (factor + divisor if factor & 1 else factor) >> 1
    for n in range(BLOCK_WORDS):
        weights[n] = <uint32_t>power
        power = power * factor % divisor


def find_factors(data, uint64_t start, uint64_t stop, size_t length, size_t step, moduli, uint64_t most, out, *,
                 bint first, bint big, uint32_t least=0x80000000):
    """Where in ``data`` a large prime of ``length`` bytes can stand that begins in ``[start, stop)`` and divides one.

    It is odd, has no small divisor, and no word of 32 bits that is zero or the same as its neighbour; the most
    significant one is at least ``least``. It is made of such words of one byte order; ``first`` tells that the most
    significant one comes first. ``step``, 4 or 8, is in bytes. ``moduli`` are numbers of twice the length, in words of
    LIMB bytes of this machine, least significant first. ``out`` receives offsets, as 64-bit items. Returns ``(count,
    reached, left)``: ``reached`` is below ``stop`` where ``out`` is full, or where more than ``most`` multiplications
    would be needed; ``left`` is what is left of these, and 0 then.
    """
    cdef Py_buffer view[3]
    cdef int held = 0, i
    cdef Windows w
    cdef uint64_t reached
    if not 8 <= length <= MOST_OF_FACTOR or length % 8 or step not in (4, 8) or start > stop or least < 0x80000000:
        raise ValueError("no such windows")
    try:
        for each in (data, moduli, out):
            PyObject_GetBuffer(each, &view[held], PyBUF_WRITABLE if held == 2 else PyBUF_SIMPLE)
            held += 1
        if stop > <uint64_t>view[0].len or view[1].len % <ssize_t>(2 * length) or view[2].len < 8:
            raise ValueError("no room for what is found")
        w.data, w.size = <const uint8_t *>view[0].buf, <uint64_t>view[0].len
        w.moduli, w.count = <const limb_t *>view[1].buf, <uint64_t>view[1].len / (2 * length)
        w.out, w.room, w.found = <uint64_t *>view[2].buf, <uint64_t>view[2].len / 8, 0
        w.length, w.step, w.first, w.big, w.least, w.left = length, step, first, big, least, most
        weigh(w.weights[0], first, SMALL_PRIMES)
        weigh(w.weights[1], first, LARGER_PRIMES)
        with nogil:
            reached = factors_in(&w, start, stop)
        return w.found, reached, w.left
    finally:
        for i in range(held):
            PyBuffer_Release(&view[i])


def find_strangers(data, starts, ends, uint64_t small, out):
    """The 64-bit words of ``data`` (of this machine's byte order) that are neither small nor in any range.

    ``starts`` and ``ends`` are 64-bit items, ranges ascending and apart; a word is small when it is at most ``small``
    from zero, either way. ``out`` receives the indices, as 64-bit items, as many as ``data`` has words. Returns their
    count.
    """
    cdef Py_buffer view[4]
    cdef int held = 0, i
    cdef const uint64_t *words
    cdef const uint64_t *first
    cdef const uint64_t *stop
    cdef uint64_t *to
    cdef uint64_t count, ranges, n, low, high, middle, value, found = 0
    try:
        for each in (data, starts, ends, out):
            PyObject_GetBuffer(each, &view[held], PyBUF_WRITABLE if held == 3 else PyBUF_SIMPLE)
            held += 1
        count, ranges = <uint64_t>view[0].len / 8, <uint64_t>view[1].len / 8
        if <uint64_t>view[2].len / 8 < ranges or <uint64_t>view[3].len / 8 < count:
            raise ValueError("the columns differ in length")
        words, to = <const uint64_t *>view[0].buf, <uint64_t *>view[3].buf
        first, stop = <const uint64_t *>view[1].buf, <const uint64_t *>view[2].buf
        with nogil:
            for n in range(count):
                memcpy(&value, <const uint8_t *>words + 8 * n, 8)
                if value <= small or value >= -small:
                    continue
                low, high = 0, ranges
                while low < high:
                    middle = low + (high - low) / 2
                    if value < first[middle]:
                        high = middle
                    else:
                        low = middle + 1
                if low == 0 or value >= stop[low - 1]:
                    to[found] = n
                    found += 1
        return found
    finally:
        for i in range(held):
            PyBuffer_Release(&view[i])


# --- bytes on their way ---------------------------------------------------------------------------------
#
# An offset of -1 stands for the descriptor's own position. Each inner function returns 0 when it has done
# what was asked, 1 at the end of the input, or -errno; a short count returns -EINTR, because the signal that
# cut it short would otherwise stay unseen while the next call blocks.

# ``flags`` are those of preadv2 and pwritev2 (DONTCACHE), for descriptors with an offset.

cdef inline ssize_t read_some(int fd, void *p, size_t n, int64_t offset, int flags) noexcept nogil:
    cdef iovec piece
    if offset < 0:
        return c_read(fd, p, n)
    if not flags:
        return c_pread(fd, p, n, offset)
    piece.iov_base, piece.iov_len = p, n
    return c_syscall(SYS_preadv2, fd, &piece, <long>1, <long>offset, <long>(offset >> 32), <long>flags)


cdef inline ssize_t write_some(int fd, const void *p, size_t n, int64_t offset, int flags) noexcept nogil:
    cdef iovec piece
    if offset < 0:
        return c_write(fd, p, n)
    if not flags:
        return c_pwrite(fd, p, n, offset)
    piece.iov_base, piece.iov_len = <void *>p, n
    return c_syscall(SYS_pwritev2, fd, &piece, <long>1, <long>offset, <long>(offset >> 32), <long>flags)


cdef ssize_t put(int fd, const uint8_t *p, size_t n, int64_t offset, int flags, size_t *done) noexcept nogil:
    cdef ssize_t r
    cdef size_t piece
    while done[0] < n:
        piece = min(n - done[0], <size_t>(PIECE if offset < 0 else FOLIO))
        r = write_some(fd, p + done[0], piece,
                       offset + <int64_t>done[0] if offset >= 0 else -1, flags)
        if r < 0:
            return -errno
        done[0] += <size_t>r
        if <size_t>r < piece:
            return -EINTR
    return 0


cdef size_t piece_of(const uint8_t *p, size_t n, int64_t offset, size_t granule, bint *zero) noexcept nogil:
    """The length of the run of granules (aligned in the output) at p that are all zero, or all not."""
    cdef size_t at = 0, step
    cdef bint here
    zero[0] = False
    while at < n:
        step = min(n - at, granule - <size_t>((offset + <int64_t>at) % <int64_t>granule))
        here = step == granule and all_zero(p + at, step)
        if at == 0:
            zero[0] = here
        elif here != zero[0]:
            break
        at += step
    return at


cdef ssize_t put_sparse(int fd, const uint8_t *p, size_t n, int64_t offset, int flags, size_t granule,
                        size_t *done, uint64_t *zeros) noexcept nogil:
    """As put, but leave out granules of zeros; they are counted in ``zeros``."""
    cdef size_t piece, written
    cdef bint zero
    cdef ssize_t rc
    while done[0] < n:
        piece = piece_of(p + done[0], n - done[0], offset + <int64_t>done[0], granule, &zero)
        if zero:
            zeros[0] += piece
            done[0] += piece
            continue
        written = 0
        rc = put(fd, p + done[0], piece, offset + <int64_t>done[0], flags, &written)
        done[0] += written
        if rc:
            return rc
    return 0


def write_at(int fd, int64_t offset, data, *, size_t granule=0, int flags=0):
    """Write all of ``data``; returns how many bytes were left out as zeros.

    With ``granule`` (a power of two, bytes) aligned pieces of zeros are not written; ``flags`` are those of
    pwritev2. Raises OSError.
    """
    cdef Py_buffer view
    cdef size_t done = 0
    cdef uint64_t zeros = 0
    cdef ssize_t rc
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        while True:
            with nogil:
                if granule and offset >= 0:
                    rc = put_sparse(fd, <const uint8_t *>view.buf, <size_t>view.len, offset, flags, granule,
                                    &done, &zeros)
                else:
                    rc = put(fd, <const uint8_t *>view.buf, <size_t>view.len, offset, flags, &done)
            if rc == 0:
                return zeros
            go_on(rc, -1, fd)
    finally:
        PyBuffer_Release(&view)


cdef enum:
    MOST_PIECES = 64

MOST_BUFFERS = MOST_PIECES


cdef size_t gathered(const iovec *all, size_t count, size_t skip, size_t n, iovec *out) noexcept nogil:
    """The pieces of the n bytes that follow the first ``skip``; returns how many pieces they are."""
    cdef size_t i = 0, found = 0, taken
    while i < count and skip >= all[i].iov_len:
        skip -= all[i].iov_len
        i += 1
    while i < count and n:
        taken = min(all[i].iov_len - skip, n)
        if taken:
            out[found].iov_base, out[found].iov_len = <uint8_t *>all[i].iov_base + skip, taken
            found += 1
        n -= taken
        skip = 0
        i += 1
    return found


cdef size_t gathered_run(const iovec *all, size_t count, size_t skip, size_t n, int64_t offset, size_t granule,
                         bint *zero) noexcept nogil:
    """As piece_of, of the n bytes that follow the first ``skip`` of all pieces."""
    cdef size_t at = 0, step, i = 0, inside, left, part
    cdef bint here
    zero[0] = False
    while i < count and skip >= all[i].iov_len:
        skip -= all[i].iov_len
        i += 1
    inside = skip
    while at < n:
        step = min(n - at, granule - <size_t>((offset + <int64_t>at) % <int64_t>granule))
        here = step == granule
        left = step
        while left:
            part = min(all[i].iov_len - inside, left)
            here = here and (part == 0 or all_zero(<const uint8_t *>all[i].iov_base + inside, part))
            left -= part
            inside += part
            if inside == all[i].iov_len and i + 1 < count:
                i += 1
                inside = 0
        if at == 0:
            zero[0] = here
        elif here != zero[0]:
            break
        at += step
    return at


cdef ssize_t put_gathered(int fd, const iovec *all, size_t count, size_t total, int64_t offset, int flags,
                          size_t granule, size_t *done, uint64_t *zeros) noexcept nogil:
    cdef iovec out[MOST_PIECES]
    cdef size_t n, pieces
    cdef int64_t at
    cdef ssize_t r
    cdef bint zero
    while done[0] < total:
        n = total - done[0]
        at = offset + <int64_t>done[0] if offset >= 0 else -1
        if granule and offset >= 0:
            n = gathered_run(all, count, done[0], n, at, granule, &zero)
            if zero:
                zeros[0] += n
                done[0] += n
                continue
        if offset >= 0:
            n = min(n, <size_t>FOLIO)
        pieces = gathered(all, count, done[0], n, out)
        if offset < 0:
            r = c_writev(fd, out, <int>pieces)
        elif not flags:
            r = c_pwritev(fd, out, <int>pieces, at)
        else:
            r = c_syscall(SYS_pwritev2, fd, out, <long>pieces, <long>at, <long>(at >> 32), <long>flags)
        if r < 0:
            return -errno
        done[0] += <size_t>r
        if <size_t>r < n:
            return -EINTR
    return 0


def write_pieces(int fd, int64_t offset, pieces, *, size_t granule=0, int flags=0):
    """As ``write_at`` for up to MOST_BUFFERS buffers, which come to stand one behind the other."""
    cdef Py_buffer view[MOST_PIECES]
    cdef iovec all[MOST_PIECES]
    cdef size_t held = 0, total = 0, done = 0, i
    cdef uint64_t zeros = 0
    cdef ssize_t rc
    try:
        for piece in pieces:
            if held == MOST_PIECES:
                raise ValueError(f"more than {MOST_PIECES} buffers")
            PyObject_GetBuffer(piece, &view[held], PyBUF_SIMPLE)
            all[held].iov_base, all[held].iov_len = view[held].buf, <size_t>view[held].len
            total += all[held].iov_len
            held += 1
        while True:
            with nogil:
                rc = put_gathered(fd, all, held, total, offset, flags, granule, &done, &zeros)
            if rc == 0:
                return zeros
            go_on(rc, -1, fd)
    finally:
        for i in range(held):
            PyBuffer_Release(&view[i])


def read_into(int fd, int64_t offset, buffer, *, int flags=0):
    """Fill ``buffer`` as far as the input goes; returns the count of bytes. Raises OSError.

    ``flags`` are those of preadv2.
    """
    cdef Py_buffer view
    cdef size_t done = 0, want
    cdef ssize_t r
    PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
    try:
        want = <size_t>view.len
        while done < want:
            with nogil:
                r = read_some(fd, <uint8_t *>view.buf + done, min(want - done, <size_t>PIECE),
                              offset + <int64_t>done if offset >= 0 else -1, flags)
                if r < 0:
                    r = -errno
            if r == 0:
                break
            if r > 0:
                done += <size_t>r
            if done < want:
                go_on(r if r < 0 else -EINTR, fd, -1)
        return done
    finally:
        PyBuffer_Release(&view)


cdef struct Move:
    int fd_in
    int fd_out
    int64_t offset_in
    int64_t offset_out
    uint64_t length
    uint64_t moved
    uint64_t zeros
    uint8_t *buffer
    size_t buffer_size
    size_t granule
    int flags_in     # of preadv2 ...
    int flags_out    # ... and pwritev2
    size_t held      # bytes in the buffer that are read and not yet written ...
    size_t written   # ... and how many of these are


cdef ssize_t by_readwrite(Move *m) noexcept nogil:
    cdef ssize_t r
    cdef size_t want
    while True:
        if m.held:
            if m.granule and m.offset_out >= 0:
                r = put_sparse(m.fd_out, m.buffer, m.held, m.offset_out + <int64_t>m.moved, m.flags_out, m.granule,
                               &m.written, &m.zeros)
            else:
                r = put(m.fd_out, m.buffer, m.held, m.offset_out + <int64_t>m.moved if m.offset_out >= 0 else -1,
                        m.flags_out, &m.written)
            if r:
                return r
            m.moved += m.held
            m.held = 0
            if m.offset_in < 0 and m.moved < m.length:
                # A signal that came meanwhile would stay unseen while the next read waits.
                return -EINTR
        if m.moved == m.length:
            return 0
        m.written = 0
        want = m.buffer_size
        if m.offset_out >= 0:
            # Buffers end where pages of the output do, so that none is written twice.
            want -= <size_t>((m.offset_out + <int64_t>m.moved) % <int64_t>m.buffer_size)
        want = <size_t>min(<uint64_t>want, m.length - m.moved)
        r = read_some(m.fd_in, m.buffer, want, m.offset_in + <int64_t>m.moved if m.offset_in >= 0 else -1, m.flags_in)
        if r < 0:
            return -errno
        if r == 0:
            return 1
        m.held = <size_t>r
        if m.held < want:
            return -EINTR


cdef ssize_t clone(int fd_in, int64_t at_in, int fd_out, int64_t at_out, size_t n) noexcept nogil:
    """Share ``n`` bytes; as FICLONERANGE does all or nothing, and takes 0 for the whole file, n is not 0."""
    cdef file_clone_range what
    what.src_fd, what.src_offset, what.src_length, what.dest_offset = fd_in, at_in, n, at_out
    return <ssize_t>n if c_ioctl(fd_out, FICLONERANGE, &what) == 0 else -1


cdef ssize_t send(int fd_in, int64_t *off_in, int fd_out, int64_t *off_out, size_t n) noexcept nogil:
    """As sendfile, which knows no offset of the output, so that its descriptor's position is moved."""
    if off_out != NULL and c_lseek(fd_out, off_out[0], SEEK_SET) < 0:
        return -1
    return c_sendfile(fd_out, fd_in, off_in, n)


cdef ssize_t in_kernel(Move *m, int mover) noexcept nogil:
    cdef int64_t at_in, at_out
    cdef int64_t *off_in
    cdef int64_t *off_out
    cdef size_t piece
    cdef ssize_t r
    while m.moved < m.length:
        at_in = m.offset_in + <int64_t>m.moved
        at_out = m.offset_out + <int64_t>m.moved
        off_in = &at_in if m.offset_in >= 0 else NULL
        off_out = &at_out if m.offset_out >= 0 else NULL
        piece = <size_t>min(m.length - m.moved, <uint64_t>PIECE)
        if mover == BY_COPY_FILE_RANGE:
            r = c_syscall(SYS_copy_file_range, m.fd_in, off_in, m.fd_out, off_out, piece, 0)
        elif mover == BY_REFLINK:
            r = clone(m.fd_in, at_in, m.fd_out, at_out, piece)
        elif mover == BY_SENDFILE:
            r = send(m.fd_in, off_in, m.fd_out, off_out, piece)
        else:
            r = c_splice(m.fd_in, off_in, m.fd_out, off_out, piece, SPLICE_F_MOVE)
        if r < 0:
            return -errno
        if r == 0:
            return 1
        m.moved += <uint64_t>r
        if <size_t>r < piece:
            return -EINTR
    return 0


def move(int mover, int fd_in, int64_t offset_in, int fd_out, int64_t offset_out, uint64_t length, buffer,
         *, size_t granule=0, int flags_in=0, int flags_out=0):
    """Move up to ``length`` bytes from one descriptor to another.

    ``buffer`` is scratch space for READWRITE. Returns ``(moved, zeros)``: bytes moved, and how many of them
    were left out as aligned zeros of ``granule`` bytes. Nothing moved is the end of the input; fewer than
    ``length`` is the end, or an error that the next call raises. ``flags_in`` and ``flags_out`` are those of
    preadv2 and pwritev2, for READWRITE. SENDFILE moves the output's own position; REFLINK needs both offsets,
    and pieces of whole blocks. Raises OSError; all but READWRITE raise only while nothing was moved, so that a
    caller can go on with another mover where the descriptors cannot do it (EINVAL, EXDEV, ENOSYS, EOPNOTSUPP,
    EBADF).
    """
    cdef Py_buffer view
    cdef Move m
    cdef ssize_t rc
    if offset_in < -1 or offset_out < -1:
        raise ValueError("an offset below -1")
    if mover == BY_REFLINK and (offset_in < 0 or offset_out < 0):
        raise ValueError("only what has offsets can be shared")
    PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
    try:
        if mover == BY_READWRITE and view.len == 0:
            raise ValueError("no room in the buffer")
        m.fd_in, m.fd_out = fd_in, fd_out
        m.offset_in, m.offset_out = offset_in, offset_out
        m.length, m.moved, m.zeros = length, 0, 0
        m.buffer, m.buffer_size, m.granule = <uint8_t *>view.buf, <size_t>view.len, granule
        m.flags_in, m.flags_out = flags_in, flags_out
        m.held, m.written = 0, 0
        while True:
            with nogil:
                rc = by_readwrite(&m) if mover == BY_READWRITE else in_kernel(&m, mover)
            if rc == 0 or rc == 1 or (rc != -EINTR and rc != -EAGAIN and mover != BY_READWRITE and m.moved):
                return m.moved, m.zeros
            go_on(rc, fd_in if m.held == 0 else -1, fd_out if mover != BY_READWRITE or m.held else -1)
    finally:
        PyBuffer_Release(&view)


def discard(int fd, uint64_t length, buffer):
    """Read and forget up to ``length`` bytes; returns how many there were. Raises OSError."""
    cdef Py_buffer view
    cdef uint64_t done = 0
    cdef ssize_t r = 0
    PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
    try:
        if view.len == 0:
            raise ValueError("no room in the buffer")
        while done < length:
            with nogil:
                r = c_read(fd, view.buf, <size_t>min(<uint64_t>view.len, length - done))
                if r < 0:
                    r = -errno
            if r == 0:
                break
            if r > 0:
                done += <uint64_t>r
            go_on(r if r < 0 else -EINTR, fd, -1)
        return done
    finally:
        PyBuffer_Release(&view)


def data_extent(int fd, int64_t start):
    """The first piece of data (no hole) from ``start`` on, as ``(start, end)``; None where only a hole is left.

    Raises OSError (EINVAL where the file system keeps no map of holes).
    """
    cdef int64_t data, hole = 0
    with nogil:
        data = c_lseek(fd, start, SEEK_DATA)
        if data < 0:
            data = -errno
        else:
            hole = c_lseek(fd, data, SEEK_HOLE)
            if hole < 0:
                data = -errno
    if data == -ENXIO:
        return None
    if data < 0:
        fail(<ssize_t>data)
    return data, hole


def punch(int fd, int64_t offset, int64_t length):
    """Make a hole of ``[offset, offset + length)``; the bytes read as zeros. Raises OSError."""
    cdef int rc
    while True:
        with nogil:
            rc = c_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length)
            rc = -errno if rc < 0 else 0
        if rc == 0:
            return
        if rc != -EINTR:
            fail(rc)
        PyErr_CheckSignals()


def start_writeback(int fd, int64_t offset, int64_t length):
    """Have the disk begin to write ``[offset, offset + length)``; a hint, so nothing is raised where it fails."""
    with nogil:
        c_sync_file_range(fd, offset, length, SYNC_FILE_RANGE_WRITE)


def wait_writeback(int fd, int64_t offset, int64_t length):
    """Wait until the disk has ``[offset, offset + length)``; a hint too: what fails, fsync tells."""
    with nogil:
        c_sync_file_range(fd, offset, length,
                          SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER)


def keep_memory(int piece):
    """Have the C library keep memory that was freed, where it would give pieces of up to ``piece`` bytes back.

    It is for the whole process, so only for one of our own. A C library other than glibc has no such setting.
    """
    c_keep_memory(piece)


def file_system(int fd):
    """The f_type of statfs(2), by which a descriptor's file system is known; 0 where it does not tell."""
    cdef c_statfs found
    cdef int rc
    with nogil:
        rc = c_fstatfs(fd, &found)
    return found.f_type & 0xFFFFFFFF if rc == 0 else 0


def absent(int fd, int64_t offset, int64_t length):
    """The parts of ``[offset, offset + length)`` that the page cache does not hold, as a list of (start, end).

    ``offset`` is a multiple of the page size; the last end may lie up to a page behind what was asked for.
    Raises OSError; whoever does not own the file and cannot write to it is told that all of it is there
    (mincore(2), Linux 5.2).
    """
    cdef int64_t page = c_sysconf(_SC_PAGESIZE), at = 0, count, first
    cdef void *where
    cdef const uint8_t *held
    cdef Py_buffer view
    cdef ssize_t rc = 0
    if offset < 0 or offset % page or length <= 0:
        raise ValueError("no range of pages")
    count = (length + page - 1) // page
    found = []
    PyObject_GetBuffer(bytearray(count), &view, PyBUF_WRITABLE)
    try:
        with nogil:
            where = c_mmap(NULL, <size_t>(count * page), PROT_READ, MAP_SHARED, fd, offset)
            if where == MAP_FAILED:
                rc = -errno
            else:
                if c_mincore(where, <size_t>(count * page), <unsigned char *>view.buf) < 0:
                    rc = -errno
                c_munmap(where, <size_t>(count * page))
        if rc:
            fail(rc)
        held = <const uint8_t *>view.buf
        while at < count:
            first = at
            while at < count and not held[at] & 1:
                at += 1
            if at > first:
                found.append((offset + first * page, offset + at * page))
            while at < count and held[at] & 1:
                at += 1
        return found
    finally:
        PyBuffer_Release(&view)


cdef enum:
    EMPTY_PATH = 0x1000
    NO_AUTOMOUNT = 0x800
    DONT_SYNC = 0x4000
    BASIC_STATS = 0x7ff


def file_status(int fd):
    """What the kernel knows of a file without asking its file system's server.

    Returns ``(mode, nlink, (major, minor), inode, attributes, attributes_mask)`` as statx does; ``fd`` may have been
    opened with O_PATH. Raises OSError.
    """
    cdef statx_answer answer
    cdef long rc
    with nogil:
        rc = c_syscall(STATX, fd, <char *>b"", EMPTY_PATH | NO_AUTOMOUNT | DONT_SYNC, BASIC_STATS, &answer)
        if rc < 0:
            rc = -errno
    if rc < 0:
        fail(rc)
    return (
        answer.mode, answer.nlink, (answer.dev_major, answer.dev_minor), answer.ino,
        answer.attributes, answer.attributes_mask,
    )
