/* Crashes in one of four functions, with 2 MiB of memory beside: looping WHICH. */
#include <stdlib.h>
#include <string.h>

#define KEPT __attribute__((noinline, noclone))
#define SIZE (2 << 20)

static volatile int sink;

KEPT static void zero(void) { *(volatile int *)8 = 0; sink += 1; }
KEPT static void one(void) { sink -= 1; *(volatile int *)8 = 1; sink += 2; }
KEPT static void two(void) { sink += 3; *(volatile int *)8 = 2; sink -= 4; }
KEPT static void three(void) { sink -= 5; *(volatile int *)8 = 3; sink -= 6; }
KEPT static void caller(int which)
{
	void (*const all[])(void) = {zero, one, two, three};

	all[which & 3]();
	sink += which;
}

int main(int argc, char **argv)
{
	char *heap = malloc(SIZE);

	if (!heap)
		return 2;
	memset(heap, 'h', SIZE);
	sink = heap[sink];
	caller(argc > 1 ? atoi(argv[1]) : 0);
	return 3;
}
