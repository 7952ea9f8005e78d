/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Reads of ten thousand idle sockets cost memory, not threads, and do not delay other requests that may wait: a sleep ends beside
 * them, also in another context. When data comes, each read gets its data. The end of a context ends the reads that still wait. If
 * one context has many requests that cannot wait in the epoll, they still leave workers for another context.
 */
/* needs: readiness */
#include "test.h"
#include "stress.h"
#include <linux/futex.h>
#include <sys/socket.h>

enum { MOST = 10000, FEW_THREADS = 64, ENOUGH = 3000, BLOCKED = 2200, NEEDED = 2 * MOST + 200 };

static int ours[MOST], theirs[MOST], count;
static char bytes[MOST];

static void connect_all(void)
{
    struct rlimit limit;

    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    if (limit.rlim_max < NEEDED && setrlimit(RLIMIT_NOFILE, &(struct rlimit){ NEEDED, NEEDED }) == 0)
        limit.rlim_cur = limit.rlim_max = NEEDED;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (count = 0; count < MOST; count++) {
        int ends[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
            break;
        ours[count] = ends[0];
        theirs[count] = ends[1];
    }
    /* The rest is for the library, and for the test. */
    for (int spare = 0; count != MOST && spare < 40; spare++) {
        count--;
        close(ours[count]);
        close(theirs[count]);
    }
    if (count < ENOUGH)
        SKIP("needs some thousands of descriptors (RLIMIT_NOFILE)");
}

static void receive(io_context2_t ctx, int i)
{
    struct iocb2 iocb;

    if (i % 2 == 0)
        io_prep2_syscall(&iocb, SYS_recvfrom, (uint64_t)ours[i], (uintptr_t)&bytes[i], 1, 0, 0, 0);
    else
        io_prep2_syscall(&iocb, SYS_read, (uint64_t)ours[i], (uintptr_t)&bytes[i], 1, 0, 0, 0);
    iocb.data = (uint64_t)i;
    submit_one(ctx, &iocb);
}

/* Behind all that was submitted to this context, and so begun after all of that has been tried. */
static void sleep_in(io_context2_t ctx)
{
    const struct timespec time = { .tv_nsec = 1000000 };
    union event_room room;
    struct iocb2 iocb;

    io_prep2_syscall(&iocb, SYS_nanosleep, (uintptr_t)&time, 0, 0, 0, 0, 0);
    iocb.data = MOST;
    submit_one(ctx, &iocb);
    get_one(ctx, &room.event);
    CHECK_EQ(room.event.data, MOST);
    CHECK_EQ(room.event.res, 0);
}

static void echo_once(io_context2_t ctx)
{
    static unsigned char seen[MOST];
    union event_room room;

    memset(seen, 0, sizeof(seen));
    for (int i = 0; i < count; i++) {
        const char text = (char)(i % 100);

        bytes[i] = -1;
        CHECK_EQ(write(theirs[i], &text, 1), 1);
    }
    for (int left = count; left != 0;) {
        ssize_t got = io_getevents2(ctx, sizeof(room.event), &room.event, sizeof(room), NULL);

        CHECK_CMP(got, >, 0);
        for (struct io_event2 *event = &room.event; got > 0; event = io_event2_next(event), left--) {
            int i = (int)event->data;

            CHECK_EQ(event->res, 1);
            CHECK_EQ(bytes[i], i % 100);
            CHECK_EQ(seen[i]++, 0);
            got -= event->bytes;
        }
    }
}

/* More than a context gets workers for, of what no epoll knows. */
static void without_epoll(void)
{
    io_context2_t ctx = setup2(0, 0, 0), other = setup2(0, 0, 0);
    static uint32_t word;

    for (int i = 0; i < BLOCKED; i++) {
        struct iocb2 iocb;

        io_prep2_syscall(&iocb, SYS_futex, (uintptr_t)&word, FUTEX_WAIT_PRIVATE, 0, 0, 0, 0);
        submit_one(ctx, &iocb);
    }
    CHECK_SOON(count_threads() > 1000);
    sleep_in(other);
    CHECK_EQ(CALL(io_destroy2(other)), 0);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
}

int main(void)
{
    io_context2_t ctx = setup2(1 << 20, 0, 0), other = setup2(0, 0, 0), limited = setup2(0, 0, 1);

    connect_all();
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < count; i++)
            receive(ctx, i);
        sleep_in(ctx);
        sleep_in(other);
        CHECK_CMP(count_threads(), <, FEW_THREADS);
        CHECK_EQ(ring_completed(ctx), (uint64_t)(round * (count + 1) + 1));
        echo_once(ctx);
        CHECK_CMP(count_threads(), <, FEW_THREADS);
    }
    printf("%d sockets, %d threads\n", count, count_threads());

    /* Those that wait are none of the one worker that this context may have. */
    for (int i = 0; i < 100; i++)
        receive(limited, i);
    sleep_in(limited);

    for (int i = 100; i < count; i++)
        receive(ctx, i);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    CHECK_EQ(CALL(io_destroy2(limited)), 0);
    /* Nothing is left that waits for them. */
    CHECK(!is_awaited(ours[count - 1]));
    for (int i = 0; i < count; i += 97) {
        char text = 'x';

        CHECK_EQ(write(theirs[i], &text, 1), 1);
        CHECK_EQ(recv(ours[i], &text, 1, MSG_DONTWAIT), 1);
    }
    CHECK_EQ(CALL(io_destroy2(other)), 0);
    without_epoll();
    return 0;
}
