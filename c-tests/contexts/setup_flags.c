/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* io_setup2() refuses every flag and every bit in the reserved fields with -EINVAL; features is not an input. */
/* with any engine the same */
#include "test.h"

int main(void)
{
    for (int bit = 0; bit < 32; bit++) {
        struct io_setup2_params params = params2();
        io_context2_t ctx = NULL;

        params.flags = UINT32_C(1) << bit;
        CHECK_EQ(CALL(io_setup2(2, &params, &ctx)), -EINVAL);
        CHECK(ctx == NULL);
    }
    for (int word = 0; word < 4; word++) {
        for (int bit = 0; bit < 64; bit++) {
            struct io_setup2_params params = params2();
            io_context2_t ctx = NULL;

            params.reserved[word] = UINT64_C(1) << bit;
            CHECK_EQ(CALL(io_setup2(2, &params, &ctx)), -EINVAL);
            CHECK(ctx == NULL);
        }
    }

    struct io_setup2_params params = params2();
    io_context2_t ctx = NULL;

    params.features = UINT64_MAX;
    CHECK_EQ(CALL(io_setup2(2, &params, &ctx)), 0);
    CHECK_EQ(params.features, ctx->features);
    CHECK(params.features != UINT64_MAX);
    CHECK((params.features & IO_FEAT2_ATTR_TIMING) != 0);
    /* Bit 0 stands for no attribute. */
    CHECK((params.features & 1) == 0);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
