/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A submit of many bytes does not reserve more room than it has requests: while one thread submits large records, and far
 * fewer than max_requests are in flight, another thread's submit is not refused.
 */
#include "test.h"

enum { LIMIT = 4096, BATCH = 500, ROUNDS = 300 };

static io_context2_t ctx;
static bool over;

static uint64_t in_flight(void)
{
    /* In this order: never less than there were. */
    const uint64_t completed = __atomic_load_n(&ctx->completed, __ATOMIC_ACQUIRE);

    return __atomic_load_n(&ctx->submitted, __ATOMIC_ACQUIRE) - completed;
}

static void *batches(void *arg)
{
    const size_t record = sizeof(union iocb_room);
    unsigned char *area = malloc(BATCH * record);
    unsigned char payload[IOCB2_ATTR_BYTES_MAX - 16] = { 0 };

    (void)arg;
    CHECK(area != NULL);
    for (size_t i = 0; i < BATCH; i++) {
        struct iocb2 *iocb = (struct iocb2 *)(void *)(area + i * record);

        io_prep2_nop(iocb);
        CHECK(iocb2_add_attr(iocb, 0x8000, 0, 0, payload, sizeof(payload)) != NULL);
        CHECK_EQ(iocb->bytes, record);
    }
    for (int i = 0; i < ROUNDS; i++) {
        CHECK_SOON(in_flight() < BATCH);
        CHECK_EQ(CALL(io_submit2(ctx, (struct iocb2 *)(void *)area, BATCH * record)), BATCH * record);
    }
    __atomic_store_n(&over, true, __ATOMIC_RELEASE);
    free(area);
    return NULL;
}

static void *reaper(void *arg)
{
    static unsigned char buf[65536];

    (void)arg;
    while (CALL(io_getevents2(ctx, 24, (struct io_event2 *)(void *)buf, sizeof(buf), NULL)) > 0)
        ;
    return NULL;
}

int main(void)
{
    pthread_t threads[2];
    struct iocb2 iocb;

    ctx = setup2(0, LIMIT, 0);
    threads[0] = thread_start(reaper, NULL);
    threads[1] = thread_start(batches, NULL);
    io_prep2_nop(&iocb);
    while (!__atomic_load_n(&over, __ATOMIC_ACQUIRE)) {
        if (in_flight() > LIMIT / 4)
            continue;
        CHECK_EQ(CALL(io_submit2(ctx, &iocb, sizeof(iocb))), sizeof(iocb));
    }
    thread_join(threads[1]);
    CHECK_SOON(in_flight() == 0);
    /* Wakes the reaper, which is in its call for good then. */
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    thread_join(threads[0]);
    return 0;
}
