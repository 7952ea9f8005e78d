/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Every attribute gets a return, known or not, in the order of the request and with its cookie: none, one,
 * several with payloads, all unassigned numbers, and 4096 bytes of them; the request runs.
 */
#include "test.h"

static union iocb_room request;
static union event_room completion;
static struct iocb2 *const iocb = &request.iocb;
static struct io_event2 *const event = &completion.event;
static io_context2_t ctx;

/* What the request asks for, to compare with what comes back. */
struct asked {
    uint16_t id;
    uint64_t cookie;
} asked[256];
static size_t asked_count;

static void start(void)
{
    io_prep2_nop(iocb);
    iocb->data = UINT64_C(0xfedcba9876543210);
    asked_count = 0;
}

static void add(uint16_t id, uint64_t cookie, size_t payload_bytes)
{
    unsigned char payload[IOCB2_ATTR_BYTES_MAX];

    memset(payload, 0xee, sizeof(payload));
    CHECK(iocb2_add_attr(iocb, id, 0, cookie, payload, payload_bytes) != NULL);
    asked[asked_count].id = id;
    asked[asked_count].cookie = cookie;
    asked_count++;
}

/* Compares every return. TIMING, if it is there, is handled and has its payload; all others are unknown. */
static void check_event(size_t bytes)
{
    const unsigned char *at = (const unsigned char *)(event + 1);

    CHECK_EQ(event->bytes, bytes);
    CHECK_EQ(event->flags, 0);
    CHECK_EQ(event->data, UINT64_C(0xfedcba9876543210));
    CHECK_EQ(event->res, 0);
    for (size_t i = 0; i < asked_count; i++) {
        const struct iocb_attr_ret *ret = (const struct iocb_attr_ret *)(const void *)at;

        CHECK_EQ(ret->id, asked[i].id);
        CHECK_EQ(ret->cookie, asked[i].cookie);
        if (ret->id == IOCB_ATTR_TIMING) {
            CHECK_EQ(ret->ret, 0);
            CHECK_EQ(ret->bytes, sizeof(*ret) + sizeof(struct iocb_timing));
        } else {
            CHECK_EQ(ret->ret, -EOPNOTSUPP);
            CHECK_EQ(ret->bytes, sizeof(*ret));
        }
        at += ret->bytes;
    }
    CHECK_EQ(at - (const unsigned char *)event, bytes);
}

static void run(size_t bytes)
{
    memset(&completion, 0xa5, sizeof(completion));
    submit_one(ctx, iocb);
    get_one(ctx, event);
    check_event(bytes);
    CHECK_EQ(completion.bytes[bytes], 0xa5);

    memset(&completion, 0xa5, sizeof(completion));
    CHECK_EQ(CALL(io_issue2(iocb, event, bytes)), bytes);
    check_event(bytes);
    CHECK_EQ(completion.bytes[bytes], 0xa5);
}

int main(void)
{
    ctx = setup2(0, 0, 0);

    start();
    run(24);

    start();
    add(0x8000, 1, 0);
    run(24 + 16);

    start();
    add(IOCB_ATTR_TIMING, UINT64_MAX, 0);
    run(24 + 40);

    /* A known one first, in the middle, last. */
    for (int place = 0; place < 4; place++) {
        start();
        for (int i = 0; i < 4; i++) {
            if (i == place)
                add(IOCB_ATTR_TIMING, (uint64_t)i << 40, 0);
            else
                add((uint16_t)(0x9000 + i), (uint64_t)i << 40, (size_t)i * 8);
        }
        run(24 + 40 + 3 * 16);
    }

    /* The same unknown attribute may appear twice. */
    start();
    add(0x8000, 1, 8);
    add(0x8000, 2, 0);
    run(24 + 2 * 16);

    /* Every number that this library does not handle: the features say which. */
    start();
    add(0, 100, 0);
    for (uint16_t id = 2; id < 64; id++) {
        if (id > 31 || (ctx->features & (UINT64_C(1) << id)) == 0)
            add(id, 100u + id, 0);
    }
    add(0x7fff, 7, 0);
    add(0x8000, 8, 0);
    add(0xffff, 9, 0);
    run(24 + asked_count * 16);

    /* 4096 bytes: many small ones, one large, and with the known one among them. */
    start();
    for (uint16_t i = 0; i < 256; i++)
        add((uint16_t)(0x8000 + i), i, 0);
    run(24 + 256 * 16);

    start();
    add(0xabcd, 3, IOCB2_ATTR_BYTES_MAX - 16);
    run(24 + 16);

    start();
    for (uint16_t i = 0; i < 256; i++)
        add(i == 200 ? IOCB_ATTR_TIMING : (uint16_t)(0xc000 + i), i, 0);
    run(24 + 255 * 16 + 40);

    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
