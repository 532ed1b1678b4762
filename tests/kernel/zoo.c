/*
 * One process with every kind of mapping this kernel lets us make, dumped once per filter.
 *
 *     zoo VARIANT FOLDER HUGETLBFS FILTER...
 *
 * VARIANT is "wild" (all) or "tame" (only what a core can tell apart). FOLDER has images/ with the shared
 * objects, an empty files/ and one folder per FILTER, where that twin leaves its core. HUGETLBFS is a mounted
 * hugetlbfs, or "-". Written to FOLDER: table.jsonl (one object per mapping: its tag, what the kernel will
 * make of it and where it lies; or why it could not be made), and maps and smaps as a twin sees them.
 *
 * The category of a mapping is the rule of the kernel that decides it; see CATEGORIES in dumps.py.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "twins.h"

/* Names that older headers lack; the kernel says EINVAL or ENOSYS if it lacks them too. */
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

#define HUGE_PAGE ((size_t)2 << 20)
#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define R PROT_READ
#define W PROT_WRITE
#define X PROT_EXEC

static size_t page;
static const char *folder, *hugetlbfs;
static FILE *table;
static char why[256];

static int fail(const char *what)
{
    snprintf(why, sizeof why, "%s: %s", what, strerror(errno));
    return -1;
}

static int check(int result, const char *what)
{
    return result < 0 ? fail(what) : result;
}

static void record(const char *tag, const char *category, const void *start, size_t len)
{
    fprintf(table, "{\"tag\": \"%s\", \"category\": \"%s\", \"start\": %lu, \"end\": %lu}\n", tag, category,
            (unsigned long)start, (unsigned long)start + len);
}

static void record_skipped(const char *tag)
{
    fprintf(table, "{\"tag\": \"%s\", \"skipped\": \"%s\"}\n", tag, why);
}

/* ---- where mappings go ------------------------------------------------------------------------- */

/* Far apart, so that no two merge, and only those that want to be are aligned like a huge page. */
static char *slot(size_t len)
{
    static uintptr_t next = (uintptr_t)1 << 44;
    bool shaped = len % HUGE_PAGE == 0;
    char *at = (char *)next + (shaped ? 0 : 5 * page);

    next += (len / HUGE_PAGE + 3) * HUGE_PAGE;
    return at;
}

static char *map_at(char *at, size_t len, int prot, int flags, int fd, off_t offset)
{
    char *map = mmap(at, len, prot, flags | MAP_FIXED_NOREPLACE, fd, offset);

    if (map == MAP_FAILED)
        fail("mmap");
    return map == MAP_FAILED ? NULL : map;
}

static char *map_new(size_t len, int prot, int flags, int fd, off_t offset)
{
    return map_at(slot(len), len, prot, flags, fd, offset);
}

/* ---- one row of the table: where the pages come from, how they are mapped, what happens then --- */

enum source { NO_FILE, REGULAR, SHM, UNNAMED, MEMFD, MEMFD_HUGE, HUGETLBFS, DEV_ZERO, SYSTEM };
enum content { JUNK, SCRIPT, IMAGE };

struct made;
typedef int (*step)(struct made *);

struct specimen {
    const char *tag, *category;
    int prot;
    enum source from;
    enum content holds;
    int access;
    int mode;         /* of the file, 0: 0644 */
    const char *name; /* of the file, when it is not the tag */
    unsigned memfd_flags;
    int flags;
    int first_page, pages; /* 0 pages: 4 */
    bool huge;             /* one huge page instead, and aligned like one */
    step then[3];
    bool tame;
};

struct made {
    const struct specimen *what;
    char *map;
    size_t len;
    int fd;
    char path[PATH_MAX];
};

/* ---- files ------------------------------------------------------------------------------------- */

/* Every byte is non-zero and every page says whose it is. */
static int fill_junk(int fd, const char *tag, size_t pages, const char *first)
{
    char buffer[page];

    for (size_t n = 0; n < pages; n++) {
        memset(buffer, 'a' + (int)(n % 26), page);
        memcpy(buffer, tag, strlen(tag));
        if (n == 0 && first)
            memcpy(buffer, first, strlen(first));
        if (pwrite(fd, buffer, page, n * page) != (ssize_t)page)
            return fail("pwrite");
    }
    return 0;
}

static int fill_image(int fd)
{
    char path[PATH_MAX], buffer[4096];
    ssize_t got;

    snprintf(path, sizeof path, "%s/images/libplain.so", folder);
    int image = check(open(path, O_RDONLY | O_CLOEXEC), "open of the image");
    if (image < 0)
        return -1;
    while ((got = read(image, buffer, sizeof buffer)) > 0)
        if (write(fd, buffer, got) != got)
            got = -1;
    close(image);
    return check(got, "copy of the image");
}

static int fill(struct made *m)
{
    const struct specimen *s = m->what;

    switch (s->holds) {
    case SCRIPT:
        return fill_junk(m->fd, s->tag, 4, "#!/bin/sh\n");
    case IMAGE:
        return fill_image(m->fd);
    default:
        return fill_junk(m->fd, s->tag, 4, NULL);
    }
}

