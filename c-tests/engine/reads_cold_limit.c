/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A context with two workers. One of them takes two reads of data that is not in the page cache, so that a request which may wait for
 * ever cannot begin. It begins when the reads have ended, although nothing else is submitted.
 */
#include "test.h"

enum { BLOCK = 4096, BLOCKS = 4096, BEFORE = 300, ROUNDS = 600, LAST = 100 };

int main(void)
{
    static unsigned char bufs[2][BLOCK], events[3 * sizeof(struct io_event2)];
    io_context2_t ctx = setup2(64, 0, 2);
    int fd = temp_pattern_file((size_t)BLOCKS * BLOCK, 1, 0);
    int64_t at = 0;

    CHECK_EQ(fsync(fd), 0);
    CHECK_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM), 0);
    for (int round = 0; round < ROUNDS; round++, at += 2) {
        static const struct timespec moment = { 0, 1000 };
        struct iocb2 iocbs[3];
        size_t count = 2;

        if (at % BLOCKS == 0)
            CHECK_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
        for (int i = 0; i < 2; i++) {
            io_prep2_pread(&iocbs[i], fd, bufs[i], BLOCK, (at + i) % BLOCKS * BLOCK);
            iocbs[i].data = (uint64_t)i;
        }
        /* The reads alone are what the library learns from. */
        if (round >= BEFORE) {
            io_prep2_syscall(&iocbs[2], SYS_nanosleep, (uintptr_t)&moment, 0, 0, 0, 0, 0);
            iocbs[2].data = LAST;
            count = 3;
        }
        submit_all(ctx, iocbs, count * sizeof(iocbs[0]));
        (void)get_events(ctx, count, events, sizeof(events));
        for (int i = 0; i < 2; i++)
            CHECK_PATTERN(bufs[i], BLOCK, (uint64_t)((at + i) % BLOCKS) * BLOCK, 1);
    }
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
