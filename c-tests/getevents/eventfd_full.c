/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A blocking eventfd that is full blocks nothing: no events of this context, no events of another context, no cancellation, and
 * no destruction. (write(2) to it would block.)
 */
#include "test.h"

static void run(io_context2_t ctx, int count)
{
    static unsigned char buf[64 * 24];
    struct iocb2 iocb;

    io_prep2_nop(&iocb);
    for (int i = 0; i < count; i++)
        submit_one(ctx, &iocb);
    (void)get_events(ctx, (size_t)count, buf, sizeof(buf));
}

int main(void)
{
    const eventfd_t full = UINT64_MAX - 1;
    struct io_setup2_params params = params2();
    io_context2_t other = setup2(0, 0, 0);
    io_context2_t ctx = NULL;
    union event_room room;
    struct hold hold;
    struct iocb2 iocb;
    eventfd_t count;
    int flags;

    /* Blocking, and it stays so: its flags are the program's. */
    params.eventfd = eventfd(0, EFD_CLOEXEC);
    CHECK(params.eventfd >= 0);
    params.workers = 1;
    CHECK_EQ(eventfd_write(params.eventfd, full), 0);
    CHECK_EQ(CALL(io_setup2(2, &params, &ctx)), 0);

    for (int i = 0; i < 10; i++) {
        run(ctx, 50);
        run(other, 50);
    }

    hold_submit(ctx, &hold, 1);
    hold_wait_running(1);
    io_prep2_nop(&iocb);
    iocb.data = 2;
    submit_one(ctx, &iocb);
    CHECK_EQ(CALL(io_cancel2(ctx, 2)), 0);
    get_one(ctx, &room.event);
    CHECK_EQ(room.event.res, -ECANCELED);
    hold_release(&hold);
    get_one(ctx, &room.event);
    hold_close(&hold);

    /* Emptied, it counts again. */
    CHECK_EQ(eventfd_read(params.eventfd, &count), 0);
    CHECK_CMP((uint64_t)count >= full, ==, true);
    run(ctx, 1);
    CHECK_EQ(eventfd_read(params.eventfd, &count), 0);
    CHECK_CMP(count, >=, 1);
    CHECK_CMP(count, <=, 50);

    /* Destroyed while it is full and an event is still to come. */
    CHECK_EQ(eventfd_write(params.eventfd, full), 0);
    submit_one(ctx, &iocb);
    submit_one(ctx, &iocb);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    run(other, 50);

    /* One that was non-blocking at setup and is made blocking later: no difference. */
    ctx = NULL;
    CHECK_EQ(eventfd_read(params.eventfd, &count), 0);
    CHECK_EQ(fcntl(params.eventfd, F_SETFL, O_NONBLOCK), 0);
    CHECK_EQ(CALL(io_setup2(2, &params, &ctx)), 0);
    run(ctx, 1);
    CHECK_SOON(eventfd_read(params.eventfd, &count) == 0);
    CHECK_EQ(fcntl(params.eventfd, F_SETFL, 0), 0);
    CHECK_EQ(eventfd_write(params.eventfd, full), 0);
    run(ctx, 50);
    run(other, 50);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);

    flags = fcntl(params.eventfd, F_GETFL);
    CHECK(flags >= 0);
    CHECK_EQ(flags & O_NONBLOCK, 0);
    CHECK_EQ(CALL(io_destroy2(other)), 0);
    return 0;
}
