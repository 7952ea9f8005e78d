/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A request that waits for its file without a thread ends like the plain call: errors come at once, the program's settings count (no
 * waiting, a time limit, a minimum of bytes), a write moves all bytes, requests for one file keep their order, and the end of the
 * other side and a cancellation end it. Its attributes return what they return if the call waits. Without an epoll a thread waits.
 */
/* needs: readiness */
#include "test.h"
#include "stress.h"
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <termios.h>

static io_context2_t ctx;
static int ends[2], sockets[2];
static char bytes[16];
static union event_room room;

#define P(pointer) ((uint64_t)(uintptr_t)(pointer))
#define SUBMIT(data_, ...)                              \
    do {                                                \
        struct iocb2 iocb_;                             \
        io_prep2_syscall(&iocb_, __VA_ARGS__);          \
        iocb_.data = (data_);                           \
        submit_one(ctx, &iocb_);                        \
    } while (0)
#define EXPECT(data_, res_)                             \
    do {                                                \
        get_one(ctx, &room.event);                      \
        CHECK_EQ(room.event.data, data_);               \
        CHECK_EQ(room.event.res, res_);                 \
    } while (0)
/* Submits one and expects that. */
#define GIVES(res_, ...)                                \
    do {                                                \
        SUBMIT(1, __VA_ARGS__);                         \
        EXPECT(1, res_);                                \
    } while (0)
#define WAIT_AWAITED(fd) CHECK_SOON(is_awaited(fd))

static void put(int fd, const char *text)
{
    CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
}

static void begin(void)
{
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
}

static void end(void)
{
    for (int i = 0; i < 2; i++) {
        close(ends[i]);
        close(sockets[i]);
    }
}

static void at_once(void)
{
    char path[] = "/tmp/awaiting.XXXXXX";
    struct iovec iov = { bytes, 1 };

    begin();
    GIVES(-EBADF, SYS_read, (uint64_t)ends[1], P(bytes), 1, 0, 0, 0);
    GIVES(-EBADF, SYS_write, (uint64_t)ends[0], P(bytes), 1, 0, 0, 0);
    GIVES(-EFAULT, SYS_recvmsg, (uint64_t)sockets[0], 8, 0, 0, 0, 0);
    GIVES(-ENOTSOCK, SYS_recvfrom, (uint64_t)ends[0], P(bytes), 1, 0, 0, 0);
    GIVES(-EINVAL, SYS_accept4, (uint64_t)sockets[0], 0, 0, 0, 0, 0);
    GIVES(0, SYS_read, (uint64_t)ends[0], P(bytes), 0, 0, 0, 0);
    GIVES(-EAGAIN, SYS_recvfrom, (uint64_t)sockets[0], P(bytes), 1, MSG_DONTWAIT, 0, 0);
    GIVES(-EAGAIN, SYS_preadv2, (uint64_t)ends[0], P(&iov), 1, UINT64_MAX, UINT64_MAX, RWF_NOWAIT);
    CHECK_EQ(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    GIVES(-EAGAIN, SYS_read, (uint64_t)ends[0], P(bytes), 1, 0, 0, 0);
    CHECK_EQ(fcntl(ends[0], F_SETFL, 0), 0);

    /* A FIFO that nobody has opened to write to is at its end. */
    CHECK(mktemp(path) != NULL);
    CHECK_EQ(mkfifo(path, 0600), 0);
    int fifo = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    CHECK(fifo >= 0);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(fcntl(fifo, F_SETFL, 0), 0);
    GIVES(0, SYS_read, (uint64_t)fifo, P(bytes), 1, 0, 0, 0);
    close(fifo);
    end();
}

/* A FIFO that has a name, and a writer: its data, the writer's end, and a cancel. */
static void named_fifo(void)
{
    char path[] = "/tmp/awaiting.XXXXXX";
    int from, to;

    CHECK(mktemp(path) != NULL);
    CHECK_EQ(mkfifo(path, 0600), 0);
    CHECK((from = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)) >= 0);
    CHECK_EQ(fcntl(from, F_SETFL, 0), 0);
    CHECK((to = open(path, O_WRONLY | O_CLOEXEC)) >= 0);
    for (int round = 0; round < 3; round++) {
        SUBMIT(1, SYS_read, (uint64_t)from, P(bytes), sizeof(bytes), 0, 0, 0);
        WAIT_AWAITED(from);
        CHECK_EQ(count_workers_in(SYS_read), 0);
        if (round == 0) {
            put(to, "ab");
            EXPECT(1, 2);
            CHECK(memcmp(bytes, "ab", 2) == 0);
        } else if (round == 1) {
            CHECK_EQ(io_cancel2(ctx, 1), 0);
            EXPECT(1, -EINTR);
        } else {
            close(to);
            EXPECT(1, 0);
        }
    }
    close(from);

    CHECK((from = open(path, O_RDWR | O_CLOEXEC)) >= 0);
    CHECK_EQ(unlink(path), 0);
    SUBMIT(1, SYS_read, (uint64_t)from, P(bytes), sizeof(bytes), 0, 0, 0);
    WAIT_AWAITED(from);
    put(from, "cde");
    EXPECT(1, 3);
    close(from);
}

