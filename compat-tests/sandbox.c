/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * sandbox DIRECTORY: a program forbids itself all calls of sockets right after io_submit, as one does that is done with the network: what
 * was submitted is carried out all the same, if libaio2 sees the filter come (aio2-run and the library path); if not, each request has an event.
 * A filter that forbids getsockopt alone does not keep io_submit for ever.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <libaio.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "must.h"

enum { WRITES = 16, BYTES = 64 * 1024 };

static char path[PATH_MAX];

enum way { BY_SYSCALL, BY_PRCTL, UNSEEN, ONE_CALL, WAYS };

static long unseen(long nr, long a, long b, long c)
{
#if defined(__x86_64__)
    long ret;

    __asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return ret;
#else
    return syscall(nr, a, b, c);
#endif
}

static void forbid_sockets(enum way way)
{
    static const int calls[] = { SYS_getsockopt, SYS_socket, SYS_socketpair, SYS_sendmsg, SYS_recvmsg, SYS_connect };
    const int count = way == ONE_CALL ? 1 : sizeof(calls) / sizeof(*calls);
    struct sock_filter code[sizeof(calls) / sizeof(*calls) + 3] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)) };
    struct sock_fprog program = { (unsigned short)(count + 3), code };
    long ret;

    for (int i = 0; i < count; i++)
        code[i + 1] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i], (unsigned char)(count - i), 0);
    code[count + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[count + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    if (way == BY_PRCTL)
        ret = prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
    else if (way == BY_SYSCALL || way == ONE_CALL)
        ret = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
    else
        ret = unseen(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, (long)&program);
    MUST(ret == 0);
}

static void run(enum way way, int flags, bool is_seen)
{
    struct iocb cbs[WRITES + 1], *list[WRITES + 1];
    struct io_event events[WRITES + 1];
    io_context_t ctx = NULL;
    int fd = open(path, O_RDWR | flags), ends[2], left = WRITES + 1;
    char *memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    MUST(fd >= 0 && memory != MAP_FAILED && pipe(ends) == 0 && io_setup(WRITES + 1, &ctx) == 0);
    for (int i = 0; i < WRITES; i++) {
        io_prep_pwrite(&cbs[i], fd, memory, BYTES, (long long)i * BYTES);
        list[i] = &cbs[i];
    }
    io_prep_poll(&cbs[WRITES], ends[0], POLLIN);
    list[WRITES] = &cbs[WRITES];
    MUST(io_submit(ctx, WRITES + 1, list) == WRITES + 1);
    forbid_sockets(way);
    MUST(write(ends[1], "x", 1) == 1);
    for (int got; left > 0; left -= got) {
        got = io_getevents(ctx, 1, WRITES + 1, events, NULL);
        MUST(got > 0);
        for (int i = 0; i < got; i++)
            if (is_seen)
                MUST(events[i].obj == &cbs[WRITES] ? events[i].res & POLLIN : events[i].res == BYTES);
    }
    /* And so is what comes later. */
    MUST(io_submit(ctx, WRITES, list) == WRITES && io_getevents(ctx, WRITES, WRITES, events, NULL) == WRITES);
    for (int i = 0; i < WRITES; i++)
        MUST(events[i].res == BYTES);
    MUST(io_destroy(ctx) == 0);
    exit(0);
}

int main(int argc, char **argv)
{
    const bool is_real = is_set("REAL"), sees = dlsym(RTLD_DEFAULT, "aio2_before_filter") != NULL;
    int fd, status;

    MUST(argc > 1);
    snprintf(path, sizeof(path), "%s/sandbox", argv[1]);
    fd = open(path, O_RDWR | O_CREAT, 0600);
    MUST(fd >= 0);
    for (int round = 0; round < fewer(20); round++)
        for (enum way way = 0; way < WAYS; way++)
            for (int direct = 0; direct < 2; direct++) {
                pid_t child = fork();

                MUST(child >= 0);
                alarm(100);
                if (child == 0) {
                    alarm(100);
                    run(way, direct ? O_DIRECT : 0, is_real || way == ONE_CALL || (sees && way != UNSEEN));
                }
                MUST(waitpid(child, &status, 0) == child);
                if (status != 0) {
                    fprintf(stderr, "round %d, way %d, direct %d: status %#x\n", round, way, direct, (unsigned)status);
                    return 1;
                }
            }
    return 0;
}
