/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * io_setup2() under an RLIMIT_FSIZE that is smaller than the ring: no signal comes, nor is one left behind, and the context works as
 * any other, also where the ring wraps. Its memory is no file: io_ring_fd2() says -EFBIG.
 */
#include "test.h"
#include "stress.h"

#define RING_BYTES 16384

static void limit_file_size(rlim_t bytes)
{
    const struct rlimit limit = { bytes, RLIM_INFINITY };

    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void works(bool is_file)
{
    io_context2_t ctx = setup2(RING_BYTES, 0, 0);
    struct io_event2 events[64];
    uint64_t done = 0;
    int fd = (int)CALL(io_ring_fd2(ctx));

    if (is_file) {
        CHECK_CMP(fd, >=, 0);
        close(fd);
    } else {
        CHECK_EQ(fd, -EFBIG);
        CHECK_EQ(ctx->features & IO_FEAT2_RING_SEALED, 0);
    }
    CHECK_EQ(ctx->magic, IO_RING2_MAGIC);
    CHECK_EQ(ctx->ring_bytes, RING_BYTES);
    /* Several times round, and beyond what there is room for. */
    for (int round = 0; round < 20; round++) {
        const uint64_t n = round % 5 == 4 ? 2000 : 333;

        submit_nops(ctx, done, n);
        for (uint64_t left = n; left != 0;) {
            ssize_t got = (ssize_t)reap_user_space(ctx, events, sizeof(events), NULL);

            CHECK_CMP(got, >=, 0);
            for (size_t i = 0; i < (size_t)got / sizeof(events[0]); i++)
                CHECK_EQ(events[i].res, 0);
            left -= (uint64_t)got / sizeof(events[0]);
            if (got == 0)
                sched_yield();
        }
        done += n;
    }
    CHECK_RING_DRAINED(ctx, done);
    pid_t child = fork();
    if (child == 0)
        _exit(io_destroy2(ctx) == -EINVAL ? 0 : 1);
    wait_child(child);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    CHECK_EQ(CALL(io_destroy2(ctx)), -EINVAL);
}

static void __attribute__((noreturn)) run(int part)
{
    static const rlim_t limits[] = { 0, 1, 4096, RING_BYTES, RING_BYTES + 4095 };
    sigset_t set, pending;

    CHECK_EQ(sigemptyset(&set), 0);
    CHECK_EQ(sigaddset(&set, SIGXFSZ), 0);
    if (part == 1)
        CHECK_EQ(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        limit_file_size(limits[i]);
        works(false);
        CHECK_EQ(sigpending(&pending), 0);
        CHECK_EQ(sigismember(&pending, SIGXFSZ), 0);
    }
    limit_file_size((rlim_t)sysconf(_SC_PAGESIZE) + RING_BYTES);
    works(true);
    exit(0);
}

int main(void)
{
    const struct rlimit no_core = { 0, 0 };

    CHECK_EQ(setrlimit(RLIMIT_CORE, &no_core), 0);
    for (int part = 0; part < 2; part++) {
        fflush(NULL);
        pid_t child = fork();

        if (child == 0)
            run(part);
        wait_child(child);
    }
    return 0;
}
