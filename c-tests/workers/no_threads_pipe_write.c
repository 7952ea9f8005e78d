/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Without threads, a write that does not fit into a pipe does not block the caller that waits: the timeout works, other
 * requests are carried out, and so is the write as soon as there is a thread.
 */
#include "test.h"
#include "stress.h"
#include "thread_hook.h"

#define BYTES (1024 * 1024)

static char data[BYTES];
static char found[BYTES];

static void *reader(void *arg)
{
    size_t size = 0;

    while (size < BYTES) {
        ssize_t n = read(*(int *)arg, found + size, BYTES - size);

        CHECK_CMP(n, >, 0);
        size += (size_t)n;
    }
    return NULL;
}

int main(void)
{
    io_context2_t ctx = setup2(4096, 0, 0);
    struct timespec timeout = timespec_ns(100 * NSEC_PER_MSEC);
    struct iovec iov = { .iov_base = data, .iov_len = BYTES };
    union event_room room;
    struct iocb2 iocb;
    pthread_t thread;
    int ends[2];

    allowed = 0;
    fill_pattern(data, BYTES, 0, 1);
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    io_prep2_pwritev2(&iocb, ends[1], &iov, 1, -1, 0);
    iocb.data = 1;
    submit_one(ctx, &iocb);
    CHECK_EQ(CALL(io_getevents2(ctx, sizeof(room.event), &room.event, sizeof(room), &timeout)), 0);
    submit_nops(ctx, 2, 1);
    get_one(ctx, &room);
    CHECK_EQ(room.event.data, 2);

    /* One for the reader, one for the library: such a write needs a thread of its own. */
    allowed = 2;
    thread = thread_start(reader, &ends[0]);
    get_one(ctx, &room);
    CHECK_EQ(room.event.data, 1);
    CHECK_EQ(room.event.res, BYTES);
    thread_join(thread);
    CHECK_MEM(found, data, BYTES);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
