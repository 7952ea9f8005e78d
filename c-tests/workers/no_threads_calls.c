/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Without threads, the waiter makes the calls that cannot wait for somebody else: on names, between files, an open of a regular
 * file. An open of a FIFO, a lock or a sleep does not block it. Afterwards the caller has its own I/O priority again.
 */
#include "test.h"
#include "stress.h"
#include "thread_hook.h"
#include "call.h"

int main(void)
{
    char *name = temp_path("name");
    char *other = temp_path("other");
    char *fifo = temp_path("fifo");
    const struct iocb_ioprio ioprio = { .ioprio = 2 << 13 | 7 };
    struct timespec nap = { 1000, 0 };
    union iocb_room request;
    union event_room room;
    long prio = syscall(SYS_ioprio_get, 1, 0);
    int file = temp_file(4096, 0);
    int64_t in = 0;
    int64_t fd;

    call_ctx = setup2(0, 0, 0);
    allowed = 0;
    CHECK_EQ(mkfifo(fifo, 0600), 0);
    start_call(100, SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, P(&nap), 0);
    start_call(101, SYS_openat, N(AT_FDCWD), P(fifo), O_RDONLY | O_CLOEXEC);

    fd = call_async(SYS_openat, N(AT_FDCWD), P(name), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK_CMP(fd, >=, 0);
    CHECK_EQ(call_async(SYS_openat, N(AT_FDCWD), P(other), O_RDONLY), -ENOENT);
    CHECK_EQ(call_async(SYS_openat, N(AT_FDCWD), 8, O_RDONLY), -EFAULT);
    CHECK_EQ(call_async(SYS_sendfile, N(fd), N(file), P(&in), 4096), 4096);
    CHECK_EQ(call_async(SYS_read, N(file), P(&room), 16), 16);
    CHECK_EQ(call_async(SYS_renameat2, N(AT_FDCWD), P(name), N(AT_FDCWD), P(other), 0), 0);
    CHECK_EQ(call_async(SYS_unlinkat, N(AT_FDCWD), P(other), 0), 0);
    CHECK_EQ(call_async(SYS_gettid), -ENOSYS);

    io_prep2_pread(&request.iocb, file, room.bytes, 16, 0);
    CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_IOPRIO, IOCB_ATTR_F_REQUIRED, 0, &ioprio, sizeof(ioprio)) != NULL);
    CHECK(iocb2_add_attr(&request.iocb, IOCB_ATTR_WORKER, IOCB_ATTR_F_REQUIRED, 0, NULL, 0) != NULL);
    submit_one(call_ctx, &request.iocb);
    get_one(call_ctx, &room.event);
    CHECK_EQ(room.event.res, 16);
    CHECK_EQ(((const struct iocb_worker *)(const void *)(io_event2_attr(&room.event, IOCB_ATTR_WORKER) + 1))->tid, my_tid());
    CHECK_EQ(syscall(SYS_ioprio_get, 1, 0), prio);

    CHECK_CMP(failures, >, 0);
    CHECK_EQ(count_workers(), 0);
    CHECK_EQ(CALL(io_cancel2(call_ctx, 100)), 0);
    CHECK_EQ(CALL(io_cancel2(call_ctx, 101)), 0);
    {
        struct io_event2 events[2];

        (void)get_events(call_ctx, 2, events, sizeof(events));
        CHECK_EQ(events[0].res, -ECANCELED);
        CHECK_EQ(events[1].res, -ECANCELED);
    }
    call_end();
    free(name);
    free(other);
    free(fifo);
    return 0;
}
