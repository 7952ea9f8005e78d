/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The part of libaio2-preload.so and libaio.so.1 beside libaio's functions (libaio.c). It handles cases that a library cannot see:
 *
 * - A program makes AIO calls with syscall(2)'s wrapper, and not, or not only, with libaio. libaio2 answers AIO's call numbers; every other
 *   call goes to the kernel unchanged.
 * - A process ends by _exit(), or becomes another program by exec. The kernel would have waited for its AIO, so accepted requests are
 *   carried out first.
 * - A program forbids itself system calls that libaio2 needs to have requests carried out which it has accepted.
 * - A program closes descriptors that are not its own but libaio2's, or replaces them. The kernel's AIO has no such descriptors, so the
 *   program must not see them.
 * - A program changes the flags of a file. The kernel's AIO carries requests out by the flags at io_submit().
 * - A thread changes its user, its groups or its capabilities, but not those of libaio2's threads. The kernel's AIO carries requests out
 *   with the rights of the thread that submits them.
 *
 * These functions replace libc's, so they are in an object of their own: a program that links -laio2 keeps libc's.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "rebind.h"
#include "report.h"

/* libaio2's functions. All return a negative errno. Pointers are the program's, and libaio2 checks them. */
int io_setup(int max_events, void *ctxp);
int io_destroy(void *ctx);
int io_submit(void *ctx, long nr, void *iocbs);
int io_cancel(void *ctx, void *iocb, void *event);
int io_getevents(void *ctx, long min_nr, long nr, void *events, void *timeout);
int io_pgetevents(void *ctx, long min_nr, long nr, void *events, void *timeout, void *mask);
/*
 * Called when the process ends without exit() (goes_on 0), or perhaps becomes another program (1). libaio2 looks for this variable and sets
 * it, so that it need not export a function.
 */
void (*aio2_at_process_end)(int goes_on);
/* Set by libaio2, too: returns the lowest of libaio2's own descriptors that is not below `from`; -1: there is none. */
int (*aio2_next_own)(int from);
/* Set by libaio2, too: gives up the number of such a descriptor as soon as nothing needs it. */
void (*aio2_release_number)(int fd);

/* Set by libaio2, too: called before a system call filter may come. */
void (*aio2_before_filter)(void);

/* How many times a thread has changed its own rights. libaio2 looks for this variable. */
unsigned long aio2_rights_changes;

static void filter_comes(void)
{
    if (aio2_before_filter)
        aio2_before_filter();
}

/* Set by libaio2, too: called before a descriptor is closed (-1: many), whose locks and leases go then. */
void (*aio2_before_close)(int fd);
/* Set by libaio2, too: called before a file's flags change that requests go by. */
void (*aio2_before_flags)(int fd);

static void process_ends(int goes_on)
{
    if (aio2_at_process_end)
        aio2_at_process_end(goes_on);
    if (!goes_on)
        aio2_report();
}

/* The last argument of the system call io_pgetevents(2). */
struct kernel_sigset {
    const sigset_t *set;
    size_t bytes;
};

static long with_errno(long ret)
{
    if (ret < 0 && ret > -4096) {
        errno = (int)-ret;
        return -1;
    }
    return ret;
}

static long kernel(long nr, long a, long b, long c, long d, long e, long f)
{
    long ret;
#if defined(__x86_64__)
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;

    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = nr;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;

    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    ret = x0;
#else
#error "no system call instruction is known for this machine"
#endif
    return with_errno(ret);
}

/* ---- Descriptors ------------------------------------------------------------------------------- */

static int next_own(unsigned int from)
{
    return aio2_next_own != NULL && from <= INT_MAX ? aio2_next_own((int)from) : -1;
}

static int is_own(long fd)
{
    return fd >= 0 && fd <= INT_MAX && next_own((unsigned int)fd) == (int)fd;
}

static void close_comes(long fd)
{
    if (aio2_before_close != NULL && fd >= 0 && fd <= INT_MAX)
        aio2_before_close((int)fd);
}

/* close_range(2) that leaves libaio2's own descriptors open. */
static int close_pieces(unsigned int first, unsigned int last, unsigned int flags)
{
    int own;

    if (aio2_before_close != NULL && (flags & CLOSE_RANGE_CLOEXEC) == 0)
        aio2_before_close(-1);
    while ((own = next_own(first)) >= 0 && (unsigned int)own <= last) {
        if ((unsigned int)own > first) {
            long ret = kernel(SYS_close_range, first, own - 1, flags, 0, 0, 0);

            if (ret != 0)
                return (int)ret;
            flags &= ~CLOSE_RANGE_UNSHARE;
        }
        first = (unsigned int)own + 1;
        if ((unsigned int)own == last)
            /* No descriptor is left, but there may be an error to report, or a table to unshare. */
            first = last = ~0U;
    }
    return (int)kernel(SYS_close_range, first, last, flags, 0, 0, 0);
}

