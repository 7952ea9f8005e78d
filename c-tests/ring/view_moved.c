/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The program moves its view of the ring with mremap while I/O runs: no worker crashes, the calls still work with the old
 * address as the handle, and the ring continues at its new address, where the program may reap without a call. io_destroy2 does
 * not touch the old address or the moved view.
 */
#include "view.h"

/* Moves all mappings in this range to `to`, one by one, as mremap wants it. */
static void move_view(char *from, size_t size, char *to)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[PATH_MAX + 128];
    struct {
        char *from;
        size_t size;
    } parts[8];
    size_t n = 0;
    size_t all = 0;

    CHECK(maps != NULL);
    while (fgets(line, sizeof(line), maps) != NULL) {
        unsigned long begin;
        unsigned long end;

        if (sscanf(line, "%lx-%lx", &begin, &end) != 2 || begin < (uintptr_t)from || begin >= (uintptr_t)from + size)
            continue;
        CHECK_CMP(n, <, 8);
        CHECK_CMP(end, <=, (uintptr_t)from + size);
        parts[n].from = from + (begin - (uintptr_t)from);
        parts[n].size = end - begin;
        all += parts[n].size;
        n++;
    }
    fclose(maps);
    CHECK_EQ(all, size);
    for (size_t i = 0; i < n; i++) {
        void *target = to + (parts[i].from - from);

        CHECK(mremap(parts[i].from, parts[i].size, parts[i].size, MREMAP_MAYMOVE | MREMAP_FIXED, target) == target);
    }
}

int main(void)
{
    for (int foreign = 0; foreign < 2; foreign++) {
        pthread_t threads[3];
        unsigned char *mine = NULL;
        union event_room room;
        io_context2_t moved;
        size_t view_bytes;
        void *place;
        uint64_t n = 0;

        seen_init(&seen, EVENTS);
        ctx = setup2(4096, 0, 0);
        view_bytes = ring_view_bytes(ctx);
        place = mmap(NULL, view_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(place != MAP_FAILED);
        threads[0] = thread_start(submitter, NULL);
        threads[1] = thread_start(reaper, NULL);
        threads[2] = thread_start(reaper, NULL);
        while (seen_count(&seen) < EVENTS / 4)
            sched_yield();
        move_view((char *)ctx, view_bytes, place);
        moved = place;
        for (int i = 0; i < 3; i++)
            thread_join(threads[i]);
        seen_check_all(&seen);
        seen_free(&seen);

        if (foreign) {
            /* A new worker's stack may have come to lie there in the meantime; then that is what must stay. */
            mine = mmap(ctx, view_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
            if (mine == (unsigned char *)ctx)
                fill_pattern(mine, view_bytes, 0, 5);
        }

        /* The moved view is the ring: events and counters are there. */
        CHECK_EQ(ring_completed(moved), EVENTS);
        CHECK_EQ(ring_head(moved), ring_tail(moved));
        for (; n < 1000; n++) {
            submit_nops(ctx, n, 1);
            CHECK_SOON(ring_completed(moved) == EVENTS + n + 1);
            CHECK_EQ(io_ring2_reap(moved, &room.event, sizeof(room)), sizeof(room.event));
            CHECK_EQ(room.event.data, n);
        }
        /* It is not a handle. */
        CHECK_EQ(CALL(io_getevents2(moved, 0, &room.event, sizeof(room), NULL)), -EINVAL);
        CHECK_EQ(CALL(io_destroy2(moved)), -EINVAL);

        CHECK_EQ(CALL(io_destroy2(ctx)), 0);
        /* The memory at the new place was the program's to move, and is the program's to unmap. */
        CHECK_EQ(moved->magic, IO_RING2_MAGIC);
        CHECK_EQ(ring_completed(moved), EVENTS + n);
        CHECK_EQ(munmap(place, view_bytes), 0);
        if (foreign && mine == (unsigned char *)ctx) {
            CHECK_PATTERN(mine, view_bytes, 0, 5);
            CHECK_EQ(munmap(mine, view_bytes), 0);
        }
    }
    return 0;
}
