/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The program unmaps its view of the ring, whole or in part, or makes it unreadable, while I/O runs: no worker crashes, every
 * call still works, and every event arrives by io_getevents2. A mapping that the program makes at the old address afterwards is
 * the program's: io_destroy2 does not touch it.
 */
#include "view.h"

enum how { WHOLE, HEADER, DATA, PROTECT_NONE, PROTECT_READ, REPLACED, HOWS };

static int fd;

static void take_away(enum how how, size_t header_bytes, size_t view_bytes)
{
    char *view = (char *)ctx;

    switch (how) {
    case WHOLE:
        CHECK_EQ(munmap(view, view_bytes), 0);
        break;
    case HEADER:
        CHECK_EQ(munmap(view, header_bytes), 0);
        break;
    case DATA:
        CHECK_EQ(munmap(view + header_bytes, view_bytes - header_bytes), 0);
        break;
    case REPLACED:
        CHECK(mmap(view, view_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == view);
        break;
    case PROTECT_NONE:
        CHECK_EQ(mprotect(view, view_bytes, PROT_NONE), 0);
        break;
    default:
        CHECK_EQ(mprotect(view, view_bytes, PROT_READ), 0);
    }
}

static void round_of(enum how how)
{
    pthread_t threads[3];
    size_t header_bytes;
    size_t view_bytes;
    union event_room room;
    char block[512];
    struct iocb2 iocb;
    unsigned char *mine = NULL;
    int ring_fd;

    seen_init(&seen, EVENTS);
    ctx = setup2(4096, 0, 0);
    header_bytes = ctx->header_bytes;
    view_bytes = ring_view_bytes(ctx);
    threads[0] = thread_start(submitter, NULL);
    threads[1] = thread_start(reaper, NULL);
    threads[2] = thread_start(reaper, NULL);
    while (seen_count(&seen) < EVENTS / 4)
        sched_yield();
    take_away(how, header_bytes, view_bytes);
    for (int i = 0; i < 3; i++)
        thread_join(threads[i]);
    seen_check_all(&seen);
    seen_free(&seen);

    if (how == REPLACED) {
        mine = (unsigned char *)ctx;
        fill_pattern(mine, view_bytes, 0, 5);
    }

    /* Every call still works, by the address alone. */
    io_prep2_pread(&iocb, fd, block, sizeof(block), 0);
    iocb.data = 99;
    submit_one(ctx, &iocb);
    get_one(ctx, &room);
    CHECK_EQ(room.event.data, 99);
    CHECK_EQ(room.event.res, sizeof(block));
    CHECK_PATTERN(block, sizeof(block), 0, 1);
    CHECK_EQ(CALL(io_cancel2(ctx, 99)), -ENOENT);
    ring_fd = (int)CALL(io_ring_fd2(ctx));
    CHECK_CMP(ring_fd, >=, 0);
    close(ring_fd);
    submit_nops(ctx, 0, 1000); /* overflows, and is given up */
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    CHECK_EQ(CALL(io_destroy2(ctx)), -EINVAL);

    if (how == REPLACED) {
        CHECK_PATTERN(mine, view_bytes, 0, 5);
        fill_pattern(mine, view_bytes, 0, 6);
        CHECK_EQ(munmap(mine, view_bytes), 0);
    }
}

int main(void)
{
    int descriptors;

    fd = temp_pattern_file(4096, 1, 0);
    descriptors = count_descriptors();
    for (int how = 0; how < HOWS; how++)
        round_of((enum how)how);
    CHECK_EQ(count_descriptors(), descriptors);
    return 0;
}
