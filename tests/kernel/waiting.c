/*
 * Twins that know nothing of their fate: each waits for a byte and dies, and who gives the byte sets its filter,
 * its limits and its folder from outside. So the memory of two twins is the same to the last byte.
 *
 *     waiting SPARSE FD
 *
 * SPARSE is the length in bytes of a mapping of which scattered pages are written to, 0 for none. For every byte
 * on standard input a twin is forked and its pid written to standard output, and its status when it has died.
 * A twin waits for a byte on descriptor FD.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096L
#define ANONYMOUS MAP_ANONYMOUS | MAP_NORESERVE

static char *map(long length, int flags, int fd)
{
    char *at = mmap(NULL, length, PROT_READ | PROT_WRITE, flags, fd, 0);

    if (at == MAP_FAILED)
        _exit(2);
    madvise(at, length, MADV_NOHUGEPAGE);
    return at;
}

/* A mapping that begins and ends with a hole, with pages of every sort in between. */
static void sprinkle(char *at, long pages, unsigned char letter)
{
    for (long n = 1; n + 1 < pages; n++) {
        if (n % 4 == 0) /* written, and full of zeros */
            *(volatile char *)(at + n * PAGE) = 0;
        else if (n % 4 != 2)
            memset(at + n * PAGE, letter, PAGE);
    }
}

/* What changes from twin to twin: the twins do not get it. */
struct mine {
    char go;
    int pid, status;
};

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    long sparse = atol(argv[1]);
    int go = atoi(argv[2]);
    struct mine *mine = (void *)map(PAGE, MAP_SHARED | ANONYMOUS, -1);
    int file = open(argv[0], O_RDONLY);
    cpu_set_t here;

    /* The kernel writes into struct rseq, in every thread's memory, which processor it runs on. */
    CPU_ZERO(&here);
    CPU_SET(sched_getcpu(), &here);
    if (sched_setaffinity(0, sizeof here, &here) < 0)
        return 1;
    sprinkle(map(7 * PAGE, MAP_PRIVATE | ANONYMOUS, -1), 7, 'p');
    sprinkle(map(9 * PAGE, MAP_SHARED | ANONYMOUS, -1), 9, 's');
    sprinkle(map(6 * PAGE, MAP_PRIVATE, file), 6, 'f');
    mmap(NULL, 3 * PAGE, PROT_READ, MAP_PRIVATE, file, 0);
    if (sparse) {
        char *at = map(sparse, MAP_PRIVATE | ANONYMOUS, -1);
        unsigned long seed = 1;
        for (int n = 0; n < 3000; n++) {
            seed = seed * 6364136223846793005 + 1442695040888963407;
            long page = (seed >> 20) % (sparse / PAGE);
            at[page * PAGE + n % PAGE] = n % 5 ? 'x' : 0;
        }
    }
    close(file);
    if (madvise(mine, PAGE, MADV_DONTFORK) < 0)
        return 2;
    while (read(0, &mine->go, 1) == 1) {
        int pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        if (pid == 0) {
            char byte;
            if (read(go, &byte, 1) == 1)
                __builtin_trap();
            _exit(3);
        }
        mine->pid = pid;
        if (write(1, &mine->pid, sizeof mine->pid) < 0 || waitpid(mine->pid, &mine->status, 0) < 0 ||
            write(1, &mine->status, sizeof mine->status) < 0)
            return 1;
    }
    return 0;
}
