/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * If there is no io_uring (here by a test hook), workers hand requests over to the kernel's AIO. If AIO2_ENGINE forbids that, or
 * the kernel's limit is reached, they make the system calls. If there is io_uring, AIO2_ENGINE chooses the engine. The program sees
 * no error.
 */
/* needs: root */
/* with any engine the same */
#include "test.h"
#include "stress.h"
#include "device.h"
#include "uring.h"

static void no_ring(void)
{
    CHECK_EQ(setenv("AIO2_HOOK_NO_RING", "1", 1), 0);
}

int main(void)
{
    unsigned long kernel = 0;
    void *memory;
    int fd;

    CHECK_EQ(posix_memalign(&memory, 4096, DEPTH * BLOCK), 0);
    if (syscall(SYS_io_setup, 256, &kernel) != 0)
        SKIP("the kernel has no AIO to spare");
    CHECK_EQ(syscall(SYS_io_destroy, kernel), 0);
    fd = loop_open(temp_file(8 << 20, 0), O_DIRECT);
    expect_engine(NULL, IOCB_ROUTE_KERNEL_AIO, fd, memory, no_ring);
    expect_engine("kaio", IOCB_ROUTE_KERNEL_AIO, fd, memory, NULL);
    expect_engine("uring", IOCB_ROUTE_THREAD, fd, memory, no_ring);
    expect_engine("threads", IOCB_ROUTE_THREAD, fd, memory, NULL);
    if (!has_io_uring())
        SKIP("io_uring cannot be had");
    expect_engine(NULL, IOCB_ROUTE_IO_URING, fd, memory, NULL);
    expect_engine("uring", IOCB_ROUTE_IO_URING, fd, memory, NULL);
    return 0;
}