static int open_named(struct made *m, const char *where)
{
    snprintf(m->path, sizeof m->path, "%s%s", where, m->what->name ? m->what->name : m->what->tag);
    m->fd = check(open(m->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600), "open");
    return m->fd < 0 ? -1 : check(fchmod(m->fd, m->what->mode ? m->what->mode : 0644), "fchmod");
}

static int open_memfd(struct made *m)
{
    m->fd = check(memfd_create(m->what->tag, MFD_CLOEXEC | m->what->memfd_flags), "memfd_create");
    return m->fd;
}

/* All that a file of huge pages gets: it cannot be written with write(). */
static int size_huge(struct made *m)
{
    return check(ftruncate(m->fd, m->len), "ftruncate");
}

static int reopen(struct made *m)
{
    char self[64];
    int fd;

    snprintf(self, sizeof self, "/proc/self/fd/%d", m->fd);
    fd = check(open(self, O_RDONLY | O_CLOEXEC), "open for reading");
    close(m->fd);
    m->fd = fd;
    return fd;
}

static int open_system(struct made *m)
{
    m->fd = check(open(m->what->name, O_RDONLY | O_CLOEXEC), "open");
    return m->fd < 0 ? -1 : 0;
}

static int open_source(struct made *m)
{
    char where[PATH_MAX];
    int result;

    switch (m->what->from) {
    case NO_FILE:
        return 0;
    case SYSTEM:
        return open_system(m);
    case DEV_ZERO:
        m->fd = check(open("/dev/zero", O_RDWR | O_CLOEXEC), "open");
        return m->fd < 0 ? -1 : 0;
    case HUGETLBFS:
        if (strcmp(hugetlbfs, "-") == 0) {
            errno = ENODEV;
            return fail("no hugetlbfs mounted");
        }
        snprintf(where, sizeof where, "%s/", hugetlbfs);
        return open_named(m, where) < 0 ? -1 : size_huge(m);
    case MEMFD_HUGE:
        return open_memfd(m) < 0 ? -1 : size_huge(m);
    case MEMFD:
        result = open_memfd(m);
        break;
    case UNNAMED:
        snprintf(where, sizeof where, "%s/files", folder);
        result = m->fd = check(open(where, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), "open with O_TMPFILE");
        break;
    case SHM:
        snprintf(where, sizeof where, "/dev/shm/corefilt-zoo-%d-", getpid());
        result = open_named(m, where);
        break;
    default:
        snprintf(where, sizeof where, "%s/files/", folder);
        result = open_named(m, where);
    }
    if (result < 0 || fill(m) < 0)
        return -1;
    if (m->what->huge && size_huge(m) < 0)
        return -1;
    return m->what->access == O_RDONLY && reopen(m) < 0 ? -1 : 0;
}

/* ---- steps: what happens to the mapping or its file afterwards --------------------------------- */

static int read_it(struct made *m)
{
    for (size_t at = 0; at < m->len; at += page)
        (void)*(volatile char *)(m->map + at);
    return 0;
}

/* Only the second page, where there is one: the rest stays what it was. */
static int write_it(struct made *m)
{
    char *at = m->map + (m->len > page ? page : 0);

    snprintf(at, page, "written by the zoo: %s", m->what->tag);
    return 0;
}

static int write_zeros(struct made *m)
{
    memset(m->map, 0, m->len);
    return 0;
}

static int write_top(struct made *m)
{
    memset(m->map + m->len - page, 'g', page);
    return 0;
}

static int advise(struct made *m, size_t len, int how) { return check(madvise(m->map, len, how), "madvise"); }
static int protect(struct made *m, int prot) { return check(mprotect(m->map, m->len, prot), "mprotect"); }

static int forget(struct made *m) { return advise(m, m->len, MADV_DONTNEED); }
static int hide(struct made *m) { return advise(m, m->len, MADV_DONTDUMP); }
static int wipe(struct made *m) { return advise(m, m->len, MADV_WIPEONFORK); }
static int want_huge(struct made *m) { return advise(m, m->len, MADV_HUGEPAGE); }
static int guard(struct made *m) { return advise(m, page, MADV_GUARD_INSTALL); }
static int to_none(struct made *m) { return protect(m, PROT_NONE); }
static int to_r(struct made *m) { return protect(m, R); }
static int to_rx(struct made *m) { return protect(m, R | X); }
static int to_x(struct made *m) { return protect(m, X); }
static int unlink_it(struct made *m) { return check(unlink(m->path), "unlink"); }
static int make_plain(struct made *m) { return check(chmod(m->path, 0644), "chmod"); }

static int name_it(struct made *m)
{
    return check(prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, m->map, m->len, m->what->tag), "PR_SET_VMA");
}

static int move_it(struct made *m)
{
    char *to = mremap(m->map, m->len, m->len, MREMAP_MAYMOVE | MREMAP_FIXED, slot(m->len));

    if (to == MAP_FAILED)
        return fail("mremap");
    m->map = to;
    return 0;
}

static int other_path(struct made *m, char *other, size_t size)
{
    return snprintf(other, size, "%s.other", m->path) < (int)size ? 0 : -1;
}

