/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Prints libaio's answers, a line a case. The same library always prints the same: this runs with the real libaio and
 * with ours, and diff.sh compares the outputs.
 *
 *     diff PART DIR TMPFS_DIR [BLOCKDEV]
 *
 * Each section runs in a child of its own, which a crash or a hang ends without harm to the others. The parent
 * never uses the library. Nothing here depends on how long I/O takes or in which order it ends.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "now.h"

#ifndef RWF_HIPRI
#define RWF_HIPRI 1
#define RWF_DSYNC 2
#define RWF_SYNC 4
#define RWF_NOWAIT 8
#define RWF_APPEND 16
#endif

static const char *dir, *tmpfs_dir, *blockdev;

/* ---- Printing --------------------------------------------------------------------------------- */

static const char *code(long res)
{
    static char text[8][32];
    static int next;
    char *to = text[next = (next + 1) % 8];

    if (res >= 0 || res < -4095)
        snprintf(to, sizeof(text[0]), "%ld", res);
    else
        snprintf(to, sizeof(text[0]), "-%s", strerrorname_np((int)-res) ? strerrorname_np((int)-res) : "?");
    return to;
}

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}

/* The arguments after the first depend on what it does. */
#define say_first(format, first, ...)                                                                                  \
    do {                                                                                                               \
        __auto_type first_ = (first);                                                                                  \
        say(format, first_, __VA_ARGS__);                                                                              \
    } while (0)

