/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * limits [-d DEPTH] [-r ROUNDS] [-s SECONDS] [-m direct|hot|cold] [-w] [-o WAY] FILE: the limit of each way to read on this machine. It does
 * nothing else but 4 KiB transfers at random places, DEPTH in flight, up to 16 a call: by the kernel's AIO, whose ring it reaps itself; by
 * io_uring with a registered file and registered buffers; by pread in as many threads; and by libaio2. The ways take turns, each in a process
 * of its own. It prints the medians of the rounds: IOPS, p99 from before the call that submits until the event has been reaped, and processor time
 * for each I/O, of all the process's threads; and the ratio of libaio2 to each way, as the median of the rounds' ratios.
 *
 * -m: O_DIRECT; or through the page cache, with the data in it; or without, and no block twice. -w: writes. -o: this way alone.
 */
#include "bench.h"
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BLOCK = 4096, BATCH = 16, DEPTH_MAX = 256, ROUNDS_MAX = 64 };
static const double RAMP_NS = 2e8;

enum { IOPS, P99, CPU, MEASURES };

struct one {
    off_t offset;
    double began;
    char *buffer;
};

static unsigned depth = 32;
static bool writes, once;
static int file;
static uint64_t blocks;
/* Earlier completions are not measured, except as processor time. */
static double begin_ns, end_ns;
static struct one ones[DEPTH_MAX];

/* A permutation of the blocks, whose number is a power of two. */
static off_t place(uint64_t i)
{
    uint64_t mask = blocks - 1;

    i = i * 0x9e3779b1 & mask;
    i ^= i >> 7;
    return (off_t)((i * 0x85ebca6b & mask) * BLOCK);
}

/* ---- What was measured ---- */

struct times {
    double *ns;
    size_t count, room, all;
};

static void add(struct times *times, double ns)
{
    if (times->count == times->room) {
        times->room = times->room ? times->room * 2 : 1 << 16;
        times->ns = realloc(times->ns, times->room * sizeof(double));
        checked("realloc", times->ns ? 0 : -1);
    }
    times->ns[times->count++] = ns;
}

static void note(struct times *times, double began, double ended)
{
    times->all++;
    if (ended >= begin_ns)
        add(times, ended - began);
}

static double cpu_ns(void)
{
    struct rusage used;

    checked("getrusage", getrusage(RUSAGE_SELF, &used));
    return ((double)used.ru_utime.tv_sec + (double)used.ru_stime.tv_sec) * 1e9
           + ((double)used.ru_utime.tv_usec + (double)used.ru_stime.tv_usec) * 1e3;
}

/* ---- The ways that have many requests in flight ---- */

struct way {
    const char *name;
    void (*prepare)(void);
    /* `count` of `which`, each the number of one of `ones`. */
    void (*submit)(const unsigned *which, unsigned count);
    /* Waits for the first, and says how many there were; `BATCH` at most. */
    unsigned (*reap)(unsigned *which);
};

static aio_context_t kernel;

static void aio_prepare(void)
{
    checked("io_setup", (int)syscall(SYS_io_setup, depth, &kernel));
}

static void aio_submit(const unsigned *which, unsigned count)
{
    struct iocb iocbs[BATCH], *pointers[BATCH];

    for (unsigned i = 0; i < count; i++) {
        struct one *one = &ones[which[i]];

        iocbs[i] = (struct iocb){ .aio_data = which[i], .aio_fildes = (uint32_t)file, .aio_buf = (uintptr_t)one->buffer, .aio_nbytes = BLOCK,
                                  .aio_lio_opcode = writes ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD, .aio_offset = one->offset };
        pointers[i] = &iocbs[i];
    }
    for (unsigned done = 0; done < count;)
        done += (unsigned)checked("io_submit", (int)syscall(SYS_io_submit, kernel, count - done, pointers + done));
}

