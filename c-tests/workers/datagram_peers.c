/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * One socket, two peers whose queues are full. poll(2) says that the socket can be written to as soon as one of them has room. So a
 * datagram to the other one waits in a thread, and it does not delay the one that can be sent, of another context.
 */
#include "test.h"
#include <sys/socket.h>
#include <sys/un.h>

static socklen_t name_of(struct sockaddr_un *address, char peer)
{
    memset(address, 0, sizeof(*address));
    address->sun_family = AF_UNIX;
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
                       (size_t)sprintf(address->sun_path + 1, "aio2-peers-%d-%c", (int)getpid(), peer));
}

static int new_peer(struct sockaddr_un *address, socklen_t *bytes, char peer)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    *bytes = name_of(address, peer);
    CHECK_EQ(bind(fd, (struct sockaddr *)address, *bytes), 0);
    return fd;
}

static void drain(int fd)
{
    char byte;

    while (recv(fd, &byte, 1, MSG_DONTWAIT) == 1)
        ;
    CHECK_EQ(errno, EAGAIN);
}

static void send_to(io_context2_t ctx, int fd, const struct sockaddr_un *address, socklen_t bytes, uint64_t data)
{
    static const char byte = 'x';
    struct iocb2 iocb;

    io_prep2_syscall(&iocb, SYS_sendto, (uint64_t)fd, (uintptr_t)&byte, 1, 0, (uintptr_t)address, bytes);
    iocb.data = data;
    submit_one(ctx, &iocb);
}

int main(void)
{
    io_context2_t contexts[2] = { setup2(64, 0, 0), setup2(64, 0, 0) };
    int from = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int filler = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un addresses[2];
    socklen_t bytes[2];
    int peers[2];

    for (int i = 0; i < 2; i++) {
        peers[i] = new_peer(&addresses[i], &bytes[i], (char)('a' + i));
        while (sendto(filler, "x", 1, MSG_DONTWAIT, (struct sockaddr *)&addresses[i], bytes[i]) == 1)
            ;
        CHECK_EQ(errno, EAGAIN);
    }
    /* Each is tried again, in vain, and then waits in a worker. */
    for (int i = 0; i < 2; i++) {
        send_to(contexts[i], from, &addresses[i], bytes[i], (uint64_t)(10 + i));
        CHECK_SOON(count_workers_in(SYS_sendto) == i + 1);
    }
    for (int i = 1; i >= 0; i--) {
        union event_room room;

        drain(peers[i]);
        get_one(contexts[i], &room);
        CHECK_EQ(room.event.data, 10 + i);
        CHECK_EQ(room.event.res, 1);
    }
    for (int i = 0; i < 2; i++)
        CHECK_EQ(CALL(io_destroy2(contexts[i])), 0);
    return 0;
}
