/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Every errno of the contract that a call returns for its arguments, in one table. None of these calls changes errno or the context. */
#include "test.h"

static union event_room room;
static io_context2_t ctx;
static io_context2_t full;
static io_context2_t waiting;
static struct iocb2 *iocb;

struct row {
    const char *what;
    long long expected;
    long long (*call)(void);
};

/* A request that is good in all but its place. */
static const struct iocb2 *shifted(size_t by)
{
    static union {
        uint64_t align;
        unsigned char bytes[128];
    } area;
    struct iocb2 good;

    io_prep2_nop(&good);
    memset(&area, 0xff, sizeof(area));
    memcpy(area.bytes + by, &good, sizeof(good));
    return (const struct iocb2 *)((uintptr_t)area.bytes + by);
}

#define ROW(name, call) \
    static long long name(void) { return call; }

static struct timespec zero;

ROW(submit_nothing, CALL(io_submit2(ctx, iocb, 0)))
ROW(submit_null_nothing, CALL(io_submit2(ctx, NULL, 0)))
ROW(submit_null, CALL(io_submit2(ctx, NULL, 64)))
ROW(submit_null_short, CALL(io_submit2(ctx, NULL, 1)))
ROW(submit_unaligned1, CALL(io_submit2(ctx, shifted(1), 64)))
ROW(submit_unaligned2, CALL(io_submit2(ctx, shifted(2), 64)))
ROW(submit_unaligned4, CALL(io_submit2(ctx, shifted(4), 64)))
ROW(submit_short, CALL(io_submit2(ctx, iocb, 63)))
ROW(submit_very_short, CALL(io_submit2(ctx, iocb, 1)))
ROW(submit_full, CALL(io_submit2(full, iocb, 64)))

ROW(get_min_too_large, CALL(io_getevents2(ctx, 25, &room.event, 24, NULL)))
ROW(get_min_too_large_zero, CALL(io_getevents2(ctx, 1, &room.event, 0, NULL)))
ROW(get_min_too_large_event, CALL(io_getevents2(waiting, 25, &room.event, 24, NULL)))
ROW(get_min_huge, CALL(io_getevents2(ctx, SIZE_MAX, &room.event, sizeof(room), &zero)))
ROW(pget_min_too_large, CALL(io_pgetevents2(ctx, 25, &room.event, 24, NULL, NULL)))
ROW(get_no_wait, CALL(io_getevents2(ctx, 0, &room.event, sizeof(room), NULL)))
ROW(get_no_room_no_wait, CALL(io_getevents2(ctx, 0, NULL, 0, NULL)))
ROW(get_zero, CALL(io_getevents2(ctx, 24, &room.event, sizeof(room), &zero)))
ROW(pget_zero, CALL(io_pgetevents2(ctx, 24, &room.event, sizeof(room), &zero, NULL)))
ROW(get_no_room, CALL(io_getevents2(waiting, 0, &room.event, 0, NULL)))
ROW(get_little_room, CALL(io_getevents2(waiting, 0, &room.event, 23, NULL)))
ROW(get_little_room_min, CALL(io_getevents2(waiting, 16, &room.event, 16, NULL)))
ROW(pget_little_room, CALL(io_pgetevents2(waiting, 16, &room.event, 16, NULL, NULL)))

static struct timespec too_many_ns = { 0, 1000000000 };
static struct timespec negative_ns = { 1, -1 };
static struct timespec negative = { -1, 0 };

ROW(get_too_many_ns, CALL(io_getevents2(ctx, 24, &room.event, sizeof(room), &too_many_ns)))
ROW(get_negative_ns, CALL(io_getevents2(ctx, 24, &room.event, sizeof(room), &negative_ns)))
ROW(get_negative, CALL(io_getevents2(ctx, 24, &room.event, sizeof(room), &negative)))
ROW(pget_negative, CALL(io_pgetevents2(waiting, 24, &room.event, sizeof(room), &negative, NULL)))
ROW(get_null, CALL(io_getevents2(ctx, 24, NULL, 24, &zero)))
ROW(get_null_event, CALL(io_getevents2(waiting, 0, NULL, 24, NULL)))

ROW(cancel_none, CALL(io_cancel2(ctx, 0)))
ROW(cancel_none_big, CALL(io_cancel2(ctx, UINT64_MAX)))
ROW(cancel_done, CALL(io_cancel2(waiting, 42)))
ROW(cancel_running, CALL(io_cancel2(full, 1)))

ROW(issue_null, CALL(io_issue2(NULL, &room.event, sizeof(room))))
ROW(issue_null_event, CALL(io_issue2(iocb, NULL, sizeof(room))))
ROW(issue_no_room, CALL(io_issue2(iocb, &room.event, 0)))
ROW(issue_little_room, CALL(io_issue2(iocb, &room.event, 23)))
ROW(issue_unaligned, CALL(io_issue2(shifted(4), &room.event, sizeof(room))))
ROW(issue_unaligned1, CALL(io_issue2(shifted(1), &room.event, sizeof(room))))

