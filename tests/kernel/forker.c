/*
 * Twins of programs that know nothing of it: forks a process from outside, and lets its twins dump.
 *
 *     forker fork PID FOLDER
 *     forker hold FILTER COMMAND...
 *
 * "fork" makes the main thread of PID fork one child, the template, and lets PID go on. The template never takes
 * a step of its own; its working directory is FOLDER. It is named on standard output as "template PID". Every
 * line of standard input is a filter ("0x33"): a twin is forked from the template and dies under that filter in
 * FOLDER, which "core" answers. The end of the input ends the template.
 *
 * "hold" runs a command and stops the first of its children that is about to die by SIGABRT with FILTER as its
 * coredump_filter; that one is named in the same way, and dies at the end of the input.
 *
 * What fails is told in one line on standard error.
 *
 * System calls are injected where the vDSO has a syscall instruction, so that no byte of the text changes.
 * Children are made without an exit signal: the parent is not told that they die, and waits for them only
 * when it is made to.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECONDS_PER_COMMAND 120
#define RED_ZONE 128
#define EVENT(status) ((status) >> 16)
#define SYSCALL_STOP (SIGTRAP | 0x80)

static _Noreturn void die(const char *format, ...)
{
    int error = errno;
    va_list arguments;

    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, error ? ": %s\n" : "\n", strerror(error));
    exit(1);
}

static long trace(int request, pid_t pid, unsigned long address, unsigned long data)
{
    long result = ptrace(request, pid, address, data);

    if (result < 0)
        die("ptrace(%#x) of %d", request, pid);
    return result;
}

/* Wait until it stops or ends; returns the status. */
static int await(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, __WALL) < 0)
        if (errno != EINTR)
            die("waitpid %d", pid);
    return status;
}

static int await_stop(pid_t pid)
{
    int status = await(pid);

    errno = 0;
    if (!WIFSTOPPED(status))
        die("%d ended (status %#x)", pid, status);
    return status;
}

/* ---- a process that is stopped ----------------------------------------------------------------- */

struct range {
    unsigned long start, end;
};

struct stopped {
    pid_t pid;
    struct user_regs_struct registers;
    uint64_t blocked;
};

static void get_state(struct stopped *process)
{
    trace(PTRACE_GETREGS, process->pid, 0, (unsigned long)&process->registers);
    trace(PTRACE_GETSIGMASK, process->pid, sizeof process->blocked, (unsigned long)&process->blocked);
}

static void set_state(const struct stopped *process)
{
    trace(PTRACE_SETREGS, process->pid, 0, (unsigned long)&process->registers);
    trace(PTRACE_SETSIGMASK, process->pid, sizeof process->blocked, (unsigned long)&process->blocked);
}

/* Stop the main thread outside of any handler; a signal that comes first is delivered. */
static struct stopped seize(pid_t pid)
{
    struct stopped process = {.pid = pid};
    int status;

    trace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACECLONE | PTRACE_O_TRACESYSGOOD);
    trace(PTRACE_INTERRUPT, pid, 0, 0);
    while (status = await_stop(pid), EVENT(status) != PTRACE_EVENT_STOP)
        trace(PTRACE_CONT, pid, 0, WSTOPSIG(status));
    get_state(&process);
    return process;
}

static int open_memory(pid_t pid)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    int memory = open(path, O_RDWR | O_CLOEXEC);
    if (memory < 0)
        die("%s", path);
    return memory;
}

/* The address of a syscall instruction in the vDSO. */
static uintptr_t find_syscall(pid_t pid)
{
    char path[64], line[512];
    unsigned long start, end;
    uintptr_t found = 0;
    int memory = open_memory(pid);

    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    FILE *maps = fopen(path, "re");
    if (!maps)
        die("%s", path);
    while (!found && fgets(line, sizeof line, maps)) {
        static uint8_t code[1 << 16];
        if (!strstr(line, "[vdso]") || sscanf(line, "%lx-%lx", &start, &end) != 2)
            continue;
        ssize_t length = pread(memory, code, sizeof code, start);
        for (ssize_t at = 0; !found && at + 1 < length; at++)
            if (code[at] == 0x0f && code[at + 1] == 0x05)
                found = start + at;
    }
    fclose(maps);
    close(memory);
    errno = 0;
    if (!found)
        die("no syscall instruction in the vDSO of %d", pid);
    return found;
}

