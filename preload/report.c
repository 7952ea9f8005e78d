/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * If libaio2 had nothing to do for the program that aio2-run has started, this prints one line to standard error when the program ends.
 * Only the program itself prints it, and only if it has made no other process, which may have AIO of its own. It prints it only if a user
 * of aio2-run might not expect this: the program is linked with libaio or liburing, or uses io_uring, or reaches the kernel's AIO without a
 * function that libaio2 can see. If statistics were asked for, it prints it in every case, because there are none, and says where those of
 * other processes are.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "report.h"

/* Exported, so that there is only one even if this object is loaded under both of its names. */
struct aio2_run aio2_run;

/* Called before the fork, so the child gets the flag, too, but does not look at it. */
static void forks(void)
{
    aio2_run.has_forked = 1;
}

__attribute__((constructor)) static void begin(void)
{
    const char *pid = secure_getenv("AIO2_RUN_PID");
    const char *stats = secure_getenv("AIO2_STATS_PID");
    struct stat file;

    if (pid == NULL || aio2_run.pid != 0 || atol(pid) != getpid() || fstat(STDERR_FILENO, &file) != 0)
        return;
    aio2_run.pid = getpid();
    aio2_run.has_stats = stats != NULL && atol(stats) == getpid();
    aio2_run.device = file.st_dev;
    aio2_run.inode = file.st_ino;
    pthread_atfork(forks, NULL, NULL);
}

/* Bits for the findings in the process's memory map. */
enum { LIBAIO = 1, LIBURING = 2, URING = 4, KERNEL_AIO = 8 };

/* They are looked for while the map is read, so that no line needs to be kept. */
static struct {
    const char *text;
    int found;
} const names[] = { { "/libaio.so", LIBAIO }, { "/liburing.so", LIBURING }, { "anon_inode:[io_uring]", URING }, { "/[aio]", KERNEL_AIO } };

enum { NAMES = sizeof(names) / sizeof(*names) };

static int look_at_maps(void)
{
    size_t matched[NAMES] = { 0 };
    char text[4096];
    int found = 0;
    long fd = syscall(SYS_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC);
    ssize_t got;

    if (fd < 0)
        return 0;
    while ((got = read((int)fd, text, sizeof(text))) > 0)
        for (ssize_t at = 0; at < got; at++)
            for (int i = 0; i < NAMES; i++) {
                /* The first character of each name comes only once in it, except for '/' and 'a', so starting again here misses nothing. */
                if (text[at] != names[i].text[matched[i]])
                    matched[i] = 0;
                if (text[at] == names[i].text[matched[i]] && names[i].text[++matched[i]] == '\0') {
                    found |= names[i].found;
                    matched[i] = 0;
                }
            }
    syscall(SYS_close, fd);
    return found;
}

/* Adds as much of the text as there is room for. Others may have chosen the name, so only printable characters. */
static char *add(char *to, const char *end, const char *text)
{
    for (; *text != '\0' && to < end; text++)
        *to++ = *text >= ' ' && *text <= '~' ? *text : '?';
    return to;
}

/* Writes without SIGPIPE: standard error may be a pipe that has no reader any more. */
static void write_quietly(const char *text, size_t bytes)
{
    sigset_t pipe, before, pending;

    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    sigpending(&pending);
    if (pthread_sigmask(SIG_BLOCK, &pipe, &before) != 0)
        return;
    if (write(STDERR_FILENO, text, bytes) < 0 && errno == EPIPE && !sigismember(&pending, SIGPIPE))
        sigtimedwait(&pipe, NULL, &(struct timespec){ 0, 0 });
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

__attribute__((destructor)) void aio2_report(void)
{
    char text[512], *to = text, *end = text + sizeof(text) - 1;
    int before = errno, found;
    const char *stats;
    struct stat file;

    if (aio2_run.pid == 0 || aio2_run.pid != getpid() || __atomic_exchange_n(&aio2_run.has_ended, 1, __ATOMIC_RELAXED))
        return;
    /* libaio2 sets it when it makes the first context. */
    if (aio2_at_process_end != NULL || (aio2_run.has_forked && !aio2_run.has_stats))
        return;
    /* The program may have closed standard error and may have a file of its own there. */
    if (fstat(STDERR_FILENO, &file) != 0 || file.st_dev != aio2_run.device || file.st_ino != aio2_run.inode)
        return;
    found = look_at_maps();
    stats = aio2_run.has_forked ? secure_getenv("AIO2_STATS") : NULL;
    if (found != 0 || aio2_run.has_stats) {
        to = add(to, end, "aio2-run: ");
        to = add(to, end - 200, program_invocation_short_name);
        to = add(to, end, " made no AIO context that libaio2 could see");
        if (stats != NULL) {
            to = add(to, end, "; processes that it made add theirs to ");
            to = add(to, end, stats);
        } else if (found & KERNEL_AIO)
            to = add(to, end, "; it reaches the kernel's AIO by instructions of its own");
        else if (found & URING)
            to = add(to, end, "; it uses io_uring");
        else if (found & LIBURING)
            to = add(to, end, "; it is linked with liburing, and may prefer io_uring");
        *to++ = '\n';
        write_quietly(text, (size_t)(to - text));
    }
    errno = before;
}
