/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The cost of libaio2's own calls, by no-ops: a round trip (submit, then getevents), submit alone, and reaping alone (with the call, and
 * in user space), at 1 and 32 a call; and with two threads, each on a context of its own and both on one. In nanoseconds for each
 * request: the median of several rounds. Then the cost that IOCB_ATTR_TIMING adds to a round trip, in readings of the clock, whose cost is
 * measured beside it: it makes three.
 */
#include "bench.h"
#include <unistd.h>

enum { ROUNDS = 7, REQUESTS = 1 << 17, BATCH_MAX = 32, RING = 4 << 20 };

struct one {
    io_context2_t ctx;
    int batch;
    struct iocb2 iocbs[BATCH_MAX];
    struct io_event2 events[BATCH_MAX];
    double ns;
};

static void one_init(struct one *one, io_context2_t ctx, int batch)
{
    one->ctx = ctx;
    one->batch = batch;
    for (int i = 0; i < batch; i++)
        io_prep2_nop(&one->iocbs[i]);
}

static void *round_trips(void *arg)
{
    struct one *one = arg;
    size_t bytes = (size_t)one->batch * sizeof(one->events[0]);
    double began = now_ns();

    for (int done = 0; done < REQUESTS; done += one->batch) {
        must("io_submit2", io_submit2(one->ctx, one->iocbs, (size_t)one->batch * sizeof(one->iocbs[0])));
        must("io_getevents2", io_getevents2(one->ctx, bytes, one->events, bytes, NULL));
    }
    one->ns = (now_ns() - began) / REQUESTS;
    return NULL;
}

/* Two threads at once; contexts[0] and contexts[1] may be the same. */
static double two_threads(io_context2_t *contexts, int batch)
{
    static struct one ones[2];
    pthread_t threads[2];

    for (int i = 0; i < 2; i++) {
        one_init(&ones[i], contexts[i], batch);
        threads[i] = start(round_trips, &ones[i]);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    return (ones[0].ns + ones[1].ns) / 2;
}

/* The cost of a round trip, whose requests (no-ops, or reads of 512 bytes from the page cache) have IOCB_ATTR_TIMING or no attribute. */
static double with_attribute(io_context2_t ctx, int fd, int batch, int timing)
{
    enum { BYTES = 512 };
    static _Alignas(64) struct iocb2_room records[BATCH_MAX];
    static _Alignas(64) struct io_event2_room events[BATCH_MAX];
    static _Alignas(64) unsigned char buffer[BYTES];
    const size_t event_bytes = IO_EVENT2_ROOM(timing ? IO_FEAT2_ATTR_TIMING : 0);
    size_t bytes = 0;

    for (int i = 0; i < batch; i++) {
        struct iocb2_room request;

        if (fd < 0)
            io_prep2_nop(&request.iocb);
        else
            io_prep2_pread(&request.iocb, fd, buffer, BYTES, 0);
        if (timing)
            iocb2_add_timing(&request, 0);
        must("iocb2_append", iocb2_append(&records[0].iocb, sizeof(records), &bytes, &request.iocb));
    }
    double began = now_ns();
    for (int done = 0; done < REQUESTS; done += batch) {
        must("io_submit2", io_submit2(ctx, &records[0].iocb, bytes));
        must("io_getevents2", io_getevents2(ctx, (size_t)batch * event_bytes, &events[0].event, (size_t)batch * event_bytes, NULL));
    }
    return (now_ns() - began) / REQUESTS;
}

static double clock_ns(void)
{
    double began = now_ns(), last = began;

    for (int i = 0; i < REQUESTS; i++)
        last = now_ns();
    return (last - began) / REQUESTS;
}

static void timing(io_context2_t ctx)
{
    FILE *file = tmpfile();
    char bytes[512] = { 0 };

    checked("tmpfile", file == NULL ? -1 : 0);
    checked("write", (int)write(fileno(file), bytes, sizeof(bytes)));
    for (int reads = 0; reads < 2; reads++) {
        const int fd = reads ? fileno(file) : -1;

        for (int batch = 1; batch <= BATCH_MAX; batch *= BATCH_MAX) {
            double without[ROUNDS], with[ROUNDS], adds[ROUNDS], clock[ROUNDS];

            for (int round = 0; round < ROUNDS; round++) {
                without[round] = with_attribute(ctx, fd, batch, 0);
                with[round] = with_attribute(ctx, fd, batch, 1);
                clock[round] = clock_ns();
                adds[round] = (with[round] - without[round]) / clock[round];
            }
            printf("%s, batch %d: with TIMING %.0f ns instead of %.0f ns: %.1f readings of the clock, which takes %.0f ns\n",
                   reads ? "read" : "no-op", batch, median(with, ROUNDS), median(without, ROUNDS), median(adds, ROUNDS),
                   median(clock, ROUNDS));
        }
    }
    fclose(file);
}

int main(void)
{
    static struct one one;
    io_context2_t contexts[2] = { setup(RING, REQUESTS, 0), setup(RING, REQUESTS, 0) };
    io_context2_t same[2] = { contexts[0], contexts[0] };

    printf("%-7s %11s %9s %9s %12s %18s %16s\n", "batch", "round trip", "submit", "reap", "reap in user", "2 threads, 2 ctx", "2 threads, 1 ctx");
    for (int batch = 1; batch <= BATCH_MAX; batch *= BATCH_MAX) {
        double trip[ROUNDS], submit[ROUNDS], reap[ROUNDS], user[ROUNDS], apart[ROUNDS], shared[ROUNDS];
        size_t bytes = (size_t)batch * sizeof(one.events[0]);

        for (int round = 0; round < ROUNDS; round++) {
            one_init(&one, contexts[0], batch);
            round_trips(&one);
            trip[round] = one.ns;
            apart[round] = two_threads(contexts, batch);
            shared[round] = two_threads(same, batch);
            for (int in_user = 0; in_user < 2; in_user++) {
                double began = now_ns(), left = 0;

                for (int done = 0; done < REQUESTS; done += batch)
                    must("io_submit2", io_submit2(one.ctx, one.iocbs, (size_t)batch * sizeof(one.iocbs[0])));
                submit[round] = (now_ns() - began) / REQUESTS;
                /* All of them carried out, by whomever. */
                while (__atomic_load_n(&one.ctx->completed, __ATOMIC_ACQUIRE) != one.ctx->submitted)
                    nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
                began = now_ns();
                for (int done = 0; done < REQUESTS;) {
                    ssize_t got = 0;

                    if (in_user) {
                        got = io_ring2_reap(one.ctx, one.events, sizeof(one.events));
                        done += got > 0;
                    } else {
                        got = io_getevents2(one.ctx, bytes, one.events, bytes, NULL);
                        done += (int)(got / (ssize_t)sizeof(one.events[0]));
                    }
                    must("reap", got);
                    if (got == 0)
                        left++;
                }
                (in_user ? user : reap)[round] = (now_ns() - began) / REQUESTS;
            }
        }
        printf("%-7d %8.0f ns %6.0f ns %6.0f ns %9.0f ns %15.0f ns %13.0f ns\n", batch, median(trip, ROUNDS), median(submit, ROUNDS), median(reap, ROUNDS),
               median(user, ROUNDS), median(apart, ROUNDS), median(shared, ROUNDS));
    }
    timing(setup(0, 0, 0));
    for (int i = 0; i < 2; i++)
        must("io_destroy2", io_destroy2(contexts[i]));
    return 0;
}
