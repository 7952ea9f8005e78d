/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Without threads, the submitter or the caller that waits makes the calls on sockets and eventfds that need not wait: receives,
 * sends, accepts, and all calls on files that never wait (O_NONBLOCK). A write for which there is not enough room blocks nobody. A large
 * send moves the part for which there is room, and later the rest; if it is cancelled, its result is the part.
 */
/* needs: readiness */
#include "test.h"
#include "stress.h"
#include "thread_hook.h"
#include "call.h"
#include <sys/socket.h>
#include <sys/un.h>

#define BYTES ((size_t)4 << 20)

static char data[BYTES], found[BYTES];
static int sockets[2];

static void begin(void)
{
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
}

static void end(void)
{
    close(sockets[0]);
    close(sockets[1]);
}

static void put(const char *text)
{
    CHECK_EQ(write(sockets[1], text, strlen(text)), strlen(text));
}

/* Looks whether there is an event, which stays there. */
static bool has_event(void)
{
    struct io_event2 event;
    ssize_t got = CALL(io_getevents2(call_ctx, 0, &event, 0, NULL));

    CHECK(got == 0 || got == -ENOBUFS);
    return got != 0;
}

static void cancel(uint64_t number, int64_t res)
{
    CHECK_EQ(CALL(io_cancel2(call_ctx, number)), 0);
    CHECK_EQ(end_call(number), res);
}

static void receives(void)
{
    char bytes[8];
    struct iovec iov = { bytes, 2 };
    struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

    begin();
    put("abcdefgh");
    CHECK_EQ(call_async(SYS_recvfrom, N(sockets[0]), P(bytes), 2, 0, 0, 0), 2);
    CHECK(memcmp(bytes, "ab", 2) == 0);
    CHECK_EQ(call_async(SYS_recvmsg, N(sockets[0]), P(&message), 0), 2);
    CHECK(memcmp(bytes, "cd", 2) == 0);
    CHECK_EQ(call_async(SYS_read, N(sockets[0]), P(bytes), 2), 2);
    CHECK_EQ(call_async(SYS_readv, N(sockets[0]), P(&iov), 1), 2);
    CHECK(memcmp(bytes, "gh", 2) == 0);
    CHECK_EQ(call_async(SYS_recvfrom, N(sockets[0]), P(bytes), 2, MSG_DONTWAIT, 0, 0), -EAGAIN);

    /* The second part is not there, and neither are so many bytes as the program has asked for. */
    put("ab");
    start_call(1, SYS_recvfrom, N(sockets[0]), P(bytes), 4, MSG_WAITALL, 0, 0);
    CHECK(!has_event());
    cancel(1, -ECANCELED);
    CHECK_EQ(setsockopt(sockets[0], SOL_SOCKET, SO_RCVLOWAT, &(int){ 4 }, sizeof(int)), 0);
    start_call(1, SYS_read, N(sockets[0]), P(bytes), 4);
    CHECK(!has_event());
    cancel(1, -ECANCELED);

    CHECK_EQ(fcntl(sockets[1], F_SETFL, O_NONBLOCK), 0);
    CHECK_EQ(call_async(SYS_read, N(sockets[1]), P(bytes), 2), -EAGAIN);
    end();
}

