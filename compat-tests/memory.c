/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * memory DIRECTORY: bad pointers are -EFAULT, in whatever page they end and on whatever stack the caller runs: an iocb, a
 * pointer to it, vectors, events, a context's variable that cross the end of a mapping, are read-only or not aligned; a
 * coroutine's stack and a signal's, below a page that is not mapped. An iocb that is refused early keeps its key, as with the
 * kernel.
 */
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>
#include "must.h"

enum { PAGE = 4096, KEY = 0x5eed };

static io_context_t ctx;
static int fd;
static char buffer[PAGE];

/* Two pages, and one behind them that is not there. */
static char *two_pages(void)
{
    char *at = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    MUST(at != MAP_FAILED);
    MUST(mprotect(at + 2 * PAGE, PAGE, PROT_NONE) == 0);
    return at;
}

static int submit(void *iocb)
{
    struct iocb *list[1] = { iocb };

    return io_submit(ctx, 1, list);
}

static void reap(int n)
{
    struct io_event ev[8];

    MUST(io_getevents(ctx, n, n, ev, NULL) == n);
    for (int i = 0; i < n; i++)
        MUST((long)ev[i].res == PAGE);
}

/* Until so many events are in the ring. */
static void await(unsigned events)
{
    const struct {
        unsigned id, nr, head, tail;
    } *ring = (const void *)ctx;

    while ((__atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE) + ring->nr - ring->head) % ring->nr < events)
        sched_yield();
}

static void across_the_end(void)
{
    char *pages = two_pages(), *end = pages + 2 * PAGE;
    struct iocb good;
    struct iocb *to_good = &good;
    struct iovec vectors[2] = { { buffer, 100 }, { buffer + 100, PAGE - 100 } };
    struct io_event ev[2];
    io_context_t none = NULL, other;

    io_prep_pread(&good, fd, buffer, PAGE, 0);
    /* As much of it as there is room for. In the middle of the two pages all of it is there. */
    for (size_t there = 0; there <= sizeof(good); there++) {
        memset(pages, 0, 2 * PAGE);
        memcpy(end - there, &good, there);
        MUST(submit(end - there) == (there == sizeof(good) ? 1 : -EFAULT));
        memcpy(pages + PAGE - there, &good, sizeof(good));
        MUST(submit(pages + PAGE - there) == 1);
        reap(there == sizeof(good) ? 2 : 1);
    }
    for (size_t there = 0; there <= sizeof(to_good); there++) {
        memcpy(end - there, &to_good, there);
        MUST(io_submit(ctx, 1, (struct iocb **)(end - there)) == (there == sizeof(to_good) ? 1 : -EFAULT));
        memcpy(pages + PAGE - there, &to_good, sizeof(to_good));
        MUST(io_submit(ctx, 1, (struct iocb **)(pages + PAGE - there)) == 1);
        reap(there == sizeof(to_good) ? 2 : 1);
    }
    for (size_t there = 0; there <= sizeof(vectors); there++) {
        memcpy(end - there, vectors, there);
        io_prep_preadv(&good, fd, (struct iovec *)(end - there), 2, 0);
        MUST(submit(&good) == (there == sizeof(vectors) ? 1 : -EFAULT));
        memcpy(pages + PAGE - there, vectors, sizeof(vectors));
        io_prep_preadv(&good, fd, (struct iovec *)(pages + PAGE - there), 2, 0);
        MUST(submit(&good) == 1);
        reap(there == sizeof(vectors) ? 2 : 1);
    }
    for (size_t there = 0; there <= sizeof(none); there++) {
        memset(pages, 0, 2 * PAGE);
        MUST(io_setup(1, (io_context_t *)(end - there)) == (there == sizeof(none) ? 0 : -EFAULT));
        if (there == sizeof(none)) {
            memcpy(&other, end - there, sizeof(other));
            MUST(io_destroy(other) == 0);
        }
        memset(pages, 0, 2 * PAGE);
        MUST(io_setup(1, (io_context_t *)(pages + PAGE - there)) == 0);
        memcpy(&other, pages + PAGE - there, sizeof(other));
        MUST(io_destroy(other) == 0);
        /* One that is in use already. */
        memset(pages, 1, 2 * PAGE);
        MUST(io_setup(1, (io_context_t *)(pages + PAGE - there)) == -EINVAL);
    }
    /* Two events, and as much of the second as there is room for: then none is taken. */
    io_prep_pread(&good, fd, buffer, PAGE, 0);
    for (size_t there = 0; there <= 2 * sizeof(*ev); there++) {
        MUST(submit(&good) == 1 && submit(&good) == 1);
        /* If there is only one, it is taken. */
        await(2);
        if (there < 2 * sizeof(*ev)) {
            MUST(io_getevents(ctx, 2, 2, (struct io_event *)(end - there), NULL) == -EFAULT);
            MUST(io_getevents(ctx, 2, 2, (struct io_event *)(pages + PAGE - there), NULL) == 2);
            memcpy(ev, pages + PAGE - there, sizeof(ev));
        } else {
            MUST(io_getevents(ctx, 2, 2, (struct io_event *)(end - there), NULL) == 2);
            memcpy(ev, end - there, sizeof(ev));
        }
        MUST((long)ev[0].res == PAGE && ev[0].obj == &good && (long)ev[1].res == PAGE && ev[1].obj == &good);
    }
    /* A key. */
    for (size_t there = 0; there <= sizeof(good); there++) {
        memset(pages, 0, 2 * PAGE);
        MUST(io_cancel(ctx, (struct iocb *)(end - there), ev) == (there < 12 ? -EFAULT : -EINVAL));
    }
    /* After one that is wholly in the last page. */
    for (size_t there = 0; there < sizeof(good); there++) {
        struct iocb *list[2] = { (struct iocb *)(pages + PAGE), (struct iocb *)(end - there) };

        memcpy(pages + PAGE, &good, sizeof(good));
        memcpy(end - there, &good, there);
        MUST(io_submit(ctx, 2, list) == 1);
        reap(1);
    }
    MUST(submit((void *)(uintptr_t)-8) == -EFAULT && submit((void *)(uintptr_t)-1) == -EFAULT && submit(NULL) == -EFAULT);
    MUST(io_submit(ctx, 1, (struct iocb **)(uintptr_t)-4) == -EFAULT);
    MUST(io_cancel(ctx, (struct iocb *)(uintptr_t)-4, ev) == -EFAULT);
    MUST(munmap(pages, 3 * PAGE) == 0);
}

