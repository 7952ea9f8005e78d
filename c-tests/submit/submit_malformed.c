/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * io_submit2() stops at a malformed record. If it is the first, it returns -EINVAL; otherwise the number of bytes before it, and the
 * requests there run. Nothing behind the record and nothing beyond nbytes is read. io_issue2() refuses such a record, too.
 */
#include "test.h"

enum { PAGES = 4 };

static io_context2_t ctx;
/* Records are placed so that they end at an inaccessible page: reading too far is a crash. */
static unsigned char *guard;
static int bad_count;

struct shape {
    const char *what;
    uint32_t bytes;         /* iocb2.bytes */
    uint32_t present;       /* how many bytes of the record are inside nbytes */
    uint16_t attrs[4];      /* attr.bytes of the attributes, one behind the other; 0 ends the list */
    uint16_t zero_attr;     /* write an attribute of size 0 at the end of the list */
};

static const struct shape malformed[] = {
    { "bytes 0", 0, 64, { 0 }, 0 },
    { "bytes 8", 8, 64, { 0 }, 0 },
    { "bytes 56", 56, 64, { 0 }, 0 },
    { "bytes 63", 63, 64, { 0 }, 0 },
    { "bytes 65", 65, 80, { 16 }, 0 },
    { "bytes 68", 68, 80, { 16 }, 0 },
    { "bytes 71", 71, 80, { 16 }, 0 },
    { "bytes 84", 84, 96, { 16, 16 }, 0 },
    { "bytes 64 + 4096 + 8", 64 + 4096 + 8, 64 + 4096 + 8, { 4096 }, 0 },
    { "bytes 64 + 4096 + 16", 64 + 4096 + 16, 64 + 4096 + 16, { 4096, 16 }, 0 },
    { "bytes 8192", 8192, 8192, { 4096 }, 0 },
    { "bytes 2^31", UINT32_C(1) << 31, 64, { 0 }, 0 },
    { "bytes 2^32 - 8", UINT32_MAX - 7, 64, { 0 }, 0 },
    { "bytes 2^32 - 1", UINT32_MAX, 64, { 0 }, 0 },
    { "bytes 80 of which 64 are there", 80, 64, { 0 }, 0 },
    { "bytes 80 of which 72 are there", 80, 72, { 0 }, 0 },
    { "bytes 80 of which 79 are there", 80, 79, { 16 }, 0 },
    { "bytes 64 of which 63 are there", 64, 63, { 0 }, 0 },
    { "bytes 64 of which 56 are there", 64, 56, { 0 }, 0 },
    { "bytes 64 of which 8 are there", 64, 8, { 0 }, 0 },
    { "bytes 64 of which 4 are there", 64, 4, { 0 }, 0 },
    { "bytes 64 of which 1 is there", 64, 1, { 0 }, 0 },
    { "bytes 64 + 4096 of which 64 are there", 64 + 4096, 64, { 0 }, 0 },
    { "8 bytes of attributes", 72, 72, { 8 }, 0 },
    { "attribute of 0", 80, 80, { 0 }, 1 },
    { "attribute of 8", 80, 80, { 8 }, 0 },
    { "attribute of 15", 80, 80, { 15 }, 0 },
    { "attribute of 17", 88, 88, { 17 }, 0 },
    { "attribute of 20", 88, 88, { 20 }, 0 },
    { "attribute of 24 in 16", 80, 80, { 24 }, 0 },
    { "attribute of 65528 in 16", 80, 80, { 65528 }, 0 },
    { "attribute of 65535 in 16", 80, 80, { 65535 }, 0 },
    { "attribute of 4104 in 4096", 64 + 4096, 64 + 4096, { 4104 }, 0 },
    { "8 bytes behind the attributes", 88, 88, { 16, 8 }, 0 },
    { "8 zero bytes behind the attributes", 88, 88, { 16 }, 0 },
    { "16 zero bytes behind the attributes", 96, 96, { 16 }, 1 },
    { "second attribute of 0", 96, 96, { 16 }, 1 },
    { "second attribute of 8", 96, 96, { 16, 8 }, 0 },
    { "second attribute of 24 in 16", 96, 96, { 16, 24 }, 0 },
    { "third attribute of 17", 64 + 24 + 16 + 24, 64 + 24 + 16 + 24, { 24, 16, 17 }, 0 },
};

/* Well-formed ones, at the limits. */
static const struct shape good[] = {
    { "no attributes", 64, 64, { 0 }, 0 },
    { "one attribute", 80, 80, { 16 }, 0 },
    { "an attribute with payload", 88, 88, { 24 }, 0 },
    { "three attributes", 64 + 16 + 40 + 24, 64 + 16 + 40 + 24, { 16, 40, 24 }, 0 },
    { "an attribute of 4096", 64 + 4096, 64 + 4096, { 4096 }, 0 },
    { "attributes of 4080 and 16", 64 + 4096, 64 + 4096, { 4080, 16 }, 0 },
};

/* Writes a record of this shape at `to`, of which only `present` bytes are written. */
static void put(unsigned char *to, const struct shape *shape, uint64_t data)
{
    static unsigned char record[16384];
    size_t at = 64;

    memset(record, 0, sizeof(record));
    io_prep2_nop((struct iocb2 *)(void *)record);
    ((struct iocb2 *)(void *)record)->bytes = shape->bytes;
    ((struct iocb2 *)(void *)record)->data = data;
    for (size_t i = 0; i < 4 && shape->attrs[i] != 0; i++) {
        struct iocb_attr attr = { .bytes = shape->attrs[i], .id = 0x8000, .cookie = i };

        memcpy(record + at, &attr, sizeof(attr));
        at += (shape->attrs[i] + 7u) & ~7u;
    }
    if (shape->zero_attr) {
        struct iocb_attr attr = { .bytes = 0, .id = 0x8000 };

        memcpy(record + at, &attr, sizeof(attr));
    }
    memcpy(to, record, shape->present);
}

