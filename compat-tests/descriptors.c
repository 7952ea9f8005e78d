/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A program's descriptors work as with the kernel's AIO, before, during and after requests: record
 * locks, leases, exclusive opens, close, fork, unshare, fcntl, a full table, an eventfd that was closed.
 *
 *     descriptors DIRECTORY [BLOCK_DEVICE]
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "must.h"

enum { BLOCK = 4096 };

static const char *dir, *device;
static char path[4096];
static _Alignas(BLOCK) char buf[16][BLOCK];

static int make(const char *name, int flags)
{
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | flags, 0600);
    MUST(fd >= 0);
    return fd;
}

static io_context_t setup(int n)
{
    io_context_t ctx = NULL;
    MUST(io_setup(n, &ctx) == 0);
    return ctx;
}

/* One request, there and back. */
static long one(io_context_t ctx, int fd, int writes, int at)
{
    struct iocb iocb, *list[1] = {&iocb};
    struct io_event event;

    if (writes)
        io_prep_pwrite(&iocb, fd, buf[0], BLOCK, (long long)at * BLOCK);
    else
        io_prep_pread(&iocb, fd, buf[1], BLOCK, (long long)at * BLOCK);
    MUST(io_submit(ctx, 1, list) == 1);
    MUST(io_getevents(ctx, 1, 1, &event, NULL) == 1);
    return (long)event.res;
}

/* Whether another process would find a write lock there. */
static bool is_locked(const char *of)
{
    int status;
    pid_t child = fork();

    MUST(child >= 0);
    if (child == 0) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        int fd = open(of, O_RDWR);
        MUST(fd >= 0 && fcntl(fd, F_GETLK, &lock) == 0);
        _exit(lock.l_type == F_UNLCK ? 0 : 7);
    }
    MUST(waitpid(child, &status, 0) == child && WIFEXITED(status));
    MUST(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 7);
    return WEXITSTATUS(status) == 7;
}

static void record_locks(const char *of)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 100};
    io_context_t ctx = setup(8);

    for (int round = 0; round < 100; round++) {
        int fd = open(of, O_RDWR);
        MUST(fd >= 0);
        MUST(fcntl(fd, F_SETLK, &lock) == 0);
        MUST(one(ctx, fd, round & 1, 0) == BLOCK);
        close(fd);
        fd = open(of, O_RDWR);
        MUST(fd >= 0);
        MUST(fcntl(fd, F_SETLK, &lock) == 0);
        MUST(one(ctx, fd, !(round & 1), 0) == BLOCK);
        if (round % 10 == 0)
            MUST(is_locked(of));
        MUST(one(ctx, fd, 1, 0) == BLOCK);
        if (round % 10 == 0)
            MUST(is_locked(of));
        close(fd);
    }
    MUST(io_destroy(ctx) == 0);
}

static void locks(void)
{
    int fd = make("locks", 0);
    MUST(ftruncate(fd, 2 * BLOCK) == 0);
    close(fd);
    record_locks(path);
    if (device)
        record_locks(device);
}

/* After the last event, the program's close() is the last one. */
static void last_close(void)
{
    io_context_t ctx = setup(32);

    for (int round = 0; round < 200; round++) {
        struct iocb iocbs[8], *list[8];
        struct io_event events[8];
        int fd = make("last", round & 1 ? O_DIRECT : 0), got = 0, other;

        for (int i = 0; i < 8; i++) {
            io_prep_pwrite(&iocbs[i], fd, buf[i], BLOCK, (long long)i * BLOCK);
            list[i] = &iocbs[i];
        }
        MUST(io_submit(ctx, 8, list) == 8);
        while (got < 8) {
            int n = io_getevents(ctx, 1, 8 - got, events, NULL);
            MUST(n > 0);
            for (int i = 0; i < n; i++)
                MUST(events[i].res == BLOCK);
            got += n;
        }
        MUST(flock(fd, LOCK_EX | LOCK_NB) == 0);
        close(fd);
        other = open(path, O_RDWR | O_CLOEXEC);
        MUST(other >= 0);
        /* Held by nothing that is left of the first descriptor. */
        MUST(flock(other, LOCK_EX | LOCK_NB) == 0);
        /* Granted if this is the only open file. */
        MUST(fcntl(other, F_SETLEASE, F_WRLCK) == 0);
        MUST(fcntl(other, F_SETLEASE, F_UNLCK) == 0);
        close(other);
        if (device) {
            fd = open(device, O_RDWR | O_EXCL | O_CLOEXEC);
            MUST(fd >= 0);
            MUST(one(ctx, fd, round & 1, 0) == BLOCK);
            close(fd);
        }
    }
    MUST(io_destroy(ctx) == 0);
}

