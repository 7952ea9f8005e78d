/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Sockets, on the loopback interface and in the Unix domain: accept4 waits for connect, recvmsg for sendmsg, all of them
 * requests of one context; a descriptor travels along.
 */
#include "test.h"
#include "call.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

/* The results of two calls in flight, with data 1 and 2. */
static void end_two(int64_t *first, int64_t *second)
{
    struct io_event2 events[2];

    (void)get_events(call_ctx, 2, events, sizeof(events));
    CHECK_EQ(events[0].data + events[1].data, 3);
    *first = events[events[0].data == 1 ? 0 : 1].res;
    *second = events[events[0].data == 1 ? 1 : 0].res;
}

/* A message, and a descriptor with it if `fd` is not NULL. */
static struct msghdr message(void *bytes, size_t n, struct iovec *iov, void *control, size_t control_bytes)
{
    struct msghdr msg;

    iov->iov_base = bytes;
    iov->iov_len = n;
    memset(&msg, 0, sizeof(msg));
    msg.msg_iov = iov;
    msg.msg_iovlen = 1;
    msg.msg_control = control_bytes != 0 ? control : NULL;
    msg.msg_controllen = control_bytes;
    return msg;
}

static void talk(int listener, const struct sockaddr *address, socklen_t bytes, bool with_descriptor)
{
    static const char text[] = "to be continued";
    _Alignas(8) char control[2][CMSG_SPACE(sizeof(int))];
    char out[sizeof(text)];
    char in[64];
    struct iovec iov[2];
    struct msghdr send;
    struct msghdr receive;
    int64_t accepted;
    int64_t res;
    int64_t client = call_async(SYS_socket, N(address->sa_family), SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK_CMP(client, >=, 0);
    start_call(1, SYS_accept4, N(listener), 0, 0, SOCK_CLOEXEC);
    expect_no_event(call_ctx, 30);
    start_call(2, SYS_connect, N(client), P(address), bytes);
    end_two(&accepted, &res);
    CHECK_EQ(res, 0);
    CHECK_CMP(accepted, >=, 0);
    CHECK((fcntl((int)accepted, F_GETFD) & FD_CLOEXEC) != 0);

    memset(control, 0, sizeof(control));
    memcpy(out, text, sizeof(text));
    receive = message(in, sizeof(in), &iov[0], control[0], with_descriptor ? sizeof(control[0]) : 0);
    send = message(out, sizeof(out), &iov[1], control[1], with_descriptor ? sizeof(control[1]) : 0);
    if (with_descriptor) {
        struct cmsghdr *head = CMSG_FIRSTHDR(&send);
        const int fd = listener;

        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(fd));
        memcpy(CMSG_DATA(head), &fd, sizeof(fd));
    }
    start_call(1, SYS_recvmsg, N(accepted), P(&receive), MSG_CMSG_CLOEXEC);
    expect_no_event(call_ctx, 30);
    start_call(2, SYS_sendmsg, N(client), P(&send), MSG_NOSIGNAL);
    {
        int64_t received;

        end_two(&received, &res);
        CHECK_EQ(res, sizeof(text));
        CHECK_EQ(received, sizeof(text));
    }
    CHECK_MEM(in, text, sizeof(text));
    if (with_descriptor) {
        const struct cmsghdr *head = CMSG_FIRSTHDR(&receive);
        struct stat mine;
        struct stat theirs;
        int fd;

        CHECK(head != NULL && head->cmsg_type == SCM_RIGHTS);
        memcpy(&fd, CMSG_DATA(head), sizeof(fd));
        CHECK_EQ(fstat(listener, &mine), 0);
        CHECK_EQ(fstat(fd, &theirs), 0);
        CHECK_EQ(theirs.st_ino, mine.st_ino);
        close(fd);
    }
    CHECK_EQ(call_async(SYS_shutdown, N(client), SHUT_RDWR), 0);
    CHECK_EQ(call_async(SYS_recvfrom, N(accepted), P(in), sizeof(in), 0, 0, 0), 0);
    /* Nobody is there any more: an error, and no signal. */
    CHECK_EQ(call_async(SYS_close, N(client)), 0);
    (void)call_async(SYS_sendto, N(accepted), P(out), sizeof(out), 0, 0, 0);
    CHECK_EQ(call_async(SYS_sendto, N(accepted), P(out), sizeof(out), 0, 0, 0), -EPIPE);
    CHECK_EQ(call_async(SYS_close, N(accepted)), 0);
}

int main(void)
{
    struct sockaddr_in internet = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    struct sockaddr_un local = { .sun_family = AF_UNIX };
    socklen_t bytes = sizeof(internet);
    char *path = temp_path("socket");
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK(listener >= 0);
    if (bind(listener, (struct sockaddr *)&internet, sizeof(internet)) != 0)
        SKIP("no loopback interface");
    CHECK_EQ(call_async(SYS_listen, N(listener), 4), 0);
    CHECK_EQ(call_async(SYS_getsockname, N(listener), P(&internet), P(&bytes)), 0);
    talk(listener, (struct sockaddr *)&internet, sizeof(internet), false);
    close(listener);
    CHECK_EQ(call_async(SYS_connect, N(listener), P(&internet), sizeof(internet)), -EBADF);

    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(listener >= 0);
    CHECK_CMP(strlen(path), <, sizeof(local.sun_path));
    memcpy(local.sun_path, path, strlen(path));
    CHECK_EQ(call_async(SYS_bind, N(listener), P(&local), sizeof(local)), 0);
    CHECK_EQ(call_async(SYS_listen, N(listener), 4), 0);
    talk(listener, (struct sockaddr *)&local, sizeof(local), true);
    close(listener);
    free(path);
    call_end();
    return 0;
}
