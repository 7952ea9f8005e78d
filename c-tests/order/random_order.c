/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Random programs against a simple model: submits of no-ops, reads, failing and short reads, and refused calls, with DRAIN,
 * LINK, DEADLINE, TIMING, unknown, repeated and wrong attributes, sometimes with a malformed record or a cancellation. Each
 * accepted request has one event, with the result that the model allows and a return for each attribute. TIMING shows that
 * every request that had to wait has waited. If the context is destroyed meanwhile, the model still describes every request
 * that was not cancelled by that. Several processes do this side by side, so that threads lose the processor at any point.
 * SEED=N selects another beginning, LONG=1 makes more rounds.
 */
#include "test.h"
#include "stress.h"

enum { REQUESTS = 96, ATTRS = 6, BYTES = 512 };

struct expected {
    int64_t res;
    bool drain, link;
    int leader; /* the request of the same submit that it is linked to, or -1 */
    int n_attrs;
    struct {
        uint16_t id;
        int32_t ret;
    } attrs[ATTRS];
    bool cancelled;
    /* The observed result. */
    int64_t seen;
    bool has_event;
    struct iocb_timing timing;
};

static struct expected requests[REQUESTS];
static int n_requests;
static char buf[BYTES];
static uint64_t rng;
static int fd;

static uint64_t below(uint64_t n)
{
    return rng_below(&rng, n);
}

static void attr(struct iocb2 *iocb, struct expected *e, uint16_t id, uint32_t flags, const void *payload, size_t size, int32_t ret)
{
    CHECK(iocb2_add_attr(iocb, id, flags, (uint64_t)e->n_attrs, payload, size) != NULL);
    e->attrs[e->n_attrs].id = id;
    e->attrs[e->n_attrs].ret = ret;
    e->n_attrs++;
    if (ret != 0 && flags != 0)
        e->res = ret;
}

/* One request and its expected result. */
static void make(struct iocb2 *iocb, struct expected *e, uint64_t data)
{
    struct iocb_deadline deadline = { .ns = below(4) == 0 ? 1 : UINT64_MAX };

    memset(e, 0, sizeof(*e));
    switch (below(6)) {
    case 0:
        io_prep2_pread(iocb, fd, buf, BYTES, 0);
        e->res = BYTES;
        break;
    case 1:
        io_prep2_pread(iocb, fd, buf, BYTES, BYTES / 2);
        e->res = BYTES / 2;
        break;
    case 2:
        io_prep2_pread(iocb, -1, buf, BYTES, 0);
        e->res = -EBADF;
        break;
    case 3:
        io_prep2_syscall(iocb, SYS_exit_group, 1, 0, 0, 0, 0, 0);
        e->res = -ENOSYS;
        break;
    default:
        io_prep2_nop(iocb);
    }
    iocb->data = data;
    attr(iocb, e, IOCB_ATTR_TIMING, 0, NULL, 0, 0);
    if (below(6) == 0) {
        e->drain = true;
        attr(iocb, e, IOCB_ATTR_DRAIN, 0, NULL, 0, 0);
    }
    if (below(3) == 0) {
        e->link = true;
        attr(iocb, e, IOCB_ATTR_LINK, 0, NULL, 0, 0);
    }
    switch (below(8)) {
    case 0:
        attr(iocb, e, IOCB_ATTR_DEADLINE, 0, &deadline, sizeof(deadline), 0);
        if (deadline.ns == 1 && e->res != -ENOSYS)
            e->res = -ETIMEDOUT;
        break;
    case 1:
        attr(iocb, e, 0x8005, 0, &deadline, sizeof(deadline), -EOPNOTSUPP);
        break;
    case 2:
        attr(iocb, e, IOCB_ATTR_TIMING, 0, NULL, 0, -EINVAL);
        break;
    case 3:
        attr(iocb, e, IOCB_ATTR_DEADLINE, 0, NULL, 0, -EINVAL);
        break;
    case 4:
        attr(iocb, e, 0x8006, IOCB_ATTR_F_REQUIRED, NULL, 0, -EOPNOTSUPP);
        break;
    default:
        break;
    }
}

/* Several requests at once, the last perhaps malformed. */
static void submit(io_context2_t ctx)
{
    static _Alignas(8) unsigned char batch[REQUESTS * 256];
    int n = 1 + (int)below(12), first = n_requests;
    bool malformed = below(8) == 0;
    size_t size = 0, good;

    for (int i = 0; i < n && n_requests < REQUESTS; i++) {
        struct iocb2 *iocb = (struct iocb2 *)(void *)(batch + size);
        struct expected *e = &requests[n_requests];

        make(iocb, e, (uint64_t)n_requests);
        e->leader = n_requests > first && requests[n_requests - 1].link ? n_requests - 1 : -1;
        size += iocb->bytes;
        n_requests++;
    }
    good = size;
    if (malformed) {
        struct iocb2 *iocb = (struct iocb2 *)(void *)(batch + size);

        io_prep2_nop(iocb);
        size += sizeof(*iocb);
        iocb->bytes = (uint32_t[]){ 0, 60, 68, 64 + 8, 8192 }[below(5)];
    }
    CHECK_EQ(CALL(io_submit2(ctx, (struct iocb2 *)(void *)batch, size)), good);
}

