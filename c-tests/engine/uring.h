/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Reads of a device that waits, by workers. Included after test.h, stress.h and device.h. */
#ifndef AIO2_URING_H
#define AIO2_URING_H

#include <linux/io_uring.h>

#define BLOCK 512
#define DEPTH 32
#define LIMIT_NS (40 * NSEC_PER_SEC)

/* Whether io_uring can be had as the library needs it: IORING_FEAT_LINKED_FILE, Linux 5.18. */
static TEST_UNUSED bool has_io_uring(void)
{
    struct io_uring_params params;
    long fd;

    memset(&params, 0, sizeof(params));
    fd = syscall(SYS_io_uring_setup, 4, &params);
    if (fd < 0)
        return false;
    close((int)fd);
    return (params.features & 1u << 12) != 0;
}

/* Makes DEPTH of them; returns a bit for each route (IOCB_ROUTE_*) that one took. */
static TEST_UNUSED unsigned routes_of_reads(io_context2_t ctx, int fd, unsigned char *memory)
{
    union routed_event events[DEPTH];
    union routed iocbs[DEPTH];
    unsigned routes = 0;
    sigset_t mask;

    CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
    for (int i = 0; i < DEPTH; i++) {
        io_prep2_pread(&iocbs[i].iocb, fd, memory + i * BLOCK, BLOCK, (int64_t)i * BLOCK * 3);
        ask_route(&iocbs[i].iocb);
    }
    submit_all(ctx, iocbs, sizeof(iocbs));
    for (size_t left = DEPTH; left != 0;) {
        /* With a mask the caller does not hand over by itself. */
        ssize_t got = io_pgetevents2(ctx, sizeof(events[0]), &events[0].event, sizeof(events), NULL, &mask);

        CHECK_CMP(got, >, 0);
        for (size_t i = 0; i < (size_t)got / sizeof(events[0]); i++, left--) {
            CHECK_EQ(events[i].event.res, BLOCK);
            routes |= 1u << route_of(&events[i].event).route;
        }
    }
    return routes;
}

/*
 * A process with this AIO2_ENGINE (NULL: none) has the kernel carry its requests out in this way (IOCB_ROUTE_KERNEL_AIO,
 * IOCB_ROUTE_IO_URING), and in no other; or in neither (IOCB_ROUTE_THREAD). `before` is called first.
 */
static TEST_UNUSED void expect_engine(const char *engine, uint32_t route, int fd, unsigned char *memory, void (*before)(void))
{
    const unsigned kernels = 1u << IOCB_ROUTE_KERNEL_AIO | 1u << IOCB_ROUTE_IO_URING;
    unsigned seen = 0;
    pid_t child = fork();

    if (child == 0) {
        if (before != NULL)
            before();
        if (engine == NULL)
            unsetenv("AIO2_ENGINE");
        else
            CHECK_EQ(setenv("AIO2_ENGINE", engine, 1), 0);
        io_context2_t ctx = setup2(65536, 0, 0);
        if (route == IOCB_ROUTE_THREAD) {
            for (int i = 0; i < 500; i++)
                seen |= routes_of_reads(ctx, fd, memory);
        } else {
            for (int64_t end = now_ns() + LIMIT_NS; (seen & kernels) == 0;) {
                CHECK_CMP(now_ns(), <, end);
                seen |= routes_of_reads(ctx, fd, memory);
            }
        }
        CHECK_EQ(seen & kernels, route == IOCB_ROUTE_THREAD ? 0 : 1u << route);
        CHECK_EQ(CALL(io_destroy2(ctx)), 0);
        exit(0);
    }
    wait_child(child);
}

#endif