/* ---- An event that has no place, behind one that has been taken ---- */

static int later[2];
static const volatile unsigned *ring_head;
static unsigned head_before;

static void *when_one_is_taken(void *arg)
{
    while (*ring_head == head_before)
        usleep(100);
    MUST(write(later[1], "x", 1) == 1);
    return arg;
}

static void second_has_no_place(void)
{
    char *pages = two_pages(), *end = pages + 2 * PAGE;
    struct iocb now, poll, *list[2] = { &now, &poll };
    struct io_event *one = (struct io_event *)end - 1, ev;
    pthread_t thread;

    MUST(pipe(later) == 0);
    io_prep_pread(&now, fd, buffer, PAGE, 0);
    io_prep_poll(&poll, later[0], POLLIN);
    /* The ring: id, nr, head, tail. */
    ring_head = (const volatile unsigned *)ctx + 2;
    head_before = *ring_head;
    MUST(io_submit(ctx, 2, list) == 2);
    MUST(pthread_create(&thread, NULL, when_one_is_taken, NULL) == 0);
    MUST(io_getevents(ctx, 2, 2, one, NULL) == 1);
    MUST(one->obj == &now && (long)one->res == PAGE);
    MUST(io_getevents(ctx, 1, 1, &ev, NULL) == 1);
    MUST(ev.obj == &poll && (long)ev.res & POLLIN);
    MUST(pthread_join(thread, NULL) == 0);
    close(later[0]);
    close(later[1]);
    MUST(munmap(pages, 3 * PAGE) == 0);
}

