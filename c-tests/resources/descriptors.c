/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A context's descriptors: one, two with an eventfd, all close-on-exec; all given back by
 * io_destroy2(), also after failed setups; io_ring_fd2() gives a new one each time, for the caller to close.
 */
#include "test.h"

static int count_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    struct dirent *entry;
    int count = 0;

    CHECK(dir != NULL);
    while ((entry = readdir(dir)) != NULL) {
        int fd = atoi(entry->d_name);

        if (entry->d_name[0] == '.' || fd == dirfd(dir))
            continue;
        /* The three standard ones are the runner's. */
        if (fd > 2) {
            int flags = fcntl(fd, F_GETFD);

            if (flags >= 0 && (flags & FD_CLOEXEC) == 0)
                FAIL("descriptor %d is not close-on-exec", fd);
        }
        count++;
    }
    closedir(dir);
    return count;
}

int main(void)
{
    struct io_setup2_params params = params2();
    io_context2_t ctx = NULL;
    union event_room room;
    struct iocb2 iocb;
    int before;
    int ring;
    int second;
    int fd;

    /* Whatever the caller of the test passed on. */
    CHECK_EQ(syscall(SYS_close_range, 3, UINT_MAX, 0), 0);
    io_prep2_nop(&iocb);

    /* What the library keeps for itself, if anything, it opens with the first context. */
    ctx = setup2(0, 0, 0);
    submit_one(ctx, &iocb);
    get_one(ctx, &room.event);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    before = count_descriptors();

    ctx = setup2(0, 0, 0);
    CHECK_EQ(count_descriptors(), before + 1);
    submit_one(ctx, &iocb);
    get_one(ctx, &room.event);
    CHECK_EQ(count_descriptors(), before + 1);
    ring = (int)CALL(io_ring_fd2(ctx));
    CHECK_CMP(ring, >=, 0);
    second = (int)CALL(io_ring_fd2(ctx));
    CHECK_CMP(second, >=, 0);
    CHECK(ring != second);
    CHECK_EQ(count_descriptors(), before + 3);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    CHECK_EQ(count_descriptors(), before + 2);
    close(ring);
    close(second);
    CHECK_EQ(count_descriptors(), before);

    fd = eventfd(0, EFD_CLOEXEC);
    CHECK(fd >= 0);
    for (int i = 0; i < 200; i++) {
        params = params2();
        params.eventfd = fd;
        ctx = NULL;
        CHECK_EQ(CALL(io_setup2(2, &params, &ctx)), 0);
        CHECK_EQ(count_descriptors(), before + 3);
        submit_one(ctx, &iocb);
        CHECK_EQ(CALL(io_destroy2(ctx)), 0);
        CHECK_EQ(count_descriptors(), before + 1);

        /* Failed ones. */
        ctx = NULL;
        params.reserved[3] = 1;
        CHECK_EQ(CALL(io_setup2(2, &params, &ctx)), -EINVAL);
        params.reserved[3] = 0;
        params.eventfd = 2;
        CHECK_EQ(CALL(io_setup2(2, &params, &ctx)), -EINVAL);
        CHECK_EQ(count_descriptors(), before + 1);
    }
    close(fd);
    return 0;
}
