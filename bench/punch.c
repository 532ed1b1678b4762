/*
 * Punches the ranges that it reads, one "offset length" a line, into a file: fallocate --punch-hole without a
 * process for each. With a third word it waits for the disk.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	long long offset, length;
	int fd = argc > 1 ? open(argv[1], O_RDWR | O_CLOEXEC) : -1;

	if (fd < 0) {
		perror("punch: open");
		return 1;
	}
	while (scanf("%lld %lld", &offset, &length) == 2)
		if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length)) {
			perror("punch: fallocate");
			return 1;
		}
	if (argc > 2 && fdatasync(fd)) {
		perror("punch: fdatasync");
		return 1;
	}
	return 0;
}
