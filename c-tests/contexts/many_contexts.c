/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Three thousand contexts at once: they are made and destroyed in little time, cost little memory and
 * no thread until they are used, and then each one works.
 */
#include "test.h"
#include "stress.h"

#define CONTEXTS 3000

static long resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    long pages = 0;

    CHECK(file != NULL);
    CHECK_EQ(fscanf(file, "%*d %ld", &pages), 1);
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

/* Processor time, which a busy machine does not lengthen much. */
static int64_t cpu_ns(void)
{
    struct timespec t;

    CHECK_EQ(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t), 0);
    return (int64_t)t.tv_sec * NSEC_PER_SEC + t.tv_nsec;
}

int main(void)
{
    static io_context2_t ctxs[CONTEXTS];
    static unsigned char block[CONTEXTS][64];
    struct rlimit limit;
    struct iocb2 iocb;
    union event_room room;
    int descriptors;
    int most_workers = 0;
    int64_t began;
    long memory;
    int fd;

    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < CONTEXTS + 100)
        SKIP("too few descriptors allowed (RLIMIT_NOFILE)");
    limit.rlim_cur = CONTEXTS + 100 > limit.rlim_cur ? CONTEXTS + 100 : limit.rlim_cur;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    fd = temp_pattern_file(CONTEXTS * 64, 1, 0);
    memset(block, 0, sizeof(block));

    /* What the first costs, all share. */
    ctxs[0] = setup2(0, 0, 0);
    CHECK_EQ(CALL(io_destroy2(ctxs[0])), 0);
    descriptors = count_descriptors();
    memory = resident_bytes();
    began = cpu_ns();
    for (int i = 0; i < CONTEXTS; i++)
        ctxs[i] = setup2(0, 0, 0);
    printf("%d contexts in %.0f ms of processor time, %ld resident bytes each\n", CONTEXTS, (double)(cpu_ns() - began) / 1e6,
           (resident_bytes() - memory) / CONTEXTS);
    CHECK_CMP(cpu_ns() - began, <, 5 * NSEC_PER_SEC);
    CHECK_EQ(count_threads(), 1);
    CHECK_CMP(count_descriptors() - descriptors, <=, CONTEXTS);
    CHECK_CMP((resident_bytes() - memory) / CONTEXTS, <, 16 * 1024);

    began = cpu_ns();
    for (int i = 0; i < CONTEXTS; i++) {
        io_prep2_pread(&iocb, fd, block[i], 64, (int64_t)i * 64);
        iocb.data = (uint64_t)i;
        submit_one(ctxs[i], &iocb);
        if (i % 100 == 0) {
            int workers = count_threads() - 1;

            most_workers = workers > most_workers ? workers : most_workers;
        }
    }
    for (int i = 0; i < CONTEXTS; i++) {
        get_one(ctxs[i], &room);
        CHECK_EQ(room.event.data, i);
        CHECK_EQ(room.event.res, 64);
        CHECK_PATTERN(block[i], 64, (uint64_t)i * 64, 1);
    }
    printf("a request on each in %.0f ms of processor time, %d workers at most, %ld resident bytes each\n", (double)(cpu_ns() - began) / 1e6,
           most_workers, (resident_bytes() - memory) / CONTEXTS);
    CHECK_CMP(cpu_ns() - began, <, 10 * NSEC_PER_SEC);
    CHECK_CMP(most_workers, >, 0);
    /* One pool for the process. */
    CHECK_CMP(most_workers, <, 1000);
    CHECK_CMP((resident_bytes() - memory) / CONTEXTS, <, 64 * 1024);

    began = cpu_ns();
    for (int i = 0; i < CONTEXTS; i++) {
        CHECK_EQ(ring_completed(ctxs[i]), 1);
        CHECK_EQ(CALL(io_destroy2(ctxs[i])), 0);
    }
    printf("destroyed in %.0f ms of processor time\n", (double)(cpu_ns() - began) / 1e6);
    CHECK_CMP(cpu_ns() - began, <, 5 * NSEC_PER_SEC);
    CHECK_EQ(count_descriptors(), descriptors);
    CHECK_CMP(resident_bytes() - memory, <, 16 * 1024 * 1024);
    return 0;
}