static unsigned aio_reap(unsigned *which)
{
    /* As the kernel has it in the mapping at the context's address. */
    struct {
        uint32_t id, nr;
        _Atomic uint32_t head, tail;
        uint32_t more[4];
        struct io_event events[];
    } *ring = (void *)(uintptr_t)kernel;
    struct io_event events[BATCH];
    unsigned count = 0;
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);

    for (; count < BATCH && head != atomic_load_explicit(&ring->tail, memory_order_acquire); count++) {
        which[count] = (unsigned)ring->events[head].data;
        checked("transfer", ring->events[head].res == BLOCK ? 0 : -1);
        head = head + 1 == ring->nr ? 0 : head + 1;
    }
    if (count != 0) {
        atomic_store_explicit(&ring->head, head, memory_order_release);
        return count;
    }
    count = (unsigned)checked("io_getevents", (int)syscall(SYS_io_getevents, kernel, 1, BATCH, events, NULL));
    for (unsigned i = 0; i < count; i++) {
        which[i] = (unsigned)events[i].data;
        checked("transfer", events[i].res == BLOCK ? 0 : -1);
    }
    return count;
}

static struct io_uring_params params;
static int ring;
static char *rings;
static struct io_uring_sqe *sqes;
static unsigned unsubmitted;

static _Atomic uint32_t *word(uint32_t offset)
{
    return (_Atomic uint32_t *)(void *)(rings + offset);
}

static void uring_prepare(void)
{
    struct iovec buffers[DEPTH_MAX];

    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    ring = checked("io_uring_setup", (int)syscall(SYS_io_uring_setup, depth, &params));
    size_t bytes = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
    rings = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQ_RING);
    sqes = mmap(NULL, params.sq_entries * sizeof(*sqes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQES);
    checked("mmap", rings == MAP_FAILED || sqes == MAP_FAILED ? -1 : 0);
    for (uint32_t i = 0; i < params.sq_entries; i++)
        *word(params.sq_off.array + i * 4) = i;
    for (unsigned i = 0; i < depth; i++)
        buffers[i] = (struct iovec){ ones[i].buffer, BLOCK };
    checked("IORING_REGISTER_FILES", (int)syscall(SYS_io_uring_register, ring, IORING_REGISTER_FILES, &file, 1));
    checked("IORING_REGISTER_BUFFERS", (int)syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, buffers, depth));
}

static void uring_enter(unsigned least)
{
    unsigned flags = least ? IORING_ENTER_GETEVENTS : 0;

    unsubmitted -= (unsigned)checked("io_uring_enter", (int)syscall(SYS_io_uring_enter, ring, unsubmitted, least, flags, NULL, 0));
}

/* The call that waits submits the last ones, too. */
static void uring_submit(const unsigned *which, unsigned count)
{
    uint32_t tail = atomic_load_explicit(word(params.sq_off.tail), memory_order_relaxed);

    if (unsubmitted != 0)
        uring_enter(0);
    for (unsigned i = 0; i < count; i++) {
        struct one *one = &ones[which[i]];

        sqes[tail++ & (params.sq_entries - 1)] = (struct io_uring_sqe){
            .opcode = writes ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED, .flags = IOSQE_FIXED_FILE, .off = (uint64_t)one->offset,
            .addr = (uintptr_t)one->buffer, .len = BLOCK, .user_data = which[i], .buf_index = (uint16_t)which[i]
        };
    }
    atomic_store_explicit(word(params.sq_off.tail), tail, memory_order_release);
    unsubmitted += count;
}

static unsigned uring_reap(unsigned *which)
{
    const struct io_uring_cqe *cqes = (const void *)(rings + params.cq_off.cqes);
    uint32_t head = atomic_load_explicit(word(params.cq_off.head), memory_order_relaxed);
    unsigned count = 0;

    if (unsubmitted != 0 || head == atomic_load_explicit(word(params.cq_off.tail), memory_order_acquire))
        uring_enter(1);
    for (; count < BATCH && head != atomic_load_explicit(word(params.cq_off.tail), memory_order_acquire); count++, head++) {
        const struct io_uring_cqe *cqe = &cqes[head & (params.cq_entries - 1)];

        which[count] = (unsigned)cqe->user_data;
        checked("transfer", cqe->res == BLOCK ? 0 : -1);
    }
    atomic_store_explicit(word(params.cq_off.head), head, memory_order_release);
    return count;
}

static io_context2_t context;

