/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * IOCB_ATTR_ROUTE: the answer says how the request was carried out: by its caller, by a worker thread, by the kernel's AIO, alone or
 * merged with others; or that its system call was not made, because it was cancelled, refused, or too late. The attribute does not
 * keep a request from any of these ways.
 */
/* needs: root */
#include "test.h"
#include "stress.h"
#include "device.h"

#define BLOCK 512
#define DEVICE_BYTES (8 << 20)
#define DEPTH 32

static io_context2_t ctx;
static union iocb_room request;
static union event_room room;
static unsigned char *memory;

/* Asks for its route, between other attributes. */
static void ask(uint64_t data)
{
    request.iocb.data = data;
    CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_PRIVATE, 0, 1, NULL, 0) != NULL);
    CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_ROUTE, 0, 2, NULL, 0) != NULL);
}

static void submit(void)
{
    submit_one(ctx, &request.iocb);
}

/* The next event has this result and this route. */
static void expect(int64_t res, uint32_t route)
{
    get_one(ctx, &room.event);
    CHECK_EQ(room.event.res, res);
    CHECK_EQ(route_of(&room.event).route, route);
    CHECK_EQ(route_of(&room.event).flags, 0);
}

static void issued(void)
{
    io_prep2_fsync(&request.iocb, -1);
    ask(0);
    CHECK_CMP(CALL(io_issue2(&request.iocb, &room.event, sizeof(room))), >, 0);
    CHECK_EQ(room.event.res, -EBADF);
    CHECK_EQ(route_of(&room.event).route, IOCB_ROUTE_INLINE);
    io_prep2_syscall(&request.iocb, SYS_exit_group, 0, 0, 0, 0, 0, 0);
    ask(0);
    CHECK_CMP(CALL(io_issue2(&request.iocb, &room.event, sizeof(room))), >, 0);
    CHECK_EQ(room.event.res, -ENOSYS);
    CHECK_EQ(route_of(&room.event).route, IOCB_ROUTE_NOT_MADE);
}

/* A caller that waits soon after it has submitted carries short requests out itself: no-ops, and reads of a file in memory. */
static void by_caller(int fd)
{
    for (int64_t end = now_ns() + PATIENCE_NS;;) {
        CHECK_CMP(now_ns(), <, end);
        if (fd < 0)
            io_prep2_nop(&request.iocb);
        else
            io_prep2_pread(&request.iocb, fd, memory, BLOCK, 0);
        ask(0);
        submit();
        CHECK_CMP(CALL(io_getevents2(ctx, 1, &room.event, sizeof(room), NULL)), >, 0);
        CHECK_EQ(room.event.res, fd < 0 ? 0 : BLOCK);
        if (route_of(&room.event).route == IOCB_ROUTE_INLINE)
            return;
        CHECK_EQ(route_of(&room.event).route, IOCB_ROUTE_THREAD);
    }
}

static void by_thread_or_not_at_all(void)
{
    const struct iocb_deadline past = { .ns = 1 }, future = { .ns = UINT64_MAX };
    struct iocb_worker worker;
    struct hold hold;

    /* The only worker waits for a pipe; the request that is queued behind it is cancelled. */
    hold_init(&hold, 1);
    memcpy(&request.iocb, &hold.iocb, sizeof(hold.iocb));
    ask(1);
    submit();
    hold_wait_running(1);
    io_prep2_nop(&request.iocb);
    ask(2);
    submit();
    CHECK_EQ(CALL(io_cancel2(ctx, 2)), 0);
    expect(-ECANCELED, IOCB_ROUTE_NOT_MADE);
    hold_release(&hold);
    expect(1, IOCB_ROUTE_THREAD);
    hold_close(&hold);

    /* One that was interrupted has run. */
    hold_init(&hold, 1);
    memcpy(&request.iocb, &hold.iocb, sizeof(hold.iocb));
    ask(1);
    submit();
    hold_wait_running(1);
    CHECK_EQ(CALL(io_cancel2(ctx, 1)), 0);
    expect(-EINTR, IOCB_ROUTE_THREAD);
    hold_close(&hold);

    /* Refused, too late, in time; behind one that has failed. */
    io_prep2_syscall(&request.iocb, SYS_exit_group, 0, 0, 0, 0, 0, 0);
    ask(0);
    submit();
    expect(-ENOSYS, IOCB_ROUTE_NOT_MADE);
    io_prep2_nop(&request.iocb);
    ask(0);
    CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_PRIVATE + 1, IOCB_ATTR_F_REQUIRED, 0, NULL, 0) != NULL);
    submit();
    expect(-EOPNOTSUPP, IOCB_ROUTE_NOT_MADE);
    io_prep2_nop(&request.iocb);
    ask(0);
    CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_DEADLINE, 0, 0, &past, sizeof(past)) != NULL);
    submit();
    expect(-ETIMEDOUT, IOCB_ROUTE_NOT_MADE);
    io_prep2_nop(&request.iocb);
    ask(0);
    CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_DEADLINE, 0, 0, &future, sizeof(future)) != NULL);
    CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_DRAIN, 0, 0, NULL, 0) != NULL);
    CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_WORKER, 0, 0, NULL, 0) != NULL);
    submit();
    get_one(ctx, &room.event);
    CHECK_EQ(room.event.res, 0);
    memcpy(&worker, io_event2_attr(&room.event, IOCB_ATTR_WORKER) + 1, sizeof(worker));
    CHECK_EQ(route_of(&room.event).route, worker.tid == (uint32_t)my_tid() ? IOCB_ROUTE_INLINE : IOCB_ROUTE_THREAD);
    {
        static _Alignas(8) unsigned char chain[512];
        size_t bytes;

        io_prep2_syscall(&request.iocb, SYS_read, UINT64_MAX, 0, 0, 0, 0, 0);
        ask(0);
        CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_LINK, 0, 0, NULL, 0) != NULL);
        bytes = request.iocb.bytes;
        memcpy(chain, &request, bytes);
        io_prep2_nop(&request.iocb);
        ask(0);
        memcpy(chain + bytes, &request, request.iocb.bytes);
        submit_all(ctx, chain, bytes + request.iocb.bytes);
        get_events(ctx, 2, &room, sizeof(room));
        CHECK_EQ(room.event.res, -EBADF);
        CHECK(route_of(&room.event).route != IOCB_ROUTE_NOT_MADE);
        CHECK_EQ(io_event2_next(&room.event)->res, -ECANCELED);
        CHECK_EQ(route_of(io_event2_next(&room.event)).route, IOCB_ROUTE_NOT_MADE);
    }
}

