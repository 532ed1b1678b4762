/*
 * A process to be dumped: private and shared anonymous memory in turn, a mapping of a file, and threads that
 * wait in functions of their own.
 *
 *     crashee FILE BYTES
 *
 * maps FILE and BYTES of memory, half of it private and half of it shared, all filled, says "ready" and waits.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECES = 8, THREADS = 4 };

static pthread_barrier_t all_there;

static volatile sig_atomic_t over; /* never */

static __attribute__((noinline)) int bench_wait(int depth)
{
    volatile int below = depth;

    if (depth > 0)
        return bench_wait(depth - 1) + below;
    pthread_barrier_wait(&all_there);
    while (!over)
        pause();
    return below;
}

static __attribute__((noinline)) void *bench_shallow(void *unused)
{
    (void)unused;
    return (void *)(intptr_t)(bench_wait(1) + 1);
}

static __attribute__((noinline)) void *bench_deep(void *unused)
{
    (void)unused;
    return (void *)(intptr_t)(bench_wait(9) + 1);
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* No page is like another one, so a wrong page cannot pass for the right one. */
static void fill(uint64_t *words, size_t count)
{
    static uint64_t state = 0x9e3779b97f4a7c15;

    for (size_t n = 0; n < count; n++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        words[n] = state;
    }
}

static void raise_core_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_CORE, &limit) < 0)
        fail("RLIMIT_CORE");
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_CORE, &limit) < 0)
        fail("RLIMIT_CORE");
}

int main(int argc, char **argv)
{
    void *(*const roles[THREADS])(void *) = {bench_shallow, bench_deep, bench_shallow, bench_deep};
    struct stat status;
    pthread_t thread;
    size_t length;
    int fd;

    if (argc != 3)
        return 2;
    length = strtoull(argv[2], NULL, 10) / PIECES & -(size_t)sysconf(_SC_PAGESIZE);
    raise_core_limit();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY); /* a debugger is our sister, which Yama may forbid */
    fd = open(argv[1], O_RDONLY);
    if (fd < 0 || fstat(fd, &status) < 0)
        fail(argv[1]);
    if (mmap(NULL, status.st_size, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED)
        fail(argv[1]);
    close(fd);
    for (int n = 0; n < PIECES; n++) {
        int how = n % 2 ? MAP_SHARED : MAP_PRIVATE;
        void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, how | MAP_ANONYMOUS, -1, 0);

        if (memory == MAP_FAILED)
            fail("mmap");
        fill(memory, length / sizeof(uint64_t));
    }
    pthread_barrier_init(&all_there, NULL, THREADS + 1);
    for (int n = 0; n < THREADS; n++)
        if (pthread_create(&thread, NULL, roles[n], NULL) != 0)
            fail("pthread_create");
    pthread_barrier_wait(&all_there);
    usleep(50000); /* lets the others reach pause() */
    if (puts("ready") < 0 || fflush(stdout) != 0)
        fail("stdout");
    while (!over)
        pause();
    return 0;
}
