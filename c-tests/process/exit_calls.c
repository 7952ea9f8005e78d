/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Accepted calls that change a file system are carried out before a normal exit, in order behind one that blocks. A request
 * that may wait for ever (a pipe, a lock, a FIFO) does not delay the exit.
 */
#include "test.h"
#include "call.h"

static char *dir;
static char *path_of(const char *name)
{
    char *path;

    CHECK(asprintf(&path, "%s/%s", dir, name) > 0);
    return path;
}

static void child(int file)
{
    static struct hold hold;
    static struct timespec ages = { .tv_sec = 100000, .tv_nsec = 0 };
    static int64_t in;
    int other = open(path_of("file"), O_RDWR | O_CLOEXEC);

    call_ctx = setup2(0, 0, 1);
    hold_submit(call_ctx, &hold, 0);
    hold_wait_running(1);
    /* All of these are still queued at exit. */
    start_call(1, SYS_unlinkat, N(AT_FDCWD), P(path_of("gone")), 0);
    start_call(2, SYS_flock, N(other), 2 /* LOCK_EX */);
    start_call(3, SYS_renameat2, N(AT_FDCWD), P(path_of("old")), N(AT_FDCWD), P(path_of("new")), 0);
    start_call(4, SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, P(&ages), 0);
    start_call(5, SYS_mkdirat, N(AT_FDCWD), P(path_of("made")), 0700);
    start_call(6, SYS_openat, N(AT_FDCWD), P(path_of("created")), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    start_call(7, SYS_openat, N(AT_FDCWD), P(path_of("fifo")), O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
    start_call(8, SYS_openat, N(AT_FDCWD), P(path_of("fifo")), O_RDONLY | O_CLOEXEC);
    start_call(9, SYS_fsync, N(open(dir, O_RDONLY | O_CLOEXEC)));
    start_call(10, SYS_sendfile, N(other), N(file), P(&in), 5);
    start_call(11, SYS_read, N(hold.pipe[0]), P(&hold.byte), 1);
    start_call(12, SYS_ftruncate, N(file), 5);
    exit(0);
}

int main(void)
{
    char seen[8] = "";
    struct stat st;
    int64_t before;
    pid_t pid;
    int file;

    dir = temp_path("dir");
    CHECK_EQ(mkdir(dir, 0700), 0);
    CHECK_EQ(mkfifo(path_of("fifo"), 0600), 0);
    close(open(path_of("gone"), O_WRONLY | O_CREAT, 0600));
    close(open(path_of("old"), O_WRONLY | O_CREAT, 0600));
    close(open(path_of("file"), O_WRONLY | O_CREAT, 0600));
    file = temp_file(0, 0);
    CHECK_EQ(write(file, "0123456789", 10), 10);

    before = now_ns();
    pid = fork();
    if (pid == 0)
        child(file);
    wait_child(pid);
    CHECK_CMP(now_ns() - before, <, PATIENCE_NS);
    CHECK_EQ(access(path_of("gone"), F_OK), -1);
    CHECK_EQ(access(path_of("old"), F_OK), -1);
    CHECK_EQ(access(path_of("new"), F_OK), 0);
    CHECK_EQ(access(path_of("made"), F_OK), 0);
    CHECK_EQ(access(path_of("created"), F_OK), 0);
    CHECK_EQ(fstat(file, &st), 0);
    CHECK_EQ(st.st_size, 5);
    int copy = open(path_of("file"), O_RDONLY);
    CHECK_EQ(read(copy, seen, sizeof(seen)), 5);
    CHECK_MEM(seen, "01234", 5);
    return 0;
}
