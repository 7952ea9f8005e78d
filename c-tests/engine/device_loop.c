/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A raw loop device with and without O_DIRECT: random writes and reads at depths 1, 32 and 256, with both ways
 * of reaping, in blocks of 512 and of 8192 bytes. Data that was written and synced is in the file behind the device.
 */
/* needs: root */
#include "test.h"
#include "stress.h"
#include "device.h"

#define DEVICE_BYTES (4 * 1024 * 1024)

int main(void)
{
    static const size_t depths[] = { 1, 32, 256 };
    static const size_t sizes[] = { 512, 8192 };
    static char found[4096];
    static char block[4096] __attribute__((aligned(4096)));

    for (int buffered = 0; buffered < 2; buffered++) {
        for (size_t i = 0; i < sizeof(depths) / sizeof(depths[0]); i++) {
            for (size_t j = 0; j < 2; j++) {
                int file = temp_file(DEVICE_BYTES, 0);
                int fd = loop_open(file, buffered ? 0 : O_DIRECT);
                io_context2_t ctx = setup2(4096, 0, 0);
                struct iocb2 iocb;
                union event_room room;

                device_random_io(ctx, fd, DEVICE_BYTES, sizes[j], depths[i], (int)(1000 / depths[i]), (i + j) % 2 == 0, i + 1);

                fill_pattern(block, sizeof(block), 0, 9);
                io_prep2_pwrite(&iocb, fd, block, sizeof(block), 8192);
                submit_one(ctx, &iocb);
                get_one(ctx, &room);
                CHECK_EQ(room.event.res, sizeof(block));
                io_prep2_fdatasync(&iocb, fd);
                submit_one(ctx, &iocb);
                get_one(ctx, &room);
                CHECK_EQ(room.event.res, 0);
                CHECK_EQ(pread(file, found, sizeof(found), 8192), sizeof(found));
                CHECK_MEM(found, block, sizeof(found));

                CHECK_RING_DRAINED(ctx, ring_submitted(ctx));
                CHECK_EQ(CALL(io_destroy2(ctx)), 0);
                close(fd);
                close(file);
            }
        }
    }
    return 0;
}
