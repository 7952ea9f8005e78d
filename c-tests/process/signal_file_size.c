/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A write beyond RLIMIT_FSIZE is -EFBIG in `res`: the SIGXFSZ that comes with it does not end the program. */
#include "test.h"

int main(void)
{
    io_context2_t ctx = setup2(0, 0, 0);
    struct rlimit limit = { 8192, 8192 };
    union event_room room;
    struct iocb2 iocb;
    struct iovec iov;
    char buf[4096] = { 0 };
    struct stat st;
    int fd = temp_file(0, 0);

    CHECK(signal(SIGXFSZ, SIG_DFL) != SIG_ERR);
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    for (int i = 0; i < 50; i++) {
        io_prep2_pwrite(&iocb, fd, buf, sizeof(buf), 8192);
        submit_one(ctx, &iocb);
        get_one(ctx, &room.event);
        CHECK_EQ(room.event.res, -EFBIG);

        iov.iov_base = buf;
        iov.iov_len = sizeof(buf);
        io_prep2_pwritev2(&iocb, fd, &iov, 1, 1 << 20, 0);
        submit_one(ctx, &iocb);
        get_one(ctx, &room.event);
        CHECK_EQ(room.event.res, -EFBIG);

        io_prep2_syscall(&iocb, SYS_fallocate, (uint64_t)fd, 0, 0, 8193, 0, 0);
        submit_one(ctx, &iocb);
        get_one(ctx, &room.event);
        CHECK_EQ(room.event.res, -EFBIG);

        /* Up to the limit it is written. */
        io_prep2_pwrite(&iocb, fd, buf, sizeof(buf), 8192 - 100);
        submit_one(ctx, &iocb);
        get_one(ctx, &room.event);
        CHECK_EQ(room.event.res, 100);
    }
    CHECK_EQ(fstat(fd, &st), 0);
    CHECK_EQ(st.st_size, 8192);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
