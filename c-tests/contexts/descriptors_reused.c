/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The program closes the descriptors of a context's ring, of its eventfd and of a caller that has slept with a signal mask, which it did
 * not open, and has files of its own under these numbers. The library neither reads these files, nor writes to them, nor gives them out,
 * and closes them neither here nor in a child.
 */
#include "test.h"

enum { FILES_MAX = 16 };

static int files[FILES_MAX];
static int count;

/* A file of the program's takes the place of the library's. */
static bool replace(int fd, void *arg)
{
    int file;

    CHECK(count < FILES_MAX);
    if (fd == *(int *)arg)
        return false;
    file = temp_file(0, 0);
    CHECK_EQ(dup3(file, fd, O_CLOEXEC), fd);
    close(file);
    files[count++] = fd;
    return true;
}

static void run(io_context2_t ctx)
{
    static union event_room room;
    struct iocb2 iocb;

    io_prep2_nop(&iocb);
    for (int i = 0; i < 100; i++) {
        submit_one(ctx, &iocb);
        get_one(ctx, &room);
    }
}

/* A caller sleeps with a signal mask until the event is there. */
static void sleep_masked(io_context2_t ctx)
{
    struct timespec pause = timespec_ns(20 * NSEC_PER_MSEC);
    static union event_room room;
    struct iocb2 iocb;
    sigset_t none;

    sigemptyset(&none);
    io_prep2_syscall(&iocb, SYS_nanosleep, (uint64_t)(uintptr_t)&pause, 0, 0, 0, 0, 0);
    submit_one(ctx, &iocb);
    CHECK_EQ(CALL(io_pgetevents2(ctx, 1, &room.event, sizeof(room), NULL, &none)), sizeof(struct io_event2));
}

static void check_files(void)
{
    struct stat st;

    for (int i = 0; i < count; i++) {
        CHECK_EQ(fstat(files[i], &st), 0);
        CHECK_EQ(st.st_size, 0);
        CHECK_EQ(lseek(files[i], 0, SEEK_CUR), 0);
    }
}

int main(void)
{
    struct io_setup2_params params = params2();
    io_context2_t ctx = NULL;
    pid_t child;
    int none = -1;

    params.eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK(params.eventfd >= 0);
    CHECK_EQ(CALL(io_setup2(2, &params, &ctx)), 0);
    run(ctx);
    sleep_masked(ctx);
    CHECK(for_descriptors("/memfd:aio2-ring (deleted)", replace, &none) == 1);
    /* The one that is signalled for the program, and the one that wakes the caller. */
    CHECK(for_descriptors("anon_inode:[eventfd]", replace, &params.eventfd) >= 2);

    run(ctx);
    sleep_masked(ctx);
    check_files();
    CHECK_EQ(CALL(io_ring_fd2(ctx)), -EBADF);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        check_files();
        _exit(0);
    }
    wait_child(child);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    check_files();
    return 0;
}