/* A thread has a table of its own; another uses AIO on the same numbers. */
static atomic_int apart;
static atomic_bool done;
static int apart_fd[4];

static void *unshared(void *arg)
{
    (void)arg;
    /* The second is one that containers allow. */
    bool alone = unshare(CLONE_FILES) == 0 || syscall(SYS_close_range, ~0U, ~0U, 2 /* CLOSE_RANGE_UNSHARE */) == 0;
    if (!alone) {
        MUST(errno == ENOSYS || errno == EPERM);
        puts("a thread may not have a table of its own");
        apart = 1;
        return NULL;
    }
    snprintf(path, sizeof path, "%s/other", dir);
    int other = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_DIRECT, 0600);
    if (other < 0)
        other = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    MUST(other >= 0);
    for (int i = 0; i < 4; i++)
        MUST(dup2(other, apart_fd[i]) == apart_fd[i]);
    /* All that is not its own, too. */
    for (int fd = 64; fd < 1024; fd++)
        dup2(other, fd);
    apart = 1;
    io_context_t ctx = setup(16);
    struct iocb iocbs[16], *list[16];
    struct io_event events[16];
    static _Alignas(BLOCK) char back[BLOCK];
    for (int round = 0; !done; round++) {
        for (int i = 0; i < 16; i++) {
            memset(buf[i], 'a' + (round + i) % 26, BLOCK);
            io_prep_pwrite(list[i] = &iocbs[i], other, buf[i], BLOCK, (long long)i * BLOCK);
        }
        MUST(io_submit(ctx, 16, list) == 16);
        MUST(io_getevents(ctx, 16, 16, events, NULL) == 16);
        for (int i = 0; i < 16; i++)
            MUST(events[i].res == BLOCK && pread(other, back, BLOCK, (off_t)i * BLOCK) == BLOCK && memcmp(back, buf[i], BLOCK) == 0);
    }
    struct stat stat;
    MUST(fstat(other, &stat) == 0 && stat.st_size == 16 * BLOCK);
    MUST(io_destroy(ctx) == 0);
    return NULL;
}

static void unsharing(void)
{
    pthread_t thread;
    io_context_t ctx = setup(64);
    static _Alignas(BLOCK) char mine[BLOCK], back[BLOCK];

    for (int i = 0; i < 4; i++) {
        char name[16];
        snprintf(name, sizeof name, "own-%d", i);
        apart_fd[i] = make(name, 0);
    }
    MUST(pthread_create(&thread, NULL, unshared, NULL) == 0);
    while (!apart)
        sched_yield();
    memset(mine, 'm', BLOCK);
    for (int i = 0; i < 3200; i++) {
        struct iocb iocb, *list[1] = {&iocb};
        struct io_event event;
        int fd = apart_fd[i % 4];

        io_prep_pwrite(&iocb, fd, mine, BLOCK, (long long)(i / 4) * BLOCK);
        MUST(io_submit(ctx, 1, list) == 1);
        MUST(io_getevents(ctx, 1, 1, &event, NULL) == 1 && event.res == BLOCK);
        MUST(pread(fd, back, BLOCK, (off_t)(i / 4) * BLOCK) == BLOCK);
        MUST(memcmp(mine, back, BLOCK) == 0);
    }
    done = true;
    MUST(pthread_join(thread, NULL) == 0);
    for (int i = 0; i < 4; i++)
        close(apart_fd[i]);
    MUST(io_destroy(ctx) == 0);
}

