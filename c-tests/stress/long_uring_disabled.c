/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The administrator forbids io_uring, for all (kernel.io_uring_disabled 2) or for those without rights (1): the kernel's AIO is used instead, or
 * threads. For the whole system, so only if it is asked for; a process that outlives the test allows it again.
 */
/* needs: root */
#include "test.h"
#include "stress.h"
#include "device.h"
#include "../engine/uring.h"

#define SWITCH "/proc/sys/kernel/io_uring_disabled"

static void disable(const char *how)
{
    if (!write_text(SWITCH, how))
        SKIP("there is no " SWITCH);
}

static void lose_rights(void)
{
    CHECK_EQ(setresgid(65534, 65534, 65534), 0);
    CHECK_EQ(setresuid(65534, 65534, 65534), 0);
}

int main(void)
{
    char byte, was[16] = "";
    void *memory;
    int ends[2], fd;

    CHECK_EQ(posix_memalign(&memory, 4096, DEPTH * BLOCK), 0);
    if (!has_io_uring())
        SKIP("io_uring cannot be had");
    fd = open(SWITCH, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, was, sizeof(was) - 1) <= 0 || was[0] != '0')
        SKIP("io_uring cannot be had, or not be forbidden");
    close(fd);
    fd = loop_open(temp_file(8 << 20, 0), O_DIRECT);
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    pid_t guard = fork();
    CHECK(guard >= 0);
    if (guard == 0) {
        (void)setsid();
        alarm(0);
        close(ends[1]);
        close(fd);
        while (read(ends[0], &byte, 1) < 0 && errno == EINTR)
            ;
        write_text(SWITCH, was);
        _exit(0);
    }
    close(ends[0]);
    disable("1");
    expect_engine(NULL, IOCB_ROUTE_IO_URING, fd, memory, NULL);
    expect_engine(NULL, IOCB_ROUTE_KERNEL_AIO, fd, memory, lose_rights);
    disable("2");
    expect_engine(NULL, IOCB_ROUTE_KERNEL_AIO, fd, memory, NULL);
    expect_engine("uring", IOCB_ROUTE_THREAD, fd, memory, NULL);
    disable("0");
    expect_engine(NULL, IOCB_ROUTE_IO_URING, fd, memory, NULL);
    return 0;
}
