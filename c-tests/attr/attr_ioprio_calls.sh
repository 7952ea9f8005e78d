# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=bash
# A worker gets an I/O priority once, not for each of the requests that ask for the same one. It gives the priority back once, at a
# request that asks for none: counted by strace.

. "$SRCDIR/strace.inc"
cat >"$work/program.c" <<'PROGRAM'
#include "test.h"

static void run(io_context2_t ctx, uint32_t ioprio, int n)
{
    const struct iocb_ioprio payload = { .ioprio = ioprio };
    union iocb_room request;
    union event_room room;

    for (int i = 0; i < n; i++) {
        io_prep2_nop(&request.iocb);
        if (ioprio != 0)
            CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_IOPRIO, IOCB_ATTR_F_REQUIRED, 0, &payload, sizeof(payload)) != NULL);
        submit_one(ctx, &request.iocb);
        /* From the ring: a caller that waits may carry a request out itself, and gets its own priority back each time. */
        while (io_ring2_reap(ctx, &room.event, sizeof(room)) == 0)
            sched_yield();
        CHECK_EQ(room.event.res, 0);
    }
}

int main(void)
{
    io_context2_t ctx = setup2(0, 0, 1);

    run(ctx, 0, 100);
    run(ctx, 2 << 13 | 6, 100);
    run(ctx, 2 << 13 | 7, 100);
    run(ctx, 0, 100);
    run(ctx, 2 << 13 | 6, 100);
    return 0;
}
PROGRAM
build "$work/program.c"
strace -f -e trace=ioprio_set,ioprio_get -o "$work/trace" "$work/program" || exit 1
sets=$(grep -c 'ioprio_set(' "$work/trace")
gets=$(grep -c 'ioprio_get(' "$work/trace")
echo "500 requests: $sets ioprio_set, $gets ioprio_get"
# More than one worker may have had a turn; each has its own.
[ "$sets" -ge 4 ] && [ "$sets" -le 12 ] && [ "$gets" -ge 2 ] && [ "$gets" -le 6 ]
