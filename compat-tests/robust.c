/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * robust DIRECTORY [PART]: programs that are hard on libaio, each in a process of its own with a time limit. Two threads
 * destroy one context, and others use it meanwhile. Threads are cancelled. Memory of the program is bad. Streams and files that
 * are appended to keep their order. A thread that is bound to one processor, and takes it from all others, polls for events. A
 * thread has little stack. Eventfds without /proc.
 */
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "must.h"

enum { PAGE = 4096 };

static const char *dir;
static io_context_t ctx;

/* A file of that many bytes: each page begins with its number. */
static int file_of(size_t bytes, int flags)
{
    char path[4096];
    int fd;

    snprintf(path, sizeof(path), "%s/robust-XXXXXX", dir);
    fd = mkostemp(path, flags);
    MUST(fd >= 0);
    unlink(path);
    for (size_t at = 0; at < bytes; at += PAGE) {
        uint64_t page[PAGE / 8] __attribute__((aligned(PAGE))) = { at / PAGE };

        MUST(pwrite(fd, page, PAGE, (off_t)at) == PAGE);
    }
    MUST(fsync(fd) == 0);
    return fd;
}

static void setup(int events)
{
    ctx = NULL;
    MUST(io_setup(events, &ctx) == 0);
}

static void submit_one(struct iocb *cb)
{
    MUST(io_submit(ctx, 1, &cb) == 1);
}

static long get_one(void)
{
    struct io_event ev;

    MUST(io_getevents(ctx, 1, 1, &ev, NULL) == 1);
    return (long)ev.res;
}

/* ---- One context, two io_destroy, one who waits ---- */

static pthread_barrier_t barrier;

static void *destroyer(void *arg)
{
    io_context_t mine = ctx;

    pthread_barrier_wait(&barrier);
    *(int *)arg = io_destroy(mine);
    return NULL;
}

static void *waiter(void *arg)
{
    struct io_event ev;
    io_context_t mine = ctx;

    (void)arg;
    MUST(io_getevents(mine, 1, 1, &ev, NULL) <= 0);
    return NULL;
}

static void destroyers(void)
{
    for (int round = 0; round < 300; round++) {
        pthread_t threads[3];
        int said[2];

        setup(4);
        MUST(pthread_barrier_init(&barrier, NULL, 2) == 0);
        MUST(pthread_create(&threads[2], NULL, waiter, NULL) == 0);
        /* libaio looks at the ring before it waits: it is still to be there. */
        usleep(300);
        for (int i = 0; i < 2; i++)
            MUST(pthread_create(&threads[i], NULL, destroyer, &said[i]) == 0);
        for (int i = 0; i < 3; i++)
            MUST(pthread_join(threads[i], NULL) == 0);
        MUST((said[0] == 0 && said[1] == -EINVAL) || (said[1] == 0 && said[0] == -EINVAL));
        pthread_barrier_destroy(&barrier);
    }
}

/* ---- Calls beside io_destroy ---- */

static io_context_t volatile shown;
static volatile bool stop;

static void *caller(void *arg)
{
    struct iocb cb, *list = &cb;
    struct io_event ev;

    io_prep_pread(&cb, -1, NULL, 0, 0);
    while (!stop) {
        io_context_t c = shown;
        int ret = arg != NULL ? io_cancel(c, &cb, &ev) : io_submit(c, 1, &list);

        MUST(ret == -EINVAL || ret == -EBADF);
    }
    return NULL;
}

static void beside(void)
{
    pthread_t threads[2];

    for (long i = 0; i < 2; i++)
        MUST(pthread_create(&threads[i], NULL, caller, (void *)i) == 0);
    for (time_t end = time(NULL) + 4; time(NULL) < end;) {
        setup(4);
        shown = ctx;
        for (volatile int i = 0; i < 300; i++)
            ;
        MUST(io_destroy(ctx) == 0);
    }
    stop = true;
    for (int i = 0; i < 2; i++)
        MUST(pthread_join(threads[i], NULL) == 0);
}

/* ---- A cancellation is pending ---- */

static int passed;

