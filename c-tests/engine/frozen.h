/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A loop device on a file system that can be frozen: then its writes stay where they are. Included after test.h,
 * stress.h and device.h; needs root.
 */
#ifndef AIO2_FROZEN_H
#define AIO2_FROZEN_H

#include <poll.h>
#include <sched.h>
#include <sys/mount.h>

#define FROZEN_BYTES (8 * 1024 * 1024)

/* Where the file system is mounted. */
static int file_system;
/* A loop device on it, with O_DIRECT. */
static int device;

/* When it was frozen; 0: it is not. Shared with the guard. */
static int64_t *frozen_ns;

static TEST_UNUSED void freeze(void)
{
    CHECK_EQ(ioctl(file_system, FIFREEZE, 0), 0);
    __atomic_store_n(frozen_ns, now_ns(), __ATOMIC_RELAXED);
}

static TEST_UNUSED void thaw(void)
{
    __atomic_store_n(frozen_ns, 0, __ATOMIC_RELAXED);
    CHECK_EQ(ioctl(file_system, FITHAW, 0), 0);
}

/* A process whose writes are frozen does not come to its end: should the test fail then, somebody has to thaw them. */
static void start_guard(void)
{
    int ends[2];

    frozen_ns = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(frozen_ns != MAP_FAILED);
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    pid_t guard = fork();
    CHECK(guard >= 0);
    if (guard == 0) {
        struct pollfd end_of_test = { ends[0], POLLIN, 0 };

        (void)setsid();
        alarm(0);
        for (int fd = 0; fd < 1024; fd++)
            if (fd != ends[0] && fd != file_system)
                close(fd);
        while (poll(&end_of_test, 1, 100) == 0) {
            int64_t since = __atomic_load_n(frozen_ns, __ATOMIC_RELAXED);

            if (since != 0 && now_ns() - since > PATIENCE_NS)
                ioctl(file_system, FITHAW, 0);
        }
        _exit(0);
    }
    close(ends[0]);
}

/* The device and its content. */
static TEST_UNUSED void make_device(const unsigned char *content)
{
    char command[PATH_MAX + 64], loop[64], link[64], dir[PATH_MAX], *image = temp_path("image");
    int fd = open(image, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ssize_t n;

    CHECK(fd >= 0);
    CHECK_EQ(ftruncate(fd, 64 << 20), 0);
    snprintf(command, sizeof(command), "mkfs.ext4 -q -F '%s' >/dev/null 2>&1", image);
    if (system(command) != 0)
        SKIP("there is no mkfs.ext4");
    int outer = loop_open(fd, 0);
    snprintf(link, sizeof(link), "/proc/self/fd/%d", outer);
    n = readlink(link, loop, sizeof(loop) - 1);
    CHECK(n > 0);
    loop[n] = '\0';
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        SKIP("no mount namespace of its own");
    snprintf(dir, sizeof(dir), "%s", temp_path("mounted"));
    CHECK_EQ(mkdir(dir, 0700), 0);
    CHECK_EQ(mount(loop, dir, "ext4", 0, NULL), 0);
    close(outer);
    file_system = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(file_system >= 0);
    /* It goes when it is not used any more. */
    CHECK_EQ(umount2(dir, MNT_DETACH), 0);
    start_guard();
    int inner = openat(file_system, "inner", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(inner >= 0);
    CHECK_EQ(pwrite(inner, content, FROZEN_BYTES, 0), FROZEN_BYTES);
    CHECK_EQ(fsync(inner), 0);
    device = loop_open(inner, O_DIRECT);
    close(inner);
}

#endif
