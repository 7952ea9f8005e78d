/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Every attribute that the library handles on one request, in any order, with unknown ones between them: each has its own
 * answer, in the request's order; whether the call is made, fails, comes too late, is cancelled or refused.
 */
#include "test.h"

enum { PAGE = 4096, ORDERS = 200 };

static io_context2_t ctx;
static union iocb_room request;
static union event_room room;
static uint32_t rng = 1;

static const uint16_t ids[] = {
    IOCB_ATTR_TIMING, IOCB_ATTR_CACHE, IOCB_ATTR_IOPRIO, IOCB_ATTR_DEADLINE, IOCB_ATTR_DRAIN, IOCB_ATTR_LINK, IOCB_ATTR_WORKER,
    IOCB_ATTR_ROUTE, 0x8000, 0x7fff,
};
enum { COUNT = sizeof(ids) / sizeof(ids[0]) };

static uint32_t below(uint32_t bound)
{
    rng = rng * 1664525 + 1013904223;
    return (rng >> 8) % bound;
}

/* Adds all of them in some order, which is returned. */
static void add_all(uint64_t deadline_ns, uint16_t *order)
{
    const struct iocb_ioprio ioprio = { .ioprio = 2 << 13 | 5 };
    const struct iocb_deadline deadline = { .ns = deadline_ns };

    memcpy(order, ids, sizeof(ids));
    for (uint32_t i = COUNT; i > 1; i--) {
        uint32_t j = below(i);
        uint16_t swap = order[i - 1];

        order[i - 1] = order[j];
        order[j] = swap;
    }
    for (uint64_t i = 0; i < COUNT; i++) {
        const void *payload = order[i] == IOCB_ATTR_IOPRIO ? (const void *)&ioprio
                              : order[i] == IOCB_ATTR_DEADLINE ? (const void *)&deadline
                                                               : NULL;
        uint32_t required = order[i] <= IOCB_ATTR_ROUTE ? below(2) : 0;

        CHECK(iocb2_add_attr(&request.iocb, order[i], required, i + 100, payload, payload != NULL ? 8 : 0) != NULL);
    }
}

/* `made`: its system call was. */
static void check_all(const uint16_t *order, bool made, size_t asked, int64_t before)
{
    const struct iocb_attr_ret *ret = (const struct iocb_attr_ret *)(&room.event + 1);

    CHECK_EQ(room.event.bytes, 24 + COUNT * 16 + 24 + 24 + 8 + 8);
    for (uint64_t i = 0; i < COUNT; i++) {
        struct iocb_timing timing;
        struct iocb_cache cache;
        struct iocb_worker worker;
        struct iocb_route route;

        CHECK_EQ(ret->id, order[i]);
        CHECK_EQ(ret->cookie, i + 100);
        switch (order[i]) {
        case IOCB_ATTR_TIMING:
            CHECK_EQ(ret->ret, 0);
            memcpy(&timing, ret + 1, sizeof(timing));
            CHECK_CMP(timing.submit_ns, >=, before);
            CHECK_CMP(timing.start_ns, >=, timing.submit_ns);
            CHECK_CMP(timing.end_ns, >=, timing.start_ns);
            CHECK_CMP(timing.end_ns, <=, now_ns());
            break;
        case IOCB_ATTR_CACHE:
            CHECK_EQ(ret->ret, made ? 0 : -ECANCELED);
            memcpy(&cache, ret + 1, sizeof(cache));
            CHECK_EQ(cache.bytes_asked, made ? asked : 0);
            if (made && room.event.res == (int64_t)asked)
                CHECK_EQ(cache.hit, 1);
            break;
        case IOCB_ATTR_WORKER:
            CHECK_EQ(ret->ret, made ? 0 : -ECANCELED);
            memcpy(&worker, ret + 1, sizeof(worker));
            CHECK_EQ(worker.tid != 0, made);
            break;
        case IOCB_ATTR_ROUTE:
            CHECK_EQ(ret->ret, 0);
            memcpy(&route, ret + 1, sizeof(route));
            memcpy(&worker, io_event2_attr(&room.event, IOCB_ATTR_WORKER) + 1, sizeof(worker));
            CHECK_EQ(route.route, !made ? IOCB_ROUTE_NOT_MADE : worker.tid == (uint32_t)my_tid() ? IOCB_ROUTE_INLINE : IOCB_ROUTE_THREAD);
            CHECK_EQ(route.flags, 0);
            break;
        case IOCB_ATTR_IOPRIO:
        case IOCB_ATTR_DEADLINE:
        case IOCB_ATTR_DRAIN:
        case IOCB_ATTR_LINK:
            CHECK_EQ(ret->ret, 0);
            CHECK_EQ(ret->bytes, 16);
            break;
        default:
            CHECK_EQ(ret->ret, -EOPNOTSUPP);
            CHECK_EQ(ret->bytes, 16);
        }
        ret = (const struct iocb_attr_ret *)(const void *)((const char *)ret + ret->bytes);
    }
    CHECK((const char *)ret == (const char *)&room.event + room.event.bytes);
}

