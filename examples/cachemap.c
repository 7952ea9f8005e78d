/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Prints a map of the parts of a file or block device in the page cache: cachemap PATH [BLOCK]. Each character is a block (64 KiB if
 * it is not given): '#' all of it is in the cache, '+' a part, '.' nothing.
 *
 * It reads every block with IOCB_ATTR_CACHE, whose answer says how much was in the cache before. The read brings the rest in,
 * so the blocks that were not there are dropped again.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <aio2.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DEPTH 16
#define COLUMNS 64

static void check(const char *what, int64_t ret)
{
    if (ret < 0) {
        fprintf(stderr, "cachemap: %s: %s\n", what, strerror((int)-ret));
        exit(1);
    }
}

int main(int argc, char **argv)
{
    const size_t block = argc > 2 ? (size_t)atoll(argv[2]) : 65536;
    const int fd = argc > 1 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1;
    char *buffers[DEPTH];
    io_context2_t ctx = NULL;
    uint64_t cached = 0;
    int64_t begun = 0;
    int64_t ended = 0;
    int64_t blocks;
    off_t size;
    char *map;

    if (argc < 2 || block == 0) {
        fprintf(stderr, "usage: cachemap PATH [BLOCK]\n");
        return 2;
    }
    if (fd < 0 || (size = lseek(fd, 0, SEEK_END)) < 0) {
        perror(argv[1]);
        return 1;
    }
    blocks = (size + (int64_t)block - 1) / (int64_t)block;
    map = malloc((size_t)blocks + 1);
    for (int i = 0; i < DEPTH; i++)
        buffers[i] = malloc(block);
    if (map == NULL || buffers[DEPTH - 1] == NULL) {
        perror("cachemap");
        return 1;
    }
    /* A block that is read must not bring its neighbours in. */
    posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    check("io_setup2", io_setup2(IO_SETUP2_VERSION, NULL, &ctx));
    while (ended < blocks) {
        const struct io_event2 *event = NULL;
        struct iocb_cache cache;
        int64_t at;
        ssize_t bytes;

        /* Block i is in buffer i % DEPTH: blocks may end in any order, so begin DEPTH at a time. */
        for (; begun < blocks && begun / DEPTH == ended / DEPTH; begun++) {
            struct iocb2_room request;

            io_prep2_pread(&request.iocb, fd, buffers[begun % DEPTH], block, begun * (int64_t)block);
            request.iocb.data = (uint64_t)begun;
            iocb2_add_cache(&request, IOCB_ATTR_F_REQUIRED);
            check("io_submit2", io_submit2(ctx, &request.iocb, request.iocb.bytes));
        }
        /* The events are looked at where they are, in the ring: this thread is its one consumer. */
        bytes = io_ring2_peek(ctx, &event);
        check("io_ring2_peek", bytes);
        if (bytes == 0) {
            /* Nothing there yet: waits, and takes nothing, as there is room for nothing. */
            struct io_event2 none;

            bytes = io_getevents2(ctx, sizeof(none), &none, sizeof(none), NULL);
            if (bytes != -ENOBUFS)
                check("io_getevents2", bytes);
            continue;
        }
        check("read", event->res);
        cache = *io_event2_cache(event); /* it is there: it was required, and the read has not failed */
        at = (int64_t)event->data;
        io_ring2_consume(ctx, bytes);
        cached += cache.bytes_cached;
        map[at] = cache.bytes_cached == 0 ? '.' : cache.hit ? '#' : '+';
        ended++;
    }
    for (int64_t i = 0; i < blocks; i++) {
        if (map[i] == '.')
            posix_fadvise(fd, i * (int64_t)block, (off_t)block, POSIX_FADV_DONTNEED);
    }
    for (int64_t i = 0; i < blocks; i += COLUMNS)
        printf("%12lld %.*s\n", (long long)(i * (int64_t)block), (int)(blocks - i < COLUMNS ? blocks - i : COLUMNS), map + i);
    printf("%llu of %lld bytes are in the page cache\n", (unsigned long long)cached, (long long)size);
    return -io_destroy2(ctx);
}
