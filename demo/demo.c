/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The demo of libaio2: writes a block device of its own at depth 32 with O_DIRECT, reads it back, and verifies every byte.
 *
 *     demo [-s MiB] [-t zram|loop|file] [-c]
 *
 * It makes the device itself: zram, else a loop device over a file without a name, else (not root) such a file alone.
 * The completion ring is one page, and events are left in it while there is something to submit: so it
 * overflows again and again, and the sums at the end show that nothing was lost. It waits in poll, for
 * the context's eventfd and for signals. The device is removed in every case, also on SIGINT, SIGTERM and SIGHUP.
 * With -c one byte is changed between writing and reading: then it must fail.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <linux/loop.h>

#include <aio2.h>

#include "../fio/hist.h"

#define BLOCK 4096u
#define DEPTH 32u   /* requests in flight; the library keeps to it */
#define SLOTS 256u  /* buffers: how many requests may be in flight or have their event unreaped */
#define SEED 0x61696f32u
#define RECORDS_BYTES (DEPTH * sizeof(struct iocb2_room))

/* ---- The device ------------------------------------------------------------------------------ */

struct device {
    char path[PATH_MAX];
    int fd;
    int loop_fd;
    int zram;    /* its number, -1: none */
    bool direct; /* opened with O_DIRECT */
};

static int write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t ret;

    if (fd < 0)
        return -errno;
    ret = write(fd, text, strlen(text)) < 0 ? -errno : 0;
    close(fd);
    return (int)ret;
}

/* Opens a node that devtmpfs or udev has just been told to make. */
static int open_node(const char *path)
{
    int fd = -1;

    for (int i = 0; i < 200; i++) {
        fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
        if (fd >= 0 || (errno != ENOENT && errno != ENXIO))
            break;
        usleep(10000);
    }
    return fd;
}

static void remove_zram(struct device *dev)
{
    char path[64], number[16];
    int ret = -1;

    snprintf(path, sizeof(path), "/sys/block/zram%d/reset", dev->zram);
    snprintf(number, sizeof(number), "%d", dev->zram);
    /* A service that looks at new block devices may have it open for a moment. */
    for (int i = 0; i < 500 && ret; i++) {
        if (i)
            usleep(10000);
        ret = write_text(path, "1");
        if (!ret)
            ret = write_text("/sys/class/zram-control/hot_remove", number);
    }
    if (ret)
        fprintf(stderr, "demo: /dev/zram%d cannot be removed: %s\n", dev->zram, strerror(-ret));
    dev->zram = -1;
}

static bool make_zram(struct device *dev, uint64_t bytes)
{
    char path[64], text[32];
    int fd = open("/sys/class/zram-control/hot_add", O_RDONLY | O_CLOEXEC);
    ssize_t len;

    if (fd < 0)
        return false;
    /* Reading makes the device, and says its number. */
    len = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (len <= 0)
        return false;
    text[len] = '\0';
    dev->zram = atoi(text);

    snprintf(path, sizeof(path), "/sys/block/zram%d/disksize", dev->zram);
    snprintf(text, sizeof(text), "%" PRIu64, bytes);
    snprintf(dev->path, sizeof(dev->path), "/dev/zram%d", dev->zram);
    if (!write_text(path, text))
        dev->fd = open_node(dev->path);
    if (dev->fd < 0) {
        remove_zram(dev);
        return false;
    }
    dev->direct = true;
    return true;
}

/* A file that has no name any more, so that nothing is left of it however the program ends. */
static int unnamed_file(char *path, size_t size, uint64_t bytes, int flags)
{
    const char *dirs[] = { getenv("TMPDIR"), "/var/tmp", "/tmp" };

    for (size_t i = 0; i < sizeof(dirs) / sizeof(*dirs); i++) {
        int fd;

        if (!dirs[i] || (size_t)snprintf(path, size, "%s/aio2-demo.XXXXXX", dirs[i]) >= size)
            continue;
        fd = mkostemp(path, O_CLOEXEC | flags);
        if (fd < 0)
            continue;
        unlink(path);
        if (!posix_fallocate(fd, 0, (off_t)bytes))
            return fd;
        close(fd);
    }
    return -1;
}