static int rename_it(struct made *m)
{
    char other[PATH_MAX + 8];

    return other_path(m, other, sizeof other) < 0 ? -1 : check(rename(m->path, other), "rename");
}

static int replace_it(struct made *m)
{
    char other[PATH_MAX + 8];

    if (other_path(m, other, sizeof other) < 0)
        return -1;
    int fd = check(open(other, O_WRONLY | O_CREAT | O_CLOEXEC, 0644), "open");
    if (fd < 0)
        return -1;
    close(fd);
    return check(rename(other, m->path), "rename");
}

static int link_elsewhere(struct made *m)
{
    char other[PATH_MAX + 8];

    return other_path(m, other, sizeof other) < 0 ? -1 : check(link(m->path, other), "link");
}

static int give_name(struct made *m)
{
    char self[64], path[PATH_MAX];

    snprintf(self, sizeof self, "/proc/self/fd/%d", m->fd);
    snprintf(path, sizeof path, "%s/files/%s", folder, m->what->tag);
    return check(linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW), "linkat");
}

static int make_specimen(const struct specimen *s)
{
    struct made m = {.what = s, .fd = -1, .len = s->huge ? HUGE_PAGE : (s->pages ? s->pages : 4) * page};
    int result = open_source(&m);

    if (result == 0 && !(m.map = map_new(m.len, s->prot, s->flags, m.fd, s->first_page * page)))
        result = -1;
    for (int n = 0; result == 0 && n < 3 && s->then[n]; n++)
        result = s->then[n](&m);
    if (result == 0)
        record(s->tag, s->category, m.map, m.len);
    else if (m.map)
        munmap(m.map, m.len);
    if (m.fd >= 0)
        close(m.fd);
    return result;
}

/* ---- the table --------------------------------------------------------------------------------- */

#define PRIVATE_ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define ANON .flags = PRIVATE_ANON
#define SHARED_ANON .flags = MAP_SHARED | MAP_ANONYMOUS
#define HUGE_ANON(sharing) .flags = sharing | MAP_ANONYMOUS | MAP_HUGETLB, .huge = true
#define OF(source, descriptor, sharing) .from = source, .access = descriptor, .flags = sharing
#define SHARED_OF(source) OF(source, O_RDWR, MAP_SHARED)
#define SHARED_RO_OF(source) OF(source, O_RDONLY, MAP_SHARED)
#define PRIVATE_OF(source) OF(source, O_RDONLY, MAP_PRIVATE)
#define HUGE_OF(source, sharing) OF(source, O_RDWR, sharing), .memfd_flags = MFD_HUGETLB, .huge = true
#define X_BIT .mode = 0755
#define TAME .tame = true

