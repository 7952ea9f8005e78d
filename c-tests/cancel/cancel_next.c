/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A request is cancelled again and again while its worker ends it, slowly. The worker's next request, which nobody cancels,
 * waits undisturbed.
 */
#include "test.h"

enum { ROUNDS = 40, REAL = 1, NEXT = 2 };

static bool slow;
static __thread bool is_main;

/* In the library's place, too. Its threads read the clock when they end a request with IOCB_ATTR_TIMING. */
int clock_gettime(clockid_t clock, struct timespec *time)
{
    if (__atomic_load_n(&slow, __ATOMIC_RELAXED) && !is_main)
        usleep(1000);
    return (int)syscall(SYS_clock_gettime, clock, time);
}

int main(void)
{
    io_context2_t ctx, other;
    int cancelled_twice = 0;

    is_main = true;
    ctx = setup2(64, 0, 0);
    other = setup2(64, 0, 0);
    for (int round = 0; round < ROUNDS; round++) {
        union iocb_room first;
        union event_room room;
        struct hold next;
        int from[2], cancels = 0;
        int64_t ret;
        char byte;

        CHECK_EQ(pipe2(from, O_CLOEXEC), 0);
        io_prep2_read(&first.iocb, from[0], &byte, 1);
        first.iocb.data = REAL;
        CHECK(iocb2_add_attr(&first.iocb, IOCB_ATTR_TIMING, 0, 0, NULL, 0) != NULL);
        __atomic_store_n(&slow, true, __ATOMIC_RELAXED);
        submit_one(ctx, &first.iocb);
        while ((ret = io_cancel2(ctx, REAL)) != -ENOENT) {
            CHECK(ret == 0 || ret == -EALREADY);
            cancels += ret == 0;
        }
        __atomic_store_n(&slow, false, __ATOMIC_RELAXED);
        cancelled_twice += cancels > 1;
        hold_submit(other, &next, NEXT);
        get_one(ctx, &room);
        CHECK_EQ(room.event.data, REAL);
        CHECK(room.event.res == -EINTR || room.event.res == -ECANCELED);
        expect_no_event(other, 2);
        hold_release(&next);
        get_one(other, &room);
        CHECK_EQ(room.event.data, NEXT);
        CHECK_EQ(room.event.res, 1);
        hold_close(&next);
        close(from[0]);
        close(from[1]);
    }
    printf("%d of %d were cancelled more than once\n", cancelled_twice, ROUNDS);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    CHECK_EQ(CALL(io_destroy2(other)), 0);
    return 0;
}
