/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A child has no descriptor of the library's, whatever other threads are at when it is forked: they make contexts and destroy them, sleep
 * with a signal mask, and have requests wait for a pipe.
 */
#include "test.h"
#include "stress.h"

static _Atomic bool over;
static bool is_known[256];
static int counter, pipe_ends[2];

static void *make_contexts(void *arg)
{
    (void)arg;
    while (!over) {
        struct io_setup2_params params = params2();
        io_context2_t ctx = NULL;

        params.eventfd = counter;
        CHECK_EQ(CALL(io_setup2(2, &params, &ctx)), 0);
        CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    }
    return NULL;
}

static void *sleep_masked(void *arg)
{
    (void)arg;
    while (!over) {
        io_context2_t ctx = setup2(4096, 0, 0);
        struct timespec limit = timespec_ns(NSEC_PER_MSEC / 2);
        struct io_event2 event;
        sigset_t none;

        sigemptyset(&none);
        for (int i = 0; i < 10; i++)
            CHECK_EQ(CALL(io_pgetevents2(ctx, sizeof(event), &event, sizeof(event), &limit, &none)), 0);
        CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    }
    return NULL;
}

static void *wait_for_pipe(void *arg)
{
    io_context2_t ctx = setup2(4096, 0, 0);
    static union event_room room;
    struct iocb2 iocb;
    char byte;

    (void)arg;
    io_prep2_read(&iocb, pipe_ends[0], &byte, 1);
    while (!over) {
        submit_one(ctx, &iocb);
        sleep_ms(1);
        CHECK_EQ(write(pipe_ends[1], "x", 1), 1);
        get_one(ctx, &room);
    }
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return NULL;
}

/* In the child. */
static void __attribute__((noreturn)) check_descriptors(void)
{
    for (int fd = 0; fd < 256; fd++) {
        if (!is_known[fd] && fcntl(fd, F_GETFD) >= 0)
            _exit(fd);
    }
    _exit(0);
}

int main(void)
{
    void *(*const threads[])(void *) = { make_contexts, make_contexts, sleep_masked, wait_for_pipe };
    enum { THREADS = sizeof(threads) / sizeof(threads[0]) };
    pthread_t thread[THREADS];

    counter = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK(counter >= 0);
    CHECK_EQ(pipe2(pipe_ends, O_CLOEXEC), 0);
    for (int fd = 0; fd < 256; fd++)
        is_known[fd] = fcntl(fd, F_GETFD) >= 0;
    for (int i = 0; i < THREADS; i++)
        thread[i] = thread_start(threads[i], NULL);
    for (int i = 0; i < (int)fewer(400); i++) {
        pid_t child = fork();
        int status = 0;

        CHECK(child >= 0);
        if (child == 0)
            check_descriptors();
        CHECK_EQ(waitpid(child, &status, 0), child);
        CHECK(WIFEXITED(status));
        if (WEXITSTATUS(status) != 0)
            FAIL("child %d: descriptor %d is open", i, WEXITSTATUS(status));
    }
    over = true;
    for (int i = 0; i < THREADS; i++)
        thread_join(thread[i]);
    return 0;
}