static long long issue_malformed(void)
{
    long long result;

    iocb->bytes = 56;
    result = CALL(io_issue2(iocb, &room.event, sizeof(room)));
    iocb->bytes = 64;
    return result;
}

static const struct row rows[] = {
    { "io_submit2, nothing", 0, submit_nothing },
    { "io_submit2, nothing at NULL", 0, submit_null_nothing },
    { "io_submit2, NULL", -EFAULT, submit_null },
    { "io_submit2, one byte at NULL", -EFAULT, submit_null_short },
    { "io_submit2, not aligned", -EINVAL, submit_unaligned1 },
    { "io_submit2, aligned to 2", -EINVAL, submit_unaligned2 },
    { "io_submit2, aligned to 4", -EINVAL, submit_unaligned4 },
    { "io_submit2, 63 bytes", -EINVAL, submit_short },
    { "io_submit2, 1 byte", -EINVAL, submit_very_short },
    { "io_submit2, max_requests in flight", -EAGAIN, submit_full },
    { "io_getevents2, min_bytes > nbytes", -EINVAL, get_min_too_large },
    { "io_getevents2, min_bytes 1, nbytes 0", -EINVAL, get_min_too_large_zero },
    { "io_getevents2, min_bytes > nbytes, an event waiting", -EINVAL, get_min_too_large_event },
    { "io_getevents2, the largest min_bytes", -EINVAL, get_min_huge },
    { "io_pgetevents2, min_bytes > nbytes", -EINVAL, pget_min_too_large },
    { "io_getevents2, min_bytes 0", 0, get_no_wait },
    { "io_getevents2, no room, no event", 0, get_no_room_no_wait },
    { "io_getevents2, timeout zero", 0, get_zero },
    { "io_pgetevents2, timeout zero", 0, pget_zero },
    { "io_getevents2, no room", -ENOBUFS, get_no_room },
    { "io_getevents2, 23 bytes of room", -ENOBUFS, get_little_room },
    { "io_getevents2, min_bytes 16 and an event of 24", -ENOBUFS, get_little_room_min },
    { "io_pgetevents2, min_bytes 16 and an event of 24", -ENOBUFS, pget_little_room },
    { "io_getevents2, timeout of 1000000000 ns", -EINVAL, get_too_many_ns },
    { "io_getevents2, timeout of 1 s less 1 ns, as -1 ns", -EINVAL, get_negative_ns },
    { "io_getevents2, timeout of -1 s", -EINVAL, get_negative },
    { "io_pgetevents2, timeout of -1 s, an event waiting", -EINVAL, pget_negative },
    { "io_getevents2, NULL", -EFAULT, get_null },
    { "io_getevents2, NULL, an event waiting", -EFAULT, get_null_event },
    { "io_cancel2, none such", -ENOENT, cancel_none },
    { "io_cancel2, none such, largest data", -ENOENT, cancel_none_big },
    { "io_cancel2, completed, event not reaped", -ENOENT, cancel_done },
    { "io_cancel2, running", -EALREADY, cancel_running },
    { "io_issue2, NULL", -EFAULT, issue_null },
    { "io_issue2, event NULL", -EFAULT, issue_null_event },
    { "io_issue2, no room", -ENOBUFS, issue_no_room },
    { "io_issue2, 23 bytes of room", -ENOBUFS, issue_little_room },
    { "io_issue2, aligned to 4", -EINVAL, issue_unaligned },
    { "io_issue2, not aligned", -EINVAL, issue_unaligned1 },
    { "io_issue2, malformed", -EINVAL, issue_malformed },
};

int main(void)
{
    uint64_t space[16];
    struct hard_hold hold;
    int bad = 0;

    iocb = (struct iocb2 *)(void *)space;
    ctx = setup2(0, 0, 0);
    full = setup2(0, 1, 1);
    waiting = setup2(0, 0, 0);
    hard_hold_submit(full, &hold, 1);
    hard_hold_wait_running(1);
    io_prep2_nop(iocb);
    iocb->data = 42;
    submit_one(waiting, iocb);
    CHECK_SOON(__atomic_load_n(&waiting->completed, __ATOMIC_ACQUIRE) == 1);

    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
            long long seen = rows[i].call();

            if (seen != rows[i].expected) {
                fprintf(stderr, "%s: expected %lld, seen %lld %s\n", rows[i].what, rows[i].expected, seen,
                        test_errno_text(seen));
                bad++;
            }
        }
    }
    CHECK_EQ(bad, 0);

    CHECK_EQ(ctx->submitted, 0);
    CHECK_EQ(ctx->completed, 0);
    CHECK_EQ(full->submitted, 1);
    get_one(waiting, &room.event);
    CHECK_EQ(room.event.data, 42);
    hard_hold_release(&hold);
    get_one(full, &room.event);
    CHECK_EQ(room.event.res, 1);
    hard_hold_close(&hold);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    CHECK_EQ(CALL(io_destroy2(full)), 0);
    CHECK_EQ(CALL(io_destroy2(waiting)), 0);
    return 0;
}
