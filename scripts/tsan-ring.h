/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Included before every C test that is built with ThreadSanitizer: see sanitizers.sh.
 *
 * A program reaps from its own mapping of the ring, and the library publishes through another one. ThreadSanitizer goes by
 * addresses, so it does not see that the library's release of the tail and the program's acquire of it are the same
 * word, and takes what a submitter wrote before io_submit2() and a reaper reads after io_ring2_reap() for a race. So it is told:
 * a thread that reaps an event acquires what the submitters to that context have released. (The work of the ring itself is the
 * loom models' to check.)
 */
#include <aio2.h>

void __tsan_acquire(void *addr);
void __tsan_release(void *addr);

static inline ssize_t tsan_ring2_reap(io_context2_t ctx, struct io_event2 *event, size_t nbytes)
{
    ssize_t ret = io_ring2_reap(ctx, event, nbytes);

    if (ret > 0)
        __tsan_acquire(ctx);
    return ret;
}

static inline ssize_t tsan_submit2(io_context2_t ctx, const struct iocb2 *iocbs, size_t nbytes)
{
    if (ctx != NULL)
        __tsan_release(ctx);
    return io_submit2(ctx, iocbs, nbytes);
}

#define io_ring2_reap tsan_ring2_reap
#define io_submit2 tsan_submit2
