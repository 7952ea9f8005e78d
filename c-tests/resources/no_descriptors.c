/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The process runs out of descriptors: io_setup2 and io_ring_fd2 return -EMFILE and leave nothing behind. Existing contexts
 * continue to work, can be destroyed, and the descriptors that they free can be used again.
 */
#include "test.h"
#include "stress.h"

/* The highest number in use, after the free ones below it have been taken. */
static int highest_descriptor(void)
{
    int highest = 2;

    for (int fd = 3; fd < 1000; fd++) {
        if (fcntl(fd, F_GETFD) >= 0)
            highest = fd;
    }
    for (int fd = 0; fd < highest;) {
        fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        CHECK(fd >= 0);
        highest = fd > highest ? fd : highest;
    }
    return highest;
}

static void limit_descriptors(rlim_t n)
{
    struct rlimit limit;

    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = n;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static int setup(int efd, io_context2_t *ctx)
{
    struct io_setup2_params params = params2();

    params.eventfd = efd;
    *ctx = NULL;
    return (int)CALL(io_setup2(IO_SETUP2_VERSION, &params, ctx));
}

/* I/O with no descriptor to spare. */
static void use(io_context2_t ctx, int fd)
{
    unsigned char block[512];
    struct iocb2 iocb;
    union event_room room;
    struct io_event2 events[200];

    memset(block, 0, sizeof(block));
    io_prep2_pread(&iocb, fd, block, sizeof(block), 0);
    submit_one(ctx, &iocb);
    get_one(ctx, &room);
    CHECK_EQ(room.event.res, sizeof(block));
    CHECK_PATTERN(block, sizeof(block), 0, 1);
    submit_nops(ctx, 0, 200);
    (void)get_events(ctx, 200, events, sizeof(events));
}

int main(void)
{
    int fd = temp_pattern_file(512, 1, 0);
    int efd = eventfd(0, EFD_CLOEXEC);
    io_context2_t old;
    struct rlimit limit;
    int descriptors;
    int top;
    int made = 0;
    io_context2_t ctxs[20];

    CHECK(efd >= 0);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_EQ(setup(efd, &old), 0);
    use(old, fd);
    top = highest_descriptor();
    descriptors = count_descriptors();

    /* One more each time: it fails, cleanly, until it fits; with the eventfd it costs one more. */
    for (int with_eventfd = 0; with_eventfd < 2; with_eventfd++) {
        int spare = 0;

        for (;; spare++) {
            io_context2_t ctx;
            int result;

            CHECK_CMP(spare, <, 10);
            limit_descriptors((rlim_t)(top + 1 + spare));
            result = setup(with_eventfd ? efd : -1, &ctx);
            use(old, fd);
            if (result == 0) {
                use(ctx, fd);
                CHECK_EQ(CALL(io_destroy2(ctx)), 0);
            } else {
                CHECK_EQ(result, -EMFILE);
                CHECK(ctx == NULL);
            }
            limit_descriptors(limit.rlim_cur);
            CHECK_EQ(count_descriptors(), descriptors);
            if (result == 0)
                break;
        }
        printf("a context%s takes %d descriptors\n", with_eventfd ? " with eventfd" : "", spare);
        CHECK_CMP(spare, >, 0);
    }

    /* Until there are none left. */
    limit_descriptors((rlim_t)(top + 1 + 10));
    for (;;) {
        int result;

        CHECK_CMP(made, <, 20);
        result = setup(-1, &ctxs[made]);
        if (result != 0) {
            CHECK_EQ(result, -EMFILE);
            break;
        }
        made++;
    }
    CHECK_CMP(made, >, 0);
    while (io_ring_fd2(old) >= 0)
        ; /* up to the limit, if a setup takes several */
    CHECK_EQ(CALL(io_ring_fd2(old)), -EMFILE);
    CHECK_EQ(CALL(io_ring_fd2(ctxs[0])), -EMFILE);
    use(old, fd);
    for (int i = 0; i < made; i++)
        use(ctxs[i], fd);
    /* A fork in this state, too. */
    {
        pid_t pid = fork();

        CHECK(pid >= 0);
        if (pid == 0) {
            CHECK_EQ(io_destroy2(old), -EINVAL);
            exit(0);
        }
        wait_child(pid);
    }
    /* What one gives back, another can take. */
    CHECK_EQ(CALL(io_destroy2(ctxs[0])), 0);
    CHECK_EQ(setup(-1, &ctxs[0]), 0);
    use(ctxs[0], fd);
    for (int i = 0; i < made; i++)
        CHECK_EQ(CALL(io_destroy2(ctxs[i])), 0);
    use(old, fd);
    CHECK_EQ(CALL(io_destroy2(old)), 0);
    return 0;
}
