/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * lastwrites DIRECTORY: a process submits writes to pipes, sockets and files and ends at once: by exit, as a daemon's parent
 * does, which forks and leaves by _exit, or (only where aio2-run sees it) by _exit and exec. Each reader gets every byte, in
 * order. A fork does not wait for a write that waits for the child to read, and the end does not wait for a read that may wait
 * for ever.
 */
#undef NDEBUG
#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "must.h"
#include "submit.h"

enum { MOST = 16, LIMIT = 30 };

static const char *dir;
static char *blocks[MOST];
static size_t sizes[MOST];

enum way { EXIT, QUICK_EXIT, FORK, DAEMON, UNDERSCORE_EXIT, EXIT_GROUP, EXEC, EXECVEAT, EXECVEAT_CALL, ASSERT, WAYS };
static const char *const way_names[] = { "exit", "quick_exit", "fork and _exit", "daemon", "_exit", "exit_group", "exec", "execveat",
                                         "execveat by syscall", "assert" };

static void leave(enum way way)
{
    char *program[] = { "true", NULL };

    switch (way) {
    case EXIT: exit(0);
    case QUICK_EXIT: quick_exit(0);
    case FORK: {
        pid_t child = fork();

        MUST(child >= 0);
        _exit(0);
    }
    case DAEMON:
        MUST(daemon(1, 1) == 0);
        _exit(0);
    case UNDERSCORE_EXIT: _exit(0);
    case EXIT_GROUP: syscall(SYS_exit_group, 0); break;
    case EXEC: execl("/bin/true", "true", NULL); break;
    case EXECVEAT: execveat(AT_FDCWD, "/bin/true", program, environ, 0); break;
    case EXECVEAT_CALL: syscall(SYS_execveat, AT_FDCWD, "/bin/true", program, environ, 0); break;
    default:
        fclose(stderr);
        assert(way != ASSERT);
    }
    _exit(1);
}

/* In a process of its own: writes that many blocks to both, and leaves. */
static pid_t writer(int fd, int other, int count, int closes, bool positions, enum way way)
{
    pid_t child = fork();

    MUST(child >= 0);
    if (child == 0) {
        static struct iocb cbs[2 * MOST], *list[2 * MOST];
        io_context_t ctx = NULL;
        long long at = 0;
        int n = 0;

        if (closes >= 0)
            close(closes);
        MUST(io_setup(2 * MOST, &ctx) == 0);
        for (int i = 0; i < count; i++) {
            io_prep_pwrite(list[n] = &cbs[n], fd, blocks[i], sizes[i], positions ? at : 0), n++;
            if (other >= 0)
                io_prep_pwrite(list[n] = &cbs[n], other, blocks[i], sizes[i], positions ? at : 0), n++;
            at += (long long)sizes[i];
        }
        submit_all(ctx, n, list);
        leave(way);
    }
    return child;
}

static char seen[1 << 16];

/* Whether the blocks are all there. */
static void check_blocks(int fd, int count, const char *what, enum way way, int round)
{

    for (int i = 0; i < count; i++)
        for (size_t at = 0; at < sizes[i];) {
            size_t most = sizes[i] - at < sizeof(seen) ? sizes[i] - at : sizeof(seen);
            ssize_t got = read(fd, seen, most);

            if (got <= 0 || memcmp(seen, blocks[i] + at, (size_t)got) != 0) {
                fprintf(stderr, "%s, %s, round %d: block %d of %d is %s\n", what, way_names[way], round, i, count,
                        got <= 0 ? "lost" : "another");
                _exit(1);
            }
            at += (size_t)got;
        }
}

/* And nothing else. */
static void check(int fd, int count, const char *what, enum way way, int round)
{
    check_blocks(fd, count, what, way, round);
    MUST(read(fd, seen, 1) == 0);
}

static void ended(pid_t child)
{
    int status;

    MUST(waitpid(child, &status, 0) == child);
    MUST(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT));
}

