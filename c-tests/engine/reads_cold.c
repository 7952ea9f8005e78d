/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Many reads at a time of data that is not in the page cache. Workers announce the reads to the device before they wait for the
 * first: the data is right, every request has one event, errors and short reads are those of pread, and cancel and destroy
 * lose no event. (reads_cold_calls.sh shows that the reads are announced.)
 */
/* needs: root */
#include "test.h"
#include "stress.h"
#include "device.h"

enum { DEVICE = 16 << 20, BLOCK = 4096, BLOCKS = DEVICE / BLOCK, MANY = 64, ROUNDS = 40 };

static int device;
static uint64_t rng = 1;
static unsigned char bufs[MANY][BLOCK];
static struct iovec vectors[MANY];
static int64_t offsets[MANY], expected[MANY];
static struct iocb2 iocbs[MANY];
/* With an argument, each asks for IOCB_ATTR_TIMING, which changes nothing. */
static bool timed;

static void submit_them(io_context2_t ctx)
{
    static union {
        struct iocb2 iocb;
        unsigned char bytes[MANY * 80];
    } records;
    size_t bytes = 0;

    for (int i = 0; i < MANY; i++) {
        struct iocb2 *iocb = (struct iocb2 *)(void *)(records.bytes + bytes);

        *iocb = iocbs[i];
        if (timed)
            CHECK(iocb2_add_attr(iocb, IOCB_ATTR_TIMING, 0, 0, NULL, 0) != NULL);
        bytes += iocb->bytes;
    }
    submit_all(ctx, records.bytes, bytes);
}

static void get_them(io_context2_t ctx, struct io_event2 events[MANY])
{
    static union event_room room;
    const struct io_event2 *event = &room.event;

    get_events(ctx, MANY, &room.event, MANY * (timed ? 64 : sizeof(*event)));
    for (int i = 0; i < MANY; i++, event = io_event2_next(event)) {
        CHECK(!timed || io_event2_attr(event, IOCB_ATTR_TIMING)->ret == 0);
        events[i] = *event;
    }
}

/* Nothing of the device is in the page cache. */
static void cool(void)
{
    CHECK_EQ(posix_fadvise(device, 0, 0, POSIX_FADV_DONTNEED), 0);
}

static void prepare(int i)
{
    offsets[i] = (int64_t)rng_below(&rng, BLOCKS) * BLOCK;
    expected[i] = BLOCK;
    memset(bufs[i], 0, BLOCK);
    vectors[i] = (struct iovec){ bufs[i], BLOCK };
    switch (rng_below(&rng, 16)) {
    case 0: /* the end */
        offsets[i] = DEVICE - BLOCK / 2;
        expected[i] = BLOCK / 2;
        break;
    case 1: /* beyond it */
        offsets[i] = DEVICE + BLOCK;
        expected[i] = 0;
        break;
    default:
        break;
    }
    if (i % 4 == 3)
        io_prep2_preadv2(&iocbs[i], device, &vectors[i], 1, offsets[i], 0);
    else
        io_prep2_pread(&iocbs[i], device, bufs[i], BLOCK, offsets[i]);
    if (rng_below(&rng, 32) == 0) {
        iocbs[i].args[0] = (uint64_t)-1;
        expected[i] = -EBADF;
    } else if (expected[i] == BLOCK && i % 4 != 3 && rng_below(&rng, 32) == 0) {
        iocbs[i].args[1] = 8192;
        expected[i] = -EFAULT;
    }
    iocbs[i].data = (uint64_t)i;
}

static void check_one(const struct io_event2 *event, bool *seen)
{
    size_t i = event->data;

    CHECK_CMP(i, <, MANY);
    CHECK(!seen[i]);
    seen[i] = true;
    CHECK_EQ(event->res, expected[i]);
    if (event->res > 0)
        CHECK_PATTERN(bufs[i], (size_t)event->res, (uint64_t)offsets[i], 7);
}

static void round_of(io_context2_t ctx)
{
    struct io_event2 events[MANY];
    bool seen[MANY] = { false };

    for (int i = 0; i < MANY; i++)
        prepare(i);
    cool();
    submit_them(ctx);
    get_them(ctx, events);
    for (int i = 0; i < MANY; i++)
        check_one(&events[i], seen);
}

/* Those that could be cancelled are, the rest has been read. */
static void cancel_some(io_context2_t ctx)
{
    struct io_event2 events[MANY];
    bool seen[MANY] = { false };
    bool cancelled[MANY] = { false };

    for (int i = 0; i < MANY; i++)
        prepare(i);
    cool();
    submit_them(ctx);
    for (int i = MANY - 1; i >= 0; i--) {
        int ret = io_cancel2(ctx, (uint64_t)i);

        CHECK(ret == 0 || ret == -EALREADY || ret == -ENOENT);
        cancelled[i] = ret == 0;
    }
    get_them(ctx, events);
    for (int i = 0; i < MANY; i++) {
        CHECK_CMP(events[i].data, <, MANY);
        if (cancelled[events[i].data])
            expected[events[i].data] = -ECANCELED;
        check_one(&events[i], seen);
    }
}

int main(int argc, char **argv)
{
    (void)argv;
    timed = argc > 1;

    int file = temp_pattern_file(DEVICE, 7, 0);
    device = loop_open(file, 0);
    for (uint32_t workers = 0; workers <= 2; workers++) {
        io_context2_t ctx = setup2(0, 0, workers);

        for (int i = 0; i < ROUNDS; i++)
            round_of(ctx);
        for (int i = 0; i < ROUNDS / 4; i++)
            cancel_some(ctx);
        for (int i = 0; i < MANY; i++)
            prepare(i);
        cool();
        submit_them(ctx);
        CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    }
    return 0;
}
