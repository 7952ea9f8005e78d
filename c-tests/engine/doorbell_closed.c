/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The program closes the descriptors that wake the library's reaper, and opens its own files under these numbers. All
 * events come, later requests are carried out, and the program's files stay open, unread and unwritten. The same if no
 * descriptor was available for a while.
 */
/* needs: kernel queue */
/* needs: root */
#include "test.h"
#include "stress.h"
#include "device.h"

#define DEVICE_BYTES (8 * 1024 * 1024)
#define BLOCK 512
#define DEPTH 32

static unsigned char *memory;
static int device;
static io_context2_t ctx;

static void submit_reads(void)
{
    union routed iocbs[DEPTH];

    for (int i = 0; i < DEPTH; i++) {
        io_prep2_pread(&iocbs[i].iocb, device, memory + i * BLOCK, BLOCK, i * BLOCK * 3);
        ask_route(&iocbs[i].iocb);
    }
    submit_all(ctx, iocbs, sizeof(iocbs));
}

/* How many of them the kernel's AIO has carried out. */
static int get_reads(void)
{
    union routed_event events[DEPTH];
    int by_kernel = 0;
    size_t left = DEPTH;

    while (left != 0) {
        struct timespec limit = { PATIENCE_S, 0 };
        sigset_t mask;
        CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
        /* With a mask the caller does not hand over by itself. */
        ssize_t got = io_pgetevents2(ctx, sizeof(events[0]), &events[0].event, sizeof(events), &limit, &mask);

        /* A worker may just try to have the one that this call needs. */
        if (got == -EMFILE)
            continue;
        CHECK_CMP(got, >, 0);
        for (size_t i = 0; i < (size_t)got / sizeof(events[0]); i++, left--) {
            CHECK_EQ(events[i].event.res, BLOCK);
            by_kernel += is_kernels(route_of(&events[i].event));
        }
    }
    return by_kernel;
}

struct replaced {
    int end;
    int kept[8];
    int count;
};

/* Puts the end of a pipe, with something to read in it, in the place of one of the library's. */
static bool replace(int fd, void *arg)
{
    struct replaced *all = arg;

    if (fd <= 100)
        return false;
    CHECK_CMP(all->count, <, 8);
    CHECK_EQ(dup3(all->end, fd, O_CLOEXEC), fd);
    all->kept[all->count++] = fd;
    return true;
}

int main(void)
{
    char seen[16];
    int ends[2];
    void *at;

    CHECK_EQ(posix_memalign(&at, 4096, DEPTH * BLOCK), 0);
    memory = at;
    device = loop_open(temp_file(DEVICE_BYTES, 0), O_DIRECT);
    ctx = setup2(65536, 0, 0);
    struct rlimit before, limit;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    limit = before;
    /* All that there are are below, but one, which the caller's eventfd takes. */
    limit.rlim_cur = (rlim_t)dup(device) + 2;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int i = 0; i < 500; i++) {
        submit_reads();
        CHECK_EQ(get_reads(), 0);
    }
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    const int64_t end = now_ns() + 40 * NSEC_PER_SEC;
    do {
        if (now_ns() > end)
            SKIP("reads of a loop device are not seen to wait here");
        submit_reads();
    } while (get_reads() == 0);
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    CHECK_EQ(write(ends[1], "0123456789abcdef", 16), 16);
    submit_reads();
    struct replaced all = { .end = ends[0] };
    CHECK_CMP(for_descriptors("anon_inode:", replace, &all), >, 0);
    get_reads();
    for (int i = 0; i < 200; i++) {
        submit_reads();
        get_reads();
    }
    CHECK_SOON(count_reapers() == 0);
    for (int i = 0; i < all.count; i++)
        CHECK_CMP(fcntl(all.kept[i], F_GETFD), >=, 0);
    CHECK_EQ(read(ends[0], seen, sizeof(seen)), 16);
    CHECK_MEM(seen, "0123456789abcdef", 16);
    /* And another, with what is told anew. */
    for (int i = 0; i < 50; i++) {
        submit_reads();
        get_reads();
    }
    /* An eventfd of the program's gets no completions of the library's. */
    do {
        submit_reads();
    } while (get_reads() == 0);
    struct replaced again = { .end = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
    CHECK_CMP(for_descriptors("anon_inode:[eventfd]", replace, &again), >, 0);
    for (int i = 0; i < 50; i++) {
        submit_reads();
        get_reads();
    }
    CHECK_EQ(read(again.end, seen, 8), -1);
    CHECK_EQ(errno, EAGAIN);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