static void aio2_prepare(void)
{
    context = setup(0, 0, 0);
}

static void aio2_submit(const unsigned *which, unsigned count)
{
    struct iocb2 iocbs[BATCH];

    for (unsigned i = 0; i < count; i++) {
        struct one *one = &ones[which[i]];

        if (writes)
            io_prep2_pwrite(&iocbs[i], file, one->buffer, BLOCK, one->offset);
        else
            io_prep2_pread(&iocbs[i], file, one->buffer, BLOCK, one->offset);
        iocbs[i].data = which[i];
    }
    must("io_submit2", io_submit2(context, iocbs, count * sizeof(iocbs[0])));
}

static unsigned aio2_reap(unsigned *which)
{
    struct io_event2 events[BATCH];
    ssize_t got = io_getevents2(context, sizeof(events[0]), events, sizeof(events), NULL);

    must("io_getevents2", got);
    unsigned count = (unsigned)((size_t)got / sizeof(events[0]));
    for (unsigned i = 0; i < count; i++) {
        which[i] = (unsigned)events[i].data;
        checked("transfer", events[i].res == BLOCK ? 0 : -1);
    }
    return count;
}

static const struct way ways[] = {
    { "kernel AIO", aio_prepare, aio_submit, aio_reap },
    { "io_uring", uring_prepare, uring_submit, uring_reap },
    { "threads", NULL, NULL, NULL },
    { "libaio2", aio2_prepare, aio2_submit, aio2_reap },
};
enum { WAYS = sizeof(ways) / sizeof(ways[0]), LIBAIO2 = WAYS - 1 };

/* Of all the blocks, `done` have been begun. */
static bool is_over(double now, uint64_t done)
{
    return now >= end_ns || (once && done + depth > blocks);
}

static void in_flight(const struct way *way, struct times *times)
{
    unsigned which[DEPTH_MAX], count = depth, left = depth;
    uint64_t next = 0;
    double now = now_ns();

    way->prepare();
    for (unsigned i = 0; i < depth; i++)
        which[i] = i;
    while (left != 0) {
        for (unsigned i = 0; i < count; i++) {
            ones[which[i]].offset = place(next++);
            ones[which[i]].began = now;
        }
        for (unsigned i = 0; i < count; i += BATCH)
            way->submit(which + i, count - i < BATCH ? count - i : BATCH);
        count = way->reap(which);
        now = now_ns();
        for (unsigned i = 0; i < count; i++)
            note(times, ones[which[i]].began, now);
        if (is_over(now, next)) {
            left -= count;
            count = 0;
        }
    }
}

/* ---- A thread for each ---- */

struct thread {
    unsigned number;
    struct times times;
};

static void *one_by_one(void *arg)
{
    struct thread *thread = arg;
    char *buffer = ones[thread->number].buffer;
    double began = now_ns();

    for (uint64_t next = thread->number; !is_over(began, next); next += depth) {
        off_t offset = place(next);

        checked("transfer", (writes ? pwrite(file, buffer, BLOCK, offset) : pread(file, buffer, BLOCK, offset)) == BLOCK ? 0 : -1);
        double now = now_ns();
        note(&thread->times, began, now);
        began = now;
    }
    return NULL;
}

static void in_threads(struct times *times)
{
    static struct thread threads[DEPTH_MAX];
    pthread_t started[DEPTH_MAX];

    for (unsigned i = 0; i < depth; i++) {
        threads[i].number = i;
        started[i] = start(one_by_one, &threads[i]);
    }
    for (unsigned i = 0; i < depth; i++) {
        pthread_join(started[i], NULL);
        times->all += threads[i].times.all;
        for (size_t j = 0; j < threads[i].times.count; j++)
            add(times, threads[i].times.ns[j]);
    }
}

/* ---- The rounds ---- */

static void measure(const struct way *way, double seconds, double *measured)
{
    struct times times = { 0 };
    double used = cpu_ns();

    begin_ns = now_ns() + (once ? 0 : RAMP_NS);
    end_ns = begin_ns + seconds * 1e9;
    if (way->prepare)
        in_flight(way, &times);
    else
        in_threads(&times);
    measured[IOPS] = (double)times.count / (now_ns() - begin_ns) * 1e9;
    measured[CPU] = (cpu_ns() - used) / (double)times.all / 1e3;
    measured[P99] = quantile(times.ns, times.count, 0.99) / 1e3;
}

