/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * io_submit2 makes at most one wake-up system call, however many requests it takes, and none when nobody needs
 * waking; and with requests enough the calls for waking become fewer than the requests. The program puts
 * itself in the place of the C library's syscall(), through which the library calls futex.
 */
/* time limit: 60 s */
#include "test.h"
#include "stress.h"
#include <linux/futex.h>

static __thread bool submitting;
static __thread int wakes_here;
static __thread int waits_here;
static uint64_t wakes_anywhere;

long syscall(long nr, ...)
{
    va_list args;
    long a[6];
    long result;

    va_start(args, nr);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    if (nr == SYS_futex) {
        int op = (int)a[1] & FUTEX_CMD_MASK;

        if (op == FUTEX_WAKE || op == FUTEX_WAKE_BITSET || op == FUTEX_WAKE_OP || op == FUTEX_REQUEUE ||
            op == FUTEX_CMP_REQUEUE) {
            __atomic_fetch_add(&wakes_anywhere, 1, __ATOMIC_RELAXED);
            if (submitting)
                wakes_here++;
        } else if (submitting) {
            waits_here++;
        }
    }
#ifdef __x86_64__
    {
        register long r10 __asm__("r10") = a[3];
        register long r8 __asm__("r8") = a[4];
        register long r9 __asm__("r9") = a[5];

        __asm__ volatile("syscall"
                         : "=a"(result)
                         : "a"(nr), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
                         : "rcx", "r11", "memory");
    }
#elif defined(__aarch64__)
    {
        register long x8 __asm__("x8") = nr;
        register long x0 __asm__("x0") = a[0];
        register long x1 __asm__("x1") = a[1];
        register long x2 __asm__("x2") = a[2];
        register long x3 __asm__("x3") = a[3];
        register long x4 __asm__("x4") = a[4];
        register long x5 __asm__("x5") = a[5];

        __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
        result = x0;
    }
#else
    (void)a;
    result = -ENOSYS;
    SKIP("system calls of this processor are not known to this test");
#endif
    if (result < 0 && result > -4096) {
        errno = (int)-result;
        return -1;
    }
    return result;
}

static uint64_t submits;
static uint64_t submits_with_wake;
static uint64_t most_wakes;

static void submit_counted(io_context2_t ctx, const struct iocb2 *iocbs, size_t nbytes)
{
    wakes_here = 0;
    submitting = true;
    CHECK_EQ(io_submit2(ctx, iocbs, nbytes), nbytes);
    submitting = false;
    submits++;
    submits_with_wake += wakes_here != 0;
    if ((uint64_t)wakes_here > most_wakes)
        most_wakes = (uint64_t)wakes_here;
}

static void part(const char *what, uint64_t most)
{
    printf("%s: %" PRIu64 " submits, %" PRIu64 " with a wake-up, %" PRIu64 " at most in one\n", what, submits,
           submits_with_wake, most_wakes);
    CHECK_CMP(most_wakes, <=, most);
    submits = 0;
    submits_with_wake = 0;
    most_wakes = 0;
}

int main(void)
{
    static struct io_event2 events[4096];
    static struct iocb2 iocbs[256];
    static char buf[256][512];
    int fd = temp_pattern_file(256 * 512, 1, 0);
    io_context2_t ctx = setup2(4096, 0, 4);

    for (size_t i = 0; i < 256; i++)
        io_prep2_pread(&iocbs[i], fd, buf[i], 512, (int64_t)(i * 512));
    /* Workers there are. */
    submit_all(ctx, iocbs, sizeof(iocbs));
    (void)get_events(ctx, 256, events, sizeof(events));

    /* One request, everybody asleep: there is a wake-up, and one. */
    for (int i = 0; i < 100; i++) {
        sleep_ms(3);
        submit_counted(ctx, iocbs, sizeof(iocbs[0]));
        (void)get_events(ctx, 1, events, sizeof(events));
    }
    if (wakes_anywhere == 0)
        SKIP("the library's futex calls do not come through syscall()");
    CHECK_CMP(submits_with_wake, >=, 50);
    part("one request, workers asleep", 1);

    for (int i = 0; i < 100; i++) {
        sleep_ms(3);
        submit_counted(ctx, iocbs, sizeof(iocbs));
        (void)get_events(ctx, 256, events, sizeof(events));
    }
    part("256 requests, workers asleep", 1);

    for (int i = 0; i < 5000; i++) {
        submit_counted(ctx, iocbs, 4 * sizeof(iocbs[0]));
        if (i % 100 == 99)
            (void)get_events(ctx, 400, events, sizeof(events));
    }
    /* A lock that a worker waits for is one, too: a submit takes three. */
    CHECK_CMP(submits_with_wake, <, 2500);
    part("4 requests, workers busy", 3);
    CHECK_RING_DRAINED(ctx, ring_submitted(ctx));
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