/* Found beforehand, because a signal handler may call these functions and must not call dlsym(). */
static int (*libc_close)(int fd);
static int (*libc_dup2)(int from, int to);
static int (*libc_dup3)(int from, int to, int flags);
static int (*libc_fcntl)(int fd, int operation, ...);

__attribute__((constructor)) static void find_descriptor_calls(void)
{
    void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);

    libc_close = (int (*)(int))(uintptr_t)dlsym(RTLD_NEXT, "close");
    libc_dup2 = (int (*)(int, int))(uintptr_t)dlsym(RTLD_NEXT, "dup2");
    libc_dup3 = (int (*)(int, int, int))(uintptr_t)dlsym(RTLD_NEXT, "dup3");
    /* Also where this object comes after libc (rebind.c). */
    if (libc != NULL)
        libc_fcntl = (int (*)(int, int, ...))(uintptr_t)dlsym(libc, "fcntl");
}

int close(int fd)
{
    if (is_own(fd))
        return (int)with_errno(-EBADF);
    close_comes(fd);
    return libc_close != NULL ? libc_close(fd) : (int)kernel(SYS_close, fd, 0, 0, 0, 0, 0);
}

/* `to` is about to become a duplicate of `from`. */
static void make_way(long from, long to)
{
    if (from == to)
        return;
    if (is_own(to) && aio2_release_number != NULL)
        aio2_release_number((int)to);
    close_comes(to);
}

int dup2(int from, int to)
{
    make_way(from, to);
    if (libc_dup2 != NULL)
        return libc_dup2(from, to);
    if (from == to)
        return kernel(SYS_fcntl, from, F_GETFD, 0, 0, 0, 0) < 0 ? -1 : to;
    return (int)kernel(SYS_dup3, from, to, 0, 0, 0, 0);
}

int dup3(int from, int to, int flags)
{
    make_way(from, to);
    return libc_dup3 != NULL ? libc_dup3(from, to, flags) : (int)kernel(SYS_dup3, from, to, flags, 0, 0, 0);
}

int close_range(unsigned int first, unsigned int last, int flags)
{
    return close_pieces(first, last, (unsigned int)flags);
}

void closefrom(int lowest)
{
    unsigned int first = lowest < 0 ? 0 : (unsigned int)lowest;

    /* A kernel or a filter may not know the call. */
    if (close_pieces(first, ~0U, 0) != 0)
        for (long fd = first, most = sysconf(_SC_OPEN_MAX); fd < most; fd++)
            close((int)fd);
}

/* Before fcntl(2), if it may change how requests of this file are carried out. */
static void flags_come(long fd, long operation, long flags)
{
    int before = errno;
    long now;

    if (aio2_before_flags == NULL)
        return;
    if (operation == F_ADD_SEALS)
        aio2_before_flags((int)fd);
    if (operation != F_SETFL)
        return;
    now = kernel(SYS_fcntl, fd, F_GETFL, 0, 0, 0, 0);
    if (now >= 0 && ((now ^ flags) & (O_APPEND | O_DIRECT)) != 0)
        aio2_before_flags((int)fd);
    errno = before;
}

int fcntl(int fd, int operation, ...)
{
    va_list args;
    long arg;

    va_start(args, operation);
    arg = va_arg(args, long);
    va_end(args);
    flags_come(fd, operation, arg);
    return libc_fcntl != NULL ? libc_fcntl(fd, operation, arg) : (int)kernel(SYS_fcntl, fd, operation, arg, 0, 0, 0);
}

int fcntl64(int fd, int operation, ...) __attribute__((alias("fcntl")));
int aio2_fcntl(int fd, int operation, ...) __attribute__((alias("fcntl")));

/* ---- Rights ------------------------------------------------------------------------------------ */

/* A call that changes the rights of the calling thread alone, if it succeeds. */
static long change_rights(long nr, long a, long b, long c)
{
    long ret = kernel(nr, a, b, c, 0, 0, 0);

    __atomic_add_fetch(&aio2_rights_changes, 1, __ATOMIC_RELAXED);
    return ret;
}

int setfsuid(uid_t user)
{
    return (int)change_rights(SYS_setfsuid, user, 0, 0);
}

