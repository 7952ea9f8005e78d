/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A sandbox refuses process_vm_readv(2), or ends a process that calls it. A request LINKed to a vectored read or write that
 * moved every byte is still carried out. A request LINKed to one that moved fewer bytes or has a bad vector is cancelled. CACHE
 * answers for a vectored read, and io_destroy2() unmaps the ring.
 */
#include "test.h"
#include "stress.h"
#include "filter.h"

#define PARTS 40
#define PART 100

static io_context2_t ctx;
static char buffer[PARTS * PART];

/* The request, and one LINKed to it: their results. */
static void linked(struct iocb2 *iocb, int64_t first, int64_t second)
{
    _Alignas(8) char records[512];
    struct iocb2 *record = (struct iocb2 *)records;
    struct iocb_attr link = { .bytes = sizeof(link), .id = IOCB_ATTR_LINK, .flags = 0, .cookie = 0 };
    struct iocb2 nop;
    _Alignas(8) char events[512];
    size_t n;

    memcpy(records, iocb, sizeof(*iocb));
    record->data = 1;
    memcpy(records + sizeof(*iocb), &link, sizeof(link));
    record->bytes = sizeof(*iocb) + sizeof(link);
    io_prep2_nop(&nop);
    nop.data = 2;
    n = record->bytes;
    memcpy(records + n, &nop, sizeof(nop));
    submit_all(ctx, records, n + sizeof(nop));
    get_events(ctx, 2, events, sizeof(events));
    const struct io_event2 *event = (struct io_event2 *)events;
    CHECK_EQ(event->data, 1);
    CHECK_EQ(event->res, first);
    event = io_event2_next(event);
    CHECK_EQ(event->data, 2);
    CHECK_EQ(event->res, second);
}

static void cache_answers(int fd, struct iovec *iov)
{
    _Alignas(8) char record[256];
    _Alignas(8) char room[256];
    struct iocb2 *iocb = (struct iocb2 *)record;
    struct io_event2 *event = (struct io_event2 *)room;
    struct iocb_attr cache = { .bytes = sizeof(cache), .id = IOCB_ATTR_CACHE, .flags = 0, .cookie = 0 };

    io_prep2_preadv2(iocb, fd, iov, PARTS, 0, 0);
    memcpy(record + sizeof(*iocb), &cache, sizeof(cache));
    iocb->bytes = sizeof(*iocb) + sizeof(cache);
    submit_all(ctx, iocb, iocb->bytes);
    get_events(ctx, 1, event, sizeof(room));
    CHECK_EQ(event->res, PARTS * PART);
    const struct iocb_attr_ret *ret = io_event2_attr(event, IOCB_ATTR_CACHE);
    CHECK(ret != NULL);
    CHECK_EQ(ret->ret, 0);
}

static void __attribute__((noreturn)) run(uint32_t action)
{
    static struct iovec iov[PARTS];
    struct iovec *edge;
    struct iocb2 iocb;
    int fd;

    filter_call(SYS_process_vm_readv, action);
    fd = temp_pattern_file(PARTS * PART, 1, 0);
    ctx = setup2(0, 0, 0);
    for (int i = 0; i < PARTS; i++)
        iov[i] = (struct iovec){ buffer + i * PART, PART };

    io_prep2_preadv2(&iocb, fd, iov, PARTS, 0, 0);
    linked(&iocb, PARTS * PART, 0);
    io_prep2_syscall(&iocb, SYS_preadv, (uint64_t)fd, (uintptr_t)iov, PARTS, 0, 0, 0);
    linked(&iocb, PARTS * PART, 0);
    CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
    io_prep2_syscall(&iocb, SYS_readv, (uint64_t)fd, (uintptr_t)iov, PARTS, 0, 0, 0);
    linked(&iocb, PARTS * PART, 0);
    io_prep2_pwritev2(&iocb, fd, iov, PARTS, 0, 0);
    linked(&iocb, PARTS * PART, 0);
    /* The file ends within it. */
    io_prep2_preadv2(&iocb, fd, iov, PARTS, PART + 7, 0);
    linked(&iocb, PARTS * PART - PART - 7, -ECANCELED);
    /* Vectors at the end of what is mapped, and beyond. */
    edge = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(edge != MAP_FAILED);
    CHECK_EQ(munmap((char *)edge + 4096, 4096), 0);
    edge += 4096 / sizeof(*edge) - 2;
    edge[0] = iov[0];
    edge[1] = iov[1];
    io_prep2_preadv2(&iocb, fd, edge, 2, 0, 0);
    linked(&iocb, 2 * PART, 0);
    io_prep2_preadv2(&iocb, fd, edge, 3, 0, 0);
    linked(&iocb, -EFAULT, -ECANCELED);
    cache_answers(fd, iov);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    close(fd);
    exit(0);
}

int main(void)
{
    const uint32_t actions[] = { SECCOMP_RET_ERRNO | EPERM, SECCOMP_RET_ERRNO | ENOSYS, SECCOMP_RET_KILL_PROCESS };

    for (int i = 0; i < 3; i++) {
        fflush(NULL);
        pid_t child = fork();

        if (child == 0)
            run(actions[i]);
        wait_child(child);
    }
    return 0;
}
