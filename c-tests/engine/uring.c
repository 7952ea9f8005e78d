/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Requests that io_uring carries out for a worker: the data is right, and its thread and ring start and end as needed. The program sees
 * no descriptor of it, and no system call of its threads ends early, as it would in a thread that submits to a ring. A forked child
 * and a program started by exec inherit nothing of it, and the parent's requests go on. A request that the kernel has is not cancelled.
 */
/* needs: root */
/* with any engine the same */
#include "test.h"
#include "stress.h"
#include "device.h"
#include "frozen.h"
#include "uring.h"
#include <sys/epoll.h>

static unsigned char *memory;
static io_context2_t ctx;

static void submit(bool writes, uint64_t first)
{
    union routed iocbs[DEPTH];

    for (uint64_t i = 0; i < DEPTH; i++) {
        if (writes)
            io_prep2_pwrite(&iocbs[i].iocb, device, memory + i * BLOCK, BLOCK, (int64_t)i * BLOCK * 3);
        else
            io_prep2_pread(&iocbs[i].iocb, device, memory + i * BLOCK, BLOCK, (int64_t)i * BLOCK * 3);
        iocbs[i].iocb.data = first + i;
        ask_route(&iocbs[i].iocb);
    }
    submit_all(ctx, iocbs, sizeof(iocbs));
}

/* Gets that many events; how many of the requests took this route. */
static int get(size_t n, uint32_t wanted)
{
    union routed_event events[DEPTH];
    int found = 0;

    while (n != 0) {
        ssize_t got = io_getevents2(ctx, sizeof(events[0]), &events[0].event, n * sizeof(events[0]), NULL);

        CHECK_CMP(got, >, 0);
        for (size_t i = 0; i < (size_t)got / sizeof(events[0]); i++, n--) {
            CHECK_EQ(events[i].event.res, BLOCK);
            found += route_of(&events[i].event).route == wanted;
        }
    }
    return found;
}

static void warm_up(bool writes)
{
    for (int64_t end = now_ns() + LIMIT_NS;;) {
        CHECK_CMP(now_ns(), <, end);
        submit(writes, 0);
        if (get(DEPTH, IOCB_ROUTE_IO_URING) != 0)
            return;
    }
}

static int count_rings(void)
{
    return for_descriptors("anon_inode:[io_uring]", NULL, NULL);
}

/* Neither a submit nor what comes afterwards interrupts what this thread waits for. */
static void undisturbed(void)
{
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event;

    for (int i = 0; i < 200; i++) {
        submit(i % 2 == 0, 0);
        get(1, 0);
        CHECK_EQ(epoll_wait(epoll, &event, 1, 2), 0);
        get(DEPTH - 1, 0);
    }
    close(epoll);
}

static void children(void)
{
    const int before = count_rings();

    for (int i = 0; i < 20; i++) {
        submit(false, 0);
        pid_t child = fork();
        if (child == 0) {
            CHECK_EQ(count_rings(), 0);
            CHECK_EQ(io_destroy2(ctx), -EINVAL);
            if (i % 2 == 0)
                execl("/proc/self/exe", "uring", "nothing", NULL);
            if (i % 4 == 1) {
                /* A ring of its own. */
                ctx = setup2(0, 0, 0);
                warm_up(false);
                exit(0);
            }
            _exit(0);
        }
        get(DEPTH, 0);
        wait_child(child);
        warm_up(false);
    }
    CHECK_EQ(count_rings(), before);
}

static void cancelled(void)
{
    int had_not = 0, left = DEPTH;

    warm_up(true);
    for (int64_t end = now_ns() + LIMIT_NS; had_not == 0;) {
        bool is_cancelled[DEPTH] = { false }, seen[DEPTH] = { false };

        CHECK_CMP(now_ns(), <, end);
        freeze();
        submit(true, 0);
        sleep_ms(5);
        for (uint64_t i = 0; i < DEPTH; i++) {
            int ret = io_cancel2(ctx, i);

            if (ret == 0)
                is_cancelled[i] = true;
            else
                CHECK(ret == -EALREADY || ret == -ENOENT);
            had_not += ret == -EALREADY && count_workers_in(SYS_pwrite64) == 0;
        }
        thaw();
        for (left = DEPTH; left != 0; left--) {
            union routed_event room;

            get_events(ctx, 1, &room, sizeof(room));
            CHECK_CMP(room.event.data, <, DEPTH);
            CHECK(!seen[room.event.data]);
            seen[room.event.data] = true;
            if (room.event.res != BLOCK)
                CHECK(is_cancelled[room.event.data] && (room.event.res == -ECANCELED || room.event.res == -EINTR));
        }
    }
}

static void run(void)
{
    ctx = setup2(65536, 0, 0);
    warm_up(false);
    CHECK_EQ(count_rings(), 0);
    CHECK_CMP(count_reapers(), >, 0);
    undisturbed();
    children();
    cancelled();
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    CHECK_SOON(count_reapers() == 0);
    CHECK_EQ(count_rings(), 0);

    /* And another ring. */
    ctx = setup2(65536, 0, 0);
    warm_up(true);
    CHECK_CMP(count_reapers(), >, 0);
    exit(0);
}

int main(int argc, char **argv)
{
    void *at;

    (void)argv;
    if (argc > 1)
        return 0;
    if (!has_io_uring())
        SKIP("io_uring cannot be had");
    CHECK_EQ(posix_memalign(&at, 4096, FROZEN_BYTES), 0);
    memory = at;
    fill_pattern(memory, FROZEN_BYTES, 0, 1);
    make_device(memory);
    CHECK_EQ(setenv("AIO2_ENGINE", "uring", 1), 0);
    pid_t child = fork();
    if (child == 0)
        run();
    wait_child(child);
    return 0;
}
