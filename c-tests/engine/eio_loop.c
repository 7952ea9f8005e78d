/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * EIO: the file behind a loop device was truncated. Requests beyond its new end get -EIO in `res`. Requests before the end,
 * submitted among them, are carried out, and so are those of another context.
 */
/* needs: root */
#include "test.h"
#include "stress.h"
#include "device.h"

#define DEVICE_BYTES (4 * 1024 * 1024)
#define LEFT_BYTES (2 * 1024 * 1024)
#define BLOCK 4096
#define BLOCKS (DEVICE_BYTES / BLOCK)

static void run(int flags)
{
    static unsigned char contents[DEVICE_BYTES];
    int file = temp_file(DEVICE_BYTES, 0);
    int other_fd = temp_pattern_file(BLOCK, 4, 0);
    struct iocb2 *iocbs = calloc(BLOCKS, sizeof(*iocbs));
    struct io_event2 *events = calloc(BLOCKS, sizeof(*events));
    io_context2_t other = setup2(4096, 0, 0);
    io_context2_t ctx = setup2(4096, 0, 0);
    unsigned char other_buf[BLOCK];
    unsigned char *buf = NULL;
    union event_room room;
    struct iocb2 iocb;
    void *memory = NULL;
    uint64_t errors = 0;
    int fd;

    CHECK(iocbs != NULL && events != NULL);
    CHECK_EQ(posix_memalign(&memory, 4096, DEVICE_BYTES), 0);
    buf = memory;
    fill_pattern(contents, sizeof(contents), 0, 3);
    CHECK_EQ(pwrite(file, contents, sizeof(contents), 0), sizeof(contents));
    CHECK_EQ(fsync(file), 0);
    fd = loop_open(file, flags);
    CHECK_EQ(ftruncate(file, LEFT_BYTES), 0);
    memset(buf, 0, DEVICE_BYTES);

    /* Good and bad by turns. */
    for (size_t i = 0; i < BLOCKS; i++) {
        size_t block = i % 2 == 0 ? i / 2 : BLOCKS / 2 + i / 2;

        io_prep2_pread(&iocbs[i], fd, buf + block * BLOCK, BLOCK, (int64_t)(block * BLOCK));
        iocbs[i].data = block;
    }
    submit_all(ctx, iocbs, BLOCKS * sizeof(*iocbs));
    io_prep2_pread(&iocb, other_fd, other_buf, BLOCK, 0);
    submit_one(other, &iocb);
    get_one(other, &room);
    CHECK_EQ(room.event.res, BLOCK);
    CHECK_PATTERN(other_buf, BLOCK, 0, 4);
    (void)get_events(ctx, BLOCKS, events, BLOCKS * sizeof(*events));
    for (size_t i = 0; i < BLOCKS; i++) {
        size_t block = events[i].data;

        if (block < LEFT_BYTES / BLOCK) {
            CHECK_EQ(events[i].res, BLOCK);
            CHECK_MEM(buf + block * BLOCK, contents + block * BLOCK, BLOCK);
        } else {
            CHECK_EQ(events[i].res, -EIO);
            errors++;
        }
    }
    CHECK_EQ(errors, (DEVICE_BYTES - LEFT_BYTES) / BLOCK);

    /* What a plain pread says is what the event said. */
    CHECK_EQ(pread(fd, buf, BLOCK, LEFT_BYTES + BLOCK), -1);
    CHECK_EQ(errno, EIO);

    /* The device is as good as before where it is good, for writing too. */
    fill_pattern(buf, BLOCK, 0, 5);
    io_prep2_pwrite(&iocb, fd, buf, BLOCK, 0);
    submit_one(ctx, &iocb);
    get_one(ctx, &room);
    CHECK_EQ(room.event.res, BLOCK);
    io_prep2_fsync(&iocb, fd);
    submit_one(ctx, &iocb);
    get_one(ctx, &room);
    CHECK_EQ(room.event.res, 0);
    CHECK_RING_DRAINED(ctx, BLOCKS + 2);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    CHECK_EQ(CALL(io_destroy2(other)), 0);
    close(fd);
    close(file);
    close(other_fd);
    free(memory);
    free(iocbs);
    free(events);
}

int main(void)
{
    run(O_DIRECT);
    run(0);
    return 0;
}
