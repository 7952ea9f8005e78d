/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * numbers DIRECTORY [DEVICE]: the descriptors that the library has open for itself while it uses the kernel's AIO make way for
 * the program: a dup2() to such a number takes it at once, the number is the program's from then on, and reads continue.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "loop.h"
#include "must.h"
#include "now.h"
#include "submit.h"

enum { BLOCK = 512, DEPTH = 32, BYTES = 8 << 20, LEAST = 100, MOST = 64 };

static int device;
static char *memory;
static io_context_t ctx;
static long done;
static bool stops;

static void make_device(const char *directory)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/numbers", directory);
    int inner = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    MUST(inner >= 0 && ftruncate(inner, BYTES) == 0 && unlink(path) == 0);
    device = loop_device(inner, BLOCK);
}

static void *reads(void *arg)
{
    static struct iocb cbs[DEPTH];
    struct iocb *list[DEPTH];
    struct io_event events[DEPTH];
    int in_flight = 0;

    for (int i = 0; i < DEPTH; i++) {
        list[i] = &cbs[i];
        io_prep_pread(list[i], device, memory + i * BLOCK, BLOCK, i * 3 * BLOCK);
    }
    submit_all(ctx, DEPTH, list);
    for (in_flight = DEPTH; in_flight != 0;) {
        int n = io_getevents(ctx, 1, DEPTH, events, NULL);

        MUST(n > 0);
        for (int i = 0; i < n; i++) {
            MUST(events[i].res == BLOCK);
            list[i] = events[i].obj;
        }
        __atomic_store_n(&done, done + n, __ATOMIC_RELAXED);
        if (__atomic_load_n(&stops, __ATOMIC_RELAXED))
            in_flight -= n;
        else
            submit_all(ctx, n, list);
    }
    return arg;
}

static void more(long n)
{
    const long until = __atomic_load_n(&done, __ATOMIC_RELAXED) + n;
    const double end = now() + 30;

    while (__atomic_load_n(&done, __ATOMIC_RELAXED) < until) {
        MUST(now() < end);
        usleep(1000);
    }
}

int main(int argc, char **argv)
{
    int numbers[MOST], count = 0;
    struct dirent *entry;
    pthread_t thread;

    MUST(argc >= 2);
    if (geteuid() != 0) {
        fprintf(stderr, "SKIPPED: needs root\n");
        return 77;
    }
    MUST(posix_memalign((void **)&memory, 4096, DEPTH * BLOCK) == 0);
    make_device(argv[1]);
    MUST(io_setup(DEPTH, &ctx) == 0);
    MUST(pthread_create(&thread, NULL, reads, NULL) == 0);
    more(20000);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    DIR *dir = opendir("/proc/self/fd");
    MUST(null >= 0 && dir != NULL);
    while ((entry = readdir(dir)) != NULL) {
        char target[64] = "";

        if (atoi(entry->d_name) >= LEAST && readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1) > 0 &&
            (strncmp(target, "anon_inode:", strlen("anon_inode:")) == 0 || strncmp(target, "/memfd:", strlen("/memfd:")) == 0)) {
            MUST(count < MOST);
            numbers[count++] = atoi(entry->d_name);
        }
    }
    closedir(dir);
    for (int i = 0; i < count; i++) {
        const double began = now();

        MUST(dup2(null, numbers[i]) == numbers[i]);
        if (now() - began > 3) {
            fprintf(stderr, "a dup2 took %.1f s\n", now() - began);
            return 1;
        }
    }
    more(20000);
    for (int i = 0; i < count; i++)
        MUST(close(numbers[i]) == 0);
    more(20000);
    __atomic_store_n(&stops, true, __ATOMIC_RELAXED);
    MUST(pthread_join(thread, NULL) == 0);
    MUST(io_destroy(ctx) == 0);
    return 0;
}