__attribute__((noreturn)) static void broken(int line, const char *what)
{
    say("THE TEST ITSELF FAILS at line %d: %s: %s", line, what, strerror(errno));
    exit(3);
}
#define MUST(x)                                                                                                        \
    do {                                                                                                               \
        if (!(x))                                                                                                      \
            broken(__LINE__, #x);                                                                                      \
    } while (0)

/*
 * A call that ends by itself after so many ms: what it returned and whether it took that long. Never less, however busy the
 * machine. It may well be late on a busy one; but not each time.
 */
#define TIMED(ms, call)                                                                                                \
    ({                                                                                                                 \
        static char timed_[64];                                                                                        \
        double took_, least_ = (ms) / 1e3;                                                                             \
        long ret_;                                                                                                     \
                                                                                                                       \
        for (int try_ = 0; try_ < 6; try_++) {                                                                         \
            double began_ = now();                                                                                     \
                                                                                                                       \
            ret_ = (call);                                                                                             \
            took_ = now() - began_;                                                                                    \
            if (took_ < least_ + 0.15)                                                                                 \
                break;                                                                                                 \
        }                                                                                                              \
        snprintf(timed_, sizeof(timed_), "%s %s", code(ret_), took_ < least_ ? "TOO EARLY" : took_ < least_ + 0.15 ? "in time" : "LATE"); \
        timed_;                                                                                                        \
    })

/* Waits until a thread of this process sleeps in a call, which it may be about to make, or has said that it is over. */
static void until_asleep(pid_t tid, const volatile bool *over)
{
    char name[64], line[512];

    snprintf(name, sizeof(name), "/proc/%d/task/%d/stat", (int)getpid(), (int)tid);
    for (int seen = 0; seen < 5 && !(over && *over); usleep(4000)) {
        int fd = open(name, O_RDONLY);
        ssize_t n = fd >= 0 ? read(fd, line, sizeof(line) - 1) : -1;
        char *state;

        /* It may just have ended. */
        MUST(n > 0 || (over && (errno == ENOENT || errno == ESRCH)));
        if (fd >= 0)
            close(fd);
        if (n <= 0)
            continue;
        line[n] = 0;
        state = strrchr(line, ')');
        seen = state && state[1] && state[2] == 'S' ? seen + 1 : 0;
    }
}

/* ---- Files ------------------------------------------------------------------------------------ */

#define KB 1024
static char *path_in(const char *in, const char *name)
{
    char *path;

    MUST(asprintf(&path, "%s/%s", in, name) > 0);
    return path;
}

/* A new file of `size` bytes of a pattern, open with `flags`. */
static int file_in(const char *in, const char *name, size_t size, int flags)
{
    char *path = path_in(in, name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

    MUST(fd >= 0);
    for (size_t at = 0; at < size;) {
        char block[4096];
        size_t n = size - at < sizeof(block) ? size - at : sizeof(block);

        for (size_t i = 0; i < n; i++)
            block[i] = (char)('a' + (at + i) / 512 % 26);
        MUST(write(fd, block, n) == (ssize_t)n);
        at += n;
    }
    if (flags & O_DIRECT)
        MUST(fsync(fd) == 0);
    close(fd);
    fd = open(path, flags, 0600);
    MUST(fd >= 0);
    free(path);
    return fd;
}

static int file(size_t size, int flags)
{
    static int n;
    char name[32];

    snprintf(name, sizeof(name), "file-%d", n++);
    return file_in(dir, name, size, flags);
}

/* Page-aligned, of pages of its own, filled. */
static char *buffer(size_t size, char with)
{
    char *buf = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    MUST(buf != MAP_FAILED);
    memset(buf, with, size);
    return buf;
}

static void *bad_pointer(void)
{
    void *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    MUST(page != MAP_FAILED);
    return page;
}

static unsigned sum(const char *buf, size_t size)
{
    unsigned s = 2166136261u;

    for (size_t i = 0; i < size; i++)
        s = (s ^ (unsigned char)buf[i]) * 16777619u;
    return (s >> 16 ^ s) & 0xffff;
}

static unsigned file_sum(int fd, long long *size)
{
    char name[64], *buf;
    struct stat st;
    unsigned s;
    int other;

    MUST(fstat(fd, &st) == 0);
    *size = st.st_size;
    snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
    other = open(name, O_RDONLY);
    MUST(other >= 0);
    buf = malloc((size_t)st.st_size + 1);
    MUST(pread(other, buf, (size_t)st.st_size, 0) == st.st_size);
    s = sum(buf, (size_t)st.st_size);
    free(buf);
    close(other);
    return s;
}

static void say_file(const char *label, int fd)
{
    long long size;
    unsigned s = file_sum(fd, &size);

    say("%s: size %lld, sum %04x", label, size, s);
}

/* ---- Requests --------------------------------------------------------------------------------- */

static io_context_t ctx;

static void setup(void)
{
    ctx = NULL;
    MUST(io_setup(64, &ctx) == 0);
}

/* Waits until there are at least so many events in the ring: none is taken. */
static void arrived(unsigned n)
{
    const volatile unsigned *ring = (const volatile unsigned *)ctx;

    for (double end = now() + 20; (ring[3] + ring[1] - ring[2]) % ring[1] < n && now() < end;)
        usleep(2000);
    usleep(2000);
}

/* Reads from an eventfd that does not wait until the sum is `n`, and then any excess. */
static int eventfd_sum(int fd, int n)
{
    int sum = 0, idle = 0;

    for (double end = now() + 20; now() < end && idle < 10;) {
        eventfd_t value;

        if (eventfd_read(fd, &value) == 0) {
            sum += (int)value;
        } else {
            idle += sum >= n;
            usleep(2000);
        }
    }
    return sum;
}

/* What poll says of the writing end of a pipe, when the reading one has gone: by and by, if a request may still have it. */
static int writer_without_reader(int fd)
{
    struct pollfd pfd = { .fd = fd };

    poll(&pfd, 1, 100000);
    pfd.events = POLLOUT;
    poll(&pfd, 1, 0);
    return pfd.revents;
}

/* From a pipe that does not wait, when its end is expected by and by. */
static ssize_t read_end(int fd, char *buf, size_t n)
{
    ssize_t got;

    for (double end = now() + 20; (got = read(fd, buf, n)) == -1 && errno == EAGAIN && now() < end;)
        usleep(2000);
    return got;
}

static int submit(struct iocb *cb)
{
    struct iocb *list[1] = { cb };

    return io_submit(ctx, 1, list);
}

/* Up to `n` events, in the order of `data`: those that come within ten seconds, and are expected. */
static int gather(int n, struct io_event *events)
{
    int have = 0;

    while (have < n) {
        struct timespec t = { 10, 0 };
        int got = io_getevents(ctx, 1, n - have, events + have, &t);

        if (got == -EINTR)
            continue;
        if (got <= 0) {
            if (got < 0)
                say("  io_getevents: %s", code(got));
            break;
        }
        have += got;
    }
    for (int i = 0; i < have; i++)
        for (int j = i + 1; j < have; j++)
            if (events[j].data < events[i].data) {
                struct io_event e = events[i];
                events[i] = events[j];
                events[j] = e;
            }
    return have;
}

/* One request from submit to its event, and what both said. Returns res, or LONG_MIN. */
__attribute__((format(printf, 2, 3))) static long one(struct iocb *cb, const char *format, ...)
{
    char label[256];
    struct io_event ev[2];
    va_list args;
    int ret, n;

    va_start(args, format);
    vsnprintf(label, sizeof(label), format, args);
    va_end(args);
    if (cb->data == NULL)
        cb->data = (void *)0x123456789abcdefUL;
    memset(ev, 0x55, sizeof(ev));
    cb->key = 0x5eed;
    ret = submit(cb);
    if (ret != 1) {
        say("%s: submit %s", label, code(ret));
        /* The kernel writes a 0 to it when it has found the descriptors, and not before. */
        if (cb->key != 0)
            say("  key %x", cb->key);
        return LONG_MIN;
    }
    n = gather(1, ev);
    if (n != 1) {
        say("%s: submitted, %d events", label, n);
        /* It may still come, where nobody expects it. */
        setup();
        return LONG_MIN;
    }
    say("%s: res %s%s%s%s", label, code((long)ev[0].res), ev[0].res2 ? " RES2" : "",
        ev[0].obj == cb ? "" : " OBJ", ev[0].data == cb->data ? "" : " DATA");
    return (long)ev[0].res;
}

static struct iocb raw(int op, int fd, void *buf, unsigned long n, long long off)
{
    struct iocb cb;

    memset(&cb, 0, sizeof(cb));
    cb.aio_lio_opcode = (short)op;
    cb.aio_fildes = fd;
    cb.u.c.buf = buf;
    cb.u.c.nbytes = n;
    cb.u.c.offset = off;
    return cb;
}

static long run(const char *label, int op, int fd, void *buf, unsigned long n, long long off)
{
    struct iocb cb = raw(op, fd, buf, n, off);

    return one(&cb, "%s", label);
}

static long run_flags(const char *label, int op, int fd, void *buf, unsigned long n, long long off, int rw_flags)
{
    struct iocb cb = raw(op, fd, buf, n, off);

    cb.aio_rw_flags = (unsigned)rw_flags;
    return one(&cb, "%s, rw_flags %#x", label, rw_flags);
}

/* ---- Sections: the calls' own arguments ------------------------------------------------------- */

static void setup_arguments(void)
{
    io_context_t c;
    static const int sizes[] = { 0, -1, INT_MIN, INT_MAX, 0x10000000, 1 };

    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        c = NULL;
        int ret = io_setup(sizes[i], &c);
        say("io_setup(%d): %s, ctx %s", sizes[i], code(ret), c == NULL ? "NULL" : "set");
        if (ret == 0)
            say("io_destroy: %s", code(io_destroy(c)));
    }
    c = (io_context_t)0x1234;
    say("io_setup with ctx set: %s, ctx %s", code(io_setup(1, &c)), c == (io_context_t)0x1234 ? "kept" : "changed");
    say("io_setup(0) with ctx set: %s", code(io_setup(0, &c)));
    say("io_setup with NULL: %s", code(io_setup(1, NULL)));
    say("io_setup with a bad pointer: %s", code(io_setup(1, bad_pointer())));
    io_context_t *rdonly = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    say("io_setup with a read-only pointer: %s", code(io_setup(1, rdonly)));
    c = NULL;
    say("io_queue_init(0): %s", code(io_queue_init(0, &c)));
    say("io_queue_init(-1): %s", code(io_queue_init(-1, &c)));
    c = (io_context_t)0x1234;
    say("io_queue_init(8), ctx not zero: %s", code(io_queue_init(8, &c)));
    say("io_queue_release: %s", code(io_queue_release(c)));
    say("io_queue_release again: %s", code(io_queue_release(c)));
}

static void destroy_arguments(void)
{
    io_context_t c = NULL;

    say("io_destroy(NULL): %s", code(io_destroy(NULL)));
    say("io_destroy(1): %s", code(io_destroy((io_context_t)1)));
    say("io_destroy(-1): %s", code(io_destroy((io_context_t)-1)));
    say("io_destroy(PROT_NONE): %s", code(io_destroy(bad_pointer())));
    say("io_destroy(zeroes): %s", code(io_destroy((io_context_t)buffer(4096, 0))));
    MUST(io_setup(4, &c) == 0);
    say("io_destroy(ctx + 8): %s", code(io_destroy((io_context_t)((char *)c + 8))));
    say("io_destroy: %s", code(io_destroy(c)));
    say("io_destroy again: %s", code(io_destroy(c)));
    say("io_submit of 0 to a destroyed one: %s", code(io_submit(c, 0, NULL)));
    struct iocb cb = raw(0, 0, NULL, 0, 0);
    say("io_cancel on a destroyed one: %s", code(io_cancel(c, &cb, NULL)));
    c = NULL;
    MUST(io_setup(4, &c) == 0);
    MUST(io_destroy(c) == 0);
    c = NULL;
    say("io_setup after io_destroy: %s", code(io_setup(4, &c)));
}

static void submit_arguments(void)
{
    char *buf = buffer(4096, 'x');
    int fd = file(8192, O_RDWR);
    struct iocb good[4], *list[4];
    struct io_event ev[8];

    setup();
    for (int i = 0; i < 4; i++) {
        good[i] = raw(IO_CMD_PREAD, fd, buf + i * 512, 512, i * 512);
        good[i].data = (void *)(long)(i + 1);
        list[i] = &good[i];
    }
    say("io_submit(NULL ctx): %s", code(io_submit(NULL, 1, list)));
    say("io_submit(ctx 1): %s", code(io_submit((io_context_t)1, 1, list)));
    say("io_submit(ctx -1): %s", code(io_submit((io_context_t)-1, 1, list)));
    say("io_submit(ctx zeroes): %s", code(io_submit((io_context_t)buffer(4096, 0), 1, list)));
    say("io_submit nr 0: %s", code(io_submit(ctx, 0, list)));
    say("io_submit nr 0, NULL: %s", code(io_submit(ctx, 0, NULL)));
    say("io_submit nr 0, bad: %s", code(io_submit(ctx, 0, bad_pointer())));
    say("io_submit nr -1: %s", code(io_submit(ctx, -1, list)));
    say("io_submit nr LONG_MIN: %s", code(io_submit(ctx, LONG_MIN, list)));
    say("io_submit nr 0, bad ctx: %s", code(io_submit((io_context_t)1, 0, list)));
    say("io_submit nr -1, bad ctx: %s", code(io_submit((io_context_t)1, -1, list)));
    say("io_submit list NULL: %s", code(io_submit(ctx, 1, NULL)));
    say("io_submit list bad: %s", code(io_submit(ctx, 1, bad_pointer())));
    say("io_submit list (void *)-1: %s", code(io_submit(ctx, 1, (struct iocb **)-1)));
    say("io_submit list -8: %s", code(io_submit(ctx, 1, (struct iocb **)-8)));
    list[0] = NULL;
    say("io_submit iocb NULL: %s", code(io_submit(ctx, 1, list)));
    list[0] = bad_pointer();
    say("io_submit iocb bad: %s", code(io_submit(ctx, 1, list)));
    list[0] = (struct iocb *)-1;
    say("io_submit iocb -1: %s", code(io_submit(ctx, 1, list)));
    list[0] = (struct iocb *)0x7ffffffff000;
    say("io_submit iocb above the user's: %s", code(io_submit(ctx, 1, list)));
    list[0] = &good[0];

    /* The array ends with its page: nothing after what is needed may be read. */
    char *pages = buffer(8192, 0);
    MUST(mprotect(pages + 4096, 4096, PROT_NONE) == 0);
    struct iocb **edge = (struct iocb **)(pages + 4096 - sizeof(*edge));
    edge[0] = &good[0];
    say("io_submit nr 1 at the end of a page: %s", code(io_submit(ctx, 1, edge)));
    say("  events %d", gather(1, ev));
    say("io_submit nr 2 at the end of a page: %s", code(io_submit(ctx, 2, edge)));
    say("  events %d", gather(1, ev));
    edge--;
    edge[0] = &good[0];
    edge[1] = &good[1];
    say("io_submit nr LONG_MAX at the end of a page: %s", code(io_submit(ctx, LONG_MAX, edge)));
    say("  events %d", gather(2, ev));

    /* So does the iocb, and one lies across two pages of which the second is bad. */
    struct iocb *last = (struct iocb *)(pages + 4096 - sizeof(*last));
    *last = good[0];
    list[0] = last;
    say("iocb at the end of a page: %s", code(io_submit(ctx, 1, list)));
    say("  events %d", gather(1, ev));
    list[0] = (struct iocb *)(pages + 4096 - sizeof(*last) + 8);
    say("iocb across the end: %s", code(io_submit(ctx, 1, list)));
    /* Not aligned. */
    memcpy(pages + 3, &good[0], sizeof(good[0]));
    list[0] = (struct iocb *)(pages + 3);
    say("iocb not aligned: %s", code(io_submit(ctx, 1, list)));
    say("  events %d", gather(1, ev));
    /* The kernel writes the key. */
    struct iocb keyed = good[0];
    keyed.key = 77;
    list[0] = &keyed;
    say("iocb with a key: %s", code(io_submit(ctx, 1, list)));
    say_first("  events %d, key now %u", gather(1, ev), keyed.key);
    struct iocb *rdonly = (struct iocb *)buffer(4096, 0);
    *rdonly = good[0];
    MUST(mprotect(rdonly, 4096, PROT_READ) == 0);
    list[0] = rdonly;
    int taken = io_submit(ctx, 1, list);
    say("iocb read-only: %s", code(taken));
    say("  events %d", gather(taken == 1, ev));

    /* Partial. */
    for (int bad = 0; bad < 4; bad++) {
        for (int i = 0; i < 4; i++)
            list[i] = &good[i];
        int keep = good[bad].aio_fildes;
        good[bad].aio_fildes = -1;
        int ret = io_submit(ctx, 4, list);
        say("4 of which number %d is bad: %s", bad, code(ret));
        say("  events %d", gather(ret > 0 ? ret : 0, ev));
        good[bad].aio_fildes = keep;
        list[bad] = bad_pointer();
        ret = io_submit(ctx, 4, list);
        say("4 of which number %d points nowhere: %s", bad, code(ret));
        say("  events %d", gather(ret > 0 ? ret : 0, ev));
    }
    for (int i = 0; i < 4; i++)
        list[i] = &good[0];
    say("the same iocb four times: %s", code(io_submit(ctx, 4, list)));
    say("  events %d", gather(4, ev));
    say("io_destroy: %s", code(io_destroy(ctx)));
}

static void getevents_arguments(void)
{
    char *buf = buffer(4096, 'x');
    int fd = file(8192, O_RDWR), p[2];
    struct io_event ev[8], *rdonly = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct timespec shortly = { 0, 60000000 }, zero = { 0, 0 };
    struct iocb cb;

    setup();
    static const struct { long min, nr; } bounds[] = {
        { 0, 0 }, { 0, 1 }, { 1, 1 }, { 2, 1 }, { -1, 1 }, { 1, -1 }, { -1, -1 }, { 0, -1 }, { 1, 0 },
        { LONG_MIN, 1 }, { 0, LONG_MIN }, { 1, LONG_MAX }, { LONG_MAX, LONG_MAX }, { -5, -7 }, { -7, -5 },
    };
    for (size_t i = 0; i < sizeof(bounds) / sizeof(*bounds); i++) {
        /* It waits if it is asked for something that there may be. */
        int ms = bounds[i].min > 0 && bounds[i].min <= bounds[i].nr ? 60 : 0;
        say("empty, min %ld, nr %ld: %s", bounds[i].min, bounds[i].nr, TIMED(ms, io_getevents(ctx, bounds[i].min, bounds[i].nr, ev, &shortly)));
        say("  with no wait: %s", code(io_getevents(ctx, bounds[i].min, bounds[i].nr, ev, &zero)));
        say("  pgetevents: %s", TIMED(ms, io_pgetevents(ctx, bounds[i].min, bounds[i].nr, ev, &shortly, NULL)));
    }
    say("empty, no wait, NULL events: %s", code(io_getevents(ctx, 0, 1, NULL, &zero)));
    say("empty, min 0, no limit: %s", code(io_getevents(ctx, 0, 1, ev, NULL)));
    say("empty, min 0, nr 0, no limit: %s", code(io_getevents(ctx, 0, 0, NULL, NULL)));
    say("ctx NULL: %s", code(io_getevents(NULL, 1, 1, ev, &shortly)));
    say("ctx zeroes: %s", code(io_getevents((io_context_t)buffer(4096, 0), 1, 1, ev, &shortly)));
    say("ctx zeroes, no wait: %s", code(io_getevents((io_context_t)buffer(4096, 0), 1, 1, ev, &zero)));
    say("ctx zeroes, nr -1: %s", code(io_getevents((io_context_t)buffer(4096, 0), 1, -1, ev, &shortly)));
    say("pgetevents, ctx NULL: %s", code(io_pgetevents(NULL, 1, 1, ev, &shortly, NULL)));
    say("pgetevents, mask bad: %s", code(io_pgetevents(ctx, 1, 1, ev, &shortly, bad_pointer())));

    cb = raw(IO_CMD_PREAD, fd, buf, 512, 0);
    MUST(submit(&cb) == 1);
    arrived(1);
    say("one there, events NULL: %s", code(io_getevents(ctx, 1, 1, NULL, &shortly)));
    say("one there, events bad: %s", code(io_getevents(ctx, 1, 1, bad_pointer(), &shortly)));
    say("one there, events read-only: %s", code(io_getevents(ctx, 1, 1, rdonly, &shortly)));
    say("one there, events -1: %s", code(io_getevents(ctx, 1, 1, (struct io_event *)-1, &shortly)));
    say("one there, nr 0: %s", code(io_getevents(ctx, 0, 0, ev, &shortly)));
    double began = now();
    say_first("one there, min 2: %s %s", code(io_getevents(ctx, 2, 2, ev, &shortly)), now() - began < 0.06 ? "TOO EARLY" : "in time");
    say("none left: %s", code(io_getevents(ctx, 0, 1, ev, &zero)));

    /* Two there, room for one before a page that is not there. */
    char *pages = buffer(8192, 0);
    MUST(mprotect(pages + 4096, 4096, PROT_NONE) == 0);
    struct iocb two[2] = { cb, cb }, *list[2] = { &two[0], &two[1] };
    MUST(io_submit(ctx, 2, list) == 2);
    arrived(2);
    struct io_event *edge = (struct io_event *)(pages + 4096) - 1;
    say("two there, events across a bad page, nr 2: %s", code(io_getevents(ctx, 2, 2, edge, &shortly)));
    say("  left: %d", gather(2, ev));
    MUST(io_submit(ctx, 2, list) == 2);
    arrived(2);
    say("two there, room for one, nr 1: %s", code(io_getevents(ctx, 1, 1, edge, &shortly)));
    say("  left: %d", gather(1, ev));
    MUST(io_submit(ctx, 2, list) == 2);
    arrived(2);
    say("two there, min 0, nr 8, no limit: %s", code(io_getevents(ctx, 0, 8, ev, NULL)));
    MUST(io_submit(ctx, 2, list) == 2);
    say("two asked for, min 2, no limit: %s", code(io_getevents(ctx, 2, 8, ev, NULL)));

    MUST(pipe(p) == 0);
    say("io_destroy: %s", code(io_destroy(ctx)));
    say("afterwards: %s", code(io_pgetevents(NULL, 1, 1, ev, &shortly, NULL)));
}

static void timeout_bad_pointer(void)
{
    struct io_event ev;

    setup();
    say("timeout pointer bad: %s", code(io_getevents(ctx, 1, 1, &ev, bad_pointer())));
}

static void getevents_garbage_context(void)
{
    struct io_event ev;
    struct timespec t = { 0, 1000000 };

    say("io_getevents(ctx PROT_NONE): %s", code(io_getevents(bad_pointer(), 1, 1, &ev, &t)));
}

static void getevents_destroyed_context(void)
{
    struct io_event ev;
    struct timespec t = { 0, 1000000 };

    setup();
    MUST(io_destroy(ctx) == 0);
    say("io_getevents(destroyed): %s", code(io_getevents(ctx, 1, 1, &ev, &t)));
}

static void timeouts(void)
{
    static const struct timespec times[] = {
        { 0, 0 },         { 0, 1 },           { 0, 100000000 }, { 1, 0 },           { 0, 1000000000 },
        { 1, -500000000 }, { -1, 1200000000 },
    };
    struct io_event ev;
    sigset_t none;

    setup();
    sigemptyset(&none);
    for (size_t i = 0; i < sizeof(times) / sizeof(*times); i++) {
        struct timespec t = times[i];
        double ms = (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
        say("timeout %ld s %ld ns: %s%s", times[i].tv_sec, times[i].tv_nsec, TIMED(ms, io_getevents(ctx, 1, 1, &ev, &t)),
            memcmp(&t, &times[i], sizeof(t)) ? ", CHANGED" : "");
        say("  pgetevents: %s", TIMED(ms, io_pgetevents(ctx, 1, 1, &ev, &t, &none)));
    }
    say("io_queue_wait, 0.1 s: %s", code(({
            extern int io_queue_wait(io_context_t, struct timespec *);
            struct timespec t = { 0, 100000000 };
            io_queue_wait(ctx, &t);
        })));
}

/* A thread that waits for an event, and what came of it. */
static struct waiter {
    io_context_t ctx;
    struct timespec *timeout;
    struct io_event event;
    int ret;
    volatile pid_t tid;
    volatile bool over;
} waiter;

static void *wait_for_event(void *arg)
{
    (void)arg;
    waiter.tid = gettid();
    waiter.ret = io_getevents(waiter.ctx, 1, 1, &waiter.event, waiter.timeout);
    waiter.over = true;
    return NULL;
}

/* Begins one and waits until it waits, or does not. */
static pthread_t begin_waiter(struct timespec *timeout)
{
    pthread_t t;

    waiter = (struct waiter){ .ctx = ctx, .timeout = timeout };
    MUST(pthread_create(&t, NULL, wait_for_event, NULL) == 0);
    while (waiter.tid == 0)
        usleep(1000);
    until_asleep(waiter.tid, &waiter.over);
    return t;
}

/* Longer than any test, or negative (then the kernel may wait for ever): an event must end it. */
static void timeouts_huge(void)
{
    static const struct timespec times[] = { { LONG_MAX, 0 }, { LONG_MAX, 999999999 }, { 0, LONG_MAX }, { 1L << 33, 0 },
                                            { -1, 0 }, { 0, -1 }, { -1, 999999999 }, { 0, LONG_MIN }, { LONG_MIN, 0 },
                                            { LONG_MIN, 1000 } };
    enum { N = sizeof(times) / sizeof(*times) };
    int p[2];

    setup();
    MUST(pipe(p) == 0);
    for (int i = 0; i <= N; i++) {
        struct timespec t = times[i % N];
        struct io_event ev;
        struct iocb cb;
        char c;

        io_prep_poll(&cb, p[0], POLLIN);
        MUST(submit(&cb) == 1);
        pthread_t thread = begin_waiter(i == N ? NULL : &t);
        bool waits = !waiter.over;
        MUST(write(p[1], "x", 1) == 1);
        pthread_join(thread, NULL);
        if (i == N)
            say("no timeout: %s, %s", waits ? "waits" : "returns at once", code(waiter.ret));
        else
            say("timeout %ld s %ld ns: %s, %s", times[i].tv_sec, times[i].tv_nsec, waits ? "waits" : "returns at once", code(waiter.ret));
        if (waiter.ret != 1)
            say("  later: %d", gather(1, &ev));
        MUST(read(p[0], &c, 1) == 1);
    }
}

static volatile sig_atomic_t signals;
static void count_signal(int s)
{
    (void)s;
    signals++;
}

/* Sends SIGALRM to the process's first thread when that sleeps: in the call that it makes after `alarm_asleep`. */
static void *alarms(void *arg)
{
    (void)arg;
    until_asleep(getpid(), NULL);
    MUST(tgkill(getpid(), getpid(), SIGALRM) == 0);
    return NULL;
}

static pthread_t alarm_asleep(void)
{
    pthread_t t;

    MUST(pthread_create(&t, NULL, alarms, NULL) == 0);
    return t;
}

static void interrupted(void)
{
    struct io_event ev[2];
    struct timespec t = { 30, 0 }, shortly = { 0, 300000000 };
    struct sigaction act = { .sa_handler = count_signal };
    sigset_t set, none;
    pthread_t sender;
    int p[2];

    setup();
    for (int restart = 0; restart < 2; restart++) {
        act.sa_flags = restart ? SA_RESTART : 0;
        MUST(sigaction(SIGALRM, &act, NULL) == 0);
        signals = 0;
        for (int limit = 0; limit < 2; limit++) {
            sender = alarm_asleep();
            int ret = io_getevents(ctx, 1, 1, ev, limit ? &t : NULL);
            say("%s%s: %s, handler ran %d", limit ? "  with a timeout" : "a signal", restart ? " with SA_RESTART" : "", code(ret), signals);
            pthread_join(sender, NULL);
        }
    }
    sigemptyset(&none);
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    MUST(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    signals = 0;
    MUST(raise(SIGALRM) == 0);
    say_first("blocked: %s, ran %d", TIMED(300, io_getevents(ctx, 1, 1, ev, &shortly)), signals);
    say_first("pgetevents lets the pending one in: %s, ran %d", code(io_pgetevents(ctx, 1, 1, ev, &t, &none)), signals);
    MUST(sigprocmask(SIG_SETMASK, NULL, &set) == 0);
    say("the mask is back: %d", sigismember(&set, SIGALRM));
    signals = 0;
    sender = alarm_asleep();
    say_first("pgetevents waits and is interrupted: %s, ran %d", code(io_pgetevents(ctx, 1, 1, ev, &t, &none)), signals);
    pthread_join(sender, NULL);
    struct sigaction usr = { .sa_handler = count_signal };
    MUST(sigaction(SIGUSR1, &usr, NULL) == 0);
    MUST(kill(getpid(), SIGUSR1) == 0);
    signals = 0;
    MUST(pipe(p) == 0);
    sigset_t all;
    sigfillset(&all);
    MUST(raise(SIGALRM) == 0);
    say_first("pgetevents with all blocked: %s, ran %d", TIMED(300, io_pgetevents(ctx, 1, 1, ev, &shortly, &all)), signals);
    /* An event that is there wins over a signal. */
    struct iocb cb;
    io_prep_poll(&cb, p[1], POLLOUT);
    MUST(submit(&cb) == 1);
    arrived(1);
    sigemptyset(&none);
    signals = 0;
    say("an event there and a signal pending: %s", code(io_pgetevents(ctx, 1, 1, ev, &t, &none)));
    /* Ignored ones are no reason to return. */
    MUST(sigprocmask(SIG_SETMASK, &none, NULL) == 0);
    signal(SIGALRM, SIG_IGN);
    sender = alarm_asleep();
    double began = now();
    int ret = io_getevents(ctx, 1, 1, ev, &shortly);
    say("an ignored signal: %s %s", code(ret), now() - began < 0.3 ? "TOO EARLY" : "in time");
    pthread_join(sender, NULL);
}

/* Two who take the events of buffered writes, which are all there when they are submitted. */
static atomic_int shared_taken;
static atomic_bool shared_over;
static void *takes(void *arg)
{
    while (!shared_over) {
        struct io_event ev[16];
        int n = io_getevents(ctx, (long)arg, 16, ev, arg == NULL ? &(struct timespec){ 120, 0 } : NULL);

        if (n > 0)
            shared_taken += n;
    }
    return NULL;
}

static void shared(void)
{
    enum { N = 8, ROUNDS = 1000 };
    char *buf = buffer(N * 4096, 'x');

    for (long min = 0; min < 2; min++) {
        int fd = file(0, O_RDWR);
        pthread_t threads[2];

        setup();
        shared_taken = 0;
        shared_over = false;
        for (int i = 0; i < 2; i++)
            MUST(pthread_create(&threads[i], NULL, takes, (void *)min) == 0);
        for (int round = 1; round <= ROUNDS; round++) {
            struct iocb cb[N], *list[N];

            for (int i = 0; i < N; i++) {
                cb[i] = raw(IO_CMD_PWRITE, fd, buf, 4096, (long long)i * 4096);
                list[i] = &cb[i];
            }
            MUST(io_submit(ctx, N, list) == N);
            while (shared_taken < round * N)
                sched_yield();
        }
        say("min_nr %ld: %d events", min, shared_taken);
        shared_over = true;
        for (int i = 0; i < 2; i++)
            while (pthread_tryjoin_np(threads[i], NULL) != 0) {
                struct iocb cb = raw(IO_CMD_PWRITE, fd, buf, 4096, 0), *one = &cb;

                MUST(io_submit(ctx, 1, &one) == 1);
                usleep(1000);
            }
        close(fd);
    }
}

/* ---- Operations ------------------------------------------------------------------------------- */

static void operations_file(const char *kind, const char *in, int extra)
{
    char name[64];
    char *buf = buffer(64 * KB, 'B');
    struct iovec iov[3];
    struct iocb cb;

    snprintf(name, sizeof(name), "ops-%s", kind);
    int fd = file_in(in, name, 32 * KB, O_RDWR | extra);
    say("[%s]", kind);
    run("pread 4096", IO_CMD_PREAD, fd, buf, 4096, 0);
    say("  sum %04x", sum(buf, 4096));
    run("pread 8192 at 30 KiB", IO_CMD_PREAD, fd, buf, 8192, 28 * KB);
    run("pread at the end", IO_CMD_PREAD, fd, buf, 4096, 32 * KB);
    run("pread beyond", IO_CMD_PREAD, fd, buf, 4096, 1 << 20);
    run("pread 0 bytes", IO_CMD_PREAD, fd, buf, 0, 0);
    run("pread 0 bytes NULL", IO_CMD_PREAD, fd, NULL, 0, 0);
    run("pwrite 0 bytes", IO_CMD_PWRITE, fd, buf, 0, 0);
    run("pread 100 at 3", IO_CMD_PREAD, fd, buf, 100, 3);
    run("pread 512 at 512", IO_CMD_PREAD, fd, buf, 512, 512);
    run("pread 4096 to 1 off", IO_CMD_PREAD, fd, buf + 1, 4096, 0);
    memset(buf, 'B', 64 * KB);
    run("pwrite 4096", IO_CMD_PWRITE, fd, buf, 4096, 4096);
    say_file("  file", fd);
    run("pwrite 100 at 3", IO_CMD_PWRITE, fd, buf, 100, 3);
    run("pwrite 4096 from 1 off", IO_CMD_PWRITE, fd, buf + 1, 4096, 0);
    run("pwrite beyond", IO_CMD_PWRITE, fd, buf, 4096, 64 * KB);
    say_file("  file", fd);
    run("fsync", IO_CMD_FSYNC, fd, NULL, 0, 0);
    run("fdsync", IO_CMD_FDSYNC, fd, NULL, 0, 0);
    run("noop", IO_CMD_NOOP, fd, NULL, 0, 0);
    run("poll", IO_CMD_POLL, fd, (void *)POLLIN, 0, 0);
    for (int i = 0; i < 3; i++) {
        iov[i].iov_base = buf + i * 8192;
        iov[i].iov_len = 4096;
    }
    memset(buf, 'C', 64 * KB);
    io_prep_pwritev(&cb, fd, iov, 3, 8192);
    one(&cb, "pwritev 3");
    say_file("  file", fd);
    memset(buf, 0, 64 * KB);
    io_prep_preadv(&cb, fd, iov, 3, 4096);
    one(&cb, "preadv 3");
    say("  sum %04x", sum(buf, 64 * KB));
    run("preadv none", IO_CMD_PREADV, fd, iov, 0, 0);
    run("preadv none, NULL", IO_CMD_PREADV, fd, NULL, 0, 0);
    run("pwritev none", IO_CMD_PWRITEV, fd, iov, 0, 0);
    run("preadv NULL 1", IO_CMD_PREADV, fd, NULL, 1, 0);
    run("preadv bad list", IO_CMD_PREADV, fd, bad_pointer(), 1, 0);
    run("pwritev bad list", IO_CMD_PWRITEV, fd, bad_pointer(), 2, 0);
    iov[1].iov_len = 0;
    run("preadv with an empty one", IO_CMD_PREADV, fd, iov, 3, 0);
    iov[1].iov_base = NULL;
    run("preadv with an empty NULL", IO_CMD_PREADV, fd, iov, 3, 0);
    iov[1].iov_base = bad_pointer();
    iov[1].iov_len = 4096;
    run("preadv, second bad", IO_CMD_PREADV, fd, iov, 3, 0);
    run("pwritev, second bad", IO_CMD_PWRITEV, fd, iov, 3, 0);
    iov[0].iov_base = bad_pointer();
    run("preadv, first bad", IO_CMD_PREADV, fd, iov, 3, 0);
    run("pwritev, first bad", IO_CMD_PWRITEV, fd, iov, 3, 0);
    run("pread to nowhere", IO_CMD_PREAD, fd, bad_pointer(), 4096, 0);
    run("pwrite from nowhere", IO_CMD_PWRITE, fd, bad_pointer(), 4096, 0);
    run("pread to NULL", IO_CMD_PREAD, fd, NULL, 4096, 0);
    run("pwrite from -1", IO_CMD_PWRITE, fd, (void *)-1L, 4096, 0);
    run("pwrite from -4096", IO_CMD_PWRITE, fd, (void *)-4096L, 4096, 0);
    say_file("  file", fd);
    static const int flags[] = { RWF_HIPRI, RWF_DSYNC, RWF_SYNC, RWF_DSYNC | RWF_SYNC, RWF_APPEND, 0x40000000, 0x800, INT_MIN, -1 };
    for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++) {
        /* Polled reads and writes of a file would end only when somebody polls. */
        if (!(flags[i] == RWF_HIPRI && extra))
            run_flags("pread", IO_CMD_PREAD, fd, buf, 4096, 0, flags[i]);
        if (!(flags[i] == RWF_HIPRI && extra))
            run_flags("pwrite", IO_CMD_PWRITE, fd, buf, 4096, 0, flags[i]);
        run_flags("fsync", IO_CMD_FSYNC, fd, NULL, 0, 0, flags[i]);
    }
    run_flags("pread, cached", IO_CMD_PREAD, fd, buf, 4096, 0, RWF_NOWAIT);
    say_file("  file", fd);
    close(fd);
}

static void operations_ext4(void)
{
    setup();
    operations_file("ext4", dir, 0);
}
static void operations_ext4_direct(void)
{
    setup();
    operations_file("ext4-direct", dir, O_DIRECT);
}
static void operations_ext4_dsync(void)
{
    setup();
    operations_file("ext4-dsync", dir, O_DSYNC);
}
static void operations_ext4_append(void)
{
    setup();
    operations_file("ext4-append", dir, O_APPEND);
}
static void operations_tmpfs(void)
{
    setup();
    operations_file("tmpfs", tmpfs_dir, 0);
}

static void operations_blockdev(void)
{
    static const int modes[] = { 0, O_DIRECT, O_DSYNC };
    char *buf = buffer(64 * KB, 'x');
    struct iovec iov[2] = { { buf, 4096 }, { buf + 16384, 8192 } };

    if (blockdev == NULL)
        return;
    setup();
    for (int m = 0; m < 3; m++) {
        int fd = open(blockdev, O_RDWR | modes[m]);

        MUST(fd >= 0);
        long long end = lseek(fd, 0, SEEK_END);
        say("[blockdev %d]", m);
        memset(buf, 'd' + m, 64 * KB);
        run("pwrite 64 KiB", IO_CMD_PWRITE, fd, buf, 64 * KB, 0);
        memset(buf, 0, 64 * KB);
        run("pread 64 KiB", IO_CMD_PREAD, fd, buf, 64 * KB, 0);
        say("  sum %04x", sum(buf, 64 * KB));
        run("pwritev", IO_CMD_PWRITEV, fd, iov, 2, 4096);
        run("preadv", IO_CMD_PREADV, fd, iov, 2, 4096);
        run("fsync", IO_CMD_FSYNC, fd, NULL, 0, 0);
        run("fdsync", IO_CMD_FDSYNC, fd, NULL, 0, 0);
        run("poll", IO_CMD_POLL, fd, (void *)POLLIN, 0, 0);
        run("pread across the end", IO_CMD_PREAD, fd, buf, 8192, end - 4096);
        run("pread at the end", IO_CMD_PREAD, fd, buf, 4096, end);
        run("pwrite across the end", IO_CMD_PWRITE, fd, buf, 8192, end - 4096);
        run("pwrite at the end", IO_CMD_PWRITE, fd, buf, 4096, end);
        run("pread beyond", IO_CMD_PREAD, fd, buf, 4096, end + (1 << 20));
        run("pwrite beyond", IO_CMD_PWRITE, fd, buf, 4096, end + (1 << 20));
        run("pread 512", IO_CMD_PREAD, fd, buf, 512, 512);
        run("pread 100 at 3", IO_CMD_PREAD, fd, buf, 100, 3);
        run("pread to 1 off", IO_CMD_PREAD, fd, buf + 1, 4096, 0);
        run("pread to nowhere", IO_CMD_PREAD, fd, bad_pointer(), 4096, 0);
        run("pwrite from nowhere", IO_CMD_PWRITE, fd, bad_pointer(), 4096, 0);
        run_flags("pread", IO_CMD_PREAD, fd, buf, 4096, 0, RWF_NOWAIT);
        run_flags("pwrite", IO_CMD_PWRITE, fd, buf, 4096, 0, RWF_DSYNC);
        run_flags("pwrite", IO_CMD_PWRITE, fd, buf, 4096, 0, RWF_APPEND);
        struct iocb cb = raw(IO_CMD_PWRITE, fd, buf, 4096, 0);
        cb.u.c.flags = 2;
        cb.aio_reqprio = (2 << 13) | 3;
        one(&cb, "pwrite with a priority");
        close(fd);
    }
}

static void operations_special(void)
{
    static const char *const names[] = { "/dev/null", "/dev/zero", "/dev/full", "/dev/urandom", "/proc/version",
                                         "/proc/self/mem", "/proc/sys/kernel/ostype", "/sys/kernel/mm/transparent_hugepage/enabled", "/" };
    char *buf = buffer(8192, 'x');
    struct iovec iov[2] = { { buf, 100 }, { buf + 4096, 100 } };

    setup();
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        int fd = open(names[i], O_RDWR);
        int p;

        if (fd < 0)
            fd = open(names[i], O_RDONLY);
        if (fd < 0)
            continue;
        say("[%s]", names[i]);
        buf[0] = 'x';
        if (strcmp(names[i], "/proc/version") != 0 || true)
            p = run("pread", IO_CMD_PREAD, fd, buf, 100, 0) > 0;
        if (p && i == 1)
            say("  first byte %d", buf[0]);
        run("preadv", IO_CMD_PREADV, fd, iov, 2, 0);
        if (i < 3)
            run("pwrite", IO_CMD_PWRITE, fd, buf, 100, 0);
        if (i < 3)
            run("pwritev", IO_CMD_PWRITEV, fd, iov, 2, 0);
        run("pread at 2^40", IO_CMD_PREAD, fd, buf, 100, 1LL << 40);
        run("pread at -1", IO_CMD_PREAD, fd, buf, 100, -1);
        run("fsync", IO_CMD_FSYNC, fd, NULL, 0, 0);
        run("fdsync", IO_CMD_FDSYNC, fd, NULL, 0, 0);
        run("poll", IO_CMD_POLL, fd, (void *)(POLLIN | POLLOUT), 0, 0);
        run_flags("pread", IO_CMD_PREAD, fd, buf, 100, 0, RWF_NOWAIT);
        close(fd);
    }
}

static void operations_pipe(void)
{
    char *buf = buffer(8192, 'x');
    struct iovec iov[2] = { { buf, 3 }, { buf + 4096, 3 } };
    int p[2], s[2], ev, tf;

    setup();
    MUST(pipe(p) == 0);
    say("[pipe]");
    run("pwrite", IO_CMD_PWRITE, p[1], buf, 10, 0);
    run("pwrite at 1000", IO_CMD_PWRITE, p[1], buf, 10, 1000);
    run("pwrite at -1", IO_CMD_PWRITE, p[1], buf, 10, -1);
    run("pread 5", IO_CMD_PREAD, p[0], buf, 5, 77);
    run("preadv", IO_CMD_PREADV, p[0], iov, 2, 0);
    run("pread the rest", IO_CMD_PREAD, p[0], buf, 100, 0);
    run("pread the wrong end", IO_CMD_PREAD, p[1], buf, 5, 0);
    run("pwrite the wrong end", IO_CMD_PWRITE, p[0], buf, 5, 0);
    run("fsync", IO_CMD_FSYNC, p[1], NULL, 0, 0);
    run("pwritev", IO_CMD_PWRITEV, p[1], iov, 2, 0);
    run_flags("pread", IO_CMD_PREAD, p[0], buf, 100, 0, RWF_NOWAIT);
    run_flags("pread, empty", IO_CMD_PREAD, p[0], buf, 100, 0, RWF_NOWAIT);
    fcntl(p[0], F_SETFL, O_NONBLOCK);
    run("pread, empty, O_NONBLOCK", IO_CMD_PREAD, p[0], buf, 100, 0);
    fcntl(p[1], F_SETFL, O_NONBLOCK);
    char *big = buffer(256 * KB, 'x');
    run("pwrite 256 KiB, O_NONBLOCK", IO_CMD_PWRITE, p[1], big, 256 * KB, 0);
    run("pwrite, full, O_NONBLOCK", IO_CMD_PWRITE, p[1], buf, 4096, 0);
    run("pread 256 KiB", IO_CMD_PREAD, p[0], big, 256 * KB, 0);
    close(p[1]);
    run("pread, no writer", IO_CMD_PREAD, p[0], buf, 100, 0);

    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    say("[socket]");
    run("pwrite", IO_CMD_PWRITE, s[0], buf, 10, 0);
    run("pwrite at 5", IO_CMD_PWRITE, s[0], buf, 10, 5);
    run("pread", IO_CMD_PREAD, s[1], buf, 100, 0);
    run("pread at 5", IO_CMD_PREAD, s[1], buf, 100, 5);
    run("pwrite at -1", IO_CMD_PWRITE, s[0], buf, 10, -1);
    run("pwritev", IO_CMD_PWRITEV, s[0], iov, 2, 0);
    run("preadv", IO_CMD_PREADV, s[1], iov, 2, 0);
    run("fsync", IO_CMD_FSYNC, s[0], NULL, 0, 0);
    fcntl(s[1], F_SETFL, O_NONBLOCK);
    for (int i = 0; i < 3; i++)
        (void)!read(s[1], buf, 100);
    run("pread, empty, O_NONBLOCK", IO_CMD_PREAD, s[1], buf, 100, 0);
    close(s[0]);
    run("pread, shut", IO_CMD_PREAD, s[1], buf, 100, 0);
    close(s[1]);
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, s) == 0);
    say("[datagram]");
    run("pwrite 5", IO_CMD_PWRITE, s[0], buf, 5, 0);
    run("pwrite 7", IO_CMD_PWRITE, s[0], buf, 7, 0);
    run("pread 3", IO_CMD_PREAD, s[1], buf, 3, 0);
    run("pread 100", IO_CMD_PREAD, s[1], buf, 100, 0);
    s[0] = socket(AF_INET, SOCK_STREAM, 0);
    run("pread not connected", IO_CMD_PREAD, s[0], buf, 100, 0);

    say("[eventfd]");
    ev = eventfd(5, EFD_NONBLOCK);
    run("pread 8", IO_CMD_PREAD, ev, buf, 8, 0);
    say("  value %d", buf[0]);
    run("pread 8, zero", IO_CMD_PREAD, ev, buf, 8, 0);
    run("pread 4", IO_CMD_PREAD, ev, buf, 4, 0);
    memset(buf, 0, 8);
    buf[0] = 3;
    run("pwrite 8", IO_CMD_PWRITE, ev, buf, 8, 0);
    run("pread 8", IO_CMD_PREAD, ev, buf, 8, 0);
    say("  value %d", buf[0]);
    say("[timerfd]");
    tf = timerfd_create(CLOCK_MONOTONIC, 0);
    struct itimerspec it = { { 0, 0 }, { 0, 1000000 } };
    MUST(timerfd_settime(tf, 0, &it, NULL) == 0);
    struct pollfd ticked = { .fd = tf, .events = POLLIN };
    poll(&ticked, 1, 100000);
    run("pread 8", IO_CMD_PREAD, tf, buf, 8, 0);
    run("pwrite 8", IO_CMD_PWRITE, tf, buf, 8, 0);
    struct iocb never;
    struct io_event event;
    io_prep_poll(&never, epoll_create1(0), POLLIN);
    say("poll of an epoll: %s", code(submit(&never)));
    say("  no event: %s", code(io_getevents(ctx, 1, 1, &event, &(struct timespec){ 0, 20000000 })));
    say("  io_cancel: %s", code(io_cancel(ctx, &never, &event)));
    say_first("  events %d, res %s", gather(1, &event), code((long)event.res));
    run("pread of an epoll", IO_CMD_PREAD, epoll_create1(0), buf, 8, 0);
    int mem = memfd_create("x", MFD_ALLOW_SEALING);
    run("pwrite memfd", IO_CMD_PWRITE, mem, buf, 100, 0);
    MUST(fcntl(mem, F_ADD_SEALS, F_SEAL_WRITE) == 0);
    run("pwrite sealed memfd", IO_CMD_PWRITE, mem, buf, 100, 0);
    run("pread sealed memfd", IO_CMD_PREAD, mem, buf, 100, 0);
}

