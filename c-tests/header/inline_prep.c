/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The header's prep functions fill every field of a request, and nothing behind it; the kernel understands them. */
/* with any engine the same */
#include "test.h"
#include <sys/socket.h>

struct guarded {
    struct iocb2 iocb;
    unsigned char behind[64];
};

static void check(const struct guarded *g, const char *name, uint32_t nr, const uint64_t expected[6])
{
    if (g->iocb.bytes != 64 || g->iocb.nr != nr || g->iocb.data != 0)
        FAIL("%s: bytes %u, nr %u (expected %u), data %" PRIu64, name, g->iocb.bytes, g->iocb.nr, nr, g->iocb.data);
    for (int i = 0; i < 6; i++) {
        if (g->iocb.args[i] != expected[i])
            FAIL("%s: args[%d]: expected %#" PRIx64 ", seen %#" PRIx64, name, i, expected[i], g->iocb.args[i]);
    }
    for (size_t i = 0; i < sizeof(g->behind); i++) {
        if (g->behind[i] != 0xa5)
            FAIL("%s: wrote behind the request", name);
    }
}

#define PREP(name, nr, call, ...)                                   \
    do {                                                            \
        struct guarded g;                                           \
        struct iocb2 *iocb = &g.iocb;                               \
        const uint64_t expected[6] = { __VA_ARGS__ };               \
        memset(&g, 0xa5, sizeof(g));                                \
        call;                                                       \
        check(&g, name, nr, expected);                              \
    } while (0)

static uint64_t n(int64_t number)
{
    return (uint64_t)number;
}

static int64_t issue(const struct iocb2 *iocb)
{
    struct io_event2 event;

    CHECK_EQ(io_issue2(iocb, &event, sizeof(event)), sizeof(event));
    return event.res;
}

