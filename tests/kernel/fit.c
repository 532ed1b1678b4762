/*
 * A process that crashes in one of several ways, with memory around that no backtrace needs.
 *
 *     fit HOW THREADS MIB
 *
 * HOW is threads (a null pointer is written to), handler (the same, and the signal handler on an alternate stack
 * aborts), handler-within (the same on an alternate stack above, in the stack itself), handler-fiber (the same, and
 * what is interrupted is on a stack from malloc), overflow (the main thread's stack runs over; a handler on an
 * alternate stack aborts), overflow-thread (the same in another thread), bare (a stack runs over without any handler)
 * or fiber (a null pointer is written to on a stack from malloc). Each of THREADS threads waits at a depth of its own,
 * and MIB MiB of heap are written to.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <ucontext.h>
#include <unistd.h>

/* Of the threads whose stack runs over: some hundred frames, which readers take their time for. */
#define STACK (1 << 20)
/* Of alternate stacks. */
#define ANOTHER (64 << 10)

struct node {
    struct node *next;
    char text[64];
};

static pthread_barrier_t all_there;
static volatile int going = 1;
static struct node *volatile list;
__thread int of_this_thread;
int some_data[] = {3, 1, 4, 1, 5};

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
    of_this_thread = (int)(long)number;
    return (void *)(long)(wait_forever(1 + of_this_thread % 7) + 1);
}

static __attribute__((noinline)) int crash_at(int depth, int *where)
{
    struct node *volatile head = list;

    if (depth > 0)
        return crash_at(depth - 1, where) + 1;
    *where = head != NULL;
    return 0;
}

static __attribute__((noinline)) int run_over(int depth)
{
    volatile char room[2000];

    room[0] = (char)depth;
    room[1999] = (char)depth;
    return run_over(depth + 1) + room[0] + room[1999];
}

static void on_signal(int number)
{
    signal(number, SIG_DFL);
    abort();
}

static void catch_on_another_stack(void *where)
{
    stack_t stack = {.ss_sp = where, .ss_size = ANOTHER};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};

    sigaltstack(&stack, NULL);
    sigaction(SIGSEGV, &action, NULL);
}

static void *over_in_a_thread(void *unused)
{
    (void)unused;
    catch_on_another_stack(malloc(ANOTHER));
    return (void *)(long)run_over(0);
}

static __attribute__((noinline)) int crash_below(void)
{
    char stack[ANOTHER];

    catch_on_another_stack(stack);
    return crash_at(3, NULL) + stack[5];
}

static void on_a_fiber(void)
{
    crash_at(5, NULL);
}

int main(int argc, char **argv)
{
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY}, stack = {STACK, RLIM_INFINITY};
    static ucontext_t fiber, back;
    const char *how;
    pthread_attr_t small;
    pthread_t thread;
    int threads;
    size_t size;

    if (argc != 4)
        return 2;
    how = argv[1];
    threads = atoi(argv[2]);
    size = (size_t)atoi(argv[3]) << 20;
    if (setrlimit(RLIMIT_CORE, &limit) < 0 || setrlimit(RLIMIT_STACK, &stack) < 0)
        return 1;
    for (int n = 0; n < 100; n++) {
        struct node *node = malloc(sizeof *node);
        node->next = list;
        snprintf(node->text, sizeof node->text, "node %d of the list", n);
        list = node;
        free(malloc(5000));
    }
    /* Below the threshold of mmap, so that the heap grows. */
    for (size_t done = 0; done < size; done += 65536)
        memset(malloc(65536), (int)(done >> 16) | 1, 65536);
    pthread_barrier_init(&all_there, NULL, (unsigned)threads + 1);
    for (long n = 0; n < threads; n++)
        if (pthread_create(&thread, NULL, waiter, (void *)n) != 0)
            return 1;
    pthread_barrier_wait(&all_there);
    usleep(100000); /* lets the others reach pause() */
    if (strcmp(how, "handler") == 0)
        catch_on_another_stack(mmap(NULL, ANOTHER, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (strcmp(how, "handler-within") == 0)
        return crash_below();
    if (strcmp(how, "overflow") == 0 || strcmp(how, "handler-fiber") == 0)
        catch_on_another_stack(malloc(ANOTHER));
    if (strcmp(how, "overflow") == 0 || strcmp(how, "bare") == 0)
        return run_over(0);
    if (strcmp(how, "overflow-thread") == 0) {
        pthread_attr_init(&small);
        pthread_attr_setstacksize(&small, STACK);
        pthread_create(&thread, &small, over_in_a_thread, NULL);
        pthread_join(thread, NULL);
    }
    if (strcmp(how, "fiber") == 0 || strcmp(how, "handler-fiber") == 0) {
        getcontext(&fiber);
        fiber.uc_stack.ss_size = 64 << 10;
        fiber.uc_stack.ss_sp = malloc(fiber.uc_stack.ss_size);
        fiber.uc_link = &back;
        makecontext(&fiber, on_a_fiber, 0);
        swapcontext(&back, &fiber);
    }
    return crash_at(3, NULL);
}
