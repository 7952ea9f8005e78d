/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Attributes that only observe do not change how a request is carried out. With IOCB_ATTR_TIMING, IOCB_ATTR_WORKER and
 * IOCB_ATTR_CACHE the kernel's AIO gets reads past the page cache as it does without, and a caller that waits for cached reads
 * makes them itself. The kernel shows it: it counts the reads that the threads of the process make, and those of its AIO are
 * none. The answers of the attributes are those that the manual describes.
 */
/* needs: kernel queue */
/* needs: root */
#include "test.h"
#include "stress.h"
#include "device.h"

#define DEVICE_BYTES (8 * 1024 * 1024)
#define BLOCK 4096
#define DEPTH 32
#define ROUNDS 40
#define READS (DEPTH * ROUNDS)
#define TIMING 1u
#define WORKER 2u
#define CACHE 4u
#define KINDS 8u
/* A busy machine keeps a caller from its reads now and then, and a device from being slow: the best of so many. */
#define TRIES 100

static int device;
/* Asking for it reads files. */
static long processors;
static unsigned char *memory;
static unsigned char events[DEPTH * 256];

/* Reads that the threads of this process have made, this one of the file that tells it included. */
static long all_reads(void)
{
    int fd = open("/proc/self/io", O_RDONLY | O_CLOEXEC);
    char text[512];
    const char *at;
    ssize_t n;

    if (fd < 0)
        SKIP("this kernel does not count reads");
    n = read(fd, text, sizeof(text) - 1);
    CHECK_CMP(n, >, 0);
    close(fd);
    text[n] = '\0';
    at = strstr(text, "syscr: ");
    CHECK(at != NULL);
    return atol(at + strlen("syscr: "));
}

static void prepare(struct iocb2 *iocb, int fd, size_t bytes, size_t i, unsigned int attributes)
{
    static const uint16_t ids[] = { IOCB_ATTR_TIMING, IOCB_ATTR_WORKER, IOCB_ATTR_CACHE };

    io_prep2_pread(iocb, fd, memory + i * BLOCK, bytes, (int64_t)(i * BLOCK));
    iocb->data = i;
    for (unsigned int j = 0; j < sizeof(ids) / sizeof(ids[0]); j++) {
        if ((attributes & 1u << j) != 0)
            CHECK(iocb2_add_attr(iocb, ids[j], 0, i, NULL, 0) != NULL);
    }
}

static void check_answers(const struct io_event2 *event, unsigned int attributes, int64_t before, int64_t after)
{
    if ((attributes & TIMING) != 0) {
        const struct iocb_attr_ret *ret = io_event2_attr(event, IOCB_ATTR_TIMING);
        const struct iocb_timing *timing = (const struct iocb_timing *)(const void *)(ret + 1);

        CHECK_EQ(ret->ret, 0);
        CHECK_CMP(timing->submit_ns, >=, before);
        CHECK_CMP(timing->start_ns, >=, timing->submit_ns);
        CHECK_CMP(timing->end_ns, >=, timing->start_ns);
        CHECK_CMP(timing->end_ns, <=, after);
    }
    if ((attributes & WORKER) != 0) {
        const struct iocb_attr_ret *ret = io_event2_attr(event, IOCB_ATTR_WORKER);
        const struct iocb_worker *worker = (const struct iocb_worker *)(const void *)(ret + 1);
        char path[64];

        CHECK_EQ(ret->ret, 0);
        snprintf(path, sizeof(path), "/proc/self/task/%u", worker->tid);
        CHECK_EQ(access(path, F_OK), 0);
        CHECK_CMP(worker->cpu, <, processors);
    }
}

