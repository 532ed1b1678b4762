/* Stands before the C library: counts the calls that reach the kernel, and lets one of them fail, or do only a part.
 *
 * What is armed counts from the next call on; `at` is the call that meets with the fault, `what` an errno, or one of
 * the below. A call that returns a count of bytes can be short: then it is made, for one byte.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { SHORT = -1, KILLED = -2 };
enum { MOST = 1 << 14 };

static long at = -1, count;
static int what, no_tmpfile;
static const char *names[MOST];

void faults_arm(long call, int fault, int without_tmpfile)
{
    at = call, what = fault, no_tmpfile = without_tmpfile, count = 0;
}

long faults_count(void) { return count; }
const char *faults_name(long i) { return names[i]; }

static int turn(const char *name)
{
    if (at < 0)
        return 0;
    if (count < MOST)
        names[count] = name;
    if (count++ != at)
        return 0;
    if (what == KILLED)
        kill(getpid(), SIGKILL);
    return what;
}

#define NEXT(name) \
    static __typeof__(&name) next; \
    if (!next) \
        next = (__typeof__(&name))dlsym(RTLD_NEXT, #name);

#define CONTROL(type, name, parameters, arguments) \
    type name parameters \
    { \
        NEXT(name) \
        int fault = turn(#name); \
        if (fault > 0) { \
            errno = fault; \
            return (type)-1; \
        } \
        return next arguments; \
    }

/* `n` is the parameter that counts bytes. */
#define DATA(name, parameters, arguments) \
    ssize_t name parameters \
    { \
        NEXT(name) \
        int fault = turn(#name); \
        if (fault > 0) { \
            errno = fault; \
            return -1; \
        } \
        if (fault == SHORT && n > 1) \
            n = 1; \
        return next arguments; \
    }

DATA(read, (int fd, void *p, size_t n), (fd, p, n))
DATA(write, (int fd, const void *p, size_t n), (fd, p, n))
DATA(pread64, (int fd, void *p, size_t n, off64_t o), (fd, p, n, o))
DATA(pwrite64, (int fd, const void *p, size_t n, off64_t o), (fd, p, n, o))
DATA(sendfile64, (int out, int in, off64_t *o, size_t n), (out, in, o, n))
DATA(splice, (int in, off64_t *oi, int out, off64_t *oo, size_t n, unsigned f), (in, oi, out, oo, n, f))
DATA(copy_file_range, (int in, off64_t *oi, int out, off64_t *oo, size_t n, unsigned f), (in, oi, out, oo, n, f))

CONTROL(int, fstat64, (int fd, struct stat64 *s), (fd, s))
CONTROL(int, stat64, (const char *p, struct stat64 *s), (p, s))
CONTROL(int, lstat64, (const char *p, struct stat64 *s), (p, s))
CONTROL(int, fstatat64, (int d, const char *p, struct stat64 *s, int f), (d, p, s, f))
CONTROL(off64_t, lseek64, (int fd, off64_t o, int w), (fd, o, w))
CONTROL(int, ftruncate64, (int fd, off64_t n), (fd, n))
CONTROL(int, fallocate64, (int fd, int m, off64_t o, off64_t n), (fd, m, o, n))
CONTROL(int, fsync, (int fd), (fd))
CONTROL(int, fdatasync, (int fd), (fd))
CONTROL(int, sync_file_range, (int fd, off64_t o, off64_t n, unsigned f), (fd, o, n, f))
CONTROL(int, posix_fadvise64, (int fd, off64_t o, off64_t n, int a), (fd, o, n, a))
CONTROL(int, linkat, (int a, const char *p, int b, const char *q, int f), (a, p, b, q, f))
CONTROL(int, renameat, (int a, const char *p, int b, const char *q), (a, p, b, q))
CONTROL(int, unlinkat, (int d, const char *p, int f), (d, p, f))
CONTROL(int, unlink, (const char *p), (p))
CONTROL(int, fchmod, (int fd, mode_t m), (fd, m))
CONTROL(int, fchown, (int fd, uid_t u, gid_t g), (fd, u, g))
CONTROL(int, flock, (int fd, int o), (fd, o))
CONTROL(int, fstatfs64, (int fd, struct statfs64 *s), (fd, s))
CONTROL(int, fstatvfs64, (int fd, struct statvfs64 *s), (fd, s))
CONTROL(int, poll, (struct pollfd *p, nfds_t n, int t), (p, n, t))
CONTROL(int, mincore, (void *p, size_t n, unsigned char *v), (p, n, v))
CONTROL(int, dup, (int fd), (fd))
CONTROL(ssize_t, readlink, (const char *p, char *q, size_t n), (p, q, n))
CONTROL(ssize_t, fgetxattr, (int fd, const char *k, void *v, size_t n), (fd, k, v, n))
CONTROL(ssize_t, flistxattr, (int fd, char *v, size_t n), (fd, v, n))
CONTROL(int, fsetxattr, (int fd, const char *k, const void *v, size_t n, int f), (fd, k, v, n, f))
CONTROL(int, futimens, (int fd, const struct timespec t[2]), (fd, t))

/* The descriptor is gone, whatever close says (close(2)). */
int close(int fd)
{
    NEXT(close)
    int fault = turn("close"), rc = next(fd);
    if (fault > 0) {
        errno = fault;
        return -1;
    }
    return rc;
}

static ssize_t vectored(const char *name, int fd, const struct iovec *v, int n, off64_t o, int flags, long number)
{
    struct iovec one = v[0];
    int fault = turn(name);
    if (fault > 0) {
        errno = fault;
        return -1;
    }
    if (fault == SHORT && n > 0 && one.iov_len > 1) {
        one.iov_len = 1;
        v = &one, n = 1;
    }
    long (*next)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    return next(number, (long)fd, v, (long)n, (long)o, 0L, (long)flags);
}

ssize_t preadv64v2(int fd, const struct iovec *v, int n, off64_t o, int flags)
{
    return vectored("preadv2", fd, v, n, o, flags, SYS_preadv2);
}

ssize_t pwritev64v2(int fd, const struct iovec *v, int n, off64_t o, int flags)
{
    return vectored("pwritev2", fd, v, n, o, flags, SYS_pwritev2);
}

ssize_t pwritev64(int fd, const struct iovec *v, int n, off64_t o)
{
    return vectored("pwritev", fd, v, n, o, 0, SYS_pwritev2);
}

ssize_t readv(int fd, const struct iovec *v, int n)
{
    return vectored("readv", fd, v, n, -1, 0, SYS_preadv2);
}

ssize_t writev(int fd, const struct iovec *v, int n)
{
    return vectored("writev", fd, v, n, -1, 0, SYS_pwritev2);
}

long syscall(long number, ...)
{
    long a[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    NEXT(syscall)
    if (number == SYS_preadv2 || number == SYS_pwritev2)
        return vectored(number == SYS_preadv2 ? "preadv2" : "pwritev2", (int)a[0], (const struct iovec *)a[1], (int)a[2],
                        a[3], (int)a[5], number);
    int fault = number == SYS_copy_file_range ? turn("copy_file_range") : number == SYS_statx ? turn("statx") : 0;
    if (fault > 0) {
        errno = fault;
        return -1;
    }
    if (fault == SHORT && number == SYS_copy_file_range && a[4] > 1)
        a[4] = 1;
    return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

#define OPENING(name, before, arguments) \
    int name(before const char *path, int flags, ...) \
    { \
        va_list list; \
        va_start(list, flags); \
        mode_t mode = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(list, mode_t) : 0; \
        va_end(list); \
        NEXT(name) \
        int fault = turn("open"); \
        if (fault > 0 || (no_tmpfile && (flags & O_TMPFILE) == O_TMPFILE)) { \
            errno = fault > 0 ? fault : EOPNOTSUPP; \
            return -1; \
        } \
        return next arguments; \
    }
#define NOTHING
#define FOLDER int folder,

OPENING(open64, NOTHING, (path, flags, mode))
OPENING(openat64, FOLDER, (folder, path, flags, mode))

#define CONTROLLING(name, type) \
    int name(int fd, type request, ...) \
    { \
        va_list list; \
        va_start(list, request); \
        long argument = va_arg(list, long); \
        va_end(list); \
        NEXT(name) \
        int fault = turn(#name); \
        if (fault > 0) { \
            errno = fault; \
            return -1; \
        } \
        return next(fd, request, argument); \
    }

CONTROLLING(fcntl64, int)
CONTROLLING(ioctl, unsigned long)

void *mmap64(void *p, size_t n, int protection, int flags, int fd, off64_t o)
{
    NEXT(mmap64)
    int fault = fd >= 0 ? turn("mmap") : 0;
    if (fault > 0) {
        errno = fault;
        return MAP_FAILED;
    }
    return next(p, n, protection, flags, fd, o);
}

DIR *fdopendir(int fd)
{
    NEXT(fdopendir)
    int fault = turn("fdopendir");
    if (fault > 0) {
        errno = fault;
        return NULL;
    }
    return next(fd);
}
