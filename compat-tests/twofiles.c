/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * twofiles DIRECTORY: writes of two files in turn, one eventfd for all, 16 a call, as a program writes its data and its log. For calls.sh, which
 * counts the system calls that this takes. Each write is there in the end.
 */
#include <fcntl.h>
#include <libaio.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include "must.h"

enum { CALLS = 50, BATCH = 16, BLOCK = 512 };

int main(int argc, char **argv)
{
    static struct iocb iocbs[BATCH];
    static uint64_t blocks[BATCH][BLOCK / sizeof(uint64_t)], seen[BLOCK / sizeof(uint64_t)];
    struct io_event events[BATCH];
    struct iocb *list[BATCH];
    io_context_t ctx = NULL;
    int files[2], told = eventfd(0, EFD_CLOEXEC);
    uint64_t count;

    MUST(argc >= 2 && told >= 0 && io_setup(BATCH, &ctx) == 0);
    for (int i = 0; i < 2; i++) {
        char path[512];

        snprintf(path, sizeof(path), "%s/twofiles-%d", argv[1], i);
        files[i] = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        MUST(files[i] >= 0);
    }
    for (uint64_t call = 0; call < CALLS; call++) {
        for (int i = 0; i < BATCH; i++) {
            blocks[i][0] = call * BATCH + (uint64_t)i + 1;
            io_prep_pwrite(&iocbs[i], files[i % 2], blocks[i], BLOCK, (long long)(blocks[i][0] - 1) * BLOCK);
            io_set_eventfd(&iocbs[i], told);
            list[i] = &iocbs[i];
        }
        MUST(io_submit(ctx, BATCH, list) == BATCH);
        MUST(io_getevents(ctx, BATCH, BATCH, events, NULL) == BATCH);
        for (uint64_t all = 0; all < BATCH; all += count)
            MUST(read(told, &count, sizeof(count)) == sizeof(count));
    }
    for (uint64_t i = 0; i < CALLS * BATCH; i++)
        MUST(pread(files[i % 2], seen, BLOCK, (off_t)i * BLOCK) == BLOCK && seen[0] == i + 1);
    MUST(io_destroy(ctx) == 0);
    return 0;
}
