/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * io_ring2_peek() and io_ring2_consume(): one consumer reads events where they are, attributes included, in order, across the
 * wrap of the ring, and beside overflow; an event stays as it is until it is consumed; nonsense in the header is -EIO.
 */
#include "test.h"

static uint64_t submitted;

static void submit_nops(io_context2_t ctx, int n)
{
    for (int i = 0; i < n; i++) {
        union iocb_room request;

        io_prep2_nop(&request.iocb);
        request.iocb.data = submitted++;
        for (uint64_t attr = 0; attr < request.iocb.data % 5; attr++)
            CHECK(iocb2_add_attr(&request.iocb, (uint16_t)(0x8000 + attr), 0, request.iocb.data, NULL, 0) != NULL);
        submit_one(ctx, &request.iocb);
    }
}

static void check_event(const struct io_event2 *event, size_t bytes, uint64_t data)
{
    const struct iocb_attr_ret *ret = (const struct iocb_attr_ret *)(event + 1);

    CHECK_EQ(event->data, data);
    CHECK_EQ(bytes, 24 + 16 * (data % 5));
    CHECK_EQ(event->bytes, bytes);
    for (uint64_t i = 0; i < data % 5; i++) {
        CHECK_EQ(ret[i].id, 0x8000 + i);
        CHECK_EQ(ret[i].cookie, data);
        CHECK(io_event2_attr(event, ret[i].id) == &ret[i]);
    }
}

int main(void)
{
    io_context2_t ctx = setup2(4096, 0, 1);
    const char *data = (const char *)ctx + ctx->header_bytes;
    const struct io_event2 *event = NULL;
    union event_room room;
    uint64_t seen = 0;
    uint32_t head;
    uint32_t tail;
    ssize_t bytes;

    CHECK_EQ(CALL(io_ring2_peek(ctx, &event)), 0);
    CHECK(event == NULL);
    for (int round = 0; round < 500; round++) {
        int n = 1 + round % 20;

        submit_nops(ctx, n);
        CHECK_SOON(__atomic_load_n(&ctx->completed, __ATOMIC_ACQUIRE) == submitted);
        for (int i = 0; i < n; i++) {
            const struct io_event2 *again = NULL;

            bytes = CALL(io_ring2_peek(ctx, &event));
            CHECK_CMP(bytes, >, 0);
            /* It is in the ring. */
            CHECK((const char *)event >= data && (const char *)event < data + ctx->ring_bytes);
            CHECK_EQ(CALL(io_ring2_peek(ctx, &again)), bytes);
            CHECK(again == event);
            check_event(event, (size_t)bytes, seen++);
            io_ring2_consume(ctx, bytes);
        }
        CHECK_EQ(CALL(io_ring2_peek(ctx, &event)), 0);
        CHECK(!io_ring2_overflowed(ctx));
    }

    /* More than there is room for: first the events in the ring, the rest by the call, and then from the ring again. */
    submit_nops(ctx, 300);
    CHECK_SOON(__atomic_load_n(&ctx->completed, __ATOMIC_ACQUIRE) == submitted);
    CHECK(io_ring2_overflowed(ctx));
    while (seen < submitted) {
        bytes = CALL(io_ring2_peek(ctx, &event));
        if (bytes > 0) {
            check_event(event, (size_t)bytes, seen++);
            io_ring2_consume(ctx, bytes);
            continue;
        }
        CHECK_EQ(bytes, 0);
        CHECK(io_ring2_overflowed(ctx));
        bytes = CALL(io_getevents2(ctx, 24, &room.event, 120, NULL));
        CHECK_CMP(bytes, >, 0);
        for (const struct io_event2 *one = &room.event; (const unsigned char *)one < room.bytes + bytes; one = io_event2_next(one))
            check_event(one, one->bytes, seen++);
    }
    CHECK_EQ(CALL(io_ring2_peek(ctx, &event)), 0);
    CHECK(!io_ring2_overflowed(ctx));

    /* A corrupt header. */
    head = ctx->head;
    tail = ctx->tail;
    ctx->head = head - 8192;
    CHECK_EQ(CALL(io_ring2_peek(ctx, &event)), -EIO);
    ctx->head = head - 4;
    CHECK_EQ(CALL(io_ring2_peek(ctx, &event)), -EIO);
    ctx->head = head;
    CHECK_EQ(ctx->tail, tail);
    CHECK_EQ(CALL(io_ring2_peek(ctx, &event)), 0);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
