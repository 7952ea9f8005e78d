/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A caller of io_getevents2() that waits for a single request may carry it out although it waits for a device, if such requests
 * have ended soon. It does not if it has a timeout, which it would miss, or if another request is in flight, which it would
 * delay. IOCB_ATTR_ROUTE says which thread has made the call.
 */
/* needs: root */
#include "test.h"
#include "stress.h"
#include "device.h"

#define DEVICE_BYTES (8 * 1024 * 1024)
#define BLOCK 512
#define READS 400

static int device;
static unsigned char *memory;

/* Reads blocks one at a time; returns how many of them this thread has read itself. */
static long read_all(io_context2_t ctx, struct timespec *timeout)
{
    long own = 0;

    for (size_t i = 0; i < READS; i++) {
        union routed_event room;
        union routed request;

        memset(memory, 0x55, BLOCK);
        io_prep2_pread(&request.iocb, device, memory, BLOCK, (int64_t)(i * BLOCK));
        request.iocb.data = i;
        ask_route(&request.iocb);
        submit_one(ctx, &request.iocb);
        CHECK_EQ(CALL(io_getevents2(ctx, sizeof(room), &room.event, sizeof(room), timeout)), (long long)sizeof(room));
        CHECK_EQ(room.event.data, i);
        CHECK_EQ(room.event.res, BLOCK);
        CHECK_PATTERN(memory, BLOCK, i * BLOCK, 4);
        own += route_of(&room.event).route == IOCB_ROUTE_INLINE;
    }
    return own;
}

int main(void)
{
    io_context2_t ctx = setup2(0, 0, 0);
    struct timespec timeout = { PATIENCE_S, 0 };
    struct io_event2 event;
    struct iocb2 iocb;
    unsigned char byte;
    int ends[2];
    int file;

    file = temp_pattern_file(DEVICE_BYTES, 4, 0);
    device = loop_open(file, O_DIRECT);
    CHECK_EQ(posix_memalign((void **)&memory, 4096, BLOCK), 0);

    for (int tries = 0; read_all(ctx, NULL) < READS / 4; tries++)
        if (tries == 20)
            SKIP("the device takes too long");
    CHECK_CMP(read_all(ctx, &timeout), <, READS / 20);

    /* A request that does not end. */
    CHECK_EQ(pipe(ends), 0);
    io_prep2_syscall(&iocb, SYS_read, ends[0], (uint64_t)(uintptr_t)&byte, 1, 0, 0, 0);
    submit_one(ctx, &iocb);
    CHECK_CMP(read_all(ctx, NULL), <, READS / 20);
    CHECK_EQ(write(ends[1], "x", 1), 1);
    get_events(ctx, 1, &event, sizeof(event));
    CHECK_EQ(event.res, 1);

    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