static void read_only(void)
{
    char *pages = two_pages();
    struct iocb *iocb = (struct iocb *)(pages + PAGE), good;

    /* The key of one is in the page that is read-only, the rest is not; then the rest of it. */
    for (int before = 0; before <= 16; before++) {
        struct iocb *across = (struct iocb *)(pages + PAGE - before);
        int key_is_bad = before < 12;
        uint32_t key = KEY;

        MUST(mprotect(pages, 2 * PAGE, PROT_READ | PROT_WRITE) == 0);
        io_prep_pread(&good, fd, buffer, PAGE, 0);
        memcpy((char *)&good + 8, &key, 4);
        memcpy(across, &good, sizeof(good));
        MUST(mprotect(pages + PAGE, PAGE, PROT_READ) == 0);
        MUST(submit(across) == (key_is_bad ? -EFAULT : 1));
        memcpy(&key, (char *)across + 8, 4);
        MUST(key == (key_is_bad ? KEY : 0));
        if (!key_is_bad)
            reap(1);
    }
    /* An iocb that is refused before its key is written stays as it is. */
    MUST(mprotect(pages, 2 * PAGE, PROT_READ | PROT_WRITE) == 0);
    io_prep_pread(iocb, -1, buffer, PAGE, 0);
    MUST(mprotect(pages, 2 * PAGE, PROT_READ) == 0);
    MUST(submit(iocb) == -EBADF);
    MUST(io_getevents(ctx, 0, 1, (struct io_event *)pages, &(struct timespec){ 0, 0 }) == 0);
    MUST(io_setup(1, (io_context_t *)(pages + 64)) == -EFAULT);
    io_prep_pread(&good, fd, buffer, PAGE, 0);
    MUST(submit(&good) == 1);
    MUST(io_getevents(ctx, 1, 1, (struct io_event *)pages, NULL) == -EFAULT);
    reap(1);
    /* One after the other: the result for a page holds neither for the next page, nor for the next call. */
    MUST(mprotect(pages, 2 * PAGE, PROT_READ | PROT_WRITE) == 0);
    io_prep_pread((struct iocb *)pages, fd, buffer, PAGE, 0);
    io_prep_pread(iocb, fd, buffer, PAGE, 0);
    MUST(mprotect(pages + PAGE, PAGE, PROT_READ) == 0);
    MUST(io_submit(ctx, 3, (struct iocb *[3]){ &good, (struct iocb *)pages, iocb }) == 2);
    reap(2);
    MUST(mprotect(pages, PAGE, PROT_READ) == 0);
    MUST(io_submit(ctx, 2, (struct iocb *[2]){ &good, (struct iocb *)pages }) == 1);
    reap(1);
    MUST(munmap(pages, 3 * PAGE) == 0);
}

/* What is submitted, and whether its key is 0 or as it was. */
static void key(int expected, int written, const char *what, struct iocb iocb)
{
    uint32_t after = KEY;
    int ret;

    memcpy((char *)&iocb + 8, &after, 4);
    ret = submit(&iocb);
    memcpy(&after, (char *)&iocb + 8, 4);
    if (ret != expected || after != (written ? 0 : KEY)) {
        fprintf(stderr, "%s: io_submit %d, key %x\n", what, ret, after);
        _exit(1);
    }
    if (ret == 1)
        reap(1);
}

static void keys(void)
{
    struct iocb good, bad;

    io_prep_pread(&good, fd, buffer, PAGE, 0);
    key(1, 1, "good", good);
    bad = good, bad.u.c.__pad3 = 1, key(-EINVAL, 0, "reserved", bad);
    bad = good, bad.u.c.nbytes = 1ul << 63, key(-EINVAL, 0, "bytes", bad);
    bad = good, bad.aio_fildes = -1, key(-EBADF, 0, "descriptor", bad);
    bad = good, io_set_eventfd(&bad, -1), key(-EBADF, 0, "no eventfd", bad);
    bad = good, io_set_eventfd(&bad, fd), key(-EINVAL, 0, "a file for an eventfd", bad);
    bad = good, bad.aio_lio_opcode = 77, key(-EINVAL, 1, "operation", bad);
    bad = good, bad.u.c.offset = -1, key(-EINVAL, 1, "offset", bad);
    bad = good, bad.aio_rw_flags = 1 << 30, key(-EOPNOTSUPP, 1, "flags", bad);
}

