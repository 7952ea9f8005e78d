/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Thousands of contexts of 128 events, many more than /proc/sys/fs/aio-max-nr would allow, all of them used; made, used and
 * destroyed again and again without leaving memory, descriptors or threads behind. With the kernel's AIO the
 * first part has to end with -EAGAIN.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include "must.h"

static long number_in(const char *path)
{
    long n = 0;
    FILE *f = fopen(path, "r");

    MUST(f != NULL && fscanf(f, "%ld", &n) == 1);
    fclose(f);
    return n;
}

static int entries(const char *path)
{
    DIR *d = opendir(path);
    int n = 0;

    MUST(d != NULL);
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

static long resident(void)
{
    long total, pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    MUST(f != NULL && fscanf(f, "%ld %ld", &total, &pages) == 2);
    fclose(f);
    return pages * 4;
}

static int mappings(void)
{
    FILE *f = fopen("/proc/self/maps", "r");
    int c, n = 0;

    MUST(f != NULL);
    while ((c = getc(f)) != EOF)
        n += c == '\n';
    fclose(f);
    return n;
}

static void use(io_context_t ctx, int fd, char *buf)
{
    struct iocb cb, *list = &cb;
    struct io_event ev;

    io_prep_pread(&cb, fd, buf, 16, 0);
    MUST(io_submit(ctx, 1, &list) == 1);
    MUST(io_getevents(ctx, 1, 1, &ev, NULL) == 1 && ev.obj == &cb && (long)ev.res == 16);
}

int main(void)
{
    long max = number_in("/proc/sys/fs/aio-max-nr");
    enum { WANTED = 5000 };
    static io_context_t ctx[WANTED];
    char buf[16];
    int fd = open("/dev/zero", O_RDONLY), n, kernel = 0;

    /* The mappings of so many must not meet another limit first. */
    long map_limit = number_in("/proc/sys/vm/max_map_count");
    long nr_before = number_in("/proc/sys/fs/aio-nr");
    for (n = 0; n < WANTED; n++) {
        int ret = io_setup(128, &ctx[n]);

        if (ret == -EAGAIN && number_in("/proc/sys/fs/aio-nr") > nr_before) {
            kernel = 1;
            break;
        }
        if (ret != 0) {
            fprintf(stderr, "io_setup number %d: %d (max_map_count %ld, %d mappings, %d descriptors)\n", n, ret, map_limit, mappings(),
                    entries("/proc/self/fd"));
            return 1;
        }
    }
    printf("%d contexts of 128, aio-max-nr is %ld: %d mappings, %d descriptors, %d threads, %ld KiB\n", n, max, mappings(),
           entries("/proc/self/fd"), entries("/proc/self/task") - 2, resident());
    MUST(kernel || n == WANTED);
    MUST(kernel || (long)n * 128 > max);
    for (int i = 0; i < n; i++)
        use(ctx[i], fd, buf);
    printf("all used: %d mappings, %d descriptors, %d threads, %ld KiB\n", mappings(), entries("/proc/self/fd"),
           entries("/proc/self/task") - 2, resident());
    MUST(entries("/proc/self/task") - 2 < 200);
    for (int i = 0; i < n; i++)
        MUST(io_destroy(ctx[i]) == 0);
    int maps = mappings(), fds = entries("/proc/self/fd");
    long memory = resident();
    printf("destroyed: %d mappings, %d descriptors, %d threads, %ld KiB\n", maps, fds, entries("/proc/self/task") - 2, memory);
    MUST(maps < 200);
    MUST(fds < 50);

    /* The kernel takes milliseconds for each. */
    int rounds = kernel ? 100 : 5000;
    for (int round = 0; round < rounds; round++) {
        io_context_t one = NULL;
        int ret = io_setup(1 + round % 200, &one);

        /* The kernel frees them later. */
        if (ret == -EAGAIN && kernel) {
            usleep(1000);
            continue;
        }
        MUST(ret == 0);
        use(one, fd, buf);
        MUST(io_destroy(one) == 0);
    }
    printf("%d made and destroyed: %d mappings, %d descriptors, %ld KiB\n", rounds, mappings(), entries("/proc/self/fd"), resident());
    MUST(mappings() <= maps + 10 && entries("/proc/self/fd") <= fds + 4 && resident() < memory + 20000);
    return 0;
}
