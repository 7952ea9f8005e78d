/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* fallocate and the sync calls do their work: space is allocated, a hole is punched, and a read shows it. */
#include "test.h"

#include <linux/falloc.h>

enum { SIZE = 1 << 20 };

static io_context2_t ctx;

static int64_t run(struct iocb2 *iocb)
{
    union event_room room;

    submit_one(ctx, iocb);
    get_one(ctx, &room.event);
    return room.event.res;
}

int main(void)
{
    static unsigned char buf[SIZE];
    static const unsigned char zeros[8192];
    struct iocb2 iocb;
    struct stat st;
    int fd = temp_file(0, 0);
    int64_t res;

    ctx = setup2(0, 0, 0);
    io_prep2_syscall(&iocb, SYS_fallocate, (uint64_t)fd, 0, 0, SIZE, 0, 0);
    res = run(&iocb);
    if (res == -EOPNOTSUPP)
        SKIP("the file system for temporary files has no fallocate");
    CHECK_EQ(res, 0);
    CHECK_EQ(fstat(fd, &st), 0);
    CHECK_EQ(st.st_size, SIZE);
    CHECK_CMP(st.st_blocks * 512, >=, SIZE);

    fill_pattern(buf, SIZE, 0, 9);
    io_prep2_pwrite(&iocb, fd, buf, SIZE, 0);
    CHECK_EQ(run(&iocb), SIZE);
    io_prep2_syscall(&iocb, SYS_sync_file_range, (uint64_t)fd, 0, SIZE, SYNC_FILE_RANGE_WRITE, 0, 0);
    CHECK_EQ(run(&iocb), 0);
    io_prep2_fdatasync(&iocb, fd);
    CHECK_EQ(run(&iocb), 0);
    io_prep2_fsync(&iocb, fd);
    CHECK_EQ(run(&iocb), 0);

    io_prep2_syscall(&iocb, SYS_fallocate, (uint64_t)fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 8192, 8192, 0, 0);
    res = run(&iocb);
    if (res == -EOPNOTSUPP)
        SKIP("the file system for temporary files punches no holes");
    CHECK_EQ(res, 0);
    memset(buf, 0xff, SIZE);
    io_prep2_pread(&iocb, fd, buf, SIZE, 0);
    CHECK_EQ(run(&iocb), SIZE);
    CHECK_PATTERN(buf, 8192, 0, 9);
    CHECK_MEM(buf + 8192, zeros, 8192);
    CHECK_PATTERN(buf + 16384, SIZE - 16384, 16384, 9);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