static void prepare(int count, size_t bytes)
{
    for (int i = 0; i < count; i++) {
        sizes[i] = bytes + (size_t)i;
        free(blocks[i]);
        blocks[i] = malloc(sizes[i]);
        MUST(blocks[i] != NULL);
        for (size_t at = 0; at < sizes[i]; at++)
            blocks[i][at] = (char)(at * 7 + (size_t)i);
    }
}

static void streams(enum way way, int round)
{
    int fds[2], other[2];
    char path[4096];
    pid_t child;

    /* In there at once. */
    prepare(8, 4000);
    MUST(pipe(fds) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, other) == 0);
    child = writer(fds[1], other[1], 8, fds[0], false, way);
    close(fds[1]);
    close(other[1]);
    ended(child);
    check(fds[0], 8, "a pipe", way, round);
    check(other[0], 8, "a socket", way, round);
    close(fds[0]);
    close(other[0]);
    snprintf(path, sizeof(path), "%s/fifo", dir);
    unlink(path);
    MUST(mkfifo(path, 0600) == 0);
    MUST((fds[0] = open(path, O_RDONLY | O_NONBLOCK)) >= 0 && (fds[1] = open(path, O_WRONLY)) >= 0);
    MUST(fcntl(fds[0], F_SETFL, 0) == 0);
    child = writer(fds[1], -1, 8, fds[0], false, way);
    close(fds[1]);
    ended(child);
    check(fds[0], 8, "a FIFO", way, round);
    close(fds[0]);
    /* It has to be read meanwhile. A fork does not wait for that. */
    if (way == FORK || way == DAEMON || round % 10 != 0)
        return;
    prepare(8, 100000);
    MUST(pipe(fds) == 0);
    child = writer(fds[1], -1, 8, fds[0], false, way);
    close(fds[1]);
    usleep(20000);
    check(fds[0], 8, "a pipe that is too small", way, round);
    ended(child);
    close(fds[0]);
}

/* Past the page cache, where the kernel does not have them done within io_submit. */
static void direct_file(enum way way, int round)
{
    static char memory[16][16384] __attribute__((aligned(4096)));
    char path[4096];
    int fd;

    for (int i = 0; i < 16; i++) {
        free(blocks[i]);
        sizes[i] = sizeof(memory[i]);
        memset(blocks[i] = memory[i], 'a' + (i + round) % 26, sizes[i]);
    }
    snprintf(path, sizeof(path), "%s/lastwrites-direct", dir);
    unlink(path);
    MUST((fd = open(path, O_RDWR | O_CREAT | O_DIRECT, 0600)) >= 0);
    ended(writer(fd, -1, 16, -1, true, way));
    MUST(fcntl(fd, F_SETFL, 0) == 0);
    check(fd, 16, "a file past the page cache", way, round);
    close(fd);
    for (int i = 0; i < 16; i++)
        blocks[i] = NULL;
}

static void files(enum way way, int round)
{
    char path[4096];
    pid_t child;
    int fd, appended;

    prepare(16, 50000);
    snprintf(path, sizeof(path), "%s/lastwrites", dir);
    unlink(path);
    MUST((fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600)) >= 0);
    snprintf(path, sizeof(path), "%s/lastwrites-appended", dir);
    unlink(path);
    MUST((appended = open(path, O_RDWR | O_CREAT | O_TRUNC | O_APPEND, 0600)) >= 0);
    child = writer(fd, appended, 16, -1, true, way);
    ended(child);
    check(fd, 16, "a file", way, round);
    MUST(lseek(appended, 0, SEEK_SET) == 0);
    check(appended, 16, "a file that is appended to", way, round);
    close(fd);
    close(appended);
}

