/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The program may close its own eventfd descriptor: the eventfd goes on counting, and a file that gets the
 * number afterwards is never written to.
 */
#include "test.h"

static void run(io_context2_t ctx, int count)
{
    static unsigned char buf[1000 * 24];
    struct iocb2 iocb;

    io_prep2_nop(&iocb);
    for (int i = 0; i < count; i++)
        submit_one(ctx, &iocb);
    (void)get_events(ctx, (size_t)count, buf, sizeof(buf));
}

int main(void)
{
    struct io_setup2_params params = params2();
    io_context2_t ctx = NULL;
    eventfd_t count = 0;
    struct stat st;
    int kept;
    int fd;

    params.eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK(params.eventfd >= 0);
    kept = fcntl(params.eventfd, F_DUPFD_CLOEXEC, 500);
    CHECK(kept >= 500);
    CHECK_EQ(CALL(io_setup2(2, &params, &ctx)), 0);

    run(ctx, 10);
    close(params.eventfd);
    fd = temp_file(0, 0);
    if (fd != params.eventfd) {
        CHECK_EQ(dup3(fd, params.eventfd, O_CLOEXEC), params.eventfd);
        close(fd);
        fd = params.eventfd;
    }

    sleep_ms(50);
    (void)eventfd_read(kept, &count);
    run(ctx, 500);
    sleep_ms(50);
    CHECK_EQ(fstat(fd, &st), 0);
    CHECK_EQ(st.st_size, 0);
    CHECK_EQ(lseek(fd, 0, SEEK_CUR), 0);
    CHECK_SOON(eventfd_read(kept, &count) == 0);

    /* Nor is it closed with the context. */
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    CHECK_EQ(write(fd, "x", 1), 1);
    CHECK(fcntl(kept, F_GETFD) >= 0);
    return 0;
}
