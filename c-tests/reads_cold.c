/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Many reads at once of what is not in the page cache, of which workers tell the device before they wait for the first: the data is
 * right, every request has one event, errors and short reads are those of pread, cancelling and destroying lose none. (That the
 * device is told is what reads_cold_calls.sh shows.)
 */
/* time limit: 60 s */
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
    submit_all(ctx, iocbs, sizeof(iocbs));
    get_events(ctx, MANY, events, sizeof(events));
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
    submit_all(ctx, iocbs, sizeof(iocbs));
    for (int i = MANY - 1; i >= 0; i--) {
        int ret = io_cancel2(ctx, (uint64_t)i);

        CHECK(ret == 0 || ret == -EALREADY || ret == -ENOENT);
        cancelled[i] = ret == 0;
    }
    get_events(ctx, MANY, events, sizeof(events));
    for (int i = 0; i < MANY; i++) {
        CHECK_CMP(events[i].data, <, MANY);
        if (cancelled[events[i].data])
            expected[events[i].data] = -ECANCELED;
        check_one(&events[i], seen);
    }
}

int main(void)
{
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
        submit_all(ctx, iocbs, sizeof(iocbs));
        CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    }
    return 0;
}