static void own_wishes(void)
{
    const struct timeval limit = { .tv_usec = 20000 };
    const int least = 4, any = 1;

    begin();
    CHECK_EQ(setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
    GIVES(-EAGAIN, SYS_recvfrom, (uint64_t)sockets[0], P(bytes), 1, 0, 0, 0);
    GIVES(-EAGAIN, SYS_read, (uint64_t)sockets[0], P(bytes), 1, 0, 0, 0);
    /* As long as there is nothing, no thread waits. If a part has come, it is not lost by a cancel. */
    for (int cancels = 0; cancels < 2; cancels++) {
        SUBMIT(1, SYS_recvfrom, (uint64_t)sockets[1], P(bytes), 4, MSG_WAITALL, 0, 0);
        WAIT_AWAITED(sockets[1]);
        CHECK_EQ(count_workers_in(SYS_recvfrom), 0);
        put(sockets[0], "ab");
        CHECK_SOON(count_workers_in(SYS_recvfrom) == 1);
        if (cancels)
            CHECK_EQ(io_cancel2(ctx, 1), 0);
        else
            put(sockets[0], "cd");
        EXPECT(1, cancels ? 2 : 4);
    }
    CHECK_EQ(setsockopt(sockets[1], SOL_SOCKET, SO_RCVLOWAT, &least, sizeof(least)), 0);
    SUBMIT(1, SYS_recvfrom, (uint64_t)sockets[1], P(bytes), 8, 0, 0, 0);
    put(sockets[0], "ab");
    CHECK_SOON(count_workers_in(SYS_recvfrom) == 1);
    put(sockets[0], "cd");
    EXPECT(1, 4);
    CHECK_EQ(setsockopt(sockets[1], SOL_SOCKET, SO_RCVLOWAT, &any, sizeof(any)), 0);
    end();
}

/* A write moves all of its bytes, though its file takes a part at a time. */
static void all_bytes(void)
{
    enum { MANY = 1 << 20 };
    static unsigned char from[MANY], to[MANY];
    size_t filled = 0, got = 0;

    begin();
    fill_pattern(from, MANY, 0, 3);
    for (ssize_t n; (n = send(sockets[0], from, 4096, MSG_DONTWAIT)) > 0;)
        filled += (size_t)n;
    SUBMIT(1, SYS_sendto, (uint64_t)sockets[0], P(from), MANY, MSG_NOSIGNAL, 0, 0);
    WAIT_AWAITED(sockets[0]);
    while (got < filled) {
        ssize_t n = read(sockets[1], to, filled - got < MANY ? filled - got : MANY);

        CHECK_CMP(n, >, 0);
        got += (size_t)n;
    }
    for (got = 0; got < MANY;) {
        ssize_t n = read(sockets[1], to + got, MANY - got);

        CHECK_CMP(n, >, 0);
        got += (size_t)n;
    }
    EXPECT(1, MANY);
    CHECK_PATTERN(to, MANY, 0, 3);

    /* What a pipe has room for in its last page goes there, though poll(2) says that there is no room. */
    CHECK_EQ(write(ends[1], from, 65536 - 100), 65536 - 100);
    GIVES(90, SYS_write, (uint64_t)ends[1], P(from), 90, 0, 0, 0);
    SUBMIT(1, SYS_write, (uint64_t)ends[1], P(from), 4096, 0, 0, 0);
    WAIT_AWAITED(ends[1]);
    CHECK_EQ(read(ends[0], to, 8192), 8192);
    EXPECT(1, 4096);
    end();
}

/* Tried in order by the one worker of its context, requests for one file end in this order. */
static void in_order(void)
{
    enum { READS = 5 };

    begin();
    struct iocb2 iocbs[READS + 1];
    for (uint64_t i = 0; i < READS; i++) {
        io_prep2_syscall(&iocbs[i], SYS_read, (uint64_t)sockets[0], P(&bytes[i]), 1, 0, 0, 0);
        iocbs[i].data = i;
    }
    /* The other direction of the same file does not wait for these. */
    io_prep2_syscall(&iocbs[READS], SYS_write, (uint64_t)sockets[0], P("x"), 1, 0, 0, 0);
    iocbs[READS].data = READS;
    submit_all(ctx, iocbs, sizeof(iocbs));
    EXPECT(READS, 1);
    put(sockets[1], "abcde");
    (void)get_events(ctx, READS, &room.event, sizeof(room));
    struct io_event2 *event = &room.event;
    for (uint64_t i = 0; i < READS; i++, event = io_event2_next(event)) {
        CHECK_EQ(event->data, i);
        CHECK_EQ(event->res, 1);
        CHECK_EQ(bytes[i], 'a' + (int)i);
    }
    end();
}

/* The same with connections. */
static void accepted(void)
{
    const struct timespec time = { .tv_nsec = 1 };
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    socklen_t length = sizeof(address);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK_EQ(bind(listener, (struct sockaddr *)&address, sizeof(sa_family_t)), 0);
    CHECK_EQ(listen(listener, 4), 0);
    CHECK_EQ(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    for (uint64_t i = 0; i < 2; i++)
        SUBMIT(i, SYS_accept4, (uint64_t)listener, 0, 0, SOCK_CLOEXEC, 0, 0);
    /* When this begins, both have been tried. */
    GIVES(0, SYS_nanosleep, P(&time), 0, 0, 0, 0, 0);
    CHECK(is_awaited(listener));
    for (int i = 0; i < 2; i++) {
        int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        CHECK_EQ(connect(client, (struct sockaddr *)&address, length), 0);
        get_one(ctx, &room.event);
        CHECK_CMP(room.event.res, >=, 0);
        CHECK_EQ(room.event.data, i);
        close((int)room.event.res);
        close(client);
    }
    close(listener);
}

static void kinds(void)
{
    const struct itimerspec soon = { .it_value.tv_nsec = 1000000 };
    struct iovec iov = { bytes, 8 };
    struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
    uint64_t number = 7;
    int pair[2];

    begin();
    int event = eventfd(0, EFD_CLOEXEC), timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    SUBMIT(1, SYS_read, (uint64_t)event, P(bytes), 8, 0, 0, 0);
    WAIT_AWAITED(event);
    CHECK_EQ(write(event, &number, 8), 8);
    EXPECT(1, 8);
    CHECK_MEM(bytes, &number, 8);
    SUBMIT(1, SYS_read, (uint64_t)timer, P(bytes), 8, 0, 0, 0);
    CHECK_EQ(timerfd_settime(timer, 0, &soon, NULL), 0);
    EXPECT(1, 8);

    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    struct termios modes;
    CHECK(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    int terminal = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    SUBMIT(1, SYS_read, (uint64_t)terminal, P(bytes), 8, 0, 0, 0);
    WAIT_AWAITED(terminal);
    put(master, "ab\n");
    EXPECT(1, 3);
    /* One that gives what there is does not wait. */
    CHECK_EQ(tcgetattr(terminal, &modes), 0);
    modes.c_lflag &= ~(tcflag_t)ICANON;
    modes.c_cc[VMIN] = modes.c_cc[VTIME] = 0;
    CHECK_EQ(tcsetattr(terminal, TCSANOW, &modes), 0);
    GIVES(0, SYS_read, (uint64_t)terminal, P(bytes), 8, 0, 0, 0);
    close(terminal);
    close(master);

    struct pollfd poller = { .fd = ends[0], .events = POLLIN };
    SUBMIT(1, SYS_ppoll, P(&poller), 1, 0, 0, 8, 0);
    WAIT_AWAITED(ends[0]);
    put(ends[1], "x");
    EXPECT(1, 1);
    CHECK_EQ(poller.revents, POLLIN);
    CHECK_EQ(read(ends[0], bytes, 1), 1);

    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    SUBMIT(1, SYS_recvmsg, (uint64_t)pair[0], P(&message), 0, 0, 0, 0);
    WAIT_AWAITED(pair[0]);
    put(pair[1], "abc");
    EXPECT(1, 3);
    SUBMIT(1, SYS_readv, (uint64_t)pair[0], P(&iov), 1, 0, 0, 0);
    WAIT_AWAITED(pair[0]);
    /* The end of the other side. */
    close(pair[1]);
    EXPECT(1, 0);
    close(pair[0]);
    SUBMIT(1, SYS_preadv2, (uint64_t)ends[0], P(&iov), 1, UINT64_MAX, UINT64_MAX, 0);
    WAIT_AWAITED(ends[0]);
    close(ends[1]);
    ends[1] = -1;
    EXPECT(1, 0);
    close(event);
    close(timer);
    end();
}

static void cancelled(void)
{
    int spare;

    begin();
    SUBMIT(5, SYS_recvfrom, (uint64_t)sockets[0], P(bytes), 1, 0, 0, 0);
    WAIT_AWAITED(sockets[0]);
    CHECK_EQ(CALL(io_cancel2(ctx, 5)), 0);
    EXPECT(5, -EINTR);
    CHECK_EQ(CALL(io_cancel2(ctx, 5)), -ENOENT);
    CHECK(!is_awaited(sockets[0]));

    /* The number becomes another file's meanwhile, and the first file stays. */
    SUBMIT(6, SYS_recvfrom, (uint64_t)sockets[0], P(bytes), 1, 0, 0, 0);
    WAIT_AWAITED(sockets[0]);
    spare = fcntl(sockets[0], F_DUPFD_CLOEXEC, 0);
    CHECK_EQ(dup2(ends[0], sockets[0]), sockets[0]);
    CHECK_EQ(CALL(io_cancel2(ctx, 6)), 0);
    EXPECT(6, -EINTR);
    SUBMIT(7, SYS_read, (uint64_t)sockets[0], P(bytes), 1, 0, 0, 0);
    put(sockets[1], "x");
    GIVES(1, SYS_recvfrom, (uint64_t)spare, P(bytes), 1, 0, 0, 0);
    put(ends[1], "y");
    EXPECT(7, 1);
    CHECK_EQ(bytes[0], 'y');
    close(spare);
    end();
}

static void with(union iocb_room *request, uint16_t id, const void *payload, size_t size)
{
    CHECK(iocb2_add_attr(&request->iocb, id, IOCB_ATTR_F_REQUIRED, 0, payload, (uint16_t)size) != NULL);
}

static void attributes(void)
{
    static union iocb_room requests[2];
    union iocb_room *request = &requests[0];
    struct iocb_timing timing;
    unsigned char *at = requests[0].bytes;

    begin();
    struct iocb_deadline deadline;
    for (int64_t ms = 200;; ms *= 2) {
        io_prep2_syscall(&request->iocb, SYS_read, (uint64_t)sockets[0], P(bytes), 1, 0, 0, 0);
        request->iocb.data = 1;
        deadline.ns = (uint64_t)(now_ns() + ms * NSEC_PER_MSEC);
        with(request, IOCB_ATTR_DEADLINE, &deadline, sizeof(deadline));
        with(request, IOCB_ATTR_TIMING, NULL, 0);
        ask_route(&request->iocb);
        submit_one(ctx, &request->iocb);
        CHECK_SOON(is_awaited(sockets[0]) || ctx->completed == ctx->submitted);
        if (is_awaited(sockets[0]))
            break;
        /* A busy machine: it did not begin in time. */
        EXPECT(1, -ETIMEDOUT);
    }
    /* It has begun: it may end later than that. */
    int64_t begun = now_ns();
    CHECK_SOON((uint64_t)now_ns() > deadline.ns);
    put(sockets[1], "x");
    EXPECT(1, 1);
    CHECK_EQ(route_of(&room.event).route, IOCB_ROUTE_READINESS);
    memcpy(&timing, io_event2_attr(&room.event, IOCB_ATTR_TIMING) + 1, sizeof(timing));
    CHECK_CMP(timing.start_ns, <=, begun);
    CHECK_CMP(timing.end_ns, >, deadline.ns);

    /* One that does not have to wait. */
    put(sockets[1], "x");
    io_prep2_syscall(&request->iocb, SYS_read, (uint64_t)sockets[0], P(bytes), 1, 0, 0, 0);
    ask_route(&request->iocb);
    submit_one(ctx, &request->iocb);
    get_one(ctx, &room.event);
    CHECK_EQ(room.event.res, 1);
    CHECK_EQ(route_of(&room.event).route, IOCB_ROUTE_THREAD);

    /* The next of a chain begins when it has ended; if it is interrupted, not at all. */
    for (int round = 0; round < 2; round++) {
        io_prep2_syscall(&requests[0].iocb, SYS_read, (uint64_t)sockets[0], P(bytes), 1, 0, 0, 0);
        requests[0].iocb.data = 1;
        with(&requests[0], IOCB_ATTR_LINK, NULL, 0);
        io_prep2_nop(&requests[1].iocb);
        requests[1].iocb.data = 2;
        memmove(at + requests[0].iocb.bytes, &requests[1].iocb, requests[1].iocb.bytes);
        submit_all(ctx, at, requests[0].iocb.bytes + requests[1].iocb.bytes);
        WAIT_AWAITED(sockets[0]);
        expect_no_event(ctx, 0);
        if (round == 0)
            put(sockets[1], "x");
        else
            CHECK_EQ(CALL(io_cancel2(ctx, 1)), 0);
        size_t got = get_events(ctx, 2, &room.event, sizeof(room));
        CHECK_EQ(count_events(&room.event, got), 2);
        CHECK_EQ(room.event.data, 1);
        CHECK_EQ(room.event.res, round == 0 ? 1 : -EINTR);
        CHECK_EQ(io_event2_next(&room.event)->res, round == 0 ? 0 : -ECANCELED);
    }
    end();
}

/* A child has no epoll of its parent's, and can have its own; the parent's request waits on. */
static void forked(void)
{
    begin();
    SUBMIT(1, SYS_read, (uint64_t)sockets[0], P(bytes), 1, 0, 0, 0);
    WAIT_AWAITED(sockets[0]);
    pid_t child = fork();
    if (child == 0) {
        CHECK(!is_awaited(sockets[0]));
        ctx = setup2(0, 0, 0);
        SUBMIT(2, SYS_read, (uint64_t)ends[0], P(bytes), 1, 0, 0, 0);
        WAIT_AWAITED(ends[0]);
        put(ends[1], "x");
        EXPECT(2, 1);
        _exit(0);
    }
    wait_child(child);
    put(sockets[1], "x");
    EXPECT(1, 1);
    end();
}

/* Where there is no descriptor for an epoll, a thread waits. False: the request was tried when there was one again. */
static bool without_epoll(void)
{
    const struct timespec time = { .tv_nsec = 1 };
    union routed request;
    struct rlimit limit, none;
    union {
        struct iocb2 iocbs[4];
        unsigned char bytes[4 * sizeof(struct iocb2)];
    } both;

    begin();
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    io_prep2_syscall(&request.iocb, SYS_read, (uint64_t)sockets[0], P(bytes), 1, 0, 0, 0);
    request.iocb.data = 1;
    ask_route(&request.iocb);
    memcpy(both.bytes, &request, request.iocb.bytes);
    /* Behind it, and so begun when that has been tried, unless two workers begin them. */
    struct iocb2 *second = (struct iocb2 *)(void *)(both.bytes + request.iocb.bytes);
    io_prep2_syscall(second, SYS_nanosleep, P(&time), 0, 0, 0, 0, 0);
    second->data = 2;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    submit_all(ctx, both.bytes, request.iocb.bytes + second->bytes);
    EXPECT(2, 0);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    put(sockets[1], "x");
    EXPECT(1, 1);
    end();
    return route_of(&room.event).route == IOCB_ROUTE_THREAD;
}

int main(void)
{
    for (int status = 1; status != 0;) {
        pid_t child = fork();

        CHECK(child >= 0);
        if (child == 0) {
            ctx = setup2(0, 0, 0);
            _exit(without_epoll() ? 0 : 2);
        }
        CHECK_EQ(waitpid(child, &status, 0), child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) != 1);
    }
    ctx = setup2(0, 0, 1);
    in_order();
    accepted();
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    ctx = setup2(0, 0, 0);
    at_once();
    named_fifo();
    own_wishes();
    all_bytes();
    kinds();
    cancelled();
    attributes();
    forked();
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
