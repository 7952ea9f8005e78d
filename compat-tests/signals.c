/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * signals DIRECTORY [DEVICE]: reads of sockets wait, while the C library's setuid() signals each thread, and while the program
 * takes SIGRTMAX by signalfd. The reads end when data arrives and not before, and all signals arrive. io_submit does not wait
 * for such a read, as the kernel's does: with the real libaio there is nothing to show.
 */
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include "must.h"
#include "submit.h"

enum { READS = 4, SIGNALS = 50 };

static void sleep_ms(int ms)
{
    struct timespec t = { 0, ms * 1000000L };

    nanosleep(&t, NULL);
}

int main(void)
{
    static const struct timeval long_time = { 600, 0 };
    io_context_t ctx = NULL;
    struct iocb cbs[READS], *list[READS];
    struct io_event events[READS];
    char bytes[READS];
    sigset_t set;
    int pairs[READS][2];

    if (is_set("REAL")) {
        fprintf(stderr, "SKIPPED: the kernel's io_submit waits for such a read\n");
        return 77;
    }
    sigemptyset(&set);
    sigaddset(&set, SIGRTMAX);
    MUST(io_setup(READS, &ctx) == 0);
    for (int i = 0; i < READS; i++) {
        MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pairs[i]) == 0);
        /* Reads of these say EINTR after any signal. */
        MUST(setsockopt(pairs[i][0], SOL_SOCKET, SO_RCVTIMEO, &long_time, sizeof(long_time)) == 0);
        list[i] = &cbs[i];
        io_prep_pread(list[i], pairs[i][0], &bytes[i], 1, 0);
    }
    submit_all(ctx, READS, list);
    MUST(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
    int fd = signalfd(-1, &set, SFD_CLOEXEC);
    MUST(fd >= 0);
    for (int i = 0; i < SIGNALS; i++) {
        struct pollfd poller = { fd, POLLIN, 0 };
        struct signalfd_siginfo info;
        int ready;

        MUST(setuid(getuid()) == 0);
        MUST(sigqueue(getpid(), SIGRTMAX, (union sigval){ .sival_int = i }) == 0);
        while ((ready = poll(&poller, 1, 10000)) < 0)
            MUST(errno == EINTR);
        MUST(ready == 1);
        MUST(read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info));
        MUST(info.ssi_int == i && info.ssi_code == SI_QUEUE);
        sleep_ms(2);
    }
    struct timespec none = { 0, 0 };
    int got = io_getevents(ctx, 0, READS, events, &none);
    if (got != 0) {
        fprintf(stderr, "a read has ended: %ld\n", (long)events[0].res);
        return 1;
    }
    for (int i = 0; i < READS; i++)
        MUST(write(pairs[i][1], "x", 1) == 1);
    got = 0;
    while (got < READS) {
        int n = io_getevents(ctx, 1, READS - got, events + got, NULL);
        MUST(n > 0 || n == -EINTR);
        got += n > 0 ? n : 0;
    }
    for (int i = 0; i < READS; i++)
        MUST((long)events[i].res == 1);
    MUST(io_destroy(ctx) == 0);
    return 0;
}
