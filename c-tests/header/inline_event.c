/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* io_event2_next() and io_event2_attr() walk events and their attribute returns, and stay inside a malformed one. */
#include "test.h"

static struct {
    union event_room room;
} area;

static struct io_event2 *const event = &area.room.event;

static struct iocb_attr_ret *add_ret(uint16_t bytes, uint16_t id)
{
    struct iocb_attr_ret *ret = (struct iocb_attr_ret *)(void *)(area.room.bytes + event->bytes);

    ret->bytes = bytes;
    ret->id = id;
    ret->ret = 0;
    ret->cookie = id;
    event->bytes += bytes;
    return ret;
}

static void start(void)
{
    /* The memory behind an event looks like returns of id 5: a helper that finds one has gone too far. */
    for (size_t at = 0; at + sizeof(struct iocb_attr_ret) <= sizeof(area.room); at += 8) {
        struct iocb_attr_ret ret = { .bytes = 16, .id = 5 };

        memcpy(area.room.bytes + at, &ret, sizeof(ret));
    }
    memset(event, 0, sizeof(*event));
    event->bytes = sizeof(*event);
}

int main(void)
{
    struct iocb_attr_ret *first;
    struct iocb_attr_ret *second;
    struct iocb_attr_ret *third;

    start();
    CHECK((char *)io_event2_next(event) == (char *)event + 24);
    CHECK(io_event2_attr(event, 5) == NULL);
    CHECK(io_event2_attr(event, 0) == NULL);

    start();
    first = add_ret(16, 1);
    second = add_ret(40, 2);
    third = add_ret(16, 1);
    CHECK(io_event2_attr(event, 1) == first);
    CHECK(io_event2_attr(event, 2) == second);
    CHECK(io_event2_attr(event, 3) == NULL);
    CHECK(io_event2_attr(event, 5) == NULL);
    CHECK((char *)io_event2_next(event) == (char *)third + 16);

    /* The first of several with one id. */
    third->cookie = 99;
    CHECK_EQ(io_event2_attr(event, 1)->cookie, 1);

    /* A return of size 0 or 8, or one longer than the event, ends the walk. */
    start();
    first = add_ret(16, 1);
    second = add_ret(16, 2);
    first->bytes = 0;
    CHECK(io_event2_attr(event, 2) == NULL);
    CHECK(io_event2_attr(event, 1) == NULL);
    first->bytes = 8;
    CHECK(io_event2_attr(event, 2) == NULL);
    first->bytes = 16;
    CHECK(io_event2_attr(event, 2) == second);
    second->bytes = 24;
    CHECK(io_event2_attr(event, 2) == NULL);
    CHECK(io_event2_attr(event, 1) == first);

    /* A last return that is cut short, and an event shorter than an event. */
    start();
    first = add_ret(16, 1);
    event->bytes += 8;
    CHECK(io_event2_attr(event, 5) == NULL);
    event->bytes = 16;
    CHECK(io_event2_attr(event, 1) == NULL);
    event->bytes = 0;
    CHECK(io_event2_attr(event, 1) == NULL);
    return 0;
}
