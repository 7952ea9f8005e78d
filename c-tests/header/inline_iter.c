/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * io_event2_for_each() visits each event that io_getevents2() gave, of whatever size, once; none if it gave none or an error; never one
 * that is not whole. It evaluates its arguments once, and can be nested, broken off and continued.
 */
/* with any engine the same */
#include "test.h"

static uint64_t buf[64];
static int evaluated;

/* Events with 0, 1, 2 ... words behind them; returns their bytes. */
static ssize_t fill(size_t n)
{
    size_t at = 0;

    memset(buf, 0, sizeof(buf));
    for (size_t i = 0; i < n; i++) {
        struct io_event2 event = { .bytes = (uint32_t)(sizeof(event) + 8 * i), .data = i };

        memcpy((char *)buf + at, &event, sizeof(event));
        at += event.bytes;
    }
    CHECK_CMP(at, <=, sizeof(buf));
    evaluated++;
    return (ssize_t)at;
}

static size_t visit(const void *at, ssize_t bytes)
{
    const struct io_event2 *event;
    size_t n = 0;

    io_event2_for_each (event, at, bytes) {
        CHECK_EQ(event->data, n);
        n++;
    }
    return n;
}

int main(void)
{
    const struct io_event2 *event = NULL;
    const struct io_event2 *inner;
    size_t n = 0;

    for (size_t events = 0; events <= 6; events++)
        CHECK_EQ(visit(buf, fill(events)), events);
    CHECK_EQ(visit(buf, -ENOBUFS), 0);
    CHECK_EQ(visit(NULL, 0), 0);
    CHECK_EQ(visit(NULL, -EINVAL), 0);

    evaluated = 0;
    io_event2_for_each (event, buf, fill(5)) {
        if (event->data == 1)
            continue;
        io_event2_for_each (inner, event, event->bytes)
            n++;
        if (event->data == 3)
            break;
    }
    CHECK_EQ(evaluated, 1);
    CHECK_EQ(n, 3);
    CHECK_EQ(event->data, 3);

    /* Cut off, or of nonsense sizes: the whole events before it. */
    CHECK_EQ(visit(buf, fill(3) - 8), 2);
    CHECK_EQ(visit(buf, 23), 0);
    for (uint32_t bytes = 0; bytes < 24; bytes += 8) {
        ssize_t all = fill(3);

        memcpy(&buf[3], &bytes, sizeof(bytes));
        CHECK_EQ(visit(buf, all), 1);
    }
    fill(1);
    ((struct io_event2 *)(void *)buf)->bytes = UINT32_MAX;
    CHECK_EQ(visit(buf, sizeof(buf)), 0);
    return 0;
}
