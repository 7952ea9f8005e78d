/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* io_setup2() wants *ctx to be NULL: anything else is -EINVAL and stays, a live handle included. */
#include "test.h"

int main(void)
{
    struct io_setup2_params params = params2();
    io_context2_t live = setup2(0, 0, 0);
    io_context2_t ctx = live;
    io_context2_t other = NULL;
    int dummy;

    CHECK_EQ(CALL(io_setup2(2, &params, &ctx)), -EINVAL);
    CHECK(ctx == live);
    CHECK_EQ(CALL(io_setup2(2, NULL, &ctx)), -EINVAL);
    CHECK(ctx == live);
    /* The context in it was not harmed. */
    CHECK_EQ(live->magic, IO_RING2_MAGIC);
    CHECK_EQ(CALL(io_destroy2(live)), 0);

    CHECK_EQ(CALL(io_setup2(2, &params, &ctx)), -EINVAL);
    CHECK(ctx == live);
    ctx = (io_context2_t)(void *)&dummy;
    CHECK_EQ(CALL(io_setup2(2, &params, &ctx)), -EINVAL);
    ctx = (io_context2_t)(uintptr_t)1;
    CHECK_EQ(CALL(io_setup2(2, &params, &ctx)), -EINVAL);
    CHECK_EQ((uintptr_t)ctx, 1);

    /* A refused setup leaves nothing behind that would stop the next. */
    CHECK_EQ(CALL(io_setup2(2, &params, &other)), 0);
    CHECK_EQ(CALL(io_destroy2(other)), 0);
    return 0;
}
