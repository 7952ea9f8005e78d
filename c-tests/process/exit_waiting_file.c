/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A file that looks like one on a disk, but whose reads wait for somebody who writes (trace_pipe), does not delay an exit: neither a read that
 * runs, nor one that is queued.
 */
/* needs: root */
#include "test.h"
#include "call.h"

static void child(int file)
{
    static char text[4096];
    static struct hold hold;

    call_ctx = setup2(0, 0, 2);
    hold_submit(call_ctx, &hold, 0);
    hold_wait_running(1);
    start_call(1, SYS_read, N(file), P(text), sizeof(text));
    start_call(2, SYS_read, N(file), P(text), sizeof(text));
    exit(0);
}

int main(void)
{
    int file = open("/sys/kernel/tracing/trace_pipe", O_RDONLY | O_CLOEXEC);
    int64_t before = now_ns();
    struct stat st;
    pid_t pid;

    if (file < 0)
        SKIP("there is no /sys/kernel/tracing/trace_pipe that can be read");
    CHECK_EQ(fstat(file, &st), 0);
    CHECK(S_ISREG(st.st_mode));
    pid = fork();
    if (pid == 0)
        child(file);
    wait_child(pid);
    CHECK_CMP(now_ns() - before, <, PATIENCE_NS);
    return 0;
}
