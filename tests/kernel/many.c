/*
 * More mappings than e_phnum can count.
 *
 *     many COUNT FOLDER FILTER...
 *
 * COUNT neighbours of alternating protection; every 64th that is writable is written to.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "twins.h"

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    long count = atol(argv[1]);
    size_t page = sysconf(_SC_PAGESIZE);
    char *map = mmap(NULL, count * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (map == MAP_FAILED || chdir(argv[2]) < 0 || !raise_core_limit())
        return 1;
    /* Split first, write later: the history of a mapping goes to both halves of a split. */
    for (long n = 1; n < count; n += 2)
        if (mprotect(map + n * page, page, PROT_READ) < 0)
            return 1;
    for (long n = 0; n < count; n += 64)
        memset(map + n * page, 'm', page);
    signal(SIGABRT, SIG_DFL);
    return dump_twins(argv + 3) == argc - 3 ? 0 : 1;
}
