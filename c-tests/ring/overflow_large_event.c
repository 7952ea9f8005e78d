/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * An event that is larger than the whole ring arrives, in its place in the order, between events before
 * and behind it; in user space a reaper is led to io_getevents2, and a buffer too small gets -ENOBUFS
 * and loses nothing.
 */
#include "test.h"
#include "stress.h"

#define ATTRIBUTES (IOCB2_ATTR_BYTES_MAX / (int)sizeof(struct iocb_attr))
#define LARGE_BYTES (sizeof(struct io_event2) + ATTRIBUTES * sizeof(struct iocb_attr_ret))

static void submit_large(io_context2_t ctx, uint64_t data)
{
    union iocb_room room;

    io_prep2_nop(&room.iocb);
    room.iocb.data = data;
    for (int i = 0; i < ATTRIBUTES; i++)
        CHECK(iocb2_add_attr(&room.iocb, (uint16_t)(0x8000 + i), 0, data + (uint64_t)i, NULL, 0) != NULL);
    CHECK_EQ(room.iocb.bytes, sizeof(room));
    submit_one(ctx, &room.iocb);
}

static void check_large(const struct io_event2 *event, uint64_t data)
{
    const struct iocb_attr_ret *ret = (const struct iocb_attr_ret *)(const void *)(event + 1);

    CHECK_EQ(event->bytes, LARGE_BYTES);
    CHECK_EQ(event->data, data);
    CHECK_EQ(event->res, 0);
    for (int i = 0; i < ATTRIBUTES; i++) {
        CHECK_EQ(ret[i].bytes, sizeof(*ret));
        CHECK_EQ(ret[i].id, 0x8000 + i);
        CHECK_EQ(ret[i].ret, -EOPNOTSUPP);
        CHECK_EQ(ret[i].cookie, data + (uint64_t)i);
    }
}

static void submit_nop(io_context2_t ctx, uint64_t data)
{
    submit_nops(ctx, data, 1);
}

int main(void)
{
    io_context2_t ctx = setup2(4096, 0, 1);
    struct timespec limit = { .tv_sec = PATIENCE_S, .tv_nsec = 0 };
    union event_room room;
    uint64_t n = 0;

    CHECK_CMP(LARGE_BYTES, >, ctx->ring_bytes);

    /* Alone, by io_getevents2. */
    submit_large(ctx, n++);
    get_one(ctx, &room);
    check_large(&room.event, 0);
    CHECK_RING_DRAINED(ctx, n);

    /* Alone, in user space; the ring has nothing, the flag says where to look. */
    submit_large(ctx, n++);
    CHECK_SOON(ring_completed(ctx) == n);
    CHECK_EQ(io_ring2_reap(ctx, &room.event, sizeof(room)), 0);
    CHECK_EQ(io_ring2_overflowed(ctx), 1);
    CHECK_EQ(CALL(io_getevents2(ctx, 0, &room.event, LARGE_BYTES - 8, NULL)), -ENOBUFS);
    CHECK_EQ(io_ring2_overflowed(ctx), 1);
    CHECK_EQ(CALL(io_getevents2(ctx, sizeof(room.event), &room.event, sizeof(room.event), &limit)), -ENOBUFS);
    CHECK_EQ(CALL(io_getevents2(ctx, 0, &room.event, LARGE_BYTES, NULL)), LARGE_BYTES);
    check_large(&room.event, 1);
    CHECK_RING_DRAINED(ctx, n);

    /* Between small ones, thrice; small ones behind it do not overtake it although the ring has room. */
    for (int user_space = 0; user_space < 2; user_space++) {
        uint64_t first = n;
        uint64_t next = first;
        int64_t end = now_ns() + PATIENCE_NS;

        for (int i = 0; i < 3; i++) {
            submit_nop(ctx, n++);
            submit_large(ctx, n++);
            submit_nop(ctx, n++);
        }
        CHECK_SOON(ring_completed(ctx) == n);
        while (next < n) {
            size_t got;

            if (user_space)
                got = reap_user_space(ctx, &room.event, sizeof(room), NULL);
            else
                got = (size_t)CALL(io_getevents2(ctx, 24, &room.event, sizeof(room), &limit));
            for (const struct io_event2 *event = &room.event; (const char *)event < (char *)&room + got;
                 event = io_event2_next(event), next++) {
                CHECK_EQ(event->data, next);
                if ((next - first) % 3 == 1)
                    check_large(event, next);
                else
                    CHECK_EQ(event->bytes, sizeof(*event));
            }
            if (now_ns() > end)
                FAIL("event %" PRIu64 " did not come", next - first);
        }
        CHECK_RING_DRAINED(ctx, n);
    }
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
