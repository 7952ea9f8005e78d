/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Requests that the kernel's AIO carries out for a worker (O_DIRECT on a slow device): the data is right, every request has one
 * event, and errors are those of pread and pwrite. Destroy, exit, fork, a limit of workers, and a descriptor that names
 * another file afterwards behave as with workers. The reaper ends if it has nothing to do. If the kernel's AIO is not available
 * (its limit is reached, or a seccomp filter), or not allowed (AIO2_ENGINE), it is not used, and all requests complete.
 */
/* needs: kernel queue */
/* needs: root */
#include "test.h"
#include "stress.h"
#include "device.h"
#include "filter.h"
#include <linux/aio_abi.h>
#include <linux/audit.h>
#include <stddef.h>

#define DEVICE_BYTES (8 * 1024 * 1024)
#define BLOCK 512
#define MANY 1000

static int device;

static unsigned char *direct_memory(size_t n)
{
    void *memory;

    CHECK_EQ(posix_memalign(&memory, 4096, n), 0);
    memset(memory, 0x33, n);
    return memory;
}

static void submit_reads(io_context2_t ctx, unsigned char *memory, size_t n, size_t at)
{
    static union routed iocbs[MANY];

    for (size_t i = 0; i < n; i++) {
        io_prep2_pread(&iocbs[i].iocb, device, memory + (at + i) * BLOCK, BLOCK, (int64_t)((at + i) * BLOCK));
        iocbs[i].iocb.data = at + i;
        ask_route(&iocbs[i].iocb);
    }
    submit_all(ctx, iocbs, n * sizeof(iocbs[0]));
}

/* Gets that many events of such reads; returns how many of them the kernel's AIO has carried out. */
static int get_all(io_context2_t ctx, size_t n, int64_t res)
{
    union routed_event events[32];
    int by_kernel = 0;

    while (n != 0) {
        size_t some = n < 32 ? n : 32;

        get_events(ctx, some, events, sizeof(events[0]) * some);
        for (size_t i = 0; i < some; i++) {
            CHECK_EQ(events[i].event.res, res);
            by_kernel += is_kernels(route_of(&events[i].event));
        }
        n -= some;
    }
    return by_kernel;
}

/* Requests go to the kernel from now on. */
static void warm_up(io_context2_t ctx)
{
    unsigned char *memory = direct_memory(32 * BLOCK);

    for (int tries = 0;; tries++) {
        CHECK_CMP(tries, <, 10000);
        submit_reads(ctx, memory, 32, 0);
        if (get_all(ctx, 32, BLOCK) != 0)
            break;
    }
    free(memory);
}

static void errors(io_context2_t ctx)
{
    unsigned char *memory = direct_memory(64 * BLOCK);
    int ends[2];

    for (int i = 0; i < 20; i++) {
        struct {
            void *buf;
            size_t n;
            int64_t offset, res;
        } odd[] = {
            { memory + 1, BLOCK, 0, 0 },
            { memory, BLOCK, 1, 0 },
            { memory, BLOCK - 1, 0, 0 },
            { (void *)8192, BLOCK, 0, 0 },
            { memory, BLOCK, DEVICE_BYTES, 0 },
            { memory, 4 * BLOCK, DEVICE_BYTES - BLOCK, 0 },
            { memory, BLOCK, -1, 0 },
            { memory, BLOCK, INT64_MAX - BLOCK, 0 },
            { memory, SIZE_MAX, 0, 0 },
        };
        enum { N = sizeof(odd) / sizeof(odd[0]) };
        union routed iocbs[N];
        union routed_event room;

        for (uint64_t j = 0; j < N; j++) {
            ssize_t res = pread(device, odd[j].buf, odd[j].n, odd[j].offset);

            odd[j].res = res < 0 ? -errno : res;
            io_prep2_pread(&iocbs[j].iocb, device, odd[j].buf, odd[j].n, odd[j].offset);
            iocbs[j].iocb.data = 100 + j;
            ask_route(&iocbs[j].iocb);
        }
        CHECK_EQ(odd[2].res, -EINVAL);
        CHECK_EQ(odd[3].res, -EFAULT);
        submit_reads(ctx, memory, 32, 0);
        submit_all(ctx, iocbs, sizeof(iocbs));
        for (size_t left = 32 + N; left != 0; left--) {
            get_events(ctx, 1, &room, sizeof(room));
            CHECK_EQ(room.event.res, room.event.data < 100 ? BLOCK : odd[room.event.data - 100].res);
        }
    }

    /* The number names a pipe now, which pread() does not read: a kernel AIO read would. */
    const int kept = fcntl(device, F_DUPFD_CLOEXEC, 3);
    CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
    CHECK_EQ(write(ends[1], memory, 4096), 4096);
    submit_reads(ctx, memory, 32, 0);
    get_all(ctx, 32, BLOCK);
    CHECK_EQ(dup3(ends[0], device, O_CLOEXEC), device);
    submit_reads(ctx, memory, 32, 0);
    get_all(ctx, 32, -ESPIPE);
    CHECK_EQ(dup3(kept, device, O_CLOEXEC), device);
    close(kept);
    close(ends[0]);
    close(ends[1]);
    free(memory);
}

