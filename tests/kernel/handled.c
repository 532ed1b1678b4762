/* Crashes in the handler of a signal that came while one of two functions ran: handled WHICH. */
#include <signal.h>
#include <stdlib.h>

#define KEPT __attribute__((noinline, noclone))

static volatile int sink;

KEPT static void handle(int number) { *(volatile int *)8 = number; }
KEPT static void one(int n) { raise(SIGUSR1); sink += n; }
KEPT static void other(int n) { sink += n; raise(SIGUSR1); sink -= n; }
KEPT static void caller(int which) { (which ? other : one)(which); sink++; }

int main(int argc, char **argv) {
    struct sigaction action = {.sa_handler = handle};
    sigaction(SIGUSR1, &action, NULL);
    caller(argc > 1 && atoi(argv[1]));
    return 0;
}
