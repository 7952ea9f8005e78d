/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Requests wait for few files, in several contexts, while bytes come, requests are cancelled and contexts end. Each accepted
 * request has one event, no byte is lost or comes twice, and no request is left waiting.
 */
#include "test.h"
#include "stress.h"
#include <sys/socket.h>

enum { FILES = 4, THREADS = 3, REQUESTS = 64 };

static int sockets[FILES][2];
static uint64_t written, received;

static void one_context(uint64_t *rng)
{
    io_context2_t ctx = setup2(0, 0, 0);
    unsigned char seen[REQUESTS] = { 0 };
    unsigned char bytes[REQUESTS];
    union event_room room;
    int events = 0;

    for (int i = 0; i < REQUESTS; i++) {
        int file = (int)rng_below(rng, FILES);
        struct iocb2 iocb;

        io_prep2_syscall(&iocb, i % 2 ? SYS_read : SYS_recvfrom, (uint64_t)sockets[file][0], (uintptr_t)&bytes[i], 1, 0, 0, 0);
        iocb.data = (uint64_t)i;
        submit_one(ctx, &iocb);
        /* Unless it is full of what nobody has stayed for. */
        if (rng_below(rng, 2) != 0 && send(sockets[rng_below(rng, FILES)][1], "x", 1, MSG_DONTWAIT) == 1)
            __atomic_fetch_add(&written, 1, __ATOMIC_RELAXED);
        if (rng_below(rng, 4) == 0) {
            int ret = io_cancel2(ctx, rng_below(rng, REQUESTS));

            CHECK(ret == 0 || ret == -ENOENT || ret == -EALREADY);
        }
    }
    /* Until what has not ended has been cancelled: more than once, if it was just about to be tried again. */
    for (uint64_t i = 0; events < REQUESTS; i = (i + 1) % REQUESTS) {
        if (rng_below(rng, 16) == 0)
            (void)io_cancel2(ctx, i);
        ssize_t got = io_getevents2(ctx, 0, &room.event, sizeof(room), NULL);

        CHECK_CMP(got, >=, 0);
        for (struct io_event2 *event = &room.event; got > 0; got -= event->bytes, event = io_event2_next(event)) {
            CHECK(event->res == 1 || event->res == -EINTR || event->res == -ECANCELED);
            CHECK_EQ(seen[event->data]++, 0);
            events++;
            if (event->res == 1)
                __atomic_fetch_add(&received, 1, __ATOMIC_RELAXED);
        }
    }
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
}

/* What such a context has received it does not say. */
static void one_that_ends(uint64_t *rng)
{
    io_context2_t ctx = setup2(0, 0, 0);
    static char byte;
    int pair[2];

    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    for (int i = 0; i < 8; i++) {
        struct iocb2 iocb;

        io_prep2_syscall(&iocb, SYS_read, (uint64_t)pair[0], (uintptr_t)&byte, 1, 0, 0, 0);
        submit_one(ctx, &iocb);
    }
    for (uint64_t i = rng_below(rng, 8); i > 0; i--)
        CHECK_EQ(write(pair[1], "x", 1), 1);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    close(pair[0]);
    close(pair[1]);
}

static void *run(void *arg)
{
    uint64_t rng = (uint64_t)(uintptr_t)arg;

    for (uint64_t i = 0; i < fewer(200); i++) {
        one_context(&rng);
        one_that_ends(&rng);
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    uint64_t left = 0;

    for (int i = 0; i < FILES; i++)
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets[i]), 0);
    for (uintptr_t i = 0; i < THREADS; i++)
        threads[i] = thread_start(run, (void *)(i + 1));
    for (int i = 0; i < THREADS; i++)
        thread_join(threads[i]);
    for (int i = 0; i < FILES; i++) {
        char byte;

        CHECK(!is_awaited(sockets[i][0]));
        while (recv(sockets[i][0], &byte, 1, MSG_DONTWAIT) == 1)
            left++;
    }
    printf("%" PRIu64 " bytes, %" PRIu64 " received\n", written, received);
    CHECK_EQ(received + left, written);
    CHECK_CMP(received, >, 0);
    return 0;
}