static void *cancelled(void *arg)
{
    static char buffer[PAGE];
    struct iocb cb;
    uint64_t count;
    int fd = file_of(PAGE, O_RDWR), efd = eventfd(0, EFD_CLOEXEC), pipes[2];

    (void)arg;
    MUST(efd >= 0 && pipe(pipes) == 0);
    MUST(pthread_cancel(pthread_self()) == 0);
    setup(4);
    for (int i = 0; i < 3; i++) {
        io_prep_pread(&cb, fd, buffer, PAGE, 0);
        io_set_eventfd(&cb, efd);
        submit_one(&cb);
        MUST(get_one() == PAGE);
        passed++;
    }
    io_prep_poll(&cb, pipes[1], POLLOUT);
    submit_one(&cb);
    MUST(get_one() == POLLOUT);
    io_prep_poll(&cb, pipes[0], POLLIN);
    submit_one(&cb);
    MUST(io_cancel(ctx, &cb, &(struct io_event){ .res = 0 }) == -EINPROGRESS);
    get_one();
    MUST(io_destroy(ctx) == 0);
    passed++;
    /* A point of its own. */
    (void)!read(efd, &count, sizeof(count));
    passed = -1;
    return NULL;
}

static void cancellation(void)
{
    pthread_t thread;
    void *said;

    MUST(pthread_create(&thread, NULL, cancelled, NULL) == 0);
    MUST(pthread_join(thread, &said) == 0);
    MUST(said == PTHREAD_CANCELED && passed == 4);
}

/* ---- Variables and heap that cannot be read or written ---- */

static void bad(void *page)
{
    struct iocb good, *to_good[1] = { &good };
    char buffer[8];
    int fd = file_of(PAGE, O_RDWR);

    MUST(mprotect(page, PAGE, PROT_NONE) == 0);
    io_prep_pread(&good, fd, buffer, sizeof(buffer), 0);
    MUST(io_submit(ctx, 1, page) == -EFAULT);
    MUST(io_submit(ctx, 1, (struct iocb *[1]){ page }) == -EFAULT);
    io_prep_preadv(&good, fd, page, 2, 0);
    MUST(io_submit(ctx, 1, to_good) == -EFAULT);
    io_prep_pread(&good, fd, buffer, sizeof(buffer), 0);
    submit_one(&good);
    MUST(io_getevents(ctx, 1, 1, page, NULL) == -EFAULT);
    MUST(get_one() == sizeof(buffer));
    MUST(io_setup(1, page) == -EFAULT);
    MUST(mprotect(page, PAGE, PROT_READ | PROT_WRITE) == 0);
    close(fd);
}

static void memory(void)
{
    static struct {
        char page[PAGE] __attribute__((aligned(PAGE)));
    } variables[3];
    void *heap;

    setup(4);
    MUST(posix_memalign(&heap, PAGE, 3 * PAGE) == 0);
    bad(variables[1].page);
    bad((char *)heap + PAGE);
}

/* ---- What is submitted together comes in order ---- */

enum { PARTS = 128, PART = 64 };

static void moved(int from, int to, const char *what)
{
    static char out[PARTS][PART], in[PARTS][PART];
    static struct iocb cb[2 * PARTS];
    struct iocb *list[2 * PARTS];
    struct io_event ev[2 * PARTS];

    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < PARTS; i++) {
            memset(out[i], round + i, PART);
            memset(in[i], 0, PART);
            io_prep_pwrite(list[i] = &cb[i], to, out[i], PART, 0);
            io_prep_pread(list[PARTS + i] = &cb[PARTS + i], from, in[i], PART, 0);
        }
        /* Both directions at once, or the reads when all has been written. */
        if (round % 2 == 0) {
            MUST(io_submit(ctx, 2 * PARTS, list) == 2 * PARTS);
            MUST(io_getevents(ctx, 2 * PARTS, 2 * PARTS, ev, NULL) == 2 * PARTS);
        } else {
            for (int half = 0; half < 2; half++) {
                MUST(io_submit(ctx, PARTS, list + half * PARTS) == PARTS);
                MUST(io_getevents(ctx, PARTS, PARTS, ev, NULL) == PARTS);
            }
        }
        if (memcmp(in, out, sizeof(in)) != 0) {
            fprintf(stderr, "%s: not in order\n", what);
            _exit(1);
        }
    }
}

static void appended(int flags)
{
    enum { BLOCKS = 64, BLOCK = PAGE };
    static char blocks[BLOCKS][BLOCK] __attribute__((aligned(PAGE)));
    static struct iocb cb[BLOCKS];
    struct iocb *list[BLOCKS];
    struct io_event ev[BLOCKS];
    int fd = file_of(0, flags | O_RDWR | O_APPEND);

    for (int i = 0; i < BLOCKS; i++) {
        memset(blocks[i], i, BLOCK);
        io_prep_pwrite(list[i] = &cb[i], fd, blocks[i], BLOCK, 0);
    }
    MUST(io_submit(ctx, BLOCKS, list) == BLOCKS);
    MUST(io_getevents(ctx, BLOCKS, BLOCKS, ev, NULL) == BLOCKS);
    for (int i = 0; i < BLOCKS; i++) {
        char block[BLOCK] __attribute__((aligned(PAGE)));

        MUST(pread(fd, block, BLOCK, (off_t)i * BLOCK) == BLOCK);
        MUST(memcmp(block, blocks[i], BLOCK) == 0);
    }
    close(fd);
}

