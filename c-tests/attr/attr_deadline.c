/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * IOCB_ATTR_DEADLINE: a request that has not begun by the deadline is not made and has -ETIMEDOUT. A request that has begun
 * continues, however long it takes. In the queue, by io_issue2, and for a no-op.
 */
#include "test.h"

static io_context2_t ctx;
static union iocb_room request;
static union event_room room;

static void add_deadline(int64_t ns, uint32_t flags)
{
    const struct iocb_deadline deadline = { .ns = (uint64_t)ns };

    CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_DEADLINE, flags, 7, &deadline, sizeof(deadline)) != NULL);
}

static void check_ret(int32_t expected)
{
    const struct iocb_attr_ret *ret = io_event2_attr(&room.event, IOCB_ATTR_DEADLINE);

    CHECK(ret != NULL);
    CHECK_EQ(ret->bytes, sizeof(*ret));
    CHECK_EQ(ret->cookie, 7);
    CHECK_EQ(ret->ret, expected);
}

static void run(int64_t res)
{
    submit_one(ctx, &request.iocb);
    get_one(ctx, &room.event);
    CHECK_EQ(room.event.res, res);
    check_ret(0);
    CHECK_EQ(CALL(io_issue2(&request.iocb, &room.event, sizeof(room))), 40);
    CHECK_EQ(room.event.res, res);
    check_ret(0);
}

int main(void)
{
    int fd = temp_file(16, 0);
    struct hold hold;
    char byte = 'x';
    char seen = 0;

    ctx = setup2(0, 0, 1);
    CHECK((ctx->features & IO_FEAT2_ATTR_DEADLINE) != 0);

    io_prep2_pwrite(&request.iocb, fd, &byte, 1, 0);
    add_deadline(now_ns() + 1000 * NSEC_PER_SEC, 0);
    run(1);
    io_prep2_pwrite(&request.iocb, fd, &byte, 1, 0);
    add_deadline(-1, IOCB_ATTR_F_REQUIRED); /* the end of time */
    run(1);

    io_prep2_pwrite(&request.iocb, fd, &byte, 1, 1);
    add_deadline(0, 0);
    run(-ETIMEDOUT);
    io_prep2_pwrite(&request.iocb, fd, &byte, 1, 1);
    add_deadline(now_ns(), IOCB_ATTR_F_REQUIRED);
    sleep_ms(1);
    run(-ETIMEDOUT);
    CHECK_EQ(pread(fd, &seen, 1, 1), 1);
    CHECK_EQ(seen, 0);
    io_prep2_nop(&request.iocb);
    add_deadline(1, 0);
    run(-ETIMEDOUT);

    /* A call that begins in time, and ends long after; behind it one whose time comes while it waits, and one that has time. */
    hold_init(&hold, 1);
    int64_t deadline;
    for (int64_t ms = 100;; ms *= 2) {
        memcpy(&request, &hold.iocb, sizeof(hold.iocb));
        deadline = now_ns() + ms * NSEC_PER_MSEC;
        add_deadline(deadline, 0);
        submit_one(ctx, &request.iocb);
        CHECK_SOON(count_workers_in(SYS_preadv2) == 1 || __atomic_load_n(&ctx->completed, __ATOMIC_ACQUIRE) == ctx->submitted);
        if (count_workers_in(SYS_preadv2) == 1)
            break;
        /* A busy machine: it did not begin in time. */
        get_one(ctx, &room.event);
        CHECK_EQ(room.event.res, -ETIMEDOUT);
    }
    for (int i = 2; i <= 3; i++) {
        io_prep2_pwrite(&request.iocb, fd, &byte, 1, i);
        request.iocb.data = (uint64_t)i;
        add_deadline(i == 2 ? deadline : now_ns() + 1000 * NSEC_PER_SEC, 0);
        submit_one(ctx, &request.iocb);
    }
    CHECK_SOON(now_ns() > deadline);
    hold_release(&hold);
    for (int i = 1; i <= 3; i++) {
        struct timespec limit = { PATIENCE_S, 0 };

        CHECK_EQ(CALL(io_getevents2(ctx, 40, &room.event, 40, &limit)), 40);
        CHECK_EQ(room.event.data, i);
        CHECK_EQ(room.event.res, i == 2 ? -ETIMEDOUT : 1);
        check_ret(0);
        if (i > 1) {
            CHECK_EQ(pread(fd, &seen, 1, i), 1);
            CHECK_EQ(seen, i == 2 ? 0 : 'x');
        }
    }

    /* A payload of another size is wrong; the request runs, unless that is required. */
    for (uint32_t flags = 0; flags <= 1; flags++) {
        const uint64_t payload[2] = { 0, 0 };

        for (size_t words = 0; words <= 2; words += 2) {
            io_prep2_nop(&request.iocb);
            CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_DEADLINE, flags, 7, payload, words * 8) != NULL);
            submit_one(ctx, &request.iocb);
            get_one(ctx, &room.event);
            CHECK_EQ(room.event.res, flags != 0 ? -EINVAL : 0);
            check_ret(-EINVAL);
        }
    }
    hold_close(&hold);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
