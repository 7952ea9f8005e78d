/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * hung DIRECTORY: one context, and then forty, have hundreds of reads each that do not end. Another context reads another file,
 * and gets its events, by an eventfd or from the ring. When the others can continue, all of their reads complete.
 */
#include <fcntl.h>
#include <libaio.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "must.h"
#include "now.h"

enum { PAGE = 4096, MOST = 40, EACH = 200, ONE = 300 };

struct ring {
    unsigned id, nr, head, tail;
};

static struct iocb cbs[MOST][ONE];
static io_context_t contexts[MOST];
static char buffer[PAGE] __attribute__((aligned(PAGE)));
static int uffd, hanging_fd;
static char *missing;

/* Of this process alone: others may make and end some meanwhile. */
static int kernel_contexts(void)
{
    char line[512];
    int found = 0;
    FILE *f = fopen("/proc/self/maps", "r");

    MUST(f != NULL);
    while (fgets(line, sizeof(line), f) != NULL)
        found += strstr(line, "[aio]") != NULL;
    fclose(f);
    return found;
}

/* Memory that is not there for now: a read into it hangs. */
static void begin(size_t pages)
{
    struct uffdio_api api = { .api = UFFD_API };
    struct uffdio_register range = { .mode = UFFDIO_REGISTER_MODE_MISSING };

    uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) != 0) {
        fprintf(stderr, "SKIPPED: needs userfaultfd for faults in the kernel, and so root\n");
        _exit(77);
    }
    missing = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(missing != MAP_FAILED);
    range.range.start = (uintptr_t)missing;
    range.range.len = pages * PAGE;
    MUST(ioctl(uffd, UFFDIO_REGISTER, &range) == 0);
}

static void end(size_t pages)
{
    struct uffdio_range range = { .start = (uintptr_t)missing, .len = pages * PAGE };

    MUST(ioctl(uffd, UFFDIO_UNREGISTER, &range) == 0);
    close(uffd);
}

static void hang(int context, int each)
{
    struct iocb *list[ONE];

    MUST(io_setup(each, &contexts[context]) == 0);
    for (int i = 0; i < each; i++) {
        list[i] = &cbs[context][i];
        io_prep_pread(list[i], hanging_fd, missing + (size_t)(context * each + i) * PAGE, 1, 0);
    }
    MUST(io_submit(contexts[context], each, list) == each);
}

/* Told by an eventfd, or looking at the ring, as programs do that see to other things, too. */
static void read_other(int fd, int by_ring)
{
    struct iocb cb, *list[] = { &cb };
    int efd = eventfd(0, EFD_CLOEXEC);
    io_context_t ctx = NULL;
    struct io_event ev;

    MUST(efd >= 0 && io_setup(8, &ctx) == 0);
    for (int i = 0; i < 4; i++) {
        struct pollfd poller = { .fd = efd, .events = POLLIN };
        const struct ring *ring = (const struct ring *)ctx;
        double over = now() + 20;
        uint64_t told;

        io_prep_pread(&cb, fd, buffer, PAGE, (long long)i * PAGE);
        if (!by_ring)
            io_set_eventfd(&cb, efd);
        MUST(io_submit(ctx, 1, list) == 1);
        if (!by_ring)
            MUST(poll(&poller, 1, 100000) == 1 && read(efd, &told, sizeof(told)) == sizeof(told));
        while (__atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE) == ring->head) {
            MUST(now() < over);
            usleep(1000);
        }
        MUST(io_getevents(ctx, 1, 1, &ev, NULL) == 1);
        MUST((long)ev.res == PAGE && buffer[17] == 'a' + i);
    }
    MUST(io_destroy(ctx) == 0);
    close(efd);
}

static void check(int count, int each, int fd)
{
    begin((size_t)count * (size_t)each);
    for (int i = 0; i < count; i++)
        hang(i, each);
    for (int i = 0; i < 20; i++) {
        /* Meanwhile they have got all that they can get. */
        if (i == 10)
            sleep(1);
        read_other(fd, i % 2);
    }
    end((size_t)count * (size_t)each);
    for (int i = 0; i < count; i++) {
        struct timespec limit = { 60, 0 };
        struct io_event ev[ONE];

        MUST(io_getevents(contexts[i], each, each, ev, &limit) == each);
        MUST(io_destroy(contexts[i]) == 0);
        contexts[i] = NULL;
    }
}

int main(int argc, char **argv)
{
    int before = kernel_contexts();
    io_context_t ctx = NULL;
    char path[4096];
    int fd;

    MUST(argc > 1 && io_setup(1, &ctx) == 0);
    if (kernel_contexts() > before) {
        fprintf(stderr, "SKIPPED: the kernel carries such reads out in io_submit(), which hangs\n");
        return 77;
    }
    MUST(io_destroy(ctx) == 0);
    hanging_fd = memfd_create("hang", MFD_CLOEXEC);
    MUST(pwrite(hanging_fd, "x", 1, 0) == 1);
    snprintf(path, sizeof(path), "%s/hung", argv[1]);
    fd = open(path, O_RDWR | O_CREAT, 0600);
    MUST(fd >= 0);
    for (int i = 0; i < 4; i++) {
        memset(buffer, 'a' + i, PAGE);
        MUST(pwrite(fd, buffer, PAGE, (off_t)i * PAGE) == PAGE);
    }
    check(1, ONE, fd);
    check(MOST, EACH, fd);
    return 0;
}
