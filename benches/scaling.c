/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * scaling [FILE [SECONDS]]: how the cost of a request grows with threads and contexts, the memory of a context and of a request,
 * and the activity of an idle process with open contexts during SECONDS (default: 10). FILE is read with O_DIRECT by the
 * contexts of the last part before they are idle. docs/scaling.md explains the figures.
 *
 * Requests are no-ops, so the library alone is measured. Costs are processor time, not time: with more threads than processors
 * they can be compared all the same.
 */
#include "bench.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

enum { BATCH = 16, TRIPS = 1 << 15, CONTEXTS = 1000, THREADS = 8, QUEUED = 100000, ROUNDS = 3 };

static double cpu_ns(int who)
{
    struct rusage usage;

    checked("getrusage", getrusage(who, &usage));
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e9 + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e3;
}

/* ---- Threads ---------------------------------------------------------------------------------- */

struct role {
    io_context2_t ctx;
    int batch;
    int requests;
    int submits, reaps;
};

static void *run(void *arg)
{
    struct role *role = arg;
    struct iocb2 iocbs[BATCH];
    struct io_event2 events[BATCH];
    const int batch = role->batch;

    for (int i = 0; i < batch; i++)
        io_prep2_nop(&iocbs[i]);
    for (int done = 0; done < role->requests;) {
        ssize_t got = (ssize_t)((size_t)batch * sizeof(events[0]));

        if (role->submits) {
            got = io_submit2(role->ctx, iocbs, (size_t)batch * sizeof(iocbs[0]));
            /* Full: those who reap are behind. */
            if (got == -EAGAIN) {
                sched_yield();
                continue;
            }
            must("io_submit2", got);
            got = got / (ssize_t)sizeof(iocbs[0]) * (ssize_t)sizeof(events[0]);
        }
        if (role->reaps) {
            got = io_getevents2(role->ctx, (size_t)got, events, (size_t)got, NULL);
            must("io_getevents2", got);
        }
        done += (int)(got / (ssize_t)sizeof(events[0]));
    }
    return NULL;
}

static void run_all(struct role *roles, int n)
{
    pthread_t threads[2 * THREADS];

    for (int i = 0; i < n; i++)
        threads[i] = start(run, &roles[i]);
    for (int i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
}

/* Processor time for a request, by `threads` that do both, each on a context of its own or all on one; or by as many that submit
 * and as many that reap, on one. */
static double cost(int threads, int batch, int shared, int apart)
{
    double costs[ROUNDS];

    for (int round = 0; round < ROUNDS; round++) {
        struct role roles[2 * THREADS];
        io_context2_t contexts[THREADS];
        const int requests = TRIPS / threads * BATCH;

        for (int i = 0; i < threads; i++) {
            contexts[i] = i == 0 || !shared ? setup(1 << 20, 8192, 0) : contexts[0];
            roles[i] = (struct role){ contexts[i], batch, requests, 1, !apart };
            roles[threads + i] = (struct role){ contexts[i], batch, requests, 0, 1 };
        }
        /* In the first round the library learns the behaviour of the requests and of their callers. */
        run_all(roles, apart ? 2 * threads : threads);
        double before = cpu_ns(RUSAGE_SELF);
        run_all(roles, apart ? 2 * threads : threads);
        costs[round] = (cpu_ns(RUSAGE_SELF) - before) / ((double)requests * threads);
        for (int i = 0; i < (shared ? 1 : threads); i++)
            must("io_destroy2", io_destroy2(contexts[i]));
    }
    return median(costs, ROUNDS);
}

static void by_threads(void)
{
    printf("processor time of a no-op, in ns       a context each     one context    one context, submitters and reapers apart\n");
    printf("%-8s %-8s\n", "threads", "batch");
    for (int batch = 1; batch <= BATCH; batch *= BATCH) {
        for (int threads = 1; threads <= THREADS; threads *= 2) {
            printf("%-8d %-8d %33.0f %15.0f %15.0f\n", threads, batch, cost(threads, batch, 0, 0), cost(threads, batch, 1, 0),
                   cost(threads, batch, 1, 1));
            fflush(stdout);
        }
    }
}

/* ---- Contexts --------------------------------------------------------------------------------- */

/* What of memory is this process's, in bytes: a page counts once, however often it is mapped here. */
static double memory_used(void)
{
    FILE *file = fopen("/proc/self/smaps_rollup", "re");
    char line[256];
    double kib = -1;

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "Pss: %lf kB", &kib) == 1)
            break;
    }
    if (file != NULL)
        fclose(file);
    if (kib < 0)
        checked("/proc/self/smaps_rollup", -1);
    return kib * 1024;
}

static void by_contexts(void)
{
    static io_context2_t contexts[CONTEXTS];

    printf("\ncontexts    processor time of a no-op, one at a time    memory of a context\n");
    for (int n = 1; n <= CONTEXTS; n *= 10) {
        struct role roles[1];
        double memory = memory_used();

        for (int i = 0; i < n; i++)
            contexts[i] = setup(0, 0, 0);
        /* Each has been used. */
        for (int i = 0; i < n; i++) {
            roles[0] = (struct role){ contexts[i], BATCH, 16 * BATCH, 1, 1 };
            run(&roles[0]);
        }
        memory = (memory_used() - memory) / n;
        double before = cpu_ns(RUSAGE_SELF);
        for (int trip = 0; trip < TRIPS * BATCH; trip++) {
            roles[0] = (struct role){ contexts[trip % n], 1, 1, 1, 1 };
            run(&roles[0]);
        }
        double ns = (cpu_ns(RUSAGE_SELF) - before) / ((double)TRIPS * BATCH);
        printf("%-8d %42.0f ns %17.0f KiB\n", n, ns, memory / 1024);
        for (int i = 0; i < n; i++)
            must("io_destroy2", io_destroy2(contexts[i]));
    }
}