int setfsgid(gid_t group)
{
    return (int)change_rights(SYS_setfsgid, group, 0, 0);
}

/* In libc, but declared by libcap only. */
int capset(void *header, const void *data);
int capset(void *header, const void *data)
{
    return (int)change_rights(SYS_capset, (long)header, (long)data, 0);
}

int aio2_setfsuid(uid_t user) __attribute__((alias("setfsuid")));
int aio2_setfsgid(gid_t group) __attribute__((alias("setfsgid")));
int aio2_capset(void *header, const void *data) __attribute__((alias("capset")));

/* ---- System calls ------------------------------------------------------------------------------ */

/* Reads the mask of io_pgetevents(2). It may be at a bad address, so the kernel is asked about that with another call: it would refuse
 * io_pgetevents(2) itself, because the context is ours. */
static long pgetevents(long a, long b, long c, long d, long e, const struct kernel_sigset *arg)
{
    struct kernel_sigset given = {NULL, 0};

    if (arg != NULL) {
        /* This call reads a set of 8 bytes and does nothing with it. The two words may be in two pages. */
        for (const char *word = (const char *)arg; word < (const char *)(arg + 1); word += 8)
            if (kernel(SYS_rt_sigprocmask, -1, (long)word, 0, 8, 0, 0) == -1 && errno == EFAULT)
                return -EFAULT;
        given = *arg;
        if (given.set != NULL && given.bytes != 8)
            return -EINVAL;
    }
    return io_pgetevents((void *)a, b, c, (void *)d, (void *)e, (void *)(uintptr_t)given.set);
}

long syscall(long nr, ...)
{
    long a, b, c, d, e, f;
    int before = errno;
    long ret;
    va_list args;

    va_start(args, nr);
    a = va_arg(args, long);
    b = va_arg(args, long);
    c = va_arg(args, long);
    d = va_arg(args, long);
    e = va_arg(args, long);
    f = va_arg(args, long);
    va_end(args);

    switch (nr) {
    case SYS_io_setup:
        ret = io_setup((int)a, (void *)b);
        break;
    case SYS_io_destroy:
        ret = io_destroy((void *)a);
        break;
    case SYS_io_submit:
        ret = io_submit((void *)a, b, (void *)c);
        break;
    case SYS_io_cancel:
        ret = io_cancel((void *)a, (void *)b, (void *)c);
        break;
    case SYS_io_getevents:
        /* libaio's function does not check these if there is no event and no time to wait. */
        ret = b < 0 || b > c ? -EINVAL : io_getevents((void *)a, b, c, (void *)d, (void *)e);
        break;
#ifdef SYS_io_pgetevents
    case SYS_io_pgetevents:
        ret = b < 0 || b > c ? -EINVAL : pgetevents(a, b, c, d, e, (const struct kernel_sigset *)f);
        errno = before;
        break;
#endif
    case SYS_close:
        if (is_own(a))
            return with_errno(-EBADF);
        close_comes(a);
        return kernel(nr, a, b, c, d, e, f);
#ifdef SYS_dup2
    case SYS_dup2:
#endif
    case SYS_dup3:
        make_way(a, b);
        return kernel(nr, a, b, c, d, e, f);
    case SYS_close_range:
        return close_pieces((unsigned int)a, (unsigned int)b, (unsigned int)c);
    case SYS_prctl:
        if (a != PR_SET_SECCOMP)
            return kernel(nr, a, b, c, d, e, f);
        /* fall through */
    case SYS_seccomp:
        filter_comes();
        return kernel(nr, a, b, c, d, e, f);
    case SYS_fcntl:
        flags_come(a, b, c);
        return kernel(nr, a, b, c, d, e, f);
    case SYS_capset:
    case SYS_setfsuid:
    case SYS_setfsgid:
    case SYS_setuid:
    case SYS_setgid:
    case SYS_setreuid:
    case SYS_setregid:
    case SYS_setresuid:
    case SYS_setresgid:
    case SYS_setgroups:
        return change_rights(nr, a, b, c);
    case SYS_exit_group:
        process_ends(0);
        return kernel(nr, a, b, c, d, e, f);
    case SYS_execve:
    case SYS_execveat:
        process_ends(1);
        return kernel(nr, a, b, c, d, e, f);
    default:
        return kernel(nr, a, b, c, d, e, f);
    }
    return with_errno(ret);
}

long aio2_syscall(long nr, ...) __THROW __attribute__((alias("syscall")));

