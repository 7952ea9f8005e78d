/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * O_DIRECT writes that follow each other in a file, and a file size limit (RLIMIT_FSIZE) within one of them: that write returns
 * the number of bytes up to the limit, and the writes behind it return -EFBIG. The same with O_APPEND, where the file contains
 * exactly the bytes that the events report: none twice, and none that no event reports.
 */
#include "test.h"
#include "stress.h"
#include <sys/resource.h>

enum { BLOCK = 4096, PART = 1024, DEPTH = 64, BLOCKS = 640, LIMIT = 601, ROUNDS = 10 };

static unsigned char *memory;

/* How the events are taken. */
static ssize_t take(io_context2_t ctx, bool waits, struct io_event2 *events, size_t nbytes)
{
    sigset_t mask;

    if (waits)
        return io_getevents2(ctx, sizeof(*events), events, nbytes, NULL);
    /* One who waits with a mask hands nothing over. */
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
    return io_pgetevents2(ctx, sizeof(*events), events, nbytes, NULL, &mask);
}

/* Writes all blocks, DEPTH at a time; how many bytes the events speak of, and how many of them are short. */
static int64_t write_all(io_context2_t ctx, int fd, bool waits, int *shorts)
{
    int64_t bytes = 0;
    int in_flight = 0, next = 0;

    *shorts = 0;
    while (next < BLOCKS || in_flight != 0) {
        struct io_event2 events[DEPTH];
        struct iocb2 iocbs[DEPTH];
        int n = 0;

        for (; in_flight + n < DEPTH && next < BLOCKS; n++, next++) {
            io_prep2_pwrite(&iocbs[n], fd, memory + (int64_t)next * BLOCK, BLOCK, (int64_t)next * BLOCK);
            iocbs[n].data = (uint64_t)next;
        }
        if (n != 0)
            submit_all(ctx, iocbs, (size_t)n * sizeof(iocbs[0]));
        in_flight += n;
        ssize_t got = take(ctx, waits, events, sizeof(events));
        CHECK_CMP(got, >, 0);
        for (size_t i = 0; i < (size_t)got / sizeof(events[0]); i++) {
            in_flight--;
            if (events[i].res == -EFBIG)
                continue;
            CHECK_CMP(events[i].res, >, 0);
            bytes += events[i].res;
            *shorts += events[i].res != BLOCK;
        }
    }
    return bytes;
}

int main(void)
{
    const struct rlimit limit = { (rlim_t)LIMIT * BLOCK + PART, RLIM_INFINITY };
    const struct rlimit none = { RLIM_INFINITY, RLIM_INFINITY };

    CHECK_EQ(posix_memalign((void **)&memory, BLOCK, (size_t)BLOCKS * BLOCK), 0);
    fill_pattern(memory, (size_t)BLOCKS * BLOCK, 0, 1);
    CHECK(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    for (int waits = 0; waits < 2; waits++) {
        for (int appends = 0; appends < 2; appends++) {
            io_context2_t ctx = setup2(0, 0, 0);

            for (uint64_t round = 0; round < fewer(ROUNDS); round++) {
                int fd = temp_file(0, O_DIRECT | (appends ? O_APPEND : 0));
                struct stat st;
                int shorts;

                /* So that it is known to wait. */
                CHECK_EQ(write_all(ctx, fd, waits, &shorts), (int64_t)BLOCKS * BLOCK);
                CHECK_EQ(ftruncate(fd, 0), 0);
                CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
                /* Is the part that fits one that this file system can write past the page cache? */
                if (waits == 0 && appends == 0 && round == 0 && pwrite(fd, memory, BLOCK, LIMIT * BLOCK) != PART)
                    SKIP("no part of a block can be written");
                CHECK_EQ(ftruncate(fd, 0), 0);
                int64_t bytes = write_all(ctx, fd, waits, &shorts);
                CHECK_EQ(setrlimit(RLIMIT_FSIZE, &none), 0);
                CHECK_EQ(fstat(fd, &st), 0);
                CHECK_EQ(bytes, LIMIT * BLOCK + PART);
                CHECK_EQ(st.st_size, LIMIT * BLOCK + PART);
                CHECK_EQ(shorts, 1);
                if (!appends) {
                    unsigned char *seen = memory + (int64_t)LIMIT * BLOCK;

                    memset(seen, 0, BLOCK);
                    CHECK_EQ(pread(fd, seen, BLOCK, (off_t)LIMIT * BLOCK), PART);
                    CHECK_PATTERN(seen, PART, (uint64_t)LIMIT * BLOCK, 1);
                    fill_pattern(memory, (size_t)BLOCKS * BLOCK, 0, 1);
                }
                CHECK_EQ(close(fd), 0);
            }
            CHECK_EQ(CALL(io_destroy2(ctx)), 0);
        }
    }
    return 0;
}
