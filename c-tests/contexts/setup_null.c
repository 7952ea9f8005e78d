/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* io_setup2() without params makes a context with the defaults; without a place for the handle it is -EFAULT. */
/* with any engine the same */
#include "test.h"

int main(void)
{
    struct io_setup2_params params = params2();
    io_context2_t ctx = NULL;
    union event_room room;
    struct iocb2 iocb;

    CHECK_EQ(CALL(io_setup2(2, NULL, NULL)), -EFAULT);
    CHECK_EQ(CALL(io_setup2(2, &params, NULL)), -EFAULT);

    CHECK_EQ(CALL(io_setup2(2, NULL, &ctx)), 0);
    CHECK(ctx != NULL);
    CHECK_EQ(ctx->ring_bytes, 64 * 1024);
    io_prep2_nop(&iocb);
    iocb.data = 77;
    submit_one(ctx, &iocb);
    get_one(ctx, &room.event);
    CHECK_EQ(room.event.data, 77);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
