/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The common part of the stress and fault tests; included after test.h. */
#ifndef AIO2_STRESS_H
#define AIO2_STRESS_H

/*
 * How many of these rounds to make. Where the same is run once more in another way, or under a tool that slows programs down
 * and sees a fault wherever it is, FEWER=N in the environment divides them.
 */
static TEST_UNUSED uint64_t fewer(uint64_t all)
{
    static uint64_t known;
    uint64_t divisor = __atomic_load_n(&known, __ATOMIC_RELAXED);

    if (divisor == 0) {
        const char *text = getenv("FEWER");

        divisor = text != NULL ? (uint64_t)atoi(text) : 1;
        CHECK_CMP(divisor, >, 0);
        __atomic_store_n(&known, divisor, __ATOMIC_RELAXED);
    }
    return (all + divisor - 1) / divisor;
}

/* ---- Random numbers: cheap, per thread, and the same in every run ----------------------------- */

static TEST_UNUSED uint64_t rng_next(uint64_t *state)
{
    uint64_t x = *state != 0 ? *state : UINT64_C(0x9e3779b97f4a7c15);

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    *state = x;
    return x * UINT64_C(0x2545f4914f6cdd1d);
}

static TEST_UNUSED uint64_t rng_below(uint64_t *state, uint64_t bound)
{
    return (rng_next(state) >> 11) % bound;
}

/* ---- Every number below `n` exactly once, marked by any thread -------------------------------- */

struct seen {
    uint64_t *bits;
    uint64_t n;
    uint64_t count;
};

static TEST_UNUSED void seen_init(struct seen *seen, uint64_t n)
{
    seen->bits = calloc((size_t)((n + 63) / 64), sizeof(uint64_t));
    CHECK(seen->bits != NULL);
    seen->n = n;
    seen->count = 0;
}

static TEST_UNUSED void seen_mark(struct seen *seen, uint64_t number)
{
    uint64_t bit = UINT64_C(1) << (number % 64);

    if (number >= seen->n)
        FAIL("data %#" PRIx64 " was never submitted", number);
    if ((__atomic_fetch_or(&seen->bits[number / 64], bit, __ATOMIC_RELAXED) & bit) != 0)
        FAIL("data %#" PRIx64 " came out twice", number);
    __atomic_fetch_add(&seen->count, 1, __ATOMIC_ACQ_REL);
}

static TEST_UNUSED uint64_t seen_count(struct seen *seen)
{
    return __atomic_load_n(&seen->count, __ATOMIC_ACQUIRE);
}

/* Fails unless all were seen; says which is the first that was not. */
static TEST_UNUSED void seen_check_all(struct seen *seen)
{
    for (uint64_t i = 0; i < seen->n; i++) {
        if ((__atomic_load_n(&seen->bits[i / 64], __ATOMIC_RELAXED) >> (i % 64) & 1) == 0)
            FAIL("data %#" PRIx64 " was lost (%" PRIu64 " of %" PRIu64 " seen)", i, seen_count(seen), seen->n);
    }
}

static TEST_UNUSED void seen_free(struct seen *seen)
{
    free(seen->bits);
}

/* ---- The counters of a ring ------------------------------------------------------------------- */

static TEST_UNUSED uint64_t ring_submitted(io_context2_t ctx)
{
    return __atomic_load_n(&ctx->submitted, __ATOMIC_ACQUIRE);
}

static TEST_UNUSED uint64_t ring_completed(io_context2_t ctx)
{
    return __atomic_load_n(&ctx->completed, __ATOMIC_ACQUIRE);
}

static TEST_UNUSED uint64_t ring_overflowed(io_context2_t ctx)
{
    return __atomic_load_n(&ctx->overflowed, __ATOMIC_ACQUIRE);
}

static TEST_UNUSED uint32_t ring_head(io_context2_t ctx)
{
    return __atomic_load_n(&ctx->head, __ATOMIC_ACQUIRE);
}

static TEST_UNUSED uint32_t ring_tail(io_context2_t ctx)
{
    return __atomic_load_n(&ctx->tail, __ATOMIC_ACQUIRE);
}

/* Bytes of address space behind a handle: the header, and the data area twice. */
static TEST_UNUSED size_t ring_view_bytes(io_context2_t ctx)
{
    return (size_t)ctx->header_bytes + 2 * (size_t)ctx->ring_bytes;
}

/* Fails unless `n` requests went in, `n` events were produced, and nothing is left to reap. */
#define CHECK_RING_DRAINED(ctx, n)                                                                 \
    do {                                                                                           \
        union event_room drained_room_;                                                            \
        CHECK_EQ(io_getevents2((ctx), 0, &drained_room_.event, sizeof(drained_room_), NULL), 0);   \
        CHECK_EQ(ring_submitted(ctx), (n));                                                        \
        CHECK_EQ(ring_completed(ctx), (n));                                                        \
        CHECK_CMP(ring_overflowed(ctx), <=, (n));                                                  \
        CHECK_EQ(ring_head(ctx), ring_tail(ctx));                                                  \
        CHECK_EQ(io_ring2_overflowed(ctx), 0);                                                     \
    } while (0)