static void calls(void)
{
    char *name = temp_path("directory");
    char *other = temp_path("renamed");
    char buf[16] = "sixteen bytes..";
    struct timespec time = { 0, 1 };
    struct pollfd poll = { .events = POLLIN };
    struct iocb2 iocb;
    struct statx st;
    int64_t at = 4;
    int sockets[2];
    int dir;
    int fd;

    io_prep2_mkdirat(&iocb, AT_FDCWD, name, 0700);
    CHECK_EQ(issue(&iocb), 0);
    dir = open(name, O_RDONLY | O_DIRECTORY);
    io_prep2_openat(&iocb, dir, "file", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    fd = (int)issue(&iocb);
    CHECK_CMP(fd, >=, 0);
    io_prep2_write(&iocb, fd, buf, sizeof(buf));
    CHECK_EQ(issue(&iocb), sizeof(buf));
    io_prep2_ftruncate(&iocb, fd, 8);
    CHECK_EQ(issue(&iocb), 0);
    io_prep2_statx(&iocb, dir, "file", AT_SYMLINK_NOFOLLOW, STATX_SIZE | STATX_MODE, &st);
    CHECK_EQ(issue(&iocb), 0);
    CHECK_EQ(st.stx_size, 8);
    CHECK_EQ(st.stx_mode & 0777, 0640);
    io_prep2_sync_file_range(&iocb, fd, 0, 8, SYNC_FILE_RANGE_WRITE);
    CHECK_EQ(issue(&iocb), 0);
    io_prep2_renameat2(&iocb, dir, "file", AT_FDCWD, other, RENAME_NOREPLACE);
    CHECK_EQ(issue(&iocb), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
    io_prep2_splice(&iocb, fd, &at, sockets[0], NULL, 4, 0);
    CHECK_EQ(issue(&iocb), -EINVAL); /* neither is a pipe */
    io_prep2_send(&iocb, sockets[0], buf, 3, MSG_NOSIGNAL);
    CHECK_EQ(issue(&iocb), 3);
    poll.fd = sockets[1];
    io_prep2_poll(&iocb, &poll, 1, NULL);
    CHECK_EQ(issue(&iocb), 1);
    CHECK_EQ(poll.revents, POLLIN);
    io_prep2_recv(&iocb, sockets[1], buf, sizeof(buf), MSG_PEEK);
    CHECK_EQ(issue(&iocb), 3);
    io_prep2_read(&iocb, sockets[1], buf, sizeof(buf));
    CHECK_EQ(issue(&iocb), 3);
    io_prep2_clock_nanosleep(&iocb, CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
    CHECK_EQ(issue(&iocb), 0);
    io_prep2_unlinkat(&iocb, AT_FDCWD, other, 0);
    CHECK_EQ(issue(&iocb), 0);
    io_prep2_unlinkat(&iocb, AT_FDCWD, name, AT_REMOVEDIR);
    CHECK_EQ(issue(&iocb), 0);
    io_prep2_close(&iocb, fd);
    CHECK_EQ(issue(&iocb), 0);
    CHECK_EQ(fcntl(fd, F_GETFD), -1);
    free(name);
    free(other);
}

int main(void)
{
    char buf[8];
    struct iovec iov[2];
    const uint64_t b = (uint64_t)(uintptr_t)buf;
    const uint64_t v = (uint64_t)(uintptr_t)iov;
    struct statx st;
    struct timespec time;
    int64_t in = 0;
    int64_t out = 0;
    uint32_t len = 0;
    const uint64_t i = (uint64_t)(uintptr_t)&in;
    const uint64_t o = (uint64_t)(uintptr_t)&out;
    const uint64_t t = (uint64_t)(uintptr_t)&time;
    const int64_t far = INT64_C(0x123456789abcdef0);

    PREP("pread", SYS_pread64, io_prep2_pread(iocb, 3, buf, 8, far), 3, b, 8, (uint64_t)far, 0, 0);
    PREP("pwrite", SYS_pwrite64, io_prep2_pwrite(iocb, 4, buf, SIZE_MAX, 0), 4, b, SIZE_MAX, 0, 0, 0);
    PREP("preadv2", SYS_preadv2, io_prep2_preadv2(iocb, 5, iov, 2, far, 7), 5, v, 2, (uint64_t)far, 0, 7);
    PREP("pwritev2", SYS_pwritev2, io_prep2_pwritev2(iocb, 6, iov, 1, -1, 2), 6, v, 1, UINT64_MAX, 0, 2);
    PREP("fsync", SYS_fsync, io_prep2_fsync(iocb, 7), 7, 0, 0, 0, 0, 0);
    PREP("fdatasync", SYS_fdatasync, io_prep2_fdatasync(iocb, 8), 8, 0, 0, 0, 0, 0);
    PREP("nop", IOCB2_NOP, io_prep2_nop(iocb), 0, 0, 0, 0, 0, 0);
    PREP("syscall", 12345, io_prep2_syscall(iocb, 12345, 1, 2, 3, 4, 5, UINT64_MAX), 1, 2, 3, 4, 5, UINT64_MAX);

    PREP("read", SYS_read, io_prep2_read(iocb, 3, buf, 8), 3, b, 8, 0, 0, 0);
    PREP("write", SYS_write, io_prep2_write(iocb, 3, buf, SIZE_MAX), 3, b, SIZE_MAX, 0, 0, 0);
    PREP("openat", SYS_openat, io_prep2_openat(iocb, AT_FDCWD, buf, O_CREAT, 0644), n(AT_FDCWD), b, O_CREAT, 0644, 0, 0);
    PREP("close", SYS_close, io_prep2_close(iocb, 9), 9, 0, 0, 0, 0, 0);
    PREP("statx", SYS_statx, io_prep2_statx(iocb, 3, buf, 4, UINT32_MAX, &st), 3, b, 4, UINT32_MAX, (uint64_t)(uintptr_t)&st, 0);
    PREP("fallocate", SYS_fallocate, io_prep2_fallocate(iocb, 3, 1, far, -2), 3, 1, (uint64_t)far, n(-2), 0, 0);
    PREP("ftruncate", SYS_ftruncate, io_prep2_ftruncate(iocb, 3, far), 3, (uint64_t)far, 0, 0, 0, 0);
    PREP("sync_file_range", SYS_sync_file_range, io_prep2_sync_file_range(iocb, 3, far, 5, 7), 3, (uint64_t)far, 5, 7, 0, 0);
    PREP("copy_file_range", SYS_copy_file_range, io_prep2_copy_file_range(iocb, 3, &in, 4, &out, 5, 6), 3, i, 4, o, 5, 6);
    PREP("splice", SYS_splice, io_prep2_splice(iocb, 3, NULL, 4, &out, 5, 6), 3, 0, 4, o, 5, 6);
    PREP("unlinkat", SYS_unlinkat, io_prep2_unlinkat(iocb, -100, buf, AT_REMOVEDIR), n(-100), b, AT_REMOVEDIR, 0, 0, 0);
    PREP("renameat2", SYS_renameat2, io_prep2_renameat2(iocb, 3, buf, 4, buf + 1, 1), 3, b, 4, b + 1, 1, 0);
    PREP("mkdirat", SYS_mkdirat, io_prep2_mkdirat(iocb, 3, buf, 0700), 3, b, 0700, 0, 0, 0);
    PREP("accept4", SYS_accept4, io_prep2_accept4(iocb, 3, (void *)buf, &len, 8), 3, b, (uint64_t)(uintptr_t)&len, 8, 0, 0);
    PREP("connect", SYS_connect, io_prep2_connect(iocb, 3, (void *)buf, 8), 3, b, 8, 0, 0, 0);
    PREP("recv", SYS_recvfrom, io_prep2_recv(iocb, 3, buf, 8, 2), 3, b, 8, 2, 0, 0);
    PREP("send", SYS_sendto, io_prep2_send(iocb, 3, buf, 8, 2), 3, b, 8, 2, 0, 0);
    PREP("recvmsg", SYS_recvmsg, io_prep2_recvmsg(iocb, 3, (void *)buf, 2), 3, b, 2, 0, 0, 0);
    PREP("sendmsg", SYS_sendmsg, io_prep2_sendmsg(iocb, 3, (void *)buf, 2), 3, b, 2, 0, 0, 0);
    PREP("poll", SYS_ppoll, io_prep2_poll(iocb, (void *)buf, 2, &time), b, 2, t, 0, 0, 0);
    PREP("nanosleep", SYS_clock_nanosleep, io_prep2_clock_nanosleep(iocb, 1, 1, &time, NULL), 1, 1, t, 0, 0, 0);

    /* Negative ints are sign-extended, as a caller of the system call would pass them. */
    PREP("pread -1", SYS_pread64, io_prep2_pread(iocb, -1, NULL, 0, -2), UINT64_MAX, 0, 0, UINT64_MAX - 1, 0, 0);
    PREP("fsync -9", SYS_fsync, io_prep2_fsync(iocb, -9), (uint64_t)-9, 0, 0, 0, 0, 0);
    PREP("preadv2 -1", SYS_preadv2, io_prep2_preadv2(iocb, -1, NULL, -1, -1, -1), UINT64_MAX, 0, UINT64_MAX,
         UINT64_MAX, 0, UINT64_MAX);

    /* And the kernel takes them in this order. */
    calls();
    return 0;
}