static const struct specimen SPECIMENS[] = {
    /* anonymous and private */
    {"anon-untouched", "never", R | W, ANON, TAME},
    {"anon-read", "never", R | W, ANON, .then = {read_it}, TAME},
    {"anon-none", "never", PROT_NONE, ANON, TAME},
    {"anon-reserved", "never", PROT_NONE, .flags = PRIVATE_ANON | MAP_NORESERVE, .pages = 1 << 18, TAME},
    {"anon-written", "anon", R | W, ANON, .then = {write_it}, TAME},
    {"anon-zeros", "anon", R | W, ANON, .then = {write_zeros}, TAME},
    {"anon-populated", "anon", R | W, .flags = PRIVATE_ANON | MAP_POPULATE, TAME},
    {"anon-dontneed", "anon", R | W, ANON, .then = {write_it, forget}, TAME},
    {"anon-written-none", "anon", R | W, ANON, .then = {write_it, to_none}, TAME},
    {"anon-written-r", "anon", R | W, ANON, .then = {write_it, to_r}},
    {"anon-written-rx", "anon", R | W, ANON, .then = {write_it, to_rx}},
    {"anon-written-x", "anon", R | W, ANON, .then = {write_it, to_x}},
    {"anon-rwx", "anon", R | W | X, ANON, .then = {write_it}, TAME},
    {"anon-growsdown", "anon", R | W, .flags = PRIVATE_ANON | MAP_GROWSDOWN, .then = {write_top}, TAME},
    {"anon-named", "anon", R | W, ANON, .then = {write_it, name_it}, TAME},
    {"anon-moved", "anon", R | W, ANON, .then = {write_it, move_it}, TAME},
    {"anon-thp", "anon", R | W, ANON, .huge = true, .then = {want_huge, write_it}, TAME},
    {"anon-thp-read", "", R | W, ANON, .huge = true, .then = {want_huge, read_it}, TAME},
    {"anon-guard", "anon", R | W, ANON, .then = {write_it, guard}, TAME},
    {"anon-wipeonfork", "never", R | W, ANON, .then = {write_it, wipe}, TAME},
    {"anon-dontdump", "never", R | W, ANON, .then = {write_it, hide}, TAME},
    {"anon-droppable", "never", R | W, .flags = MAP_DROPPABLE | MAP_ANONYMOUS, .then = {write_it}, TAME},

    /* anonymous and shared, and /dev/zero, which is that in disguise */
    {"shared-untouched", "shared-unlinked", R | W, SHARED_ANON, TAME},
    {"shared-written", "shared-unlinked", R | W, SHARED_ANON, .then = {write_it}, TAME},
    {"shared-written-r", "shared-unlinked", R | W, SHARED_ANON, .then = {write_it, to_r}, TAME},
    {"shared-none", "shared-unlinked", PROT_NONE, SHARED_ANON, TAME},
    {"shared-dontdump", "never", R | W, SHARED_ANON, .then = {write_it, hide}, TAME},
    {"dev-zero-shared", "shared-unlinked", R | W, SHARED_OF(DEV_ZERO), .then = {write_it}, TAME},
    {"dev-zero-private", "file", R | W, OF(DEV_ZERO, O_RDWR, MAP_PRIVATE)},
    {"dev-zero-private-written", "written", R | W, OF(DEV_ZERO, O_RDWR, MAP_PRIVATE), .then = {write_it}},

    /* memfd: its inode is unlinked and has mode 0777 */
    {"memfd-shared", "shared-unlinked", R | W, SHARED_OF(MEMFD), .then = {write_it}},
    {"memfd-shared-r", "shared-unlinked", R, SHARED_OF(MEMFD)},
    {"memfd-shared-rx", "shared-unlinked", R | X, SHARED_OF(MEMFD)},
    {"memfd-shared-2mib", "shared-unlinked", R | W, SHARED_OF(MEMFD), .huge = true},
    {"memfd-shared-rofd", "file+header", R, SHARED_RO_OF(MEMFD)},
    {"memfd-private-r", "file+header", R, PRIVATE_OF(MEMFD), .then = {read_it}},
    {"memfd-private-rw", "file+header", R | W, PRIVATE_OF(MEMFD)},
    {"memfd-private-rx", "file+header", R | X, PRIVATE_OF(MEMFD)},
    {"memfd-private-offset", "file", R, PRIVATE_OF(MEMFD), .first_page = 1},
    {"memfd-private-written", "written+header", R | W, PRIVATE_OF(MEMFD), .then = {write_it}},
    {"memfd-private-written-r", "written+header", R | W, PRIVATE_OF(MEMFD), .then = {write_it, to_r}},
    {"memfd-private-noexec", "file", R, PRIVATE_OF(MEMFD), .memfd_flags = MFD_NOEXEC_SEAL},

    /* POSIX shared memory */
    {"shm-shared", "shared-linked", R | W, SHARED_OF(SHM), .then = {write_it}},
    {"shm-shared-unlinked", "shared-unlinked", R | W, SHARED_OF(SHM), .then = {write_it, unlink_it}},
    {"shm-private", "file", R, PRIVATE_OF(SHM), .then = {read_it}},
    {"shm-private-written", "written", R | W, PRIVATE_OF(SHM), .then = {write_it}},
    {"shm-private-unlinked", "file", R, PRIVATE_OF(SHM), .then = {unlink_it}},

    /* regular files, shared */
    {"file-shared", "shared-linked", R | W, SHARED_OF(REGULAR)},
    {"file-shared-written", "shared-linked", R | W, SHARED_OF(REGULAR), .then = {write_it}},
    {"file-shared-r", "shared-linked", R, SHARED_OF(REGULAR)},
    {"file-shared-none", "shared-linked", PROT_NONE, SHARED_OF(REGULAR)},
    {"file-shared-rofd", "file", R, SHARED_RO_OF(REGULAR)},
    {"file-shared-rofd-unlinked", "file", R, SHARED_RO_OF(REGULAR), .then = {unlink_it}},
    {"file-shared-unlinked", "shared-unlinked", R | W, SHARED_OF(REGULAR), .then = {unlink_it}},
    {"file-shared-unlinked-r", "shared-unlinked", R, SHARED_OF(REGULAR), .then = {unlink_it}},
    {"file-shared-replaced", "shared-unlinked", R | W, SHARED_OF(REGULAR), .then = {replace_it}},
    {"file-shared-renamed", "shared-linked", R | W, SHARED_OF(REGULAR), .then = {rename_it}},
    {"file-shared-hard-link-left", "shared-linked", R | W, SHARED_OF(REGULAR),
     .then = {link_elsewhere, unlink_it}},
    {"file-shared-tmpfile", "shared-unlinked", R | W, SHARED_OF(UNNAMED)},
    {"file-shared-tmpfile-linked", "shared-linked", R | W, SHARED_OF(UNNAMED), .then = {give_name}},
    {"file-shared-called-deleted", "shared-linked", R | W, SHARED_OF(REGULAR), .name = "literal (deleted)"},
    {"file-shared-newline", "shared-linked", R | W, SHARED_OF(REGULAR), .name = "new\nline"},
    {"file-shared-tab", "shared-linked", R | W, SHARED_OF(REGULAR), .name = "tab\there"},
    {"file-shared-0xff", "shared-linked", R | W, SHARED_OF(REGULAR), .name = "byte\xff"},
    {"file-shared-past-eof", "shared-linked", R | W, SHARED_OF(REGULAR), .first_page = 2},
    {"file-shared-dontdump", "never", R | W, SHARED_OF(REGULAR), .then = {hide}},

    /* regular files, private */
    {"file-private-r", "file", R, PRIVATE_OF(REGULAR)},
    {"file-private-read", "file", R, PRIVATE_OF(REGULAR), .then = {read_it}},
    {"file-private-rw", "file", R | W, PRIVATE_OF(REGULAR)},
    {"file-private-none", "file", PROT_NONE, PRIVATE_OF(REGULAR)},
    {"file-private-x", "file", X, PRIVATE_OF(REGULAR)},
    {"file-private-offset", "file", R, PRIVATE_OF(REGULAR), .first_page = 1},
    {"file-private-past-eof", "file", R, PRIVATE_OF(REGULAR), .first_page = 2},
    {"file-private-unlinked", "file", R, PRIVATE_OF(REGULAR), .then = {unlink_it}},
    {"file-private-written", "written", R | W, PRIVATE_OF(REGULAR), .then = {write_it}},
    {"file-private-written-r", "written", R | W, PRIVATE_OF(REGULAR), .then = {write_it, to_r}},
    {"file-private-written-dontneed", "written", R | W, PRIVATE_OF(REGULAR), .then = {write_it, forget}},
    {"file-private-written-unlinked", "written", R | W, PRIVATE_OF(REGULAR), .then = {write_it, unlink_it}},
    {"file-private-dontdump", "never", R | W, PRIVATE_OF(REGULAR), .then = {write_it, hide}},
    {"system-file-private", "file", R, .from = SYSTEM, .name = "/usr/lib/os-release", .flags = MAP_PRIVATE,
     .pages = 1},

    /* files with an x bit: one page of header, whatever they hold */
    {"exec-junk", "file+header", R, PRIVATE_OF(REGULAR), X_BIT},
    {"exec-junk-unlinked", "file+header", R, PRIVATE_OF(REGULAR), X_BIT, .then = {unlink_it}},
    {"exec-junk-one-page", "file+header", R, PRIVATE_OF(REGULAR), X_BIT, .pages = 1},
    {"exec-junk-written", "written+header", R | W, PRIVATE_OF(REGULAR), X_BIT, .then = {write_it}},
    {"exec-junk-offset", "file", R, PRIVATE_OF(REGULAR), X_BIT, .first_page = 1},
    {"exec-junk-none", "file", PROT_NONE, PRIVATE_OF(REGULAR), X_BIT},
    {"exec-junk-x", "file", X, PRIVATE_OF(REGULAR), X_BIT},
    {"exec-junk-chmod", "file", R, PRIVATE_OF(REGULAR), X_BIT, .then = {make_plain}},
    {"script", "file+header", R, PRIVATE_OF(REGULAR), .holds = SCRIPT, X_BIT},
    {"script-0644", "file", R, PRIVATE_OF(REGULAR), .holds = SCRIPT},
    {"script-shared-rofd", "file+header", R, SHARED_RO_OF(REGULAR), .holds = SCRIPT, X_BIT},

    /* ELF files that nobody loaded */
    {"elf-0755", "file+header", R, PRIVATE_OF(REGULAR), .holds = IMAGE, X_BIT},
    {"elf-0644", "file+header", R, PRIVATE_OF(REGULAR), .holds = IMAGE},
    {"elf-rw", "file+header", R | W, PRIVATE_OF(REGULAR), .holds = IMAGE},
    {"elf-unlinked", "file+header", R, PRIVATE_OF(REGULAR), .holds = IMAGE, X_BIT, .then = {unlink_it}},
    {"elf-none", "file", PROT_NONE, PRIVATE_OF(REGULAR), .holds = IMAGE, X_BIT},
    {"elf-offset", "file", R, PRIVATE_OF(REGULAR), .holds = IMAGE, X_BIT, .first_page = 1, .pages = 2},
    {"elf-written", "written+header", R | W, PRIVATE_OF(REGULAR), .holds = IMAGE, X_BIT, .then = {write_it}},
    {"elf-shared", "shared-linked", R | W, SHARED_OF(REGULAR), .holds = IMAGE, X_BIT},
    {"elf-shared-rofd", "file+header", R, SHARED_RO_OF(REGULAR), .holds = IMAGE, X_BIT},
    {"elf-system", "file+header", R, .from = SYSTEM, .name = "/bin/sh", .flags = MAP_PRIVATE, .pages = 2},

    /* huge pages of hugetlbfs, under each of its names */
    {"huge-private", "huge-private", R | W, HUGE_ANON(MAP_PRIVATE)},
    {"huge-private-written", "huge-private", R | W, HUGE_ANON(MAP_PRIVATE), .then = {write_it}},
    {"huge-private-dontdump", "never", R | W, HUGE_ANON(MAP_PRIVATE), .then = {write_it, hide}},
    {"huge-shared", "huge-shared", R | W, HUGE_ANON(MAP_SHARED), .then = {write_it}},
    {"huge-memfd-private", "huge-private", R | W, HUGE_OF(MEMFD_HUGE, MAP_PRIVATE), .then = {write_it}},
    {"huge-memfd-shared", "huge-shared", R | W, HUGE_OF(MEMFD_HUGE, MAP_SHARED), .then = {write_it}},
    {"huge-file-private", "huge-private", R | W, HUGE_OF(HUGETLBFS, MAP_PRIVATE), .then = {write_it}},
    {"huge-file-shared", "huge-shared", R | W, HUGE_OF(HUGETLBFS, MAP_SHARED), .then = {write_it}},
    {"huge-file-unlinked", "huge-shared", R | W, HUGE_OF(HUGETLBFS, MAP_SHARED),
     .then = {write_it, unlink_it}},
};