static void operations_nowait(void)
{
    char *buf = buffer(64 * KB, 'x');
    int fd = file(64 * KB, O_RDWR);

    setup();
    run_flags("pread cached", IO_CMD_PREAD, fd, buf, 64 * KB, 0, RWF_NOWAIT);
    MUST(fsync(fd) == 0);
    MUST(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
    run_flags("pread not cached", IO_CMD_PREAD, fd, buf, 4096, 0, RWF_NOWAIT);
    run_flags("pread of 0 bytes", IO_CMD_PREAD, fd, buf, 0, 0, RWF_NOWAIT);
    run_flags("pread past the end", IO_CMD_PREAD, fd, buf, 4096, 64 * KB, RWF_NOWAIT);
    run_flags("pread", IO_CMD_PREAD, fd, buf, 4096, 0, 0);
    run_flags("pwrite over it", IO_CMD_PWRITE, fd, buf, 4096, 0, RWF_NOWAIT);
    int direct = file(64 * KB, O_RDWR | O_DIRECT);
    run_flags("direct pread", IO_CMD_PREAD, direct, buf, 4096, 0, RWF_NOWAIT);
    run_flags("direct pwrite over", IO_CMD_PWRITE, direct, buf, 4096, 0, RWF_NOWAIT);
    run_flags("direct pwrite extending", IO_CMD_PWRITE, direct, buf, 4096, 64 * KB, RWF_NOWAIT);
    run_flags("fdsync", IO_CMD_FDSYNC, fd, NULL, 0, 0, RWF_NOWAIT);
    run_flags("pread, invalid besides", IO_CMD_PREAD, fd, buf, 4096, 0, RWF_NOWAIT | 0x100000);
}

static void requests_bad(void)
{
    char *buf = buffer(64 * KB, 'x');
    int fd = file(8192, O_RDWR), rd = file(8192, O_RDONLY), wr = file(8192, O_WRONLY);
    int directory = open(dir, O_RDONLY | O_DIRECTORY), opath = open(dir, O_PATH), closed = dup(fd);
    struct iocb cb;
    char label[64];

    close(closed);
    setup();
    for (int op = -3; op < 13; op++) {
        if (op == IO_CMD_POLL)
            continue;
        cb = raw(op, fd, op == 7 || op == 8 ? NULL : buf, op == 7 || op == 8 || op == 2 || op == 3 ? 0 : 512, 0);
        if (op == 2 || op == 3)
            cb.u.c.buf = NULL;
        one(&cb, "opcode %d", op);
    }
    cb = raw(0x7fff, fd, buf, 512, 0);
    one(&cb, "opcode 32767");
    cb = raw(-32768, fd, buf, 512, 0);
    one(&cb, "opcode -32768");
    static const int fds[] = { -1, -2, INT_MIN, INT_MAX, 1000000, 1023 };
    for (int op = 0; op < 9; op++) {
        for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++) {
            snprintf(label, sizeof(label), "op %d fd %d", op, fds[i]);
            run(label, op, fds[i], op == 2 || op == 3 ? NULL : buf, op == 5 || op == 2 || op == 3 ? 0 : 1, 0);
        }
        snprintf(label, sizeof(label), "op %d fd closed", op);
        run(label, op, closed, NULL, 0, 0);
        snprintf(label, sizeof(label), "op %d O_PATH", op);
        run(label, op, opath, NULL, 0, 0);
    }
    run("pread write-only", IO_CMD_PREAD, wr, buf, 512, 0);
    run("pwrite read-only", IO_CMD_PWRITE, rd, buf, 512, 0);
    run("pread write-only, 0 bytes", IO_CMD_PREAD, wr, buf, 0, 0);
    run("pwrite read-only, 0 bytes", IO_CMD_PWRITE, rd, buf, 0, 0);
    struct iovec iov = { buf, 512 };
    run("preadv write-only", IO_CMD_PREADV, wr, &iov, 1, 0);
    run("pwritev read-only", IO_CMD_PWRITEV, rd, &iov, 1, 0);
    run("pwritev read-only, bad list", IO_CMD_PWRITEV, rd, bad_pointer(), 1, 0);
    run("preadv write-only, too many", IO_CMD_PREADV, wr, &iov, 5000, 0);
    run("fsync read-only", IO_CMD_FSYNC, rd, NULL, 0, 0);
    run("fdsync write-only", IO_CMD_FDSYNC, wr, NULL, 0, 0);
    run("pread directory", IO_CMD_PREAD, directory, buf, 512, 0);
    run("pwrite directory", IO_CMD_PWRITE, directory, buf, 512, 0);
    run("fsync directory", IO_CMD_FSYNC, directory, NULL, 0, 0);
    run("fdsync directory", IO_CMD_FDSYNC, directory, NULL, 0, 0);
    run("poll directory", IO_CMD_POLL, directory, (void *)POLLIN, 0, 0);
    run("pread offset -1", IO_CMD_PREAD, fd, buf, 512, -1);
    run("pwrite offset -1", IO_CMD_PWRITE, fd, buf, 512, -1);
    run("pread offset LLONG_MIN", IO_CMD_PREAD, fd, buf, 512, LLONG_MIN);
    run("pread offset LLONG_MAX", IO_CMD_PREAD, fd, buf, 512, LLONG_MAX);
    run("pwrite offset LLONG_MAX", IO_CMD_PWRITE, fd, buf, 512, LLONG_MAX);
    run("pread offset LLONG_MAX - 511", IO_CMD_PREAD, fd, buf, 512, LLONG_MAX - 511);
    run("pwrite offset LLONG_MAX - 512", IO_CMD_PWRITE, fd, buf, 512, LLONG_MAX - 512);
    run("pwrite offset 2^44", IO_CMD_PWRITE, fd, buf, 512, 1LL << 44);
    run("pread length -1", IO_CMD_PREAD, fd, buf, -1UL, 0);
    run("pread length LONG_MAX", IO_CMD_PREAD, fd, buf, LONG_MAX, 0);
    run("pread length LONG_MAX + 1", IO_CMD_PREAD, fd, buf, LONG_MAX + 1UL, 0);
    run("pread length 2^31", IO_CMD_PREAD, fd, buf, 1UL << 31, 0);
    run("pwrite length LONG_MIN", IO_CMD_PWRITE, fd, buf, (unsigned long)LONG_MIN, 0);
    run("pwrite length 2^40 at the end", IO_CMD_PWRITE, open("/dev/null", O_WRONLY), buf, 1UL << 40, 0);
    run("fsync length -1", IO_CMD_FSYNC, fd, NULL, -1UL, 0);
    say_file("file", fd);

    /* Fields that are reserved, or have no meaning for the operation. */
    for (int op = 0; op < 9; op++) {
        if (op == 4 || op == 6)
            continue;
        int on = op == 5 ? eventfd(1, 0) : fd;
        struct iocb base = raw(op, on, op == 2 || op == 3 ? NULL : op == 5 ? (void *)POLLIN : op >= 7 ? (void *)&iov : buf,
                               op == 2 || op == 3 || op == 5 ? 0 : op >= 7 ? 1 : 512, 0);
        cb = base, cb.u.c.__pad3 = 1, one(&cb, "op %d reserved2", op);
        cb = base, cb.u.c.__pad3 = 1, cb.aio_fildes = -1, one(&cb, "op %d reserved2 and a bad fd", op);
        cb = base, cb.u.c.flags = 4, one(&cb, "op %d flags 4", op);
        cb = base, cb.u.c.flags = 0x80000000, one(&cb, "op %d flags 0x80000000", op);
        cb = base, cb.u.c.resfd = 12345, one(&cb, "op %d resfd without the flag", op);
        cb = base, cb.aio_reqprio = 0x7fff, one(&cb, "op %d reqprio without the flag", op);
        cb = base, cb.aio_reqprio = -1, one(&cb, "op %d reqprio -1 without the flag", op);
        if (op == 2 || op == 3 || op == 5) {
            cb = base, cb.u.c.nbytes = 1, one(&cb, "op %d nbytes 1", op);
            cb = base, cb.u.c.offset = 1, one(&cb, "op %d offset 1", op);
            cb = base, cb.aio_rw_flags = RWF_DSYNC, one(&cb, "op %d rw_flags 2", op);
        }
        if (op == 2 || op == 3)
            cb = base, cb.u.c.buf = buf, one(&cb, "op %d buf", op);
        if (op == 5)
            cb = base, cb.u.c.buf = (void *)(0x10000L | POLLIN), one(&cb, "op %d events 0x10001", op);
        /* Which error comes first. */
        cb = base, cb.aio_fildes = -1, cb.aio_rw_flags = 0x40000000, one(&cb, "op %d bad fd, bad rw_flags", op);
        cb = base, cb.aio_fildes = -1, cb.u.c.flags = 1, cb.u.c.resfd = (unsigned)-1, one(&cb, "op %d bad fd, bad resfd", op);
        cb = base, cb.u.c.flags = 1, cb.u.c.resfd = (unsigned)-1, cb.aio_rw_flags = 0x40000000,
        one(&cb, "op %d bad resfd, bad rw_flags", op);
        cb = base, cb.u.c.flags = 3, cb.u.c.resfd = (unsigned)fd, cb.aio_reqprio = -1, one(&cb, "op %d bad resfd, bad prio", op);
        cb = base, cb.u.c.flags = 2, cb.aio_reqprio = -1, cb.aio_rw_flags = 0x40000000,
        one(&cb, "op %d bad prio, bad rw_flags", op);
        cb = base, cb.u.c.flags = 1, cb.u.c.resfd = (unsigned)-1, cb.aio_lio_opcode = 99,
        one(&cb, "op %d made 99, bad resfd", op);
    }
    cb = raw(99, -1, buf, 512, 0);
    one(&cb, "opcode 99 and a bad fd");
    cb = raw(99, fd, buf, 512, 0);
    cb.aio_rw_flags = 0x40000000;
    one(&cb, "opcode 99 and bad rw_flags");
    cb = raw(IO_CMD_PWRITE, rd, buf, 512, 0);
    cb.aio_rw_flags = 0x40000000;
    one(&cb, "wrong direction and bad rw_flags");
    cb = raw(IO_CMD_PWRITE, rd, buf, 512, -1);
    one(&cb, "wrong direction and a bad offset");
    cb = raw(IO_CMD_PREADV, fd, bad_pointer(), 2, -1);
    one(&cb, "bad list and a bad offset");
    cb = raw(IO_CMD_PREAD, fd, bad_pointer(), 4096, -1);
    one(&cb, "bad buffer and a bad offset");
    cb = raw(IO_CMD_PREAD, fd, (void *)-1L, 4096, 0);
    one(&cb, "buffer (void *)-1");
    cb = raw(IO_CMD_PREAD, fd, (void *)-1L, 4096, -1);
    one(&cb, "buffer (void *)-1 and a bad offset");
}