/* ---- Other stacks ---- */

/* On a stack that ends at `end`, with nothing behind it: data across its end. */
static void on_this_stack(char *end)
{
    char here = 0;
    struct iocb good;
    struct io_event *ev = (struct io_event *)(end - sizeof(*ev) - 8);

    MUST(&here < end && end - &here < 2 * PAGE);
    io_prep_pread(&good, fd, buffer, PAGE, 0);
    for (size_t there = 8; there < sizeof(good); there += 8)
        MUST(submit(end - there) == -EFAULT);
    MUST(io_submit(ctx, 1, (struct iocb **)end) == -EFAULT);
    MUST(io_submit(ctx, 1, (struct iocb **)(end - 4)) == -EFAULT);
    MUST(io_setup(1, (io_context_t *)(end + 8)) == -EFAULT);
    io_prep_preadv(&good, fd, (struct iovec *)(end - 8), 1, 0);
    MUST(submit(&good) == -EFAULT);
    io_prep_pread(&good, fd, buffer, PAGE, 0);
    MUST(submit(&good) == 1 && submit(&good) == 1);
    await(2);
    MUST(io_getevents(ctx, 2, 2, ev, NULL) == -EFAULT);
    MUST(io_getevents(ctx, 2, 2, (struct io_event *)end, NULL) == -EFAULT);
    reap(2);
    MUST(io_submit(ctx, 1, (struct iocb *[1]){ &good }) == 1);
    reap(1);
}

/* [a stack] [nothing] [the thread's own stack], so that the first lies where frames of the thread might. */
enum { STACK = 64 * PAGE, OWN = 16 * PAGE, SPARE = 256 };

static char *area, *coroutine_end;
static ucontext_t main_context, coroutine_context;

/* The last bytes before the end belong to no frame: they are written to. */
static void coroutine(void)
{
    on_this_stack(coroutine_end);
}

static void on_signal(int number)
{
    (void)number;
    on_this_stack(coroutine_end);
}

static void *thread(void *arg)
{
    struct sigaction act = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };
    stack_t stack = { .ss_sp = area, .ss_size = STACK - SPARE };

    (void)arg;
    MUST(getcontext(&coroutine_context) == 0);
    coroutine_context.uc_stack.ss_sp = area;
    coroutine_context.uc_stack.ss_size = STACK - SPARE;
    coroutine_context.uc_link = &main_context;
    makecontext(&coroutine_context, coroutine, 0);
    MUST(swapcontext(&main_context, &coroutine_context) == 0);

    MUST(sigaltstack(&stack, NULL) == 0 && sigaction(SIGUSR1, &act, NULL) == 0);
    MUST(pthread_kill(pthread_self(), SIGUSR1) == 0);
    stack.ss_flags = SS_DISABLE;
    MUST(sigaltstack(&stack, NULL) == 0);
    return NULL;
}

static void stacks(void)
{
    pthread_attr_t attr;
    pthread_t id;

    area = mmap(NULL, STACK + PAGE + OWN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(area != MAP_FAILED);
    coroutine_end = area + STACK;
    MUST(mprotect(coroutine_end, PAGE, PROT_NONE) == 0);
    MUST(pthread_attr_init(&attr) == 0);
    MUST(pthread_attr_setstack(&attr, coroutine_end + PAGE, OWN) == 0);
    MUST(pthread_create(&id, &attr, thread, NULL) == 0);
    MUST(pthread_join(id, NULL) == 0);
    MUST(munmap(area, STACK + PAGE + OWN) == 0);
}

int main(int argc, char **argv)
{
    char path[4096];
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {
        { "end", across_the_end }, { "second", second_has_no_place }, { "read-only", read_only }, { "keys", keys }, { "stacks", stacks },
    };

    MUST(argc >= 2);
    snprintf(path, sizeof(path), "%s/memory", argv[1]);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    MUST(fd >= 0 && write(fd, buffer, PAGE) == PAGE);
    MUST(io_setup(8, &ctx) == 0);
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++)
        if (argc < 4 || strcmp(argv[3], parts[i].name) == 0)
            parts[i].run();
    MUST(io_destroy(ctx) == 0);
    return 0;
}
