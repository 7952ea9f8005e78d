/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * io_issue2() carries any system call out in the caller, with the attributes that make sense there: TIMING, CACHE, IOPRIO,
 * DEADLINE, WORKER and ROUTE. DRAIN and LINK are about other requests, of which there are none: -EOPNOTSUPP.
 */
#include "test.h"

static union iocb_room request;
static union event_room room;

static void add(uint16_t id, uint32_t flags, uint64_t payload, size_t bytes)
{
    CHECK(iocb2_add_attr(&request.iocb, id, flags, id, bytes != 0 ? &payload : NULL, bytes) != NULL);
}

static const struct iocb_attr_ret *ret_of(uint16_t id)
{
    const struct iocb_attr_ret *ret = io_event2_attr(&room.event, id);

    CHECK(ret != NULL);
    CHECK_EQ(ret->cookie, id);
    return ret;
}

int main(void)
{
    struct iocb_timing timing;
    struct iocb_worker worker;
    struct iocb_route route;
    struct iocb_cache cache;
    struct timespec nap = { 0, 20 * NSEC_PER_MSEC };
    unsigned char buf[4096];
    char *path = temp_path("made");
    int fd = temp_pattern_file(sizeof(buf), 1, 0);
    long prio = syscall(SYS_ioprio_get, 1, 0);
    int64_t before;

    io_prep2_pread(&request.iocb, fd, buf, sizeof(buf), 0);
    add(IOCB_ATTR_WORKER, 1, 0, 0);
    add(IOCB_ATTR_DEADLINE, 1, UINT64_MAX, 8);
    add(IOCB_ATTR_IOPRIO, 1, 2 << 13 | 7, 8);
    add(IOCB_ATTR_CACHE, 1, 0, 0);
    add(IOCB_ATTR_TIMING, 1, 0, 0);
    add(IOCB_ATTR_ROUTE, 1, 0, 0);
    before = now_ns();
    CHECK_EQ(CALL(io_issue2(&request.iocb, &room.event, sizeof(room))), 24 + 6 * 16 + 24 + 24 + 8 + 8);
    CHECK_EQ(room.event.res, sizeof(buf));
    CHECK_PATTERN(buf, sizeof(buf), 0, 1);
    for (uint16_t id = IOCB_ATTR_TIMING; id <= IOCB_ATTR_DEADLINE; id++)
        CHECK_EQ(ret_of(id)->ret, 0);
    memcpy(&timing, ret_of(IOCB_ATTR_TIMING) + 1, sizeof(timing));
    CHECK_CMP(timing.submit_ns, >=, before);
    CHECK_CMP(timing.submit_ns, <=, timing.start_ns);
    CHECK_CMP(timing.start_ns, <=, timing.end_ns);
    CHECK_CMP(timing.end_ns, <=, now_ns());
    memcpy(&cache, ret_of(IOCB_ATTR_CACHE) + 1, sizeof(cache));
    CHECK_EQ(cache.hit, 1);
    memcpy(&worker, ret_of(IOCB_ATTR_WORKER) + 1, sizeof(worker));
    CHECK_EQ(worker.tid, my_tid());
    memcpy(&route, ret_of(IOCB_ATTR_ROUTE) + 1, sizeof(route));
    CHECK_EQ(route.route, IOCB_ROUTE_INLINE);
    CHECK_EQ(syscall(SYS_ioprio_get, 1, 0), prio);

    /* A call that waits, and one that works on names. */
    io_prep2_syscall(&request.iocb, SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, (uint64_t)(uintptr_t)&nap, 0, 0, 0);
    add(IOCB_ATTR_TIMING, 1, 0, 0);
    CHECK_EQ(CALL(io_issue2(&request.iocb, &room.event, sizeof(room))), 64);
    CHECK_EQ(room.event.res, 0);
    memcpy(&timing, ret_of(IOCB_ATTR_TIMING) + 1, sizeof(timing));
    CHECK_CMP(timing.end_ns - timing.start_ns, >=, 20 * NSEC_PER_MSEC);
    io_prep2_syscall(&request.iocb, SYS_mkdirat, (uint64_t)AT_FDCWD, (uint64_t)(uintptr_t)path, 0700, 0, 0, 0);
    add(IOCB_ATTR_DEADLINE, 0, 1, 8);
    CHECK_EQ(CALL(io_issue2(&request.iocb, &room.event, sizeof(room))), 40);
    CHECK_EQ(room.event.res, -ETIMEDOUT);
    CHECK_EQ(access(path, F_OK), -1);
    io_prep2_syscall(&request.iocb, SYS_mkdirat, (uint64_t)AT_FDCWD, (uint64_t)(uintptr_t)path, 0700, 0, 0, 0);
    CHECK_EQ(CALL(io_issue2(&request.iocb, &room.event, sizeof(room))), 24);
    CHECK_EQ(room.event.res, 0);
    CHECK_EQ(access(path, F_OK), 0);
    io_prep2_syscall(&request.iocb, SYS_gettid, 0, 0, 0, 0, 0, 0);
    CHECK_EQ(CALL(io_issue2(&request.iocb, &room.event, sizeof(room))), 24);
    CHECK_EQ(room.event.res, -ENOSYS);

    /* Attributes about other requests. */
    for (uint16_t id = IOCB_ATTR_DRAIN; id <= IOCB_ATTR_LINK; id++) {
        for (uint32_t flags = 0; flags <= IOCB_ATTR_F_REQUIRED; flags++) {
            io_prep2_nop(&request.iocb);
            add(id, flags, 0, 0);
            CHECK_EQ(CALL(io_issue2(&request.iocb, &room.event, sizeof(room))), 40);
            CHECK_EQ(ret_of(id)->ret, -EOPNOTSUPP);
            CHECK_EQ(room.event.res, flags != 0 ? -EOPNOTSUPP : 0);
        }
    }
    CHECK_EQ(count_workers(), 0);
    free(path);
    return 0;
}
