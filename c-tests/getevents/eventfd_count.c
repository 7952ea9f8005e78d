/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The eventfd: at least 1 is added after events have been published, so that a program that only sleeps on it sees every
 * event; never more than there were events; nothing when nothing was published.
 */
#include "test.h"

enum { MANY = 20000 };

static uint64_t take(int fd)
{
    eventfd_t count = 0;

    if (eventfd_read(fd, &count) != 0) {
        CHECK_EQ(errno, EAGAIN);
        return 0;
    }
    return count;
}

int main(void)
{
    struct io_setup2_params params = params2();
    static unsigned char buf[MANY * 24];
    static struct iocb2 iocbs[100];
    static bool seen[MANY];
    io_context2_t ctx = NULL;
    struct pollfd ready;
    struct hold hold;
    uint64_t submitted = 0;
    uint64_t reaped = 0;
    uint64_t total = 0;

    params.eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK(params.eventfd >= 0);
    ready.fd = params.eventfd;
    ready.events = POLLIN;
    CHECK_EQ(CALL(io_setup2(2, &params, &ctx)), 0);
    for (int i = 0; i < 100; i++)
        io_prep2_nop(&iocbs[i]);

    /* Submitting alone adds nothing. */
    hold_submit(ctx, &hold, 0);
    hold_wait_running(1);
    CHECK_EQ(poll(&ready, 1, 100), 0);
    CHECK_EQ(take(params.eventfd), 0);
    /* One event: exactly one. */
    hold_release(&hold);
    CHECK_EQ(poll(&ready, 1, 10000), 1);
    CHECK_EQ(CALL(io_getevents2(ctx, 0, (struct io_event2 *)(void *)buf, sizeof(buf), NULL)), 24);
    sleep_ms(50);
    CHECK_EQ(take(params.eventfd), 1);
    CHECK_EQ(take(params.eventfd), 0);
    hold_close(&hold);

    /* One at a time: it is readable each time. */
    for (uint64_t i = 0; i < 500; i++) {
        uint64_t count;

        submit_one(ctx, &iocbs[0]);
        CHECK_EQ(poll(&ready, 1, 10000), 1);
        count = take(params.eventfd);
        CHECK_EQ(count, 1);
        CHECK_EQ(CALL(io_getevents2(ctx, 0, (struct io_event2 *)(void *)buf, sizeof(buf), NULL)), 24);
    }

    /* Cancelled ones signal, too, and so do those that the library refuses. */
    CHECK_EQ(poll(&ready, 1, 0), 0);
    io_prep2_syscall(&iocbs[0], SYS_exit_group, 1, 0, 0, 0, 0, 0);
    submit_one(ctx, &iocbs[0]);
    CHECK_EQ(poll(&ready, 1, 10000), 1);
    CHECK_EQ(take(params.eventfd), 1);
    CHECK_EQ(CALL(io_getevents2(ctx, 0, (struct io_event2 *)(void *)buf, sizeof(buf), NULL)), 24);
    io_prep2_nop(&iocbs[0]);

    /* Batches, driven by the eventfd alone: no event is missed, and there are no more signals than events. */
    while (reaped < MANY) {
        ssize_t got;

        if (submitted < MANY) {
            for (int i = 0; i < 100; i++)
                iocbs[i].data = submitted + (uint64_t)i;
            submit_all(ctx, iocbs, sizeof(iocbs));
            submitted += 100;
        }
        if (poll(&ready, 1, 10000) != 1)
            FAIL("asleep with %" PRIu64 " events submitted and %" PRIu64 " reaped", submitted, reaped);
        total += take(params.eventfd);
        do {
            got = (ssize_t)CALL(io_getevents2(ctx, 0, (struct io_event2 *)(void *)buf, 50 * 24, NULL));
            CHECK_CMP(got, >=, 0);
            for (ssize_t at = 0; at < got; at += 24) {
                const struct io_event2 *event = (const struct io_event2 *)(const void *)(buf + at);

                CHECK_CMP(event->data, <, MANY);
                CHECK(!seen[event->data]);
                seen[event->data] = true;
                reaped++;
            }
        } while (got > 0);
    }
    sleep_ms(50);
    total += take(params.eventfd);
    CHECK_EQ(reaped, MANY);
    CHECK_CMP(total, >=, 1);
    CHECK_CMP(total, <=, MANY);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    CHECK_EQ(take(params.eventfd), 0);
    return 0;
}
