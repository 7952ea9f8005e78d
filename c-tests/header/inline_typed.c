/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * io_event2_timing() and its like return the answer of the attribute. They return NULL if the request did not have it, if it
 * was not handled, or if its return is too short; io_event2_handled() says which. IO_EVENT2_ROOM() is the largest size of an
 * event, and struct io_event2_room is enough for all.
 */
#include "test.h"

_Static_assert(IO_EVENT2_ROOM(0) == 24, "an event without attributes");
_Static_assert(IO_EVENT2_ROOM(IO_FEAT2_RING_SEALED) == 24, "other features");
_Static_assert(IO_EVENT2_ROOM(UINT64_MAX) <= sizeof(struct io_event2_room), "all attributes");
_Static_assert(sizeof(struct io_event2_room) == 512, "an event's room");
_Static_assert(sizeof(struct iocb2_room) == 512, "a request's room");

static struct iocb2_room request;
static struct io_event2_room answer;
static const struct io_event2 *const event = &answer.event;

static void add(uint64_t attrs)
{
    struct iocb2_room *const r = &request;

    CHECK(!(attrs & IO_FEAT2_ATTR_TIMING) || iocb2_add_timing(r, 0) != NULL);
    CHECK(!(attrs & IO_FEAT2_ATTR_CACHE) || iocb2_add_cache(r, 0) != NULL);
    CHECK(!(attrs & IO_FEAT2_ATTR_IOPRIO) || iocb2_add_ioprio(r, 0, 0) != NULL);
    CHECK(!(attrs & IO_FEAT2_ATTR_DEADLINE) || iocb2_add_deadline(r, 0, UINT64_MAX) != NULL);
    CHECK(!(attrs & IO_FEAT2_ATTR_DRAIN) || iocb2_add_drain(r, 0) != NULL);
    CHECK(!(attrs & IO_FEAT2_ATTR_LINK) || iocb2_add_link(r, 0) != NULL);
    CHECK(!(attrs & IO_FEAT2_ATTR_WORKER) || iocb2_add_worker(r, 0) != NULL);
    CHECK(!(attrs & IO_FEAT2_ATTR_ROUTE) || iocb2_add_route(r, 0) != NULL);
}

int main(void)
{
    static char buf[4096];
    int fd = temp_pattern_file(sizeof(buf), 1, 0);
    io_context2_t ctx = setup2(0, 0, 0);
    struct iocb_attr_ret *ret;
    int64_t before = now_ns();
    ssize_t bytes;

    CHECK_EQ(pread(fd, buf, sizeof(buf), 0), sizeof(buf)); /* now it is in the page cache */
    for (uint64_t attrs = 0; attrs < 0x200; attrs += 2) {
        io_prep2_pread(&request.iocb, fd, buf, sizeof(buf), 0);
        iocb2_set_pointer(&request.iocb, buf);
        add(attrs);
        submit_one(ctx, &request.iocb);
        bytes = CALL(io_getevent2(ctx, &answer.event, IO_EVENT2_ROOM(attrs), NULL));
        CHECK_EQ(bytes, event->bytes);
        CHECK_EQ(event->res, sizeof(buf));
        CHECK(io_event2_pointer(event) == buf);
        CHECK_CMP(bytes, <=, IO_EVENT2_ROOM(attrs));
        /* Where each was handled it is just that. */
        if (!(attrs & IO_FEAT2_ATTR_CACHE) || io_event2_handled(event, IOCB_ATTR_CACHE) == 0)
            CHECK_EQ(bytes, IO_EVENT2_ROOM(attrs));
        for (uint16_t id = 1; id <= 8; id++) {
            if (!(attrs & (UINT64_C(1) << id)))
                CHECK_EQ(io_event2_handled(event, id), -ENOENT);
            else if (id != IOCB_ATTR_CACHE)
                CHECK_EQ(io_event2_handled(event, id), 0);
        }
        CHECK((io_event2_timing(event) != NULL) == !!(attrs & IO_FEAT2_ATTR_TIMING));
        CHECK((io_event2_worker(event) != NULL) == !!(attrs & IO_FEAT2_ATTR_WORKER));
        CHECK((io_event2_route(event) != NULL) == !!(attrs & IO_FEAT2_ATTR_ROUTE));
        CHECK((io_event2_cache(event) != NULL) ==
              (attrs & IO_FEAT2_ATTR_CACHE && io_event2_handled(event, IOCB_ATTR_CACHE) == 0));
        if (io_event2_timing(event) != NULL) {
            CHECK_CMP(io_event2_timing(event)->submit_ns, >=, (uint64_t)before);
            CHECK_CMP(io_event2_timing(event)->end_ns, >=, io_event2_timing(event)->start_ns);
        }
        if (io_event2_cache(event) != NULL)
            CHECK_EQ(io_event2_cache(event)->bytes_asked, sizeof(buf));
        if (io_event2_worker(event) != NULL)
            CHECK_CMP(io_event2_worker(event)->tid, >, 0);
        if (io_event2_route(event) != NULL)
            CHECK_CMP(io_event2_route(event)->route, !=, IOCB_ROUTE_NOT_MADE);
    }

    /* Not handled for this call; and REQUIRED. */
    io_prep2_fsync(&request.iocb, fd);
    add(IO_FEAT2_ATTR_CACHE);
    CHECK_CMP(CALL(io_issue2(&request.iocb, &answer.event, sizeof(answer))), >, 0);
    CHECK(io_event2_cache(event) == NULL);
    CHECK_EQ(io_event2_handled(event, IOCB_ATTR_CACHE), -EOPNOTSUPP);
    io_prep2_fsync(&request.iocb, fd);
    CHECK(iocb2_add_cache(&request, IOCB_ATTR_F_REQUIRED) != NULL);
    CHECK_CMP(CALL(io_issue2(&request.iocb, &answer.event, sizeof(answer))), >, 0);
    CHECK_EQ(event->res, -EOPNOTSUPP);

    /* A return without its payload, as another library might give it. */
    memset(&answer, 0, sizeof(answer));
    answer.event.bytes = 24 + 32;
    ret = (struct iocb_attr_ret *)(void *)answer.returns;
    ret->bytes = 32;
    ret->id = IOCB_ATTR_TIMING;
    CHECK(io_event2_timing(event) == NULL);
    CHECK(io_event2_payload(event, IOCB_ATTR_TIMING, 16) == (const void *)(ret + 1));
    CHECK(io_event2_payload(event, IOCB_ATTR_TIMING, 17) == NULL);
    CHECK(io_event2_payload(event, IOCB_ATTR_TIMING, SIZE_MAX) == NULL);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
