/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * frozen DIRECTORY: a file system is frozen (FIFREEZE), and hundreds of writes to it, through the page cache and past it, wait
 * until it is thawed. Meanwhile other contexts read another file, and are signalled by an eventfd. Needs root, and a file
 * system of its own.
 */
#include <fcntl.h>
#include <libaio.h>
#include <linux/fs.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "must.h"

enum { PAGE = 4096, N = 300 };

static char buffers[N][PAGE] __attribute__((aligned(PAGE)));
static struct iocb cbs[N];
static io_context_t writing;
static int directory, fd, other;

/* It does not stay frozen, however this ends. */
static void on_signal(int sig)
{
    ioctl(directory, FITHAW, 0);
    _exit(128 + sig);
}

#define MUST_HERE(x)                                                                                                   \
    do {                                                                                                               \
        if (!(x)) {                                                                                                    \
            fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #x, errno);                                \
            on_signal(1);                                                                                              \
        }                                                                                                              \
    } while (0)

/* The kernel's io_submit() itself waits for the end of it. */
static void *submit(void *arg)
{
    for (int i = 0; i < N; i++) {
        struct iocb *list[] = { &cbs[i] };

        io_prep_pwrite(&cbs[i], fd, buffers[i], PAGE, (long long)i * PAGE);
        MUST_HERE(io_submit(writing, 1, list) == 1);
    }
    return arg;
}

static void *reap(void *arg)
{
    struct io_event ev[N];
    int got = 0;

    while (got < N) {
        int more = io_getevents(writing, 1, N - got, ev, NULL);

        MUST_HERE(more > 0);
        for (int i = 0; i < more; i++)
            MUST_HERE((long)ev[i].res == PAGE);
        got += more;
    }
    return arg;
}

static void read_other(void)
{
    static char buffer[PAGE] __attribute__((aligned(PAGE)));
    struct iocb cb, *list[] = { &cb };
    int efd = eventfd(0, EFD_CLOEXEC), copy = dup(other);
    struct pollfd poller = { .fd = efd, .events = POLLIN };
    io_context_t ctx = NULL;
    struct io_event ev;

    MUST_HERE(efd >= 0 && io_setup(4, &ctx) == 0);
    io_prep_pread(&cb, copy, buffer, PAGE, 0);
    io_set_eventfd(&cb, efd);
    MUST_HERE(io_submit(ctx, 1, list) == 1);
    /* A close does not wait for other files, nor does one of nothing. */
    MUST_HERE(close(copy) == 0 && close(-1) == -1);
    MUST_HERE(poll(&poller, 1, 100000) == 1);
    MUST_HERE(io_getevents(ctx, 1, 1, &ev, NULL) == 1 && (long)ev.res == PAGE);
    MUST_HERE(io_destroy(ctx) == 0);
    close(efd);
}

static void check(const char *path, int flags)
{
    pthread_t submitter, reaper;

    writing = NULL;
    fd = open(path, O_RDWR | O_CREAT | flags, 0600);
    MUST_HERE(fd >= 0 && io_setup(N, &writing) == 0);
    MUST_HERE(ioctl(directory, FIFREEZE, 0) == 0);
    MUST_HERE(pthread_create(&submitter, NULL, submit, NULL) == 0);
    MUST_HERE(pthread_create(&reaper, NULL, reap, NULL) == 0);
    for (int i = 0; i < 40; i++) {
        /* Meanwhile whatever can hang does. */
        if (i % 20 == 10)
            sleep(1);
        read_other();
    }
    MUST_HERE(ioctl(directory, FITHAW, 0) == 0);
    MUST_HERE(pthread_join(submitter, NULL) == 0 && pthread_join(reaper, NULL) == 0);
    MUST_HERE(io_destroy(writing) == 0);
    close(fd);
}

int main(int argc, char **argv)
{
    struct stat here, above;
    char path[4096];

    MUST(argc > 1);
    snprintf(path, sizeof(path), "%s/..", argv[1]);
    if (getuid() != 0 || stat(argv[1], &here) != 0 || stat(path, &above) != 0 || here.st_dev == above.st_dev) {
        fprintf(stderr, "SKIPPED: needs root, and a file system of its own\n");
        return 77;
    }
    directory = open(argv[1], O_RDONLY | O_DIRECTORY);
    other = memfd_create("other", MFD_CLOEXEC);
    MUST(directory >= 0 && other >= 0 && ftruncate(other, PAGE) == 0);
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    signal(SIGALRM, on_signal);
    alarm(100);
    snprintf(path, sizeof(path), "%s/buffered", argv[1]);
    check(path, 0);
    snprintf(path, sizeof(path), "%s/direct", argv[1]);
    check(path, O_DIRECT);
    return 0;
}
