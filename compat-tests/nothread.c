/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * nothread DIRECTORY: a user that may have no more threads (RLIMIT_NPROC). Requests still complete, for a program that submits
 * and then sleeps on an eventfd or looks at the ring, and makes no other call of libaio's. So do reads of a pipe that has data.
 */
#include <fcntl.h>
#include <libaio.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>
#include "must.h"
#include "now.h"

enum { PAGE = 4096, N = 64, ROUNDS = 20 };

/* What every context shows of itself: libaio looks at it, too. */
struct ring {
    unsigned id, nr, head, tail;
};

static char buffers[N][PAGE] __attribute__((aligned(PAGE)));

/* Until so many events are in the ring. */
static void look(io_context_t ctx, unsigned events)
{
    const struct ring *ring = (const struct ring *)ctx;
    double end = now() + 20;

    for (;;) {
        unsigned head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);
        unsigned tail = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);

        if ((tail + ring->nr - head) % ring->nr == events)
            return;
        MUST(now() < end);
        usleep(1000);
    }
}

static void run(int fd, int to_pipe, int pipe_fd)
{
    struct iocb cbs[N], *list[N];
    struct io_event ev[N];
    int efd = eventfd(0, EFD_CLOEXEC);
    io_context_t ctx = NULL;

    MUST(efd >= 0 && io_setup(2 * N, &ctx) == 0);
    for (int round = 0; round < ROUNDS; round++) {
        int told = round % 2;
        uint64_t count = 0;

        for (int i = 0; i < N; i++) {
            list[i] = &cbs[i];
            if (i == 7 && pipe_fd >= 0) {
                MUST(write(to_pipe, "x", 1) == 1);
                io_prep_pread(&cbs[i], pipe_fd, buffers[i], 1, 0);
            } else if (i % 8 == 0 && round % 4 < 2) {
                memset(buffers[i], i + round, PAGE);
                io_prep_pwrite(&cbs[i], fd, buffers[i], PAGE, (long long)i * PAGE);
            } else {
                io_prep_pread(&cbs[i], fd, buffers[i], PAGE, (long long)i * PAGE);
            }
            if (told)
                io_set_eventfd(&cbs[i], efd);
        }
        MUST(io_submit(ctx, N, list) == N);
        while (told && count < N) {
            struct pollfd poller = { .fd = efd, .events = POLLIN };
            uint64_t more;

            MUST(poll(&poller, 1, 100000) == 1);
            MUST(read(efd, &more, sizeof(more)) == sizeof(more));
            count += more;
        }
        look(ctx, N);
        MUST(io_getevents(ctx, N, N, ev, NULL) == N);
        for (int i = 0; i < N; i++)
            MUST((long)ev[i].res == (ev[i].obj == &cbs[7] && pipe_fd >= 0 ? 1 : PAGE));
    }
    MUST(io_destroy(ctx) == 0);
    close(efd);
}

int main(int argc, char **argv)
{
    struct rlimit none = { 1, 1 };
    int ends[2], fds[2];
    char path[4096];

    MUST(argc > 1 && pipe(ends) == 0);
    snprintf(path, sizeof(path), "%s/nothread", argv[1]);
    for (int i = 0; i < 2; i++) {
        fds[i] = open(path, O_RDWR | O_CREAT | (i ? O_DIRECT : 0), 0600);
        MUST(fds[i] >= 0 && ftruncate(fds[i], N * PAGE) == 0);
    }
    MUST(unlink(path) == 0 && setrlimit(RLIMIT_NPROC, &none) == 0);
    if (getuid() == 0)
        MUST(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
    run(fds[0], ends[1], ends[0]);
    run(fds[1], ends[1], -1);
    return 0;
}
