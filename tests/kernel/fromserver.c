/* Maps a file that a server gives, touches no page of it, says so, and crashes when it is told to. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char byte;
	int fd = argc > 1 ? open(argv[1], O_RDONLY) : -1;
	char *pages = mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE, fd, 0);

	if (pages == MAP_FAILED)
		return 2;
	/* Closing it asks the server, also at the end of the process. */
	if (argc > 2 && strcmp(argv[2], "close") == 0 && close(fd))
		return 3;
	puts("ready");
	fflush(stdout);
	if (read(0, &byte, 1) != 1)
		return 4;
	raise(SIGSEGV);
	return 5;
}
