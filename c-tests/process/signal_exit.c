/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A write that was accepted and is carried out at exit() may fail with a signal (SIGXFSZ beyond RLIMIT_FSIZE): the program
 * still ends with its own status, and the other writes are made.
 */
#include "test.h"

int main(void)
{
    struct rlimit limit = { 8192, 8192 };
    char seen[2] = { 0, 0 };
    int fd = temp_file(0, 0);
    int status = 0;
    pid_t child;

    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        static const char data[4096] = "x";
        io_context2_t ctx = setup2(0, 0, 1);
        static struct hold hold;
        struct iocb2 iocbs[3];

        CHECK(signal(SIGXFSZ, SIG_DFL) != SIG_ERR);
        CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
        /* The only worker is busy for ever: exit() carries out the requests behind it. */
        hold_submit(ctx, &hold, 1);
        hold_wait_running(1);
        io_prep2_pwrite(&iocbs[0], fd, data, 1, 0);
        io_prep2_pwrite(&iocbs[1], fd, data, sizeof(data), 8192);
        io_prep2_pwrite(&iocbs[2], fd, data, 1, 1);
        submit_all(ctx, iocbs, sizeof(iocbs));
        exit(23);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status))
        FAIL("the child was ended by signal %d", WTERMSIG(status));
    CHECK_EQ(WEXITSTATUS(status), 23);
    CHECK_EQ(pread(fd, seen, 2, 0), 2);
    CHECK_EQ(seen[0], 'x');
    CHECK_EQ(seen[1], 'x');
    CHECK_EQ(lseek(fd, 0, SEEK_END), 2);
    return 0;
}
