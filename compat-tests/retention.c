/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A request goes to the file that its descriptor named at submit, even if the number later names another file. Threads submit
 * writes whose contents name their file, while others put other files over the same numbers with dup2, or close them and open
 * others, immediately after io_submit. In the end every block of every file must name that file.
 */
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "must.h"
#include "now.h"

enum { FILES = 8, BLOCK = 4096, BLOCKS = 1024, DEPTH = 32 };

struct block {
    uint32_t file;
    uint32_t number;
    char rest[BLOCK - 8];
};

static const char *dir;
static int keep[FILES]; /* never touched by what the threads do */
static bool direct;
static atomic_bool stop;
static atomic_long writes, swaps, wrong;

static char *path_of(int file, char *path)
{
    sprintf(path, "%s/retention-%d", dir, file);
    return path;
}

/* Each submitter has a descriptor number and a range of blocks of its own. */
struct submitter {
    int id, fd;
    int way;
    pthread_mutex_t lock; /* held while the number is used or changed */
    int names;
};

static void put(struct submitter *s, int file)
{
    char path[4096];

    switch (s->way) {
    case 0: /* dup2 over it */
        MUST(dup2(keep[file], s->fd) == s->fd);
        break;
    case 1: { /* closed, and the number given to the next open */
        int fd;

        close(s->fd);
        fd = open(path_of(file, path), O_RDWR | (direct ? O_DIRECT : 0));
        MUST(fd >= 0);
        /* Another thread may have been faster, and then the number is not ours any more. */
        s->fd = fd;
        break;
    }
    case 2: /* dup3, close-on-exec */
        MUST(dup3(keep[file], s->fd, O_CLOEXEC) == s->fd);
        break;
    }
    s->names = file;
}

static void *submitter(void *arg)
{
    struct submitter *s = arg;
    io_context_t ctx = NULL;
    struct iocb cb[DEPTH], *list[DEPTH];
    struct block *block[DEPTH];
    struct io_event ev[DEPTH];
    unsigned seed = (unsigned)s->id + 1;
    bool busy[DEPTH] = { false };
    int flight = 0;
    uint32_t next = 0;

    MUST(io_setup(DEPTH, &ctx) == 0);
    for (int i = 0; i < DEPTH; i++)
        MUST((block[i] = aligned_alloc(4096, BLOCK)) != NULL);
    while (!stop || flight != 0) {
        int n = 0, batch = 1 + rand_r(&seed) % 4;

        if (!stop) {
            pthread_mutex_lock(&s->lock);
            for (int i = 0; i < DEPTH && n < batch; i++)
                if (!busy[i]) {
                    uint32_t number = (uint32_t)s->id * BLOCKS + next++ % BLOCKS;

                    memset(block[i], 'A' + s->names, BLOCK);
                    block[i]->file = (uint32_t)s->names;
                    block[i]->number = number;
                    io_prep_pwrite(&cb[i], s->fd, block[i], BLOCK, (long long)number * BLOCK);
                    cb[i].data = (void *)(long)i;
                    busy[i] = true;
                    list[n++] = &cb[i];
                }
            for (int at = 0; at < n;) {
                int ret = io_submit(ctx, n - at, list + at);

                MUST(ret > 0);
                at += ret;
            }
            /* At once: nothing has had time to run. */
            if (rand_r(&seed) % 3 != 0) {
                put(s, rand_r(&seed) % FILES);
                swaps++;
            }
            pthread_mutex_unlock(&s->lock);
            flight += n;
        }
        int least = flight >= DEPTH - 4 || (stop && flight != 0);
        int got = io_getevents(ctx, least, DEPTH, ev, &(struct timespec){ 60, 0 });
        MUST(got >= least);
        for (int k = 0; k < got; k++) {
            long i = (long)ev[k].data;

            if ((long)ev[k].res != BLOCK) {
                fprintf(stderr, "a write came back with %ld\n", (long)ev[k].res);
                wrong++;
            }
            busy[i] = false;
        }
        flight -= got;
        writes += got;
    }
    MUST(io_destroy(ctx) == 0);
    return NULL;
}

