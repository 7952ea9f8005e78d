/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Cancelling while requests run: each completes exactly once, with -ECANCELED if and only if io_cancel2() said 0, and a
 * cancelled write was not made.
 */
#include "test.h"

enum { COUNT = 20000, BATCH = 100 };

static int8_t cancelled[COUNT];
static io_context2_t ctx;
static uint32_t submitted;

static void *canceller(void *arg)
{
    (void)arg;
    for (uint32_t next = 0; next < COUNT;) {
        const uint32_t end = __atomic_load_n(&submitted, __ATOMIC_ACQUIRE);

        if (next == end)
            sched_yield();
        for (; next < end; next++) {
            int result = (int)CALL(io_cancel2(ctx, next));

            CHECK(result == 0 || result == -EALREADY || result == -ENOENT);
            cancelled[next] = result == 0;
        }
    }
    return NULL;
}

int main(void)
{
    static unsigned char buf[COUNT * 24];
    static unsigned char content[COUNT];
    static struct iocb2 iocbs[BATCH];
    static int8_t seen[COUNT];
    char byte = 'x';
    pthread_t thread;
    int fd = temp_file(COUNT, 0);

    ctx = setup2(0, 0, 2);
    thread = thread_start(canceller, NULL);
    for (uint32_t i = 0; i < COUNT; i += BATCH) {
        for (uint32_t k = 0; k < BATCH; k++) {
            io_prep2_pwrite(&iocbs[k], fd, &byte, 1, i + k);
            iocbs[k].data = i + k;
        }
        submit_all(ctx, iocbs, sizeof(iocbs));
        __atomic_store_n(&submitted, i + BATCH, __ATOMIC_RELEASE);
    }
    thread_join(thread);
    (void)get_events(ctx, COUNT, buf, sizeof(buf));
    expect_no_event(ctx, 20);
    CHECK_EQ(pread(fd, content, COUNT, 0), COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        const struct io_event2 *event = (const struct io_event2 *)(const void *)buf + i;

        CHECK_CMP(event->data, <, COUNT);
        CHECK_EQ(seen[event->data], 0);
        seen[event->data] = 1;
        CHECK_EQ(event->res, cancelled[event->data] ? -ECANCELED : 1);
        CHECK_EQ(content[event->data], cancelled[event->data] ? 0 : 'x');
    }
    CHECK_EQ(ctx->submitted, COUNT);
    CHECK_EQ(ctx->completed, COUNT);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