/* Numbers that were open when the program began. */
static bool inherited[1024];

static void find_inherited(void)
{
    for (int fd = 0; fd < 1024; fd++)
        inherited[fd] = fcntl(fd, F_GETFD) >= 0;
}

/* None is open above the program's own. */
static void check_open(int most)
{
    DIR *fds = opendir("/proc/self/fd");

    MUST(fds);
    for (struct dirent *entry; (entry = readdir(fds));) {
        int fd = atoi(entry->d_name);
        if (entry->d_name[0] == '.' || fd == dirfd(fds))
            continue;
        if (fd > most && !(fd < 1024 && inherited[fd])) {
            char link[64], target[256] = "";
            snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
            if (readlink(link, target, sizeof target - 1) < 0)
                target[0] = 0;
            fprintf(stderr, "a child has descriptor %d, %s\n", fd, target);
            _exit(1);
        }
    }
    closedir(fds);
}

static void *busy(void *arg)
{
    io_context_t ctx = setup(8);
    int fd = *(int *)arg;

    while (!done) {
        int files = make("busy", 0);
        one(ctx, fd, 1, 0);
        one(ctx, files, 1, 0);
        close(files);
    }
    MUST(io_destroy(ctx) == 0);
    return NULL;
}

static void forking(void)
{
    pthread_t thread;
    int fd = make("forking", 0), highest, sockets[2], status;
    io_context_t ctx = setup(8);
    struct iocb iocb, *list[1] = {&iocb};
    struct io_event event;

    done = false;
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    io_prep_poll(&iocb, sockets[0], POLLIN);
    MUST(io_submit(ctx, 1, list) == 1);
    MUST(pthread_create(&thread, NULL, busy, &fd) == 0);
    highest = sockets[1] + 8;
    for (int i = 0; i < 300; i++) {
        pid_t child = fork();
        MUST(child >= 0);
        if (child == 0) {
            check_open(highest);
            _exit(0);
        }
        MUST(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    done = true;
    MUST(pthread_join(thread, NULL) == 0);

    /* A child that has closed its descriptor of the socket: when the parent has closed its own, and nothing is pending any
     * more, the peer sees the end. */
    int go[2];
    MUST(pipe(go) == 0);
    pid_t child = fork();
    MUST(child >= 0);
    if (child == 0) {
        char byte;
        close(sockets[0]);
        close(sockets[1]);
        close(go[1]);
        MUST(read(go[0], &byte, 1) == 0);
        _exit(0);
    }
    close(go[0]);
    MUST(write(sockets[1], "x", 1) == 1);
    MUST(io_getevents(ctx, 1, 1, &event, NULL) == 1 && (event.res & POLLIN));
    close(sockets[0]);
    struct pollfd peer = {.fd = sockets[1], .events = POLLIN};
    MUST(poll(&peer, 1, 100000) == 1 && (peer.revents & POLLHUP));
    close(go[1]);
    MUST(waitpid(child, &status, 0) == child && status == 0);
    close(sockets[1]);
    close(fd);
    MUST(io_destroy(ctx) == 0);
}

/* A caller that has slept with a signal mask: a child inherits nothing of that, and a file of the program's that gets a number of the
 * library's stays as it is. */
static void masked(void)
{
    io_context_t ctx = setup(8);
    int fd = make("masked", 0), other = make("masked_other", 0), status;
    struct timespec soon = {.tv_nsec = 20000000};
    struct iocb iocb, *list[1] = {&iocb};
    struct io_event event;
    struct stat st;
    sigset_t none;
    pid_t child;

    sigemptyset(&none);
    MUST(io_pgetevents(ctx, 1, 1, &event, &soon, &none) == 0);
    child = fork();
    MUST(child >= 0);
    if (child == 0) {
        check_open(other);
        _exit(0);
    }
    MUST(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    /* As in closing_all(): if there is no other table, nor a thread, later polls need the library's own descriptors. */
    for (int number = other + 1; number < 1024 && !is_set("SUBMIT_WAITS"); number++)
        if (!inherited[number] && fcntl(number, F_GETFD) >= 0)
            MUST(dup2(other, number) == number);
    for (int round = 0; round < 50; round++) {
        io_prep_pwrite(&iocb, fd, buf[0], BLOCK, 0);
        MUST(io_submit(ctx, 1, list) == 1);
        MUST(io_pgetevents(ctx, 1, 1, &event, NULL, &none) == 1 && event.res == BLOCK);
    }
    MUST(fstat(other, &st) == 0 && st.st_size == 0);
    for (int number = other + 1; number < 1024 && !is_set("SUBMIT_WAITS"); number++)
        if (!inherited[number])
            close(number);
    MUST(io_destroy(ctx) == 0);
    close(other);
    close(fd);
}

static void *wait_apart(void *arg)
{
    struct timespec limit = {.tv_sec = 100};
    struct io_event event;
    sigset_t none;

    /* In a container that does not allow it, the thread is one like others. */
    MUST(unshare(CLONE_FILES) == 0 || errno == EPERM || errno == ENOSYS);
    sigemptyset(&none);
    for (int i = 0; i < 20; i++) {
        time_t began = time(NULL);

        MUST(io_pgetevents(*(io_context_t *)arg, 1, 1, &event, &limit, &none) == 1 && event.res == BLOCK);
        MUST(time(NULL) - began < 90);
    }
    return NULL;
}

/* A thread with a descriptor table of its own sleeps with a signal mask, and is woken, whichever thread carries the request out. */
static void masked_apart(void)
{
    io_context_t ctx = setup(8);
    int fd = make("masked_apart", 0);
    struct iocb iocb, *list[1] = {&iocb};
    pthread_t thread;

    MUST(write(fd, buf[0], BLOCK) == BLOCK);
    MUST(pthread_create(&thread, NULL, wait_apart, &ctx) == 0);
    for (int i = 0; i < 20; i++) {
        usleep(20000);
        if (i % 2 == 0)
            io_prep_pread(&iocb, fd, buf[1], BLOCK, 0);
        else
            io_prep_pwrite(&iocb, fd, buf[0], BLOCK, 0);
        MUST(io_submit(ctx, 1, list) == 1);
    }
    MUST(pthread_join(thread, NULL) == 0);
    MUST(io_destroy(ctx) == 0);
    close(fd);
}

/* O_APPEND that is set after the first uses: appends stay in order. A caller that polls without waiting leaves the requests to
 * other threads, which may carry them out side by side. */
static void appending(void)
{
    enum { WRITES = 32, FIRST = 40, ROUNDS = 500 };
    static _Alignas(BLOCK) char blocks[WRITES][BLOCK], back[(WRITES + 1) * BLOCK];
    io_context_t ctx = setup(WRITES);

    for (int i = 0; i < WRITES; i++)
        memset(blocks[i], 'A' + i, BLOCK);
    for (int round = 0; round < ROUNDS; round++) {
        struct iocb iocbs[WRITES], *list[WRITES];
        struct io_event events[WRITES];
        struct timespec none = {0, 0};
        int fd = make("append", 0), got = 0;

        for (int i = 0; i < FIRST; i++)
            MUST(one(ctx, fd, 1, 0) == BLOCK);
        MUST(ftruncate(fd, 0) == 0);
        MUST(fcntl(fd, F_SETFL, O_APPEND) == 0);
        for (int i = 0; i < WRITES; i++)
            io_prep_pwrite(list[i] = &iocbs[i], fd, blocks[i], BLOCK, (long long)i * BLOCK);
        MUST(io_submit(ctx, WRITES, list) == WRITES);
        while (got < WRITES) {
            int n = io_getevents(ctx, 0, WRITES - got, events, &none);
            MUST(n >= 0);
            got += n;
        }
        MUST(pread(fd, back, sizeof back, 0) == sizeof blocks);
        MUST(memcmp(back, blocks, sizeof blocks) == 0);
        close(fd);
    }
    MUST(io_destroy(ctx) == 0);
}

/* An eventfd that the program has closed is told of by no epoll any more; one that it has by another number is. */
static atomic_int stale;

static void *looks(void *arg)
{
    struct epoll_event seen;

    while (!done)
        if (epoll_wait(*(int *)arg, &seen, 1, 1) == 1)
            stale++;
    return NULL;
}

static void closed_eventfd(void)
{
    int epoll = epoll_create1(0), other = -1;
    pthread_t thread;

    MUST(epoll >= 0);
    done = false;
    MUST(pthread_create(&thread, NULL, looks, &epoll) == 0);
    for (int round = 0; round < 400; round++) {
        io_context_t ctx = setup(8);
        struct iocb iocb, *list[1] = {&iocb};
        struct io_event event;
        struct epoll_event wanted = {.events = EPOLLIN, .data.u64 = 42};
        int ends[2], efd = eventfd(0, EFD_NONBLOCK), kept = round % 4 == 0;
        uint64_t count = 0;

        MUST(pipe(ends) == 0 && efd >= 0);
        if (!kept)
            MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, efd, &wanted) == 0);
        io_prep_poll(&iocb, ends[0], POLLIN);
        io_set_eventfd(&iocb, efd);
        MUST(io_submit(ctx, 1, list) == 1);
        if (kept)
            MUST((other = dup(efd)) >= 0);
        close(efd);
        MUST(write(ends[1], "x", 1) == 1);
        MUST(io_getevents(ctx, 1, 1, &event, NULL) == 1 && (event.res & POLLIN));
        if (kept) {
            struct pollfd told = {.fd = other, .events = POLLIN};
            MUST(poll(&told, 1, 100000) == 1);
            MUST(read(other, &count, 8) == 8 && count == 1);
            close(other);
        }
        /* The notification comes before the context is gone. */
        MUST(io_destroy(ctx) == 0);
        close(ends[0]);
        close(ends[1]);
    }
    done = true;
    MUST(pthread_join(thread, NULL) == 0);
    MUST(stale == 0);
    close(epoll);
}

/* No descriptor is free: requests need none. */
static void full_table(int early)
{
    int status;
    pid_t child = fork();

    MUST(child >= 0);
    if (child == 0) {
        struct rlimit limit = {.rlim_cur = 256, .rlim_max = 256};
        struct iocb iocbs[4], *list[4];
        struct io_event events[4];
        int fd = make("full", 0), direct = open(path, O_RDWR | O_DIRECT), ends[2], got = 0;
        io_context_t ctx = early ? setup(8) : NULL;

        MUST(pipe(ends) == 0 && direct >= 0);
        MUST(one(early ? ctx : (ctx = setup(8)), fd, 1, 0) == BLOCK);
        if (!early) {
            MUST(io_destroy(ctx) == 0);
            ctx = NULL;
        }
        MUST(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        while (open("/dev/null", O_RDONLY) >= 0)
            ;
        MUST(errno == EMFILE);
        if (!early)
            ctx = setup(8);
        for (int round = 0; round < 50; round++) {
            got = 0;
            MUST(one(ctx, fd, round & 1, round) == BLOCK || !(round & 1));
            io_prep_pwrite(&iocbs[0], fd, buf[0], BLOCK, 0);
            io_prep_pwrite(&iocbs[1], direct, buf[1], BLOCK, BLOCK);
            io_prep_pread(&iocbs[2], direct, buf[2], BLOCK, 0);
            io_prep_fsync(&iocbs[3], fd);
            for (int i = 0; i < 4; i++)
                list[i] = &iocbs[i];
            MUST(io_submit(ctx, 4, list) == 4);
            while (got < 4) {
                int n = io_getevents(ctx, 1, 4 - got, events, NULL);
                MUST(n > 0);
                for (int i = 0; i < n; i++)
                    MUST((long)events[i].res >= 0);
                got += n;
            }
        }
        MUST(io_destroy(ctx) == 0);
        _exit(0);
    }
    MUST(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* The program closes every number that is not its own: pending requests still complete, and so do later ones. */
static void closing_all(void)
{
    int status;
    pid_t child;

    /* If there is no other table, the files of pending requests are among these. */
    if (is_set("SUBMIT_WAITS"))
        return;
    child = fork();
    MUST(child >= 0);
    if (child == 0) {
        io_context_t ctx = setup(8);
        struct iocb iocb[2], *list[1];
        struct io_event event;
        int ends[2], more[2], fd = make("closing", 0);

        MUST(pipe(ends) == 0 && pipe(more) == 0);
        MUST(one(ctx, fd, 1, 0) == BLOCK);
        for (int round = 0; round < 20; round++) {
            for (int i = 0; i < 2; i++) {
                io_prep_poll(&iocb[i], i ? more[0] : ends[0], POLLIN);
                list[0] = &iocb[i];
                MUST(io_submit(ctx, 1, list) == 1);
            }
            for (int other = 3; other < 1024; other++)
                if (other != fd && other != ends[0] && other != ends[1] && other != more[0] && other != more[1]) {
                    if (round & 1)
                        dup2(fd, other);
                    close(other);
                }
            MUST(write(ends[1], "x", 1) == 1);
            MUST(io_getevents(ctx, 1, 1, &event, NULL) == 1 && (event.res & POLLIN));
            MUST(read(ends[0], buf[2], 1) == 1);
            io_cancel(ctx, &iocb[1], &event);
            MUST(io_getevents(ctx, 1, 1, &event, NULL) == 1);
            for (int at = 0; at < 8; at++)
                MUST(one(ctx, fd, 1, at) == BLOCK);
        }
        MUST(io_destroy(ctx) == 0);
        _exit(0);
    }
    MUST(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* No descriptor may be made at all. */
static void no_descriptors(void)
{
    int status;
    pid_t child = fork();

    MUST(child >= 0);
    if (child == 0) {
        struct rlimit limit = {.rlim_cur = 3, .rlim_max = 3};
        int fd = make("none", 0);

        MUST(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        io_context_t ctx = setup(8);
        for (int i = 0; i < 100; i++) {
            MUST(one(ctx, fd, 1, i) == BLOCK);
            MUST(one(ctx, fd, 0, i) == BLOCK);
        }
        MUST(io_destroy(ctx) == 0);
        _exit(0);
    }
    MUST(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(int argc, char **argv)
{
    struct {
        const char *name;
        void (*run)(void);
    } parts[] = {
        {"locks", locks},           {"last_close", last_close},         {"unsharing", unsharing},
        {"forking", forking},       {"masked", masked},           {"masked_apart", masked_apart}, {"appending", appending},           {"closed_eventfd", closed_eventfd},
        {"closing_all", closing_all}, {"no_descriptors", no_descriptors},
    };

    MUST(argc > 1);
    find_inherited();
    dir = argv[1];
    device = argc > 2 && argv[2][0] == '/' ? argv[2] : NULL;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (argc > 3 && strcmp(argv[3], parts[i].name) != 0)
            continue;
        printf("%s\n", parts[i].name);
        fflush(stdout);
        parts[i].run();
    }
    if (argc > 3 && strcmp(argv[3], "full_table") != 0)
        return 0;
    printf("full_table\n");
    fflush(stdout);
    for (int early = 0; early < 2; early++)
        full_table(early);
    return 0;
}
