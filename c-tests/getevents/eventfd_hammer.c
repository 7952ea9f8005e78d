/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A reaper that sleeps on the eventfd and nowhere else misses nothing: a few requests at a time, carried out by
 * several workers at once, whose signals may meet; in user space, by io_getevents2, with overflow; the
 * eventfd blocking, non-blocking, and full to its maximum at first.
 */
#include "test.h"
#include "stress.h"

#define ROUNDS 15000
#define MOST 8

static void run(int flags, bool user_space, bool full, uint32_t workers)
{
    struct io_setup2_params params = params2();
    int efd = eventfd(0, EFD_CLOEXEC | flags);
    int fd = temp_pattern_file(4096, 1, 0);
    io_context2_t ctx = NULL;
    uint64_t rng = 1;
    uint64_t n = 0;

    CHECK(efd >= 0);
    params.ring_bytes = 4096;
    params.eventfd = efd;
    params.workers = workers;
    CHECK_EQ(CALL(io_setup2(IO_SETUP2_VERSION, &params, &ctx)), 0);
    for (uint64_t round = 0; round < fewer(ROUNDS); round++) {
        uint64_t count = 1 + rng_below(&rng, MOST);
        struct iocb2 iocbs[MOST];
        static char sink[MOST];

        if (full && round % 100 == 0) {
            uint64_t most = UINT64_MAX - 1;
            uint64_t old;

            /* A late signal of the last round may come in between: then it is not empty, and once more. */
            CHECK_EQ(fcntl(efd, F_SETFL, O_NONBLOCK), 0);
            while (write(efd, &most, sizeof(most)) != sizeof(most)) {
                CHECK_EQ(errno, EAGAIN);
                CHECK(read(efd, &old, sizeof(old)) == sizeof(old) || errno == EAGAIN);
            }
            CHECK_EQ(fcntl(efd, F_SETFL, (flags & EFD_NONBLOCK) != 0 ? O_NONBLOCK : 0), 0);
        }
        for (uint64_t i = 0; i < count; i++) {
            if (rng_below(&rng, 2) == 0)
                io_prep2_nop(&iocbs[i]);
            else
                io_prep2_pread(&iocbs[i], fd, &sink[i], 1, 0);
            iocbs[i].data = n + i;
        }
        /* In one go, or one by one: then it takes several workers. */
        if (rng_below(&rng, 2) == 0) {
            submit_all(ctx, iocbs, count * sizeof(iocbs[0]));
        } else {
            for (uint64_t i = 0; i < count; i++)
                submit_one(ctx, &iocbs[i]);
        }
        n += count;
        while (count != 0) {
            struct pollfd pollfd = { .fd = efd, .events = POLLIN };
            struct io_event2 events[3];
            uint64_t value;
            size_t got;

            if (poll(&pollfd, 1, 15000) != 1)
                FAIL("round %" PRIu64 ": %" PRIu64 " events to come, and no signal; completed %" PRIu64 " of %" PRIu64, round, count,
                     ring_completed(ctx), n);
            CHECK_EQ(read(efd, &value, sizeof(value)), sizeof(value));
            do {
                ssize_t result;

                if (user_space)
                    result = (ssize_t)reap_user_space(ctx, events, sizeof(events), NULL);
                else
                    result = io_getevents2(ctx, 0, events, sizeof(events), NULL);
                CHECK_CMP(result, >=, 0);
                got = (size_t)result / sizeof(events[0]);
                CHECK_CMP(got, <=, count);
                count -= got;
            } while (got != 0);
        }
    }
    CHECK_RING_DRAINED(ctx, n);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    close(efd);
    close(fd);
}

int main(void)
{
    run(0, true, false, 0);
    run(EFD_NONBLOCK, false, false, 4);
    run(0, false, true, 4);
    run(EFD_NONBLOCK, true, true, 0);
    return 0;
}
