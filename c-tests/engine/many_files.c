/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A caller that waits for cached reads carries them out itself, even if it reads a thousand files in turn, each a few
 * times: the library expects of new files what it has learned of others. It does not for files of another kind, nor for files
 * whose content the kernel generates, as in /proc, because they may wait for ever. If there is no memory for so many profiles, less
 * is learned, and no event is lost. The kernel counts the reads of each thread, which shows the thread that made a call.
 */
#include "test.h"
#include "stress.h"
#include "alloc_hook.h"

#define FILES 1000
#define FILE_BYTES 4096
#define BLOCK 512
#define READS 4096
/* A busy machine keeps a caller from its reads now and then: the best of so many. */
#define TRIES 5

#define OTHERS 50

static int files[FILES], others[OTHERS];

/* Reads blocks, one at a time, of so many files in turn; returns how many of them this thread has read itself. */
static long read_in_turn(io_context2_t ctx, unsigned int count, unsigned int reads)
{
    long before = own_reads();

    for (unsigned int i = 0; i < reads; i++) {
        unsigned char memory[BLOCK];
        struct io_event2 event;
        struct iocb2 iocb;
        unsigned int at = i * BLOCK % FILE_BYTES;

        memset(memory, 0x55, BLOCK);
        io_prep2_pread(&iocb, files[i % count], memory, BLOCK, (int64_t)at);
        iocb.data = i;
        submit_one(ctx, &iocb);
        CHECK_EQ(CALL(io_getevents2(ctx, sizeof(event), &event, sizeof(event), NULL)), (long long)sizeof(event));
        CHECK_EQ(event.data, i);
        CHECK_EQ(event.res, BLOCK);
        CHECK_PATTERN(memory, BLOCK, at, i % count);
    }
    return own_reads() - before - 1;
}

/* Reads new files of another kind, once each; returns how many of them this thread has read itself. */
static long read_others(io_context2_t ctx)
{
    long before = own_reads();

    for (unsigned int i = 0; i < OTHERS; i++) {
        unsigned char memory[BLOCK];
        struct io_event2 event;
        struct iocb2 iocb;

        others[i] = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
        CHECK_CMP(others[i], >=, 0);
        io_prep2_pread(&iocb, others[i], memory, BLOCK, 0);
        submit_one(ctx, &iocb);
        CHECK_EQ(CALL(io_getevents2(ctx, sizeof(event), &event, sizeof(event), NULL)), (long long)sizeof(event));
        CHECK_EQ(event.res, BLOCK);
    }
    return own_reads() - before - 1;
}

static long most_in_turn(unsigned int count, long enough)
{
    long most = 0;

    for (int try = 0; try < TRIES && most < enough; try++) {
        io_context2_t ctx = setup2(0, 0, 0);
        long own = read_in_turn(ctx, count, READS);

        if (own > most)
            most = own;
        CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    }
    printf("%u files: %ld of %d reads by the caller\n", count, most, READS);
    return most;
}

int main(void)
{
    static const unsigned int counts[] = { 8, 64, FILES };
    struct rlimit limit;
    io_context2_t ctx;
    long alone;

    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_cur < FILES + 100)
        SKIP("this process may not have a thousand files open");
    for (unsigned int i = 0; i < FILES; i++)
        files[i] = temp_pattern_file(FILE_BYTES, i, 0);

    alone = most_in_turn(1, READS - 100);
    if (alone < READS / 2)
        SKIP("this machine is too busy for callers to carry anything out");
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
        CHECK_CMP(most_in_turn(counts[i], alone - alone / 10), >=, alone - alone / 10);

    ctx = setup2(0, 0, 0);
    read_in_turn(ctx, 64, READS);
    CHECK_EQ(read_others(ctx), 0);
    alloc_arm(1, 1);
    read_in_turn(ctx, FILES, READS);
    alloc_disarm();
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
