/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Block devices of a test's own, that go away however the test ends: a loop device detaches itself when
 * the last descriptor is closed; a zram device is removed by a process that outlives the test.
 * Included after test.h and stress.h.
 */
#ifndef AIO2_DEVICE_H
#define AIO2_DEVICE_H

#include <linux/fs.h>
#include <linux/loop.h>
#include <sys/ioctl.h>

#ifndef LOOP_CONFIGURE
#error "this needs the headers of Linux 5.8 or later"
#endif

/* ---- Loop ------------------------------------------------------------------------------------- */

/*
 * A loop device over `file_fd`, opened with O_RDWR and these additional flags; skips the test where there is no
 * such thing. It lives as long as a descriptor of it is open.
 */
static TEST_UNUSED int loop_open(int file_fd, int flags)
{
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

    if (control < 0)
        SKIP("no /dev/loop-control");
    for (int tries = 0; tries < 50; tries++) {
        struct loop_config config;
        char path[64];
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        int fd;
        int again;

        if (number < 0)
            SKIP("no free loop device");
        snprintf(path, sizeof(path), "/dev/loop%d", number);
        fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0)
            SKIP("a loop device cannot be opened");
        memset(&config, 0, sizeof(config));
        config.fd = (uint32_t)file_fd;
        config.block_size = 512;
        config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
        if (ioctl(fd, LOOP_CONFIGURE, &config) == 0) {
            close(control);
            if (flags == 0)
                return fd;
            again = open(path, O_RDWR | O_CLOEXEC | flags);
            CHECK(again >= 0);
            close(fd);
            return again;
        }
        /* Somebody else was quicker. */
        CHECK_EQ(errno, EBUSY);
        close(fd);
        sleep_ms(20);
    }
    SKIP("no free loop device");
}

/* ---- zram ------------------------------------------------------------------------------------- */

static TEST_UNUSED bool write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    if (fd >= 0)
        close(fd);
    return good;
}

/* Waits until the test has ended, also if it was killed, and removes the device. */
static TEST_UNUSED void __attribute__((noreturn)) zram_guard(int end_of_test, int number)
{
    char path[64];
    char text[16];
    char byte;

    /* The runner kills the test's process group, and closes what it reads from. */
    (void)setsid();
    signal(SIGALRM, SIG_DFL);
    alarm(0);
    signal(SIGPIPE, SIG_IGN);
    for (int fd = 0; fd < 1024; fd++) {
        if (fd != end_of_test)
            close(fd);
    }
    while (read(end_of_test, &byte, 1) < 0 && errno == EINTR)
        ;
    snprintf(path, sizeof(path), "/sys/block/zram%d/reset", number);
    snprintf(text, sizeof(text), "%d", number);
    for (int tries = 0; tries < 6000; tries++) {
        /* Busy for as long as anybody, udev included, has it open. */
        if (write_text(path, "1") && write_text("/sys/class/zram-control/hot_remove", text))
            break;
        sleep_ms(20);
    }
    _exit(0);
}

/* A zram device of `size` bytes, opened with O_RDWR and these additional flags; skips where there is none. */
static TEST_UNUSED int zram_open(size_t size, int flags)
{
    int control = open("/sys/class/zram-control/hot_add", O_RDONLY | O_CLOEXEC);
    char text[32];
    char path[64];
    int ends[2];
    int number;
    ssize_t n;
    pid_t guard;
    int fd;

    if (control < 0)
        SKIP("no zram");
    n = read(control, text, sizeof(text) - 1);
    close(control);
    if (n <= 0)
        SKIP("no zram device can be added");
    text[n] = '\0';
    number = atoi(text);
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    guard = fork();
    CHECK(guard >= 0);
    if (guard == 0)
        zram_guard(ends[0], number);
    close(ends[0]);
    snprintf(path, sizeof(path), "/sys/block/zram%d/disksize", number);
    snprintf(text, sizeof(text), "%zu", size);
    CHECK(write_text(path, text));
    snprintf(path, sizeof(path), "/dev/zram%d", number);
    /* udev may take a moment to make the node. */
    CHECK_SOON(access(path, F_OK) == 0);
    fd = open(path, O_RDWR | O_CLOEXEC | flags);
    CHECK(fd >= 0);
    return fd;
}

/* ---- Random writes and reads, checked --------------------------------------------------------- */

