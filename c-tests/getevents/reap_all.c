/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * io_ring2_reap_all(): a thread that waits for the eventfd alone and then calls it gets every event once and in order,
 * including those of the overflow list and of requests that are submitted meanwhile. errno does not change; errors are
 * returned.
 */
#include "test.h"

static io_context2_t ctx;
static uint64_t submitted;
static uint64_t seen;
static uint64_t more;

static void submit_nop(void)
{
    struct iocb2_room request;

    io_prep2_nop(&request.iocb);
    request.iocb.data = submitted++;
    CHECK(submitted % 3 != 0 || iocb2_add_timing(&request, 0) != NULL);
    submit_one(ctx, &request.iocb);
}

static void see(const struct io_event2 *event, void *arg)
{
    CHECK(arg == &seen);
    CHECK_EQ(event->data, seen);
    CHECK((io_event2_timing(event) != NULL) == ((event->data + 1) % 3 == 0));
    seen++;
    if (more != 0) {
        more--;
        submit_nop();
    }
}

int main(void)
{
    struct io_setup2_params params = params2();
    int efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct pollfd readable = { .fd = efd, .events = POLLIN };

    params.ring_bytes = 4096;
    params.workers = 1; /* in order */
    params.eventfd = efd;
    CHECK_EQ(CALL(io_setup2(IO_SETUP2_VERSION, &params, &ctx)), 0);

    /* Nothing there, and the eventfd not readable: that is no error. */
    errno = 123;
    CHECK_EQ(io_ring2_reap_all(ctx, efd, see, &seen), 0);
    CHECK_EQ(errno, 123);
    CHECK_EQ(io_ring2_reap_all(ctx, -1, see, &seen), 0);

    for (int round = 0; round < 20; round++) {
        uint64_t before = submitted;

        for (int i = 0; i < 1 + 40 * round; i++)
            submit_nop();
        more = 50;
        if (round % 2 == 0)
            CHECK_SOON(__atomic_load_n(&ctx->completed, __ATOMIC_ACQUIRE) == submitted);
        while (seen != before + 51 + 40 * (uint64_t)round) {
            uint64_t now = seen;
            ssize_t events;

            CHECK_EQ(poll(&readable, 1, PATIENCE_S * 1000), 1);
            events = CALL(io_ring2_reap_all(ctx, efd, see, &seen));
            CHECK_EQ(events, seen - now);
        }
    }
    CHECK_CMP(__atomic_load_n(&ctx->overflowed, __ATOMIC_ACQUIRE), >, 0);
    expect_no_event(ctx, 0);

    errno = 123;
    CHECK_EQ(io_ring2_reap_all(ctx, 1 << 20, see, &seen), -EBADF);
    CHECK_EQ(errno, 123);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    CHECK_EQ(io_ring2_reap_all(ctx, -1, see, &seen), -EINVAL);
    return 0;
}
