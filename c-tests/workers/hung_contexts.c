/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * If the requests of many contexts hang, another context still has a worker for a read of another file. When the hanging requests
 * can continue, all of them complete, too.
 */
/* needs: root */
#include "test.h"
#include "stress.h"

enum { MOST = 40, EACH = 200, PAGE = 4096 };

static int uffd;
static int fd;
static char *missing;

/* Memory that is not there before it is released: a read into it hangs in the kernel, and nothing interrupts it. */
static void begin_hanging(size_t pages)
{
    struct uffdio_api api = { .api = UFFD_API };
    struct uffdio_register range = { .mode = UFFDIO_REGISTER_MODE_MISSING };

    uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) != 0)
        SKIP("needs userfaultfd for faults in the kernel, and so root");
    missing = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(missing != MAP_FAILED);
    range.range.start = (uintptr_t)missing;
    range.range.len = pages * PAGE;
    CHECK_EQ(ioctl(uffd, UFFDIO_REGISTER, &range), 0);
}

static void end_hanging(size_t pages)
{
    struct uffdio_range range = { .start = (uintptr_t)missing, .len = pages * PAGE };

    CHECK_EQ(ioctl(uffd, UFFDIO_UNREGISTER, &range), 0);
}

static void *submit_hanging(void *arg)
{
    io_context2_t ctx = setup2(0, 0, 0);
    size_t first = *(size_t *)arg;
    struct iocb2 iocbs[EACH];

    for (size_t i = 0; i < EACH; i++)
        io_prep2_pread(&iocbs[i], fd, missing + (first + i) * PAGE, 1, 0);
    submit_all(ctx, iocbs, sizeof(iocbs));
    return ctx;
}

static void check(size_t contexts)
{
    static io_context2_t hanging[MOST];
    int other = temp_pattern_file(PAGE, 2, 0);
    char buf[16];

    begin_hanging(contexts * EACH);
    for (size_t i = 0; i < contexts; i++) {
        size_t first = i * EACH;

        hanging[i] = submit_hanging(&first);
    }
    /* Each has one that hangs, at least. */
    CHECK_SOON(count_workers_in(SYS_pread64) >= (int)contexts);
    for (int i = 0; i < 20; i++) {
        io_context2_t ctx = setup2(0, 0, 0);
        struct iocb2 iocb;

        /* And whatever they can get. */
        if (i == 10)
            sleep_ms(1000);
        memset(buf, 0, sizeof(buf));
        io_prep2_pread(&iocb, other, buf, sizeof(buf), 16 * i);
        submit_one(ctx, &iocb);
        CHECK_SOON(ring_completed(ctx) == 1);
        CHECK_PATTERN(buf, sizeof(buf), (uint64_t)(16 * i), 2);
        CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    }
    for (size_t i = 0; i < contexts; i++)
        CHECK_CMP(ring_completed(hanging[i]), <, EACH);
    end_hanging(contexts * EACH);
    for (size_t i = 0; i < contexts; i++) {
        CHECK_SOON(ring_completed(hanging[i]) == EACH);
        CHECK_EQ(CALL(io_destroy2(hanging[i])), 0);
    }
    close(uffd);
    close(other);
    munmap(missing, contexts * EACH * PAGE);
}

int main(void)
{
    if (access("/proc/self/syscall", R_OK) != 0)
        SKIP("this kernel does not show /proc/self/syscall");
    fd = memfd_create("hang", MFD_CLOEXEC);
    CHECK_EQ(pwrite(fd, "x", 1, 0), 1);
    check(1);
    check(3);
    check(MOST);
    return 0;
}