/* One worker, which is kept by a read of an empty pipe: all that comes later is queued. */
static void of_a_request(void)
{
    static struct iocb2 iocbs[1000];
    io_context2_t ctx = setup(0, QUEUED + 1, 1);
    struct io_event2 events[1000];
    char byte;
    int ends[2];

    checked("pipe2", pipe2(ends, O_CLOEXEC));
    io_prep2_read(&iocbs[0], ends[0], &byte, 1);
    must("io_submit2", io_submit2(ctx, iocbs, sizeof(iocbs[0])));
    nanosleep(&(struct timespec){ 0, 50000000 }, NULL);
    for (int i = 0; i < 1000; i++)
        io_prep2_nop(&iocbs[i]);
    memset(events, 0, sizeof(events));
    double memory = memory_used();
    double before = now_ns();
    for (int done = 0; done < QUEUED; done += 1000)
        must("io_submit2", io_submit2(ctx, iocbs, sizeof(iocbs)));
    double submit = (now_ns() - before) / QUEUED;
    memory = (memory_used() - memory) / QUEUED;
    before = now_ns();
    checked("write", (int)write(ends[1], "x", 1));
    while (__atomic_load_n(&ctx->completed, __ATOMIC_ACQUIRE) != QUEUED + 1)
        sched_yield();
    double publish = (now_ns() - before) / QUEUED;
    before = now_ns();
    for (int left = QUEUED + 1; left != 0;) {
        ssize_t got = io_getevents2(ctx, 0, events, sizeof(events), NULL);
        must("io_getevents2", got);
        left -= (int)(got / (ssize_t)sizeof(events[0]));
    }
    printf("\n%d queued at once: %.0f bytes each; %.0f ns to submit, %.0f ns for one worker to take and publish, %.0f ns to reap\n", QUEUED, memory,
           submit, publish, (now_ns() - before) / QUEUED);
    must("io_destroy2", io_destroy2(ctx));
    close(ends[0]);
    close(ends[1]);
}

/* ---- Nothing to do ---------------------------------------------------------------------------- */

/* Of the threads of the library. */
static long switches(void)
{
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *entry;
    long sum = 0;

    while (tasks != NULL && (entry = readdir(tasks)) != NULL) {
        char path[64], line[256];
        long n;

        if (atoi(entry->d_name) == 0 || atoi(entry->d_name) == getpid())
            continue;
        snprintf(path, sizeof(path), "/proc/self/task/%.20s/status", entry->d_name);
        FILE *file = fopen(path, "re");
        while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
            if (sscanf(line, "voluntary_ctxt_switches: %ld", &n) == 1 || sscanf(line, "nonvoluntary_ctxt_switches: %ld", &n) == 1)
                sum += n;
        }
        if (file != NULL)
            fclose(file);
    }
    if (tasks != NULL)
        closedir(tasks);
    return sum;
}

static void idle(const char *path, double seconds)
{
    enum { N = 10, READS = 32 };
    io_context2_t contexts[N];
    void *buffer = NULL;
    int fd = checked(path, open(path, O_RDONLY | O_DIRECT | O_CLOEXEC));

    must("posix_memalign", -posix_memalign(&buffer, 4096, READS * 4096));
    for (int i = 0; i < N; i++) {
        contexts[i] = setup(0, 0, 0);
        for (int trip = 0; trip < 10; trip++) {
            struct iocb2 iocbs[READS];
            struct io_event2 events[READS];

            for (int j = 0; j < READS; j++)
                io_prep2_pread(&iocbs[j], fd, (char *)buffer + j * 4096, 4096, (int64_t)j * 4096);
            must("io_submit2", io_submit2(contexts[i], iocbs, sizeof(iocbs)));
            must("io_getevents2", io_getevents2(contexts[i], sizeof(events), events, sizeof(events), NULL));
        }
    }
    /* Threads that nobody needs any more are gone by then. */
    nanosleep(&(struct timespec){ 8, 0 }, NULL);
    long before = switches();
    double cpu = cpu_ns(RUSAGE_SELF);

    nanosleep(&(struct timespec){ (time_t)seconds, 0 }, NULL);
    cpu = cpu_ns(RUSAGE_SELF) - cpu;
    printf("\n%d contexts, idle for %.0f s: %ld switches of context, %.0f us of processor time\n", N, seconds, switches() - before, cpu / 1e3);
    for (int i = 0; i < N; i++)
        must("io_destroy2", io_destroy2(contexts[i]));
    close(fd);
    free(buffer);
}

int main(int argc, char **argv)
{
    by_threads();
    by_contexts();
    of_a_request();
    if (argc > 1)
        idle(argv[1], argc > 2 ? atof(argv[2]) : 10);
    return 0;
}