/* ---- mappings that do not fit a row ------------------------------------------------------------ */

/* One mapping written to once, then split by mprotect: both halves have a history. */
static int split(void)
{
    char *map = map_new(8 * page, R | W, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (!map)
        return -1;
    memset(map, 's', page);
    if (mprotect(map + 4 * page, 4 * page, R) < 0)
        return fail("mprotect");
    record("anon-split-low", "anon", map, 4 * page);
    record("anon-split-high", "anon", map + 4 * page, 4 * page);
    return 0;
}

static int attach(const char *tag, const char *category, key_t key, size_t len, int get, int at, bool remove)
{
    int id = check(shmget(key, len, IPC_CREAT | IPC_EXCL | 0600 | get), "shmget");
    if (id < 0)
        return -1;
    char *map = shmat(id, slot(len), at);
    if (map == (char *)-1)
        fail("shmat");
    else if (!(at & SHM_RDONLY))
        snprintf(map, page, "System V: %s", tag);
    if (remove || map == (char *)-1)
        shmctl(id, IPC_RMID, NULL);
    if (map == (char *)-1)
        return -1;
    record(tag, category, map, len);
    return 0;
}

static int sysv(void) { return attach("sysv", "shared-unlinked", IPC_PRIVATE, 4 * page, 0, 0, false); }
static int sysv_keyed(void)
{
    return attach("sysv-keyed", "shared-unlinked", 0x5c000000 | getpid(), 4 * page, 0, 0, false);
}
static int sysv_removed(void)
{
    return attach("sysv-removed", "shared-unlinked", IPC_PRIVATE, 4 * page, 0, 0, true);
}
static int sysv_rdonly(void)
{
    return attach("sysv-rdonly", "file+header", IPC_PRIVATE, 4 * page, 0, SHM_RDONLY, true);
}
static int sysv_huge(void)
{
    return attach("huge-sysv", "huge-shared", IPC_PRIVATE, HUGE_PAGE, SHM_HUGETLB, 0, true);
}

/* The descriptor of a new file in files/ with four pages of junk. */
static int junk_file(const char *name)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/files/%s", folder, name);
    int fd = check(open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644), "open");
    return fd < 0 || fill_junk(fd, name, 4, NULL) < 0 ? -1 : fd;
}

