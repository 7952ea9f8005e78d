/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Every call that takes a handle gives -EINVAL for one that is not a live context (NULL, garbage, other
 * memory of every kind, destroyed), and a live context is not disturbed by it.
 */
#include "test.h"

static int bad_count;

static void check_one(const char *call, const char *what, long long seen)
{
    if (seen != -EINVAL) {
        fprintf(stderr, "%s with %s: expected -EINVAL, seen %lld\n", call, what, seen);
        bad_count++;
    }
}

static void check(void *address, const char *what)
{
    io_context2_t ctx = address;
    struct timespec zero = { 0, 0 };
    union event_room room;
    struct iocb2 iocb;
    sigset_t mask;

    sigemptyset(&mask);
    io_prep2_nop(&iocb);
    check_one("io_submit2", what, CALL(io_submit2(ctx, &iocb, sizeof(iocb))));
    check_one("io_submit2 of nothing", what, CALL(io_submit2(ctx, &iocb, 0)));
    check_one("io_getevents2", what, CALL(io_getevents2(ctx, 24, &room.event, sizeof(room), &zero)));
    check_one("io_getevents2 without a limit", what, CALL(io_getevents2(ctx, 24, &room.event, sizeof(room), NULL)));
    check_one("io_getevents2 that does not wait", what, CALL(io_getevents2(ctx, 0, &room.event, sizeof(room), NULL)));
    check_one("io_pgetevents2", what, CALL(io_pgetevents2(ctx, 24, &room.event, sizeof(room), NULL, &mask)));
    check_one("io_cancel2", what, CALL(io_cancel2(ctx, 0)));
    check_one("io_ring_fd2", what, CALL(io_ring_fd2(ctx)));
    check_one("io_destroy2", what, CALL(io_destroy2(ctx)));
}

int main(void)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    io_context2_t live = setup2(0, 0, 0);
    io_context2_t dead = setup2(0, 0, 0);
    const size_t dead_bytes = dead->header_bytes + dead->ring_bytes;
    struct io_ring2 on_stack;
    union event_room room;
    unsigned char *memory;
    unsigned char *heap;
    struct iocb2 iocb;
    void *mapped;

    check(NULL, "NULL");
    check((void *)1, "1");
    check((void *)8, "8");
    check((void *)4096, "4096");
    check((void *)UINTPTR_MAX, "the highest address");
    check((void *)(UINTPTR_MAX - 7), "the highest aligned address");
    check((void *)(UINTPTR_MAX - 4095), "the highest page");
    check((void *)(uintptr_t)INT64_MIN, "an address in the middle of nowhere");
    check((void *)UINT64_C(0x00007ffffffff000), "the end of user space");
    check((void *)UINT64_C(0xffff888000000000), "the kernel's memory");
    check((void *)(uintptr_t)live->id, "the id of a live context");

    memset(&on_stack, 0, sizeof(on_stack));
    check(&on_stack, "zeros on the stack");
    memcpy(&on_stack, live, sizeof(on_stack));
    check(&on_stack, "a copy of a live header on the stack");

    heap = malloc(4096);
    CHECK(heap != NULL);
    memset(heap, 0xff, 4096);
    check(heap, "memory of malloc");
    free(heap);

    /* Page-aligned, as a handle is. */
    memory = mmap(NULL, 16 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    check(memory, "zero pages");
    memcpy(memory, live, live->header_bytes);
    check(memory, "pages with a copy of a live header");
    CHECK_EQ(mprotect(memory, 16 * page, PROT_NONE), 0);
    check(memory, "pages that cannot be accessed");
    CHECK_EQ(mprotect(memory, 16 * page, PROT_READ), 0);
    check(memory, "pages that cannot be written");
    CHECK_EQ(munmap(memory, 16 * page), 0);
    check(memory, "pages that are gone");
    check((void *)(uintptr_t)(void (*)(void))main, "a function");
    check((void *)(uintptr_t)"text", "a constant");

    check((char *)live + 8, "a live context and 8");
    check((char *)live + 1, "a live context and 1");
    check((char *)live + page, "a live context and a page");
    check((char *)live - page, "a live context less a page");
    check((char *)live + live->header_bytes, "a live context's data area");

    /* Another view of a live context's own memory is not its handle. */
    {
        int fd = (int)CALL(io_ring_fd2(live));

        CHECK(fd >= 0);
        mapped = mmap(NULL, live->header_bytes, PROT_READ, MAP_SHARED, fd, 0);
        CHECK(mapped != MAP_FAILED);
        CHECK_EQ(((struct io_ring2 *)mapped)->magic, IO_RING2_MAGIC);
        check(mapped, "another mapping of a live ring");
        munmap(mapped, live->header_bytes);
        close(fd);
    }

    CHECK_EQ(CALL(io_destroy2(dead)), 0);
    check(dead, "a destroyed context");
    /* Its address, with something else there. */
    mapped = mmap(dead, dead_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (mapped == (void *)dead) {
        check(dead, "a destroyed context's address with zeros there");
        memcpy(mapped, live, live->header_bytes);
        check(dead, "a destroyed context's address with a live header there");
        CHECK_EQ(munmap(mapped, dead_bytes), 0);
    }

    CHECK_EQ(bad_count, 0);

    CHECK_EQ(live->submitted, 0);
    io_prep2_nop(&iocb);
    iocb.data = 5;
    submit_one(live, &iocb);
    get_one(live, &room.event);
    CHECK_EQ(room.event.data, 5);
    CHECK_EQ(CALL(io_destroy2(live)), 0);
    return 0;
}
