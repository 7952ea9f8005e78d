/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The common part of all tests. A test is one program that shows one behaviour and ends with 0 (passed),
 * 1 (failed) or 77 (skipped). It includes this file before everything else.
 *
 * The first failing CHECK ends the program. It ends with _exit(), because the library's own work at
 * exit() could hang in just the situation that the test has found.
 */
#ifndef AIO2_TEST_H
#define AIO2_TEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "aio2.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TEST_UNUSED __attribute__((unused))

/* No event of a request with this library's attributes is larger. */
#define EVENT_BYTES_MAX 8192

#define NSEC_PER_MSEC INT64_C(1000000)
#define NSEC_PER_SEC INT64_C(1000000000)

/* ---- Failing, skipping, time limit ------------------------------------------------------------ */

static char test_temp_dir[PATH_MAX];
static pid_t test_temp_owner;
static const char *test_last_file = __FILE__;
static int test_last_line;

static int test_remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

/* A forked child inherits the name of the directory, but it is not the child's to remove. */
static void test_remove_temp(void)
{
    if (test_temp_dir[0] != '\0' && test_temp_owner == getpid()) {
        nftw(test_temp_dir, test_remove_one, 16, FTW_DEPTH | FTW_PHYS);
        test_temp_dir[0] = '\0';
    }
}

static void TEST_UNUSED __attribute__((noreturn)) test_end(int code)
{
    fflush(stdout);
    fflush(stderr);
    test_remove_temp();
    _exit(code);
}

/* Remembers the place for the message of the time limit. */
static inline void test_at(const char *file, int line)
{
    __atomic_store_n(&test_last_file, file, __ATOMIC_RELAXED);
    __atomic_store_n(&test_last_line, line, __ATOMIC_RELAXED);
}

static void TEST_UNUSED __attribute__((noreturn, format(printf, 3, 4)))
test_fail(const char *file, int line, const char *format, ...)
{
    va_list args;

    fprintf(stderr, "%s:%d: ", file, line);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    test_end(1);
}

#define FAIL(...) test_fail(__FILE__, __LINE__, __VA_ARGS__)

#define SKIP(reason)                                                                               \
    do {                                                                                           \
        fprintf(stderr, "SKIPPED: %s\n", (reason));                                                \
        test_end(77);                                                                              \
    } while (0)

