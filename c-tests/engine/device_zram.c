/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A raw block device (zram) with and without O_DIRECT: random writes and reads at depths 1, 32 and 256, with both
 * ways of reaping, through a ring that overflows. Every block contains the data that was written to it.
 */
/* needs: root */
#include "test.h"
#include "stress.h"
#include "device.h"

#define DEVICE_BYTES (16 * 1024 * 1024)
#define EVENTS 256

/* More events than the ring has room for, and nobody who reaps until they are all there. */
static void overflow(io_context2_t ctx, int fd)
{
    static _Alignas(4096) unsigned char blocks[EVENTS][4096];
    static struct io_event2 events[EVENTS];
    uint64_t before = ring_overflowed(ctx);

    for (size_t i = 0; i < EVENTS; i++) {
        struct iocb2 iocb;

        io_prep2_pread(&iocb, fd, blocks[i], sizeof(blocks[i]), (int64_t)(i * sizeof(blocks[i])));
        iocb.data = i;
        submit_one(ctx, &iocb);
    }
    CHECK_SOON(ring_completed(ctx) == ring_submitted(ctx));
    CHECK_CMP(ring_overflowed(ctx), >, before);
    (void)get_events(ctx, EVENTS, events, sizeof(events));
    for (size_t i = 0; i < EVENTS; i++)
        CHECK_EQ(events[i].res, 4096);
}

int main(void)
{
    static const size_t depths[] = { 1, 32, 256 };

    for (int buffered = 0; buffered < 2; buffered++) {
        for (int user_space = 0; user_space < 2; user_space++) {
            int fd = zram_open(DEVICE_BYTES, buffered ? 0 : O_DIRECT);
            io_context2_t ctx = setup2(4096, 0, 0);

            for (size_t i = 0; i < sizeof(depths) / sizeof(depths[0]); i++) {
                CHECK_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, DEVICE_BYTES), 0);
                device_random_io(ctx, fd, DEVICE_BYTES, 4096, depths[i], (int)(4000 / depths[i]), user_space != 0, i + 1);
            }
            overflow(ctx, fd);
            CHECK_RING_DRAINED(ctx, ring_submitted(ctx));
            CHECK_EQ(CALL(io_destroy2(ctx)), 0);
            close(fd);
        }
    }
    return 0;
}
