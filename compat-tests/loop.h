/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A loop device of a program's own. */
#ifndef LOOP_H
#define LOOP_H

#include <fcntl.h>
#include <linux/loop.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include "must.h"

/* One over that file, open for direct I/O, which is closed. The device is gone when it is closed last. */
static inline int loop_device(int file, uint32_t block)
{
    struct loop_config config = { .fd = (uint32_t)file, .block_size = block, .info.lo_flags = LO_FLAGS_AUTOCLEAR };
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    int device = -1;

    MUST(control >= 0);
    for (int tries = 0; device < 0; tries++) {
        char path[64];
        snprintf(path, sizeof(path), "/dev/loop%d", ioctl(control, LOOP_CTL_GET_FREE));
        int fd = open(path, O_RDWR | O_CLOEXEC);
        MUST(fd >= 0 && tries < 50);
        if (ioctl(fd, LOOP_CONFIGURE, &config) == 0)
            MUST((device = open(path, O_RDWR | O_CLOEXEC | O_DIRECT)) >= 0);
        else
            MUST(errno == EBUSY);
        close(fd);
    }
    close(file);
    close(control);
    return device;
}

#endif
