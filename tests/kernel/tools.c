/*
 * A process of which debuggers are asked what they can show: tools THREADS. It dies of a null pointer.
 *
 * Each thread waits at a depth of its own. There are a list on the heap, a table that was written to, one that never is,
 * and text in shared memory.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct node {
    struct node *next;
    char text[48];
};

extern const char fixed[64];
const char fixed[64] = "a constant of the program";
char changed[64] = "what the file has";
static pthread_barrier_t all_there;
static volatile int going = 1;

static __attribute__((noinline)) int wait_forever(int depth)
{
    char room[128];

    memset(room, depth, sizeof room);
    if (depth > 0)
        return wait_forever(depth - 1) + room[5];
    pthread_barrier_wait(&all_there);
    while (going)
        pause();
    return 0;
}

static void *waiter(void *number)
{
    return (void *)(long)(wait_forever(1 + (int)(long)number % 7) + 1);
}

static __attribute__((noinline)) int crash_at(int depth, struct node *volatile list, void *volatile shared, int *where)
{
    if (depth > 0)
        return crash_at(depth - 1, list, shared, where) + 1;
    *where = list != NULL;
    return *(char *)shared;
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 3;
    struct node *list = NULL;
    pthread_t thread;
    char *shared = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    /* No register points to this page. */
    snprintf(shared + (1 << 16), 64, "text in shared memory");
    snprintf(changed, sizeof changed, "what the process wrote");
    for (int n = 0; n < 20; n++) {
        struct node *node = malloc(sizeof *node);
        node->next = list;
        snprintf(node->text, sizeof node->text, "node %d of the list", n);
        list = node;
        /* Nodes lie on pages of their own, in a heap of some MiB. */
        memset(malloc(100000), n + 1, 100000);
    }
    pthread_barrier_init(&all_there, NULL, (unsigned)threads + 1);
    for (long n = 0; n < threads; n++)
        if (pthread_create(&thread, NULL, waiter, (void *)n) != 0)
            return 1;
    pthread_barrier_wait(&all_there);
    usleep(100000); /* lets the others reach pause() */
    return crash_at(3, list, shared, NULL);
}
