/*
 * A process with several threads, each deep in functions of its own name, that dies under one filter.
 *
 *     threads FOLDER FILTER
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "twins.h"

static pthread_barrier_t all_there;
static volatile int *shared;

static __attribute__((noinline)) int wait_forever(int depth)
{
    if (depth > 0)
        return wait_forever(depth - 1) + *shared;
    pthread_barrier_wait(&all_there);
    while (*shared)
        pause();
    return 0;
}

static __attribute__((noinline)) void *shallow(void *unused)
{
    (void)unused;
    return (void *)(long)(wait_forever(1) + 1);
}

static __attribute__((noinline)) void *deep(void *unused)
{
    (void)unused;
    return (void *)(long)(wait_forever(9) + 1);
}

int main(int argc, char **argv)
{
    void *(*const roles[])(void *) = {shallow, deep, shallow, deep};
    pthread_t thread;

    if (argc != 3 || chdir(argv[1]) < 0 || !raise_core_limit())
        return 1;
    shared = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    *shared = 1;
    pthread_barrier_init(&all_there, NULL, 5);
    for (int n = 0; n < 4; n++)
        if (pthread_create(&thread, NULL, roles[n], NULL) != 0)
            return 1;
    pthread_barrier_wait(&all_there);
    usleep(50000); /* lets the others reach pause() */
    signal(SIGABRT, SIG_DFL);
    die_under(argv[2]);
}
