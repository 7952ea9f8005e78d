/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* For children that a signal handler ends in the middle of their writes: each block that was accepted is there then. After stress.h. */
#ifndef AIO2_EXIT_INSIDE_H
#define AIO2_EXIT_INSIDE_H

#define BLOCK 4096
#define DEPTH 16

static struct shared {
    /* How many writes have been accepted. */
    uint64_t accepted;
} *shared;

static unsigned char *memory, *back;
static uint64_t blocks;

static void begin(uint64_t how_many)
{
    void *at;

    blocks = how_many;
    CHECK_EQ(posix_memalign(&at, 4096, (size_t)blocks * BLOCK), 0);
    memory = at;
    memset(memory, 0, (size_t)blocks * BLOCK);
    CHECK_EQ(posix_memalign(&at, 4096, BLOCK), 0);
    back = at;
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
}

/* The next child's blocks begin with that. */
static void begin_child(uint64_t seed)
{
    shared->accepted = 0;
    for (uint64_t i = 0; i < blocks; i++)
        memcpy(memory + i * BLOCK, &seed, sizeof(seed));
}

/* In the child. */
static void __attribute__((noreturn)) write_blocks(int fd, size_t depth)
{
    io_context2_t ctx = setup2(65536, 0, 0);
    uint64_t submitted = 0, done = 0;

    for (;;) {
        struct io_event2 events[DEPTH];
        ssize_t n;

        while (submitted - done < depth) {
            size_t at = submitted % blocks * BLOCK;
            struct iocb2 iocb;

            io_prep2_pwrite(&iocb, fd, memory + at, BLOCK, (int64_t)at);
            CHECK_EQ(io_submit2(ctx, &iocb, sizeof(iocb)), (ssize_t)sizeof(iocb));
            submitted++;
            __atomic_store_n(&shared->accepted, submitted, __ATOMIC_RELAXED);
        }
        n = io_getevents2(ctx, sizeof(events[0]), events, sizeof(events), NULL);
        CHECK_CMP(n, >, 0);
        for (size_t i = 0; i < (size_t)n / sizeof(events[0]); i++)
            CHECK_EQ(events[i].res, BLOCK);
        done += (size_t)n / sizeof(events[0]);
    }
}

/* The first block that does not begin with what the child wrote, and with what it does; false: there is none. */
static bool find_lost(int fd, uint64_t seed, uint64_t *number, uint64_t *seen)
{
    for (*number = 0; *number < shared->accepted && *number < blocks; ++*number) {
        CHECK_EQ(pread(fd, back, BLOCK, (off_t)(*number * BLOCK)), BLOCK);
        memcpy(seen, back, sizeof(*seen));
        if (*seen != seed)
            return true;
    }
    return false;
}

#endif /* AIO2_EXIT_INSIDE_H */
