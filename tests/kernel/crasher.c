/* Crashes under a name, in its first thread or in another; says its pid and the crashing thread's id before.
 *
 * crasher NAME-IN-HEX|- main|thread|orphan|wait
 *
 * orphan: in another thread, after the first has ended.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static char name[64];
static int named;

static void *crash(void *unused)
{
    (void)unused;
    if (named)
        prctl(PR_SET_NAME, name);
    printf("%d %ld\n", getpid(), syscall(SYS_gettid));
    fflush(stdout);
    *(volatile int *)8 = 1;
    return NULL;
}

static pthread_t first;

static void *crash_alone(void *unused)
{
    pthread_join(first, NULL);
    return crash(unused);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    first = pthread_self();
    if (strcmp(argv[1], "-")) {
        unsigned byte;
        for (size_t i = 0; i < sizeof name - 1 && sscanf(argv[1] + 2 * i, "%2x", &byte) == 1; i++)
            name[i] = (char)byte;
        named = 1;
    }
    if (!strcmp(argv[2], "wait")) {
        printf("%d\n", getpid());
        fflush(stdout);
        getchar();
    }
    if (!strcmp(argv[2], "orphan")) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, crash_alone, NULL))
            return 3;
        pthread_exit(NULL);
    }
    if (!strcmp(argv[2], "thread")) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, crash, NULL))
            return 3;
        pthread_join(thread, NULL);
    }
    crash(NULL);
    return 4;
}
