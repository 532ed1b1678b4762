/*
 * A 32-bit process and its twins, without a libc: where there is a compiler there is seldom a 32-bit library.
 *
 *     i386 FOLDER FILTER...
 */
#include <stddef.h>

#define O_WRONLY 1
#define SIGABRT 6
#define SIGCHLD 17
#define RLIMIT_CORE 4
#define PROT_READ 1
#define PROT_WRITE 2
#define MAP_SHARED 1
#define MAP_PRIVATE 2
#define MAP_ANONYMOUS 0x20
#define WIFSIGNALED(status) (((status)&0x7f) != 0)
#define WCOREDUMP(status) ((status)&0x80)

/* Numbers of the i386 table. */
enum {
    SYS_exit = 1,
    SYS_write = 4,
    SYS_open = 5,
    SYS_close = 6,
    SYS_waitpid = 7,
    SYS_chdir = 12,
    SYS_getpid = 20,
    SYS_kill = 37,
    SYS_setrlimit = 75,
    SYS_clone = 120,
    SYS_getrlimit = 191,
    SYS_mmap2 = 192,
};

typedef int pid_t;
typedef int ssize_t;
struct rlimit {
    unsigned rlim_cur, rlim_max;
};

/* The sixth argument travels in ebp, which a compiler keeps to itself; here it is always 0. */
static int syscall(int number, long a, long b, long c, long d, long e)
{
    int result;

    __asm__ volatile("push %%ebp\n\txor %%ebp, %%ebp\n\tint $0x80\n\tpop %%ebp"
                     : "=a"(result)
                     : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
                     : "memory");
    return result;
}

#define CALL3(name, a, b, c) syscall(SYS_##name, (long)(a), (long)(b), (long)(c), 0, 0)

static int open(const char *path, int flags) { return CALL3(open, path, flags, 0); }
static int close(int fd) { return CALL3(close, fd, 0, 0); }
static int chdir(const char *path) { return CALL3(chdir, path, 0, 0); }
static int getpid(void) { return CALL3(getpid, 0, 0, 0); }
static int kill(int pid, int signal) { return CALL3(kill, pid, signal, 0); }
static void _exit(int code) { CALL3(exit, code, 0, 0); }
static int getrlimit(int what, struct rlimit *limit) { return CALL3(getrlimit, what, limit, 0); }
static int setrlimit(int what, struct rlimit *limit) { return CALL3(setrlimit, what, limit, 0); }
static int waitpid(int pid, int *status, int options) { return CALL3(waitpid, pid, status, options); }
static ssize_t write(int fd, const void *from, size_t len) { return CALL3(write, fd, from, len); }

static size_t strlen(const char *text)
{
    size_t len = 0;

    while (text[len])
        len++;
    return len;
}

#include "twins.h"

static void fill(int sharing, size_t len)
{
    int prot = PROT_READ | PROT_WRITE;
    volatile char *map = (char *)syscall(SYS_mmap2, 0, len, prot, sharing | MAP_ANONYMOUS, -1);

    for (size_t at = 0; at < len; at++)
        map[at] = 'i';
}

static int in_data = 386;
static char in_bss[9000];

__attribute__((used)) static void start(long *stack)
{
    int argc = (int)stack[0];
    char **argv = (char **)(stack + 1);

    fill(MAP_PRIVATE, 5 << 12);
    fill(MAP_SHARED, 6 << 12);
    in_bss[in_data]++;
    if (argc < 3 || chdir(argv[1]) < 0 || !raise_core_limit())
        _exit(1);
    _exit(dump_twins(argv + 2) == argc - 2 ? 0 : 1);
}

__asm__(".globl _start\n"
        "_start:\n"
        "\tmov %esp, %eax\n"
        "\tand $-16, %esp\n"
        "\tsub $12, %esp\n"
        "\tpush %eax\n"
        "\tcall start\n");
