/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * routes DIRECTORY: requests whose routes are known, for aio2-run.sh, which checks the statistics: one read from the page cache
 * within io_submit, one of a pipe by a worker thread, a poll request that becomes ready, one that is cancelled. In a context
 * that is destroyed before the end, and in one that is not.
 */
#include <fcntl.h>
#include <libaio.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>
#include "must.h"

enum { PAGE = 4096 };

static io_context_t ctx;
static struct iocb cb, *list[1] = { &cb };

static long get(void)
{
    struct io_event event;

    MUST(io_getevents(ctx, 1, 1, &event, NULL) == 1);
    return (long)event.res;
}

static void submit(void)
{
    MUST(io_submit(ctx, 1, list) == 1);
}

int main(int argc, char **argv)
{
    char path[512], buffer[PAGE] = "";
    struct io_event event;
    int ends[2], file;

    MUST(argc >= 2);
    snprintf(path, sizeof(path), "%s/routes", argv[1]);
    file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    MUST(file >= 0 && write(file, buffer, PAGE) == PAGE && pipe(ends) == 0);
    for (int round = 0; round < 2; round++) {
        ctx = NULL;
        MUST(io_setup(8, &ctx) == 0);
        io_prep_pread(&cb, file, buffer, PAGE, 0);
        submit();
        MUST(get() == PAGE);
        io_prep_pread(&cb, ends[0], buffer, 1, 0);
        submit();
        MUST(write(ends[1], "x", 1) == 1 && get() == 1);
        io_prep_poll(&cb, ends[0], POLLIN);
        submit();
        MUST(write(ends[1], "x", 1) == 1 && (get() & POLLIN) != 0);
        MUST(read(ends[0], buffer, 1) == 1);
        io_prep_poll(&cb, ends[0], POLLIN);
        submit();
        (void)io_cancel(ctx, &cb, &event);
        MUST(get() == 0);
        MUST(round != 0 || io_destroy(ctx) == 0);
    }
    return 0;
}
