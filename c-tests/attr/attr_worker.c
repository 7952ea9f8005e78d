/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * IOCB_ATTR_WORKER: the thread that carried the request out is one of the library's workers, and is the thread that is seen in
 * the call. With io_issue2 it is the caller, also in a forked child. A request that was not made has none.
 */
#include "test.h"

static union iocb_room request;
static union event_room room;

static struct iocb_worker worker_of(const struct io_event2 *event)
{
    const struct iocb_attr_ret *ret = io_event2_attr(event, IOCB_ATTR_WORKER);
    struct iocb_worker worker;

    CHECK(ret != NULL);
    CHECK_EQ(ret->ret, 0);
    CHECK_EQ(ret->bytes, sizeof(*ret) + sizeof(worker));
    memcpy(&worker, ret + 1, sizeof(worker));
    CHECK_CMP(worker.cpu, <, sysconf(_SC_NPROCESSORS_CONF));
    return worker;
}

/* The thread that is blocked in preadv2. */
static bool find_blocked(const char *tid, void *arg)
{
    long nr = SYS_preadv2;

    if (test_worker_in_call(tid, &nr))
        *(uint32_t *)arg = (uint32_t)atoi(tid);
    return true;
}

int main(void)
{
    io_context2_t ctx = setup2(0, 0, 1);
    uint32_t blocked = 0;
    struct hold hold;
    pid_t child;

    CHECK((ctx->features & IO_FEAT2_ATTR_WORKER) != 0);
    for (int i = 0; i < 3; i++) {
        blocked = 0;
        hold_init(&hold, 1);
        memcpy(&request, &hold.iocb, sizeof(hold.iocb));
        CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_WORKER, 0, 3, NULL, 0) != NULL);
        submit_one(ctx, &request.iocb);
        hold_wait_running(1);
        (void)for_workers(find_blocked, &blocked);
        /* One that is cancelled in the queue was carried out by nobody. */
        io_prep2_nop(&request.iocb);
        request.iocb.data = 2;
        CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_WORKER, 0, 3, NULL, 0) != NULL);
        submit_one(ctx, &request.iocb);
        CHECK_EQ(CALL(io_cancel2(ctx, 2)), 0);
        get_one(ctx, &room.event);
        CHECK_EQ(room.event.res, -ECANCELED);
        CHECK_EQ(io_event2_attr(&room.event, IOCB_ATTR_WORKER)->ret, -ECANCELED);
        hold_release(&hold);
        get_one(ctx, &room.event);
        CHECK_EQ(room.event.res, 1);
        CHECK(blocked != 0);
        CHECK_EQ(worker_of(&room.event).tid, blocked);
        hold_close(&hold);
    }

    io_prep2_nop(&request.iocb);
    CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_WORKER, 0, 3, NULL, 0) != NULL);
    CHECK_EQ(CALL(io_issue2(&request.iocb, &room.event, sizeof(room))), 48);
    CHECK_EQ(worker_of(&room.event).tid, my_tid());
    child = fork();
    if (child == 0) {
        CHECK_EQ(CALL(io_issue2(&request.iocb, &room.event, sizeof(room))), 48);
        CHECK_EQ(worker_of(&room.event).tid, my_tid());
        _exit(0);
    }
    wait_child(child);

    /* Not made. */
    io_prep2_syscall(&request.iocb, SYS_exit_group, 0, 0, 0, 0, 0, 0);
    CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_WORKER, IOCB_ATTR_F_REQUIRED, 3, NULL, 0) != NULL);
    submit_one(ctx, &request.iocb);
    get_one(ctx, &room.event);
    CHECK_EQ(room.event.res, -ENOSYS);
    CHECK_EQ(io_event2_attr(&room.event, IOCB_ATTR_WORKER)->ret, -ECANCELED);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
