/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * ENOSPC, from a file system of a megabyte, and EFBIG, from the process's own limit: the errno arrives in `res`, no thread gets
 * the signal that belongs to EFBIG, and requests for another file are carried out.
 */
/* needs: root */
#include "test.h"
#include "stress.h"
#include <sys/mount.h>

#define FS_BYTES (1024 * 1024)
#define BLOCK 4096
#define WRITES (2 * FS_BYTES / BLOCK)

static volatile sig_atomic_t signals;

static void on_signal(int sig)
{
    (void)sig;
    signals++;
}

int main(void)
{
    char *dir = temp_path("small");
    char *path;
    int good_fd = temp_file(0, 0);
    static unsigned char block[BLOCK];
    static struct iocb2 iocbs[2 * WRITES];
    static struct io_event2 events[2 * WRITES];
    static unsigned char found[BLOCK];
    io_context2_t ctx = setup2(4096, 0, 0);
    union event_room room;
    struct iocb2 iocb;
    struct rlimit limit;
    struct sigaction action;
    int full = 0;
    int written = 0;
    int fd;

    /* In a namespace of its own, the mount goes with the test. */
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        SKIP("no mount namespace");
    CHECK_EQ(mkdir(dir, 0700), 0);
    if (mount("none", dir, "tmpfs", 0, "size=1m") != 0)
        SKIP("no tmpfs can be mounted");
    CHECK(asprintf(&path, "%s/file", dir) > 0);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0);

    /* Writes twice the file system's size, and between them as many to another one. */
    fill_pattern(block, BLOCK, 0, 1);
    for (size_t i = 0; i < WRITES; i++) {
        io_prep2_pwrite(&iocbs[2 * i], fd, block, BLOCK, (int64_t)(i * BLOCK));
        iocbs[2 * i].data = i;
        io_prep2_pwrite(&iocbs[2 * i + 1], good_fd, block, BLOCK, (int64_t)(i * BLOCK));
        iocbs[2 * i + 1].data = WRITES + i;
    }
    submit_all(ctx, iocbs, sizeof(iocbs));
    (void)get_events(ctx, 2 * WRITES, events, sizeof(events));
    for (size_t i = 0; i < 2 * WRITES; i++) {
        if (events[i].data >= WRITES) {
            CHECK_EQ(events[i].res, BLOCK);
        } else if (events[i].res == -ENOSPC) {
            full++;
        } else {
            CHECK_EQ(events[i].res, BLOCK);
            written++;
            CHECK_EQ(pread(fd, found, BLOCK, (off_t)(events[i].data * BLOCK)), BLOCK);
            CHECK_MEM(found, block, BLOCK);
        }
    }
    CHECK_CMP(full, >=, WRITES / 2 - 1);
    CHECK_CMP(written, >, WRITES / 4);
    io_prep2_syscall(&iocb, SYS_fallocate, (uint64_t)fd, 0, 0, 64 * FS_BYTES, 0, 0);
    submit_one(ctx, &iocb);
    get_one(ctx, &room);
    CHECK_EQ(room.event.res, -ENOSPC);
    /* With room again, it goes on. */
    CHECK_EQ(ftruncate(fd, 0), 0);
    io_prep2_pwrite(&iocb, fd, block, BLOCK, 0);
    submit_one(ctx, &iocb);
    get_one(ctx, &room);
    CHECK_EQ(room.event.res, BLOCK);

    /* SIGXFSZ would end the program; and no handler of it runs either. */
    CHECK_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = 16 * BLOCK;
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    for (int with_handler = 0; with_handler < 2; with_handler++) {
        memset(&action, 0, sizeof(action));
        action.sa_handler = with_handler ? on_signal : SIG_DFL;
        CHECK_EQ(sigaction(SIGXFSZ, &action, NULL), 0);
        for (int i = 0; i < 100; i++) {
            io_prep2_pwrite(&iocbs[i], good_fd, block, BLOCK, (int64_t)i % 2 * 1000 * BLOCK);
            iocbs[i].data = (uint64_t)i;
        }
        submit_all(ctx, iocbs, 100 * sizeof(iocbs[0]));
        (void)get_events(ctx, 100, events, sizeof(events));
        for (int i = 0; i < 100; i++)
            CHECK_EQ(events[i].res, events[i].data % 2 == 0 ? BLOCK : -EFBIG);
    }
    CHECK_EQ(signals, 0);
    limit.rlim_cur = limit.rlim_max;
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    CHECK_RING_DRAINED(ctx, ring_submitted(ctx));
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    close(fd);
    CHECK_EQ(umount(dir), 0);
    free(path);
    free(dir);
    return 0;
}
