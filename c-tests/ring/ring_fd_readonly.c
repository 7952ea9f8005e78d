/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The holder of io_ring_fd2's descriptor, a child process, cannot change the ring by any means: no
 * writable mapping, no mprotect, write, truncate, hole or seal, and not by opening it anew in /proc,
 * root or not. A program's own calls on its ring go on meanwhile.
 */
#include "test.h"
#include "stress.h"

/* Tries what a descriptor allows; none of it may work. */
static void try_descriptor(int fd, size_t size, const char *how)
{
    char byte = 1;
    struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
    void *view;

    if (mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED)
        FAIL("%s: mapped writable", how);
    if (mmap(NULL, size, PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED)
        FAIL("%s: mapped for writing", how);
    if ((fcntl(fd, F_GETFL) & O_ACCMODE) != O_WRONLY) {
        view = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
        if (view == MAP_FAILED)
            FAIL("%s: not mapped for reading: %s", how, strerror(errno));
        CHECK_EQ(((struct io_ring2 *)view)->magic, IO_RING2_MAGIC);
        if (mprotect(view, size, PROT_READ | PROT_WRITE) == 0)
            FAIL("%s: made writable by mprotect", how);
        if (mprotect(view, size, PROT_WRITE) == 0)
            FAIL("%s: made writable by mprotect", how);
        if (madvise(view, size, MADV_REMOVE) == 0)
            FAIL("%s: hole made by madvise", how);
        CHECK_EQ(munmap(view, size), 0);
    }
    if (write(fd, &byte, 1) >= 0)
        FAIL("%s: written by write", how);
    if (pwrite(fd, &byte, 1, 128) >= 0)
        FAIL("%s: written by pwrite", how);
    if (pwritev2(fd, &iov, 1, 128, 0) >= 0)
        FAIL("%s: written by pwritev2", how);
    if (ftruncate(fd, 0) == 0 || ftruncate(fd, (off_t)(size + 4096)) == 0)
        FAIL("%s: truncated", how);
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)size) == 0)
        FAIL("%s: hole punched", how);
    if (fallocate(fd, 0, (off_t)size, 4096) == 0)
        FAIL("%s: grown by fallocate", how);
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0)
        FAIL("%s: sealed against the library's own writes", how);
}

static void try_again(const char *path, int flags, size_t size, const char *how)
{
    int fd = open(path, flags | O_CLOEXEC);

    if (fd >= 0) {
        try_descriptor(fd, size, how);
        close(fd);
    }
}

static int holder(int fd)
{
    struct stat st;
    char path[64];
    size_t size;

    CHECK_EQ(fstat(fd, &st), 0);
    size = (size_t)st.st_size;
    CHECK_EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    CHECK_EQ(fcntl(fd, F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW), F_SEAL_SHRINK | F_SEAL_GROW);
    try_descriptor(fd, size, "as given");
    if (fcntl(fd, F_SETFL, O_RDWR) == 0)
        CHECK_EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    try_again(path, O_RDWR, size, "opened O_RDWR in /proc");
    try_again(path, O_WRONLY, size, "opened O_WRONLY in /proc");
    try_again(path, O_RDWR | O_TRUNC, size, "opened O_TRUNC in /proc");
    /* A process that may change the mode bits may try again. */
    if (fchmod(fd, 0777) == 0)
        try_again(path, O_RDWR, size, "opened O_RDWR in /proc after fchmod");
    if (getuid() == 0 && setuid(65534) == 0) {
        try_descriptor(fd, size, "as another user");
        try_again(path, O_RDWR, size, "opened O_RDWR in /proc as another user");
    }
    return 0;
}

int main(int argc, char **argv)
{
    io_context2_t ctx;
    union event_room room;
    pid_t child;
    int fd;

    if (argc == 2)
        return holder(atoi(argv[1]));

    ctx = setup2(4096, 0, 1);
    if ((ctx->features & IO_FEAT2_RING_SEALED) == 0)
        SKIP("this kernel cannot seal memory against new writers (Linux 5.1 can)");
    fd = (int)CALL(io_ring_fd2(ctx));
    CHECK_CMP(fd, >, 2);
    submit_nops(ctx, 1, 1);
    CHECK_SOON(ring_completed(ctx) == 1);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char text[16];

        snprintf(text, sizeof(text), "%d", fd);
        CHECK_EQ(fcntl(fd, F_SETFD, 0), 0);
        exec_self(text, NULL, NULL);
    }
    wait_child(child);

    /* As it was; and it goes on. */
    CHECK_EQ(ctx->magic, IO_RING2_MAGIC);
    get_one(ctx, &room);
    CHECK_EQ(room.event.data, 1);
    submit_nops(ctx, 2, 1);
    get_one(ctx, &room);
    CHECK_EQ(room.event.data, 2);
    CHECK_RING_DRAINED(ctx, 2);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    close(fd);
    return 0;
}