/* Have a stopped process make one system call, and stop it again as it was; returns the call's result. */
static long inject4(const struct stopped *process, unsigned long *child, long number, long a, long b, long c, long d)
{
    struct user_regs_struct registers = process->registers;
    struct stopped calling = *process;
    pid_t pid = process->pid;
    int status;

    registers.rip = find_syscall(pid);
    registers.rax = number;
    registers.orig_rax = -1;
    registers.rdi = a;
    registers.rsi = b;
    registers.rdx = c;
    registers.r10 = d;
    registers.r8 = registers.r9 = 0;
    calling.registers = registers;
    calling.blocked = ~(uint64_t)0;
    set_state(&calling);
    for (int stops = 0; stops < 2;) {
        trace(PTRACE_SYSCALL, pid, 0, 0);
        status = await_stop(pid);
        if (EVENT(status) == PTRACE_EVENT_CLONE)
            trace(PTRACE_GETEVENTMSG, pid, 0, (unsigned long)child);
        else if (WSTOPSIG(status) == SYSCALL_STOP)
            stops++;
    }
    trace(PTRACE_GETREGS, pid, 0, (unsigned long)&registers);
    /* Only here the kernel looks again whether an interrupted call has to be made again. */
    trace(PTRACE_INTERRUPT, pid, 0, 0);
    do
        trace(PTRACE_CONT, pid, 0, 0);
    while (status = await_stop(pid), EVENT(status) != PTRACE_EVENT_STOP);
    set_state(process);
    return registers.rax;
}

static long inject(const struct stopped *process, unsigned long *child, long number, long a, long b, long c)
{
    return inject4(process, child, number, a, b, c, 0);
}

/* A child that is stopped before its first step, in its parent's state. */
static struct stopped fork_off(const struct stopped *parent)
{
    unsigned long child = 0;
    long result = inject(parent, &child, SYS_clone, 0, 0, 0);

    if (result < 0 || !child) {
        errno = result < 0 ? -result : 0;
        die("no fork of %d", parent->pid);
    }
    await_stop(child);
    trace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACECLONE | PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
    struct stopped stopped = *parent;
    stopped.pid = child;
    set_state(&stopped);
    return stopped;
}

static void bury(const struct stopped *parent, pid_t child)
{
    inject(parent, NULL, SYS_wait4, child, 0, __WALL);
}

/* Memory of a process that stands still: below the red zone of its stack, where nothing is in use. */
static uintptr_t scratch(const struct stopped *process, size_t length)
{
    return (process->registers.rsp - RED_ZONE - length) & -16ul;
}

static uintptr_t put(const struct stopped *process, const void *bytes, size_t length)
{
    uintptr_t at = scratch(process, length);
    int memory = open_memory(process->pid);

    if (pwrite(memory, bytes, length, at) != (ssize_t)length)
        die("writing to the stack of %d", process->pid);
    close(memory);
    return at;
}

static void must(long result, const char *what)
{
    errno = result < 0 ? -result : 0;
    if (result < 0)
        die("%s", what);
}

static void change_folder(const struct stopped *process, const char *folder)
{
    uintptr_t at = put(process, folder, strlen(folder) + 1);

    must(inject(process, NULL, SYS_chdir, at, 0, 0), folder);
}

/* The process does it itself: to do it for another user takes a capability that root may lack. */
static void raise_core_limit(const struct stopped *process)
{
    struct rlimit limit = {0, 0};
    uintptr_t at = put(process, &limit, sizeof limit);
    int memory = open_memory(process->pid);

    must(inject(process, NULL, SYS_getrlimit, RLIMIT_CORE, at, 0), "getrlimit");
    if (pread(memory, &limit, sizeof limit, at) != sizeof limit)
        die("reading the stack of %d", process->pid);
    close(memory);
    limit.rlim_cur = limit.rlim_max;
    put(process, &limit, sizeof limit);
    must(inject(process, NULL, SYS_setrlimit, RLIMIT_CORE, at, 0), "setrlimit");
}

/* ---- twins ------------------------------------------------------------------------------------- */

/* SIGABRT dumps, whatever the program does with it: Emacs and Go handle every signal that does. */
static void stop_handling(struct stopped *process)
{
    static const uint64_t by_default[4];
    uintptr_t at = put(process, by_default, sizeof by_default);

    must(inject4(process, NULL, SYS_rt_sigaction, SIGABRT, at, 0, sizeof(uint64_t)), "rt_sigaction");
    process->blocked &= ~(UINT64_C(1) << (SIGABRT - 1));
}

static void set_filter(pid_t pid, const char *filter)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/coredump_filter", pid);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, filter, strlen(filter)) != (ssize_t)strlen(filter))
        die("%s", path);
    close(fd);
}

static void dump_twin(const struct stopped *template, const char *filter)
{
    struct stopped twin = fork_off(template);
    int status;

    set_filter(twin.pid, filter);
    if (kill(twin.pid, SIGABRT) < 0)
        die("twin %d", twin.pid);
    trace(PTRACE_CONT, twin.pid, 0, 0);
    while (status = await(twin.pid), WIFSTOPPED(status))
        trace(PTRACE_CONT, twin.pid, 0, WSTOPSIG(status));
    bury(template, twin.pid);
    errno = 0;
    if (!WIFSIGNALED(status) || !WCOREDUMP(status))
        die("the twin under %s left no core (status %#x)", filter, status);
}

static void name_template(pid_t pid)
{
    printf("template %d\n", pid);
    fflush(stdout);
}