/* The child that is made reads what the parent's write, which is under way, fills the pipe with. */
static void fork_goes_on(void)
{
    static char block[1 << 20];
    io_context_t ctx = NULL;
    struct iocb cb, *one = &cb;
    struct io_event ev;
    int fds[2];
    pid_t child;

    if (submit_waits())
        return;
    MUST(pipe(fds) == 0 && io_setup(4, &ctx) == 0);
    io_prep_pwrite(&cb, fds[1], block, sizeof(block), 0);
    submit_all(ctx, 1, &one);
    child = fork();
    MUST(child >= 0);
    if (child == 0) {
        close(fds[1]);
        for (size_t got = 0; got < sizeof(block);) {
            ssize_t more = read(fds[0], seen, sizeof(seen));

            MUST(more > 0);
            got += (size_t)more;
        }
        _exit(0);
    }
    MUST(io_getevents(ctx, 1, 1, &ev, NULL) == 1 && ev.res == sizeof(block));
    ended(child);
    close(fds[0]);
    close(fds[1]);
    MUST(io_destroy(ctx) == 0);
}

/* A write that waits for a reader is no reason to lose another that need not. */
static void fork_beside_stuck(int round)
{
    static char block[1 << 20];
    int stuck[2], fds[2];
    pid_t child;

    if (submit_waits())
        return;
    prepare(8, 4000);
    MUST(pipe(stuck) == 0 && pipe(fds) == 0);
    child = fork();
    MUST(child >= 0);
    if (child == 0) {
        static struct iocb cbs[9], *list[9];
        io_context_t ctx = NULL;

        MUST(io_setup(9, &ctx) == 0);
        io_prep_pwrite(list[0] = &cbs[0], stuck[1], block, sizeof(block), 0);
        submit_all(ctx, 1, list);
        if (round % 2 == 0)
            usleep(5000);
        for (int i = 0; i < 8; i++)
            io_prep_pwrite(list[i] = &cbs[i + 1], fds[1], blocks[i], sizes[i], 0);
        submit_all(ctx, 8, list);
        leave(FORK);
    }
    close(stuck[1]);
    close(fds[1]);
    check_blocks(fds[0], 8, "a pipe beside one that is full", FORK, round);
    while (read(stuck[0], seen, sizeof(seen)) > 0)
        ;
    ended(child);
    close(stuck[0]);
    close(fds[0]);
}

/* Nor is a read that waits for somebody a reason to stay: before a write that is carried out, and after it. */
static void beside_reads(int round)
{
    int silent[2], fds[2];
    pid_t child;

    if (submit_waits())
        return;
    prepare(8, 4000);
    MUST(pipe(silent) == 0 && pipe(fds) == 0);
    child = fork();
    MUST(child >= 0);
    if (child == 0) {
        static struct iocb cbs[12], *list[12];
        static char to[12][16];
        io_context_t ctx = NULL;

        MUST(io_setup(12, &ctx) == 0);
        for (int i = 0; i < 12; i++) {
            list[i] = &cbs[i];
            if (i < 2 || i > 9)
                io_prep_pread(&cbs[i], silent[0], to[i], sizeof(to[i]), 0);
            else
                io_prep_pwrite(&cbs[i], fds[1], blocks[i - 2], sizes[i - 2], 0);
        }
        submit_all(ctx, 12, list);
        leave(round % 2 == 0 ? EXIT : FORK);
    }
    close(fds[1]);
    check(fds[0], 8, "a pipe beside reads that wait", EXIT, round);
    ended(child);
    close(fds[0]);
    close(silent[0]);
    close(silent[1]);
}

int main(int argc, char **argv)
{
    bool is_real = is_set("REAL");
    bool is_seen = is_real || dlsym(RTLD_DEFAULT, "aio2_at_process_end") != NULL;

    MUST(argc >= 2);
    dir = argv[1];
    /* An end that waits for ever is found, too. */
    alarm(100);
    for (int i = 0; i < 10; i++)
        fork_goes_on();
    for (int i = 0; i < fewer(40); i++)
        fork_beside_stuck(i), beside_reads(i);
    for (enum way way = 0; way < (is_seen ? WAYS : UNDERSCORE_EXIT); way++)
        for (int round = 0; round < fewer(40); round++) {
            streams(way, round);
            files(way, round);
            if (is_seen || way == EXIT || way == QUICK_EXIT)
                direct_file(way, round);
        }
    return 0;
}