static void iovecs(void)
{
    char *buf = buffer(8192, 'x');
    int fd = file(64 * KB, O_RDWR), null = open("/dev/null", O_WRONLY);
    static struct iovec iov[2000];
    static const long counts[] = { 0, 1, 2, 8, 9, 1023, 1024, 1025, 2000, -1, INT_MAX, LONG_MAX, 1L << 32, (1L << 32) + 1, LONG_MIN };
    char label[64];
    struct io_event ev;
    struct iocb cb;

    setup();
    for (int i = 0; i < 2000; i++) {
        iov[i].iov_base = buf + i % 64;
        iov[i].iov_len = 4;
    }
    for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++) {
        snprintf(label, sizeof(label), "preadv %ld", counts[i]);
        run(label, IO_CMD_PREADV, fd, iov, (unsigned long)counts[i], 0);
        snprintf(label, sizeof(label), "pwritev %ld", counts[i]);
        run(label, IO_CMD_PWRITEV, fd, iov, (unsigned long)counts[i], 0);
    }
    iov[1].iov_len = (size_t)-1;
    run("preadv, one of -1 bytes", IO_CMD_PREADV, fd, iov, 3, 0);
    iov[1].iov_len = LONG_MAX;
    run("preadv, one of LONG_MAX bytes", IO_CMD_PREADV, fd, iov, 3, 0);
    iov[0].iov_len = LONG_MAX;
    run("pwritev, two of LONG_MAX bytes, /dev/null", IO_CMD_PWRITEV, null, iov, 2, 0);
    iov[0].iov_len = 1L << 31;
    iov[1].iov_len = 1L << 31;
    run("pwritev, two of 2^31 bytes, /dev/null", IO_CMD_PWRITEV, null, iov, 2, 0);
    /* The list is copied at submit. */
    iov[0].iov_len = iov[1].iov_len = 512;
    iov[0].iov_base = buf;
    iov[1].iov_base = buf + 4096;
    for (int i = 0; i < 200; i++) {
        struct iovec *list = (struct iovec *)buffer(4096, 0), *again[1];
        struct iocb *copy = (struct iocb *)(list + 4), *lp = copy;

        memcpy(list, iov, 2 * sizeof(*list));
        io_prep_preadv(copy, fd, list, 2, 512 * i);
        copy->data = (void *)(long)i;
        int ret = io_submit(ctx, 1, &lp);
        MUST(munmap(list, 4096) == 0);
        (void)again;
        int n = gather(1, &ev);
        if (ret != 1 || n != 1 || (long)ev.res != (i <= 126 ? 1024 : i == 127 ? 512 : 0) || ev.data != (void *)(long)i || ev.obj != lp) {
            say("gone after submit, %d: %s, %d events, res %s", i, code(ret), n, code((long)ev.res));
            break;
        }
    }
    say("lists and iocbs gone after submit: done");
    /* At the end of a page. */
    char *pages = buffer(8192, 0);
    MUST(mprotect(pages + 4096, 4096, PROT_NONE) == 0);
    struct iovec *edge = (struct iovec *)(pages + 4096) - 2;
    memcpy(edge, iov, 2 * sizeof(*iov));
    io_prep_preadv(&cb, fd, edge, 2, 0);
    one(&cb, "list at the end of a page");
    io_prep_preadv(&cb, fd, edge + 1, 2, 0);
    one(&cb, "list across the end");
    io_prep_preadv(&cb, fd, (struct iovec *)((char *)edge + 4 - 16), 2, 0);
    memmove((char *)edge + 4 - 16, iov, 2 * sizeof(*iov));
    one(&cb, "list not aligned");
}

