/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The calls that move bytes within the kernel: copy_file_range, sendfile, and splice through a pipe, which waits for bytes. */
#include "test.h"
#include "call.h"

enum { SIZE = 300000 };

static unsigned char buf[SIZE];

static void check_file(int fd, size_t size, uint64_t at)
{
    memset(buf, 0, sizeof(buf));
    CHECK_EQ(pread(fd, buf, sizeof(buf), 0), size);
    CHECK_PATTERN(buf, size, at, 3);
}

int main(void)
{
    int from = temp_pattern_file(SIZE, 3, 0);
    int copy = temp_file(0, 0);
    int sent = temp_file(0, 0);
    int spliced = temp_file(0, 0);
    int64_t in = 0;
    int64_t out = 0;
    int pipes[2];
    int64_t n;

    while ((n = call_async(SYS_copy_file_range, N(from), P(&in), N(copy), P(&out), SIZE, 0)) > 0)
        ;
    CHECK_EQ(n, 0);
    CHECK_EQ(in, SIZE);
    CHECK_EQ(out, SIZE);
    check_file(copy, SIZE, 0);
    in = 0;
    CHECK_EQ(call_async(SYS_copy_file_range, N(from), P(&in), N(-1), 0, SIZE, 0), -EBADF);

    /* At the position of the file that it writes to, and at an offset of the one that it reads. */
    in = 1000;
    for (int64_t left = SIZE - 1000; left > 0; left -= n) {
        n = call_async(SYS_sendfile, N(sent), N(from), P(&in), N(left));
        CHECK_CMP(n, >, 0);
    }
    CHECK_EQ(in, SIZE);
    check_file(sent, SIZE - 1000, 1000);

    /* From an empty pipe: it waits. */
    CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
    out = 0;
    start_call(1, SYS_splice, N(pipes[0]), 0, N(spliced), P(&out), 4096, 0);
    expect_no_event(call_ctx, 50);
    in = 0;
    CHECK_EQ(syscall(SYS_splice, from, &in, pipes[1], NULL, 4096, 0), 4096);
    n = end_call(1);
    CHECK_CMP(n, >, 0);
    CHECK_CMP(n, <=, 4096);
    CHECK_EQ(out, n);
    check_file(spliced, (size_t)n, 0);
    call_end();
    return 0;
}
