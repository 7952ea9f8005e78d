/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Two contexts wait for one file. It becomes ready while the context that has asked first has no free worker: the other one
 * gets the available data. When the first has a worker again, it gets the next data.
 */
/* needs: readiness */
#include "test.h"
#include "stress.h"
#include <sys/socket.h>

#define P(pointer) ((uint64_t)(uintptr_t)(pointer))

static union event_room room;

static void submit_read(io_context2_t ctx, int fd, char *to)
{
    struct iocb2 iocb;

    io_prep2_syscall(&iocb, SYS_read, (uint64_t)fd, P(to), 1, 0, 0, 0);
    submit_one(ctx, &iocb);
}

int main(void)
{
    io_context2_t first = setup2(0, 0, 1), second = setup2(0, 0, 1);
    int sockets[2], ends[2];
    struct hold hold;
    char bytes[3] = { 0 };

    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    submit_read(first, sockets[0], &bytes[0]);
    CHECK_SOON(is_awaited(sockets[0]));
    hold_submit(first, &hold, 1);
    CHECK_SOON(count_workers_in(SYS_preadv2) == 1);
    submit_read(second, sockets[0], &bytes[1]);
    /* One worker tries one after the other. */
    submit_read(second, ends[0], &bytes[2]);
    CHECK_SOON(is_awaited(ends[0]));

    CHECK_EQ(write(sockets[1], "x", 1), 1);
    get_one(second, &room.event);
    CHECK_EQ(room.event.res, 1);
    CHECK_EQ(bytes[1], 'x');
    expect_no_event(first, 0);

    hold_release(&hold);
    get_one(first, &room.event);
    CHECK_EQ(room.event.data, 1);
    CHECK_EQ(write(sockets[1], "y", 1), 1);
    get_one(first, &room.event);
    CHECK_EQ(room.event.res, 1);
    CHECK_EQ(bytes[0], 'y');
    hold_close(&hold);
    CHECK_EQ(CALL(io_destroy2(first)), 0);
    CHECK_EQ(CALL(io_destroy2(second)), 0);
    return 0;
}