/* Fails unless `condition` is true. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        test_at(__FILE__, __LINE__);                                                               \
        if (!(condition))                                                                          \
            test_fail(__FILE__, __LINE__, "expected: %s (errno is %d)", #condition, errno);        \
    } while (0)

static TEST_UNUSED const char *test_errno_text(long long value)
{
    return value < 0 && value > -4096 ? strerror((int)-value) : "";
}

static inline void test_check_eq(const char *file, int line, const char *what, long long seen, long long expected)
{
    test_at(file, line);
    if (seen != expected)
        test_fail(file, line, "%s: expected %lld (%#llx) %s, seen %lld (%#llx) %s", what, expected,
                  (unsigned long long)expected, test_errno_text(expected), seen, (unsigned long long)seen,
                  test_errno_text(seen));
}

/* Fails unless the integers are equal. The observed value comes first. */
#define CHECK_EQ(seen, expected)                                                                   \
    test_check_eq(__FILE__, __LINE__, #seen, (long long)(seen), (long long)(expected))

/* Fails unless `seen op bound`, for integers. */
#define CHECK_CMP(seen, op, bound)                                                                 \
    do {                                                                                           \
        long long check_seen_ = (long long)(seen);                                                 \
        long long check_bound_ = (long long)(bound);                                               \
        test_at(__FILE__, __LINE__);                                                               \
        if (!(check_seen_ op check_bound_))                                                        \
            test_fail(__FILE__, __LINE__, "%s: expected %s %lld (%s), seen %lld %s", #seen, #op,   \
                      check_bound_, #bound, check_seen_, test_errno_text(check_seen_));            \
    } while (0)

/* Fails unless both memories hold the same `n` bytes; says where they first differ. */
#define CHECK_MEM(seen, expected, n) test_check_mem(__FILE__, __LINE__, #seen, (seen), (expected), (n))

static TEST_UNUSED void test_check_mem(const char *file, int line, const char *what, const void *seen,
                                       const void *expected, size_t n)
{
    const unsigned char *s = seen;
    const unsigned char *e = expected;

    test_at(file, line);
    for (size_t i = 0; i < n; i++) {
        if (s[i] != e[i])
            test_fail(file, line, "%s: byte %zu of %zu: expected %#x, seen %#x", what, i, n, e[i], s[i]);
    }
}

#define TEST_ERRNO_SENTINEL 0x5a5a

/*
 * Evaluates a call of the library and gives its value; fails if it touched errno. It is a statement
 * expression so that the tables of tests stay readable; gcc and clang both have it.
 */
#define CALL(call)                                                                                 \
    __extension__({                                                                                \
        long long call_value_;                                                                     \
        test_at(__FILE__, __LINE__);                                                               \
        errno = TEST_ERRNO_SENTINEL;                                                               \
        call_value_ = (long long)(call);                                                           \
        if (errno != TEST_ERRNO_SENTINEL)                                                          \
            test_fail(__FILE__, __LINE__, "%s: returned %lld and set errno to %d", #call,          \
                      call_value_, errno);                                                         \
        call_value_;                                                                               \
    })

static void test_on_alarm(int sig)
{
    char text[512];
    int n;

    (void)sig;
    n = snprintf(text, sizeof(text), "time limit: still running; the last check was %s:%d\n",
                 __atomic_load_n(&test_last_file, __ATOMIC_RELAXED),
                 __atomic_load_n(&test_last_line, __ATOMIC_RELAXED));
    if (n > 0 && write(STDERR_FILENO, text, (size_t)n) < 0)
        _exit(1);
    test_remove_temp();
    _exit(1);
}

/* A test that hangs ends by itself, also without the runner. The runner passes its limit along. */
static void __attribute__((constructor)) test_start(void)
{
    const char *limit = getenv("TEST_TIME_LIMIT");
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_handler = test_on_alarm;
    /* SA_RESTART has no meaning here, the handler does not return. */
    sigaction(SIGALRM, &action, NULL);
    alarm(limit != NULL && atoi(limit) > 0 ? (unsigned int)atoi(limit) : 1000);
    setvbuf(stdout, NULL, _IOLBF, 0);
    atexit(test_remove_temp);
}

/* ---- Time ------------------------------------------------------------------------------------- */

static TEST_UNUSED int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * NSEC_PER_SEC + t.tv_nsec;
}

static TEST_UNUSED struct timespec timespec_ns(int64_t ns)
{
    struct timespec t = { .tv_sec = (time_t)(ns / NSEC_PER_SEC), .tv_nsec = (long)(ns % NSEC_PER_SEC) };

    return t;
}

/* Sleeps for the whole time, also when a signal handler runs. */
static TEST_UNUSED void sleep_ms(int64_t ms)
{
    struct timespec t = timespec_ns(ms * NSEC_PER_MSEC);

    while (nanosleep(&t, &t) == -1 && errno == EINTR)
        ;
}

/* A limit for what comes true soon: so long that no machine reaches it, however busy it is. */
enum { PATIENCE_S = 100 };
#define PATIENCE_NS (PATIENCE_S * NSEC_PER_SEC)

/* Fails unless `condition` comes true soon. */
#define CHECK_SOON(condition)                                                                      \
    do {                                                                                           \
        int64_t soon_end_ = now_ns() + PATIENCE_NS;                                                \
        test_at(__FILE__, __LINE__);                                                               \
        for (int soon_tries_ = 0; !(condition); soon_tries_++) {                                   \
            if (now_ns() > soon_end_)                                                              \
                test_fail(__FILE__, __LINE__, "expected soon: %s", #condition);                    \
            /* Most things come true at once: give way first, then sleep. */                       \
            if (soon_tries_ < 100)                                                                 \
                sched_yield();                                                                     \
            else                                                                                   \
                sleep_ms(2);                                                                       \
        }                                                                                          \
    } while (0)

/* ---- Files ------------------------------------------------------------------------------------ */

/*
 * The path of a file of this name in a directory of this test's own, which is removed at the end. The
 * directory is in /var/tmp unless TMPDIR says otherwise: /tmp may be a tmpfs, without O_DIRECT.
 * The caller frees the path.
 */
static TEST_UNUSED char *temp_path(const char *name)
{
    char *path;

    if (test_temp_dir[0] == '\0') {
        const char *parent = getenv("TMPDIR");

        CHECK(snprintf(test_temp_dir, sizeof(test_temp_dir), "%s/aio2-test.XXXXXX",
                       parent != NULL && parent[0] != '\0' ? parent : "/var/tmp") < (int)sizeof(test_temp_dir));
        CHECK(mkdtemp(test_temp_dir) != NULL);
        test_temp_owner = getpid();
    }
    CHECK(asprintf(&path, "%s/%s", test_temp_dir, name) > 0);
    return path;
}

/* A new file of `size` zero bytes, open for reading and writing, with these additional open flags. */
static TEST_UNUSED int temp_file(size_t size, int flags)
{
    static int count;
    char name[32];
    char *path;
    int fd;

    snprintf(name, sizeof(name), "file%d", count++);
    path = temp_path(name);
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | flags, 0600);
    if (fd < 0)
        FAIL("%s: %s", path, strerror(errno));
    CHECK_EQ(ftruncate(fd, (off_t)size), 0);
    free(path);
    return fd;
}

/* Bytes that depend on their place and on the seed, so that a shifted or stale buffer shows. */
static TEST_UNUSED unsigned char pattern_byte(uint64_t at, uint64_t seed)
{
    uint64_t x = (at + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ (seed + 1) * UINT64_C(0xbf58476d1ce4e5b9);

    return (unsigned char)((x ^ (x >> 29)) >> 13);
}

static TEST_UNUSED void fill_pattern(void *buf, size_t n, uint64_t at, uint64_t seed)
{
    for (size_t i = 0; i < n; i++)
        ((unsigned char *)buf)[i] = pattern_byte(at + i, seed);
}

#define CHECK_PATTERN(buf, n, at, seed) test_check_pattern(__FILE__, __LINE__, (buf), (n), (at), (seed))

static TEST_UNUSED void test_check_pattern(const char *file, int line, const void *buf, size_t n, uint64_t at,
                                           uint64_t seed)
{
    test_at(file, line);
    for (size_t i = 0; i < n; i++) {
        unsigned char seen = ((const unsigned char *)buf)[i];

        if (seen != pattern_byte(at + i, seed))
            test_fail(file, line, "byte %zu of %zu: expected %#x, seen %#x", i, n, pattern_byte(at + i, seed), seen);
    }
}

/* A file that holds the pattern. */
static TEST_UNUSED int temp_pattern_file(size_t size, uint64_t seed, int flags)
{
    int fd = temp_file(size, flags);
    unsigned char *buf = NULL;

    CHECK_EQ(posix_memalign((void **)&buf, 4096, size), 0);
    fill_pattern(buf, size, 0, seed);
    CHECK_EQ(pwrite(fd, buf, size, 0), size);
    free(buf);
    return fd;
}

/* ---- Contexts, requests, events --------------------------------------------------------------- */

static TEST_UNUSED struct io_setup2_params params2(void)
{
    struct io_setup2_params params;

    memset(&params, 0, sizeof(params));
    params.bytes = sizeof(params);
    params.eventfd = -1;
    return params;
}

/* A context; 0 for a default. */
static TEST_UNUSED io_context2_t setup2(uint32_t ring_bytes, uint32_t max_requests, uint32_t workers)
{
    struct io_setup2_params params = params2();
    io_context2_t ctx = NULL;

    params.ring_bytes = ring_bytes;
    params.max_requests = max_requests;
    params.workers = workers;
    CHECK_EQ(CALL(io_setup2(IO_SETUP2_VERSION, &params, &ctx)), 0);
    CHECK(ctx != NULL);
    return ctx;
}

/* Submits all that lies in these bytes, in as many calls as it takes, but without reaping. */
#define submit_all(ctx, iocbs, nbytes) test_submit_all(__FILE__, __LINE__, (ctx), (iocbs), (nbytes))

static TEST_UNUSED void test_submit_all(const char *file, int line, io_context2_t ctx, const void *iocbs, size_t nbytes)
{
    size_t done = 0;

    test_at(file, line);
    while (done < nbytes) {
        ssize_t n = io_submit2(ctx, (const struct iocb2 *)((uintptr_t)iocbs + done), nbytes - done);

        if (n <= 0 || (size_t)n > nbytes - done)
            test_fail(file, line, "io_submit2 of %zu bytes after %zu: seen %zd %s", nbytes - done, done, n,
                      test_errno_text(n));
        done += (size_t)n;
    }
}

#define submit_one(ctx, iocb) submit_all((ctx), (iocb), (iocb)->bytes)

/* Fails unless the bytes are whole, well-formed events; returns how many. */
static TEST_UNUSED size_t test_count_events(const char *file, int line, const void *events, size_t nbytes)
{
    size_t count = 0;

    for (size_t at = 0; at < nbytes;) {
        const struct io_event2 *event = (const struct io_event2 *)((uintptr_t)events + at);

        if (nbytes - at < sizeof(*event) || event->bytes < sizeof(*event) || event->bytes % 8 != 0 ||
            event->bytes > nbytes - at)
            test_fail(file, line, "malformed event at byte %zu of %zu", at, nbytes);
        at += event->bytes;
        count++;
    }
    return count;
}

#define count_events(events, nbytes) test_count_events(__FILE__, __LINE__, (events), (nbytes))

/*
 * Gets exactly `n` events into `nbytes` bytes at `events` and returns their bytes; fails if they do not
 * come soon, or if there are more (as far as they have been produced by then).
 */
#define get_events(ctx, n, events, nbytes) \
    test_get_events(__FILE__, __LINE__, (ctx), (n), (events), (nbytes))

static TEST_UNUSED size_t test_get_events(const char *file, int line, io_context2_t ctx, size_t n, void *events,
                                          size_t nbytes)
{
    int64_t end = now_ns() + PATIENCE_NS;
    size_t have = 0;
    size_t count = 0;

    test_at(file, line);
    while (count < n) {
        int64_t left = end - now_ns();
        struct timespec t = timespec_ns(left > 0 ? left : 0);
        struct io_event2 *to = (struct io_event2 *)((uintptr_t)events + have);
        ssize_t got = io_getevents2(ctx, sizeof(struct io_event2), to, nbytes - have, &t);

        if (got == -EINTR)
            continue;
        if (got < 0)
            test_fail(file, line, "io_getevents2 after %zu of %zu events: seen %zd %s", count, n, got,
                      test_errno_text(got));
        if (got == 0)
            test_fail(file, line, "expected %zu events in time, seen %zu", n, count);
        count += test_count_events(file, line, to, (size_t)got);
        have += (size_t)got;
    }
    if (count != n)
        test_fail(file, line, "expected %zu events, seen %zu", n, count);
    return have;
}

/* Gets the next event, which must be the only one so far. `event` has EVENT_BYTES_MAX bytes. */
#define get_one(ctx, event) ((void)get_events((ctx), 1, (event), EVENT_BYTES_MAX))

/* Room for an event with any attribute returns. */
union event_room {
    struct io_event2 event;
    unsigned char bytes[EVENT_BYTES_MAX];
};

/* Room for a request with any attributes. */
union iocb_room {
    struct iocb2 iocb;
    unsigned char bytes[sizeof(struct iocb2) + IOCB2_ATTR_BYTES_MAX];
};

/* A request that asks for its route, and room for its event. */
union routed {
    struct iocb2 iocb;
    unsigned char bytes[sizeof(struct iocb2) + sizeof(struct iocb_attr)];
};

union routed_event {
    struct io_event2 event;
    unsigned char bytes[sizeof(struct io_event2) + sizeof(struct iocb_attr_ret) + sizeof(struct iocb_route)];
};

/* Has a request, which was just prepared, ask for its route. */
static TEST_UNUSED void ask_route(struct iocb2 *iocb)
{
    CHECK(iocb2_add_attr(iocb, IOCB_ATTR_ROUTE, IOCB_ATTR_F_REQUIRED, 0, NULL, 0) != NULL);
}

/* The route that a request took which has asked for it. */
static TEST_UNUSED struct iocb_route route_of(const struct io_event2 *event)
{
    const struct iocb_attr_ret *ret = io_event2_attr(event, IOCB_ATTR_ROUTE);
    struct iocb_route route;

    CHECK(ret != NULL);
    CHECK_EQ(ret->ret, 0);
    CHECK_EQ(ret->bytes, sizeof(*ret) + sizeof(route));
    memcpy(&route, ret + 1, sizeof(route));
    return route;
}

/* Whether callers may sleep in the kernel's AIO, as far as that is AIO2_ENGINE's to say. */
static TEST_UNUSED bool has_own_queues(void)
{
    const char *engine = getenv("AIO2_ENGINE");

    return engine == NULL || (strcmp(engine, "threads") != 0 && strcmp(engine, "uring") != 0);
}

/* Whether the kernel carries out what takes this route: its AIO or io_uring, whichever the library uses. */
static TEST_UNUSED bool is_kernels(struct iocb_route route)
{
    return route.route == IOCB_ROUTE_KERNEL_AIO || route.route == IOCB_ROUTE_IO_URING;
}

/* Fails unless there is no event, now and after `ms` milliseconds. */
#define expect_no_event(ctx, ms) test_expect_no_event(__FILE__, __LINE__, (ctx), (ms))

static TEST_UNUSED void test_expect_no_event(const char *file, int line, io_context2_t ctx, int ms)
{
    union event_room room;
    struct timespec t = timespec_ns(ms * NSEC_PER_MSEC);
    ssize_t got = io_getevents2(ctx, ms != 0 ? sizeof(room.event) : 0, &room.event, sizeof(room), &t);

    test_at(file, line);
    if (got != 0)
        test_fail(file, line, "expected no event, seen %zd %s (data %#llx, res %lld)", got, test_errno_text(got),
                  got > 0 ? (unsigned long long)room.event.data : 0, got > 0 ? (long long)room.event.res : 0);
}

/* ---- A request that blocks until it is told to go on ------------------------------------------ */

/*
 * Opens the pipe's reading end once more, by its name. The kernel cannot be asked to read from there without waiting, so that
 * a request for a vector read blocks the worker that carries it out.
 */
static TEST_UNUSED void make_blocking(int *pipe_end)
{
    char name[64];
    int fd;

    snprintf(name, sizeof(name), "/proc/self/fd/%d", *pipe_end);
    fd = open(name, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    close(*pipe_end);
    *pipe_end = fd;
}

/* A read of one byte from such a pipe: blocks the worker that carries it out until hold_release(). */
struct hold {
    int pipe[2];
    char byte;
    struct iovec iov;
    struct iocb2 iocb;
};

static TEST_UNUSED void hold_init(struct hold *hold, uint64_t data)
{
    CHECK_EQ(pipe2(hold->pipe, O_CLOEXEC), 0);
    make_blocking(&hold->pipe[0]);
    hold->byte = 0;
    hold->iov.iov_base = &hold->byte;
    hold->iov.iov_len = 1;
    io_prep2_preadv2(&hold->iocb, hold->pipe[0], &hold->iov, 1, -1, 0);
    hold->iocb.data = data;
}

static TEST_UNUSED void hold_submit(io_context2_t ctx, struct hold *hold, uint64_t data)
{
    hold_init(hold, data);
    submit_one(ctx, &hold->iocb);
}

static TEST_UNUSED void hold_release(struct hold *hold)
{
    CHECK_EQ(write(hold->pipe[1], "x", 1), 1);
}

/* Only after its event has arrived. */
static TEST_UNUSED void hold_close(struct hold *hold)
{
    close(hold->pipe[0]);
    close(hold->pipe[1]);
}

/*
 * One that nothing interrupts: a read of one byte from a file into memory that is not there until hard_hold_release(), by
 * userfaultfd(2).
 */
struct hard_hold {
    int uffd;
    int fd;
    char *page;
    struct iocb2 iocb;
};

/* The memory alone. */
static TEST_UNUSED void hard_hold_memory(struct hard_hold *hold)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct uffdio_api api = { .api = UFFD_API };
    struct uffdio_register range = { .mode = UFFDIO_REGISTER_MODE_MISSING };

    hold->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    if (hold->uffd < 0 || ioctl(hold->uffd, UFFDIO_API, &api) != 0)
        SKIP("needs userfaultfd for faults in the kernel, and so root");
    hold->page = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(hold->page != MAP_FAILED);
    range.range.start = (uintptr_t)hold->page;
    range.range.len = page;
    CHECK_EQ(ioctl(hold->uffd, UFFDIO_REGISTER, &range), 0);
    hold->fd = -1;
}

static TEST_UNUSED void hard_hold_submit(io_context2_t ctx, struct hard_hold *hold, uint64_t data)
{
    hard_hold_memory(hold);
    hold->fd = memfd_create("hard_hold", MFD_CLOEXEC);
    CHECK_EQ(pwrite(hold->fd, "x", 1, 0), 1);
    io_prep2_pread(&hold->iocb, hold->fd, hold->page, 1, 0);
    hold->iocb.data = data;
    submit_one(ctx, &hold->iocb);
}

static TEST_UNUSED void hard_hold_release(struct hard_hold *hold)
{
    struct uffdio_zeropage zero = { 0 };

    zero.range.start = (uintptr_t)hold->page;
    zero.range.len = (size_t)sysconf(_SC_PAGESIZE);
    CHECK_EQ(ioctl(hold->uffd, UFFDIO_ZEROPAGE, &zero), 0);
}

/* Only after its event has arrived. */
static TEST_UNUSED void hard_hold_close(struct hard_hold *hold)
{
    munmap(hold->page, (size_t)sysconf(_SC_PAGESIZE));
    close(hold->uffd);
    close(hold->fd);
}

/* ---- Threads and descriptors, as /proc shows them --------------------------------------------- */

/* Reads a small file of /proc/self/task/TID; false if the thread is gone. */
static TEST_UNUSED bool read_task_file(const char *tid, const char *name, char *text, size_t size)
{
    char path[PATH_MAX];
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "/proc/self/task/%s/%s", tid, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    n = read(fd, text, size - 1);
    close(fd);
    if (n < 0)
        return false;
    text[n] = '\0';
    return true;
}

/*
 * Calls `each` for every thread of the process with this name and returns how many there are (or
 * for how many `each` returned true, if it is not NULL).
 */
static TEST_UNUSED int for_threads(const char *thread, bool (*each)(const char *tid, void *arg), void *arg)
{
    DIR *dir = opendir("/proc/self/task");
    struct dirent *entry;
    int count = 0;

    CHECK(dir != NULL);
    while ((entry = readdir(dir)) != NULL) {
        char comm[64];

        if (entry->d_name[0] == '.' || !read_task_file(entry->d_name, "comm", comm, sizeof(comm)))
            continue;
        comm[strcspn(comm, "\n")] = '\0';
        if (strcmp(comm, thread) == 0 && (each == NULL || each(entry->d_name, arg)))
            count++;
    }
    closedir(dir);
    return count;
}

/* All threads of the process: one that has just been started is not named yet. */
static TEST_UNUSED int count_threads(void)
{
    DIR *dir = opendir("/proc/self/task");
    struct dirent *entry;
    int count = 0;

    CHECK(dir != NULL);
    while ((entry = readdir(dir)) != NULL)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

static TEST_UNUSED int for_workers(bool (*each)(const char *tid, void *arg), void *arg)
{
    return for_threads("aio2-worker", each, arg);
}

static TEST_UNUSED int count_workers(void)
{
    return for_workers(NULL, NULL);
}

static TEST_UNUSED int count_reapers(void)
{
    return for_threads("aio2-reaper", NULL, NULL);
}

/* The same for every descriptor whose link in /proc begins so. */
static TEST_UNUSED int for_descriptors(const char *link, bool (*each)(int fd, void *arg), void *arg)
{
    DIR *dir = opendir("/proc/self/fd");
    struct dirent *entry;
    int count = 0;

    CHECK(dir != NULL);
    while ((entry = readdir(dir)) != NULL) {
        char target[64] = "";

        if (readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1) > 0 && strncmp(target, link, strlen(link)) == 0 &&
            (each == NULL || each(atoi(entry->d_name), arg)))
            count++;
    }
    closedir(dir);
    return count;
}

static TEST_UNUSED bool test_worker_in_call(const char *tid, void *arg)
{
    char text[256];
    char *end;
    long nr;

    /* "running", or the number of the system call and its arguments. */
    if (!read_task_file(tid, "syscall", text, sizeof(text)))
        return false;
    nr = strtol(text, &end, 10);
    return end != text && nr == *(long *)arg;
}

/* How many workers are asleep in this system call. */
static TEST_UNUSED int count_workers_in(long nr)
{
    return for_workers(test_worker_in_call, &nr);
}

/* Waits until `n` workers are blocked in preadv2, as the requests of struct hold are. */
static TEST_UNUSED void hold_wait_running(int n)
{
    if (access("/proc/self/syscall", R_OK) != 0)
        SKIP("this kernel does not show /proc/self/syscall");
    CHECK_SOON(count_workers_in(SYS_preadv2) >= n);
}

static TEST_UNUSED void hard_hold_wait_running(int n)
{
    if (access("/proc/self/syscall", R_OK) != 0)
        SKIP("this kernel does not show /proc/self/syscall");
    CHECK_SOON(count_workers_in(SYS_pread64) >= n);
}

static TEST_UNUSED bool test_epoll_asks(int epoll, void *arg)
{
    char name[64], line[256];
    bool found = false;

    snprintf(name, sizeof(name), "/proc/self/fdinfo/%d", epoll);
    FILE *info = fopen(name, "re");
    while (info != NULL && fgets(line, sizeof(line), info) != NULL) {
        unsigned int events;
        int fd;

        if (sscanf(line, "tfd: %d events: %x", &fd, &events) == 2 && fd == *(int *)arg && (events & (POLLIN | POLLOUT)) != 0)
            found = true;
    }
    if (info != NULL)
        fclose(info);
    return found;
}

/* Whether a request waits, without a thread, for this descriptor's file to become ready. */
static TEST_UNUSED bool is_awaited(int fd)
{
    return for_descriptors("anon_inode:[eventpoll]", test_epoll_asks, &fd) > 0;
}

/* The state letter of a thread: S asleep, R running; 0 if it is gone. */
static TEST_UNUSED char thread_state(pid_t tid)
{
    char name[32];
    char text[512];
    char *end;

    snprintf(name, sizeof(name), "%d", (int)tid);
    if (!read_task_file(name, "stat", text, sizeof(text)))
        return 0;
    /* The name before it is in parentheses and may hold anything. */
    end = strrchr(text, ')');
    return end != NULL && end[1] == ' ' ? end[2] : 0;
}

static TEST_UNUSED pid_t my_tid(void)
{
    return (pid_t)syscall(SYS_gettid);
}

/* Waits until a thread sleeps and goes on sleeping: it waits for something that does not come by itself. */
static TEST_UNUSED void wait_thread_asleep(pid_t tid)
{
    int64_t end = now_ns() + PATIENCE_NS;
    int asleep = 0;

    while (asleep < 10) {
        if (now_ns() > end)
            FAIL("thread %d does not fall asleep", (int)tid);
        asleep = thread_state(tid) == 'S' ? asleep + 1 : 0;
        sleep_ms(5);
    }
}

/* No thread but this one can run: none is on its way to something. */
static TEST_UNUSED bool are_others_asleep(void)
{
    DIR *dir = opendir("/proc/self/task");
    bool asleep = true;
    struct dirent *entry;

    CHECK(dir != NULL);
    while ((entry = readdir(dir)) != NULL) {
        pid_t tid = (pid_t)atoi(entry->d_name);

        asleep &= tid == 0 || tid == my_tid() || thread_state(tid) != 'R';
    }
    closedir(dir);
    return asleep;
}

/* ---- Threads and children --------------------------------------------------------------------- */

static TEST_UNUSED pthread_t thread_start(void *(*run)(void *), void *arg)
{
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, run, arg), 0);
    return thread;
}

static TEST_UNUSED void thread_join(pthread_t thread)
{
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

/* Fails unless the child ends by itself, with status 0. */
static TEST_UNUSED void wait_child(pid_t child)
{
    int status = 0;

    CHECK(child > 0);
    while (waitpid(child, &status, 0) != child)
        CHECK_EQ(errno, EINTR);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        FAIL("child %d: expected exit status 0, seen %s %d", (int)child, WIFEXITED(status) ? "exit status" : "signal",
             WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
}

#endif /* AIO2_TEST_H */
