/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * IOCB_ATTR_LINK: the next request of the same submit begins only after this one has succeeded in full. Otherwise it and the
 * rest of the chain complete with -ECANCELED, and are not made.
 */
#include "test.h"

enum { MOST = 16 };

static struct {
    _Alignas(8) unsigned char bytes[MOST * 256];
    size_t size;
} batch;

static int64_t results[MOST];
static int order[MOST];
static char byte[MOST];
static struct iovec iovecs[2];
static int fd;

/* One more request for the batch. */
static struct iocb2 *next(uint64_t data)
{
    struct iocb2 *iocb = (struct iocb2 *)(void *)(batch.bytes + batch.size);

    memset(iocb, 0, sizeof(*iocb));
    io_prep2_nop(iocb);
    iocb->data = data;
    return iocb;
}

static void done(struct iocb2 *iocb, bool link)
{
    if (link)
        CHECK(iocb2_add_attr(iocb, IOCB_ATTR_LINK, IOCB_ATTR_F_REQUIRED, 0, NULL, 0) != NULL);
    batch.size += iocb->bytes;
}

static void nop(uint64_t data, bool link)
{
    done(next(data), link);
}

/* Writes the byte 'w' at `data`. */
static void write_one(uint64_t data, bool link)
{
    struct iocb2 *iocb = next(data);

    byte[data] = 'w';
    io_prep2_pwrite(iocb, fd, &byte[data], 1, (int64_t)data);
    iocb->data = data;
    done(iocb, link);
}

static bool written(uint64_t at)
{
    char now = 0;

    CHECK_EQ(pread(fd, &now, 1, (off_t)at), 1);
    return now == 'w';
}

static void begin(void)
{
    static const char zeros[MOST];

    batch.size = 0;
    CHECK_EQ(pwrite(fd, zeros, MOST, 0), MOST);
    for (int i = 0; i < MOST; i++)
        results[i] = 12345;
}

/* The next `n` events, and no more. */
static void reap(io_context2_t ctx, int n)
{
    for (int got = 0; got < n;) {
        static _Alignas(8) unsigned char room[MOST * 96];
        const struct timespec limit = { PATIENCE_S, 0 };
        ssize_t bytes = CALL(io_getevents2(ctx, 1, (struct io_event2 *)(void *)room, sizeof(room), &limit));

        CHECK_CMP(bytes, >, 0);
        for (ssize_t at = 0; at < bytes; got++) {
            const struct io_event2 *event = (const struct io_event2 *)(const void *)(room + at);
            const struct iocb_attr_ret *ret = io_event2_attr(event, IOCB_ATTR_LINK);

            CHECK_CMP(got, <, n);
            CHECK_CMP(event->data, <, MOST);
            CHECK_EQ(results[event->data], 12345);
            /* The attribute is handled, also on the last request, where it changes nothing. */
            CHECK(ret == NULL || ret->ret == 0);
            results[event->data] = event->res;
            order[got] = (int)event->data;
            at += event->bytes;
        }
    }
}

static void run(io_context2_t ctx, int n)
{
    submit_all(ctx, batch.bytes, batch.size);
    reap(ctx, n);
    expect_no_event(ctx, 5);
}

/* 0 is what is submitted by `first`, linked; 1 and 2 follow it, 3 is behind the chain. */
static void expect_broken(io_context2_t ctx, int64_t res)
{
    write_one(1, true);
    write_one(2, false);
    write_one(3, false);
    run(ctx, 4);
    CHECK_EQ(results[0], res);
    CHECK_EQ(results[1], -ECANCELED);
    CHECK_EQ(results[2], -ECANCELED);
    CHECK_EQ(results[3], 1);
    CHECK(!written(1) && !written(2) && written(3));
}