/* Reads that follow each other, which are handed over together: one of them cannot be carried out, and the device ends within. */
static void runs(io_context2_t ctx)
{
    enum { N = 64, BAD = 21, LAST = 50 };
    unsigned char *memory = direct_memory(N * BLOCK);
    const int64_t first = DEVICE_BYTES - (LAST + 1) * BLOCK;

    for (int64_t at = first; at < DEVICE_BYTES; at += BLOCK) {
        memset(memory, (int)(at / BLOCK % 251), BLOCK);
        CHECK_EQ(pwrite(device, memory, BLOCK, at), BLOCK);
    }
    for (int i = 0; i < 50; i++) {
        struct iocb2 iocbs[N];

        memset(memory, 0xff, N * BLOCK);
        for (uint64_t j = 0; j < N; j++) {
            /* Half of the time, so that they also are carried out all together. */
            void *buf = j == BAD && i % 2 == 0 ? (void *)8192 : memory + j * BLOCK;

            io_prep2_pread(&iocbs[j], device, buf, BLOCK, first + (int64_t)j * BLOCK);
            iocbs[j].data = j;
        }
        submit_all(ctx, iocbs, sizeof(iocbs));
        for (int left = N; left != 0; left--) {
            struct io_event2 event;

            get_events(ctx, 1, &event, sizeof(event));
            if (event.data == BAD && i % 2 == 0) {
                CHECK_EQ(event.res, -EFAULT);
                continue;
            }
            CHECK_EQ(event.res, event.data <= LAST ? BLOCK : 0);
            for (size_t k = 0; k < BLOCK; k++)
                CHECK_EQ(memory[event.data * BLOCK + k], event.res == 0 ? 0xff : (first / BLOCK + (int64_t)event.data) % 251);
        }
        /* It has been refused: they are for the kernel again after a while. */
        for (int j = 0; j < 10; j++) {
            submit_reads(ctx, memory, 32, 0);
            get_all(ctx, 32, BLOCK);
        }
    }
    free(memory);
}

/* Contexts go while their requests are with the kernel; more are in flight than it takes. */
static void destroyed(void)
{
    unsigned char *memory = direct_memory(MANY * BLOCK);

    for (int i = 0; i < 20; i++) {
        io_context2_t ctx = setup2(65536, 0, 0), other = setup2(65536, 0, 2);

        submit_reads(ctx, memory, MANY, 0);
        submit_reads(other, memory, 100, 0);
        CHECK_EQ(CALL(io_destroy2(ctx)), 0);
        get_all(other, 100, BLOCK);
        CHECK_RING_DRAINED(other, 100);
        CHECK_EQ(CALL(io_destroy2(other)), 0);
    }
    free(memory);
}

static void children(io_context2_t ctx)
{
    unsigned char *memory = direct_memory(MANY * BLOCK);

    for (int i = 0; i < 10; i++) {
        submit_reads(ctx, memory, 200, 0);
        pid_t child = fork();
        if (child == 0) {
            /* A context of its own, and the requests in flight there at its end. */
            io_context2_t own = setup2(65536, 0, 0);

            submit_reads(own, memory, 500, 0);
            get_all(own, 100, BLOCK);
            exit(0);
        }
        wait_child(child);
        get_all(ctx, 200, BLOCK);
    }
    free(memory);
}

/* The same where the kernel's AIO cannot be had, or neither that nor io_uring (`none`). */
static void without(bool none)
{
    unsigned char *memory = direct_memory(32 * BLOCK);
    io_context2_t ctx = setup2(65536, 0, 0);

    device_random_io(ctx, device, DEVICE_BYTES, BLOCK, 32, 100, false, 3);
    for (int i = 0; i < 100; i++) {
        submit_reads(ctx, memory, 32, 0);
        CHECK(get_all(ctx, 32, BLOCK) == 0 || !none);
    }
    free(memory);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
}

static void without_limit(void)
{
    aio_context_t kernel = 0;

    /* All that the system has left: it comes back when this process ends. */
    for (unsigned n = 65536; n != 0;) {
        if (syscall(SYS_io_setup, n, &kernel) == 0)
            kernel = 0;
        else
            n /= 2;
    }
    without(false);
}

static void without_leave(void)
{
    filter_call(SYS_io_setup, SECCOMP_RET_KILL_PROCESS);
    without(true);
}

static void without_engine(void)
{
    CHECK_EQ(setenv("AIO2_ENGINE", "threads", 1), 0);
    without(true);
}

static void in_child(void (*what)(void))
{
    pid_t child = fork();

    if (child == 0) {
        what();
        exit(0);
    }
    wait_child(child);
}

int main(void)
{
    device = loop_open(temp_file(DEVICE_BYTES, 0), O_DIRECT);
    in_child(without_leave);
    close(device);
    device = loop_open(temp_file(DEVICE_BYTES, 0), O_DIRECT);
    in_child(without_engine);

    io_context2_t ctx = setup2(65536, 0, 0), bounded = setup2(65536, 0, 2);

    CHECK_EQ(ftruncate(device, 0), -1);
    warm_up(ctx);
    CHECK_CMP(pwrite(device, direct_memory(DEVICE_BYTES), DEVICE_BYTES, 0), ==, DEVICE_BYTES);
    errors(ctx);
    runs(ctx);
    destroyed();
    children(ctx);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);

    /* The rest checks what was read and written, on a device of zeros. */
    close(device);
    device = loop_open(temp_file(DEVICE_BYTES, 0), O_DIRECT);
    ctx = setup2(65536, 0, 0);
    warm_up(ctx);
    device_random_io(ctx, device, DEVICE_BYTES, BLOCK, 32, 300, false, 1);
    CHECK_RING_DRAINED(ctx, ring_submitted(ctx));
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    close(device);
    device = loop_open(temp_file(DEVICE_BYTES, 0), O_DIRECT);
    device_random_io(bounded, device, DEVICE_BYTES, BLOCK, MANY, 10, true, 2);
    CHECK_RING_DRAINED(bounded, ring_submitted(bounded));
    warm_up(bounded);
    CHECK_EQ(CALL(io_destroy2(bounded)), 0);
    CHECK_SOON(count_reapers() == 0);

    close(device);
    device = loop_open(temp_file(DEVICE_BYTES, 0), O_DIRECT);
    in_child(without_limit);
    return 0;
}
