/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* One context used by several threads: some submit, some wait with different numbers of events, and each event comes to one. */
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "must.h"

enum { SUBMITTERS = 3, REAPERS = 4, EACH = 20000 };
static io_context_t ctx;
static int fd;
static atomic_int seen[SUBMITTERS * EACH];
static atomic_long reaped;
static struct iocb cb[SUBMITTERS * EACH];
static char buf[4096];

static void *submitter(void *arg)
{
    long first = (long)arg * EACH;

    for (long i = 0; i < EACH;) {
        struct iocb *list[8];
        int n = 0, ret;

        for (; n < 8 && i + n < EACH; n++) {
            io_prep_pread(&cb[first + i + n], fd, buf, 1 + (first + i + n) % 1000, 0);
            cb[first + i + n].data = (void *)(first + i + n);
            list[n] = &cb[first + i + n];
        }
        ret = io_submit(ctx, n, list);
        if (ret == -EAGAIN) {
            sched_yield();
            continue;
        }
        MUST(ret > 0);
        i += ret;
    }
    return NULL;
}

static void *reaper(void *arg)
{
    long id = (long)arg;
    struct io_event ev[64];

    while (reaped < SUBMITTERS * EACH) {
        struct timespec t = { 0, 20000000 };
        int ret = io_getevents(ctx, id == 0 ? 1 : id * 3, id == 0 ? 1 : 16 * id, ev, id == 3 ? &(struct timespec){ 0, 0 } : &t);

        MUST(ret >= 0);
        for (int i = 0; i < ret; i++) {
            long n = (long)ev[i].data;

            MUST(n >= 0 && n < SUBMITTERS * EACH && ev[i].obj == &cb[n]);
            MUST((long)ev[i].res == 1 + n % 1000);
            MUST(seen[n]++ == 0);
        }
        reaped += ret;
    }
    return NULL;
}

int main(void)
{
    pthread_t thread[SUBMITTERS + REAPERS];

    fd = open("/dev/zero", O_RDONLY);
    MUST(io_setup(256, &ctx) == 0);
    for (long i = 0; i < SUBMITTERS + REAPERS; i++)
        MUST(pthread_create(&thread[i], NULL, i < SUBMITTERS ? submitter : reaper, (void *)(i < SUBMITTERS ? i : i - SUBMITTERS)) == 0);
    for (int i = 0; i < SUBMITTERS + REAPERS; i++)
        pthread_join(thread[i], NULL);
    MUST(reaped == SUBMITTERS * EACH);
    for (int i = 0; i < SUBMITTERS * EACH; i++)
        MUST(seen[i] == 1);
    MUST(io_destroy(ctx) == 0);
    printf("%ld events\n", (long)reaped);
    return 0;
}
