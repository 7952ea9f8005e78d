/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An event that does not fit stays: -ENOBUFS as often as it is asked, nothing is written, and it comes with enough room. */
#include "test.h"

int main(void)
{
    io_context2_t ctx = setup2(0, 0, 1);
    struct timespec zero = { 0, 0 };
    struct timespec minute = { 60, 0 };
    union iocb_room request;
    union event_room room;
    const size_t bytes = 24 + 2 * 16;
    int64_t began;

    io_prep2_nop(&request.iocb);
    request.iocb.data = 99;
    CHECK(iocb2_add_attr(&request.iocb, 0x8000, 0, 1, NULL, 0) != NULL);
    CHECK(iocb2_add_attr(&request.iocb, 0x8001, 0, 2, NULL, 0) != NULL);
    submit_one(ctx, &request.iocb);
    io_prep2_nop(&request.iocb);
    request.iocb.data = 100;
    submit_one(ctx, &request.iocb);
    CHECK_SOON(__atomic_load_n(&ctx->completed, __ATOMIC_ACQUIRE) == 2);

    began = now_ns();
    for (size_t n = 0; n < bytes; n++) {
        memset(&room, 0xa5, sizeof(room));
        CHECK_EQ(CALL(io_getevents2(ctx, 0, &room.event, n, NULL)), -ENOBUFS);
        CHECK_EQ(CALL(io_getevents2(ctx, n, &room.event, n, NULL)), -ENOBUFS);
        CHECK_EQ(CALL(io_getevents2(ctx, n, &room.event, n, &zero)), -ENOBUFS);
        CHECK_EQ(CALL(io_getevents2(ctx, n, &room.event, n, &minute)), -ENOBUFS);
        CHECK_EQ(CALL(io_pgetevents2(ctx, n, &room.event, n, &minute, NULL)), -ENOBUFS);
        if (n >= 24)
            CHECK_EQ(io_ring2_reap(ctx, &room.event, n), -ENOBUFS);
        for (size_t i = n; i < bytes; i++)
            CHECK_EQ(room.bytes[i], 0xa5);
        CHECK_EQ(ctx->head, 0);
    }
    CHECK_EQ(io_ring2_reap(ctx, &room.event, 0), -ENOBUFS);
    CHECK_CMP(now_ns() - began, <, PATIENCE_NS);

    CHECK_EQ(CALL(io_getevents2(ctx, 0, &room.event, bytes, NULL)), bytes);
    CHECK_EQ(room.event.data, 99);
    CHECK_EQ(room.event.bytes, bytes);
    CHECK_EQ(io_event2_attr(&room.event, 0x8001)->cookie, 2);
    CHECK_EQ(io_ring2_reap(ctx, &room.event, 23), -ENOBUFS);
    CHECK_EQ(io_ring2_reap(ctx, &room.event, 24), 24);
    CHECK_EQ(room.event.data, 100);
    CHECK_EQ(io_ring2_reap(ctx, &room.event, 24), 0);
    CHECK_EQ(CALL(io_getevents2(ctx, 0, &room.event, 0, NULL)), 0);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
