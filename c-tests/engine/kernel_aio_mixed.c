/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * O_DIRECT reads and writes of one file, mixed, several in flight: one event each, and all data is right. With a thread that waits
 * for events without a time limit, one that waits with a time limit, and one that looks without waiting. It prints their thread
 * numbers: kernel_aio_mixed_calls.sh counts their system calls.
 */
#include "test.h"
#include "stress.h"

enum { BLOCK = 4096, DEPTH = 8, PLACES = 64, REQUESTS = 4000 };

enum how { WAITS, WAITS_FOR_A_TIME, LOOKS, HOWS };

static int fd;

static ssize_t take(io_context2_t ctx, enum how how, struct io_event2 *events, size_t bytes)
{
    struct timespec limit = timespec_ns(how == LOOKS ? 0 : PATIENCE_NS);

    return CALL(io_getevents2(ctx, sizeof(*events), events, bytes, how == WAITS ? NULL : &limit));
}

static void *run(void *arg)
{
    static const char *const names[HOWS] = { "waits", "waits for a time", "looks" };
    const enum how how = *(enum how *)arg;
    io_context2_t ctx = setup2(0, 0, 0);
    uint64_t rng = how + 1, submitted = 0, done = 0;
    unsigned char *memory;
    /* Of a place: its content, and whether a request is in flight. */
    uint64_t versions[PLACES] = { 0 };
    bool busy[PLACES] = { false };
    void *at;

    printf("%s: %d\n", names[how], (int)my_tid());
    CHECK_EQ(posix_memalign(&at, BLOCK, PLACES * BLOCK), 0);
    memory = at;
    memset(memory, 0, PLACES * BLOCK);
    for (int i = 0; i < PLACES; i++) {
        fill_pattern(memory, BLOCK, (uint64_t)i * BLOCK, 0);
        CHECK_EQ(pwrite(fd, memory, BLOCK, i * BLOCK), BLOCK);
    }
    while (done < REQUESTS) {
        struct iocb2 iocbs[DEPTH];
        struct io_event2 events[DEPTH];
        size_t n = 0;

        for (; submitted < REQUESTS && submitted - done < DEPTH; submitted++, n++) {
            uint64_t place = rng_below(&rng, PLACES);

            while (busy[place])
                place = (place + 1) % PLACES;
            busy[place] = true;
            const bool writes = rng_below(&rng, 2) == 0;
            unsigned char *buf = memory + place * BLOCK;

            if (writes) {
                fill_pattern(buf, BLOCK, place * BLOCK, ++versions[place]);
                io_prep2_pwrite(&iocbs[n], fd, buf, BLOCK, (int64_t)place * BLOCK);
            } else {
                memset(buf, 0xee, BLOCK);
                io_prep2_pread(&iocbs[n], fd, buf, BLOCK, (int64_t)place * BLOCK);
            }
            iocbs[n].data = place;
        }
        if (n != 0)
            submit_all(ctx, iocbs, n * sizeof(iocbs[0]));
        ssize_t got = take(ctx, how, events, sizeof(events));
        CHECK(got > 0 || (got == 0 && how == LOOKS));
        for (size_t i = 0; i < (size_t)got / sizeof(events[0]); i++, done++) {
            const uint64_t place = events[i].data;

            CHECK_EQ(events[i].res, BLOCK);
            CHECK(place < PLACES && busy[place]);
            CHECK_PATTERN(memory + place * BLOCK, BLOCK, place * BLOCK, versions[place]);
            busy[place] = false;
        }
    }
    CHECK_RING_DRAINED(ctx, REQUESTS);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    free(memory);
    return NULL;
}

int main(void)
{
    fd = temp_file(0, O_DIRECT);
    for (enum how how = 0; how < HOWS; how++)
        thread_join(thread_start(run, &how));
    return 0;
}
