/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * IOCB_ATTR_IOPRIO: while the request runs, its worker, which IOCB_ATTR_WORKER names, has the priority. The next request
 * without the attribute runs with the worker's former priority. The caller of io_issue2 gets its own priority back.
 */
#include "test.h"

#define WHO_PROCESS 1
#define BEST_EFFORT(level) (2 << 13 | (level))
#define IDLE (3 << 13)
#define REALTIME (1 << 13)

static io_context2_t ctx;
static union iocb_room request;
static union event_room room;

static long prio_of(uint32_t tid)
{
    return syscall(SYS_ioprio_get, WHO_PROCESS, tid);
}

static void add_ioprio(uint32_t ioprio, uint32_t flags)
{
    const struct iocb_ioprio payload = { .ioprio = ioprio };

    CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_IOPRIO, flags, 5, &payload, sizeof(payload)) != NULL);
}

static bool find_blocked(const char *tid, void *arg)
{
    long nr = SYS_preadv2;

    if (test_worker_in_call(tid, &nr))
        *(uint32_t *)arg = (uint32_t)atoi(tid);
    return true;
}

/* Runs a request that blocks, with that priority (or none: 0), and gives what its worker has meanwhile. */
static long run_blocked(uint32_t ioprio)
{
    const struct iocb_attr_ret *ret;
    struct iocb_worker worker;
    struct hold hold;
    uint32_t tid = 0;
    long seen;

    hold_init(&hold, 1);
    memcpy(&request, &hold.iocb, sizeof(hold.iocb));
    if (ioprio != 0)
        add_ioprio(ioprio, 0);
    if (ioprio != 0)
        CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_WORKER, 0, 0, NULL, 0) != NULL);
    submit_one(ctx, &request.iocb);
    hold_wait_running(1);
    (void)for_workers(find_blocked, &tid);
    CHECK(tid != 0);
    seen = prio_of(tid);
    hold_release(&hold);
    get_one(ctx, &room.event);
    CHECK_EQ(room.event.res, 1);
    if (ioprio != 0) {
        ret = io_event2_attr(&room.event, IOCB_ATTR_IOPRIO);
        CHECK(ret != NULL);
        CHECK_EQ(ret->ret, 0);
        CHECK_EQ(ret->bytes, sizeof(*ret));
        memcpy(&worker, io_event2_attr(&room.event, IOCB_ATTR_WORKER) + 1, sizeof(worker));
        CHECK_EQ(worker.tid, tid);
    }
    hold_close(&hold);
    return seen;
}

/* One that cannot be had: the request runs without it, unless it is required. */
static void refused(uint32_t ioprio, int32_t expected)
{
    for (uint32_t flags = 0; flags <= IOCB_ATTR_F_REQUIRED; flags++) {
        long before = prio_of(0);

        io_prep2_nop(&request.iocb);
        add_ioprio(ioprio, flags);
        submit_one(ctx, &request.iocb);
        get_one(ctx, &room.event);
        CHECK_EQ(room.event.res, flags != 0 ? expected : 0);
        CHECK_EQ(io_event2_attr(&room.event, IOCB_ATTR_IOPRIO)->ret, expected);
        CHECK_EQ(CALL(io_issue2(&request.iocb, &room.event, sizeof(room))), 40);
        CHECK_EQ(room.event.res, flags != 0 ? expected : 0);
        CHECK_EQ(io_event2_attr(&room.event, IOCB_ATTR_IOPRIO)->ret, expected);
        CHECK_EQ(prio_of(0), before);
    }
}

int main(void)
{
    long base;
    long mine = prio_of(0);

    ctx = setup2(0, 0, 1);
    CHECK((ctx->features & IO_FEAT2_ATTR_IOPRIO) != 0);
    base = run_blocked(0);
    CHECK_EQ(run_blocked(BEST_EFFORT(6)), BEST_EFFORT(6));
    CHECK_EQ(run_blocked(BEST_EFFORT(6)), BEST_EFFORT(6));
    CHECK_EQ(run_blocked(IDLE), IDLE);
    CHECK_EQ(run_blocked(0), base);
    CHECK_EQ(run_blocked(BEST_EFFORT(1)), BEST_EFFORT(1));
    CHECK_EQ(run_blocked(0), base);
    CHECK_EQ(run_blocked(0), base);
    CHECK_EQ(prio_of(0), mine);

    /* The caller's own. */
    io_prep2_nop(&request.iocb);
    add_ioprio(BEST_EFFORT(7), IOCB_ATTR_F_REQUIRED);
    CHECK_EQ(CALL(io_issue2(&request.iocb, &room.event, sizeof(room))), 40);
    CHECK_EQ(room.event.res, 0);
    CHECK_EQ(io_event2_attr(&room.event, IOCB_ATTR_IOPRIO)->ret, 0);
    CHECK_EQ(prio_of(0), mine);
    CHECK_EQ(syscall(SYS_ioprio_set, WHO_PROCESS, 0, BEST_EFFORT(3)), 0);
    CHECK_EQ(CALL(io_issue2(&request.iocb, &room.event, sizeof(room))), 40);
    CHECK_EQ(prio_of(0), BEST_EFFORT(3));

    refused(7 << 13, -EINVAL);
    refused(BEST_EFFORT(0) | 1 << 16, -EINVAL);
    CHECK_EQ(run_blocked(0), base);

    /* By somebody who may not. */
    if (geteuid() == 0) {
        pid_t child = fork();

        if (child == 0) {
            CHECK_EQ(setresgid(65534, 65534, 65534), 0);
            CHECK_EQ(setresuid(65534, 65534, 65534), 0);
            ctx = setup2(0, 0, 0);
            refused(REALTIME, -EPERM);
            CHECK_EQ(CALL(io_destroy2(ctx)), 0);
            _exit(0);
        }
        wait_child(child);
    }
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
