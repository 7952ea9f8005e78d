/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * io_submit()'s requests for one stream are carried out one after another, in the order of submission, also if no memory can be
 * had: the links by which they wait for each other are in the requests. (Two writes at a time to one pipe, longer than its
 * capacity, would mix their bytes.)
 */
#include "test.h"
#include "alloc_hook.h"
/* It has what libaio's has. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#include <aio2/libaio.h>
#pragma GCC diagnostic pop

#define PIPES 16
#define WRITES 8
#define BYTES 100000

static int ends[PIPES][2];
static unsigned char data[WRITES][BYTES];
static unsigned char got[BYTES];

/*
 * Reads all that is written to each, and checks that it comes in order. From each as it comes: if there are too few workers, io_submit()
 * makes a write itself, as the kernel's does.
 */
static void *reads(void *unused)
{
    struct pollfd all[PIPES];
    size_t at[PIPES] = { 0 };

    for (int i = 0; i < PIPES; i++)
        all[i] = (struct pollfd){ .fd = ends[i][0], .events = POLLIN };
    for (int left = PIPES; left > 0;) {
        CHECK_CMP(poll(all, PIPES, -1), >, 0);
        for (int i = 0; i < PIPES; i++) {
            if (all[i].revents == 0)
                continue;
            ssize_t n = read(all[i].fd, got, sizeof(got));

            CHECK_CMP(n, >, 0);
            for (ssize_t j = 0; j < n; j++, at[i]++)
                CHECK_EQ(got[j], at[i] / BYTES);
            if (at[i] == (size_t)WRITES * BYTES) {
                all[i].fd = -1;
                left--;
            }
        }
    }
    return unused;
}

#define REQUESTS (PIPES * WRITES)

/* Submits requests, and takes their events, each of which has moved so much; `armed`: without memory. */
static void run(io_context_t ctx, struct iocb iocbs[REQUESTS], unsigned long bytes, bool armed)
{
    static struct io_event events[REQUESTS];
    struct iocb *list[REQUESTS];
    int submitted = 0, taken = 0;

    for (int i = 0; i < REQUESTS; i++)
        list[i] = &iocbs[i];
    if (armed)
        alloc_arm(1, 1);
    while (taken < REQUESTS) {
        int more = submitted == REQUESTS ? 0 : io_submit(ctx, REQUESTS - submitted, list + submitted);

        CHECK(more >= 0 || more == -EAGAIN);
        submitted += more > 0 ? more : 0;
        more = io_getevents(ctx, submitted == REQUESTS, REQUESTS - taken, events + taken, NULL);
        CHECK_CMP(more, >=, 0);
        taken += more;
    }
    alloc_disarm();
    for (int i = 0; i < REQUESTS; i++)
        CHECK_EQ(events[i].res, bytes);
}

/* Writes to all of them, with the first write of each first. */
static void write_all(io_context_t ctx, bool armed)
{
    static struct iocb iocbs[REQUESTS];
    pthread_t reader;

    for (int i = 0; i < REQUESTS; i++)
        io_prep_pwrite(&iocbs[i], ends[i % PIPES][1], data[i / PIPES], BYTES, 0);
    CHECK_EQ(pthread_create(&reader, NULL, reads, NULL), 0);
    run(ctx, iocbs, BYTES, armed);
    CHECK_EQ(pthread_join(reader, NULL), 0);
}

/* From now on the context has places for as many requests. */
static void read_file(io_context_t ctx)
{
    static struct iocb iocbs[REQUESTS];
    static char byte[REQUESTS];
    int file = temp_pattern_file(REQUESTS, 1, 0);

    for (int i = 0; i < REQUESTS; i++)
        io_prep_pread(&iocbs[i], file, &byte[i], 1, i);
    run(ctx, iocbs, 1, false);
    close(file);
}

int main(void)
{
    io_context_t ctx = NULL, fresh = NULL;

    for (int i = 0; i < WRITES; i++)
        memset(data[i], i, BYTES);
    for (int i = 0; i < PIPES; i++)
        CHECK_EQ(pipe2(ends[i], O_CLOEXEC), 0);
    CHECK_EQ(io_setup(REQUESTS, &ctx), 0);
    CHECK_EQ(io_setup(REQUESTS, &fresh), 0);
    read_file(fresh);
    /* From now on there are threads. */
    write_all(ctx, false);
    write_all(ctx, true);
    /* Where none of these has been before. */
    write_all(fresh, true);
    CHECK_EQ(io_destroy(ctx), 0);
    CHECK_EQ(io_destroy(fresh), 0);
    return 0;
}
