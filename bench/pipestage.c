/*
 * A minimal stage of a pipeline: what any program between two file descriptors costs at least.
 *
 *   pipestage readwrite [OFFSET:LENGTH ...]   read() and write() through one buffer of 1 MiB
 *   pipestage splice    [OFFSET:LENGTH ...]   splice(), no byte enters user space (one side must be a pipe)
 *   pipestage drain                           read() to the end, then print the number of bytes read
 *
 * Standard input goes to standard output. With ranges (ascending, of the input) only those are kept: what lies
 * between them is read and thrown away from a pipe (readwrite: into the buffer, splice: to /dev/null), and
 * stepped over by lseek() in a file.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK = 1 << 20 };

static char *buffer;
static int use_splice;
static int seekable;
static int dev_null = -1;

static void die(const char *what)
{
    fprintf(stderr, "pipestage: %s: %s\n", what, strerror(errno));
    exit(1);
}

static size_t at_most(uint64_t length)
{
    return length < CHUNK ? (size_t)length : CHUNK;
}

/* Reads up to `length` bytes into the buffer; 0 at the end of the input. */
static size_t fill(size_t length)
{
    ssize_t got;

    do
        got = read(STDIN_FILENO, buffer, length);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        die("read");
    return (size_t)got;
}

static void empty(size_t length)
{
    for (size_t done = 0; done < length;) {
        ssize_t put = write(STDOUT_FILENO, buffer + done, length - done);

        if (put < 0 && errno != EINTR)
            die("write");
        if (put > 0)
            done += (size_t)put;
    }
}

static size_t splice_to(int out, size_t length)
{
    ssize_t moved;

    do
        moved = splice(STDIN_FILENO, NULL, out, NULL, length, SPLICE_F_MOVE);
    while (moved < 0 && errno == EINTR);
    if (moved < 0)
        die("splice");
    return (size_t)moved;
}

/* Keeps the next `length` bytes of the input, or fewer where it ends. */
static void keep(uint64_t length)
{
    while (length > 0) {
        size_t moved;

        if (use_splice) {
            moved = splice_to(STDOUT_FILENO, at_most(length));
        } else {
            moved = fill(at_most(length));
            empty(moved);
        }
        if (moved == 0)
            return;
        length -= moved;
    }
}

/* Passes over the next `length` bytes of the input, or fewer where it ends. */
static void skip(uint64_t length)
{
    if (seekable) {
        if (lseek(STDIN_FILENO, (off_t)length, SEEK_CUR) < 0)
            die("lseek");
        return;
    }
    while (length > 0) {
        size_t moved = use_splice ? splice_to(dev_null, at_most(length)) : fill(at_most(length));

        if (moved == 0)
            return;
        length -= moved;
    }
}

static void drain(void)
{
    uint64_t total = 0;
    size_t got;

    while ((got = fill(CHUNK)) > 0)
        total += got;
    printf("%" PRIu64 "\n", total);
}

static void usage(void)
{
    fputs("usage: pipestage readwrite|splice [OFFSET:LENGTH ...] | pipestage drain\n", stderr);
    exit(2);
}

int main(int argc, char **argv)
{
    uint64_t place = 0;

    if (argc < 2)
        usage();
    buffer = aligned_alloc(4096, CHUNK);
    dev_null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (buffer == NULL || dev_null < 0)
        die("start");
    if (strcmp(argv[1], "drain") == 0) {
        drain();
        return 0;
    }
    use_splice = strcmp(argv[1], "splice") == 0;
    if (!use_splice && strcmp(argv[1], "readwrite") != 0)
        usage();
    seekable = lseek(STDIN_FILENO, 0, SEEK_CUR) >= 0;
    if (argc == 2)
        keep(UINT64_MAX);
    for (int i = 2; i < argc; i++) {
        uint64_t offset, length;

        if (sscanf(argv[i], "%" SCNu64 ":%" SCNu64, &offset, &length) != 2 || offset < place)
            usage();
        skip(offset - place);
        keep(length);
        place = offset + length;
    }
    if (argc > 2 && !seekable)
        skip(UINT64_MAX);
    return 0;
}