static void order(void)
{
    int fds[2];

    setup(2 * PARTS);
    MUST(pipe(fds) == 0);
    moved(fds[0], fds[1], "a pipe");
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    moved(fds[0], fds[1], "a socket");
    for (int i = 0; i < 10; i++) {
        appended(0);
        appended(O_DIRECT);
    }
}

/* ---- A poller that nobody else gets the processor from ---- */

static void poller(void)
{
    static char buffer[PAGE] __attribute__((aligned(PAGE)));
    struct sched_param param = { .sched_priority = 1 };
    cpu_set_t one;
    int fd = file_of(64 * PAGE, O_RDWR | O_DIRECT);

    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    MUST(sched_setaffinity(0, sizeof(one), &one) == 0);
    (void)sched_setscheduler(0, SCHED_FIFO, &param);
    setup(4);
    for (int i = 0; i < 64; i++) {
        struct timespec none = { 0, 0 }, since, now;
        struct io_event ev;
        struct iocb cb;
        int got = 0;

        io_prep_pread(&cb, fd, buffer, PAGE, (long long)i * PAGE);
        submit_one(&cb);
        clock_gettime(CLOCK_MONOTONIC, &since);
        do {
            got = io_getevents(ctx, 1, 1, &ev, &none);
            clock_gettime(CLOCK_MONOTONIC, &now);
        } while (got == 0 && now.tv_sec - since.tv_sec < 3);
        MUST(got == 1 && (long)ev.res == PAGE);
    }
}

/* ---- A small stack ---- */

static void *on_small_stack(void *arg)
{
    static char buffer[PAGE];
    struct iocb cb;

    setup(4);
    io_prep_pread(&cb, *(int *)arg, buffer, PAGE, 0);
    submit_one(&cb);
    MUST(get_one() == PAGE);
    MUST(io_destroy(ctx) == 0);
    return NULL;
}

static void stack(void)
{
    int fd = file_of(PAGE, O_RDWR);
    pthread_attr_t attr;
    pthread_t thread;

    MUST(pthread_attr_init(&attr) == 0);
    MUST(pthread_attr_setstacksize(&attr, PTHREAD_STACK_MIN) == 0);
    for (int i = 0; i < 3; i++) {
        MUST(pthread_create(&thread, &attr, on_small_stack, &fd) == 0);
        MUST(pthread_join(thread, NULL) == 0);
    }
}

/* ---- No /proc ---- */

static void no_proc(void)
{
    static char buffer[PAGE];
    struct iocb cb;
    uint64_t count = 0;
    int fd = file_of(PAGE, O_RDWR), efd = eventfd(0, 0);

    if (geteuid() != 0) {
        printf("no /proc: not shown, needs root\n");
        return;
    }
    MUST(chroot(dir) == 0 && chdir("/") == 0);
    setup(4);
    io_prep_pread(&cb, fd, buffer, PAGE, 0);
    io_set_eventfd(&cb, efd);
    submit_one(&cb);
    MUST(read(efd, &count, sizeof(count)) == sizeof(count) && count == 1);
    MUST(get_one() == PAGE);
    io_set_eventfd(&cb, fd);
    MUST(io_submit(ctx, 1, (struct iocb *[1]){ &cb }) == -EINVAL);
}

static const struct {
    const char *name;
    void (*run)(void);
} parts[] = {
    { "destroyers", destroyers }, { "beside", beside }, { "cancellation", cancellation }, { "memory", memory },
    { "order", order },           { "poller", poller }, { "stack", stack },               { "no-proc", no_proc },
};

int main(int argc, char **argv)
{
    int failed = 0, run = 0;

    MUST(argc >= 2);
    dir = argv[1];
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        int status;
        pid_t child;

        if (argc > 2 && argv[2][0] != '/' && strcmp(argv[2], parts[i].name) != 0)
            continue;
        run++;
        fflush(stdout);
        child = fork();
        MUST(child >= 0);
        if (child == 0) {
            alarm(100);
            parts[i].run();
            fflush(stdout);
            _exit(0);
        }
        MUST(waitpid(child, &status, 0) == child);
        if (status != 0) {
            printf("%s: %s %d\n", parts[i].name, WIFSIGNALED(status) ? "signal" : "exit status",
                   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
            failed++;
        }
    }
    MUST(run != 0);
    return failed != 0;
}
