/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A write to a pipe that nobody reads is -EPIPE in `res`: the SIGPIPE that comes with it does not end the program. */
#include "test.h"

int main(void)
{
    io_context2_t ctx = setup2(0, 0, 0);
    union event_room room;
    struct iocb2 iocb;
    struct iovec iov;
    char byte = 'x';
    int pair[2];

    CHECK(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
    CHECK_EQ(pipe2(pair, O_CLOEXEC), 0);
    close(pair[0]);
    iov.iov_base = &byte;
    iov.iov_len = 1;
    for (int i = 0; i < 50; i++) {
        io_prep2_pwritev2(&iocb, pair[1], &iov, 1, -1, 0);
        submit_one(ctx, &iocb);
        get_one(ctx, &room.event);
        CHECK_EQ(room.event.res, -EPIPE);
    }
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
