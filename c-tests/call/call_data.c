/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Each call that moves data moves the right bytes to the right place: reads and writes, plain and vectored, at offsets beyond 4 GiB, too. */
#include "test.h"

enum { SIZE = 1 << 18 };

static io_context2_t ctx;
static unsigned char buf[SIZE];
static unsigned char back[SIZE];

/* One request through the ring; its result. */
static int64_t run(uint32_t nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
    union event_room room;
    struct iocb2 iocb;

    io_prep2_syscall(&iocb, nr, a0, a1, a2, a3, a4, a5);
    iocb.data = nr;
    submit_one(ctx, &iocb);
    get_one(ctx, &room.event);
    CHECK_EQ(room.event.data, nr);
    CHECK_EQ(room.event.bytes, 24);
    CHECK_EQ(room.event.flags, 0);
    return room.event.res;
}

/* Three pieces, of which the second is empty and the last begins at an odd address. */
static int split(struct iovec *iov, unsigned char *base)
{
    iov[0].iov_base = base;
    iov[0].iov_len = 1001;
    iov[1].iov_base = NULL;
    iov[1].iov_len = 0;
    iov[2].iov_base = base + 1001;
    iov[2].iov_len = SIZE - 1001;
    return 3;
}

#define P(pointer) ((uint64_t)(uintptr_t)(pointer))

int main(void)
{
    const uint64_t offsets[] = { 0, 4096, 12345, UINT64_C(5) << 30 };
    struct iovec iov[3];
    const uint64_t fd = (uint64_t)temp_file(0, 0);
    uint64_t seed = 0;

    ctx = setup2(0, 0, 0);
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        const uint64_t offset = offsets[i];

        /* Written through the library, read back by the system call. */
        fill_pattern(buf, SIZE, offset, ++seed);
        CHECK_EQ(run(SYS_pwrite64, fd, P(buf), SIZE, offset, 0, 0), SIZE);
        memset(back, 0, SIZE);
        CHECK_EQ(pread((int)fd, back, SIZE, (off_t)offset), SIZE);
        CHECK_PATTERN(back, SIZE, offset, seed);

        fill_pattern(buf, SIZE, offset, ++seed);
        CHECK_EQ(run(SYS_pwritev, fd, P(iov), (uint64_t)split(iov, buf), offset, 0, 0), SIZE);
        memset(back, 0, SIZE);
        CHECK_EQ(pread((int)fd, back, SIZE, (off_t)offset), SIZE);
        CHECK_PATTERN(back, SIZE, offset, seed);

        fill_pattern(buf, SIZE, offset, ++seed);
        CHECK_EQ(run(SYS_pwritev2, fd, P(iov), (uint64_t)split(iov, buf), offset, 0, RWF_DSYNC), SIZE);
        memset(back, 0, SIZE);
        CHECK_EQ(pread((int)fd, back, SIZE, (off_t)offset), SIZE);
        CHECK_PATTERN(back, SIZE, offset, seed);

        /* Written by the system call, read back through the library. */
        fill_pattern(buf, SIZE, offset, ++seed);
        CHECK_EQ(pwrite((int)fd, buf, SIZE, (off_t)offset), SIZE);
        memset(back, 0, SIZE);
        CHECK_EQ(run(SYS_pread64, fd, P(back), SIZE, offset, 0, 0), SIZE);
        CHECK_PATTERN(back, SIZE, offset, seed);
        memset(back, 0, SIZE);
        CHECK_EQ(run(SYS_preadv, fd, P(iov), (uint64_t)split(iov, back), offset, 0, 0), SIZE);
        CHECK_PATTERN(back, SIZE, offset, seed);
        memset(back, 0, SIZE);
        CHECK_EQ(run(SYS_preadv2, fd, P(iov), (uint64_t)split(iov, back), offset, 0, 0), SIZE);
        CHECK_PATTERN(back, SIZE, offset, seed);

        /* Short at the end of the file, nothing behind it. */
        CHECK_EQ(run(SYS_pread64, fd, P(back), SIZE, offset + SIZE - 100, 0, 0), 100);
        CHECK_EQ(run(SYS_pread64, fd, P(back), SIZE, offset + 2 * SIZE + (UINT64_C(6) << 30), 0, 0), 0);
        CHECK_EQ(ftruncate((int)fd, 0), 0);
    }

    /* RWF_APPEND goes to the end, wherever the offset points; -1 is the file position. */
    CHECK_EQ(ftruncate((int)fd, 0), 0);
    fill_pattern(buf, SIZE, 0, 1);
    iov[0].iov_base = buf;
    iov[0].iov_len = 10;
    CHECK_EQ(run(SYS_pwritev2, fd, P(iov), 1, 0, 0, 0), 10);
    iov[0].iov_base = buf + 10;
    CHECK_EQ(run(SYS_pwritev2, fd, P(iov), 1, 0, 0, RWF_APPEND), 10);
    CHECK_EQ(lseek((int)fd, 20, SEEK_SET), 20);
    iov[0].iov_base = buf + 20;
    CHECK_EQ(run(SYS_pwritev2, fd, P(iov), 1, UINT64_MAX, 0, 0), 10);
    CHECK_EQ(lseek((int)fd, 0, SEEK_CUR), 30);
    CHECK_EQ(pread((int)fd, back, SIZE, 0), 30);
    CHECK_PATTERN(back, 30, 0, 1);
    CHECK_EQ(lseek((int)fd, 5, SEEK_SET), 5);
    iov[0].iov_base = back;
    iov[0].iov_len = 7;
    CHECK_EQ(run(SYS_preadv2, fd, P(iov), 1, UINT64_MAX, 0, 0), 7);
    CHECK_PATTERN(back, 7, 5, 1);
    CHECK_EQ(lseek((int)fd, 0, SEEK_CUR), 12);

    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