/*
 * `rounds` times: `depth` blocks of a device, each at most once, are written or read, at random places, and
 * every read block must hold what was last written there. The device begins as zeros.
 */
static TEST_UNUSED void device_random_io(io_context2_t ctx, int fd, size_t device_bytes, size_t block_bytes, size_t depth,
                                         int rounds, bool user_space, uint64_t seed)
{
    size_t blocks = device_bytes / block_bytes;
    uint32_t *versions = calloc(blocks, sizeof(*versions));
    uint32_t *places = calloc(depth, sizeof(*places));
    struct iocb2 *iocbs = calloc(depth, sizeof(*iocbs));
    bool *writes = calloc(depth, sizeof(*writes));
    bool *done = calloc(depth, sizeof(*done));
    uint64_t rng = seed;
    unsigned char *buf;
    unsigned char *expected;
    void *memory = NULL;

    CHECK(versions != NULL && places != NULL && iocbs != NULL && writes != NULL && done != NULL);
    CHECK_CMP(blocks, >=, depth);
    CHECK_EQ(posix_memalign(&memory, 4096, (depth + 1) * block_bytes), 0);
    buf = memory;
    expected = buf + depth * block_bytes;
    for (int round = 0; round < rounds; round++) {
        int64_t end = now_ns() + PATIENCE_NS;
        size_t first = rng_below(&rng, blocks);
        size_t stride = 1 + rng_below(&rng, blocks / depth);

        for (size_t i = 0; i < depth; i++) {
            unsigned char *mine = buf + i * block_bytes;

            /* Different places: requests at once on one block have no order. */
            places[i] = (uint32_t)((first + i * stride) % blocks);
            writes[i] = rng_below(&rng, 2) == 0;
            done[i] = false;
            if (writes[i]) {
                versions[places[i]]++;
                fill_pattern(mine, block_bytes, places[i] * block_bytes, seed ^ versions[places[i]]);
                io_prep2_pwrite(&iocbs[i], fd, mine, block_bytes, (int64_t)(places[i] * block_bytes));
            } else {
                memset(mine, 0x5a, block_bytes);
                io_prep2_pread(&iocbs[i], fd, mine, block_bytes, (int64_t)(places[i] * block_bytes));
            }
            iocbs[i].data = i;
        }
        submit_all(ctx, iocbs, depth * sizeof(*iocbs));
        for (size_t left = depth; left != 0;) {
            struct io_event2 events[16];
            struct timespec timeout = { .tv_sec = PATIENCE_S, .tv_nsec = 0 };
            ssize_t got;

            if (user_space)
                got = (ssize_t)reap_user_space(ctx, events, sizeof(events), NULL);
            else
                got = io_getevents2(ctx, sizeof(events[0]), events, sizeof(events), &timeout);
            CHECK_CMP(got, >=, 0);
            if (got == 0)
                sched_yield();
            CHECK_CMP(now_ns(), <, end);
            for (size_t i = 0; i < (size_t)got / sizeof(events[0]); i++) {
                size_t index = events[i].data;
                unsigned char *mine = buf + index * block_bytes;

                CHECK_CMP(index, <, depth);
                CHECK(!done[index]);
                done[index] = true;
                left--;
                CHECK_EQ(events[i].res, block_bytes);
                if (writes[index])
                    continue;
                if (versions[places[index]] == 0)
                    memset(expected, 0, block_bytes);
                else
                    fill_pattern(expected, block_bytes, places[index] * block_bytes, seed ^ versions[places[index]]);
                if (memcmp(mine, expected, block_bytes) != 0)
                    FAIL("block %u does not hold what was written", places[index]);
            }
        }
    }
    /* All of it once more, by the plain system call. */
    for (size_t i = 0; i < blocks; i++) {
        if (versions[i] == 0)
            memset(expected, 0, block_bytes);
        else
            fill_pattern(expected, block_bytes, i * block_bytes, seed ^ versions[i]);
        CHECK_EQ(pread(fd, buf, block_bytes, (off_t)(i * block_bytes)), block_bytes);
        if (memcmp(buf, expected, block_bytes) != 0)
            FAIL("block %zu does not hold what was written, at the end", i);
    }
    free(versions);
    free(places);
    free(iocbs);
    free(writes);
    free(done);
    free(memory);
}

#endif /* AIO2_DEVICE_H */
