/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Random reads of pipes, which wait for their files, with LINK and DRAIN among no-ops, while another thread writes to the pipes and this one
 * cancels. Each request has one event, and by TIMING, what had to wait has waited.
 */
#include "test.h"
#include "stress.h"
#include <stdatomic.h>

enum { PIPES = 4, REQUESTS = 48, EVENT = 24 + 3 * 16 + 24 };

struct one {
    bool has_event, drain, link, cancelled;
    int leader;
    int64_t res;
    struct iocb_timing timing;
};

static struct one ones[REQUESTS];
static int pipes[PIPES][2];
static char bytes[REQUESTS];
static uint64_t rng;
static atomic_bool over;

static void *writes(void *arg)
{
    uint64_t mine = *(const uint64_t *)arg;

    while (!atomic_load(&over)) {
        if (write(pipes[rng_below(&mine, PIPES)][1], "x", 1) < 0)
            CHECK_EQ(errno, EAGAIN);
        if (rng_below(&mine, 4) == 0)
            sched_yield();
    }
    return NULL;
}

static int take(io_context2_t ctx, size_t min)
{
    static _Alignas(8) unsigned char out[REQUESTS * EVENT];
    const struct timespec limit = { 60, 0 };
    ssize_t n = CALL(io_getevents2(ctx, min, (struct io_event2 *)(void *)out, sizeof(out), &limit));
    int got = 0;

    CHECK_CMP(n, >=, (ssize_t)min);
    for (ssize_t at = 0; at < n; got++) {
        const struct io_event2 *event = (const struct io_event2 *)(const void *)(out + at);
        struct one *one = &ones[event->data];
        const struct iocb_timing *timing = io_event2_timing(event);

        CHECK_CMP(event->data, <, REQUESTS);
        CHECK(!one->has_event);
        CHECK(timing != NULL);
        one->has_event = true;
        one->res = event->res;
        one->timing = *timing;
        CHECK(event->res == 0 || event->res == 1 || event->res == -ECANCELED || (one->cancelled && event->res == -EINTR));
        at += event->bytes;
    }
    return got;
}

static void check_order(int count)
{
    for (int i = 0; i < count; i++) {
        const struct one *one = &ones[i];

        CHECK(one->has_event);
        if (one->leader >= 0 && ones[one->leader].res < 0)
            CHECK_EQ(one->res, -ECANCELED);
        if (one->res < 0)
            continue;
        if (one->leader >= 0)
            CHECK_CMP(one->timing.start_ns, >=, ones[one->leader].timing.end_ns);
        for (int j = 0; one->drain && j < i; j++)
            CHECK_CMP(one->timing.start_ns, >=, ones[j].timing.end_ns);
        for (int j = i + 1; one->drain && j < count; j++) {
            if (ones[j].res >= 0)
                CHECK_CMP(ones[j].timing.start_ns, >=, one->timing.end_ns);
        }
    }
}

static void round_of(uint64_t seed)
{
    rng = seed;
    io_context2_t ctx = setup2(0, 0, (uint32_t)rng_below(&rng, 3));
    pthread_t writer;
    int count = 0, got = 0;

    memset(ones, 0, sizeof(ones));
    atomic_store(&over, false);
    CHECK_EQ(pthread_create(&writer, NULL, writes, &seed), 0);
    while (count < REQUESTS) {
        struct iocb2_room room[8];
        static _Alignas(8) unsigned char batch[sizeof(room)];
        size_t size = 0;
        int n = 1 + (int)rng_below(&rng, 6);

        for (int i = 0; i < n && count < REQUESTS; i++, count++) {
            struct iocb2_room *request = &room[i];
            struct one *one = &ones[count];

            if (rng_below(&rng, 3) == 0)
                io_prep2_nop(&request->iocb);
            else
                io_prep2_syscall(&request->iocb, SYS_read, (uint64_t)pipes[rng_below(&rng, PIPES)][0], (uint64_t)(uintptr_t)&bytes[count], 1, 0,
                                 0, 0);
            request->iocb.data = (uint64_t)count;
            iocb2_add_timing(request, 0);
            one->drain = rng_below(&rng, 8) == 0;
            if (one->drain)
                iocb2_add_drain(request, 0);
            one->leader = i > 0 && ones[count - 1].link ? count - 1 : -1;
            one->link = rng_below(&rng, 3) == 0;
            if (one->link)
                iocb2_add_link(request, 0);
            memcpy(batch + size, request, request->iocb.bytes);
            size += request->iocb.bytes;
        }
        CHECK_EQ(CALL(io_submit2(ctx, (struct iocb2 *)(void *)batch, size)), size);
        for (uint64_t i = rng_below(&rng, 3); i > 0; i--) {
            uint64_t data = rng_below(&rng, (uint64_t)count);
            int ret = io_cancel2(ctx, data);

            CHECK(ret == 0 || ret == -ENOENT || ret == -EALREADY);
            if (ret == 0)
                ones[data].cancelled = true;
        }
        if (rng_below(&rng, 4) == 0)
            got += take(ctx, 0);
    }
    while (got < count)
        got += take(ctx, 1);
    atomic_store(&over, true);
    CHECK_EQ(pthread_join(writer, NULL), 0);
    check_order(count);
    CHECK_RING_DRAINED(ctx, count);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
}

static void make_pipes(void)
{
    for (int i = 0; i < PIPES; i++) {
        CHECK_EQ(pipe(pipes[i]), 0);
        CHECK_EQ(fcntl(pipes[i][1], F_SETFL, O_NONBLOCK), 0);
    }
}

int main(void)
{
    rounds_in_processes(300, 20000, make_pipes, round_of);
    return 0;
}
