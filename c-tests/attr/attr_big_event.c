/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An event larger than the whole ring is not lost: it comes through the overflow list, in its order. */
#include "test.h"

int main(void)
{
    io_context2_t ctx = setup2(4096, 0, 1);
    union iocb_room request;
    union event_room room;
    struct iocb2 small;
    const size_t big = 24 + 40 + 255 * 16;

    CHECK_EQ(ctx->ring_bytes, 4096);
    io_prep2_nop(&small);
    io_prep2_nop(&request.iocb);
    request.iocb.data = 1;
    CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_TIMING, 0, 0, NULL, 0) != NULL);
    for (uint64_t i = 1; i < 256; i++)
        CHECK(iocb2_add_attr(&request.iocb, 0x8000, 0, i, NULL, 0) != NULL);
    CHECK_CMP(big, >, ctx->ring_bytes);

    for (int round = 0; round < 20; round++) {
        const uint64_t before = ctx->overflowed;

        small.data = 0;
        submit_one(ctx, &small);
        submit_one(ctx, &request.iocb);
        small.data = 2;
        submit_one(ctx, &small);
        CHECK_SOON(__atomic_load_n(&ctx->completed, __ATOMIC_ACQUIRE) == ((uint64_t)round + 1) * 3);
        CHECK_CMP(ctx->overflowed, >, before);
        CHECK((ctx->flags & IO_RING2_OVERFLOW) != 0);

        CHECK_EQ(CALL(io_getevents2(ctx, 0, &room.event, 24, NULL)), 24);
        CHECK_EQ(room.event.data, 0);
        /* It stays for as long as it does not fit. */
        CHECK_EQ(CALL(io_getevents2(ctx, 0, &room.event, big - 8, NULL)), -ENOBUFS);
        CHECK_EQ(io_ring2_reap(ctx, &room.event, sizeof(room)), 0);
        CHECK(io_ring2_overflowed(ctx));
        CHECK_EQ(CALL(io_getevents2(ctx, 0, &room.event, big, NULL)), big);
        CHECK_EQ(room.event.data, 1);
        CHECK_EQ(room.event.bytes, big);
        CHECK_EQ(((struct iocb_attr_ret *)(void *)(room.bytes + big - 16))->cookie, 255);
        CHECK_EQ(CALL(io_getevents2(ctx, 0, &room.event, 24, NULL)), 24);
        CHECK_EQ(room.event.data, 2);
        CHECK(!io_ring2_overflowed(ctx));
        expect_no_event(ctx, 0);
    }
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