int main(void)
{
    const struct iocb_deadline past = { .ns = 1 };
    io_context2_t ctx = setup2(0, 0, 0);
    static char big[64];
    struct iocb2 *iocb;
    struct hold hold;

    fd = temp_file(MOST, 0);

    /* In order, also across the two kinds of workers. */
    for (int round = 0; round < 100; round++) {
        begin();
        for (uint64_t i = 0; i < 8; i++)
            write_one(i, i < 7);
        run(ctx, 8);
        for (int i = 0; i < 8; i++) {
            CHECK_EQ(order[i], i);
            CHECK_EQ(results[i], 1);
            CHECK(written((uint64_t)i));
        }
    }
    begin();
    hold_init(&hold, 0);
    memcpy(next(0), &hold.iocb, sizeof(hold.iocb));
    done((struct iocb2 *)(void *)batch.bytes, true);
    write_one(1, false);
    write_one(2, false);
    submit_all(ctx, batch.bytes, batch.size);
    reap(ctx, 1);
    CHECK_EQ(order[0], 2);
    expect_no_event(ctx, 50);
    CHECK(!written(1));
    hold_release(&hold);
    reap(ctx, 2);
    CHECK_EQ(order[0], 0);
    CHECK_EQ(order[1], 1);
    CHECK(written(1));
    hold_close(&hold);

    /* Everything that breaks a chain. */
    begin();
    iocb = next(0);
    io_prep2_pread(iocb, -1, big, 1, 0);
    done(iocb, true);
    expect_broken(ctx, -EBADF);
    begin();
    iocb = next(0);
    io_prep2_pread(iocb, fd, big, sizeof(big), 0); /* the file has fewer */
    done(iocb, true);
    expect_broken(ctx, MOST);
    begin();
    iovecs[0] = (struct iovec){ big, MOST / 2 };
    iovecs[1] = (struct iovec){ big, MOST };
    iocb = next(0);
    io_prep2_preadv2(iocb, fd, iovecs, 2, 0, 0);
    done(iocb, true);
    expect_broken(ctx, MOST);
    begin();
    iocb = next(0);
    CHECK(iocb2_add_attr(iocb, 0x8001, IOCB_ATTR_F_REQUIRED, 0, NULL, 0) != NULL);
    done(iocb, true);
    expect_broken(ctx, -EOPNOTSUPP);
    begin();
    iocb = next(0);
    CHECK(iocb2_add_attr(iocb, IOCB_ATTR_DEADLINE, 0, 0, &past, sizeof(past)) != NULL);
    done(iocb, true);
    expect_broken(ctx, -ETIMEDOUT);
    begin();
    iocb = next(0);
    io_prep2_syscall(iocb, SYS_exit_group, 3, 0, 0, 0, 0, 0);
    done(iocb, true);
    expect_broken(ctx, -ENOSYS);

    /* In full: as many bytes as asked for and no more. */
    begin();
    iovecs[1].iov_len = MOST / 2;
    iocb = next(0);
    io_prep2_preadv2(iocb, fd, iovecs, 2, 0, 0);
    done(iocb, true);
    write_one(1, false);
    run(ctx, 2);
    CHECK_EQ(results[0], MOST);
    CHECK_EQ(results[1], 1);

    /* The last of a submit has nobody behind it, also if the next record is malformed. */
    begin();
    iocb = next(0);
    io_prep2_pread(iocb, -1, big, 1, 0);
    done(iocb, true);
    run(ctx, 1);
    begin();
    write_one(1, false);
    run(ctx, 1);
    CHECK_EQ(results[1], 1);
    begin();
    nop(0, true);
    iocb = next(1);
    batch.size += iocb->bytes;
    iocb->bytes = 60;
    CHECK_EQ(CALL(io_submit2(ctx, (struct iocb2 *)(void *)batch.bytes, batch.size)), 64 + 16);
    reap(ctx, 1);
    CHECK_EQ(results[0], 0);

    /* A member that is cancelled takes those behind it along, and not the one that runs. */
    begin();
    hold_init(&hold, 0);
    memcpy(next(0), &hold.iocb, sizeof(hold.iocb));
    done((struct iocb2 *)(void *)batch.bytes, true);
    write_one(1, true);
    write_one(2, true);
    write_one(3, false);
    submit_all(ctx, batch.bytes, batch.size);
    hold_wait_running(1);
    CHECK_EQ(CALL(io_cancel2(ctx, 2)), 0);
    reap(ctx, 2);
    CHECK_EQ(results[2], -ECANCELED);
    CHECK_EQ(results[3], -ECANCELED);
    expect_no_event(ctx, 20);
    hold_release(&hold);
    reap(ctx, 2);
    CHECK_EQ(results[0], 1);
    CHECK_EQ(results[1], 1);
    CHECK(written(1) && !written(2) && !written(3));
    hold_close(&hold);

    /* A drain in a chain is both: it waits for the one before it, and for all others. */
    begin();
    hold_init(&hold, 0);
    memcpy(next(0), &hold.iocb, sizeof(hold.iocb));
    done((struct iocb2 *)(void *)batch.bytes, false);
    write_one(1, true);
    iocb = next(2);
    CHECK(iocb2_add_attr(iocb, IOCB_ATTR_DRAIN, 0, 0, NULL, 0) != NULL);
    done(iocb, true);
    write_one(3, false);
    write_one(4, false);
    submit_all(ctx, batch.bytes, batch.size);
    reap(ctx, 1);
    CHECK_EQ(order[0], 1);
    expect_no_event(ctx, 50);
    hold_release(&hold);
    reap(ctx, 4);
    CHECK_EQ(order[0], 0);
    CHECK_EQ(order[1], 2);
    CHECK(written(3) && written(4));
    hold_close(&hold);

    /* The end of a context takes all of a chain along. */
    begin();
    hold_init(&hold, 0);
    memcpy(next(0), &hold.iocb, sizeof(hold.iocb));
    done((struct iocb2 *)(void *)batch.bytes, true);
    write_one(1, true);
    write_one(2, false);
    submit_all(ctx, batch.bytes, batch.size);
    hold_wait_running(1);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    CHECK(!written(1) && !written(2));
    hold_close(&hold);
    return 0;
}