static bool make_loop(struct device *dev, uint64_t bytes)
{
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    /* With autoclear the last close removes the device, also if that is the kernel's at a kill. */
    struct loop_config config = { .info = { .lo_flags = LO_FLAGS_AUTOCLEAR } };
    char name[PATH_MAX];
    int file;

    if (control < 0)
        return false;
    file = unnamed_file(name, sizeof(name), bytes, 0);
    config.fd = (unsigned int)file;
    for (int tries = 0; file >= 0 && tries < 20; tries++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);

        if (number < 0)
            break;
        snprintf(dev->path, sizeof(dev->path), "/dev/loop%d", number);
        dev->loop_fd = open_node(dev->path);
        if (dev->loop_fd < 0)
            break;
        if (!ioctl(dev->loop_fd, LOOP_CONFIGURE, &config)) {
            dev->fd = open_node(dev->path);
            break;
        }
        /* Somebody else was faster. */
        close(dev->loop_fd);
        dev->loop_fd = -1;
    }
    if (dev->fd < 0 && dev->loop_fd >= 0) {
        close(dev->loop_fd);
        dev->loop_fd = -1;
    }
    if (file >= 0)
        close(file);
    close(control);
    dev->direct = true;
    return dev->fd >= 0;
}

static bool make_file(struct device *dev, uint64_t bytes)
{
    dev->direct = true;
    dev->fd = unnamed_file(dev->path, sizeof(dev->path), bytes, O_DIRECT);
    if (dev->fd < 0) {
        /* Not every file system has O_DIRECT. */
        dev->direct = false;
        dev->fd = unnamed_file(dev->path, sizeof(dev->path), bytes, 0);
    }
    return dev->fd >= 0;
}

static bool make_device(struct device *dev, uint64_t bytes, const char *type)
{
    if ((!type || !strcmp(type, "zram")) && make_zram(dev, bytes))
        return true;
    if ((!type || !strcmp(type, "loop")) && make_loop(dev, bytes))
        return true;
    return (!type || !strcmp(type, "file")) && make_file(dev, bytes);
}

static void remove_device(struct device *dev)
{
    if (dev->fd >= 0)
        close(dev->fd);
    if (dev->loop_fd >= 0)
        close(dev->loop_fd);
    if (dev->zram >= 0)
        remove_zram(dev);
}

/* ---- Content --------------------------------------------------------------------------------- */

