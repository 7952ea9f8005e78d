/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Without threads, callers carry out requests that may wait for somebody else, and never wait in them: two callers that poll, two reads of
 * one pipe and one byte; two accepts and one connection. The request that got nothing can be cancelled, or gets the next one.
 * A request that is cancelled while a caller tries it ends as one that is cancelled in the queue.
 */
/* needs: readiness */
#include "test.h"
#include "stress.h"
#include "thread_hook.h"
#include <sys/socket.h>
#include <sys/un.h>

static io_context2_t ctx;
static bool stops;
static unsigned long looks[2];
static uint64_t events;
static int64_t results[2];

static void *poll_events(void *arg)
{
    struct timespec zero = { 0, 0 };
    struct io_event2 event;

    while (!__atomic_load_n(&stops, __ATOMIC_ACQUIRE)) {
        ssize_t got = CALL(io_getevents2(ctx, sizeof(event), &event, sizeof(event), &zero));

        if (got != 0) {
            CHECK_EQ(got, sizeof(event));
            if (event.res > 1) /* No byte, but a connection. */
                close((int)event.res);
            __atomic_store_n(&results[event.data], event.res, __ATOMIC_RELAXED);
            __atomic_add_fetch(&events, 1, __ATOMIC_RELEASE);
        }
        __atomic_add_fetch((unsigned long *)arg, 1, __ATOMIC_RELEASE);
        usleep(0);
    }
    return NULL;
}

/* Both callers have come back. */
static void check_callers(void)
{
    for (int i = 0; i < 2; i++) {
        unsigned long before = __atomic_load_n(&looks[i], __ATOMIC_ACQUIRE);

        CHECK_SOON(__atomic_load_n(&looks[i], __ATOMIC_ACQUIRE) >= before + 2);
    }
}

static void wait_for_events(uint64_t count)
{
    CHECK_SOON(__atomic_load_n(&events, __ATOMIC_ACQUIRE) == count);
}

/* `give` makes one of two such requests complete. */
static void rounds(uint64_t count, const struct iocb2 *iocbs, void (*give)(int fd), int fd)
{
    uint64_t done = events;

    for (uint64_t round = 0; round < fewer(count); round++) {
        submit_all(ctx, iocbs, 2 * sizeof(iocbs[0]));
        give(fd);
        wait_for_events(done + 1);
        check_callers();
        CHECK_EQ(__atomic_load_n(&events, __ATOMIC_ACQUIRE), done + 1);
        if (round % 2 == 0) {
            give(fd);
        } else {
            int ret = io_cancel2(ctx, 0);

            if (ret == -ENOENT)
                ret = io_cancel2(ctx, 1);
            CHECK_EQ(ret, 0);
        }
        wait_for_events(done + 2);
        done += 2;
        if (round % 2 != 0)
            CHECK(results[0] == -ECANCELED || results[1] == -ECANCELED);
    }
}

static void give_byte(int fd)
{
    CHECK_EQ(write(fd, "x", 1), 1);
}

/* Both are cancelled while a caller may be about to read for either. */
static void cancelled_meanwhile(uint64_t count, const struct iocb2 *iocbs, const int *ends)
{
    for (uint64_t round = 0; round < fewer(count); round++) {
        uint64_t done = __atomic_load_n(&events, __ATOMIC_ACQUIRE);
        int read_one = 0;
        char byte;

        submit_all(ctx, iocbs, 2 * sizeof(iocbs[0]));
        give_byte(ends[1]);
        for (uint64_t i = 0; i < 2; i++) {
            int ret = io_cancel2(ctx, i);

            CHECK(ret == 0 || ret == -ENOENT);
        }
        wait_for_events(done + 2);
        for (int i = 0; i < 2; i++) {
            CHECK(results[i] == 1 || results[i] == -ECANCELED);
            read_one += results[i] == 1;
        }
        CHECK_CMP(read_one, <=, 1);
        if (read_one == 0)
            CHECK_EQ(read(ends[0], &byte, 1), 1);
    }
}

static struct sockaddr_un address = { .sun_family = AF_UNIX };

static void give_connection(int fd)
{
    int end = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)fd;
    CHECK(end >= 0);
    CHECK_EQ(connect(end, (struct sockaddr *)(void *)&address, sizeof(address)), 0);
    close(end);
}

int main(void)
{
    struct iocb2 iocbs[2];
    pthread_t threads[2];
    char *path = temp_path("race");
    char bytes[2];
    int ends[2], listener;

    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    ctx = setup2(0, 0, 0);
    allowed = 2;
    for (int i = 0; i < 2; i++)
        threads[i] = thread_start(poll_events, &looks[i]);

    for (uint64_t i = 0; i < 2; i++) {
        io_prep2_syscall(&iocbs[i], SYS_read, (uint64_t)ends[0], (uintptr_t)&bytes[i], 1, 0, 0, 0);
        iocbs[i].data = i;
    }
    rounds(1000, iocbs, give_byte, ends[1]);
    cancelled_meanwhile(1000, iocbs, ends);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(listener >= 0);
    CHECK_EQ(bind(listener, (struct sockaddr *)(void *)&address, sizeof(address)), 0);
    CHECK_EQ(listen(listener, 2), 0);
    for (uint64_t i = 0; i < 2; i++) {
        io_prep2_syscall(&iocbs[i], SYS_accept4, (uint64_t)listener, 0, 0, SOCK_CLOEXEC, 0, 0);
        iocbs[i].data = i;
    }
    rounds(1000, iocbs, give_connection, -1);

    CHECK_CMP(failures, >, 0);
    __atomic_store_n(&stops, true, __ATOMIC_RELEASE);
    for (int i = 0; i < 2; i++)
        thread_join(threads[i]);
    CHECK_EQ(count_threads(), 1);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    free(path);
    return 0;
}
