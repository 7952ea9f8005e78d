/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* ioctl on a block device (zram): its size, and a discard, after which it reads as zeros. */
/* needs: root */
#include "test.h"
#include "stress.h"
#include "device.h"
#include "call.h"

enum { SIZE = 1 << 20 };

int main(void)
{
    static _Alignas(4096) unsigned char buf[SIZE];
    static const unsigned char zeros[65536];
    uint64_t range[2] = { 65536, 65536 };
    uint64_t bytes = 0;
    int fd = zram_open(SIZE, O_DIRECT);

    CHECK_EQ(call_async(SYS_ioctl, N(fd), BLKGETSIZE64, P(&bytes)), 0);
    CHECK_EQ(bytes, SIZE);
    fill_pattern(buf, SIZE, 0, 5);
    CHECK_EQ(call_async(SYS_pwrite64, N(fd), P(buf), SIZE, 0), SIZE);
    CHECK_EQ(call_async(SYS_ioctl, N(fd), BLKDISCARD, P(range)), 0);
    memset(buf, 0xff, SIZE);
    CHECK_EQ(call_async(SYS_pread64, N(fd), P(buf), SIZE, 0), SIZE);
    CHECK_PATTERN(buf, 65536, 0, 5);
    CHECK_MEM(buf + 65536, zeros, 65536);
    CHECK_PATTERN(buf + 131072, SIZE - 131072, 131072, 5);
    range[0] = SIZE;
    CHECK_EQ(call_async(SYS_ioctl, N(fd), BLKDISCARD, P(range)), -EINVAL);
    CHECK_EQ(call_async(SYS_ioctl, N(fd), 0xdead, 0), -ENOTTY);
    close(fd);
    call_end();
    return 0;
}
