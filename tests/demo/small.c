/* Leaves the small core that ships with corefilt: memory of every common kind in a few hundred kilobytes.
 *
 * Static and without libc, so that the core holds nothing of the machine it was made on. make.py builds and
 * crashes it; the only argument is the name of a file to be mapped.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>

enum { KiB = 1024 };

static long call(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    long answer;
    __asm__ volatile("syscall"
                     : "=a"(answer)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return answer;
}

static char *map(long size, int flags, long fd)
{
    return (char *)call(SYS_mmap, 0, size, PROT_READ | PROT_WRITE, flags, fd, 0);
}

static void fill(char *at, long size, char with)
{
    for (long i = 0; i < size; i++)
        at[i] = with + i % 7;
}

char data[8 * KiB] = "data of the program";

__attribute__((used)) static void crash(long *stack)
{
    static const char filter[] = "0x1ff";
    long out = call(SYS_open, (long)"/proc/self/coredump_filter", O_WRONLY, 0, 0, 0, 0);
    call(SYS_write, out, (long)filter, sizeof filter - 1, 0, 0, 0);
    call(SYS_close, out, 0, 0, 0, 0, 0);

    long file = call(SYS_open, stack[2], O_RDWR, 0, 0, 0, 0);
    fill(map(64 * KiB, MAP_PRIVATE | MAP_ANONYMOUS, -1), 64 * KiB, 'a');
    fill(map(512 * KiB, MAP_SHARED | MAP_ANONYMOUS, -1), 512 * KiB, 's');
    fill(map(64 * KiB, MAP_SHARED, file), 64 * KiB, 'f');
    fill(map(64 * KiB, MAP_PRIVATE, file), 4 * KiB, 'p');
    data[0] = 'D';
    call(SYS_kill, call(SYS_getpid, 0, 0, 0, 0, 0, 0), SIGABRT, 0, 0, 0, 0);
}

__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call crash\n hlt\n");
