/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * io_setup2()'s eventfd: -1 means none. A descriptor that is not open is -EBADF. An open descriptor that is no eventfd is
 * -EINVAL. 0 means none if descriptor 0 is no eventfd, and the eventfd if it is one.
 */
#include "test.h"

#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

static int try_setup(int fd, io_context2_t *made)
{
    struct io_setup2_params params = params2();
    io_context2_t ctx = NULL;
    int result;

    params.eventfd = fd;
    result = (int)CALL(io_setup2(2, &params, &ctx));
    CHECK((result == 0) == (ctx != NULL));
    if (made != NULL)
        *made = ctx;
    else if (ctx != NULL)
        CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return result;
}

static void check_wrong(int fd, const char *what)
{
    int result;

    if (fd < 0)
        FAIL("%s: %s", what, strerror(errno));
    result = try_setup(fd, NULL);
    if (result != -EINVAL)
        FAIL("%s as the eventfd: expected -EINVAL, seen %d", what, result);
    /* The caller's descriptor is still the caller's. */
    CHECK(fcntl(fd, F_GETFD) >= 0);
    if (fd > 2)
        close(fd);
}

static int nop_and_count(io_context2_t ctx, int fd)
{
    union event_room room;
    struct iocb2 iocb;
    struct pollfd ready = { .fd = fd, .events = POLLIN };
    eventfd_t count = 0;

    io_prep2_nop(&iocb);
    submit_one(ctx, &iocb);
    get_one(ctx, &room.event);
    /* It is signalled after publishing: it may come a moment behind the event. */
    CHECK_EQ(poll(&ready, 1, PATIENCE_S * 1000), 1);
    CHECK_EQ(eventfd_read(fd, &count), 0);
    return (int)count;
}

int main(void)
{
    io_context2_t ctx, other;
    union event_room room;
    struct iocb2 iocb;
    sigset_t none;
    int pair[2];
    int fd;

    io_prep2_nop(&iocb);
    sigemptyset(&none);
    CHECK_EQ(try_setup(-1, NULL), 0);

    fd = eventfd(0, EFD_CLOEXEC);
    CHECK(fd > 2);
    CHECK_EQ(try_setup(fd, NULL), 0);

    /* Of several contexts. */
    CHECK_EQ(try_setup(fd, &ctx), 0);
    CHECK_EQ(try_setup(fd, &other), 0);
    CHECK(nop_and_count(ctx, fd) >= 1);
    CHECK(nop_and_count(other, fd) >= 1);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    CHECK(nop_and_count(other, fd) >= 1);
    CHECK_EQ(CALL(io_destroy2(other)), 0);

    CHECK(fcntl(fd, F_GETFD) >= 0);
    close(fd);
    CHECK_EQ(try_setup(fd, NULL), -EBADF);
    CHECK_EQ(try_setup(1000000, NULL), -EBADF);
    CHECK_EQ(try_setup(INT_MAX, NULL), -EBADF);
    CHECK_EQ(try_setup(-2, NULL), -EBADF);
    CHECK_EQ(try_setup(INT_MIN, NULL), -EBADF);

    check_wrong(temp_file(4096, 0), "a file");
    check_wrong(open("/dev/null", O_RDWR | O_CLOEXEC), "/dev/null");
    check_wrong(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "a directory");
    check_wrong(open("/", O_PATH | O_CLOEXEC), "an O_PATH descriptor");
    check_wrong(epoll_create1(EPOLL_CLOEXEC), "an epoll");
    check_wrong(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), "a timerfd");
    check_wrong(signalfd(-1, &none, SFD_CLOEXEC), "a signalfd");
    check_wrong(memfd_create("test", MFD_CLOEXEC), "a memfd");
    CHECK_EQ(pipe2(pair, O_CLOEXEC), 0);
    check_wrong(pair[0], "a pipe's reading end");
    check_wrong(pair[1], "a pipe's writing end");
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    check_wrong(pair[0], "a socket");
    close(pair[1]);

    /* Every flavour of eventfd is one. */
    fd = eventfd(5, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    CHECK_EQ(try_setup(fd, NULL), 0);
    close(fd);

    /* Descriptor 0 closed, and open on something else. */
    close(0);
    CHECK_EQ(try_setup(0, NULL), 0);
    CHECK_EQ(open("/dev/null", O_RDWR), 0);
    CHECK_EQ(try_setup(0, &ctx), 0);
    submit_one(ctx, &iocb);
    get_one(ctx, &room.event);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);

    /* Descriptor 0 as an eventfd: it counts. */
    close(0);
    CHECK_EQ(eventfd(0, 0), 0);
    CHECK_EQ(try_setup(0, &ctx), 0);
    CHECK_CMP(nop_and_count(ctx, 0), >=, 1);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
