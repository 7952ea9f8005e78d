/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * No thread can be created: never, only the first few, or only sometimes. Requests still complete, because a caller
 * that submits or waits in io_getevents2() carries them out. A request that blocks delays neither the others nor
 * the timeout. Destroy and exit work as usual.
 */
#include "test.h"
#include "stress.h"
#include "thread_hook.h"

#define BLOCK 512
#define N 2000

static int fd;

/* Writes and reads back, and NOPs between. */
static void file_requests(io_context2_t ctx)
{
    static unsigned char block[64][BLOCK];
    struct io_event2 events[64 * 2];
    struct iocb2 iocbs[64 * 2];
    uint64_t done = ring_submitted(ctx);

    for (int round = 0; round < N / 64; round++) {
        for (int pass = 0; pass < 2; pass++) {
            for (size_t i = 0; i < 64; i++) {
                if (pass == 0) {
                    fill_pattern(block[i], BLOCK, i * BLOCK, (uint64_t)round);
                    io_prep2_pwrite(&iocbs[2 * i], fd, block[i], BLOCK, (int64_t)(i * BLOCK));
                } else {
                    io_prep2_pread(&iocbs[2 * i], fd, block[i], BLOCK, (int64_t)(i * BLOCK));
                }
                iocbs[2 * i].data = i;
                io_prep2_nop(&iocbs[2 * i + 1]);
                iocbs[2 * i + 1].data = 1000;
            }
            submit_all(ctx, iocbs, sizeof(iocbs));
            (void)get_events(ctx, 2 * 64, events, sizeof(events));
            done += 2 * 64;
            for (size_t i = 0; i < 2 * 64; i++)
                CHECK_EQ(events[i].res, events[i].data == 1000 ? 0 : BLOCK);
            if (pass == 0)
                memset(block, 0, sizeof(block));
        }
        for (size_t i = 0; i < 64; i++)
            CHECK_PATTERN(block[i], BLOCK, i * BLOCK, (uint64_t)round);
    }
    CHECK_RING_DRAINED(ctx, done);
}

/* A read of an empty pipe is in the way. */
static void blocked(io_context2_t ctx)
{
    struct timespec timeout = timespec_ns(200 * NSEC_PER_MSEC);
    struct io_event2 events[200];
    struct iocb2 iocb;
    struct hold hold;
    int64_t began;
    char byte;

    hold_submit(ctx, &hold, 77);
    began = now_ns();
    CHECK_EQ(CALL(io_getevents2(ctx, 0, events, sizeof(events), NULL)), 0);
    CHECK_CMP(now_ns() - began, <, PATIENCE_NS);
    for (int i = 0; i < 3; i++) {
        began = now_ns();
        CHECK_EQ(CALL(io_getevents2(ctx, sizeof(events[0]), events, sizeof(events), &timeout)), 0);
        CHECK_CMP(now_ns() - began, >=, 200 * NSEC_PER_MSEC);
        CHECK_CMP(now_ns() - began, <, PATIENCE_NS);
    }
    /* The other requests, behind it and before it, are carried out. */
    submit_nops(ctx, 1000, 50);
    for (uint64_t i = 0; i < 50; i++) {
        io_prep2_pread(&iocb, fd, &byte, 1, 0);
        iocb.data = 2000 + i;
        submit_one(ctx, &iocb);
    }
    (void)get_events(ctx, 100, events, sizeof(events));
    for (size_t i = 0; i < 100; i++)
        CHECK(events[i].data != 77);
    /* Several callers wait; the pipe is written; one of them gets the event, soon. */
    hold_release(&hold);
    began = now_ns();
    (void)get_events(ctx, 1, events, sizeof(events));
    CHECK_CMP(now_ns() - began, <, PATIENCE_NS);
    CHECK_EQ(events[0].data, 77);
    CHECK_EQ(events[0].res, 1);
    CHECK_EQ(hold.byte, 'x');
    hold_close(&hold);
}

static void *release_later(void *arg)
{
    sleep_ms(200);
    hold_release(arg);
    return NULL;
}

/* The same, but the pipe is written while the caller already waits, without a limit. */
static void unblocked_meanwhile(io_context2_t ctx)
{
    struct io_event2 event;
    struct hold hold;
    pthread_t thread;
    int saved;

    hold_submit(ctx, &hold, 78);
    saved = __atomic_exchange_n(&allowed, 1000, __ATOMIC_RELAXED);
    thread = thread_start(release_later, &hold);
    __atomic_store_n(&allowed, saved, __ATOMIC_RELAXED);
    CHECK_EQ(CALL(io_getevents2(ctx, sizeof(event), &event, sizeof(event), NULL)), sizeof(event));
    CHECK_EQ(event.data, 78);
    CHECK_EQ(event.res, 1);
    thread_join(thread);
    hold_close(&hold);
}

static void all(int limit)
{
    io_context2_t ctx;
    int descriptors = count_descriptors();

    __atomic_store_n(&allowed, limit, __ATOMIC_RELAXED);
    ctx = setup2(4096, 0, 0);
    file_requests(ctx);
    blocked(ctx);
    unblocked_meanwhile(ctx);
    file_requests(ctx);
    /* With requests queued that nobody has carried out. */
    submit_nops(ctx, 0, 500);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    CHECK_EQ(count_descriptors(), descriptors);
}

/* Once threads can be created again, they are. */
static void recovered(void)
{
    io_context2_t ctx = setup2(4096, 0, 0);

    __atomic_store_n(&allowed, 0, __ATOMIC_RELAXED);
    submit_nops(ctx, 0, 10);
    CHECK_EQ(ring_completed(ctx), 10);
    __atomic_store_n(&allowed, INT_MAX / 2, __ATOMIC_RELAXED);
    submit_nops(ctx, 0, 10);
    CHECK_SOON(ring_completed(ctx) == 20);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
}

static void exit_with_writes(void)
{
    pid_t pid = fork();

    CHECK(pid >= 0);
    if (pid == 0) {
        static unsigned char block[N * 16];
        io_context2_t ctx;
        struct iocb2 iocb;

        alarm(3 * PATIENCE_S);
        allowed = 0;
        fill_pattern(block, sizeof(block), 0, 9);
        ctx = setup2(4096, 0, 0);
        for (int i = 0; i < N; i++) {
            io_prep2_pwrite(&iocb, fd, block + i * 16, 16, i * 16);
            submit_one(ctx, &iocb);
        }
        exit(0);
    }
    wait_child(pid);
    {
        unsigned char *found = malloc(N * 16);

        CHECK(found != NULL);
        CHECK_EQ(pread(fd, found, N * 16, 0), N * 16);
        CHECK_PATTERN(found, N * 16, 0, 9);
        free(found);
    }
}

int main(void)
{
    static const int limits[] = { 0, 1, 2, 5, -2, -3 };

    fd = temp_file(0, 0);
    /* Before any worker lives: those that do would do the work. */
    all(0);
    CHECK_EQ(count_threads(), 1);
    CHECK_CMP(failures, >, 0);
    exit_with_writes();
    recovered();
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        /* Each in a process of its own, without workers from before. */
        pid_t pid = fork();

        CHECK(pid >= 0);
        if (pid == 0) {
            alarm(3 * PATIENCE_S);
            failures = 0;
            all(limits[i]);
            exit(0);
        }
        wait_child(pid);
    }
    return 0;
}
