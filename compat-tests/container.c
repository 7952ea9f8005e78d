/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * container docker|old COMMAND...: runs a command behind a seccomp filter like that of a container, on a kernel before 6.10:
 * the calls fail that Docker's default profile refuses to a process without capabilities, as far as they matter here. `old`: so
 * do the calls that older profiles did not know.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "must.h"

/* Not in all headers yet. */
#define DUPFD_QUERY 1027
#define NAMESPACES 0x7e020000

struct refused {
    long call;
    int error;
};

static const struct refused always[] = {
    { SYS_kcmp, EPERM },
    { SYS_unshare, EPERM },
    { SYS_setns, EPERM },
    { SYS_clone3, ENOSYS },
    { SYS_pidfd_getfd, EPERM },
    { SYS_process_madvise, EPERM },
    { SYS_userfaultfd, EPERM },
    { SYS_perf_event_open, EPERM },
    { SYS_io_uring_setup, EPERM },
    { SYS_io_uring_enter, EPERM },
    { SYS_io_uring_register, EPERM },
    { SYS_bpf, EPERM },
    { SYS_mount, EPERM },
    { SYS_umount2, EPERM },
    { SYS_pivot_root, EPERM },
    { SYS_fanotify_init, EPERM },
    { SYS_name_to_handle_at, EPERM },
    { SYS_open_by_handle_at, EPERM },
    { SYS_keyctl, EPERM },
    { SYS_syslog, EPERM },
    { SYS_quotactl, EPERM },
    { SYS_move_pages, EPERM },
    { SYS_mbind, EPERM },
    { SYS_set_mempolicy, EPERM },
    { SYS_get_mempolicy, EPERM },
}, once[] = {
    { SYS_close_range, EPERM },
    { SYS_openat2, EPERM },
    { SYS_faccessat2, EPERM },
    { SYS_statx, EPERM },
    { SYS_pidfd_open, EPERM },
    { SYS_pidfd_send_signal, EPERM },
    { SYS_epoll_pwait2, EPERM },
    { SYS_preadv2, EPERM },
    { SYS_pwritev2, EPERM },
    { SYS_process_vm_readv, EPERM },
    { SYS_process_vm_writev, EPERM },
    { SYS_membarrier, EPERM },
};

static struct sock_filter code[256];
static unsigned length;

static void add(struct sock_filter instruction)
{
    MUST(length < sizeof(code) / sizeof(code[0]));
    code[length++] = instruction;
}

static void add_load(size_t at)
{
    add((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)at));
}

static void add_answer(uint32_t answer)
{
    add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, answer));
}

static void refuse(const struct refused *refused, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)refused[i].call, 0, 1));
        add_answer(SECCOMP_RET_ERRNO | (uint32_t)refused[i].error);
    }
}

/* A call whose argument (its low half, on a machine that keeps this one first) is that one, or has one of these bits. */
static void refuse_argument(long call, int argument, uint16_t how, uint32_t value, int error)
{
    add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 4));
    add_load(offsetof(struct seccomp_data, args) + (size_t)argument * 8);
    add((struct sock_filter)BPF_JUMP(BPF_JMP | how | BPF_K, value, 0, 1));
    add_answer(SECCOMP_RET_ERRNO | (uint32_t)error);
    add_answer(SECCOMP_RET_ALLOW);
}

int main(int argc, char **argv)
{
    MUST(argc > 2);
    add_load(offsetof(struct seccomp_data, nr));
    refuse(always, sizeof(always) / sizeof(always[0]));
    if (strcmp(argv[1], "old") == 0)
        refuse(once, sizeof(once) / sizeof(once[0]));
    refuse_argument(SYS_fcntl, 1, BPF_JEQ, DUPFD_QUERY, EINVAL);
    refuse_argument(SYS_clone, 0, BPF_JSET, NAMESPACES, EPERM);
    add_answer(SECCOMP_RET_ALLOW);

    struct sock_fprog program = { (unsigned short)length, code };
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    execvp(argv[2], argv + 2);
    perror(argv[2]);
    return 1;
}
