/*
 * One set of mappings, many dumps: forks a twin per filter, and every twin dies of its own filter.
 *
 * A twin writes its coredump_filter, goes to the folder named like the filter and kills itself. It calls
 * neither malloc nor stdio, so that two twins differ in little more than the page of the stack they run on.
 * The functions used here come from libc, or from whoever includes this file without a libc.
 */
#ifndef TWINS_H
#define TWINS_H

/* Mappings that fork does not hand down are made again here, in every twin. */
static void (*in_twin)(void);

static void die_under(const char *filter)
{
    int fd = open("/proc/self/coredump_filter", O_WRONLY);
    size_t len = strlen(filter);

    if (fd < 0 || write(fd, filter, len) != (ssize_t)len || close(fd) < 0)
        _exit(101);
    if (chdir(filter) < 0)
        _exit(102);
    if (in_twin)
        in_twin();
    kill(getpid(), SIGABRT);
    _exit(103);
}

/* Without the handlers of fork(): they write to memory. */
static pid_t bare_fork(void)
{
    return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

/* A core holds what the hard limit allows; returns 0 when there is no way to get one. */
static int raise_core_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_CORE, &limit) < 0 || limit.rlim_max == 0)
        return 0;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_CORE, &limit) == 0;
}

/* One after the other: twins that run at the same time could see each other in shared pages.
 * Returns how many dumped; a twin that did not is the last one tried. */
static __attribute__((unused)) int dump_twins(char **filters)
{
    int done = 0;

    for (; filters[done]; done++) {
        int status = 0;
        pid_t pid = bare_fork();
        if (pid == 0)
            die_under(filters[done]);
        if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status) || !WCOREDUMP(status))
            break;
    }
    return done;
}

#endif
