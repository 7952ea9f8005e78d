/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The program closes the epoll in which requests wait, and has a file of its own under that number: an epoll, in which the library neither
 * looks nor puts anything, or another file, which the library does not close. Requests that wait have their events.
 */
/* needs: readiness */
#include "test.h"
#include <sys/epoll.h>

enum { PIPES = 8 };

static int epoll_number;

static bool note_epoll(int fd, void *arg)
{
    (void)arg;
    epoll_number = fd;
    return true;
}

static int count_readiness(void)
{
    return for_threads("aio2-readiness", NULL, NULL);
}

static void submit_read(io_context2_t ctx, int fd, char *byte, uint64_t data)
{
    struct iocb2 iocb;

    io_prep2_read(&iocb, fd, byte, 1);
    iocb.data = data;
    submit_one(ctx, &iocb);
}

int main(void)
{
    io_context2_t ctx = setup2(64, 0, 0);
    static union event_room room;
    struct epoll_event event;
    int pipes[PIPES][2], own, file;
    char bytes[PIPES];

    for (int i = 0; i < PIPES; i++)
        CHECK_EQ(pipe2(pipes[i], O_CLOEXEC), 0);
    submit_read(ctx, pipes[0][0], &bytes[0], 0);
    CHECK_SOON(for_descriptors("anon_inode:[eventpoll]", note_epoll, NULL) == 1);
    CHECK_SOON(count_readiness() == 1 && are_others_asleep());
    own = epoll_create1(EPOLL_CLOEXEC);
    CHECK_EQ(dup2(own, epoll_number), epoll_number);
    for (int i = 1; i < PIPES; i++)
        submit_read(ctx, pipes[i][0], &bytes[i], (uint64_t)i);
    for (int i = 0; i < PIPES; i++) {
        CHECK_EQ(write(pipes[i][1], "x", 1), 1);
        get_one(ctx, &room);
        CHECK_EQ(room.event.data, i);
        CHECK_EQ(room.event.res, 1);
    }
    CHECK_EQ(epoll_wait(own, &event, 1, 0), 0);
    close(own);
    close(epoll_number);
    CHECK_SOON(count_readiness() == 0);

    submit_read(ctx, pipes[0][0], &bytes[0], 0);
    CHECK_SOON(for_descriptors("anon_inode:[eventpoll]", note_epoll, NULL) == 1);
    CHECK_EQ(write(pipes[0][1], "x", 1), 1);
    get_one(ctx, &room);
    file = temp_file(0, 0);
    CHECK_EQ(dup2(file, epoll_number), epoll_number);
    CHECK_SOON(count_readiness() == 0);
    CHECK(fcntl(epoll_number, F_GETFD) >= 0);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
