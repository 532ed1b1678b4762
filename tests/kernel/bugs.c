/* Eleven ways to crash, each of which a second caller can reach: bugs BUG CALLER. */
#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define KEPT __attribute__((noinline, noclone))

volatile int sink;
static volatile int done;

KEPT void null_write(int n) { *(volatile int *)(long)(8 + 4 * (n & 1)) = n; sink++; }
KEPT void use_after_free(int n) {
    volatile long *block = malloc(1 << 20);
    free((void *)block);
    block[n & 7] = 5;
    sink++;
}
KEPT void failed_assert(int n) { assert(n > 1000); sink++; }
KEPT void double_free(int n) {
    char *volatile block = malloc(2000 + n);
    char *volatile other = malloc(10);
    free(block);
    free(block);
    free(other);
    sink++;
}
void uncaught(int n);
void pure_virtual(int n);
KEPT void truncated_map(int n) {
    char name[] = "/tmp/bugs-XXXXXX";
    int fd = mkstemp(name);
    unlink(name);
    if (ftruncate(fd, 8192)) abort();
    volatile char *at = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fd, 0);
    if (ftruncate(fd, 0)) abort();
    sink += at[4096 + (n & 7)];
}
KEPT int deeper(int n) {
    volatile char room[200];
    room[n % 200] = (char)n;
    return n < 0 ? 0 : deeper(n + 1) + room[n % 100];
}
KEPT void overflow(int n) { sink += deeper(n); }
static pthread_t first;
KEPT void gave_up(void) { abort(); }
static void *watch(void *unused) {
    (void)unused;
    usleep(1000 + (unsigned)getpid() % 3000);
    gave_up();
    return NULL;
}
KEPT void watchdog(int n) {
    pthread_t other;
    first = pthread_self();
    pthread_create(&other, NULL, watch, NULL);
    for (;;) { sink += n; if (sink & 1) usleep(10); }
}
KEPT static int compare(const void *a, const void *b) {
    if (*(const int *)a == 7 || *(const int *)b == 7) *(volatile int *)16 = 1;
    return *(const int *)a - *(const int *)b;
}
KEPT void callback(int n) {
    int numbers[] = {3, 9, 7, 1, n};
    qsort(numbers, 5, sizeof *numbers, compare);
    sink += numbers[0];
}
KEPT static void *work(void *argument) { *(volatile int *)24 = *(int *)argument; return NULL; }
KEPT void in_thread(int n) {
    pthread_t other;
    pthread_create(&other, NULL, work, &n);
    pthread_join(other, NULL);
}

typedef void bug(int);
static bug *const bugs[] = {null_write, use_after_free, failed_assert, double_free, uncaught, pure_virtual,
                            truncated_map, overflow, watchdog, callback, in_thread};

KEPT void one_caller(int n, int salt) { bugs[n](salt); sink++; }
KEPT void other_caller(int n, int salt) { bugs[n](salt + 1); sink += 2; }

static void *idle(void *unused) { (void)unused; for (;;) pause(); }

int main(int argc, char **argv) {
    int n = atoi(argv[1]);
    for (int i = 0; i < getpid() % 4; i++) {
        pthread_t other;
        pthread_create(&other, NULL, idle, NULL);
    }
    if (argc > 2) other_caller(n, getpid() % 50); else one_caller(n, getpid() % 50);
    return 0;
}
