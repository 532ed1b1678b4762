/* Reads what its user may not, gives every right up, asks to be dumped, and crashes; with an argument it keeps a
   capability in its other thread. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static char secret[4096];

static void give_up(void)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct none[2] = {{0}};

	syscall(SYS_capset, &header, none);
}

static void *keep(void *ready)
{
	pthread_barrier_wait(ready);
	pause();
	return NULL;
}

int main(int argc, char **argv)
{
	int fd = open("/etc/shadow", O_RDONLY);
	uid_t uid = getuid() ? getuid() : 1000;
	gid_t gid = getgid() ? getgid() : 1000;
	pthread_barrier_t ready;
	pthread_t other;

	(void)argv;
	if (fd >= 0 && read(fd, secret, sizeof secret) > 0)
		puts("read");
	fflush(stdout);
	if (argc > 1) {
		pthread_barrier_init(&ready, NULL, 2);
		if (pthread_create(&other, NULL, keep, &ready))
			return 1;
		pthread_barrier_wait(&ready);
	} else if (setresgid(gid, gid, gid) || setresuid(uid, uid, uid)) {
		return 2;
	}
	give_up();
	if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
		return 3;
	raise(SIGSEGV);
	return 4;
}
