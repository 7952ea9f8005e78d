/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The eventfd is signalled for events that go to the overflow list, too. */
#include "test.h"

int main(void)
{
    struct io_setup2_params params = params2();
    static unsigned char buf[1000 * 24];
    io_context2_t ctx = NULL;
    struct pollfd ready;
    struct iocb2 iocb;
    eventfd_t count;

    params.eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    params.ring_bytes = 4096;
    CHECK(params.eventfd >= 0);
    ready.fd = params.eventfd;
    ready.events = POLLIN;
    CHECK_EQ(CALL(io_setup2(2, &params, &ctx)), 0);
    io_prep2_nop(&iocb);
    for (int i = 0; i < 1000; i++) {
        submit_one(ctx, &iocb);
        CHECK_EQ(poll(&ready, 1, 10000), 1);
        CHECK_EQ(eventfd_read(params.eventfd, &count), 0);
    }
    CHECK_EQ(ctx->overflowed, 1000 - 4096 / 24);
    (void)get_events(ctx, 1000, buf, sizeof(buf));
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