/* ---- Batches of NOPs -------------------------------------------------------------------------- */

#define NOP_BATCH_MAX 512

/* Submits NOPs numbered from `first`; waits while the context is full. Returns when all are accepted. */
static TEST_UNUSED void submit_nops(io_context2_t ctx, uint64_t first, uint64_t n)
{
    struct iocb2 iocbs[NOP_BATCH_MAX];

    while (n != 0) {
        size_t batch = n < NOP_BATCH_MAX ? (size_t)n : NOP_BATCH_MAX;
        size_t done = 0;

        for (size_t i = 0; i < batch; i++) {
            io_prep2_nop(&iocbs[i]);
            iocbs[i].data = first + i;
        }
        while (done < batch) {
            ssize_t got = io_submit2(ctx, iocbs + done, (batch - done) * sizeof(iocbs[0]));

            if (got == -EAGAIN) {
                sched_yield();
                continue;
            }
            CHECK_CMP(got, >, 0);
            CHECK_EQ(got % (ssize_t)sizeof(iocbs[0]), 0);
            done += (size_t)got / sizeof(iocbs[0]);
        }
        first += batch;
        n -= batch;
    }
}

/* ---- A step of a reaper that works in user space ---------------------------------------------- */

/*
 * Takes the next event as the contract asks of a user-space reaper: out of the ring without a call; only
 * when the ring is empty and the OVERFLOW flag is set, by io_getevents2 without waiting. Returns the bytes
 * taken (of several events, if they came by io_getevents2) or 0. `calls` counts the calls made.
 */
static TEST_UNUSED size_t reap_user_space(io_context2_t ctx, struct io_event2 *events, size_t nbytes, uint64_t *calls)
{
    ssize_t got = io_ring2_reap(ctx, events, nbytes);

    if (got == 0 && io_ring2_overflowed(ctx)) {
        got = io_getevents2(ctx, 0, events, nbytes, NULL);
        if (calls != NULL)
            ++*calls;
    }
    if (got < 0)
        FAIL("reaping in user space: seen %zd %s", got, test_errno_text(got));
    return (size_t)got;
}

/* ---- Programs that run themselves again ------------------------------------------------------- */

/* In the child of a fork: becomes this program with these arguments. */
static TEST_UNUSED void __attribute__((noreturn)) exec_self(const char *arg1, const char *arg2, const char *arg3)
{
    const char *args[] = { "/proc/self/exe", arg1, arg2, arg3, NULL };

    execv("/proc/self/exe", (char *const *)(uintptr_t)args);
    FAIL("execv: %s", strerror(errno));
}

/* How many descriptors this process has open. */
static TEST_UNUSED int count_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int count = -3; /* ".", ".." and the directory itself */

    CHECK(dir != NULL);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

/* ---- Processes --------------------------------------------------------------------------------- */

/*
 * Several processes make random rounds side by side, so that threads lose the processor anywhere. `prepare`, which may be NULL, is called once in
 * each. SEED=N takes another beginning, LONG=1 more rounds: `longer` in place of `rounds`.
 */
static TEST_UNUSED void rounds_in_processes(uint64_t rounds, uint64_t longer, void (*prepare)(void), void (*round_of)(uint64_t seed))
{
    enum { PROCESSES = 8 };
    const char *text = getenv("SEED"), *is_long = getenv("LONG");
    const uint64_t seed = text != NULL ? strtoull(text, NULL, 10) : 1;
    pid_t children[PROCESSES];

    if (is_long != NULL && strcmp(is_long, "0") != 0)
        rounds = longer;
    for (uint64_t i = 0; i < PROCESSES; i++) {
        children[i] = CALL(fork());
        if (children[i] != 0)
            continue;
        if (prepare != NULL)
            prepare();
        for (uint64_t round = 0; round < rounds; round++)
            round_of((seed * PROCESSES + i) * 1000003 + round);
        _exit(0);
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status;

        CHECK_EQ(CALL(waitpid(children[i], &status, 0)), children[i]);
        CHECK_EQ(status, 0);
    }
}

/* ---- Who carries requests out ----------------------------------------------------------------- */

/* Reads that this thread has made, this one of the file that tells it included. */
static TEST_UNUSED long own_reads(void)
{
    char text[512], tid[32];
    const char *at;

    snprintf(tid, sizeof(tid), "%ld", syscall(SYS_gettid));
    if (!read_task_file(tid, "io", text, sizeof(text)))
        SKIP("this kernel does not count a thread's reads");
    at = strstr(text, "syscr: ");
    CHECK(at != NULL);
    return atol(at + strlen("syscr: "));
}

#endif /* AIO2_STRESS_H */
