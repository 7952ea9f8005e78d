/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A system call that is never carried, or does not exist, comes back with -ENOSYS and is not made: through the
 * ring and by io_issue2, the process and its threads live on.
 */
#include "test.h"

int main(void)
{
    const uint32_t numbers[] = {
        SYS_exit, SYS_exit_group, SYS_fork, SYS_vfork, SYS_clone, SYS_clone3, SYS_execve, SYS_execveat,
        SYS_rt_sigreturn, SYS_set_tid_address, SYS_setns, SYS_unshare, SYS_set_robust_list, SYS_rt_sigprocmask,
        SYS_sigaltstack, SYS_restart_syscall,
        /* Calls that would answer for, or change, the worker instead of the program. */
        SYS_gettid, SYS_getcpu, SYS_prctl, SYS_personality, SYS_ioprio_set, SYS_ioprio_get, SYS_sched_setaffinity,
        SYS_setpriority, SYS_setuid, SYS_getuid, SYS_setfsuid, SYS_capset, SYS_seccomp, SYS_ptrace, SYS_rt_sigtimedwait,
        SYS_keyctl, SYS_io_uring_setup, SYS_set_mempolicy, SYS_brk, SYS_reboot,
        /* Not system calls. The last but one has the bit of the x32 calls, for exit_group. */
        4000, 9999, UINT32_C(1) << 31, UINT32_MAX - 1, UINT32_C(0x40000000) | SYS_exit_group, UINT32_C(0xffff0000) | SYS_exit_group,
    };
    const size_t count = sizeof(numbers) / sizeof(numbers[0]);
    io_context2_t ctx = setup2(0, 0, 0);
    static unsigned char events[8192];
    struct iocb2 iocbs[64];
    union event_room room;
    /* The kernel fills a part of each. */
    static sigset_t before, after;
    const pid_t tid = my_tid();

    CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &before), 0);
    for (size_t i = 0; i < count; i++) {
        /* Not 0: an exit that is made must not look like the end of a test that has passed. */
        io_prep2_syscall(&iocbs[i], numbers[i], 1, 1, 1, 1, 1, 1);
        iocbs[i].data = i;
    }
    submit_all(ctx, iocbs, count * sizeof(iocbs[0]));
    (void)get_events(ctx, count, events, sizeof(events));
    for (size_t i = 0; i < count; i++) {
        const struct io_event2 *event = (const struct io_event2 *)(const void *)events + i;

        CHECK_EQ(event->bytes, 24);
        CHECK_CMP(event->data, <, count);
        if (event->res != -ENOSYS)
            FAIL("system call %u: expected -ENOSYS, seen %lld", numbers[event->data], (long long)event->res);
    }
    for (size_t i = 0; i < count; i++) {
        CHECK_EQ(CALL(io_issue2(&iocbs[i], &room.event, sizeof(room))), 24);
        if (room.event.res != -ENOSYS)
            FAIL("system call %u by io_issue2: expected -ENOSYS, seen %lld", numbers[i], (long long)room.event.res);
        CHECK_EQ(room.event.data, i);
    }

    /* No child, no other thread in this one's place, nothing ended. */
    CHECK_EQ(my_tid(), tid);
    CHECK_EQ(waitpid(-1, NULL, WNOHANG), -1);
    CHECK_EQ(errno, ECHILD);
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &after), 0);
    CHECK_MEM(&after, &before, sizeof(after));
    io_prep2_nop(&iocbs[0]);
    submit_one(ctx, &iocbs[0]);
    get_one(ctx, &room.event);
    CHECK_EQ(room.event.res, 0);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