static void in_child(const struct way *way, double seconds, double *measured)
{
    int status;
    pid_t child = checked("fork", fork());

    if (child == 0) {
        measure(way, seconds, measured);
        _exit(0);
    }
    checked("waitpid", waitpid(child, &status, 0));
    if (status != 0)
        exit(1);
}

static void open_file(const char *path, const char *mode)
{
    struct stat info;
    uint64_t bytes;

    file = checked(path, open(path, (writes ? O_RDWR : O_RDONLY) | (strcmp(mode, "direct") == 0 ? O_DIRECT : 0)));
    checked(path, fstat(file, &info));
    bytes = (uint64_t)info.st_size;
    if (S_ISBLK(info.st_mode))
        checked(path, ioctl(file, BLKGETSIZE64, &bytes));
    for (blocks = 1; blocks * 2 * BLOCK <= bytes; blocks *= 2)
        ;
    once = strcmp(mode, "cold") == 0;
    posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM);
    char *buffers = mmap(NULL, (size_t)depth * BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    checked("mmap", buffers == MAP_FAILED ? -1 : 0);
    /* Half of each can be compressed. */
    for (unsigned i = 0; i < depth; i++) {
        ones[i].buffer = buffers + (size_t)i * BLOCK;
        for (unsigned j = 0; j < BLOCK; j++)
            ones[i].buffer[j] = (char)(j < BLOCK / 2 ? rand() : 0);
    }
}

int main(int argc, char **argv)
{
    static double runs[WAYS][MEASURES][ROUNDS_MAX];
    double seconds = 1, *measured = mmap(NULL, MEASURES * sizeof(double), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    const char *mode = "direct", *only = NULL;
    unsigned rounds = 5;

    for (int option; (option = getopt(argc, argv, "d:m:o:r:s:w")) != -1;) {
        switch (option) {
        case 'd': depth = (unsigned)atoi(optarg); break;
        case 'm': mode = optarg; break;
        case 'o': only = optarg; break;
        case 'r': rounds = (unsigned)atoi(optarg); break;
        case 's': seconds = atof(optarg); break;
        case 'w': writes = true; break;
        default: return 2;
        }
    }
    if (optind + 1 != argc || depth < 1 || depth > DEPTH_MAX || rounds < 1 || rounds > ROUNDS_MAX)
        return 2;
    checked("mmap", measured == MAP_FAILED ? -1 : 0);
    open_file(argv[optind], mode);
    for (unsigned round = 0; round < rounds; round++)
        for (unsigned i = 0; i < WAYS; i++) {
            /* So that it is not always the same one that comes first. */
            unsigned way = (i + round) % WAYS;

            if (only && strcmp(ways[way].name, only) != 0)
                continue;
            if (once)
                posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
            in_child(&ways[way], seconds, measured);
            for (unsigned what = 0; what < MEASURES; what++)
                runs[way][what][round] = measured[what];
        }
    printf("%-12s %9s %9s %9s   libaio2 beside it\n", "", "IOPS", "p99 us", "CPU us");
    for (unsigned way = 0; way < WAYS; way++) {
        double ratios[MEASURES], medians[MEASURES];

        if (only && strcmp(ways[way].name, only) != 0)
            continue;
        for (unsigned what = 0; what < MEASURES; what++) {
            double *its = runs[way][what], each[ROUNDS_MAX];

            for (unsigned round = 0; round < rounds; round++)
                each[round] = runs[LIBAIO2][what][round] / its[round];
            ratios[what] = median(each, rounds);
            medians[what] = median(its, rounds);
        }
        printf("%-12s %9.0f %9.1f %9.2f", ways[way].name, medians[IOPS], medians[P99], medians[CPU]);
        if (way != LIBAIO2 && !only)
            printf("   %.2f, p99 %.2f, CPU %.2f", ratios[IOPS], ratios[P99], ratios[CPU]);
        printf("\n");
    }
    return 0;
}