/* Reads the device, many at a time; returns how many reads threads have made for it. */
static long read_device(io_context2_t ctx, unsigned int attributes)
{
    static unsigned char records[DEPTH * 256];
    long reads = all_reads();

    for (int round = 0; round < ROUNDS; round++) {
        size_t bytes = 0, at = 0;
        int64_t before = now_ns(), after;

        for (size_t i = 0; i < DEPTH; i++) {
            struct iocb2 *iocb = (struct iocb2 *)(void *)(records + bytes);

            /* Not one after another: each is handed over by itself. */
            prepare(iocb, device, BLOCK, i * 7 % DEPTH, attributes);
            bytes += iocb->bytes;
        }
        submit_all(ctx, records, bytes);
        for (size_t left = DEPTH; left != 0;) {
            size_t got = (size_t)CALL(io_getevents2(ctx, 24, (struct io_event2 *)(void *)events, sizeof(events), NULL));

            after = now_ns();
            for (at = 0; at < got; left--) {
                const struct io_event2 *event = (const struct io_event2 *)(const void *)(events + at);

                CHECK_EQ(event->res, BLOCK);
                check_answers(event, attributes, before, after);
                if ((attributes & CACHE) != 0)
                    CHECK_EQ(io_event2_attr(event, IOCB_ATTR_CACHE)->ret, -EOPNOTSUPP);
                at += event->bytes;
            }
        }
    }
    return all_reads() - reads - 1;
}

/* Reads what is cached, one at a time; returns how many of the reads this thread has made. */
static long read_cached(io_context2_t ctx, int fd, unsigned int attributes)
{
    long own = 0;

    for (size_t i = 0; i < READS; i++) {
        union iocb_room request;
        int64_t before = now_ns();
        long reads = own_reads();

        prepare(&request.iocb, fd, 512, i % DEPTH, attributes);
        submit_one(ctx, &request.iocb);
        CHECK_CMP(CALL(io_getevents2(ctx, 24, (struct io_event2 *)(void *)events, sizeof(events), NULL)), >, 0);
        /* This one of the file that tells it is one. */
        bool is_own = own_reads() - reads > 1;
        const struct io_event2 *event = (const struct io_event2 *)(const void *)events;

        CHECK_EQ(event->res, 512);
        check_answers(event, attributes, before, now_ns());
        if ((attributes & CACHE) != 0) {
            const struct iocb_attr_ret *ret = io_event2_attr(event, IOCB_ATTR_CACHE);

            CHECK_EQ(ret->ret, 0);
            CHECK_EQ(((const struct iocb_cache *)(const void *)(ret + 1))->hit, 1);
        }
        if ((attributes & WORKER) != 0) {
            const struct iocb_worker *worker =
                (const struct iocb_worker *)(const void *)(io_event2_attr(event, IOCB_ATTR_WORKER) + 1);

            CHECK_EQ(worker->tid == (uint32_t)my_tid(), is_own);
        }
        own += is_own;
    }
    return own;
}

int main(void)
{
    int cached = temp_file(DEPTH * BLOCK, 0);
    io_context2_t ctx;
    bool by_kernel = false;

    processors = sysconf(_SC_NPROCESSORS_CONF);
    CHECK_EQ(posix_memalign((void **)&memory, 4096, DEPTH * BLOCK), 0);
    memset(memory, 0x33, DEPTH * BLOCK);
    CHECK_EQ(pwrite(cached, memory, DEPTH * BLOCK, 0), DEPTH * BLOCK);
    device = loop_open(temp_file(DEVICE_BYTES, 0), O_DIRECT);

    for (unsigned int attributes = 0; attributes < KINDS; attributes++) {
        long by_threads = READS, by_caller = 0;

        ctx = setup2(0, 0, 0);
        for (int i = 0; i < TRIES && by_threads > READS / 2; i++)
            by_threads = read_device(ctx, attributes);
        CHECK_EQ(CALL(io_destroy2(ctx)), 0);
        ctx = setup2(0, 0, 0);
        for (int i = 0; i < TRIES && by_caller < READS / 8; i++)
            by_caller = read_cached(ctx, cached, attributes);
        CHECK_EQ(CALL(io_destroy2(ctx)), 0);
        printf("attributes %u: of %d reads, threads have made %ld of the device's, and the caller %ld of the file's\n",
               attributes, READS, by_threads, by_caller);
        if (attributes == 0) {
            by_kernel = by_threads <= READS / 2;
            if (by_caller < READS / 8)
                SKIP("this machine is too busy for callers to carry anything out");
        }
        if (by_kernel)
            CHECK_CMP(by_threads, <=, READS / 2);
        CHECK_CMP(by_caller, >=, READS / 8);
    }
    if (!by_kernel)
        SKIP("the kernel's AIO is not used here");
    return 0;
}
