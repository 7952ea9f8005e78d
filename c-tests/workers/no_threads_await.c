/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A poll request of io_submit() for which no thread can be created any more ends as soon as its file is ready, also if the file reports its
 * event only once, as the list of mounts does.
 */
/* needs: root */
#include "test.h"
#include "thread_hook.h"
/* It has what libaio's has. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#include <aio2/libaio.h>
#pragma GCC diagnostic pop
#include <sched.h>
#include <sys/mount.h>

static void submit(io_context_t ctx, struct iocb *iocb)
{
    CHECK_EQ(io_submit(ctx, 1, &iocb), 1);
}

static void get(io_context_t ctx, const struct iocb *iocb, struct io_event *event)
{
    struct timespec limit = timespec_ns(PATIENCE_NS);

    CHECK_EQ(io_getevents(ctx, 1, 1, event, &limit), 1);
    CHECK_EQ(event->obj, iocb);
}

int main(void)
{
    io_context_t ctx = NULL;
    struct io_event event;
    struct iocb read, wait, mounts;
    char byte, *path = temp_path("mounted");
    int ends[2], fd;

    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        SKIP("no mounts of its own");
    CHECK((fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC)) >= 0);
    CHECK_EQ(mkdir(path, 0700), 0);
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    CHECK_EQ(io_setup(8, &ctx), 0);

    /* There is a worker, but no thread for the epoll: the worker itself waits for the first file, and no thread for the second. */
    allowed = 3;
    CHECK_EQ(write(ends[1], "x", 1), 1);
    io_prep_pread(&read, ends[0], &byte, 1, 0);
    submit(ctx, &read);
    get(ctx, &read, &event);
    allowed = 0;
    io_prep_poll(&wait, ends[0], POLLIN);
    submit(ctx, &wait);
    CHECK_SOON(count_workers_in(SYS_ppoll) == 1);
    io_prep_poll(&mounts, fd, POLLPRI);
    submit(ctx, &mounts);
    CHECK_SOON(__atomic_load_n(&failures, __ATOMIC_RELAXED) > 1);

    if (mount("no_threads_await", path, "tmpfs", 0, NULL) != 0)
        SKIP("no mounts");
    get(ctx, &mounts, &event);
    CHECK((event.res & POLLPRI) != 0);
    CHECK_EQ(write(ends[1], "x", 1), 1);
    get(ctx, &wait, &event);
    CHECK((event.res & POLLIN) != 0);
    CHECK_EQ(io_destroy(ctx), 0);
    CHECK_EQ(umount(path), 0);
    CHECK_EQ(rmdir(path), 0);
    free(path);
    return 0;
}
