/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The program's thread-local variables are on every thread's stack, also on those of the library's threads. Even if they are
 * large, there is a worker, and a program that waits for an eventfd or looks at the ring gets its events.
 */
#include "test.h"
#include "stress.h"

static _Thread_local char variables[1 << 20];

int main(void)
{
    struct io_setup2_params params = params2();
    int fd = temp_pattern_file(4096, 1, 0);
    io_context2_t ctx = NULL;
    struct iocb2 iocbs[2];
    struct pollfd poller;
    struct hold hold;
    char buf[2][16];

    variables[sizeof(variables) - 1] = 1;
    params.eventfd = eventfd(0, EFD_CLOEXEC);
    poller.fd = params.eventfd;
    poller.events = POLLIN;
    CHECK_EQ(CALL(io_setup2(IO_SETUP2_VERSION, &params, &ctx)), 0);
    for (int i = 0; i < 2; i++) {
        io_prep2_pread(&iocbs[i], fd, buf[i], sizeof(buf[i]), 16 * i);
        iocbs[i].data = (uint64_t)i;
    }
    submit_all(ctx, iocbs, sizeof(iocbs));
    CHECK_EQ(poll(&poller, 1, PATIENCE_S * 1000), 1);
    CHECK_SOON(ring_completed(ctx) == 2);
    CHECK_PATTERN(buf[0], 16, 0, 1);
    CHECK_PATTERN(buf[1], 16, 16, 1);

    /* One that waits for somebody else needs a thread. */
    hold_submit(ctx, &hold, 2);
    hold_wait_running(1);
    hold_release(&hold);
    CHECK_SOON(ring_completed(ctx) == 3);
    hold_close(&hold);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    CHECK_EQ(variables[sizeof(variables) - 1], 1);
    return 0;
}