static void check_event(const struct io_event2 *event)
{
    struct expected *e;
    const struct iocb_attr_ret *ret = (const struct iocb_attr_ret *)(const void *)(event + 1);

    CHECK_CMP(event->data, <, (uint64_t)n_requests);
    e = &requests[event->data];
    CHECK(!e->has_event);
    e->has_event = true;
    e->seen = event->res;
    for (int i = 0; i < e->n_attrs; i++) {
        CHECK_CMP((uintptr_t)ret, <, (uintptr_t)event + event->bytes);
        CHECK_EQ(ret->id, e->attrs[i].id);
        CHECK_EQ(ret->ret, e->attrs[i].ret);
        CHECK_EQ(ret->cookie, i);
        if (ret->id == IOCB_ATTR_TIMING && ret->ret == 0)
            memcpy(&e->timing, ret + 1, sizeof(e->timing));
        ret = (const struct iocb_attr_ret *)(const void *)((const char *)ret + ret->bytes);
    }
    CHECK_EQ((uintptr_t)ret, (uintptr_t)event + event->bytes);
}

/* Returns how many they are. */
static int check_events(const unsigned char *events, size_t bytes)
{
    int n = 0;

    for (size_t at = 0; at < bytes; n++) {
        const struct io_event2 *event = (const struct io_event2 *)(const void *)(events + at);

        check_event(event);
        at += event->bytes;
    }
    return n;
}

static bool in_full(const struct expected *e)
{
    return e->seen == BYTES || e->seen == 0;
}

/* `destroyed`: any of them may have been cancelled. */
static void check_all(bool destroyed)
{
    for (int i = 0; i < n_requests; i++) {
        const struct expected *e = &requests[i];
        bool broken = e->leader >= 0 && !in_full(&requests[e->leader]);

        CHECK(e->has_event);
        if (broken || ((e->cancelled || destroyed) && e->seen == -ECANCELED))
            CHECK_EQ(e->seen, -ECANCELED);
        else
            CHECK_EQ(e->seen, e->res);
        if (e->leader >= 0 && !e->cancelled && !(destroyed && e->seen == -ECANCELED))
            CHECK_CMP(e->timing.start_ns, >=, requests[e->leader].timing.end_ns);
        /* One that was cancelled keeps nobody waiting. */
        if (!e->drain || e->seen == -ECANCELED)
            continue;
        for (int j = 0; j < i; j++)
            CHECK_CMP(e->timing.start_ns, >=, requests[j].timing.end_ns);
        for (int j = i + 1; j < n_requests; j++) {
            if (!requests[j].cancelled && requests[j].seen != -ECANCELED)
                CHECK_CMP(requests[j].timing.start_ns, >=, e->timing.end_ns);
        }
    }
}

/* Destroys the context, and looks at the events that are in its ring then, through a view of our own. */
static void destroy(io_context2_t ctx)
{
    static _Alignas(8) unsigned char out[REQUESTS * 256];
    const size_t header_bytes = ctx->header_bytes, ring_bytes = ctx->ring_bytes;
    const int ring_fd = (int)CALL(io_ring_fd2(ctx));
    const struct io_ring2 *view = mmap(NULL, header_bytes + ring_bytes, PROT_READ, MAP_SHARED, ring_fd, 0);

    CHECK(view != MAP_FAILED);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    CHECK_CMP(view->tail, <=, (uint32_t)sysconf(_SC_PAGESIZE));
    memcpy(out, (const unsigned char *)view + header_bytes, view->tail);
    CHECK_CMP(view->head, <=, view->tail);
    (void)check_events(out + view->head, view->tail - view->head);
    check_all(true);
    CHECK_EQ(munmap((void *)(uintptr_t)view, header_bytes + ring_bytes), 0);
    CHECK_EQ(close(ring_fd), 0);
}

static void round_of(uint64_t seed)
{
    rng = seed;
    static _Alignas(8) unsigned char out[REQUESTS * 256];
    const bool destroyed = below(8) == 0;
    io_context2_t ctx = setup2(!destroyed && below(2) ? 4096 : 0, 0, (uint32_t)below(4));
    int got = 0, submits = 1 + (int)below(destroyed ? 2 : 6);

    if (destroyed) {
        /* io_destroy2() finds out by the first word of each page of the ring whose memory it is: no event that we look for may
         * be there. */
        struct io_event2 event;
        struct iocb2 nop;

        io_prep2_nop(&nop);
        submit_one(ctx, &nop);
        get_events(ctx, 1, &event, sizeof(event));
    }
    n_requests = 0;
    for (int i = 0; i < submits; i++) {
        submit(ctx);
        if (below(4) == 0) {
            uint64_t data = below((uint64_t)n_requests);

            if (io_cancel2(ctx, data) == 0)
                requests[data].cancelled = true;
        }
    }
    if (destroyed) {
        destroy(ctx);
        return;
    }
    while (got < n_requests) {
        const struct timespec limit = { PATIENCE_S, 0 };
        ssize_t bytes = CALL(io_getevents2(ctx, 1, (struct io_event2 *)(void *)out, sizeof(out), &limit));

        CHECK_CMP(bytes, >, 0);
        got += check_events(out, (size_t)bytes);
    }
    check_all(false);
    CHECK_RING_DRAINED(ctx, n_requests);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
}

int main(void)
{
    fd = temp_pattern_file(BYTES, 1, 0);
    rounds_in_processes(2000, 100000, NULL, round_of);
    return 0;
}