static void priorities(void)
{
    char *buf = buffer(4096, 'x');
    int fd = file(8192, O_RDWR), ev = eventfd(1, 0);

    setup();
    for (int user = 0; user < 2; user++) {
        if (user && (geteuid() != 0 || setresuid(65534, 65534, 65534) != 0))
            break;
        for (int class = 0; class < 8; class++)
            for (int level = 0; level < 9; level += level == 0 ? 4 : level == 4 ? 3 : 1) {
                struct iocb cb = raw(class % 2 ? IO_CMD_PREAD : IO_CMD_PWRITE, fd, buf, 512, 0);

                cb.u.c.flags = 2;
                cb.aio_reqprio = (short)(class << 13 | level);
                one(&cb, "%s class %d level %d", user ? "nobody" : "root", class, level);
            }
        for (int hint = 1; hint < 9; hint++) {
            struct iocb cb = raw(IO_CMD_PREAD, fd, buf, 512, 0);

            cb.u.c.flags = 2;
            cb.aio_reqprio = (short)(2 << 13 | hint << 3 | 1);
            one(&cb, "%s best effort 1, hint %d", user ? "nobody" : "root", hint);
        }
    }
    for (int op = 2; op < 9; op++) {
        struct iovec iov = { buf, 512 };
        struct iocb cb = raw(op, op == 5 ? ev : fd, op == 5 ? (void *)POLLIN : op >= 7 ? (void *)&iov : NULL, op >= 7, 0);

        if (op == 4 || op == 6)
            continue;
        cb.u.c.flags = 2;
        cb.aio_reqprio = -1;
        one(&cb, "op %d with an invalid priority", op);
        cb.aio_reqprio = 2 << 13 | 3;
        one(&cb, "op %d with a priority", op);
    }
}

static void eventfds(void)
{
    char *buf = buffer(4096, 'x');
    int fd = file(8192, O_RDWR), good = eventfd(0, EFD_NONBLOCK), sem = eventfd(0, EFD_NONBLOCK | EFD_SEMAPHORE);
    uint64_t value;
    struct iocb cb;
    struct io_event ev[32];

    setup();
    for (int op = 0; op < 9; op++) {
        struct iovec iov = { buf, 512 };

        if (op == 4 || op == 6)
            continue;
        cb = raw(op, op == 5 ? eventfd(1, 0) : fd, op == 2 || op == 3 ? NULL : op == 5 ? (void *)POLLIN : op >= 7 ? (void *)&iov : buf,
                 op == 2 || op == 3 || op == 5 ? 0 : op >= 7 ? 1 : 512, 0);
        io_set_eventfd(&cb, good);
        value = 0;
        one(&cb, "op %d with an eventfd", op);
        struct pollfd pfd = { .fd = good, .events = POLLIN };
        poll(&pfd, 1, 100000);
        int got = (int)read(good, &value, 8);
        say("  read %d, value %llu", got, (unsigned long long)value);
        cb.u.c.resfd = (unsigned)-1;
        one(&cb, "op %d resfd -1", op);
        cb.u.c.resfd = 12345;
        one(&cb, "op %d resfd closed", op);
        cb.u.c.resfd = (unsigned)fd;
        one(&cb, "op %d resfd a file", op);
        cb.u.c.resfd = (unsigned)open(dir, O_PATH);
        one(&cb, "op %d resfd O_PATH", op);
    }
    /* Failed ones count too; at the limit nothing is lost. */
    cb = raw(IO_CMD_PREAD, fd, bad_pointer(), 512, 0);
    io_set_eventfd(&cb, good);
    one(&cb, "bad buffer");
    say("  value %d", eventfd_sum(good, 1));
    struct iocb many[20], *list[20];
    for (int i = 0; i < 20; i++) {
        many[i] = raw(IO_CMD_PREAD, fd, buf, 64, 64 * i);
        io_set_eventfd(&many[i], i % 2 ? good : sem);
        list[i] = &many[i];
    }
    say("20 with eventfds: %s", code(io_submit(ctx, 20, list)));
    say("  events %d", gather(20, ev));
    say("  value %d", eventfd_sum(good, 10));
    say("  semaphore %d times", eventfd_sum(sem, 10));
    /* Closed at once: the request keeps it. */
    int copy = dup(good), go[2];
    MUST(pipe(go) == 0);
    io_prep_poll(&cb, go[0], POLLIN);
    io_set_eventfd(&cb, copy);
    say("poll with an eventfd: %s", code(submit(&cb)));
    close(copy);
    MUST(dup2(fd, copy) == copy);
    MUST(write(go[1], "x", 1) == 1);
    struct pollfd pfd = { .fd = good, .events = POLLIN };
    say("  eventfd closed meanwhile: ready %d", poll(&pfd, 1, 100000));
    say("  events %d", gather(1, ev));
    value = 0;
    say_first("  read %d, value %llu", (int)read(good, &value, 8), (unsigned long long)value);
    say_file("  file", fd);
    value = 0xfffffffffffffffe;
    MUST(write(good, &value, 8) == 8);
    cb = raw(IO_CMD_PREAD, fd, buf, 512, 0);
    io_set_eventfd(&cb, good);
    one(&cb, "eventfd at its maximum");
    usleep(20000);
    value = 0;
    say_first("  read %d, value %llx", (int)read(good, &value, 8), (unsigned long long)value);
}

static void polls(void)
{
    static const int masks[] = { 0, POLLIN, POLLOUT, POLLIN | POLLOUT, POLLPRI, POLLERR, POLLHUP, POLLRDHUP, POLLNVAL, POLLRDNORM,
                                 POLLWRNORM, 0xffff, 0x8000, 0x4000 };
    int p[2], s[2], q[2], ev = eventfd(0, 0), ev1 = eventfd(1, 0), fd = file(10, O_RDWR);
    struct io_event event;
    struct iocb cb;

    setup();
    MUST(pipe(p) == 0 && pipe(q) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    MUST(write(p[1], "x", 1) == 1);
    close(q[1]);
    struct { const char *name; int fd; } on[] = { { "pipe with data", p[0] }, { "pipe's writer", p[1] }, { "pipe without writer", q[0] },
                                                  { "socket", s[0] },        { "eventfd 1", ev1 },      { "a file", fd },
                                                  { "/dev/null", open("/dev/null", O_RDWR) } };
    for (size_t i = 0; i < sizeof(on) / sizeof(*on); i++)
        for (size_t m = 0; m < sizeof(masks) / sizeof(*masks); m++) {
            struct pollfd pfd = { .fd = on[i].fd, .events = (short)masks[m] };

            if (poll(&pfd, 1, 0) == 0 && i != 5 && i != 6)
                continue;
            io_prep_poll(&cb, on[i].fd, masks[m]);
            one(&cb, "poll %s for %#x", on[i].name, masks[m]);
        }
    /* Files that are not ready yet. */
    struct timespec shortly = { 0, 50000000 };
    io_prep_poll(&cb, ev, POLLIN);
    say("poll eventfd 0: %s", code(submit(&cb)));
    say("  %s", code(io_getevents(ctx, 1, 1, &event, &shortly)));
    MUST(eventfd_write(ev, 1) == 0);
    say_first("  later %d, res %s", gather(1, &event), code((long)event.res));
    io_prep_poll(&cb, s[0], POLLIN);
    say("poll socket: %s", code(submit(&cb)));
    close(s[1]);
    say_first("  peer gone: %d, res %lx", gather(1, &event), (long)event.res);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    io_prep_poll(&cb, s[0], POLLRDHUP);
    say("poll socket: %s", code(submit(&cb)));
    shutdown(s[1], SHUT_WR);
    say_first("  shut down: %d, res %lx", gather(1, &event), (long)event.res);
    /* The descriptor's number goes to another file: the poll stays with the first. */
    int r[2], copy;
    MUST(pipe(r) == 0);
    copy = dup(r[0]);
    io_prep_poll(&cb, copy, POLLIN);
    say("poll pipe: %s", code(submit(&cb)));
    MUST(dup2(ev, copy) == copy);
    say("  another file there: %s", code(io_getevents(ctx, 1, 1, &event, &shortly)));
    MUST(write(r[1], "x", 1) == 1);
    say_first("  the first becomes ready: %d, res %s", gather(1, &event), code((long)event.res));
    /* It keeps the file open: no hangup for the writer while it is there. */
    MUST(pipe(r) == 0);
    io_prep_poll(&cb, r[0], POLLIN);
    say("poll pipe: %s", code(submit(&cb)));
    close(r[0]);
    struct pollfd pfd = { .fd = r[1], .events = POLLOUT };
    say_first("  reader closed: writer ready %d, %#x", poll(&pfd, 1, 0), pfd.revents);
    MUST(write(r[1], "x", 1) == 1);
    say_first("  written: %d, res %s", gather(1, &event), code((long)event.res));
    say("  and now: %#x", writer_without_reader(r[1]));
    /* Errors and hang-ups come, whatever was asked for. */
    static const int few[] = { 0, POLLERR, POLLHUP, POLLNVAL, POLLPRI, 0x8000 };
    for (size_t m = 0; m < sizeof(few) / sizeof(*few); m++)
        for (int end = 0; end < 2; end++) {
            MUST(pipe(r) == 0);
            io_prep_poll(&cb, r[end], few[m]);
            say("poll pipe for %#x: %s", few[m], code(submit(&cb)));
            close(r[!end]);
            say_first("  the other end closed: %d, res %lx", gather(1, &event), (long)event.res);
            close(r[end]);
        }
    /* Many at once, one file. */
    struct iocb many[16], *list[16];
    struct io_event events[16];
    MUST(pipe(r) == 0);
    for (int i = 0; i < 16; i++) {
        io_prep_poll(&many[i], r[0], POLLIN);
        many[i].data = (void *)(long)i;
        list[i] = &many[i];
    }
    say("16 polls: %s", code(io_submit(ctx, 16, list)));
    MUST(write(r[1], "x", 1) == 1);
    int n = gather(16, events), ok = 0;
    for (int i = 0; i < n; i++)
        ok += (long)events[i].res == POLLIN && events[i].data == (void *)(long)i;
    say("  events %d, good %d", n, ok);
    io_prep_poll(&cb, r[0], POLLIN);
    cb.aio_fildes = -1;
    one(&cb, "poll fd -1");
    say("io_destroy: %s", code(io_destroy(ctx)));
}

static void cancels(void)
{
    char *buf = buffer(4096, 'x');
    int p[2], fd = file(8192, O_RDWR);
    struct io_event ev, canceled;
    struct timespec shortly = { 0, 50000000 };
    struct iocb cb, other;

    setup();
    MUST(pipe(p) == 0);
    io_prep_poll(&cb, p[0], POLLIN);
    cb.data = (void *)77L;
    other = cb;
    say("nothing submitted: %s", code(io_cancel(ctx, &cb, &ev)));
    say("poll: %s", code(submit(&cb)));
    say("io_cancel ctx NULL: %s", code(io_cancel(NULL, &cb, &ev)));
    say("io_cancel ctx bad: %s", code(io_cancel((io_context_t)1, &cb, &ev)));
    say("io_cancel ctx zeroes: %s", code(io_cancel((io_context_t)buffer(4096, 0), &cb, &ev)));
    say("io_cancel iocb NULL: %s", code(io_cancel(ctx, NULL, &ev)));
    say("io_cancel iocb bad: %s", code(io_cancel(ctx, bad_pointer(), &ev)));
    say("io_cancel another iocb: %s", code(io_cancel(ctx, &other, &ev)));
    cb.key = 5;
    say("io_cancel with a key: %s", code(io_cancel(ctx, &cb, &ev)));
    say("io_cancel with a key, bad ctx: %s", code(io_cancel((io_context_t)1, &cb, &ev)));
    cb.key = 0;
    memset(&canceled, 0x55, sizeof(canceled));
    say("io_cancel: %s", code(io_cancel(ctx, &cb, &canceled)));
    say("  its event is %s", canceled.res == 0x5555555555555555 ? "untouched" : "written");
    memset(&ev, 0x55, sizeof(ev));
    say_first("  events %d, res %s, data %ld, obj %s", gather(1, &ev), code((long)ev.res), (long)ev.data, ev.obj == &cb ? "ok" : "WRONG");
    say("io_cancel again: %s", code(io_cancel(ctx, &cb, &ev)));
    say("poll: %s", code(submit(&cb)));
    say("io_cancel, event NULL: %s", code(io_cancel(ctx, &cb, NULL)));
    say_first("  events %d, res %s", gather(1, &ev), code((long)ev.res));
    say("poll: %s", code(submit(&cb)));
    say("io_cancel, event bad: %s", code(io_cancel(ctx, &cb, bad_pointer())));
    say_first("  events %d, res %s", gather(1, &ev), code((long)ev.res));
    /* Twice the same iocb. */
    say("poll: %s", code(submit(&cb)));
    say("poll again: %s", code(submit(&cb)));
    say("io_cancel: %s", code(io_cancel(ctx, &cb, &ev)));
    say_first("  events %d, res %s", gather(1, &ev), code((long)ev.res));
    say("  more: %s", code(io_getevents(ctx, 1, 1, &ev, &shortly)));
    say("io_cancel: %s", code(io_cancel(ctx, &cb, &ev)));
    say_first("  events %d, res %s", gather(1, &ev), code((long)ev.res));
    say("io_cancel: %s", code(io_cancel(ctx, &cb, &ev)));
    /* Ready, and its event still in the ring. */
    MUST(write(p[1], "x", 1) == 1);
    say("poll: %s", code(submit(&cb)));
    arrived(1);
    say("io_cancel when it is over: %s", code(io_cancel(ctx, &cb, &ev)));
    say_first("  events %d, res %s", gather(1, &ev), code((long)ev.res));
    /* What cannot be cancelled. */
    cb = raw(IO_CMD_PREAD, fd, buf, 512, 0);
    MUST(submit(&cb) == 1);
    arrived(1);
    say("io_cancel of a read that is over: %s", code(io_cancel(ctx, &cb, &ev)));
    say_first("  events %d, res %s", gather(1, &ev), code((long)ev.res));
    /* With an eventfd. */
    int efd = eventfd(0, EFD_NONBLOCK);
    int r[2];
    MUST(pipe(r) == 0);
    io_prep_poll(&cb, r[0], POLLIN);
    io_set_eventfd(&cb, efd);
    say("poll: %s", code(submit(&cb)));
    say("io_cancel: %s", code(io_cancel(ctx, &cb, &ev)));
    say_first("  events %d, res %s", gather(1, &ev), code((long)ev.res));
    say("  eventfd %d", eventfd_sum(efd, 1));
    /* Another context. */
    io_context_t first = ctx;
    say("poll: %s", code(submit(&cb)));
    setup();
    say("io_cancel on another context: %s", code(io_cancel(ctx, &cb, &ev)));
    ctx = first;
    say("io_cancel: %s", code(io_cancel(ctx, &cb, &ev)));
    say_first("  events %d, res %s", gather(1, &ev), code((long)ev.res));
    /* The file is free again after. */
    close(r[0]);
    say("  file closed: %#x", writer_without_reader(r[1]));
    /* io_destroy with polls in flight. */
    MUST(pipe(r) == 0);
    io_prep_poll(&cb, r[0], POLLIN);
    for (int i = 0; i < 5; i++)
        MUST(submit(&cb) == 1);
    say("io_destroy with polls in flight: %s", code(io_destroy(ctx)));
    close(r[0]);
    say("  file closed: %#x", writer_without_reader(r[1]));
    say("io_cancel after io_destroy: %s", code(io_cancel(ctx, &cb, &ev)));
}

static void destroy_wakes(void)
{
    setup();
    pthread_t t = begin_waiter(NULL);
    say("io_destroy with a waiter: %s", code(io_destroy(ctx)));
    pthread_join(t, NULL);
    say("  the waiter got %s", code(waiter.ret));
}

/* ---- Limits ------------------------------------------------------------------------------------ */

/* The kernel keeps some of a context's requests for each processor: with one processor the number is exact. */
static void pin(void)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(sched_getcpu(), &set);
    MUST(sched_setaffinity(0, sizeof(set), &set) == 0);
}

/* The number itself depends on the processors that there may be. */
static const char *enough(int n, int asked)
{
    return n < asked ? "FEWER than asked for" : n < (int)((unsigned *)ctx)[1] ? "as many as asked for, fewer than nr" : "MORE than the ring holds";
}

