/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Bad descriptors: the errno arrives in `res`, the good requests between them are carried out. Negative, never
 * opened, closed, opened for the other direction, O_PATH, a directory, a pipe and a socket where they do not fit.
 */
#include "test.h"
#include "stress.h"
#include <sys/socket.h>

#define CASES_MAX 64

struct bad {
    struct iocb2 iocb;
    const char *what;
    int64_t expected;
};

static struct bad cases[CASES_MAX];
static size_t n_cases;

static struct iocb2 *add(const char *what, int64_t expected)
{
    CHECK_CMP(n_cases, <, CASES_MAX);
    cases[n_cases].what = what;
    cases[n_cases].expected = expected;
    return &cases[n_cases++].iocb;
}

int main(void)
{
    static char good[64];
    struct iovec iov = { .iov_base = good, .iov_len = 8 };
    int fd = temp_pattern_file(4096, 1, 0);
    char path[64];
    unsigned char between[CASES_MAX][8];
    int closed;
    int read_only;
    int write_only;
    int path_only;
    int directory;
    int ends[2];
    int sockets[2];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    read_only = open(path, O_RDONLY | O_CLOEXEC);
    write_only = open(path, O_WRONLY | O_CLOEXEC);
    path_only = open("/", O_PATH | O_CLOEXEC);
    directory = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(read_only >= 0 && write_only >= 0 && path_only >= 0 && directory >= 0);
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
    /* A number high enough that nobody takes it meanwhile. */
    closed = fcntl(fd, F_DUPFD_CLOEXEC, 900);
    CHECK(closed >= 900);
    CHECK_EQ(close(closed), 0);

    io_prep2_pread(add("read, -1", -EBADF), -1, good, 8, 0);
    io_prep2_pwrite(add("write, -1", -EBADF), -1, good, 8, 0);
    io_prep2_fsync(add("fsync, -1", -EBADF), -1);
    io_prep2_fdatasync(add("fdatasync, INT_MIN", -EBADF), INT_MIN);
    io_prep2_pread(add("read, INT_MAX", -EBADF), INT_MAX, good, 8, 0);
    io_prep2_pread(add("read, closed", -EBADF), closed, good, 8, 0);
    io_prep2_pwrite(add("write, closed", -EBADF), closed, good, 8, 0);
    io_prep2_fsync(add("fsync, closed", -EBADF), closed);
    io_prep2_preadv2(add("preadv2, closed", -EBADF), closed, &iov, 1, 0, 0);
    io_prep2_preadv2(add("preadv2 at the position, closed", -EBADF), closed, &iov, 1, -1, 0);
    io_prep2_pwritev2(add("pwritev2, closed", -EBADF), closed, &iov, 1, 0, 0);
    io_prep2_syscall(add("preadv, closed", -EBADF), SYS_preadv, (uint64_t)closed, (uintptr_t)&iov, 1, 0, 0, 0);
    io_prep2_syscall(add("pwritev, closed", -EBADF), SYS_pwritev, (uint64_t)closed, (uintptr_t)&iov, 1, 0, 0, 0);
    io_prep2_syscall(add("fallocate, closed", -EBADF), SYS_fallocate, (uint64_t)closed, 0, 0, 8, 0, 0);
    io_prep2_syscall(add("sync_file_range, closed", -EBADF), SYS_sync_file_range, (uint64_t)closed, 0, 8, 2, 0, 0);
    io_prep2_pread(add("read, opened for writing", -EBADF), write_only, good, 8, 0);
    io_prep2_pwrite(add("write, opened for reading", -EBADF), read_only, good, 8, 0);
    io_prep2_preadv2(add("preadv2, opened for writing", -EBADF), write_only, &iov, 1, 0, 0);
    io_prep2_pwritev2(add("pwritev2, opened for reading", -EBADF), read_only, &iov, 1, 0, 0);
    io_prep2_syscall(add("fallocate, opened for reading", -EBADF), SYS_fallocate, (uint64_t)read_only, 0, 0, 8, 0, 0);
    io_prep2_pread(add("read, O_PATH", -EBADF), path_only, good, 8, 0);
    io_prep2_fsync(add("fsync, O_PATH", -EBADF), path_only);
    io_prep2_pread(add("read, directory", -EISDIR), directory, good, 8, 0);
    io_prep2_pwrite(add("write, directory", -EBADF), directory, good, 8, 0);
    io_prep2_pread(add("pread, pipe", -ESPIPE), ends[0], good, 8, 0);
    io_prep2_pwrite(add("pwrite, pipe", -ESPIPE), ends[1], good, 8, 0);
    io_prep2_preadv2(add("preadv2 at the position, the pipe's other end", -EBADF), ends[1], &iov, 1, -1, 0);
    io_prep2_pwritev2(add("pwritev2 at the position, the pipe's other end", -EBADF), ends[0], &iov, 1, -1, 0);
    io_prep2_fsync(add("fsync, pipe", -EINVAL), ends[0]);
    io_prep2_pread(add("pread, socket", -ESPIPE), sockets[0], good, 8, 0);
    io_prep2_fsync(add("fsync, socket", -EINVAL), sockets[0]);
    io_prep2_syscall(add("fallocate, pipe", -ESPIPE), SYS_fallocate, (uint64_t)ends[1], 0, 0, 8, 0, 0);
    io_prep2_syscall(add("sync_file_range, pipe", -ESPIPE), SYS_sync_file_range, (uint64_t)ends[0], 0, 8, 2, 0, 0);
    /* The kernel takes the low half of the register. */
    io_prep2_syscall(add("read, high bits in the descriptor", 8), SYS_pread64, (uint64_t)fd | UINT64_C(0x500000000),
                     (uintptr_t)good, 8, 0, 0, 0);

    for (size_t i = 0; i < n_cases; i++) {
        const uint64_t *a = cases[i].iocb.args;
        long result = syscall(cases[i].iocb.nr, a[0], a[1], a[2], a[3], a[4], a[5]);

        CHECK_EQ(result < 0 ? -errno : result, cases[i].expected);
    }
    for (uint32_t workers = 0; workers < 2; workers++) {
        io_context2_t ctx = setup2(4096, 0, workers);

        for (int round = 0; round < 50; round++) {
            struct io_event2 events[2 * CASES_MAX];

            memset(between, 0, sizeof(between));
            for (size_t i = 0; i < n_cases; i++) {
                struct iocb2 iocbs[2];

                iocbs[0] = cases[i].iocb;
                iocbs[0].data = i;
                io_prep2_pread(&iocbs[1], fd, between[i], 8, (int64_t)(i * 8));
                iocbs[1].data = 1000 + i;
                submit_all(ctx, iocbs, sizeof(iocbs));
            }
            (void)get_events(ctx, 2 * n_cases, events, sizeof(events));
            for (size_t i = 0; i < 2 * n_cases; i++) {
                if (events[i].data >= 1000)
                    CHECK_EQ(events[i].res, 8);
                else if (events[i].res != cases[events[i].data].expected)
                    FAIL("%s: expected %" PRId64 ", seen %" PRId64, cases[events[i].data].what,
                         cases[events[i].data].expected, (int64_t)events[i].res);
            }
            CHECK_PATTERN(between, n_cases * 8, 0, 1);
        }
        CHECK_RING_DRAINED(ctx, 50 * 2 * n_cases);
        CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    }
    for (size_t i = 0; i < n_cases; i++) {
        union event_room room;

        CHECK_EQ(CALL(io_issue2(&cases[i].iocb, &room.event, sizeof(room))), sizeof(room.event));
        CHECK_EQ(room.event.res, cases[i].expected);
    }
    return 0;
}
