/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A worker is a thread named aio2-worker with a small stack. It blocks every signal, except the real-time signal with which the
 * library interrupts calls that may not end. It starts when there is work, not with the context, and ends when it has been idle
 * for a while. Later work starts workers again.
 */
#include "test.h"

static bool check_signals(const char *tid, void *arg)
{
    char text[8192];
    const char *line;
    unsigned long long blocked;
    int open_signals = 0;

    (void)arg;
    if (!read_task_file(tid, "status", text, sizeof(text)))
        return false;
    line = strstr(text, "\nSigBlk:");
    CHECK(line != NULL);
    blocked = strtoull(line + 8, NULL, 16);
    for (int sig = 1; sig <= 64; sig++) {
        /* SIGKILL and SIGSTOP cannot be blocked; 32 and 33 are the C library's. */
        if (sig == SIGKILL || sig == SIGSTOP || sig == 32 || sig == 33)
            continue;
        if ((blocked >> (sig - 1) & 1) == 0 && sig >= SIGRTMIN && open_signals++ == 0)
            continue;
        if ((blocked >> (sig - 1) & 1) == 0)
            FAIL("worker %s does not block signal %d: SigBlk is %#llx", tid, sig, blocked);
    }
    return true;
}

/* The mapping that holds a sleeping worker's stack pointer. */
static bool check_stack(const char *tid, void *arg)
{
    unsigned long words[9] = { 0 };
    unsigned long low;
    unsigned long high;
    char text[512];
    char line[512];
    bool found = false;
    FILE *maps;

    (void)arg;
    if (!read_task_file(tid, "syscall", text, sizeof(text)) ||
        sscanf(text, "%lu %lx %lx %lx %lx %lx %lx %lx %lx", &words[0], &words[1], &words[2], &words[3], &words[4],
               &words[5], &words[6], &words[7], &words[8]) != 9)
        return false;
    maps = fopen("/proc/self/maps", "re");
    CHECK(maps != NULL);
    while (fgets(line, sizeof(line), maps) != NULL) {
        if (sscanf(line, "%lx-%lx", &low, &high) == 2 && words[7] >= low && words[7] < high) {
            found = true;
            CHECK_CMP(high - low, <=, 512 * 1024);
        }
    }
    fclose(maps);
    return found;
}

int main(void)
{
    struct hold holds[3];
    unsigned char buf[3 * 24];
    io_context2_t ctx;

    for (int round = 0; round < 2; round++) {
        CHECK_EQ(count_workers(), 0);
        ctx = setup2(0, 0, 0);
        CHECK_EQ(count_workers(), 0);
        sleep_ms(50);
        CHECK_EQ(count_workers(), 0);

        for (uint64_t i = 0; i < 3; i++)
            hold_submit(ctx, &holds[i], i);
        hold_wait_running(3);
        CHECK_CMP(for_workers(check_signals, NULL), >=, 3);
        CHECK_CMP(for_workers(check_stack, NULL), >=, 3);
        for (int i = 0; i < 3; i++)
            hold_release(&holds[i]);
        (void)get_events(ctx, 3, buf, sizeof(buf));
        for (int i = 0; i < 3; i++)
            hold_close(&holds[i]);

        /* The context is still there; its threads are not. */
        CHECK_SOON(count_workers() == 0);
        CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    }
    return 0;
}
