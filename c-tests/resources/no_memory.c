/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Each allocation and mapping of a setup, submit, reap and destroy in turn fails, alone or with all later ones: every call
 * returns a documented errno or succeeds, nothing crashes, each accepted request has its event, no descriptor and no mapping
 * stays, and afterwards everything works again.
 */
#include "test.h"
#include "stress.h"
#include "alloc_hook.h"

#define REQUESTS 200

static int fd;
static int efd;

/* How many lines /proc/self/maps has that are a ring. */
static int count_ring_maps(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[PATH_MAX + 128];
    int count = 0;

    CHECK(maps != NULL);
    while (fgets(line, sizeof(line), maps) != NULL)
        count += strstr(line, "memfd:") != NULL;
    fclose(maps);
    return count;
}

/* Once through everything; no allocation of its own. Returns false if the setup failed. */
static bool scenario(void)
{
    static _Alignas(8) unsigned char room[REQUESTS * 64 + 40 * 4096];
    static char block[REQUESTS][64];
    static _Alignas(8) unsigned char out[65536];
    struct io_setup2_params params = params2();
    io_context2_t ctx = NULL;
    uint64_t accepted = 0;
    uint64_t got = 0;
    size_t used = 0;
    size_t done = 0;
    int refused = 0;
    int64_t end;
    int result;

    params.ring_bytes = 4096;
    params.eventfd = efd;
    result = (int)CALL(io_setup2(IO_SETUP2_VERSION, &params, &ctx));
    if (result != 0) {
        CHECK(result == -ENOMEM || result == -EMFILE || result == -ENFILE);
        CHECK(ctx == NULL);
        return false;
    }
    result = (int)CALL(io_ring_fd2(ctx));
    if (result >= 0)
        close(result);
    else
        CHECK_EQ(result, -ENOMEM);

    /* Small records and large ones, more than any memory made in advance would hold. */
    for (int i = 0; i < REQUESTS; i++) {
        struct iocb2 *iocb = (struct iocb2 *)(void *)(room + used);

        if (i % 3 == 0)
            io_prep2_nop(iocb);
        else
            io_prep2_pread(iocb, fd, block[i], sizeof(block[i]), i * 64);
        iocb->data = (uint64_t)i;
        if (i % 8 == 0) {
            for (int j = 0; j < 200; j++)
                CHECK(iocb2_add_attr(iocb, IOCB_ATTR_PRIVATE, 0, 0, NULL, 0) != NULL);
        } else if (i % 5 == 0) {
            CHECK(iocb2_add_attr(iocb, IOCB_ATTR_TIMING, 0, 0, NULL, 0) != NULL);
        }
        used += iocb->bytes;
    }
    while (done < used) {
        ssize_t n = CALL(io_submit2(ctx, (const struct iocb2 *)(const void *)(room + done), used - done));

        if (n < 0) {
            CHECK_EQ(n, -EAGAIN);
            /* Out of memory for good: the rest stays away. */
            if (++refused == 20)
                break;
            continue;
        }
        CHECK_CMP(n, >, 0);
        for (size_t at = 0; at < (size_t)n; at += ((struct iocb2 *)(void *)(room + done + at))->bytes)
            accepted++;
        done += (size_t)n;
    }

    end = now_ns() + PATIENCE_NS;
    while (got < accepted) {
        struct timespec timeout = timespec_ns(NSEC_PER_SEC);
        ssize_t n = CALL(io_getevents2(ctx, sizeof(struct io_event2), (struct io_event2 *)(void *)out, sizeof(out), &timeout));

        CHECK_CMP(n, >=, 0);
        (void)count_events(out, (size_t)n);
        for (size_t at = 0; at < (size_t)n;) {
            struct io_event2 *event = (struct io_event2 *)(void *)(out + at);

            CHECK_CMP(event->data, <, REQUESTS);
            CHECK_EQ(event->res, event->data % 3 == 0 ? 0 : 64);
            at += event->bytes;
            got++;
        }
        if (now_ns() > end)
            FAIL("%" PRIu64 " of %" PRIu64 " accepted requests have an event", got, accepted);
    }
    CHECK_EQ(got, accepted);
    CHECK_RING_DRAINED(ctx, accepted);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    CHECK_EQ(CALL(io_destroy2(ctx)), -EINVAL);
    return true;
}

static int base_descriptors;

/* In a child that has not used the library yet; true if the failure was reached. */
static bool one_failure(long fail_at, int fail_after)
{
    bool reached;
    int status = 0;
    pid_t pid = fork();

    CHECK(pid >= 0);
    if (pid == 0) {
        alarm(3 * PATIENCE_S);
        alloc_arm(fail_at, fail_after);
        (void)scenario();
        alloc_disarm();
        reached = alloc_failed != 0;
        CHECK_EQ(count_ring_maps(), 0);
        CHECK_EQ(count_descriptors(), base_descriptors);
        /* And again, with the library's globals made; and then with nothing failing. */
        alloc_arm(fail_at, fail_after);
        (void)scenario();
        alloc_disarm();
        CHECK_EQ(count_ring_maps(), 0);
        CHECK_EQ(count_descriptors(), base_descriptors);
        CHECK(scenario());
        CHECK_EQ(count_ring_maps(), 0);
        CHECK_EQ(count_descriptors(), base_descriptors);
        _exit(reached ? 0 : 2);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 2))
        return WEXITSTATUS(status) == 0;
    FAIL("allocation %ld failing%s: %s %d", fail_at, fail_after ? ", and all after it" : "",
         WIFEXITED(status) ? "exit status" : "signal", WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
}

int main(void)
{
    pid_t pid;

    fd = temp_file(REQUESTS * 64, 0);
    efd = eventfd(0, EFD_CLOEXEC);
    CHECK(efd >= 0);
    base_descriptors = count_descriptors();

    /* Nothing fails: memory that the library keeps for good is not a leak, but must be known. */
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        alarm(3 * PATIENCE_S);
        alloc_arm(0, 0);
        CHECK(scenario());
        alloc_disarm();
        printf("%ld allocations and mappings\n", alloc_calls);
        CHECK_CMP(alloc_calls, >, 3);
        CHECK_EQ(count_ring_maps(), 0);
        CHECK_EQ(count_descriptors(), base_descriptors);
        _exit(0);
    }
    wait_child(pid);

    for (int after = 0; after < 2; after++) {
        long n = 1;
        long missed = 0;

        /* The number of allocations varies a little with the workers; past the end for some in a row is the end. */
        while (missed < 5) {
            missed = one_failure(n, after) ? 0 : missed + 1;
            CHECK_CMP(n, <, 5000);
            n++;
        }
        printf("%ld failures%s\n", n - 1 - missed, after ? ", each with all that follow" : "");
        CHECK_CMP(n - 1 - missed, >, 3);
    }
    return 0;
}
