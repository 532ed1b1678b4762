/*
 * Programs that break what programs are known to do, each once.
 *
 *     broken MODE FILTER [FILE]
 *
 * does what MODE says, writes its smaps into the working directory, and dies. Without address space randomisation all
 * runs of one mode have the same mappings. Modes: nothing (data is written, as in every program), rwx (text is made
 * writable, patched and left so), split (patched, then as before), memfd and hugememfd (a private mapping of a memfd,
 * written), noexec (a memfd without executable mode, mapped through a descriptor that cannot write), map (FILE is
 * mapped for reading), library (FILE is loaded).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

enum { PAGE = 4096, LENGTH = 1 << 16, HUGE_LENGTH = 2 << 20 };

int data = 1;

__attribute__((aligned(4096), noinline)) int patched(int x)
{
    return x + 1;
}

__attribute__((aligned(4096), noinline)) int behind(int x)
{
    return x + 2;
}

static void fail(const char *what)
{
    perror(what);
    exit(3);
}

static void *map(size_t length, int prot, int flags, int fd)
{
    void *at = mmap(NULL, length, prot, flags, fd, 0);

    if (at == MAP_FAILED)
        fail("mmap");
    return at;
}

static void patch(int afterwards)
{
    char *at = (char *)((uintptr_t)patched & ~(uintptr_t)(PAGE - 1));

    if (mprotect(at, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC))
        fail("mprotect");
    memcpy(at + 64, "patched by hand", 16);
    if (mprotect(at, PAGE, afterwards))
        fail("mprotect");
}

static void written_memfd(unsigned flags, size_t length)
{
    int fd = memfd_create("guest-memory", flags);

    if (fd < 0 || ftruncate(fd, length))
        fail("memfd_create");
    memset(map(length, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd), 7, length);
}

static void unexecutable_memfd(void)
{
    int fd = memfd_create("region", MFD_NOEXEC_SEAL);
    char name[64];

    if (fd < 0 || ftruncate(fd, LENGTH))
        fail("memfd_create");
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    fd = open(name, O_RDONLY);
    if (fd < 0)
        fail(name);
    map(LENGTH, PROT_READ, MAP_SHARED, fd);
}

static void map_file(const char *name)
{
    struct stat status;
    int fd = open(name, O_RDONLY);

    if (fd < 0 || fstat(fd, &status))
        fail(name);
    map(status.st_size, PROT_READ, MAP_PRIVATE, fd);
}

static void copy_smaps(void)
{
    char buffer[1 << 16];
    int from = open("/proc/self/smaps", O_RDONLY), to = open("smaps", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ssize_t got;

    if (from < 0 || to < 0)
        fail("smaps");
    while ((got = read(from, buffer, sizeof buffer)) > 0)
        if (write(to, buffer, got) != got)
            fail("smaps");
}

int main(int argc, char **argv)
{
    struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
    const char *mode = argv[1];
    int fd = open("/proc/self/coredump_filter", O_WRONLY);

    if (argc < 3 || fd < 0 || write(fd, argv[2], strlen(argv[2])) < 0 || setrlimit(RLIMIT_CORE, &unlimited))
        fail("coredump_filter");
    data = 2;
    if (!strcmp(mode, "rwx"))
        patch(PROT_READ | PROT_WRITE | PROT_EXEC);
    else if (!strcmp(mode, "split"))
        patch(PROT_READ | PROT_EXEC);
    else if (!strcmp(mode, "memfd"))
        written_memfd(0, LENGTH);
    else if (!strcmp(mode, "hugememfd"))
        written_memfd(MFD_HUGETLB, HUGE_LENGTH);
    else if (!strcmp(mode, "noexec"))
        unexecutable_memfd();
    else if (!strcmp(mode, "map"))
        map_file(argv[3]);
    else if (!strcmp(mode, "library") && !dlopen(argv[3], RTLD_NOW))
        fail(dlerror());
    if (patched(1) + behind(2) == data)
        return 3;
    copy_smaps();
    abort();
}