static int two_views(const char *tag, const char *private_category, bool write)
{
    char one[64], two[64];
    int fd = junk_file(tag);

    if (fd < 0)
        return -1;
    char *shared = map_new(4 * page, R | W, MAP_SHARED, fd, 0);
    char *private = map_new(4 * page, R | W, MAP_PRIVATE, fd, 0);
    close(fd);
    if (!shared || !private)
        return -1;
    if (write)
        memset(private + page, 'p', page);
    snprintf(one, sizeof one, "%s-shared", tag);
    snprintf(two, sizeof two, "%s-private", tag);
    record(one, "shared-linked", shared, 4 * page);
    record(two, private_category, private, 4 * page);
    return 0;
}

static int views_same(void) { return two_views("views-same", "file", false); }
static int views_differ(void) { return two_views("views-differ", "written", true); }

/* A code generator's way around W^X: one memfd, writable here and executable there. */
static int dual_mapped(void)
{
    int fd = check(memfd_create("dual", MFD_CLOEXEC), "memfd_create");

    if (fd < 0 || fill_junk(fd, "dual", 4, NULL) < 0)
        return -1;
    char *writable = map_new(4 * page, R | W, MAP_SHARED, fd, 0);
    char *executable = map_new(4 * page, R | X, MAP_SHARED, fd, 0);
    close(fd);
    if (!writable || !executable)
        return -1;
    record("memfd-dual-rw", "shared-unlinked", writable, 4 * page);
    record("memfd-dual-rx", "shared-unlinked", executable, 4 * page);
    return 0;
}

static int secret(void)
{
    int fd = check(syscall(SYS_memfd_secret, O_CLOEXEC), "memfd_secret");

    if (fd < 0 || check(ftruncate(fd, 4 * page), "ftruncate") < 0)
        return -1;
    char *map = map_new(4 * page, R | W, MAP_SHARED, fd, 0);
    close(fd);
    if (!map)
        return -1;
    memset(map, '!', page);
    record("memfd-secret", "never", map, 4 * page);
    return 0;
}

/* The kernel chose where; how long it is stands in maps alone. */
static size_t length_at(unsigned long start)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[PATH_MAX + 256];
    unsigned long from, to, length = 0;

    while (maps && fgets(line, sizeof line, maps))
        if (sscanf(line, "%lx-%lx", &from, &to) == 2 && from == start)
            length = to - from;
    if (maps)
        fclose(maps);
    return length;
}