/* Reads of a device that waits, one after the other or here and there, until all of these have been seen: a bit for each. */
static void by_kernel(int device, struct timespec *timeout, int stride, bool merged)
{
    static union routed iocbs[DEPTH];
    static union routed_event events[DEPTH];
    bool seen = false;

    for (int64_t end = now_ns() + PATIENCE_NS; !seen;) {
        CHECK_CMP(now_ns(), <, end);
        for (int i = 0; i < DEPTH; i++) {
            io_prep2_pread(&iocbs[i].iocb, device, memory + i * BLOCK, BLOCK, (int64_t)i * stride * BLOCK);
            ask_route(&iocbs[i].iocb);
        }
        submit_all(ctx, iocbs, sizeof(iocbs));
        for (size_t left = DEPTH; left != 0;) {
            const ssize_t got = io_getevents2(ctx, sizeof(events[0]), &events[0].event, sizeof(events), timeout);

            CHECK_CMP(got, >, 0);
            for (size_t i = 0; i < (size_t)got / sizeof(events[0]); i++, left--) {
                const struct iocb_route route = route_of(&events[i].event);

                CHECK_EQ(events[i].event.res, BLOCK);
                CHECK(route.route != IOCB_ROUTE_NOT_MADE);
                if (!is_kernels(route) || stride != 1)
                    CHECK_EQ(route.flags, 0);
                seen = seen || (is_kernels(route) && (route.flags == IOCB_ROUTE_F_MERGED) == merged);
            }
        }
    }
}

int main(void)
{
    struct timespec some_time = { PATIENCE_S, 0 };
    unsigned long kernel = 0;
    void *at;
    int fd;

    CHECK_EQ(posix_memalign(&at, 4096, DEPTH * BLOCK), 0);
    memory = at;
    issued();
    ctx = setup2(0, 0, 1);
    CHECK((ctx->features & IO_FEAT2_ATTR_ROUTE) != 0);
    by_thread_or_not_at_all();
    by_caller(-1);
    fd = memfd_create("attr_route", MFD_CLOEXEC);
    CHECK_EQ(ftruncate(fd, BLOCK), 0);
    by_caller(fd);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);

    /* Restricted to threads. */
    if (getenv("AIO2_ENGINE") != NULL && strcmp(getenv("AIO2_ENGINE"), "threads") == 0)
        return 0;
    if (syscall(SYS_io_setup, 256, &kernel) != 0)
        SKIP("the kernel has no AIO to spare");
    CHECK_EQ(syscall(SYS_io_destroy, kernel), 0);
    fd = loop_open(temp_file(DEVICE_BYTES, 0), O_DIRECT);
    ctx = setup2(0, 0, 0);
    by_kernel(fd, &some_time, 7, false);
    by_kernel(fd, &some_time, 1, true);
    by_kernel(fd, NULL, 1, true);
    by_kernel(fd, NULL, 7, false);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
