/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The ring's header as io_setup2() leaves it: the fixed fields, zero counters, zero wherever it is reserved; ids are never reused. */
#include "test.h"

static void check(io_context2_t ctx, const struct io_setup2_params *params)
{
    const unsigned char *bytes = (const unsigned char *)ctx;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    CHECK_EQ((uintptr_t)ctx % page, 0);
    CHECK_EQ(ctx->magic, 0xa10a10a2);
    CHECK_EQ(ctx->version, 2);
    CHECK_EQ(ctx->ring_bytes, params->ring_bytes);
    CHECK_EQ(ctx->features, params->features);
    CHECK((ctx->features & IO_FEAT2_ATTR_TIMING) != 0);
    CHECK(ctx->id != 0);
    /* The data area can only be mapped twice if it begins at a page. */
    CHECK_CMP(ctx->header_bytes, >=, page);
    CHECK_EQ(ctx->header_bytes % page, 0);

    CHECK_EQ(ctx->tail, 0);
    CHECK_EQ(ctx->flags, 0);
    CHECK_EQ(ctx->submitted, 0);
    CHECK_EQ(ctx->completed, 0);
    CHECK_EQ(ctx->overflowed, 0);
    CHECK_EQ(ctx->head, 0);

    for (size_t at = 32; at < 64; at++)
        CHECK_EQ(bytes[at], 0);
    for (size_t at = 96; at < 128; at++)
        CHECK_EQ(bytes[at], 0);
    for (size_t at = 132; at < ctx->header_bytes; at++)
        CHECK_EQ(bytes[at], 0);
}

int main(void)
{
    enum { COUNT = 50 };
    uint64_t ids[2 * COUNT];
    io_context2_t live[COUNT];
    size_t seen = 0;

    /* The second round finds addresses that the first gave back. */
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < COUNT; i++) {
            struct io_setup2_params params = params2();

            live[i] = NULL;
            params.ring_bytes = 4096u << (i % 5);
            CHECK_EQ(CALL(io_setup2(2, &params, &live[i])), 0);
            check(live[i], &params);
            for (size_t k = 0; k < seen; k++)
                CHECK(ids[k] != live[i]->id);
            ids[seen++] = live[i]->id;
        }
        for (int i = 0; i < COUNT; i++)
            CHECK_EQ(CALL(io_destroy2(live[i])), 0);
    }
    return 0;
}