static void accepts(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    char *path = temp_path("listener");
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK(listener >= 0 && client >= 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    CHECK_EQ(bind(listener, (struct sockaddr *)(void *)&address, sizeof(address)), 0);
    CHECK_EQ(listen(listener, 2), 0);
    start_call(1, SYS_accept4, N(listener), 0, 0, SOCK_CLOEXEC);
    CHECK(!has_event());
    CHECK_EQ(connect(client, (struct sockaddr *)(void *)&address, sizeof(address)), 0);
    CHECK_CMP(end_call(1), >=, 0);
    close(client);
    close(listener);
    free(path);
}

/* Reads what is there. */
static size_t drain(size_t have)
{
    ssize_t got;

    while ((got = recv(sockets[1], found + have, BYTES - have, MSG_DONTWAIT)) > 0)
        have += (size_t)got;
    CHECK(got == 0 || errno == EAGAIN);
    return have;
}

static void sends(void)
{
    const uint32_t calls[] = { SYS_sendto, SYS_write };
    struct iovec iov = { data, 2 };
    struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
    struct timespec moment = timespec_ns(NSEC_PER_MSEC);
    struct io_event2 event;
    size_t have;

    begin();
    CHECK_EQ(call_async(SYS_sendto, N(sockets[0]), P(data), 2, 0, 0, 0), 2);
    CHECK_EQ(drain(0), 2);
    CHECK_EQ(call_async(SYS_sendmsg, N(sockets[0]), P(&message), MSG_DONTWAIT), 2);
    CHECK_EQ(drain(0), 2);
    for (size_t i = 0; i < 2; i++) {
        memset(found, 0, BYTES);
        start_call(1, calls[i], N(sockets[0]), P(data), BYTES, 0, 0, 0);
        CHECK(!has_event());
        for (have = 0; have < BYTES; have = drain(have))
            (void)has_event();
        CHECK_EQ(end_call(1), BYTES);
        CHECK_MEM(found, data, BYTES);

        start_call(1, calls[i], N(sockets[0]), P(data), BYTES, 0, 0, 0);
        have = drain(0);
        CHECK(!has_event());
        have = drain(have);
        CHECK_CMP(have, >, 0);
        cancel(1, (int64_t)have);
        CHECK_EQ(drain(have), have);

        /* The rest fails, which the next call tells. */
        start_call(1, calls[i], N(sockets[0]), P(data), BYTES, MSG_NOSIGNAL, 0, 0);
        have = drain(0);
        CHECK_EQ(shutdown(sockets[1], SHUT_RD), 0);
        CHECK_EQ(end_call(1), have);
        CHECK_EQ(call_async(calls[i], N(sockets[0]), P(data), 1, MSG_NOSIGNAL, 0, 0), -EPIPE);
        end();
        begin();
    }
    /* Once a thread can be created, it goes on with the rest. */
    start_call(1, SYS_sendto, N(sockets[0]), P(data), BYTES, 0, 0, 0);
    have = drain(0);
    CHECK_CMP(have, >, 0);
    __atomic_store_n(&allowed, INT_MAX / 2, __ATOMIC_RELAXED);
    CHECK_EQ(CALL(io_getevents2(call_ctx, sizeof(event), &event, sizeof(event), &moment)), 0);
    memset(found + have, 0, BYTES - have);
    for (int64_t limit = now_ns() + 60 * NSEC_PER_SEC; have < BYTES; have = drain(have))
        CHECK_CMP(now_ns(), <, limit);
    CHECK_EQ(end_call(1), BYTES);
    CHECK_MEM(found, data, BYTES);
    end();
}

static void eventfds(void)
{
    uint64_t one = 1, more = 0x20, nearly = UINT64_MAX - 0x10, count;
    int fd = eventfd(0, EFD_CLOEXEC);

    CHECK(fd >= 0);
    CHECK_EQ(call_async(SYS_write, N(fd), P(&one), 8), 8);
    CHECK_EQ(call_async(SYS_read, N(fd), P(&count), 8), 8);
    CHECK_EQ(count, 1);
    CHECK_EQ(call_async(SYS_write, N(fd), P(&one), 7), -EINVAL);
    /* It reports that there is room, but there is not enough. */
    CHECK_EQ(write(fd, &nearly, 8), 8);
    start_call(1, SYS_write, N(fd), P(&more), 8);
    CHECK(!has_event());
    CHECK_EQ(call_async(SYS_write, N(fd), P(&one), 8), 8);
    cancel(1, -ECANCELED);
    CHECK_EQ(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    CHECK_EQ(call_async(SYS_write, N(fd), P(&more), 8), -EAGAIN);
    close(fd);
}

int main(void)
{
    call_ctx = setup2(0, 0, 0);
    allowed = 0;
    fill_pattern((unsigned char *)data, BYTES, 0, 1);
    receives();
    accepts();
    eventfds();
    CHECK_EQ(count_threads(), 1);
    CHECK_CMP(failures, >, 0);
    sends();
    call_end();
    return 0;
}
