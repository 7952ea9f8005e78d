/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The memory for events is not there before a thread of the program's has brought it (userfaultfd(2)), and that thread uses the context
 * first. It does not wait for the caller that takes events there, in the ring or on the overflow list.
 */
/* needs: root */
#include "test.h"

enum { PAGE = 4096 };

static io_context2_t ctx;
static int faults;

static void *bring(void *arg)
{
    static char page[PAGE] __attribute__((aligned(PAGE)));
    struct uffd_msg fault;

    for (;;) {
        struct uffdio_copy copy = { .src = (uintptr_t)page, .len = PAGE };
        struct iocb2 iocb;

        CHECK_EQ(read(faults, &fault, sizeof(fault)), sizeof(fault));
        io_prep2_nop(&iocb);
        submit_one(ctx, &iocb);
        copy.dst = fault.arg.pagefault.address & ~(uint64_t)(PAGE - 1);
        CHECK_EQ(ioctl(faults, UFFDIO_COPY, &copy), 0);
    }
    return arg;
}

static void take(bool overflows)
{
    char *memory = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct uffdio_register absent = { .range = { (uintptr_t)memory, 2 * PAGE }, .mode = UFFDIO_REGISTER_MODE_MISSING };
    static union event_room room;
    struct iocb2 iocb;
    int taken = 0, all = 0;

    CHECK(memory != MAP_FAILED);
    CHECK_EQ(ioctl(faults, UFFDIO_REGISTER, &absent), 0);
    io_prep2_nop(&iocb);
    do {
        submit_one(ctx, &iocb);
        all++;
    } while (all < 10 || (overflows && !io_ring2_overflowed(ctx)));
    /* Only the list is left: it is copied under the lock. */
    while (overflows && io_ring2_reap(ctx, &room.event, sizeof(room)) > 0)
        taken++;
    while (taken < all) {
        ssize_t bytes = CALL(io_getevents2(ctx, 1, (struct io_event2 *)(void *)memory, 2 * PAGE, NULL));

        CHECK_CMP(bytes, >, 0);
        taken += (int)(bytes / (ssize_t)sizeof(struct io_event2));
    }
    while (io_ring2_reap(ctx, &room.event, sizeof(room)) > 0)
        ;
    CHECK_EQ(munmap(memory, 2 * PAGE), 0);
}

int main(void)
{
    struct uffdio_api api = { .api = UFFD_API };
    pthread_t thread;

    faults = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    if (faults < 0 || ioctl(faults, UFFDIO_API, &api) != 0)
        SKIP("there is no userfaultfd");
    ctx = setup2(PAGE, 0, 0);
    CHECK_EQ(pthread_create(&thread, NULL, bring, NULL), 0);
    take(false);
    take(true);
    return 0;
}