/* What threads leave behind when they end: stacks kept for the next ones, guard pages, arenas of malloc. */
static pthread_barrier_t all_there;

static void *use_malloc(void *unused)
{
    (void)unused;
    free(malloc(100));
    pthread_barrier_wait(&all_there);
    return NULL;
}

static int threads(void)
{
    pthread_t thread[4];
    pthread_attr_t attr;

    pthread_barrier_init(&all_there, NULL, COUNT(thread));
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 1 << 18);
    for (size_t n = 0; n < COUNT(thread); n++)
        if ((errno = pthread_create(&thread[n], &attr, use_malloc, NULL)) != 0)
            return fail("pthread_create");
    for (size_t n = 0; n < COUNT(thread); n++)
        pthread_join(thread[n], NULL);
    return 0;
}

static int aio_ring(void)
{
    unsigned long context = 0;

    if (check(syscall(SYS_io_setup, 8, &context), "io_setup") < 0)
        return -1;
    record("ring-aio", "shared-linked", (void *)context, length_at(context));
    return 0;
}

/* The kernel takes no address for these. */
static char *map_uring(int fd, size_t len, off_t what)
{
    char *map = mmap(NULL, len, R | W, MAP_SHARED | MAP_POPULATE, fd, what);

    if (map == MAP_FAILED)
        fail("mmap of io_uring");
    return map == MAP_FAILED ? NULL : map;
}

static int uring(void)
{
    struct io_uring_params params = {0};
    int fd = check(syscall(SYS_io_uring_setup, 8, &params), "io_uring_setup");

    if (fd < 0)
        return -1;
    size_t ring = (params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe) + page - 1) & -page;
    size_t entries = (params.sq_entries * sizeof(struct io_uring_sqe) + page - 1) & -page;
    char *first = map_uring(fd, ring, IORING_OFF_SQ_RING);
    char *second = map_uring(fd, entries, IORING_OFF_SQES);
    if (!first || !second)
        return -1;
    record("ring-io_uring", "shared-linked", first, ring);
    record("ring-io_uring-entries", "shared-linked", second, entries);
    return 0;
}

/* Protocol 0: the ring gets its memory and never a packet. */
static int packet_ring(void)
{
    struct tpacket_req request = {
        .tp_block_size = page, .tp_block_nr = 4, .tp_frame_size = 2048, .tp_frame_nr = page / 2048 * 4};
    int fd = check(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), "socket(AF_PACKET)");

    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) < 0)
        return fail("PACKET_RX_RING");
    char *map = map_new(4 * page, R | W, MAP_SHARED, fd, 0);
    if (!map)
        return -1;
    record("ring-packet", "shared-linked", map, 4 * page);
    return 0;
}

static int bpf_array(void)
{
    union bpf_attr attr = {.map_type = BPF_MAP_TYPE_ARRAY,
                           .key_size = 4,
                           .value_size = 4096,
                           .max_entries = 4,
                           .map_flags = BPF_F_MMAPABLE};
    int fd = check(syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof attr), "BPF_MAP_CREATE");

    if (fd < 0)
        return -1;
    char *map = map_new(4096 * 4, R | W, MAP_SHARED, fd, 0);
    if (!map)
        return -1;
    record("bpf-array", "never", map, 4096 * 4);
    return 0;
}

/* A perf ring is not handed down by fork: every twin maps it where the table says. */
static int perf_fd = -1;
static char *perf_at;

static void map_perf_ring(void)
{
    mmap(perf_at, 3 * page, R | W, MAP_SHARED | MAP_FIXED_NOREPLACE, perf_fd, 0);
}

static int perf_ring(void)
{
    struct perf_event_attr attr = {.type = PERF_TYPE_SOFTWARE,
                                   .size = sizeof attr,
                                   .config = PERF_COUNT_SW_DUMMY,
                                   .exclude_kernel = 1,
                                   .disabled = 1};

    perf_fd = check(syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC), "perf_event_open");
    if (perf_fd < 0)
        return -1;
    perf_at = slot(3 * page);
    in_twin = map_perf_ring;
    record("ring-perf", "never", perf_at, 3 * page);
    return 0;
}

struct special {
    const char *tag;
    int (*make)(void);
    bool tame;
};

static const struct special SPECIALS[] = {
    {"anon-split", split, true},
    {"threads", threads, true},
    {"sysv", sysv, true},
    {"sysv-keyed", sysv_keyed, true},
    {"sysv-removed", sysv_removed, true},
    {"sysv-rdonly", sysv_rdonly, false},
    {"huge-sysv", sysv_huge, false},
    {"views-same", views_same, false},
    {"views-differ", views_differ, false},
    {"memfd-dual", dual_mapped, false},
    {"memfd-secret", secret, false},
    {"ring-aio", aio_ring, false},
    {"ring-io_uring", uring, false},
    {"ring-packet", packet_ring, false},
    {"ring-perf", perf_ring, false},
    {"bpf-array", bpf_array, false},
};

