/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * An attribute that is not handled stops its request only if it is marked REQUIRED: then the system call is
 * not made, `res` says why, and every attribute still has its return.
 */
#include "test.h"

static union iocb_room request;
static union event_room room;
static struct iocb2 *const iocb = &request.iocb;
static io_context2_t ctx;
static char byte;
static int fd;

static void start(char value)
{
    byte = value;
    CHECK_EQ(pwrite(fd, "-", 1, 0), 1);
    io_prep2_pwrite(iocb, fd, &byte, 1, 0);
    iocb->data = (uint64_t)value;
}

static const struct iocb_attr_ret *ret_at(size_t index)
{
    const unsigned char *at = (const unsigned char *)(&room.event + 1);

    while (index-- > 0)
        at += ((const struct iocb_attr_ret *)(const void *)at)->bytes;
    CHECK(at < room.bytes + room.event.bytes);
    return (const struct iocb_attr_ret *)(const void *)at;
}

/* Through the ring, and by io_issue2. */
static void run(int64_t res, const int32_t *rets, size_t count)
{
    for (int issue = 0; issue < 2; issue++) {
        char seen;

        CHECK_EQ(pwrite(fd, "-", 1, 0), 1);
        memset(&room, 0xa5, sizeof(room));
        if (issue) {
            CHECK_CMP(CALL(io_issue2(iocb, &room.event, sizeof(room))), >=, 24);
        } else {
            submit_one(ctx, iocb);
            get_one(ctx, &room.event);
        }
        CHECK_EQ(room.event.data, (uint64_t)byte);
        CHECK_EQ(room.event.res, res);
        CHECK_EQ(pread(fd, &seen, 1, 0), 1);
        CHECK_EQ(seen, res == 1 ? byte : '-');
        for (size_t i = 0; i < count; i++) {
            const struct iocb_attr_ret *ret = ret_at(i);

            CHECK_EQ(ret->ret, rets[i]);
            CHECK_EQ(ret->cookie, i + 1);
            CHECK_EQ(ret->bytes, ret->id == IOCB_ATTR_TIMING && ret->ret == 0 ? 40 : 16);
        }
        CHECK_EQ((const unsigned char *)ret_at(count - 1) + ret_at(count - 1)->bytes - room.bytes, room.event.bytes);
    }
}

#define RUN(res, ...)                                              \
    do {                                                           \
        const int32_t rets[] = { __VA_ARGS__ };                    \
        run((res), rets, sizeof(rets) / sizeof(rets[0]));          \
    } while (0)

static void add(uint16_t id, uint32_t flags, uint64_t cookie, size_t payload_bytes)
{
    const uint64_t payload[2] = { 0, 0 };

    CHECK(iocb2_add_attr(iocb, id, flags, cookie, payload, payload_bytes) != NULL);
}

int main(void)
{
    const uint32_t required = IOCB_ATTR_F_REQUIRED;

    fd = temp_file(4096, 0);
    ctx = setup2(0, 0, 0);

    start('a'); /* not known, not required: it runs */
    add(0x8000, 0, 1, 0);
    RUN(1, -EOPNOTSUPP);

    start('b'); /* not known, required: it does not */
    add(0x8000, required, 1, 0);
    RUN(-EOPNOTSUPP, -EOPNOTSUPP);

    start('c'); /* known, required: it runs */
    add(IOCB_ATTR_TIMING, required, 1, 0);
    RUN(1, 0);

    start('d'); /* the second of three is what stops it; TIMING is handled all the same */
    add(IOCB_ATTR_TIMING, required, 1, 0);
    add(0xffff, required, 2, 8);
    add(0x8001, 0, 3, 0);
    RUN(-EOPNOTSUPP, 0, -EOPNOTSUPP, -EOPNOTSUPP);
    {
        const struct iocb_timing *timing = (const struct iocb_timing *)(const void *)(ret_at(0) + 1);

        /* No call was made: both are the time of completion. */
        CHECK_EQ(timing->start_ns, timing->end_ns);
        CHECK_CMP(timing->submit_ns, <=, timing->start_ns);
    }

    start('e'); /* the last of many */
    for (uint64_t i = 1; i < 8; i++)
        add(0x8000, 0, i, 0);
    add(0x8000, required, 8, 0);
    RUN(-EOPNOTSUPP, -EOPNOTSUPP, -EOPNOTSUPP, -EOPNOTSUPP, -EOPNOTSUPP, -EOPNOTSUPP, -EOPNOTSUPP, -EOPNOTSUPP,
        -EOPNOTSUPP);

    start('f'); /* a wrong payload size: it runs */
    add(IOCB_ATTR_TIMING, 0, 1, 8);
    RUN(1, -EINVAL);

    start('g'); /* a wrong payload size, required: it does not */
    add(IOCB_ATTR_TIMING, required, 1, 8);
    RUN(-EINVAL, -EINVAL);

    start('h'); /* twice: the first is handled, the second is wrong, and it runs */
    add(IOCB_ATTR_TIMING, 0, 1, 0);
    add(IOCB_ATTR_TIMING, 0, 2, 0);
    RUN(1, 0, -EINVAL);

    start('i'); /* twice, the second required */
    add(IOCB_ATTR_TIMING, 0, 1, 0);
    add(IOCB_ATTR_TIMING, required, 2, 0);
    RUN(-EINVAL, 0, -EINVAL);

    start('j'); /* twice, the first required: that one is handled */
    add(IOCB_ATTR_TIMING, required, 1, 0);
    add(IOCB_ATTR_TIMING, 0, 2, 0);
    RUN(1, 0, -EINVAL);

    start('k'); /* two reasons: the first one counts */
    add(IOCB_ATTR_TIMING, required, 1, 8);
    add(0x8000, required, 2, 0);
    RUN(-EINVAL, -EINVAL, -EOPNOTSUPP);
    start('l');
    add(0x8000, required, 1, 0);
    add(IOCB_ATTR_TIMING, required, 2, 8);
    RUN(-EOPNOTSUPP, -EOPNOTSUPP, -EINVAL);

    /* A flag that nobody knows, on a known attribute: it is wrong. */
    for (int bit = 1; bit < 32; bit++) {
        start('m');
        add(IOCB_ATTR_TIMING, UINT32_C(1) << bit, 1, 0);
        RUN(1, -EINVAL);
        start('n');
        add(IOCB_ATTR_TIMING, UINT32_C(1) << bit | required, 1, 0);
        RUN(-EINVAL, -EINVAL);
        /* On an unknown one there is nothing to be wrong about. */
        start('o');
        add(0x8000, UINT32_C(1) << bit, 1, 0);
        RUN(1, -EOPNOTSUPP);
    }

    /* A NOP is refused, too. */
    io_prep2_nop(iocb);
    iocb->data = 9;
    add(0x8000, required, 1, 0);
    submit_one(ctx, iocb);
    get_one(ctx, &room.event);
    CHECK_EQ(room.event.res, -EOPNOTSUPP);

    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