/* Changes the numbers from another thread, between submits. */
static void *swapper(void *arg)
{
    struct submitter *all = arg;
    unsigned seed = 99;

    while (!stop) {
        struct submitter *s = &all[rand_r(&seed) % 4];

        pthread_mutex_lock(&s->lock);
        put(s, rand_r(&seed) % FILES);
        pthread_mutex_unlock(&s->lock);
        swaps++;
        if (rand_r(&seed) % 8 == 0)
            usleep(100);
    }
    return NULL;
}

/* Opens and closes other files all the time, so that freed numbers are taken at once. */
static void *churner(void *arg)
{
    (void)arg;
    while (!stop) {
        int fd[6];

        for (int i = 0; i < 6; i++)
            fd[i] = open("/dev/zero", O_RDWR);
        for (int i = 0; i < 6; i++)
            if (fd[i] >= 0)
                close(fd[i]);
    }
    return NULL;
}

static long check(void)
{
    struct block *block = aligned_alloc(4096, BLOCK);
    long blocks = 0;
    char path[4096];

    for (int file = 0; file < FILES; file++) {
        int fd = open(path_of(file, path), O_RDONLY);
        long long number = 0;
        ssize_t n;

        MUST(fd >= 0);
        while ((n = pread(fd, block, BLOCK, number * BLOCK)) > 0) {
            bool empty = true;

            MUST(n == BLOCK);
            for (int i = 0; i < BLOCK && empty; i++)
                empty = ((char *)block)[i] == 0;
            if (!empty) {
                bool whole = block->file == (uint32_t)file && block->number == (uint32_t)number;

                for (size_t i = 0; i < sizeof(block->rest) && whole; i++)
                    whole = block->rest[i] == 'A' + file;
                if (!whole) {
                    if (wrong++ < 10)
                        fprintf(stderr, "file %d holds at block %lld what was for file %u, block %u\n", file, number, block->file,
                                block->number);
                }
                blocks++;
            }
            number++;
        }
        close(fd);
    }
    free(block);
    return blocks;
}

/* A descriptor of a file that is deleted; -1: there is none. */
static int holds_deleted(void)
{
    struct stat st;

    for (int fd = 3; fd < 4096; fd++)
        if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 0)
            return fd;
    return -1;
}

int main(int argc, char **argv)
{
    struct submitter s[4];
    pthread_t thread[6];
    char path[4096];

    MUST(argc >= 2);
    dir = argv[1];
    const char *is_long = getenv("LONG");
    double seconds = is_long != NULL && strcmp(is_long, "0") != 0 ? 6 : fewer(1200) / 1e3;
    for (int round = 0; round < 6; round++) {
        direct = round % 2 == 1;
        stop = false;
        writes = swaps = 0;
        for (int i = 0; i < FILES; i++) {
            keep[i] = open(path_of(i, path), O_RDWR | O_CREAT | O_TRUNC | (direct ? O_DIRECT : 0), 0600);
            MUST(keep[i] >= 0);
        }
        for (int i = 0; i < 4; i++) {
            s[i] = (struct submitter){ .id = i, .way = round / 2, .lock = PTHREAD_MUTEX_INITIALIZER };
            s[i].fd = dup(keep[i]);
            s[i].names = i;
        }
        for (int i = 0; i < 4; i++)
            MUST(pthread_create(&thread[i], NULL, submitter, &s[i]) == 0);
        MUST(pthread_create(&thread[4], NULL, swapper, s) == 0);
        MUST(pthread_create(&thread[5], NULL, churner, NULL) == 0);
        double end = now() + seconds;
        while (now() < end)
            usleep(50000);
        stop = true;
        for (int i = 0; i < 6; i++)
            pthread_join(thread[i], NULL);
        for (int i = 0; i < 4; i++)
            close(s[i].fd);
        long blocks = check();
        printf("way %d, %s: %ld writes, %ld changes of the file under the number, %ld blocks in files, wrong %ld\n", round / 2,
               direct ? "O_DIRECT" : "buffered", (long)writes, (long)swaps, blocks, (long)wrong);
        fflush(stdout);
        MUST(blocks > 0);
        for (int i = 0; i < FILES; i++) {
            close(keep[i]);
            unlink(path_of(i, path));
        }
    }
    /* The private descriptors are gone with the requests. */
    int kept = holds_deleted();
    for (double end = now() + 20; kept >= 0 && now() < end; kept = holds_deleted())
        usleep(2000);
    if (kept >= 0)
        fprintf(stderr, "descriptor %d still holds a deleted file\n", kept);
    return wrong != 0 || kept >= 0;
}
