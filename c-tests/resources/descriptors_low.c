/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A program that has closed its standard descriptors does not find the library's there: a stray printf() would write to a ring. */
#include "test.h"

int main(void)
{
    struct io_setup2_params params = params2();
    io_context2_t ctx = NULL;
    int out = fcntl(1, F_DUPFD_CLOEXEC, 100);
    int err = fcntl(2, F_DUPFD_CLOEXEC, 100);
    int efd = fcntl(eventfd(0, EFD_CLOEXEC), F_DUPFD_CLOEXEC, 100);
    bool taken = false;
    int result;

    CHECK(out >= 100 && err >= 100 && efd >= 100);
    params.eventfd = efd;
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    result = io_setup2(2, &params, &ctx);
    for (int fd = 0; fd < 3; fd++)
        taken = taken || fcntl(fd, F_GETFD) >= 0;

    CHECK(dup2(out, 1) == 1 && dup2(err, 2) == 2);
    CHECK_EQ(result, 0);
    CHECK(!taken);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