int main(void)
{
    static unsigned char buf[4 * PAGE];
    uint16_t order[COUNT];
    int fd = temp_pattern_file(4 * PAGE, 1, 0);
    struct hold hold;

    ctx = setup2(0, 0, 1);
    for (int i = 0; i < ORDERS; i++) {
        size_t bytes = 1 + below(4 * PAGE - 1);
        int64_t before = now_ns();

        /* Made. */
        memset(buf, 0, sizeof(buf));
        io_prep2_pread(&request.iocb, fd, buf, bytes, 0);
        add_all(UINT64_MAX, order);
        submit_one(ctx, &request.iocb);
        get_one(ctx, &room.event);
        CHECK_EQ(room.event.res, bytes);
        CHECK_PATTERN(buf, bytes, 0, 1);
        check_all(order, true, bytes, before);

        /* Too late. */
        io_prep2_pread(&request.iocb, fd, buf, bytes, 0);
        add_all(1, order);
        submit_one(ctx, &request.iocb);
        get_one(ctx, &room.event);
        CHECK_EQ(room.event.res, -ETIMEDOUT);
        check_all(order, false, bytes, before);
    }

    /* Cancelled while it was queued. */
    hold_submit(ctx, &hold, 1);
    hold_wait_running(1);
    for (int i = 0; i < 20; i++) {
        int64_t before = now_ns();

        io_prep2_pread(&request.iocb, fd, buf, PAGE, 0);
        request.iocb.data = 2;
        add_all(UINT64_MAX, order);
        submit_one(ctx, &request.iocb);
        CHECK_EQ(CALL(io_cancel2(ctx, 2)), 0);
        get_one(ctx, &room.event);
        CHECK_EQ(room.event.res, -ECANCELED);
        check_all(order, false, PAGE, before);
    }
    hold_release(&hold);
    get_one(ctx, &room.event);
    hold_close(&hold);

    /* Each of them twice: the second is wrong. */
    io_prep2_pread(&request.iocb, fd, buf, PAGE, 0);
    add_all(UINT64_MAX, order);
    for (size_t i = 0; i < COUNT; i++) {
        const uint64_t payload = UINT64_MAX;
        const bool in = ids[i] == IOCB_ATTR_IOPRIO || ids[i] == IOCB_ATTR_DEADLINE;

        CHECK(iocb2_add_attr(&request.iocb, ids[i], 0, 7, in ? &payload : NULL, in ? 8 : 0) != NULL);
    }
    submit_one(ctx, &request.iocb);
    get_one(ctx, &room.event);
    CHECK_EQ(room.event.res, PAGE);
    {
        const struct iocb_attr_ret *ret = (const struct iocb_attr_ret *)(&room.event + 1);
        int duplicates = 0;

        for (size_t i = 0; i < 2 * COUNT; i++) {
            if (ret->cookie == 7) {
                CHECK_EQ(ret->ret, ret->id <= IOCB_ATTR_ROUTE ? -EINVAL : -EOPNOTSUPP);
                duplicates++;
            } else if (ret->id <= IOCB_ATTR_ROUTE) {
                CHECK_EQ(ret->ret, 0);
            }
            ret = (const struct iocb_attr_ret *)(const void *)((const char *)ret + ret->bytes);
        }
        CHECK_EQ(duplicates, COUNT);
    }

    /* As many as a request takes, of all kinds. */
    io_prep2_pread(&request.iocb, fd, buf, PAGE, 0);
    add_all(UINT64_MAX, order);
    while (iocb2_add_attr(&request.iocb, (uint16_t)(0x8000 + below(0x7fff)), 0, 0, NULL, 0) != NULL)
        ;
    submit_one(ctx, &request.iocb);
    get_one(ctx, &room.event);
    CHECK_EQ(room.event.res, PAGE);
    CHECK_EQ(io_event2_attr(&room.event, IOCB_ATTR_CACHE)->ret, 0);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