int prctl(int operation, ...)
{
    long a, b, c, d;
    va_list args;

    va_start(args, operation);
    a = va_arg(args, long);
    b = va_arg(args, long);
    c = va_arg(args, long);
    d = va_arg(args, long);
    va_end(args);
    if (operation == PR_SET_SECCOMP)
        filter_comes();
    return (int)kernel(SYS_prctl, operation, a, b, c, d, 0);
}

/* ---- The ends of a process --------------------------------------------------------------------- */

void _exit(int status)
{
    process_ends(0);
    for (;;)
        kernel(SYS_exit_group, status, 0, 0, 0, 0, 0);
}

void abort(void)
{
    process_ends(1);
    ((void (*)(void))(uintptr_t)dlsym(RTLD_NEXT, "abort"))();
    for (;;)
        kernel(SYS_exit_group, 127, 0, 0, 0, 0, 0);
}

/* libc's function of that name. */
#define NEXT(type, name) ((type)(uintptr_t)dlsym(RTLD_NEXT, name))

/* libc's functions for assert() call an abort() of their own. */
void __assert_fail(const char *assertion, const char *file, unsigned int line, const char *function) __attribute__((noreturn));
void __assert_perror_fail(int error, const char *file, unsigned int line, const char *function) __attribute__((noreturn));

void __assert_fail(const char *assertion, const char *file, unsigned int line, const char *function)
{
    typedef void (*type)(const char *, const char *, unsigned int, const char *);

    process_ends(1);
    NEXT(type, "__assert_fail")(assertion, file, line, function);
    abort();
}

void __assert_perror_fail(int error, const char *file, unsigned int line, const char *function)
{
    typedef void (*type)(int, const char *, unsigned int, const char *);

    process_ends(1);
    NEXT(type, "__assert_perror_fail")(error, file, line, function);
    abort();
}

void _Exit(int status)
{
    _exit(status);
}

/* libc's function forks, and ends the parent by an _exit() of its own. */
int daemon(int nochdir, int noclose)
{
    typedef int (*function)(int, int);

    process_ends(1);
    return NEXT(function, "daemon")(nochdir, noclose);
}

int execve(const char *path, char *const argv[], char *const envp[])
{
    process_ends(1);
    return (int)kernel(SYS_execve, (long)path, (long)argv, (long)envp, 0, 0, 0);
}

int execv(const char *path, char *const argv[])
{
    return execve(path, argv, environ);
}

int execvpe(const char *file, char *const argv[], char *const envp[])
{
    typedef int (*function)(const char *, char *const[], char *const[]);

    process_ends(1);
    return NEXT(function, "execvpe")(file, argv, envp);
}

int execvp(const char *file, char *const argv[])
{
    return execvpe(file, argv, environ);
}

int fexecve(int fd, char *const argv[], char *const envp[])
{
    typedef int (*function)(int, char *const[], char *const[]);

    process_ends(1);
    return NEXT(function, "fexecve")(fd, argv, envp);
}

/* glibc has it since 2.34. */
int execveat(int dir, const char *path, char *const argv[], char *const envp[], int flags);
int execveat(int dir, const char *path, char *const argv[], char *const envp[], int flags)
{
    process_ends(1);
    return (int)kernel(SYS_execveat, dir, (long)path, (long)argv, (long)envp, flags, 0);
}

/* Gathers an execl function's arguments, including the NULL, into an array on the stack. Leaves `args` behind the NULL. */
#define GATHER(first, args, argv)                            \
    size_t gather_count = 1;                                 \
    va_list gather_args;                                     \
    va_start(gather_args, first);                            \
    while (va_arg(gather_args, char *) != NULL)              \
        gather_count++;                                      \
    va_end(gather_args);                                     \
    char *argv[gather_count + 1];                            \
    argv[0] = (char *)(uintptr_t)(first);                    \
    va_start(args, first);                                   \
    for (size_t gather_i = 1; gather_i <= gather_count; gather_i++) \
        argv[gather_i] = va_arg(args, char *)

int execl(const char *path, const char *arg, ...)
{
    va_list args;
    GATHER(arg, args, argv);

    va_end(args);
    return execve(path, argv, environ);
}

int execlp(const char *file, const char *arg, ...)
{
    va_list args;
    GATHER(arg, args, argv);

    va_end(args);
    return execvpe(file, argv, environ);
}

int execle(const char *path, const char *arg, ...)
{
    va_list args;
    char *const *envp;
    GATHER(arg, args, argv);

    envp = va_arg(args, char *const *);
    va_end(args);
    return execve(path, argv, envp);
}