static void context_limit(void)
{
    static const int sizes[] = { 1, 2, 4, 8, 16, 63, 64, 100, 128, 256, 1000, 5000 };
    char *buf = buffer(4096, 'x');
    int zero = open("/dev/zero", O_RDONLY), p[2];

    pin();
    MUST(pipe(p) == 0);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        struct iocb cb = raw(IO_CMD_PREAD, zero, buf, 8, 0), poll_cb;
        int n = 0, ret, cap = 100000;
        static struct io_event ev[40000];

        ctx = NULL;
        MUST(io_setup(sizes[i], &ctx) == 0);
        say("io_setup(%d): nr %u", sizes[i], ((unsigned *)ctx)[1]);
        int first;
        while ((ret = submit(&cb)) == 1 && n < cap)
            n++;
        say("  reads: %s, then %s", enough(n, sizes[i]), code(ret));
        first = n;
        int got = gather(n, ev);
        say("  events: %s", got == n ? "all" : "NOT all");
        for (n = 0; (ret = submit(&cb)) == 1 && n < cap;)
            n++;
        say("  reads more: %s, then %s", n == first ? "as many" : "ANOTHER number", code(ret));
        ret = io_getevents(ctx, 5, 5, ev, NULL);
        say("  5 events: %s", code(ret));
        got = gather(n - 5, ev);
        say("  events: %s", got == n - 5 ? "all" : "NOT all");
        io_prep_poll(&poll_cb, p[0], POLLIN);
        for (n = 0; (ret = submit(&poll_cb)) == 1 && n < cap;)
            n++;
        say("  polls: %s, then %s", n == first ? "as many" : "ANOTHER number", code(ret));
        cb.aio_fildes = -1;
        say("  a bad one at the limit: %s", code(submit(&cb)));
        struct iocb *null = NULL;
        say("  a NULL one at the limit: %s", code(io_submit(ctx, 1, &null)));
        cb.u.c.__pad3 = 1;
        say("  a reserved one at the limit: %s", code(submit(&cb)));
        say("  io_destroy: %s", code(io_destroy(ctx)));
    }
    /* A batch larger than what is left. */
    setup();
    struct iocb cb = raw(IO_CMD_PREAD, zero, buf, 8, 0);
    static struct iocb *list[3000];
    for (int i = 0; i < 3000; i++)
        list[i] = &cb;
    int ret = io_submit(ctx, 3000, list);
    say("3000 in one call: %s", enough(ret, 64));
    static struct io_event ev[3000];
    say("  events: %s", gather(ret, ev) == ret ? "all" : "NOT all");
}

