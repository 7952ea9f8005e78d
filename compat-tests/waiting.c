/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * waiting DIRECTORY: io_getevents waits for as many events as asked for and for no others. Two threads that ask for one event,
 * or for none, share the events of buffered writes, and neither of them waits for ever. A write that hangs (root: on a frozen
 * file system) keeps no caller from the available events, nor longer than its timeout.
 */
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "must.h"
#include "now.h"
#include "submit.h"

enum { PAGE = 4096, BATCH = 8, ROOM = 16, BATCHES = 5000, LIMIT = 60 };

static const char *dir;
static io_context_t ctx;
static atomic_long taken;
static atomic_bool over;

static int file_of(const char *name, int pages)
{
    static char page[PAGE];
    char path[4096];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    MUST(fd >= 0);
    for (int i = 0; i < pages; i++)
        MUST(pwrite(fd, page, PAGE, (off_t)i * PAGE) == PAGE);
    return fd;
}

static void setup(void)
{
    ctx = NULL;
    MUST(io_setup(64, &ctx) == 0);
}

/* ---- Two who take ---- */

static void *takes(void *arg)
{
    struct timespec long_time = { 3600, 0 };
    long min = (long)arg;

    while (!over) {
        struct io_event ev[ROOM];
        int got = io_getevents(ctx, min, ROOM, ev, min == 0 ? &long_time : NULL);

        MUST(got >= (int)min && got <= ROOM);
        for (int i = 0; i < got; i++)
            MUST((long)ev[i].res == PAGE && ev[i].res2 == 0);
        taken += got;
    }
    return NULL;
}

static void two(long min)
{
    static struct iocb cbs[BATCH];
    static char buffer[PAGE];
    struct iocb *list[BATCH];
    pthread_t threads[2];
    int fd = file_of("two", 0);

    setup();
    taken = 0;
    over = false;
    for (int i = 0; i < 2; i++)
        MUST(pthread_create(&threads[i], NULL, takes, (void *)min) == 0);
    for (long batch = 1; batch <= BATCHES; batch++) {
        for (int i = 0; i < BATCH; i++)
            io_prep_pwrite(list[i] = &cbs[i], fd, buffer, PAGE, (long long)i * PAGE);
        submit_all(ctx, BATCH, list);
        for (double since = now(); taken < batch * BATCH;) {
            if (now() - since > LIMIT) {
                fprintf(stderr, "min_nr %ld: batch %ld: %ld events are in nobody's hands\n", min, batch, batch * BATCH - taken);
                _exit(1);
            }
            sched_yield();
        }
    }
    over = true;
    for (int i = 0; i < 2; i++)
        while (pthread_tryjoin_np(threads[i], NULL) != 0) {
            struct iocb *one = &cbs[0];

            if (min != 0)
                submit_all(ctx, 1, &one);
            usleep(1000);
        }
    MUST(io_destroy(ctx) == 0);
    close(fd);
}

/* ---- One that hangs ---- */

static void beside_frozen(int frozen)
{
    static char buffers[4][PAGE];
    struct iocb hangs, cbs[4], *list[4], *one = &hangs;
    struct timespec shortly = { 0, 100000000 }, none = { 0, 0 };
    struct io_event ev[ROOM];
    int fd = open("/dev/shm", O_TMPFILE | O_RDWR, 0600);
    double since;

    MUST(fd >= 0 && ftruncate(fd, 4 * PAGE) == 0);
    setup();
    io_prep_pwrite(&hangs, frozen, buffers[0], PAGE, 0);
    submit_all(ctx, 1, &one);
    /* Nothing else: with a timeout, that is when it ends. */
    for (long min = 0; min <= 1; min++) {
        since = now();
        MUST(io_getevents(ctx, min, ROOM, ev, &shortly) == 0);
        MUST(now() - since >= 0.099);
    }
    MUST(io_getevents(ctx, 0, ROOM, ev, &none) == 0);
    for (int round = 0; round < 40; round++) {
        int left = 4;

        for (int i = 0; i < 4; i++)
            io_prep_pread(list[i] = &cbs[i], fd, buffers[i], PAGE, (long long)i * PAGE);
        submit_all(ctx, 4, list);
        while (left > 0) {
            struct timespec long_time = { LIMIT, 0 };
            int min = round % 4 == 0 ? left : round % 2;
            int got = io_getevents(ctx, min, ROOM, ev, round % 3 == 0 ? NULL : &long_time);

            MUST(got >= min && got <= left && (got > 0 || min == 0));
            for (int i = 0; i < got; i++)
                MUST(ev[i].obj != &hangs && (long)ev[i].res == PAGE);
            left -= got;
        }
    }
}

static void hanging(void)
{
    int file = file_of("frozen", 1), root = open(dir, O_RDONLY), status = 0;
    double since;
    pid_t child;
    /* The child's end has to wait for the thaw. */
    atomic_bool *done = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    MUST(done != MAP_FAILED);
    MUST(fsync(file) == 0);
    if (submit_waits()) {
        printf("io_submit itself would hang: left out\n");
        return;
    }
    if (geteuid() != 0 || ioctl(root, FIFREEZE, 0) != 0) {
        printf("nothing can be frozen: left out\n");
        return;
    }
    fflush(stdout);
    child = fork();
    if (child == 0) {
        beside_frozen(file);
        *done = true;
        _exit(0);
    }
    for (since = now(); child > 0 && !*done && now() - since < LIMIT / 2;)
        usleep(1000);
    if (child > 0 && !*done)
        kill(child, SIGKILL);
    MUST(ioctl(root, FITHAW, 0) == 0);
    MUST(child > 0 && waitpid(child, &status, 0) == child);
    if (!*done) {
        fprintf(stderr, "beside a write that hangs, others wait for it, too\n");
        _exit(1);
    }
}

int main(int argc, char **argv)
{
    MUST(argc >= 2);
    dir = argv[1];
    two(1);
    two(0);
    hanging();
    return 0;
}
