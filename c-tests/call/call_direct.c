/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* O_DIRECT works through the library as it does without it: aligned requests move the data, unaligned ones get the file system's own errno. */
#include "test.h"

enum { SIZE = 1 << 20, BLOCK = 4096, COUNT = SIZE / BLOCK };

int main(void)
{
    io_context2_t ctx = setup2(0, 0, 0);
    static unsigned char events[COUNT * 24];
    static struct iocb2 iocbs[COUNT];
    unsigned char *buf;
    unsigned char *back;
    union event_room room;
    char *path = temp_path("direct");
    int fd;

    fd = open(path, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EINVAL)
        SKIP("no O_DIRECT in the directory for temporary files");
    CHECK(fd >= 0);
    CHECK_EQ(posix_memalign((void **)&buf, BLOCK, SIZE), 0);
    CHECK_EQ(posix_memalign((void **)&back, BLOCK, SIZE), 0);
    fill_pattern(buf, SIZE, 0, 3);
    memset(back, 0, SIZE);

    for (int i = 0; i < COUNT; i++) {
        io_prep2_pwrite(&iocbs[i], fd, buf + i * BLOCK, BLOCK, (int64_t)i * BLOCK);
        iocbs[i].data = (uint64_t)i;
    }
    submit_all(ctx, iocbs, sizeof(iocbs));
    (void)get_events(ctx, COUNT, events, sizeof(events));
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(((struct io_event2 *)(void *)events)[i].res, BLOCK);

    for (int i = 0; i < COUNT; i++)
        io_prep2_pread(&iocbs[i], fd, back + i * BLOCK, BLOCK, (int64_t)i * BLOCK);
    submit_all(ctx, iocbs, sizeof(iocbs));
    (void)get_events(ctx, COUNT, events, sizeof(events));
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(((struct io_event2 *)(void *)events)[i].res, BLOCK);
    CHECK_PATTERN(back, SIZE, 0, 3);

    /* Whatever the file system says to these, the library says the same. */
    const struct {
        size_t shift;
        size_t length;
        int64_t offset;
    } odd[] = { { 1, BLOCK, 0 }, { 0, BLOCK + 1, 0 }, { 0, BLOCK, 1 }, { 0, 100, 0 }, { 512, 512, 512 } };

    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        ssize_t expected = pread(fd, back + odd[i].shift, odd[i].length, odd[i].offset);

        if (expected < 0)
            expected = -errno;
        io_prep2_pread(&iocbs[0], fd, back + odd[i].shift, odd[i].length, odd[i].offset);
        submit_one(ctx, &iocbs[0]);
        get_one(ctx, &room.event);
        CHECK_EQ(room.event.res, expected);
    }
    free(buf);
    free(back);
    free(path);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
