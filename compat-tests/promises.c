/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * promises DIRECTORY: what a program may expect because the kernel's AIO works in the thread that submits. A close gives locks and leases
 * back although events of its file were not taken yet; a seal holds for later requests only. A caller that wakes up for an event finds its
 * eventfd signalled. The program's actions at fork may use AIO. A submit needs little stack. A write of nothing sends an empty datagram, and
 * a userfaultfd can be read. A thread may be cancelled at any moment.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <libaio.h>
#include <limits.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <ucontext.h>
#include "must.h"
#include "submit.h"

enum { BLOCK = 4096, ROUNDS = 100, STACK = 8192 };

static char path[PATH_MAX];
static char block[BLOCK];
static io_context_t ctx;

static long event_of(io_context_t of)
{
    struct timespec limit = { 30, 0 };
    struct io_event event;

    MUST(io_getevents(of, 1, 1, &event, &limit) == 1);
    return (long)event.res;
}

static void write_block(io_context_t of, int fd)
{
    static struct iocb cb;
    struct iocb *one = &cb;

    io_prep_pwrite(&cb, fd, block, BLOCK, 0);
    submit_all(of, 1, &one);
}

static int open_file(void)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    MUST(fd >= 0);
    return fd;
}

/* The library is told of it by these functions. */
static void closes(void)
{
    for (int i = 0; i < fewer(ROUNDS); i++) {
        int fd = open_file(), other = open_file();

        MUST(flock(fd, LOCK_EX) == 0);
        write_block(ctx, fd);
        if (i % 2 == 0)
            MUST(close(fd) == 0);
        else
            MUST(dup2(0, fd) == fd);
        MUST(flock(other, LOCK_EX | LOCK_NB) == 0);
        MUST(close(other) == 0);
        MUST(event_of(ctx) == BLOCK);
        if (i % 2 != 0)
            MUST(close(fd) == 0);

        fd = open_file();
        write_block(ctx, fd);
        MUST(close(fd) == 0);
        MUST((other = open(path, O_RDONLY | O_CLOEXEC)) >= 0);
        MUST(fcntl(other, F_SETLEASE, F_RDLCK) == 0);
        MUST(close(other) == 0);
        MUST(event_of(ctx) == BLOCK);

        MUST((fd = memfd_create("sealed", MFD_ALLOW_SEALING | MFD_CLOEXEC)) >= 0);
        MUST(ftruncate(fd, BLOCK) == 0);
        write_block(ctx, fd);
        MUST(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0);
        MUST(event_of(ctx) == BLOCK);
        MUST(close(fd) == 0);
    }
}

/* A caller may also find an event that has just come, before its eventfd: the kernel's is not much faster. */
static void eventfds(void)
{
    int told = 0, fd = open_file(), eventfd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

    MUST(eventfd_ >= 0);
    for (int i = 0; i < ROUNDS; i++) {
        struct iocb cb, *one = &cb;
        uint64_t count;

        io_prep_pwrite(&cb, fd, block, BLOCK, 0);
        io_set_eventfd(&cb, eventfd_);
        submit_all(ctx, 1, &one);
        MUST(event_of(ctx) == BLOCK);
        told += read(eventfd_, &count, sizeof(count)) == sizeof(count);
        while (read(eventfd_, &count, sizeof(count)) == sizeof(count))
            ;
    }
    if (told < ROUNDS * 9 / 10) {
        fprintf(stderr, "the eventfd was signalled %d times of %d\n", told, ROUNDS);
        _exit(1);
    }
    MUST(close(eventfd_) == 0 && close(fd) == 0);
}

/* Set in the process that shall use AIO there. */
static bool at_prepare, in_parent, in_child;

static void use(bool *now)
{
    io_context_t own = NULL;
    int fd;

    if (!*now)
        return;
    fd = open_file();
    MUST(io_setup(1, &own) == 0);
    write_block(own, fd);
    MUST(event_of(own) == BLOCK);
    MUST(io_destroy(own) == 0 && close(fd) == 0);
    *now = false;
}

static void prepare(void)
{
    use(&at_prepare);
}

static void parent(void)
{
    use(&in_parent);
}

static void child(void)
{
    use(&in_child);
}

