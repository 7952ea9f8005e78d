/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A handle that is not a live context gets -EINVAL from every call, and its memory is not touched: destroyed (with nothing at
 * its address, or with a mapping of the program's there that looks like a ring), one of many destroyed in between, NULL,
 * addresses beside a live one, and garbage.
 */
#include "test.h"
#include "stress.h"

static void expect_dead(io_context2_t ctx)
{
    struct io_event2 events[4];
    struct timespec zero = { 0, 0 };
    struct timespec second = { .tv_sec = 1, .tv_nsec = 0 };
    struct iocb2 iocb;
    sigset_t mask;

    sigemptyset(&mask);
    io_prep2_nop(&iocb);
    CHECK_EQ(CALL(io_submit2(ctx, &iocb, sizeof(iocb))), -EINVAL);
    CHECK_EQ(CALL(io_submit2(ctx, &iocb, 0)), -EINVAL);
    CHECK_EQ(CALL(io_getevents2(ctx, 0, events, sizeof(events), NULL)), -EINVAL);
    CHECK_EQ(CALL(io_getevents2(ctx, sizeof(events[0]), events, sizeof(events), NULL)), -EINVAL);
    CHECK_EQ(CALL(io_getevents2(ctx, sizeof(events[0]), events, sizeof(events), &zero)), -EINVAL);
    CHECK_EQ(CALL(io_pgetevents2(ctx, sizeof(events[0]), events, sizeof(events), &second, NULL)), -EINVAL);
    CHECK_EQ(CALL(io_pgetevents2(ctx, sizeof(events[0]), events, sizeof(events), NULL, &mask)), -EINVAL);
    CHECK_EQ(CALL(io_cancel2(ctx, 0)), -EINVAL);
    CHECK_EQ(CALL(io_ring_fd2(ctx)), -EINVAL);
    CHECK_EQ(CALL(io_destroy2(ctx)), -EINVAL);
}

int main(void)
{
    io_context2_t live = setup2(0, 0, 0);
    io_context2_t dead = setup2(8192, 0, 0);
    size_t dead_bytes = ring_view_bytes(dead);
    struct io_ring2 copy = *dead;
    static union {
        struct io_ring2 ring;
        char bytes[8192];
    } fake;
    io_context2_t many[100];
    union event_room room;
    void *view;

    CHECK_EQ(CALL(io_destroy2(dead)), 0);
    expect_dead(dead);
    /* The program may use the address again, and its new mapping there is its own. */
    view = mmap(dead, dead_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(view == (void *)dead);
    *dead = copy;
    expect_dead(dead);
    CHECK_MEM(dead, &copy, sizeof(copy));
    CHECK_EQ(munmap(view, dead_bytes), 0);
    view = mmap(dead, dead_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(view == (void *)dead);
    expect_dead(dead);
    CHECK_EQ(munmap(view, dead_bytes), 0);

    /* A copy of a live ring, id and all, is not the live ring. */
    fake.ring = *live;
    expect_dead(&fake.ring);

    expect_dead(NULL);
    expect_dead((io_context2_t)(uintptr_t)1);
    expect_dead((io_context2_t)(uintptr_t)8);
    expect_dead((io_context2_t)(uintptr_t)4096);
    expect_dead((io_context2_t)(uintptr_t)UINT64_MAX);
    expect_dead((io_context2_t)(uintptr_t)(UINT64_MAX - 4095));
    expect_dead((io_context2_t)(uintptr_t)UINT64_C(0x7fffffffffff));
    expect_dead((io_context2_t)(uintptr_t)UINT64_C(0xdeadbeefdeadbeef));
    expect_dead((io_context2_t)(uintptr_t)&room);
    expect_dead((io_context2_t)(void *)((char *)live + 1));
    expect_dead((io_context2_t)(void *)((char *)live + 8));
    expect_dead((io_context2_t)(void *)((char *)live - 4096));
    expect_dead((io_context2_t)(void *)((char *)live + 4096));
    expect_dead((io_context2_t)(void *)((char *)live + live->header_bytes));
    expect_dead((io_context2_t)(void *)((char *)live + ring_view_bytes(live)));
    expect_dead((io_context2_t)(uintptr_t)live->id);

    /* Every other one of many is destroyed, in some order; the rest live on. */
    for (int i = 0; i < 100; i++)
        many[i] = setup2(4096, 0, 0);
    for (int i = 0; i < 100; i += 2)
        CHECK_EQ(CALL(io_destroy2(many[i * 37 % 100])), 0);
    for (int i = 0; i < 100; i++) {
        if (i % 2 == 0) {
            expect_dead(many[i]);
        } else {
            submit_nops(many[i], (uint64_t)i, 1);
            get_one(many[i], &room);
            CHECK_EQ(room.event.data, i);
            CHECK_EQ(CALL(io_destroy2(many[i])), 0);
            expect_dead(many[i]);
        }
    }

    submit_nops(live, 7, 1);
    get_one(live, &room);
    CHECK_EQ(room.event.data, 7);
    CHECK_EQ(CALL(io_destroy2(live)), 0);
    expect_dead(live);
    return 0;
}
