/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * io_getevents2() returns in time, also if it carries requests out itself. With a timeout, a caller reads only data in the page
 * cache and leaves other reads to a worker (IOCB_ATTR_ROUTE shows which thread has read). A write to a file that was always
 * quick does not delay it when the file system is frozen.
 */
/* needs: root */
#include "test.h"
#include "stress.h"
#include "device.h"
#include <sys/mount.h>

#define BLOCK 4096
#define BLOCKS 512
#define ROUNDS 400
#define IMAGE_BYTES (64 << 20)

static io_context2_t ctx;
static unsigned char buffer[BLOCK];
static int file;

static union routed_event taken;

static void submit(bool writes, int block)
{
    union routed request;

    if (writes)
        io_prep2_pwrite(&request.iocb, file, buffer, BLOCK, (int64_t)block * BLOCK);
    else
        io_prep2_pread(&request.iocb, file, buffer, BLOCK, (int64_t)block * BLOCK);
    request.iocb.data = (uint64_t)block;
    ask_route(&request.iocb);
    submit_one(ctx, &request.iocb);
}

static ssize_t take(struct timespec *timeout)
{
    ssize_t got = CALL(io_getevents2(ctx, sizeof(taken), &taken.event, sizeof(taken), timeout));

    CHECK(got == 0 || (got == (ssize_t)sizeof(taken) && taken.event.res == BLOCK));
    return got;
}

/* How many of that many reads this thread has made itself. */
static long reads(int first, int count, struct timespec *timeout)
{
    long own = 0;

    for (int i = 0; i < count; i++) {
        submit(false, first + i);
        CHECK(take(timeout) > 0);
        own += route_of(&taken.event).route == IOCB_ROUTE_INLINE;
    }
    return own;
}

static bool is_back;

static void *waits(void *arg)
{
    struct timespec timeout = { 0, 100000000 };
    int64_t since = now_ns();

    CHECK_EQ(take(&timeout), 0);
    CHECK(now_ns() - since >= 99 * NSEC_PER_MSEC);
    __atomic_store_n(&is_back, true, __ATOMIC_SEQ_CST);
    return arg;
}

/* Thaws it, however the test ends, and takes it away. */
static void guard(const char *mounted)
{
    char byte;
    int ends[2], root;

    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    if (fork() != 0) {
        close(ends[0]);
        return;
    }
    (void)setsid();
    signal(SIGALRM, SIG_DFL);
    alarm(0);
    for (int fd = 0; fd < 1024; fd++)
        if (fd != ends[0])
            close(fd);
    while (read(ends[0], &byte, 1) < 0 && errno == EINTR)
        ;
    root = open(mounted, O_RDONLY);
    ioctl(root, FITHAW, 0);
    close(root);
    umount2(mounted, MNT_DETACH);
    rmdir(mounted);
    _exit(0);
}

int main(void)
{
    struct timespec long_time = { 60, 0 };
    char mounted[] = "/tmp/aio2-in-time-XXXXXX", command[128], path[64];
    int image = temp_file(IMAGE_BYTES, 0), device, root, status;
    pthread_t waiter;
    struct stat stat;

    device = loop_open(image, 0);
    CHECK_EQ(fstat(device, &stat), 0);
    snprintf(path, sizeof(path), "/dev/loop%u", (unsigned)(stat.st_rdev & 0xff));
    snprintf(command, sizeof(command), "mkfs.ext4 -q -F %s >/dev/null 2>&1", path);
    status = system(command);
    if (status != 0)
        SKIP("no mkfs.ext4");
    CHECK(mkdtemp(mounted) != NULL);
    if (mount(path, mounted, "ext4", 0, NULL) != 0) {
        rmdir(mounted);
        SKIP("no ext4");
    }
    guard(mounted);
    snprintf(path, sizeof(path), "%s/file", mounted);
    file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    root = open(mounted, O_RDONLY | O_CLOEXEC);
    CHECK(file >= 0 && root >= 0);
    for (int i = 0; i < BLOCKS; i++)
        CHECK_EQ(pwrite(file, buffer, BLOCK, (off_t)i * BLOCK), BLOCK);
    CHECK_EQ(fsync(file), 0);
    ctx = setup2(0, 0, 0);

    for (int tries = 0; reads(0, ROUNDS, NULL) == 0; tries++)
        if (tries == 100)
            SKIP("the machine is too slow for a caller to read itself");
    for (int tries = 0; reads(0, ROUNDS, &long_time) == 0; tries++)
        CHECK_CMP(tries, <, 100);
    CHECK_EQ(posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED), 0);
    CHECK_EQ(reads(BLOCKS - 1, 1, &long_time), 0);

    for (int i = 0; i < ROUNDS; i++) {
        submit(true, i);
        CHECK(take(NULL) > 0);
    }
    CHECK_EQ(ioctl(root, FIFREEZE, 0), 0);
    submit(true, 7);
    waiter = thread_start(waits, NULL);
    for (int ms = 0; ms < 10000 && !__atomic_load_n(&is_back, __ATOMIC_SEQ_CST); ms++)
        sleep_ms(1);
    status = __atomic_load_n(&is_back, __ATOMIC_SEQ_CST);
    CHECK_EQ(ioctl(root, FITHAW, 0), 0);
    thread_join(waiter);
    CHECK(status);
    CHECK(take(NULL) > 0);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    close(file);
    close(root);
    return 0;
}
