/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Exit with a long queue: as many reads of an empty pipe as a context takes, and as many writes to a file among
 * them. All writes are in the file, and the exit takes seconds, not the square of the queue.
 */
#include "test.h"
#include "stress.h"

#define N 30000

static void __attribute__((noreturn)) child(int fd)
{
    static char bytes[N];
    static char sink;
    static struct iovec iov = { .iov_base = &sink, .iov_len = 1 };
    io_context2_t ctx = setup2(0, 0, 1);
    struct iocb2 iocbs[2];
    int ends[2];

    alarm(3 * PATIENCE_S);
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    fill_pattern(bytes, N, 0, 1);
    for (int i = 0; i < N; i++) {
        io_prep2_preadv2(&iocbs[0], ends[0], &iov, 1, -1, 0);
        io_prep2_pwrite(&iocbs[1], fd, bytes + i, 1, i);
        submit_all(ctx, iocbs, sizeof(iocbs));
    }
    exit(0);
}

int main(void)
{
    static char found[N];
    int fd = temp_file(N, 0);
    int64_t began = now_ns();
    pid_t pid = fork();

    CHECK(pid >= 0);
    if (pid == 0)
        child(fd);
    wait_child(pid);
    printf("%.1f s\n", (double)(now_ns() - began) / 1e9);
    CHECK_EQ(pread(fd, found, N, 0), N);
    CHECK_PATTERN(found, N, 0, 1);
    CHECK_CMP(now_ns() - began, <, PATIENCE_NS);
    return 0;
}