static void forks(void)
{
    bool *const when[] = { &at_prepare, &in_parent, &in_child };

    for (int i = 0; i < 3; i++) {
        pid_t pid;
        int status;

        *when[i] = true;
        if ((pid = fork()) == 0)
            /* It can use AIO as well. */
            exit((in_child = true, use(&in_child), 0));
        MUST(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
        in_child = false;
        MUST(!at_prepare && !in_parent);
    }
}

static ucontext_t main_context, coroutine;

static void in_coroutine(void)
{
    int fd = open_file();

    write_block(ctx, fd);
    MUST(event_of(ctx) == BLOCK);
    MUST(close(fd) == 0);
}

static void small_stack(void)
{
    char *pages = mmap(NULL, 2 * STACK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    MUST(pages != MAP_FAILED && mprotect(pages + STACK, STACK, PROT_READ | PROT_WRITE) == 0);
    MUST(getcontext(&coroutine) == 0);
    coroutine.uc_stack.ss_sp = pages + STACK;
    coroutine.uc_stack.ss_size = STACK;
    coroutine.uc_link = &main_context;
    makecontext(&coroutine, in_coroutine, 0);
    MUST(swapcontext(&main_context, &coroutine) == 0);
    MUST(munmap(pages, 2 * STACK) == 0);
}

static void nothing(void)
{
    const struct iovec vectors[2] = { { block, 0 }, { block + 1, 0 } };
    struct iocb cb, *one = &cb;
    int ends[2];

    MUST(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends) == 0);
    io_prep_pwritev(&cb, ends[0], vectors, 2, 0);
    submit_all(ctx, 1, &one);
    MUST(event_of(ctx) == 0);
    MUST(recv(ends[1], block, 1, MSG_DONTWAIT) == 0);
    MUST(close(ends[0]) == 0 && close(ends[1]) == 0);
}

static void faults(void)
{
    struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_EVENT_UNMAP };
    struct uffdio_register range = { .mode = UFFDIO_REGISTER_MODE_MISSING };
    struct iocb cb, *one = &cb;
    struct uffd_msg message;
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    char *page;

    if (fd < 0 || ioctl(fd, UFFDIO_API, &api) != 0)
        return;
    page = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(page != MAP_FAILED);
    range.range.start = (uintptr_t)page;
    range.range.len = BLOCK;
    MUST(ioctl(fd, UFFDIO_REGISTER, &range) == 0);
    io_prep_pread(&cb, fd, &message, sizeof(message), 0);
    submit_all(ctx, 1, &one);
    MUST(event_of(ctx) == -EAGAIN);
    MUST(close(fd) == 0);
}

/* Waits for an event that does not come, or goes on submitting. */
static void *cancelled(void *waits)
{
    int fd = open_file();

    MUST(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL) == 0);
    while (waits == NULL) {
        struct iocb cb, *one = &cb;
        struct io_event event;

        io_prep_pwrite(&cb, fd, block, BLOCK, 0);
        if (io_submit(ctx, 1, &one) == 1)
            io_getevents(ctx, 1, 1, &event, NULL);
    }
    for (;;) {
        struct io_event event;

        io_getevents(ctx, 1, 1, &event, NULL);
    }
    return NULL;
}

static void cancels(void)
{
    for (int i = 0; i < fewer(ROUNDS) / 5; i++) {
        struct timespec moment = { 0, 1000000 * (i % 5) }, none = { 0, 0 };
        struct io_event events[8];
        pthread_t thread;
        void *result;
        int fd = open_file();

        MUST(pthread_create(&thread, NULL, cancelled, i % 2 == 0 ? &moment : NULL) == 0);
        nanosleep(&moment, NULL);
        MUST(pthread_cancel(thread) == 0);
        MUST(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
        /* What it had submitted. */
        while (io_getevents(ctx, 0, 8, events, &none) > 0)
            ;
        nanosleep(&moment, NULL);
        io_getevents(ctx, 0, 8, events, &none);
        write_block(ctx, fd);
        MUST(event_of(ctx) == BLOCK);
        MUST(close(fd) == 0);
    }
}

int main(int argc, char **argv)
{
    MUST(argc >= 2);
    snprintf(path, sizeof(path), "%s/promises", argv[1]);
    /* Before the library's own, which come within these. */
    MUST(pthread_atfork(prepare, parent, child) == 0);
    MUST(io_setup(8, &ctx) == 0);
    if (is_set("REAL") || dlsym(RTLD_DEFAULT, "aio2_before_close") != NULL)
        closes();
    eventfds();
    forks();
    small_stack();
    nothing();
    faults();
    cancels();
    MUST(io_destroy(ctx) == 0);
    MUST(unlink(path) == 0);
    return 0;
}
