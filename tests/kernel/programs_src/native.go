// Threads that C made, half of which have called back into Go, and goroutines that wait in C: a part of stacks.go.
package main

/*
#include <pthread.h>
#include <unistd.h>

extern int waitInGo(int);
static volatile int there;

__attribute__((noinline)) static int deepInC(int depth, int callsGo) {
    volatile int room[16];
    room[depth % 16] = depth;
    if (depth)
        return deepInC(depth - 1, callsGo) + room[depth % 16];
    __sync_fetch_and_add(&there, 1);
    if (callsGo)
        return waitInGo(depth);
    for (;;)
        pause();
}

static void *run(void *n) {
    deepInC(5 + (int)(long)n, (long)n % 2);
    return 0;
}

static void start(int count) {
    for (long n = 0; n < count; n++) {
        pthread_t thread;
        pthread_create(&thread, 0, run, (void *)n);
    }
}

static void waitInC(int depth) { deepInC(depth, 0); }
static int inC(void) { return there; }
*/
import "C"

import "time"

//export waitInGo
func waitInGo(n C.int) C.int {
	return C.int(deep(int(n)+12, "called", func() { time.Sleep(time.Hour) }))
}

func init() {
	C.start(6)
	for i := 0; i < 3; i++ {
		i := i
		go C.waitInC(C.int(10 + i))
	}
	for C.inC() < 9 {
		time.Sleep(time.Millisecond)
	}
}
