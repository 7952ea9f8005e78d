/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A write beyond RLIMIT_FSIZE is -EFBIG in `res` and raises no signal, also if it is queued behind reads of the same file that
 * wait for their device: the thread that hands those over to the kernel's AIO gets no signal by the write.
 */
#include "test.h"
#include "stress.h"
#include <signal.h>
#include <sys/resource.h>

enum { BLOCK = 4096, BLOCKS = 256, DEPTH = 8, WARM = 4000, BEYOND = 3000 };

static volatile sig_atomic_t signals;

static void on_signal(int sig)
{
    (void)sig;
    signals++;
}

static unsigned char *memory;
static int fd;
static uint64_t rng = 7;

enum what { READ, WRITE, WRITE_BEYOND };

static void prepare(struct iocb2 *iocb, enum what what)
{
    const int64_t at = (int64_t)rng_below(&rng, BLOCKS) * BLOCK + (what == WRITE_BEYOND ? BLOCKS * BLOCK : 0);
    void *const buf = memory + rng_below(&rng, DEPTH) * BLOCK;

    if (what == READ)
        io_prep2_pread(iocb, fd, buf, BLOCK, at);
    else
        io_prep2_pwrite(iocb, fd, buf, BLOCK, at);
    iocb->data = (uint64_t)what;
}

/* Keeps DEPTH requests in flight; one in so many is of that kind, the others read. */
static void run(io_context2_t ctx, uint64_t one_in, enum what other, int others)
{
    int in_flight = 0;

    while (others > 0 || in_flight != 0) {
        struct iocb2 iocbs[DEPTH];
        struct io_event2 events[DEPTH];
        int n = 0;

        for (; in_flight < DEPTH && others > 0; in_flight++, n++) {
            const enum what what = rng_below(&rng, one_in) == 0 ? other : READ;

            prepare(&iocbs[n], what);
            others -= what == other;
        }
        if (n != 0)
            submit_all(ctx, iocbs, (size_t)n * sizeof(iocbs[0]));
        ssize_t got = CALL(io_getevents2(ctx, sizeof(events[0]), events, sizeof(events), NULL));
        CHECK_CMP(got, >, 0);
        for (size_t i = 0; i < (size_t)got / sizeof(events[0]); i++, in_flight--)
            CHECK_EQ(events[i].res, events[i].data == WRITE_BEYOND ? -EFBIG : BLOCK);
    }
}

int main(void)
{
    const struct rlimit limit = { BLOCKS * BLOCK, BLOCKS * BLOCK };
    io_context2_t ctx = setup2(0, 0, 0);
    struct stat st;
    void *at;

    CHECK_EQ(posix_memalign(&at, BLOCK, DEPTH * BLOCK), 0);
    memory = at;
    memset(memory, 1, DEPTH * BLOCK);
    fd = temp_file(0, O_DIRECT);
    for (int i = 0; i < BLOCKS; i++)
        CHECK_EQ(pwrite(fd, memory, BLOCK, i * BLOCK), BLOCK);
    CHECK(signal(SIGXFSZ, on_signal) != SIG_ERR);
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    /* Its reads are known to wait; and its writes. */
    run(ctx, 1, READ, WARM);
    run(ctx, 4, WRITE_BEYOND, BEYOND);
    run(ctx, 1, WRITE, WARM);
    run(ctx, 4, WRITE_BEYOND, BEYOND);
    CHECK_EQ(signals, 0);
    CHECK_EQ(fstat(fd, &st), 0);
    CHECK_EQ(st.st_size, BLOCKS * BLOCK);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    free(memory);
    return 0;
}