static void file_size(void)
{
    struct rlimit limit = { 64 * KB, RLIM_INFINITY };
    struct sigaction act = { .sa_handler = count_signal };
    char *buf = buffer(16 * KB, 'x');
    int fd = file(0, O_RDWR), direct = file(0, O_RDWR | O_DIRECT);
    struct iovec iov = { buf, 8192 };

    setup();
    MUST(sigaction(SIGXFSZ, &act, NULL) == 0);
    MUST(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    signals = 0;
    for (int i = 0; i < 2; i++, fd = direct) {
        run("below", IO_CMD_PWRITE, fd, buf, 8192, 0);
        run("across", IO_CMD_PWRITE, fd, buf, 8192, 60 * KB);
        run("at", IO_CMD_PWRITE, fd, buf, 4096, 64 * KB);
        run("at, writev", IO_CMD_PWRITEV, fd, &iov, 1, 64 * KB);
        run("beyond", IO_CMD_PWRITE, fd, buf, 4096, 1 << 20);
        run("0 bytes beyond", IO_CMD_PWRITE, fd, buf, 0, 1 << 20);
        say_file("file", fd);
    }
    say("SIGXFSZ came %s", signals ? "to the submitter" : "not");
}

static void file_size_default(void)
{
    struct rlimit limit = { 4096, RLIM_INFINITY };
    char *buf = buffer(16 * KB, 'x');
    int fd = file(0, O_RDWR);

    setup();
    signal(SIGXFSZ, SIG_IGN);
    MUST(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    run("at, ignored", IO_CMD_PWRITE, fd, buf, 4096, 4096);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGXFSZ);
    MUST(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    signal(SIGXFSZ, SIG_DFL);
    run("at, blocked", IO_CMD_PWRITE, fd, buf, 4096, 4096);
    usleep(20000);
    sigpending(&set);
    say("pending %d", sigismember(&set, SIGXFSZ));
}

/* The default action, core dump or termination, is not what a write that the kernel refuses in a worker may cause. */
static void file_size_kills(void)
{
    struct rlimit limit = { 4096, RLIM_INFINITY }, core = { 0, 0 };
    char *buf = buffer(16 * KB, 'x');
    int fd = file(0, O_RDWR);

    setup();
    setrlimit(RLIMIT_CORE, &core);
    MUST(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    run("at, default action", IO_CMD_PWRITE, fd, buf, 4096, 4096);
}

static void broken_pipes(void)
{
    char *buf = buffer(4096, 'x');
    struct sigaction act = { .sa_handler = count_signal };
    int p[2], s[2];

    setup();
    MUST(sigaction(SIGPIPE, &act, NULL) == 0);
    MUST(pipe(p) == 0);
    close(p[0]);
    signals = 0;
    run("pipe", IO_CMD_PWRITE, p[1], buf, 100, 0);
    usleep(20000);
    say("SIGPIPE came %s", signals ? "to the submitter" : "not");
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    close(s[0]);
    signals = 0;
    run("socket", IO_CMD_PWRITE, s[1], buf, 100, 0);
    usleep(20000);
    say("SIGPIPE came %s", signals ? "to the submitter" : "not");
    signal(SIGPIPE, SIG_IGN);
    run("pipe, ignored", IO_CMD_PWRITE, p[1], buf, 100, 0);
    run("socket, ignored", IO_CMD_PWRITE, s[1], buf, 100, 0);
}

static void broken_pipe_kills(void)
{
    char *buf = buffer(4096, 'x');
    int p[2];

    setup();
    MUST(pipe(p) == 0);
    close(p[0]);
    run("pipe, default action", IO_CMD_PWRITE, p[1], buf, 100, 0);
}

static void lost_pages(void)
{
    int fd = file(16 * KB, O_RDWR), mapped = file(4096, O_RDWR), p[2];
    char *map = mmap(NULL, 16 * KB, PROT_READ | PROT_WRITE, MAP_SHARED, mapped, 0);

    MUST(map != MAP_FAILED);
    setup();
    run("pread beyond a mapped file's end", IO_CMD_PREAD, fd, map + 8192, 4096, 0);
    run("pwrite from there", IO_CMD_PWRITE, fd, map + 8192, 4096, 0);
    run("pread across", IO_CMD_PREAD, fd, map, 8192, 0);
    run("pwrite across", IO_CMD_PWRITE, fd, map, 8192, 0);
    MUST(pipe(p) == 0);
    run("pwrite from there to a pipe", IO_CMD_PWRITE, p[1], map + 8192, 4096, 0);
    char *rdonly = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    run("pread to read-only memory", IO_CMD_PREAD, fd, rdonly, 4096, 0);
    run("pwrite from read-only memory", IO_CMD_PWRITE, fd, rdonly, 4096, 0);
    char *half = buffer(8192, 'h');
    MUST(mprotect(half + 4096, 4096, PROT_NONE) == 0);
    run("pread half of it good", IO_CMD_PREAD, fd, half, 8192, 0);
    run("pwrite half of it good", IO_CMD_PWRITE, fd, half, 8192, 0);
    int direct = file(16 * KB, O_RDWR | O_DIRECT);
    run("direct pread beyond the end", IO_CMD_PREAD, direct, map + 8192, 4096, 0);
    run("direct pread half good", IO_CMD_PREAD, direct, half, 8192, 0);
    run("direct pwrite half good", IO_CMD_PWRITE, direct, half, 8192, 0);
    run("direct pread to read-only memory", IO_CMD_PREAD, direct, rdonly, 4096, 0);
    say_file("file", fd);
}

/* ---- The ring ---------------------------------------------------------------------------------- */

struct ring {
    unsigned id, nr, head, tail, magic, compat, incompat, header_length;
    struct io_event events[];
};

static void ring_contents(void)
{
    char *buf = buffer(4096, 'x');
    int fd = file(8192, O_RDWR);
    struct io_event ev[4];
    struct timespec zero = { 0, 0 };
    io_context_t some[4] = { NULL };

    setup();
    struct ring *ring = (struct ring *)ctx;
    say("nr %u head %u tail %u magic %x compat %u incompat %u header %u", ring->nr, ring->head, ring->tail, ring->magic, ring->compat,
        ring->incompat, ring->header_length);
    say("aligned to %s", (uintptr_t)ctx % 4096 == 0 ? "a page" : "less");
    for (int i = 0; i < 4; i++) {
        MUST(io_setup(1, &some[i]) == 0);
        say("id %u", ((struct ring *)some[i])->id);
    }
    MUST(io_destroy(some[1]) == 0);
    some[1] = NULL;
    MUST(io_setup(300, &some[1]) == 0);
    say("id after one was destroyed %u", ((struct ring *)some[1])->id);
    struct iocb cb[3], *list[3];
    for (int i = 0; i < 3; i++) {
        cb[i] = raw(IO_CMD_PREAD, fd, buf, 512, 0);
        cb[i].data = (void *)(long)(i + 5);
        list[i] = &cb[i];
    }
    MUST(io_submit(ctx, 3, list) == 3);
    arrived(3);
    say("after three: head %u tail %u", ring->head, ring->tail);
    int seen[3] = { 0 };
    for (int i = 0; i < 3; i++) {
        struct io_event *e = &ring->events[i];
        long at = (long)e->data - 5;

        say("  event %d: res %ld res2 %ld", i, (long)e->res, (long)e->res2);
        if (at >= 0 && at < 3 && e->obj == &cb[at])
            seen[at]++;
    }
    say("  each once: %d%d%d", seen[0], seen[1], seen[2]);
    ring->head = 1;
    say("one reaped by hand: %s", code(io_getevents(ctx, 0, 4, ev, &zero)));
    say("head %u tail %u", ring->head, ring->tail);
    MUST(io_submit(ctx, 3, list) == 3);
    arrived(3);
    ring->head = ring->tail;
    say("all reaped by hand: %s", code(io_getevents(ctx, 0, 4, ev, &zero)));
    /* Around it several times, by hand alone. */
    unsigned reaped = 0;
    for (int round = 0; round < 200; round++) {
        MUST(io_submit(ctx, 3, list) == 3);
        double end = now() + 5;
        for (int n = 0; n < 3 && now() < end;) {
            unsigned head = ring->head;
            if (head == __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE))
                continue;
            if (ring->events[head].obj >= &cb[0] && ring->events[head].obj <= &cb[2] && (long)ring->events[head].res == 512)
                reaped++;
            __atomic_store_n(&ring->head, (head + 1) % ring->nr, __ATOMIC_RELEASE);
            n++;
        }
    }
    say("reaped around %u, head %u tail %u", reaped, ring->head, ring->tail);
    say("io_destroy: %s", code(io_destroy(ctx)));
    say("others: %s %s %s %s", code(io_destroy(some[0])), code(io_destroy(some[1])), code(io_destroy(some[2])), code(io_destroy(some[3])));
    char vec;
    errno = 0;
    say("the mapping is %s", mincore(ctx, 4096, (unsigned char *)&vec) == 0 ? "there" : "gone");
}

/* An id that is not its own. */
static void ring_foreign_id(void)
{
    struct io_event ev;
    struct iocb cb = raw(0, 0, NULL, 0, 0), *list = &cb;

    setup();
    struct ring *ring = (struct ring *)ctx;
    unsigned id = ring->id;
    ring->id = id + 100;
    say("id changed: io_submit %s", code(io_submit(ctx, 0, &list)));
    say("id changed: io_cancel %s", code(io_cancel(ctx, &cb, &ev)));
    int ret = io_destroy(ctx);
    say("id changed: io_destroy %s", code(ret));
    if (ret != 0) {
        ring->id = id;
        say("id back: io_submit %s", code(io_submit(ctx, 0, &list)));
        say("id back: io_destroy %s", code(io_destroy(ctx)));
    }
}

static void ring_odd_values(void)
{
    char *buf = buffer(4096, 'x');
    int fd = file(8192, O_RDWR);
    struct io_event ev[4];
    struct timespec shortly = { 0, 50000000 };

    setup();
    struct ring *ring = (struct ring *)ctx;
    struct iocb cb = raw(IO_CMD_PREAD, fd, buf, 512, 0);
    MUST(submit(&cb) == 1);
    arrived(1);
    ring->magic = 0;
    ring->nr = 1;
    ring->compat = ring->incompat = 77;
    ring->header_length = 0;
    say("header overwritten: %s", code(io_getevents(ctx, 1, 1, ev, &shortly)));
    one(&cb, "and on");
    ring->head = 0xffffffff;
    int ret = io_getevents(ctx, 0, 1, ev, &shortly);
    say("head -1: %s", ret >= 0 ? "no error" : code(ret));
    say("io_destroy: %s", code(io_destroy(ctx)));
}

static void ring_moved(void)
{
    char *buf = buffer(4096, 'x');
    int fd = file(8192, O_RDWR), p[2];
    struct io_event ev[4];
    struct iocb cb = raw(IO_CMD_PREAD, fd, buf, 512, 0), poll_cb;

    MUST(pipe(p) == 0);
    setup();
    io_context_t old = ctx;
    io_prep_poll(&poll_cb, p[0], POLLIN);
    MUST(submit(&poll_cb) == 1);
    char *to = mmap(NULL, 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *moved = mremap(ctx, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, to);
    say("mremap: %s", moved == to ? "moved" : moved == MAP_FAILED ? code(-errno) : "elsewhere");
    if (moved != to)
        return;
    say("the old address: io_submit %s", code(io_submit(old, 0, NULL)));
    say("io_destroy at the old address: %s", code(io_destroy(old)));
    ctx = (io_context_t)to;
    one(&cb, "a read");
    MUST(write(p[1], "x", 1) == 1);
    say_first("the poll of before: %d, res %s", gather(1, ev), code((long)ev[0].res));
    say("head %u tail %u", ((struct ring *)ctx)->head, ((struct ring *)ctx)->tail);
    say("io_destroy: %s", code(io_destroy(ctx)));
    char vec;
    say("the mapping is %s", mincore(to, 4096, (unsigned char *)&vec) == 0 ? "there" : "gone");
}

static void ring_unmapped(void)
{
    char *buf = buffer(4096, 'x');
    int fd = file(8192, O_RDWR);
    struct iocb cb = raw(IO_CMD_PREAD, fd, buf, 512, 0), *list = &cb;

    setup();
    size_t bytes = 4096;
    MUST(munmap(ctx, bytes) == 0);
    say("unmapped: io_submit %s", code(io_submit(ctx, 0, &list)));
    say("unmapped: io_destroy %s", code(io_destroy(ctx)));
    setup();
    one(&cb, "a new one");
    int p[2];
    struct io_event ev;
    MUST(pipe(p) == 0);
    io_prep_poll(&cb, p[0], POLLIN);
    MUST(submit(&cb) == 1);
    io_context_t first = ctx;
    MUST(munmap(ctx, bytes) == 0);
    MUST(write(p[1], "x", 1) == 1);
    usleep(50000);
    say("unmapped with a poll in flight: io_submit %s", code(io_submit(first, 0, &list)));
    setup();
    cb = raw(IO_CMD_PREAD, fd, buf, 512, 0);
    one(&cb, "a new one");
    (void)ev;
}

/* ---- Files that change under a request --------------------------------------------------------- */

static void retention(void)
{
    enum { N = 16, SIZE = 64 * KB };
    struct iocb cb[N], *list[N];
    struct io_event ev[N];

    setup();
    for (int direct = 0; direct < 2; direct++)
        for (int way = 0; way < 4; way++) {
            char *buf = buffer(N * SIZE, 'R');
            int a = file(0, O_RDWR | (direct ? O_DIRECT : 0)), keep = dup(a), b = file(0, O_RDWR), keep_b = dup(b);

            for (int i = 0; i < N; i++) {
                cb[i] = raw(IO_CMD_PWRITE, a, buf + i * SIZE, SIZE, i * SIZE);
                cb[i].data = (void *)(long)i;
                list[i] = &cb[i];
            }
            int ret = io_submit(ctx, N, list);
            if (way == 0)
                close(a);
            else if (way == 1)
                MUST(dup2(b, a) == a);
            else if (way == 2)
                MUST(dup3(b, a, O_CLOEXEC) == a);
            else {
                close(a);
                MUST(dup(b) >= 0);
            }
            int n = gather(N, ev), good = 0;
            for (int i = 0; i < n; i++)
                good += (long)ev[i].res == SIZE;
            say("way %d, direct %d: submitted %d, events %d, good %d", way, direct, ret, n, good);
            say_file("  first file", keep);
            say_file("  second file", keep_b);
            close(keep), close(b), close(keep_b);
            if (way != 0)
                close(a);
            munmap(buf, N * SIZE);
        }
    /* The last reference but the requests' own. */
    char name[] = "last", *path = path_in(dir, name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    char *buf = buffer(SIZE, 'L');
    struct iocb w = raw(IO_CMD_PWRITE, fd, buf, SIZE, 0);
    MUST(submit(&w) == 1);
    close(fd);
    say_first("closed: %d, res %s", gather(1, ev), code((long)ev[0].res));
    fd = open(path, O_RDONLY);
    say_file("  file", fd);
    close(fd);
    /* Unlinked and closed. */
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    w = raw(IO_CMD_PWRITE, fd, buf, SIZE, 0);
    MUST(submit(&w) == 1);
    unlink(path);
    close(fd);
    say_first("unlinked and closed: %d, res %s", gather(1, ev), code((long)ev[0].res));
    /* Once its requests have ended, a closed file is closed: a pipe's reader sees it. */
    int p[2];
    MUST(pipe(p) == 0);
    w = raw(IO_CMD_PWRITE, p[1], buf, 100, 0);
    MUST(submit(&w) == 1);
    close(p[1]);
    say_first("pipe: %d, res %s", gather(1, ev), code((long)ev[0].res));
    fcntl(p[0], F_SETFL, O_NONBLOCK);
    say("  read %d", (int)read(p[0], buf, 4096));
    ssize_t got = read_end(p[0], buf, 4096);
    say("  and then %s", got == 0 ? "the end" : code(-errno));
    /* ... while not closed, the end does not come. */
    MUST(pipe(p) == 0);
    w = raw(IO_CMD_PWRITE, p[1], buf, 100, 0);
    MUST(submit(&w) == 1);
    say_first("pipe: %d, res %s", gather(1, ev), code((long)ev[0].res));
    fcntl(p[0], F_SETFL, O_NONBLOCK);
    say("  read %d", (int)read(p[0], buf, 4096));
    got = read(p[0], buf, 4096);
    say("  and then %s", got == 0 ? "the end" : code(-errno));
    close(p[1]);
    got = read_end(p[0], buf, 4096);
    say("  closed: %s", got == 0 ? "the end" : code(-errno));
    /* Which numbers a program gets is not disturbed. */
    int before = dup(0), after;
    close(before);
    w = raw(IO_CMD_PREAD, open("/dev/zero", O_RDONLY), buf, 100, 0);
    one(&w, "read");
    after = dup(0);
    say("the next descriptor is %s", after == before + 1 ? "the next" : "another");
}

static void locks(void)
{
    /* Record locks go when any descriptor of the file is closed by the process: the library must close none early. */
    int fd = file(8192, O_RDWR), status = 0;
    char *buf = buffer(4096, 'x');
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 100 };

    setup();
    MUST(fcntl(fd, F_SETLK, &lock) == 0);
    for (int i = 0; i < 10; i++)
        run("pwrite", IO_CMD_PWRITE, fd, buf, 4096, 0);
    usleep(50000);
    pid_t child = fork();
    if (child == 0) {
        lock.l_type = F_WRLCK;
        MUST(fcntl(fd, F_GETLK, &lock) == 0);
        _exit(lock.l_type == F_UNLCK ? 1 : 0);
    }
    waitpid(child, &status, 0);
    say("the lock is %s", WEXITSTATUS(status) == 0 ? "held" : "LOST");
}

/* ---- Processes --------------------------------------------------------------------------------- */

static void after_fork(void)
{
    char *buf = buffer(4096, 'x');
    int fd = file(8192, O_RDWR), status = 0, p[2];
    struct iocb cb = raw(IO_CMD_PREAD, fd, buf, 512, 0), poll_cb;
    struct io_event ev;
    struct timespec shortly = { 0, 50000000 }, zero = { 0, 0 };

    MUST(pipe(p) == 0);
    setup();
    one(&cb, "before");
    io_prep_poll(&poll_cb, p[0], POLLIN);
    MUST(submit(&poll_cb) == 1);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        say("child: io_submit %s", code(submit(&cb)));
        say("child: io_submit 0 %s", code(io_submit(ctx, 0, NULL)));
        say("child: io_getevents %s", code(io_getevents(ctx, 0, 1, &ev, &shortly)));
        say("child: io_getevents, no wait %s", code(io_getevents(ctx, 0, 1, &ev, &zero)));
        say("child: io_cancel %s", code(io_cancel(ctx, &poll_cb, &ev)));
        say("child: io_destroy %s", code(io_destroy(ctx)));
        ctx = NULL;
        say("child: io_setup %s", code(io_setup(10, &ctx)));
        one(&cb, "child: read");
        say("child: io_destroy %s", code(io_destroy(ctx)));
        exit(5);
    }
    waitpid(child, &status, 0);
    say("child ended with %d", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
    one(&cb, "after");
    say("io_cancel: %s", code(io_cancel(ctx, &poll_cb, &ev)));
    say("  events %d", gather(1, &ev));
    say("io_destroy: %s", code(io_destroy(ctx)));
    child = vfork();
    if (child == 0)
        _exit(0);
    waitpid(child, &status, 0);
    say("vfork: %d", status);
}

/* A child submits and ends in some way at once; what it had submitted must be in the file. */
static void at_exit(void)
{
    enum { N = 32, SIZE = 16 * KB };
    static const char *const ways[] = { "exit", "_exit", "exit_group", "exec", "SIGKILL later", "pthread_exit", "abort" };

    for (size_t way = 0; way < sizeof(ways) / sizeof(*ways); way++)
        for (int direct = 0; direct < 2; direct++) {
            int fd = file(0, O_RDWR | (direct ? O_DIRECT : 0)), status = 0;

            fflush(stdout);
            pid_t child = fork();
            if (child == 0) {
                struct iocb cb[N], *list[N];
                struct rlimit core = { 0, 0 };
                char *buf = buffer(N * SIZE, 'E');

                setrlimit(RLIMIT_CORE, &core);
                setup();
                for (int i = 0; i < N; i++) {
                    cb[i] = raw(IO_CMD_PWRITE, fd, buf + i * SIZE, SIZE, i * SIZE);
                    list[i] = &cb[i];
                }
                MUST(io_submit(ctx, N, list) == N);
                switch (way) {
                case 0: exit(0);
                case 1: _exit(0);
                case 2: syscall(SYS_exit_group, 0); break;
                case 3: execl("/bin/true", "true", NULL); break;
                case 4:
                    arrived(N);
                    kill(getpid(), SIGKILL);
                    break;
                case 5: pthread_exit(NULL);
                case 6: abort();
                }
                _exit(1);
            }
            waitpid(child, &status, 0);
            char label[64];
            snprintf(label, sizeof(label), "%s, direct %d: status %#x, file", ways[way], direct, status & ~0x80);
            say_file(label, fd);
            close(fd);
        }
}

/* The same of writes to a pipe, a socket and a file that it does not wait for; also as the parent of a daemon. */
static void at_exit_streams(void)
{
    enum { N = 8, SIZE = 3 * KB };
    static const char *const ways[] = { "exit", "quick_exit", "fork and _exit", "daemon", "_exit", "exec" };

    for (size_t way = 0; way < sizeof(ways) / sizeof(*ways); way++)
        for (int round = 0; round < 5; round++) {
            int p[2], s[2], status = 0, fd = file(0, O_RDWR | O_APPEND);
            char *buf = buffer(N * SIZE, 'E');

            for (int i = 0; i < N * SIZE; i++)
                buf[i] = (char)(i / 97);
            MUST(pipe(p) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
            fflush(stdout);
            pid_t child = fork();
            if (child == 0) {
                struct iocb cb[3 * N], *list[3 * N];

                setup();
                for (int i = 0; i < 3 * N; i++) {
                    cb[i] = raw(IO_CMD_PWRITE, (int[]){ p[1], s[1], fd }[i % 3], buf + i / 3 * SIZE, SIZE, 0);
                    list[i] = &cb[i];
                }
                MUST(io_submit(ctx, 3 * N, list) == 3 * N);
                switch (way) {
                case 0: exit(0);
                case 1: quick_exit(0);
                case 2: (void)!fork(); break;
                case 3: (void)!daemon(1, 1); break;
                case 5: execl("/bin/true", "true", NULL);
                }
                _exit(0);
            }
            close(p[1]);
            close(s[1]);
            waitpid(child, &status, 0);
            int ends[] = { p[0], s[0] };
            for (int i = 0; i < 2; i++) {
                char seen[2 * N * SIZE];
                size_t got = 0;

                for (ssize_t more; (more = read(ends[i], seen + got, sizeof(seen) - got)) > 0;)
                    got += (size_t)more;
                say("%s, status %#x: %s %zu, sum %04x", ways[way], status, i == 0 ? "pipe" : "socket", got, sum(seen, got));
                close(ends[i]);
            }
            char label[64];
            snprintf(label, sizeof(label), "%s, file", ways[way]);
            say_file(label, fd);
            close(fd);
        }
}

static void other_threads_context(void)
{
    /* A context made by a thread that has ended, used by others. */
    setup();
    pthread_t t = begin_waiter(NULL);
    struct iocb cb;
    io_prep_poll(&cb, eventfd(1, 0), POLLIN);
    say("submit from another thread: %s", code(submit(&cb)));
    pthread_join(t, NULL);
    say("  the waiter got %s", code(waiter.ret));
}

static void as_another_user(void)
{
    /* A request runs with the rights of when the file was opened: dropping them afterwards changes nothing. */
    char *buf = buffer(4096, 'x');
    int fd = file(8192, O_RDWR);

    setup();
    run("pwrite", IO_CMD_PWRITE, fd, buf, 4096, 0);
    if (geteuid() == 0)
        MUST(setresuid(65534, 65534, 65534) == 0);
    run("pwrite", IO_CMD_PWRITE, fd, buf, 4096, 0);
    run("fdsync", IO_CMD_FDSYNC, fd, NULL, 0, 0);
    MUST(chdir("/") == 0);
    run("pread", IO_CMD_PREAD, fd, buf, 4096, 0);
}

/* ---- io_queue_* --------------------------------------------------------------------------------- */

static long called, called_res;
static struct iocb *called_iocb;
static io_context_t called_ctx;
static void callback(io_context_t c, struct iocb *cb, long res, long res2)
{
    called++;
    called_ctx = c;
    called_iocb = cb;
    called_res = res + res2 * 1000000;
}

static void callback_submits(io_context_t c, struct iocb *cb, long res, long res2)
{
    (void)res, (void)res2;
    if (++called < 10)
        io_submit(c, 1, &cb);
}

/* Calls io_queue_run until there has been one callback more. */
static int run_until(long before)
{
    int ret = 0;

    for (double end = now() + 10; called == before && ret == 0 && now() < end;) {
        usleep(1000);
        ret = io_queue_run(ctx);
    }
    return ret;
}

static void queues(void)
{
    extern int io_queue_wait(io_context_t, struct timespec *);
    char *buf = buffer(4096, 'x');
    int fd = file(8192, O_RDWR), ev1 = eventfd(1, 0);
    struct timespec shortly = { 0, 100000000 }, zero = { 0, 0 };
    struct iocb cb[3], *list[3];
    struct io_event ev[4];

    ctx = NULL;
    say("io_queue_init: %s", code(io_queue_init(8, &ctx)));
    say("io_queue_run, nothing: %s", code(io_queue_run(ctx)));
    say("io_queue_wait, nothing: %s", code(io_queue_wait(ctx, &shortly)));
    say("io_queue_wait, no wait: %s", code(io_queue_wait(ctx, &zero)));
    say("io_queue_wait, no limit: %s", code(io_queue_wait(ctx, NULL)));
    cb[0] = raw(IO_CMD_PREAD, fd, buf, 512, 0);
    io_set_callback(&cb[0], callback);
    list[0] = &cb[0];
    MUST(io_submit(ctx, 1, list) == 1);
    arrived(1);
    say("io_queue_wait, one there: %s", code(io_queue_wait(ctx, &shortly)));
    say("io_queue_run: %s", code(io_queue_run(ctx)));
    say("  called %ld, res %ld, iocb %s, ctx %s", called, called_res, called_iocb == &cb[0] ? "ok" : "WRONG", called_ctx == ctx ? "ok" : "WRONG");
    say_first("io_queue_run again: %s, called %ld", code(io_queue_run(ctx)), called);
    called = 0;
    for (int i = 0; i < 3; i++) {
        cb[i] = raw(IO_CMD_PWRITE, fd, i == 1 ? bad_pointer() : buf, 512, 0);
        io_set_callback(&cb[i], callback);
        list[i] = &cb[i];
    }
    MUST(io_submit(ctx, 3, list) == 3);
    arrived(3);
    say_first("io_queue_run, three: %s, called %ld", code(io_queue_run(ctx)), called);
    /* From the inlines of the header. */
    called = 0;
    say("io_fsync: %s", code(io_fsync(ctx, &cb[0], callback, fd)));
    say_first("io_queue_run: %s, called %ld, res %s", code(run_until(called)), called, code(called_res));
    say("io_fdsync: %s", code(io_fdsync(ctx, &cb[0], callback, fd)));
    say_first("io_queue_run: %s, called %ld, res %s", code(run_until(called)), called, code(called_res));
    say("io_poll: %s", code(io_poll(ctx, &cb[0], callback, ev1, POLLIN)));
    say_first("io_queue_run: %s, called %ld, res %s", code(run_until(called)), called, code(called_res));
    called = 0;
    cb[0] = raw(IO_CMD_PREAD, fd, buf, 512, 0);
    io_set_callback(&cb[0], callback_submits);
    list[0] = &cb[0];
    MUST(io_submit(ctx, 1, list) == 1);
    for (int i = 0; i < 4000 && called < 10; i++) {
        usleep(5000);
        MUST(io_queue_run(ctx) == 0);
    }
    say("a callback that submits: called %ld", called);
    say("io_queue_run(NULL): %s", code(io_queue_run(NULL)));
    say("io_queue_wait(NULL): %s", code(io_queue_wait(NULL, &shortly)));
    say("io_queue_release: %s", code(io_queue_release(ctx)));
    say("io_queue_release(NULL): %s", code(io_queue_release(NULL)));
    (void)ev;
}

/* The old versions, which programs linked against libaio 0.1 call. */
extern int old_getevents(io_context_t, long, struct io_event *, const struct timespec *);
extern int old_cancel(io_context_t, struct iocb *);
extern int old_queue_wait(io_context_t, struct timespec *);
__asm__(".symver old_getevents, io_getevents@LIBAIO_0.1");
__asm__(".symver old_cancel, io_cancel@LIBAIO_0.1");
__asm__(".symver old_queue_wait, io_queue_wait@LIBAIO_0.1");

static void old_versions(void)
{
    char *buf = buffer(4096, 'x');
    int fd = file(8192, O_RDWR), p[2];
    struct timespec shortly = { 0, 100000000 }, zero = { 0, 0 };
    struct io_event ev[4];
    struct iocb cb;

    setup();
    say("getevents@0.1, nothing: %s", TIMED(100, old_getevents(ctx, 4, ev, &shortly)));
    say("getevents@0.1, no wait: %s", code(old_getevents(ctx, 4, ev, &zero)));
    say("getevents@0.1, nr 0: %s", code(old_getevents(ctx, 0, ev, &shortly)));
    say("getevents@0.1, nr -1: %s", code(old_getevents(ctx, -1, ev, &shortly)));
    say("getevents@0.1, ctx NULL: %s", code(old_getevents(NULL, 1, ev, &shortly)));
    cb = raw(IO_CMD_PREAD, fd, buf, 512, 0);
    MUST(submit(&cb) == 1);
    say_first("getevents@0.1, no limit: %s, res %s", code(old_getevents(ctx, 4, ev, NULL)), code((long)ev[0].res));
    MUST(pipe(p) == 0);
    io_prep_poll(&cb, p[0], POLLIN);
    say("cancel@0.1, nothing: %s", code(old_cancel(ctx, &cb)));
    MUST(submit(&cb) == 1);
    say("cancel@0.1: %s", code(old_cancel(ctx, &cb)));
    say_first("  events %d, res %s", gather(1, ev), code((long)ev[0].res));
    say("cancel@0.1, NULL: %s", code(old_cancel(ctx, NULL)));
    say("queue_wait@0.1, nothing: %s", code(old_queue_wait(ctx, &shortly)));
    say("queue_wait@0.1, no limit: %s", code(old_queue_wait(ctx, NULL)));
    say("queue_wait@0.1, NULL: %s", code(old_queue_wait(NULL, &shortly)));
}

static void many_in_flight(void)
{
    enum { N = 120, ROUNDS = 40, SIZE = 4096 };
    static struct iocb cb[N], *list[N];
    static struct io_event ev[N];
    char *buf = buffer(N * SIZE, 0);
    int fd = file(0, O_RDWR), direct, good = 0;

    ctx = NULL;
    MUST(io_setup(N, &ctx) == 0);
    for (int i = 0; i < N; i++)
        memset(buf + i * SIZE, 'A' + i % 50, SIZE);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < N; i++) {
            int at = (i * 7 + round) % N;

            cb[i] = raw(round % 2 ? IO_CMD_PREAD : IO_CMD_PWRITE, fd, buf + at * SIZE, SIZE, (long long)at * SIZE);
            cb[i].data = (void *)(long)i;
            list[i] = &cb[i];
        }
        int ret = io_submit(ctx, N, list);
        int n = gather(ret, ev);
        for (int i = 0; i < n; i++)
            good += (long)ev[i].res == SIZE && ev[i].data == (void *)(long)i && ev[i].obj == &cb[i];
    }
    say("%d rounds of %d: good %d", ROUNDS, N, good);
    say_file("file", fd);
    (void)direct;
}

/* Submits all, at once or one by one, and takes as many events. */
static void all_of(struct iocb *cbs, int n, bool one_by_one)
{
    struct iocb *list[64];
    struct io_event ev[64];

    for (int i = 0; i < n; i++)
        list[i] = &cbs[i];
    for (int i = 0; one_by_one && i < n; i++)
        MUST(io_submit(ctx, 1, &list[i]) == 1);
    MUST(one_by_one || io_submit(ctx, n, list) == n);
    MUST(gather(n, ev) == n);
}

/* Pages of a file that are not on its device yet. */
static long unwritten(int fd)
{
    unsigned long long range[2] = { 0, 0 }, pages[5] = { 0 };

    if (syscall(451, fd, range, pages, 0) != 0)
        return 0;
    return (long)(pages[1] + pages[2]);
}

/* The requests for one file have the effect of their order of submission. */
static void in_order(void)
{
    enum { SIZE = 8 * KB, N = 16 };
    char *from = buffer(N * SIZE, 0), *to = buffer(N * SIZE, 0);

    for (int i = 0; i < N * SIZE; i++)
        from[i] = (char)(i / SIZE * 31 + i / 100);
    setup();
    for (int how = 0; how < 8; how++) {
        bool one_by_one = how & 1, append = how & 2, two = how & 4;
        struct iocb cb[2 * N + 2];
        char label[64];
        int bad = 0, n = 0;

        snprintf(label, sizeof(label), "%s%s%s", append ? "appends" : "writes", one_by_one ? ", one by one" : "", two ? ", two descriptors" : "");
        int fd = file(append ? 0 : 2 * SIZE, O_RDWR | (append ? O_APPEND : 0)), other = fd;
        if (two) {
            char name[64];

            snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
            MUST((other = open(name, O_RDWR | (append ? O_APPEND : 0))) >= 0);
        }
        for (int i = 0; i < N; i++) {
            cb[n++] = raw(IO_CMD_PWRITE, fd, from + i * SIZE, SIZE, append ? 0 : i % 2 * 1000);
            cb[n++] = raw(IO_CMD_PREAD, other, to + i * SIZE, SIZE, append ? i * SIZE : i % 2 * 1000);
        }
        cb[n++] = raw(how % 3 == 0 ? IO_CMD_FSYNC : IO_CMD_FDSYNC, other, NULL, 0, 0);
        all_of(cb, n, one_by_one);
        say("%s: not on the device %ld", label, unwritten(fd));
        for (int i = 0; i < N; i++)
            bad += memcmp(from + i * SIZE, to + i * SIZE, SIZE) != 0;
        say("  reads that are wrong %d", bad);
        say_file("  file", fd);
        close(fd);
        if (two)
            close(other);
    }
    for (int one_by_one = 0; one_by_one < 2; one_by_one++) {
        struct iocb cb[4];
        struct io_event ev[4];
        int fd = file(100, O_RDWR);

        cb[0] = raw(IO_CMD_PREAD, fd, to, SIZE, 0);
        cb[1] = raw(IO_CMD_PWRITE, fd, from, 100, 3 * SIZE);
        cb[2] = raw(IO_CMD_PREAD, fd, to, SIZE, SIZE);
        cb[3] = raw(IO_CMD_PREAD, fd, to, SIZE, 3 * SIZE);
        for (int i = 0; i < 4; i++) {
            struct iocb *one = &cb[i];

            cb[i].data = (void *)(long)i;
            if (one_by_one)
                MUST(io_submit(ctx, 1, &one) == 1);
        }
        struct iocb *list[4] = { &cb[0], &cb[1], &cb[2], &cb[3] };
        MUST(one_by_one || io_submit(ctx, 4, list) == 4);
        MUST(gather(4, ev) == 4);
        for (int i = 0; i < 4; i++)
            say("around the end: %d: %s", i, code((long)ev[i].res));
        close(fd);
    }
    int p[2];
    struct iocb cb[N];
    MUST(pipe(p) == 0);
    for (int i = 0; i < N; i++)
        cb[i] = raw(IO_CMD_PWRITE, p[1], from + i * SIZE, i % 2 ? 10 : 4000, 0);
    all_of(cb, N, false);
    ssize_t got = read(p[0], to, N * SIZE);
    say("a pipe: %zd, sum %04x", got, sum(to, (size_t)got));
}

/* ---- By system calls ---------------------------------------------------------------------------- */

/* libaio is not in between; under aio2-run these go to the library all the same. */
static void raw_calls(void)
{
    char *buf = buffer(4096, 'x');
    int fd = file(8192, O_RDWR), p[2];
    unsigned long c = 0;
    struct iocb cb = raw(IO_CMD_PREAD, fd, buf, 512, 0), *list[1] = { &cb };
    struct io_event ev[2];
    struct timespec shortly = { 0, 50000000 };
    struct { sigset_t *set; size_t size; } mask = { NULL, 8 };
    sigset_t none;

#define SYSN(...)                                                                                                      \
    ({                                                                                                                 \
        errno = 0;                                                                                                     \
        long r_ = syscall(__VA_ARGS__);                                                                                \
        r_ == -1 ? code(-errno) : code(r_);                                                                            \
    })
    say("io_setup: %s", SYSN(SYS_io_setup, 16, &c));
    say("io_setup again: %s", SYSN(SYS_io_setup, 16, &c));
    say("io_setup 0: %s", SYSN(SYS_io_setup, 0, &(unsigned long){ 0 }));
    say("io_setup NULL: %s", SYSN(SYS_io_setup, 1, NULL));
    say("io_submit: %s", SYSN(SYS_io_submit, c, 1, list));
    say("io_getevents: %s", SYSN(SYS_io_getevents, c, 1, 2, ev, &shortly));
    say("  res %s, obj %s", code((long)ev[0].res), ev[0].obj == &cb ? "ok" : "WRONG");
    say("io_getevents, empty: %s", SYSN(SYS_io_getevents, c, 1, 2, ev, &shortly));
    say("io_getevents, timeout bad: %s", SYSN(SYS_io_getevents, c, 1, 2, ev, bad_pointer()));
    say("io_getevents, min > nr: %s", SYSN(SYS_io_getevents, c, 3, 2, ev, &(struct timespec){ 0, 0 }));
    say("io_getevents, ctx bad: %s", SYSN(SYS_io_getevents, bad_pointer(), 1, 2, ev, &shortly));
    say("io_getevents, ctx 1: %s", SYSN(SYS_io_getevents, 1L, 1, 2, ev, &shortly));
    say("io_getevents, ctx bad, timeout bad: %s", SYSN(SYS_io_getevents, 1L, 1, 2, ev, bad_pointer()));
    say("io_pgetevents, no mask: %s", SYSN(SYS_io_pgetevents, c, 1, 2, ev, &shortly, NULL));
    say("io_pgetevents, mask NULL: %s", SYSN(SYS_io_pgetevents, c, 1, 2, ev, &shortly, &mask));
    sigemptyset(&none);
    mask.set = &none;
    say("io_pgetevents, mask: %s", SYSN(SYS_io_pgetevents, c, 1, 2, ev, &shortly, &mask));
    mask.size = 128;
    say("io_pgetevents, mask of 128: %s", SYSN(SYS_io_pgetevents, c, 1, 2, ev, &shortly, &mask));
    mask.size = 4;
    say("io_pgetevents, mask of 4: %s", SYSN(SYS_io_pgetevents, c, 1, 2, ev, &shortly, &mask));
    say("io_pgetevents, mask struct bad: %s", SYSN(SYS_io_pgetevents, c, 1, 2, ev, &shortly, bad_pointer()));
    mask.size = 8, mask.set = bad_pointer();
    say("io_pgetevents, mask bad: %s", SYSN(SYS_io_pgetevents, c, 1, 2, ev, &shortly, &mask));
    say("io_submit, bad fd: %s", SYSN(SYS_io_submit, c, 1, (struct iocb *[]){ &(struct iocb){ .aio_fildes = -1 } }));
    say("io_submit, NULL: %s", SYSN(SYS_io_submit, c, 1, NULL));
    say("io_submit, -1: %s", SYSN(SYS_io_submit, c, -1L, list));
    MUST(pipe(p) == 0);
    io_prep_poll(&cb, p[0], POLLIN);
    say("io_submit poll: %s", SYSN(SYS_io_submit, c, 1, list));
    say("io_cancel: %s", SYSN(SYS_io_cancel, c, &cb, ev));
    say("io_getevents: %s", SYSN(SYS_io_getevents, c, 1, 2, ev, &shortly));
    say("io_cancel: %s", SYSN(SYS_io_cancel, c, &cb, ev));
    say("io_destroy: %s", SYSN(SYS_io_destroy, c));
    say("io_destroy: %s", SYSN(SYS_io_destroy, c));
    /* Others go to the kernel as they are. */
    say("getpid: %s", syscall(SYS_getpid) == getpid() ? "ok" : "WRONG");
    say("gettid: %s", syscall(SYS_gettid) == gettid() ? "ok" : "WRONG");
    say("close(-1): %s", SYSN(SYS_close, -1));
    say("no such call: %s", SYSN(99999));
    say("call -1: %s", SYSN(-1L));
    say("openat: %s", SYSN(SYS_openat, AT_FDCWD, "/nonexistent", O_RDONLY, 0));
    void *map = (void *)syscall(SYS_mmap, NULL, 8192UL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1L, 0UL);
    say("mmap: %s", map != MAP_FAILED ? (memset(map, 1, 8192), "ok") : "WRONG");
    errno = 77;
    say("errno is left alone by success: %s", syscall(SYS_getppid) > 0 && errno == 77 ? "ok" : "WRONG");
    uint32_t word = 5;
    say("futex: %s", SYSN(SYS_futex, &word, 128 | 0, 4, NULL, NULL, 0));
    pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0L, 0L, 0L, 0L);
    if (child == 0)
        syscall(SYS_exit_group, 7);
    int status = 0;
    waitpid(child, &status, 0);
    say("clone: %d", WEXITSTATUS(status));
}

/* ---- */

static const struct section {
    const char *part, *name;
    void (*run)(void);
} sections[] = {
    { "api", "setup_arguments", setup_arguments },
    { "api", "destroy_arguments", destroy_arguments },
    { "api", "submit_arguments", submit_arguments },
    { "api", "getevents_arguments", getevents_arguments },
    { "api", "timeout_bad_pointer", timeout_bad_pointer },
    { "api", "getevents_garbage_context", getevents_garbage_context },
    { "api", "getevents_destroyed_context", getevents_destroyed_context },
    { "ops", "operations_ext4", operations_ext4 },
    { "ops", "operations_ext4_direct", operations_ext4_direct },
    { "ops", "operations_ext4_dsync", operations_ext4_dsync },
    { "ops", "operations_ext4_append", operations_ext4_append },
    { "ops", "operations_tmpfs", operations_tmpfs },
    { "ops", "operations_blockdev", operations_blockdev },
    { "ops", "operations_special", operations_special },
    { "ops", "operations_pipe", operations_pipe },
    { "ops", "operations_nowait", operations_nowait },
    { "io", "requests_bad", requests_bad },
    { "io", "iovecs", iovecs },
    { "io", "priorities", priorities },
    { "io", "eventfds", eventfds },
    { "io", "lost_pages", lost_pages },
    { "io", "many_in_flight", many_in_flight },
    { "io", "in_order", in_order },
    { "limits", "context_limit", context_limit },
    { "limits", "file_size", file_size },
    { "limits", "file_size_default", file_size_default },
    { "limits", "file_size_kills", file_size_kills },
    { "limits", "broken_pipes", broken_pipes },
    { "limits", "broken_pipe_kills", broken_pipe_kills },
    { "wait", "timeouts", timeouts },
    { "wait", "timeouts_huge", timeouts_huge },
    { "wait", "interrupted", interrupted },
    { "wait", "shared", shared },
    { "wait", "destroy_wakes", destroy_wakes },
    { "cancel", "polls", polls },
    { "cancel", "cancels", cancels },
    { "ring", "ring_contents", ring_contents },
    { "ring", "ring_foreign_id", ring_foreign_id },
    { "ring", "ring_odd_values", ring_odd_values },
    { "ring", "ring_moved", ring_moved },
    { "ring", "ring_unmapped", ring_unmapped },
    { "files", "retention", retention },
    { "files", "locks", locks },
    { "process", "after_fork", after_fork },
    { "process", "at_exit", at_exit },
    { "process", "at_exit_streams", at_exit_streams },
    { "process", "other_threads_context", other_threads_context },
    { "process", "as_another_user", as_another_user },
    { "queue", "queues", queues },
    { "queue", "old_versions", old_versions },
    { "raw", "raw_calls", raw_calls },
};

int main(int argc, char **argv)
{
    struct rlimit core = { 0, 0 };

    if (argc < 4) {
        fprintf(stderr, "usage: diff PART|SECTION|all DIR TMPFS_DIR [BLOCKDEV]\n");
        return 2;
    }
    dir = argv[2];
    tmpfs_dir = argv[3];
    blockdev = argv[4];
    signal(SIGPIPE, SIG_DFL);
    signal(SIGXFSZ, SIG_DFL);
    setrlimit(RLIMIT_CORE, &core);
    for (size_t i = 0; i < sizeof(sections) / sizeof(*sections); i++) {
        const struct section *s = &sections[i];
        int status = 0;

        if (strcmp(argv[1], s->part) != 0 && strcmp(argv[1], s->name) != 0 && strcmp(argv[1], "all") != 0)
            continue;
        say("==== %s", s->name);
        pid_t child = fork();
        if (child == 0) {
            s->run();
            exit(0);
        }
        /* 60 s, then it hangs. */
        for (int n = 0; n < 6000 && waitpid(child, &status, WNOHANG) == 0; n++) {
            usleep(10000);
            if (n == 5999) {
                kill(child, SIGKILL);
                waitpid(child, &status, 0);
                say("HANGS");
            }
        }
        if (WIFSIGNALED(status))
            say("==== %s ended by signal %d", s->name, WTERMSIG(status));
        else if (WEXITSTATUS(status) != 0)
            say("==== %s ended with %d", s->name, WEXITSTATUS(status));
    }
    return 0;
}