/* The next line of the input, without a limit of time. */
static bool command(char *line, int size)
{
    alarm(0);
    bool got = fgets(line, size, stdin);
    alarm(SECONDS_PER_COMMAND);
    line[strcspn(line, "\n")] = 0;
    return got;
}

/* Mappings that fork would leave out: those of MADV_DONTFORK, as QEMU's guest memory is. What a driver marked so
 * (VM_IO, VM_PFNMAP) cannot be had, and is left out of every core. */
static size_t find_unforked(pid_t pid, struct range *ranges, size_t room)
{
    char path[64], line[4096];
    struct range here = {0, 0};
    size_t found = 0;

    snprintf(path, sizeof path, "/proc/%d/smaps", pid);
    FILE *smaps = fopen(path, "re");
    if (!smaps)
        die("%s", path);
    while (fgets(line, sizeof line, smaps)) {
        struct range next;
        if (sscanf(line, "%lx-%lx ", &next.start, &next.end) == 2)
            here = next;
        else if (strncmp(line, "VmFlags:", 8) == 0 && strstr(line, " dc") && !strstr(line, " io") && !strstr(line, " pf")) {
            errno = 0;
            if (found == room)
                die("more than %zu mappings of %d are not for fork", room, pid);
            ranges[found++] = here;
        }
    }
    fclose(smaps);
    return found;
}

static void advise(const struct stopped *process, const struct range *ranges, size_t count, int advice)
{
    for (size_t n = 0; n < count; n++)
        must(inject(process, NULL, SYS_madvise, ranges[n].start, ranges[n].end - ranges[n].start, advice), "madvise");
}

static int fork_mode(pid_t pid, const char *folder)
{
    static struct range unforked[1024];
    struct stopped original = seize(pid);
    size_t count = find_unforked(pid, unforked, sizeof unforked / sizeof *unforked);
    char filter[64] = "";

    advise(&original, unforked, count, MADV_DOFORK);
    struct stopped template = fork_off(&original);
    advise(&original, unforked, count, MADV_DONTFORK);
    trace(PTRACE_DETACH, pid, 0, 0);
    /* What changed its user is not dumped otherwise (fs.suid_dumpable). */
    must(inject(&template, NULL, SYS_prctl, PR_SET_DUMPABLE, 1, 0), "prctl(PR_SET_DUMPABLE)");
    stop_handling(&template);
    change_folder(&template, folder);
    raise_core_limit(&template);
    name_template(template.pid);
    while (command(filter, sizeof filter)) {
        dump_twin(&template, filter);
        printf("core\n");
        fflush(stdout);
    }
    kill(template.pid, SIGKILL);
    await(template.pid);
    original = seize(pid);
    bury(&original, template.pid);
    trace(PTRACE_DETACH, pid, 0, 0);
    return 0;
}

/* ---- hold -------------------------------------------------------------------------------------- */

static unsigned long filter_of(pid_t pid)
{
    char path[64];
    unsigned long filter = ~0ul;

    snprintf(path, sizeof path, "/proc/%d/coredump_filter", pid);
    FILE *file = fopen(path, "re");
    if (!file || fscanf(file, "%lx", &filter) != 1)
        die("%s", path);
    fclose(file);
    return filter;
}

static pid_t start_traced(char **arguments)
{
    int go[2];
    pid_t pid;

    if (pipe2(go, O_CLOEXEC) < 0 || (pid = fork()) < 0)
        die("fork");
    if (pid == 0) {
        char byte;
        close(go[1]);
        if (read(go[0], &byte, 1) == 1)
            execvp(arguments[0], arguments);
        _exit(127);
    }
    trace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACEFORK | PTRACE_O_EXITKILL);
    if (write(go[1], "", 1) != 1)
        die("pipe");
    close(go[0]);
    close(go[1]);
    return pid;
}

static int hold_mode(unsigned long wanted, char **arguments)
{
    pid_t first = start_traced(arguments), pid;
    bool held = false;
    int status;

    while (alarm(SECONDS_PER_COMMAND), (pid = waitpid(-1, &status, __WALL)) > 0) {
        if (!WIFSTOPPED(status)) {
            if (pid == first)
                return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
            continue;
        }
        if (!held && WSTOPSIG(status) == SIGABRT && filter_of(pid) == wanted) {
            char line[64] = "";
            held = true;
            name_template(pid);
            while (command(line, sizeof line))
                ;
        }
        trace(PTRACE_CONT, pid, 0, EVENT(status) ? 0 : WSTOPSIG(status));
    }
    die("waitpid");
}

int main(int argc, char **argv)
{
    alarm(SECONDS_PER_COMMAND);
    if (argc == 4 && strcmp(argv[1], "fork") == 0)
        return fork_mode(atoi(argv[2]), argv[3]);
    if (argc > 3 && strcmp(argv[1], "hold") == 0)
        return hold_mode(strtoul(argv[2], NULL, 16), argv + 3);
    fprintf(stderr, "usage: forker fork PID FOLDER | forker hold FILTER COMMAND...\n");
    return 2;
}
