/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The data area is mapped twice in a row: an event that lies across the end of the ring is contiguous for
 * a reader, and both views show the same memory.
 */
#include "test.h"

int main(void)
{
    const uint32_t page = (uint32_t)sysconf(_SC_PAGESIZE);
    io_context2_t ctx = setup2(page, 0, 1);
    const unsigned char *data = (const unsigned char *)ctx + ctx->header_bytes;
    union event_room room;
    struct iocb2 iocb;
    bool across = false;

    CHECK_EQ(ctx->ring_bytes, page);
    io_prep2_nop(&iocb);
    /* 24 does not divide the page: of every few hundred events one lies across the end. */
    for (uint64_t i = 0; i < 2000; i++) {
        const uint32_t at = ctx->head & (page - 1);
        const struct io_event2 *in_ring = (const struct io_event2 *)(const void *)(data + at);

        iocb.data = i;
        submit_one(ctx, &iocb);
        CHECK_SOON(__atomic_load_n(&ctx->tail, __ATOMIC_ACQUIRE) != ctx->head);
        CHECK_EQ(in_ring->bytes, 24);
        CHECK_EQ(in_ring->data, i);
        CHECK_EQ(in_ring->res, 0);
        if (at + 24 > page) {
            /* Its end is at the beginning of the first view, too. */
            CHECK_MEM(data + page, data, at + 24 - page);
            across = true;
        }
        CHECK_MEM(data + page + at % (page - 24), data + at % (page - 24), 24);
        CHECK_EQ(io_ring2_reap(ctx, &room.event, sizeof(room)), 24);
        CHECK_EQ(room.event.data, i);
    }
    CHECK(across);
    CHECK_MEM(data, data + page, page);
    CHECK_EQ(ctx->tail, 2000 * 24);
    CHECK_EQ(ctx->head, 2000 * 24);
    CHECK_EQ(ctx->overflowed, 0);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
