/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * After a warm-up, ten thousand reads of a file, and NOPs with attributes, are submitted and reaped without an
 * allocation, a free or a mapping in any thread, the workers' included; also when events overflow the ring.
 */
#include "test.h"
#include "stress.h"
#include "alloc_hook.h"
#include "thread_hook.h"

#define READS 10000
#define DEPTH 64
#define BLOCK 512

static int fd;
static unsigned char buf[DEPTH][BLOCK];

static void fill(union iocb_room *room, size_t i, bool attributes)
{
    if (attributes)
        io_prep2_nop(&room->iocb);
    else
        io_prep2_pread(&room->iocb, fd, buf[i], BLOCK, (int64_t)(i * BLOCK));
    room->iocb.data = i;
    if (attributes) {
        CHECK(iocb2_add_attr(&room->iocb, IOCB_ATTR_TIMING, 0, 1, NULL, 0) != NULL);
        for (size_t j = 0; j < i % 3 * 40; j++)
            CHECK(iocb2_add_attr(&room->iocb, IOCB_ATTR_PRIVATE, 0, j, NULL, 0) != NULL);
    }
}

static void run(io_context2_t ctx, uint64_t n, bool attributes, bool user_space)
{
    static _Alignas(8) unsigned char out[DEPTH * 2048];

    for (uint64_t done = 0; done < n; done += DEPTH) {
        size_t count = 0;

        for (size_t i = 0; i < DEPTH; i++) {
            union iocb_room room;

            fill(&room, i, attributes);
            submit_one(ctx, &room.iocb);
        }
        while (count < DEPTH) {
            ssize_t got;

            if (user_space)
                got = (ssize_t)reap_user_space(ctx, (struct io_event2 *)(void *)out, sizeof(out), NULL);
            else
                got = io_getevents2(ctx, sizeof(struct io_event2), (struct io_event2 *)(void *)out, sizeof(out), NULL);
            CHECK_CMP(got, >=, 0);
            if (got == 0)
                sched_yield();
            for (size_t at = 0; at < (size_t)got; count++) {
                const struct io_event2 *event = (const struct io_event2 *)(const void *)(out + at);

                CHECK_EQ(event->res, attributes ? 0 : BLOCK);
                at += event->bytes;
            }
        }
    }
}

/*
 * As many requests at once as there ever will be, of both kinds: the workers are held up, so that none
 * of them completes before the last is submitted. Memory for requests grows to the most there were.
 */
static void reach_the_peak(io_context2_t ctx, uint32_t workers)
{
    static _Alignas(8) unsigned char out[(DEPTH + 2) * 2048];
    struct hold holds[2];

    for (int attributes = 0; attributes < 2; attributes++) {
        for (uint32_t i = 0; i < workers; i++)
            hold_submit(ctx, &holds[i], 1000);
        hold_wait_running((int)workers);
        for (size_t i = 0; i < DEPTH; i++) {
            union iocb_room room;

            fill(&room, i, attributes != 0);
            submit_one(ctx, &room.iocb);
        }
        for (uint32_t i = 0; i < workers; i++)
            hold_release(&holds[i]);
        (void)get_events(ctx, DEPTH + workers, out, sizeof(out));
        for (uint32_t i = 0; i < workers; i++)
            hold_close(&holds[i]);
    }
}

int main(void)
{
    allowed = INT_MAX / 2;
    fd = temp_pattern_file(DEPTH * BLOCK, 1, 0);
    /* With more workers than one, the pool may still grow when the machine is busy, which is not the steady state. */
    for (uint32_t workers = 1; workers <= 2; workers++) {
        io_context2_t ctx = setup2(4096, 0, workers);

        reach_the_peak(ctx, workers);
        for (int attributes = 0; attributes < 2; attributes++) {
            for (int user_space = 0; user_space < 2; user_space++) {
                int tries = 0;

                for (;;) {
                    int before;
                    int after;
                    int starts;

                    run(ctx, 1000, attributes != 0, user_space != 0);
                    before = count_workers();
                    starts = __atomic_load_n(&calls, __ATOMIC_RELAXED);
                    alloc_arm(0, 0);
                    run(ctx, READS, attributes != 0, user_space != 0);
                    alloc_disarm();
                    after = count_workers();
                    /*
                     * A thread that was started or ended costs allocations that are not the requests'. One that
                     * has just been started does not have its name yet, so the starts are counted, too.
                     */
                    if ((before == after && starts == __atomic_load_n(&calls, __ATOMIC_RELAXED)) || ++tries == 50)
                        break;
                }
                CHECK_EQ(alloc_calls, 0);
                CHECK_EQ(alloc_frees, 0);
            }
        }
        CHECK_CMP(ring_overflowed(ctx), >, 0);
        CHECK_RING_DRAINED(ctx, ring_submitted(ctx));
        CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    }

    /* The counting works: this is an allocation of the library's. */
    alloc_arm(0, 0);
    {
        io_context2_t ctx = setup2(4096, 0, 0);

        CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    }
    alloc_disarm();
    CHECK_CMP(alloc_calls, >, 0);
    return 0;
}