/* ---- ELF images: their mappings are found by name in maps -------------------------------------- */

static int loaded(void *handle)
{
    if (!handle)
        snprintf(why, sizeof why, "not loaded");
    return handle ? 0 : -1;
}

static int load(const char *path) { return loaded(dlopen(path, RTLD_NOW | RTLD_LOCAL)); }

/* Once more, with a libc of its own: two images of one file at two places. */
static int load_again(const char *path) { return loaded(dlmopen(LM_ID_NEWLM, path, RTLD_NOW)); }

/* What a debugger's breakpoint or a hot patch does: text that is a private copy from then on. */
static int patch_text(const char *path)
{
    void *handle = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
    uintptr_t text = handle ? (uintptr_t)dlsym(handle, "specimen_step") : 0;
    char *at = (char *)(text & -page);

    if (!text || mprotect(at, page, R | W | X) < 0)
        return fail("mprotect");
    *(volatile char *)text = *(volatile char *)text;
    return check(mprotect(at, page, R | X), "mprotect");
}

static int unlink_image(const char *path) { return check(unlink(path), "unlink"); }

/* A symbolizer's view: the whole file of an image that is loaded as well. */
static int map_whole(const char *path)
{
    struct stat status;
    int fd = check(open(path, O_RDONLY | O_CLOEXEC), "open");

    if (fd < 0 || check(fstat(fd, &status), "fstat") < 0)
        return -1;
    size_t len = (status.st_size + page - 1) & -page;
    char *map = map_new(len, R, MAP_PRIVATE, fd, 0);
    close(fd);
    if (!map)
        return -1;
    record("elf-loaded-and-mapped", "file+header", map, len);
    return 0;
}

struct image {
    const char *name;
    int (*then)(const char *path);
    bool tame;
};

static const struct image IMAGES[] = {
    {"libplain.so", NULL, true},
    {"libunlinked.so", unlink_image, true},
    {"libnow.so", NULL, true},
    {"libnorelro.so", NULL, true},
    {"libnosep.so", NULL, true},
    {"libstripped.so", NULL, true},
    {"libbss.so", NULL, true},
    {"libmax2m.so", NULL, true},
    {"libtextrel.so", NULL, false},
    {"libtwice.so", load_again, true},
    {"libpatched.so", patch_text, false},
    {"libviewed.so", map_whole, false},
};

static int load_image(const struct image *image)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/images/%s", folder, image->name);
    if (load(path) < 0)
        return -1;
    return image->then ? image->then(path) : 0;
}

static int load_from_memfd(void)
{
    char self[64];
    int fd = check(memfd_create("libmemfd.so", MFD_CLOEXEC), "memfd_create");

    if (fd < 0 || fill_image(fd) < 0)
        return -1;
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    return load(self);
}

/* ---- all together ------------------------------------------------------------------------------ */

static void note(const char *tag, int result)
{
    if (result < 0)
        record_skipped(tag);
    *why = 0;
}

static void populate(bool tame)
{
    for (size_t n = 0; n < COUNT(IMAGES); n++)
        if (!tame || IMAGES[n].tame)
            note(IMAGES[n].name, load_image(&IMAGES[n]));
    if (!tame)
        note("libmemfd.so", load_from_memfd());
    for (size_t n = 0; n < COUNT(SPECIMENS); n++)
        if (!tame || SPECIMENS[n].tame)
            note(SPECIMENS[n].tag, make_specimen(&SPECIMENS[n]));
    for (size_t n = 0; n < COUNT(SPECIALS); n++)
        if (!tame || SPECIALS[n].tame)
            note(SPECIALS[n].tag, SPECIALS[n].make());
}

static void copy_proc(const char *from, const char *to)
{
    static char buffer[1 << 16];
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ssize_t got;

    while ((got = read(in, buffer, sizeof buffer)) > 0)
        if (write(out, buffer, got) != got)
            break;
    close(in);
    close(out);
}

/* One more twin, which writes down what it sees instead of dying. */
static void portray(void)
{
    pid_t pid = bare_fork();

    if (pid == 0) {
        if (in_twin)
            in_twin();
        copy_proc("/proc/self/maps", "maps");
        copy_proc("/proc/self/smaps", "smaps");
        _exit(0);
    }
    waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: zoo wild|tame FOLDER HUGETLBFS FILTER...\n");
        return 2;
    }
    page = sysconf(_SC_PAGESIZE);
    folder = argv[2];
    hugetlbfs = argv[3];
    signal(SIGABRT, SIG_DFL);
    if (chdir(folder) < 0 || !(table = fopen("table.jsonl", "we")) || !raise_core_limit()) {
        perror("zoo");
        return 1;
    }
    setvbuf(table, NULL, _IOLBF, 0);
    populate(strcmp(argv[1], "tame") == 0);
    fclose(table);
    portray();

    char **filters = argv + 4;
    int wanted = argc - 4, done = dump_twins(filters);
    if (done < wanted)
        fprintf(stderr, "zoo: the twin of filter %s left no core\n", filters[done]);
    return done == wanted ? 0 : 1;
}
