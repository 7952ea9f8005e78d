/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Requests of a context hang in the kernel: their buffers are not in memory, or their file system is frozen. Requests of another context
 * for another file, which the kernel carries out in the same queue, go on.
 */
/* needs: kernel queue */
/* needs: root */
#include "test.h"
#include "stress.h"
#include "device.h"
#include "frozen.h"
#include "uring.h"

#define PAGE 4096

static unsigned char *memory;
static io_context2_t hangs, other;
static sigset_t mask;

/* Gets the events of that many requests, all of which were carried out in full; how many of them by the kernel. */
static int get(io_context2_t ctx, size_t n, int64_t bytes)
{
    union routed_event events[DEPTH];
    int by_kernel = 0;

    while (n != 0) {
        /* With a mask the caller does not hand over by itself. */
        ssize_t got = io_pgetevents2(ctx, sizeof(events[0]), &events[0].event, sizeof(events), NULL, &mask);

        CHECK_CMP(got, >, 0);
        for (size_t i = 0; i < (size_t)got / sizeof(events[0]); i++, n--) {
            CHECK_EQ(events[i].event.res, bytes);
            by_kernel += is_kernels(route_of(&events[i].event));
        }
    }
    return by_kernel;
}

static void submit_reads(io_context2_t ctx, unsigned char *to, size_t apart)
{
    union routed iocbs[DEPTH];

    for (size_t i = 0; i < DEPTH; i++) {
        io_prep2_pread(&iocbs[i].iocb, device, to + i * apart, BLOCK, (int64_t)i * BLOCK * 3);
        ask_route(&iocbs[i].iocb);
    }
    submit_all(ctx, iocbs, sizeof(iocbs));
}

/* Until the kernel has carried out some of a batch. */
static void warm_up_reads(io_context2_t ctx)
{
    for (int64_t end = now_ns() + LIMIT_NS;;) {
        CHECK_CMP(now_ns(), <, end);
        submit_reads(ctx, memory, BLOCK);
        if (get(ctx, DEPTH, BLOCK) != 0)
            return;
    }
}

static void missing_memory(void)
{
    struct uffdio_api api = { .api = UFFD_API };
    struct uffdio_register range = { .mode = UFFDIO_REGISTER_MODE_MISSING };
    int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

    if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) != 0)
        SKIP("needs userfaultfd for faults in the kernel, and so root");
    range.range.len = DEPTH * PAGE;
    unsigned char *missing = mmap(NULL, range.range.len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(missing != MAP_FAILED);
    range.range.start = (uintptr_t)missing;
    CHECK_EQ(ioctl(uffd, UFFDIO_REGISTER, &range), 0);

    warm_up_reads(hangs);
    submit_reads(hangs, missing, PAGE);
    for (int i = 0; i < 20; i++)
        warm_up_reads(other);
    CHECK_EQ(ring_submitted(hangs) - ring_completed(hangs), DEPTH);
    CHECK_EQ(ioctl(uffd, UFFDIO_UNREGISTER, &range.range), 0);
    get(hangs, DEPTH, BLOCK);
    close(uffd);
    munmap(missing, DEPTH * PAGE);
}

/* Each goes to a place that was never written, so that the kernel has to wait within it. */
static void submit_writes(io_context2_t ctx, int fd, int64_t *at)
{
    union routed iocbs[DEPTH];

    for (size_t i = 0; i < DEPTH; i++, *at += 2 * PAGE) {
        io_prep2_pwrite(&iocbs[i].iocb, fd, memory + i * PAGE, PAGE, *at);
        ask_route(&iocbs[i].iocb);
    }
    submit_all(ctx, iocbs, sizeof(iocbs));
}

static void warm_up_writes(io_context2_t ctx, int fd, int64_t *at)
{
    for (int64_t end = now_ns() + LIMIT_NS;;) {
        CHECK_CMP(now_ns(), <, end);
        submit_writes(ctx, fd, at);
        if (get(ctx, DEPTH, PAGE) != 0)
            return;
    }
}

static void frozen_files(void)
{
    int frozen = openat(file_system, "frozen", O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
    int file = temp_file(0, O_DIRECT);
    int64_t at = 0, there = 0;

    CHECK(frozen >= 0);
    warm_up_writes(hangs, frozen, &there);
    warm_up_writes(other, file, &at);
    freeze();
    for (int i = 0; i < 3; i++)
        submit_writes(hangs, frozen, &there);
    for (int i = 0; i < 20; i++)
        warm_up_writes(other, file, &at);
    /* Nobody has thawed them. */
    CHECK_EQ(ring_submitted(hangs) - ring_completed(hangs), 3 * DEPTH);
    thaw();
    get(hangs, 3 * DEPTH, PAGE);
    close(frozen);
    close(file);
}

int main(void)
{
    void *at;

    CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
    CHECK_EQ(posix_memalign(&at, PAGE, FROZEN_BYTES), 0);
    memory = at;
    fill_pattern(memory, FROZEN_BYTES, 0, 1);
    make_device(memory);
    hangs = setup2(65536, 0, 0);
    other = setup2(65536, 0, 0);
    missing_memory();
    frozen_files();
    CHECK_EQ(CALL(io_destroy2(hangs)), 0);
    CHECK_EQ(CALL(io_destroy2(other)), 0);
    return 0;
}
