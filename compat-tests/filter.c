/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * filter DIRECTORY [DEVICE]: a seccomp filter comes for all threads at once while writes are in flight on a device that does not
 * answer: one that allows all, and one that ends a process which makes a call of the kernel's AIO itself. All events come, later
 * requests are carried out, and io_destroy, exit and fork end.
 *
 * The device is a loop device on DIRECTORY's file system, which is frozen meanwhile.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "loop.h"
#include "must.h"
#include "submit.h"

enum { BLOCK = 512, DEPTH = 32, BYTES = 8 << 20, WARM = 4000 };
enum end { EVENTS, DESTROY, EXIT, FORK, ENDS };

static int file_system, device;
static char *memory;
static io_context_t ctx;
static struct iocb cbs[DEPTH];
static long most, submitted, done;
static int tid;
static char *frozen;

static void sleep_ms(int ms)
{
    struct timespec t = { ms / 1000, ms % 1000 * 1000000L };

    nanosleep(&t, NULL);
}

static void freeze(void)
{
    MUST(ioctl(file_system, FIFREEZE, 0) == 0);
    *(volatile char *)frozen = 1;
}

static void thaw(void)
{
    *(volatile char *)frozen = 0;
    MUST(ioctl(file_system, FITHAW, 0) == 0);
}

/* A frozen write keeps its process from ending: if this process fails, another one thaws. */
static void start_guard(void)
{
    int ends[2];

    frozen = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(frozen != MAP_FAILED && pipe2(ends, O_CLOEXEC) == 0);
    pid_t guard = fork();
    MUST(guard >= 0);
    if (guard == 0) {
        int seconds = 0;
        char byte;

        setsid();
        for (int fd = 0; fd < 1024; fd++)
            if (fd != ends[0] && fd != file_system)
                close(fd);
        fcntl(ends[0], F_SETFL, O_NONBLOCK);
        while (read(ends[0], &byte, 1) < 0) {
            sleep_ms(1000);
            seconds = *(volatile char *)frozen ? seconds + 1 : 0;
            if (seconds > 40)
                ioctl(file_system, FITHAW, 0);
        }
        if (*(volatile char *)frozen)
            ioctl(file_system, FITHAW, 0);
        _exit(0);
    }
    close(ends[0]);
}

static void make_device(const char *directory)
{
    file_system = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int inner = openat(file_system, "filter", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    MUST(file_system >= 0 && inner >= 0);
    MUST(pwrite(inner, memory, BYTES, 0) == BYTES && fsync(inner) == 0);
    device = loop_device(inner, BLOCK);
    unlinkat(file_system, "filter", 0);
}

/* Keeps DEPTH writes in flight. */
static void *writes(void *arg)
{
    struct io_event events[DEPTH];

    __atomic_store_n(&tid, (int)syscall(SYS_gettid), __ATOMIC_RELEASE);
    for (;;) {
        struct iocb *list[DEPTH];
        const long limit = __atomic_load_n(&most, __ATOMIC_ACQUIRE);
        int n = 0;

        for (; submitted - done < DEPTH && submitted < limit; n++) {
            const long at = submitted % (BYTES / BLOCK) * BLOCK;

            list[n] = &cbs[n];
            io_prep_pwrite(list[n], device, memory + at, BLOCK, at);
            __atomic_store_n(&submitted, submitted + 1, __ATOMIC_RELAXED);
        }
        if (n != 0 && limit == LONG_MAX)
            submit_all(ctx, n, list);
        else if (n != 0 && io_submit(ctx, n, list) != n)
            return NULL;
        if (done == submitted)
            return arg;
        n = io_getevents(ctx, 1, DEPTH, events, NULL);
        if (n < 0)
            return NULL;
        for (int i = 0; i < n; i++)
            MUST((long)events[i].res == BLOCK);
        __atomic_store_n(&done, done + n, __ATOMIC_RELAXED);
    }
}

static void wait_asleep(int thread)
{
    char path[64], text[512];
    int asleep = 0;

    for (int tries = 0; asleep < 10; tries++) {
        MUST(tries < 4000);
        snprintf(path, sizeof(path), "/proc/self/task/%d/stat", thread);
        FILE *file = fopen(path, "r");
        MUST(file != NULL && fgets(text, sizeof(text), file) != NULL);
        fclose(file);
        asleep = strstr(text, ") S ") != NULL || strstr(text, ") D ") != NULL ? asleep + 1 : 0;
        sleep_ms(5);
    }
}

/* A worker that can run may just have asked whether there is a filter. */
static void wait_others_asleep(void)
{
    for (bool awake = true; awake;) {
        DIR *dir = opendir("/proc/self/task");
        struct dirent *entry;

        MUST(dir != NULL);
        sleep_ms(1);
        awake = false;
        while ((entry = readdir(dir)) != NULL) {
            char path[300], text[512] = "";
            const int thread = atoi(entry->d_name);

            if (thread == 0 || thread == (int)syscall(SYS_gettid))
                continue;
            snprintf(path, sizeof(path), "/proc/self/task/%d/stat", thread);
            FILE *file = fopen(path, "r");
            if (file == NULL)
                continue;
            awake |= fgets(text, sizeof(text), file) != NULL && strstr(text, ") R ") != NULL;
            fclose(file);
        }
        closedir(dir);
    }
}

static void install(bool kills)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_submit, 5, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_getevents, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_pgetevents, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_setup, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_destroy, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, kills ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0);
}

