/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The program has unmapped a page of its view of the ring, any page, and has its own mapping there: io_destroy2 does not touch
 * that, whatever it unmaps around it.
 */
#include "test.h"
#include "stress.h"

static void replace_page(size_t page)
{
    io_context2_t ctx = setup2(16384, 0, 0);
    size_t view_bytes = ring_view_bytes(ctx);
    struct io_event2 events[10];
    unsigned char *mine;

    CHECK_CMP(page * 4096, <, view_bytes);
    mine = mmap((char *)ctx + page * 4096, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(mine == (unsigned char *)ctx + page * 4096);
    fill_pattern(mine, 4096, 0, 7);
    submit_nops(ctx, 0, 10);
    (void)get_events(ctx, 10, events, sizeof(events));
    CHECK_PATTERN(mine, 4096, 0, 7);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    /* Asked of the kernel first: memory that is gone would crash the test, where it should say what is wrong. */
    if (msync(mine, 4096, MS_ASYNC) != 0)
        FAIL("page %zu of the view was the program's, and io_destroy2 has unmapped it", page);
    CHECK_PATTERN(mine, 4096, 0, 7);
    CHECK_EQ(munmap(mine, 4096), 0);
}

int main(void)
{
    for (size_t page = 0; page < 9; page++)
        replace_page(page);
    return 0;
}