/* The expected content at a byte offset (a multiple of 8): splitmix64's mixing of offset and seed. */
static uint64_t word_at(uint64_t offset)
{
    uint64_t z = offset / 8 * 0x9e3779b97f4a7c15u + SEED;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void fill_block(uint64_t *block, uint64_t offset)
{
    for (size_t i = 0; i < BLOCK / 8; i++)
        block[i] = word_at(offset + 8 * i);
}

static bool verify_block(const uint64_t *block, uint64_t offset)
{
    for (size_t i = 0; i < BLOCK / 8; i++) {
        if (block[i] != word_at(offset + 8 * i)) {
            fprintf(stderr, "demo: at byte %" PRIu64 ": %016" PRIx64 " instead of %016" PRIx64 "\n", offset + 8 * i,
                    block[i], word_at(offset + 8 * i));
            return false;
        }
    }
    return true;
}

/* ---- The I/O --------------------------------------------------------------------------------- */

struct slot {
    uint64_t *block;
    uint64_t offset;
    bool busy;
};

struct pass {
    bool write;
    double seconds;
    struct hist waiting;
    struct hist device;
};

struct demo {
    struct device dev;
    io_context2_t ctx;
    int eventfd;
    int signalfd;
    int signal; /* that ended it; 0: none */

    uint64_t blocks;
    char *buffers;
    struct slot slots[SLOTS];
    unsigned int free[SLOTS]; /* a stack of the slots that are not busy */
    unsigned int nfree;

    struct iocb2 *records; /* requests that were packed and not yet accepted: at most DEPTH, all of one size */
    size_t packed;
    size_t packed_bytes;

    /* Our own count, to be held against the library's. */
    uint64_t submitted;
    uint64_t reaped_from_ring;
    uint64_t reaped_by_call;
};

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void pack(struct demo *demo, bool write, uint64_t offset)
{
    unsigned int index = demo->free[--demo->nfree];
    struct slot *slot = &demo->slots[index];
    struct iocb2_room request;

    slot->busy = true;
    slot->offset = offset;
    if (write) {
        fill_block(slot->block, offset);
        io_prep2_pwrite(&request.iocb, demo->dev.fd, slot->block, BLOCK, (int64_t)offset);
    } else {
        io_prep2_pread(&request.iocb, demo->dev.fd, slot->block, BLOCK, (int64_t)offset);
    }
    request.iocb.data = index;
    iocb2_add_timing(&request, 0);
    iocb2_append(demo->records, RECORDS_BYTES, &demo->packed_bytes, &request.iocb);
    demo->packed++;
}

/* Submits what is packed; what DEPTH does not allow stays packed. */
static bool submit(struct demo *demo)
{
    size_t record_bytes = demo->records->bytes;
    ssize_t bytes = io_submit2(demo->ctx, demo->records, demo->packed_bytes);

    if (bytes == -EAGAIN)
        return true;
    if (bytes < 0) {
        fprintf(stderr, "demo: io_submit2: %s\n", strerror((int)-bytes));
        return false;
    }
    demo->submitted += (size_t)bytes / record_bytes;
    demo->packed -= (size_t)bytes / record_bytes;
    demo->packed_bytes -= (size_t)bytes;
    memmove(demo->records, (char *)demo->records + bytes, demo->packed_bytes);
    return true;
}

static bool complete(struct demo *demo, struct pass *pass, const struct io_event2 *event)
{
    const struct iocb_timing *timing = io_event2_timing(event);
    struct slot *slot;

    if (event->data >= SLOTS || !demo->slots[event->data].busy) {
        fprintf(stderr, "demo: an event that does not belong to a request, or a second one: data %" PRIu64 "\n",
                event->data);
        return false;
    }
    slot = &demo->slots[event->data];
    slot->busy = false;
    demo->free[demo->nfree++] = (unsigned int)event->data;

    if (event->res != (int64_t)BLOCK) {
        fprintf(stderr, "demo: %s at byte %" PRIu64 ": %s\n", pass->write ? "write" : "read", slot->offset,
                event->res < 0 ? strerror((int)-event->res) : "short");
        return false;
    }
    if (!pass->write && !verify_block(slot->block, slot->offset))
        return false;
    if (!timing) {
        fprintf(stderr, "demo: no times in the event\n");
        return false;
    }
    hist_add(&pass->waiting, timing->start_ns - timing->submit_ns);
    hist_add(&pass->device, timing->end_ns - timing->start_ns);
    return true;
}

/* Takes all events there are: without a call as long as the ring has some, then the overflow list's. */
static bool reap(struct demo *demo, struct pass *pass)
{
    struct io_event2_room room[16];

    for (;;) {
        ssize_t bytes = io_ring2_reap(demo->ctx, &room[0].event, sizeof(room));
        uint64_t *reaped = &demo->reaped_from_ring;
        const struct io_event2 *event;

        if (bytes == 0) {
            if (!io_ring2_overflowed(demo->ctx))
                return true;
            reaped = &demo->reaped_by_call;
            bytes = io_getevents2(demo->ctx, 0, &room[0].event, sizeof(room), NULL);
            if (bytes == 0)
                return true;
        }
        if (bytes < 0) {
            fprintf(stderr, "demo: reaping: %s\n", strerror((int)-bytes));
            return false;
        }
        io_event2_for_each (event, room, bytes) {
            ++*reaped;
            if (!complete(demo, pass, event))
                return false;
        }
    }
}

/* Waits for events (not at all: timeout 0) or a signal; false if there was a signal. */
static bool wait_for_events(struct demo *demo, int timeout)
{
    struct pollfd fds[] = {
        { .fd = demo->signalfd, .events = POLLIN },
        { .fd = demo->eventfd, .events = POLLIN },
    };
    struct signalfd_siginfo info;
    uint64_t count;

    while (poll(fds, 2, timeout) < 0 && errno == EINTR)
        ;
    if ((fds[0].revents & POLLIN) && read(demo->signalfd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        demo->signal = (int)info.ssi_signo;
        return false;
    }
    /* Emptied before the ring is looked at: what comes after that look makes it readable again. */
    return !(fds[1].revents & POLLIN) || read(demo->eventfd, &count, sizeof(count)) > 0 || errno == EAGAIN;
}

static bool run_pass(struct demo *demo, struct pass *pass)
{
    uint64_t start = now_ns();
    uint64_t next = 0;

    while (next < demo->blocks || demo->packed || demo->nfree < SLOTS) {
        /* Every block once, in an order that jumps about: the factor is odd, and the number of blocks a power of two. */
        for (; demo->packed < DEPTH && demo->nfree && next < demo->blocks; next++)
            pack(demo, pass->write, (next * 0x9e3779b1u & (demo->blocks - 1)) * BLOCK);
        if (!submit(demo) || !wait_for_events(demo, -1))
            return false;
        /* As long as there is something to submit, events wait in the ring, and beside it when it is full. */
        if (next < demo->blocks && demo->nfree >= DEPTH)
            continue;
        if (!reap(demo, pass))
            return false;
    }
    pass->seconds = (double)(now_ns() - start) / 1e9;
    return true;
}

/* ---- The whole ------------------------------------------------------------------------------- */

static void print_row(const char *name, const struct hist *hist)
{
    printf("   %-8s %9.1f %9.1f %9.1f", name, (double)hist_percentile(hist, 50) / 1000,
           (double)hist_percentile(hist, 99) / 1000, (double)hist->max / 1000);
}

static bool print_results(const struct demo *demo, const struct pass passes[2])
{
    uint64_t submitted = __atomic_load_n(&demo->ctx->submitted, __ATOMIC_ACQUIRE);
    uint64_t completed = __atomic_load_n(&demo->ctx->completed, __ATOMIC_ACQUIRE);
    uint64_t overflowed = __atomic_load_n(&demo->ctx->overflowed, __ATOMIC_ACQUIRE);
    uint64_t reaped = demo->reaped_from_ring + demo->reaped_by_call;
    uint64_t wanted = 2 * demo->blocks;
    bool accounted = demo->submitted == wanted && submitted == wanted && completed == wanted && reaped == wanted &&
                     overflowed <= completed;

    printf("                IOPS   latency (µs)   p50       p99       max\n");
    for (int i = 0; i < 2; i++) {
        printf("   %-6s %10.0f", passes[i].write ? "write" : "read", (double)demo->blocks / passes[i].seconds);
        print_row("waiting", &passes[i].waiting);
        printf("\n                    ");
        print_row("device", &passes[i].device);
        printf("\n");
    }
    printf("   events: %" PRIu64 " through the ring + %" PRIu64 " through the overflow list = %" PRIu64 "\n",
           completed - overflowed, overflowed, completed);
    printf("   submitted %" PRIu64 ", completed %" PRIu64 ", reaped %" PRIu64 " (%" PRIu64 " without a call): %s\n",
           submitted, completed, reaped, demo->reaped_from_ring, accounted ? "all accounted for" : "NOT ALL ACCOUNTED FOR");
    if (!overflowed)
        printf("   the ring did not overflow: the demo must show that it may\n");
    return accounted && overflowed;
}

static bool corrupt(struct demo *demo)
{
    uint64_t *block = demo->slots[0].block;

    fill_block(block, 0);
    block[BLOCK / 8 - 1] ^= 1;
    return pwrite(demo->dev.fd, block, BLOCK, 0) == (ssize_t)BLOCK;
}

static bool run(struct demo *demo, bool corrupted)
{
    static struct pass passes[2] = { { .write = true }, { .write = false } };
    struct io_setup2_params params = {
        .bytes = sizeof(params),
        .ring_bytes = 1, /* rounded up to a page */
        .max_requests = DEPTH,
        .eventfd = demo->eventfd,
    };
    int ret = io_setup2(IO_SETUP2_VERSION, &params, &demo->ctx);

    if (ret) {
        fprintf(stderr, "demo: io_setup2: %s\n", strerror(-ret));
        return false;
    }
    printf("libaio2 demo: %s, %" PRIu64 " MiB in requests of %u bytes%s, depth %u, ring of %u bytes, eventfd\n",
           demo->dev.path, demo->blocks * BLOCK >> 20, BLOCK, demo->dev.direct ? ", O_DIRECT" : "", DEPTH,
           params.ring_bytes);
    fflush(stdout);
    if (!run_pass(demo, &passes[0]))
        return false;
    /* So that nothing of the write is left in a buffer that a read might fail to fill. */
    memset(demo->buffers, 0, SLOTS * BLOCK);
    if ((corrupted && !corrupt(demo)) || !run_pass(demo, &passes[1]))
        return false;
    if (!print_results(demo, passes))
        return false;
    printf("   every byte of %" PRIu64 " MiB verified\n", demo->blocks * BLOCK >> 20);
    return true;
}

static bool allocate(struct demo *demo)
{
    demo->records = malloc(RECORDS_BYTES);
    demo->buffers = aligned_alloc(BLOCK, SLOTS * BLOCK);
    if (!demo->records || !demo->buffers)
        return false;
    memset(demo->buffers, 0, SLOTS * BLOCK);
    for (unsigned int i = 0; i < SLOTS; i++) {
        demo->slots[i].block = (uint64_t *)(void *)(demo->buffers + i * BLOCK);
        demo->free[demo->nfree++] = i;
    }
    return true;
}

int main(int argc, char **argv)
{
    static struct demo demo = {
        .dev = { .fd = -1, .loop_fd = -1, .zram = -1 },
        .eventfd = -1,
        .signalfd = -1,
    };
    const char *type = NULL;
    unsigned long mib = 128;
    bool corrupted = false;
    bool ok = false;
    sigset_t signals;
    int opt, ret;

    while ((opt = getopt(argc, argv, "s:t:c")) != -1) {
        switch (opt) {
        case 's':
            mib = strtoul(optarg, NULL, 0);
            break;
        case 't':
            type = optarg;
            break;
        case 'c':
            corrupted = true;
            break;
        default:
            mib = 0;
            break;
        }
    }
    if (optind != argc || mib < 1 || mib > 65536 || (mib & (mib - 1))) {
        fprintf(stderr, "usage: %s [-s MiB, a power of two] [-t zram|loop|file] [-c]\n", argv[0]);
        return 2;
    }

    /* Signals wait in the signalfd from here on, so none can come between making the device and knowing of it. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    demo.signalfd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    demo.eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    demo.blocks = ((uint64_t)mib << 20) / BLOCK;

    if (demo.signalfd < 0 || demo.eventfd < 0 || !allocate(&demo))
        perror("demo");
    else if (!make_device(&demo.dev, (uint64_t)mib << 20, type))
        fprintf(stderr, "demo: no device of %lu MiB can be made\n", mib);
    else
        ok = wait_for_events(&demo, 0) && run(&demo, corrupted);

    /* Waits for requests that still use the buffers and the device, so it comes before both. */
    if (demo.ctx) {
        ret = io_destroy2(demo.ctx);
        if (ret) {
            fprintf(stderr, "demo: io_destroy2: %s\n", strerror(-ret));
            ok = false;
        }
    }
    remove_device(&demo.dev);
    free(demo.buffers);
    free(demo.records);
    close(demo.eventfd);
    close(demo.signalfd);

    if (demo.signal) {
        fprintf(stderr, "demo: %s: the device is removed\n", strsignal(demo.signal));
        /* Ends by the signal, so that the shell knows. */
        signal(demo.signal, SIG_DFL);
        sigprocmask(SIG_UNBLOCK, &signals, NULL);
        raise(demo.signal);
    }
    return ok ? 0 : 1;
}