static void reap(size_t count)
{
    static unsigned char buf[65536];

    if (count != 0) {
        size_t bytes = get_events(ctx, count, buf, sizeof(buf));
        size_t at = 0;
        uint64_t seen = 0;

        while (at < bytes) {
            struct io_event2 *event = (struct io_event2 *)(void *)(buf + at);

            CHECK_EQ(event->res, 0);
            CHECK_CMP(event->data, <, count);
            CHECK((seen & UINT64_C(1) << event->data) == 0);
            seen |= UINT64_C(1) << event->data;
            at += event->bytes;
        }
    }
    expect_no_event(ctx, 0);
}

/* `before` good records, then this one, then `after` good ones. */
static void submit_with(const struct shape *shape, size_t before, size_t after)
{
    static const struct shape *const plain = &good[0];
    const size_t total = (before + after) * 64 + shape->present;
    /* A start aligned to 8; up to 7 bytes before the guard remain unused, and are poison. */
    unsigned char *start = (unsigned char *)((uintptr_t)(guard - total) & ~(uintptr_t)7);
    const uint64_t submitted = ctx->submitted;
    unsigned char *at = start;
    long long expected = before == 0 ? -EINVAL : (long long)(before * 64);
    long long seen;

    memset(start, 0xff, (size_t)(guard - start));
    for (size_t i = 0; i < before; i++, at += 64)
        put(at, plain, i);
    put(at, shape, 1000);
    at += shape->present;
    if (shape->present % 8 == 0) {
        for (size_t i = 0; i < after; i++, at += 64)
            put(at, plain, 2000 + i);
    }
    seen = CALL(io_submit2(ctx, (struct iocb2 *)(void *)start, total));
    if (seen != expected) {
        fprintf(stderr, "%s, %zu before, %zu after: expected %lld, seen %lld\n", shape->what, before, after, expected,
                seen);
        bad_count++;
        return;
    }
    CHECK_EQ(ctx->submitted - submitted, before);
    reap(before);
}

int main(void)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char *area = mmap(NULL, (PAGES + 1) * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    union event_room room;

    CHECK(area != MAP_FAILED);
    guard = area + PAGES * page;
    CHECK_EQ(mprotect(guard, page, PROT_NONE), 0);
    ctx = setup2(0, 0, 0);

    for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++) {
        const struct shape *shape = &malformed[i];
        unsigned char *start = (unsigned char *)((uintptr_t)(guard - shape->present) & ~(uintptr_t)7);

        submit_with(shape, 0, 0);
        submit_with(shape, 1, 0);
        submit_with(shape, 5, 0);
        /* Where the fault is that the bytes end, nothing can follow. */
        if (shape->present >= shape->bytes && shape->present % 8 == 0) {
            submit_with(shape, 0, 1);
            submit_with(shape, 3, 2);
        }

        /* io_issue2 is not told how many bytes there are; it can see only what the record itself says. */
        if (shape->present >= shape->bytes && shape->present >= 64) {
            memset(start, 0xff, (size_t)(guard - start));
            put(start, shape, 1);
            if (CALL(io_issue2((struct iocb2 *)(void *)start, &room.event, sizeof(room))) != -EINVAL) {
                fprintf(stderr, "%s: io_issue2 took it\n", shape->what);
                bad_count++;
            }
        }
    }
    CHECK_EQ(bad_count, 0);

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        const struct shape *shape = &good[i];
        unsigned char *start = guard - shape->present;

        put(start, shape, 0);
        CHECK_EQ(CALL(io_submit2(ctx, (struct iocb2 *)(void *)start, shape->present)), shape->bytes);
        reap(1);
        CHECK_CMP(CALL(io_issue2((struct iocb2 *)(void *)start, &room.event, sizeof(room))), >=, 24);

        /* Every number of bytes behind it that is not a record is not accepted. */
        for (size_t extra = 1; extra < 64; extra++) {
            const size_t total = shape->present + extra;

            start = (unsigned char *)((uintptr_t)(guard - total) & ~(uintptr_t)7);
            memset(start, 0, (size_t)(guard - start));
            put(start, shape, 0);
            CHECK_EQ(CALL(io_submit2(ctx, (struct iocb2 *)(void *)start, total)), shape->bytes);
            reap(1);
        }
    }

    /* All good shapes in one submit. */
    {
        unsigned char *at = area;

        for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
            put(at, &good[i], i);
            at += good[i].bytes;
        }
        CHECK_EQ(CALL(io_submit2(ctx, (struct iocb2 *)(void *)area, (size_t)(at - area))), at - area);
        reap(sizeof(good) / sizeof(good[0]));
    }

    /* nbytes far beyond the memory there is: it stops at the record that ends the good ones. */
    memset(area, 0, 4096);
    put(area, &good[0], 0);
    put(area + 64, &good[0], 1);
    CHECK_EQ(CALL(io_submit2(ctx, (struct iocb2 *)(void *)area, SIZE_MAX)), 128);
    reap(2);
    CHECK_EQ(CALL(io_submit2(ctx, (struct iocb2 *)(void *)area, SIZE_MAX / 2 + 1)), 128);
    reap(2);

    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