static void *thaws(void *arg)
{
    wait_asleep(getpid());
    thaw();
    return arg;
}

static void wait_for(pid_t child)
{
    int status;

    MUST(waitpid(child, &status, 0) == child);
    if (status != 0) {
        fprintf(stderr, "a child ended with status %#x\n", (unsigned)status);
        _exit(1);
    }
}

static void run(bool kills, enum end end)
{
    pthread_t thread, other;

    alarm(100);
    MUST(io_setup(DEPTH * 2, &ctx) == 0);
    most = LONG_MAX;
    MUST(pthread_create(&thread, NULL, writes, NULL) == 0);
    while (__atomic_load_n(&done, __ATOMIC_RELAXED) < WARM)
        sleep_ms(1);
    freeze();
    wait_asleep(__atomic_load_n(&tid, __ATOMIC_ACQUIRE));
    wait_others_asleep();
    install(kills);
    if (end == FORK) {
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        wait_for(child);
    }
    if (end == EVENTS || end == FORK) {
        __atomic_store_n(&most, submitted, __ATOMIC_RELEASE);
        thaw();
        MUST(pthread_join(thread, NULL) == 0);
        MUST(done == submitted);
        most += 500;
        writes(NULL);
        MUST(done == most);
        MUST(io_destroy(ctx) == 0);
    } else {
        __atomic_store_n(&most, 0, __ATOMIC_RELEASE);
        /* The kernel's io_destroy waits in a way that does not show as sleep. */
        MUST(pthread_create(&other, NULL, thaws, NULL) == 0);
        if (end == DESTROY) {
            MUST(io_destroy(ctx) == 0);
            pthread_join(thread, NULL);
        }
    }
    exit(0);
}

int main(int argc, char **argv)
{
    /* The program's own calls are the kernel's. */
    const bool real = is_set("REAL");

    MUST(argc >= 2);
    if (geteuid() != 0) {
        fprintf(stderr, "SKIPPED: needs root\n");
        return 77;
    }
    MUST(posix_memalign((void **)&memory, 4096, BYTES) == 0);
    memset(memory, 0x5a, BYTES);
    make_device(argv[1]);
    start_guard();
    for (int kills = 0; kills < (real ? 1 : 2); kills++)
        for (int end = 0; end < ENDS; end++) {
            /* The kernel's end of a process ends the thread that thaws. */
            if (real && end == EXIT)
                continue;
            pid_t child = fork();
            MUST(child >= 0);
            if (child == 0)
                run(kills, end);
            wait_for(child);
        }
    return 0;
}
