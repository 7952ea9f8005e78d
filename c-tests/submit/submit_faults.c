/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * io_submit2() does not wait for memory: neither for a buffer that is not present, nor for a mapped file. Otherwise the submitter would
 * hand such a read over to the kernel's AIO, because another thread sleeps there for its event, and io_submit(2) would wait for
 * the page faults of the buffer. In this test they last until io_submit2() has returned.
 */
/* needs: kernel AIO */
/* needs: root */
#include "test.h"
#include "stress.h"
#include "device.h"
#include <stdatomic.h>

#define DEVICE_BYTES (8 * 1024 * 1024)
#define BLOCK 4096
#define READS 60
#define TRIES 30
#define HELD 1000000
#define LAST 1000001

static io_context2_t ctx;
static int device;
static atomic_int sleeper;
static atomic_long done;
static atomic_bool returned;

static void *gets_events(void *unused)
{
    uint64_t data = 0;

    sleeper = my_tid();
    while (data != LAST) {
        struct io_event2 event;

        CHECK_EQ(io_getevents2(ctx, sizeof(event), &event, sizeof(event), NULL), (ssize_t)sizeof(event));
        data = event.data;
        CHECK_EQ(event.res, data == LAST ? 0 : BLOCK);
        atomic_fetch_add(&done, 1);
    }
    return unused;
}

static void *submits(void *iocb)
{
    submit_one(ctx, (struct iocb2 *)iocb);
    returned = true;
    return NULL;
}

/* Reads one block at a time, until the device is known to keep requests waiting. */
static void read_blocks(unsigned char *memory)
{
    for (uint64_t i = 0; i < READS; i++) {
        long before = done;
        struct iocb2 iocb;

        io_prep2_pread(&iocb, device, memory, BLOCK, (int64_t)(i * BLOCK));
        iocb.data = i;
        submit_one(ctx, &iocb);
        while (done == before)
            sched_yield();
    }
}

/* Whether the other thread sleeps in the kernel's AIO. */
static bool sleeps_there(void)
{
    char text[128], tid[32];

    snprintf(tid, sizeof(tid), "%d", sleeper);
    wait_thread_asleep(sleeper);
    return read_task_file(tid, "syscall", text, sizeof(text)) && atol(text) == SYS_io_getevents;
}

int main(void)
{
    unsigned char *memory;
    struct iocb2 last;
    pthread_t other;
    int were_there = 0;

    CHECK_EQ(posix_memalign((void **)&memory, 4096, BLOCK), 0);
    memset(memory, 0x33, BLOCK);
    device = loop_open(temp_file(DEVICE_BYTES, 0), O_DIRECT);
    ctx = setup2(0, 0, 0);
    CHECK_EQ(pthread_create(&other, NULL, gets_events, NULL), 0);
    for (int i = 0; i < TRIES; i++) {
        struct hard_hold hold;
        pthread_t submitter;
        long before;

        read_blocks(memory);
        hard_hold_memory(&hold);
        io_prep2_pread(&hold.iocb, device, hold.page, BLOCK, 0);
        hold.iocb.data = HELD;
        were_there += sleeps_there();
        before = done;
        returned = false;
        CHECK_EQ(pthread_create(&submitter, NULL, submits, &hold.iocb), 0);
        CHECK_SOON(returned);
        CHECK_EQ(done, before);
        hard_hold_release(&hold);
        CHECK_SOON(done != before);
        CHECK_EQ(pthread_join(submitter, NULL), 0);
        hard_hold_close(&hold);
    }
    io_prep2_nop(&last);
    last.data = LAST;
    submit_one(ctx, &last);
    CHECK_EQ(pthread_join(other, NULL), 0);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    free(memory);
    printf("of %d times, the other thread has slept in the kernel's AIO %d times\n", TRIES, were_there);
    if (were_there == 0)
        SKIP("the kernel's AIO is not used here");
    return 0;
}
