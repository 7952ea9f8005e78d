/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * reapers DIRECTORY: threads that submit reads past the page cache, and others that sleep in io_getevents, as in databases.
 * Each read comes to one of them, once, with its data; also beside writes that keep the file from being read at once, beside
 * requests of another kind, with short timeouts and signals, and when io_destroy or the end of the process comes in between.
 */
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "must.h"
#include "submit.h"

enum { PAGE = 4096, PAGES = 2048, MOST = 64, SUBMITTERS = 2, REAPERS = 2 };

struct slot {
    struct iocb iocb;
    _Alignas(PAGE) char buffer[PAGE];
    atomic_int in_flight;
};

/* One who submits: never more than `depth` at a time. */
struct submitter {
    pthread_t thread;
    struct slot slots[MOST];
    sem_t room;
    int depth, batch;
    long reads;
    unsigned seed;
};

static struct submitter submitters[SUBMITTERS];
static io_context_t ctx;
static int direct, buffered;
static atomic_long done;
static atomic_bool over;
static long timeout_ns;
static uint64_t page[PAGE / 8] __attribute__((aligned(PAGE)));

/* A page has its number in each word. */
static void fill_page(uint64_t *words, uint64_t number)
{
    for (int i = 0; i < PAGE / 8; i++)
        words[i] = number;
}

static void *submits(void *arg)
{
    struct submitter *s = arg;

    for (long begun = 0; begun < s->reads;) {
        struct iocb *list[MOST];
        int n = 0;

        for (; n < s->batch && begun + n < s->reads; n++) {
            struct slot *slot;

            while (sem_wait(&s->room) != 0)
                MUST(errno == EINTR);
            for (slot = s->slots; atomic_exchange(&slot->in_flight, 1) != 0;)
                slot = slot == &s->slots[s->depth - 1] ? s->slots : slot + 1;
            s->seed = s->seed * 1103515245 + 12345;
            memset(slot->buffer, 0xff, PAGE);
            io_prep_pread(&slot->iocb, direct, slot->buffer, PAGE, (long long)((s->seed >> 8) % PAGES) * PAGE);
            slot->iocb.data = s;
            list[n] = &slot->iocb;
        }
        submit_all(ctx, n, list);
        begun += n;
    }
    return NULL;
}

static void take(const struct io_event *ev)
{
    struct slot *slot = (struct slot *)(void *)ev->obj;
    struct submitter *s = ev->data;

    MUST(ev->res == PAGE && ev->res2 == 0);
    for (int i = 0; i < PAGE / 8; i++) {
        uint64_t word;

        memcpy(&word, slot->buffer + 8 * i, 8);
        MUST(word == (uint64_t)slot->iocb.u.c.offset / PAGE);
    }
    MUST(atomic_exchange(&slot->in_flight, 0) == 1);
    done++;
    sem_post(&s->room);
}

static void *reaps(void *arg)
{
    long min = (long)arg;

    while (!over) {
        struct timespec limit = { .tv_nsec = timeout_ns };
        struct io_event ev[MOST];
        int got = io_getevents(ctx, min, MOST, ev, &limit);

        MUST(got >= 0 || got == -EINTR);
        for (int i = 0; i < got; i++)
            take(&ev[i]);
    }
    return NULL;
}

static void *writes(void *arg)
{
    (void)arg;
    for (uint64_t at = 0; !over; at = (at + 7) % PAGES) {
        fill_page(page, at);
        MUST(pwrite(buffered, page, PAGE, (off_t)at * PAGE) == PAGE);
        if (at % 64 == 0)
            usleep(200);
    }
    return NULL;
}

static void on_signal(int sig)
{
    (void)sig;
}

static void *interrupts(void *arg)
{
    const pthread_t *reaper = arg;

    while (!over) {
        pthread_kill(*reaper, SIGUSR1);
        usleep(300);
    }
    return NULL;
}

static void prepare(struct submitter *s, int depth, int batch, long reads)
{
    s->depth = depth;
    s->batch = batch;
    s->reads = reads;
    MUST(sem_init(&s->room, 0, (unsigned)depth) == 0);
}

static void run(int count, int reapers, int depth, int batch, long reads, void *(*beside)(void *))
{
    pthread_t reaper[REAPERS], other;

    reads = fewer((int)reads);
    ctx = NULL;
    done = 0;
    over = false;
    MUST(io_setup(SUBMITTERS * MOST, &ctx) == 0);
    for (long i = 0; i < reapers; i++)
        MUST(pthread_create(&reaper[i], NULL, reaps, (void *)(i + 1)) == 0);
    if (beside != NULL)
        MUST(pthread_create(&other, NULL, beside, reaper) == 0);
    for (int i = 0; i < count; i++) {
        prepare(&submitters[i], depth, batch, reads);
        MUST(pthread_create(&submitters[i].thread, NULL, submits, &submitters[i]) == 0);
    }
    for (int i = 0; i < count; i++)
        pthread_join(submitters[i].thread, NULL);
    for (int ms = 0; done < count * reads; ms++) {
        MUST(ms < 100000);
        usleep(1000);
    }
    over = true;
    if (beside != NULL)
        pthread_join(other, NULL);
    for (int i = 0; i < reapers; i++)
        pthread_join(reaper[i], NULL);
    MUST(done == count * reads);
    MUST(io_destroy(ctx) == 0);
}

/* The last reads are on their way. */
static void destroyed(void)
{
    struct submitter *s = &submitters[0];
    pthread_t reaper;

    for (int round = 0; round < 20; round++) {
        ctx = NULL;
        over = false;
        MUST(io_setup(MOST, &ctx) == 0);
        MUST(pthread_create(&reaper, NULL, reaps, (void *)1) == 0);
        prepare(s, 8, 4, 200);
        submits(s);
        over = true;
        pthread_join(reaper, NULL);
        for (int i = 0; i < 8; i++)
            s->slots[i].in_flight = 1;
        for (int i = 0; i < 8; i++) {
            struct iocb *one = &s->slots[i].iocb;

            io_prep_pread(one, direct, s->slots[i].buffer, PAGE, (long long)i * PAGE);
            MUST(io_submit(ctx, 1, &one) == 1);
        }
        MUST(io_destroy(ctx) == 0);
        for (int i = 0; i < 8; i++)
            s->slots[i].in_flight = 0;
    }
}

static void *exits(void *arg)
{
    usleep(20000 + (unsigned)(long)arg * 100);
    exit(7);
}

/* The process ends, soon, whatever they are at. */
static void ended(void)
{
    for (long round = 0; round < 20; round++) {
        time_t began = time(NULL);
        pid_t child = fork();
        int status;

        MUST(child >= 0);
        if (child == 0) {
            pthread_t other;

            pthread_create(&other, NULL, exits, (void *)round);
            run(1, 1, 1 + (int)round % 8, 1, 1000000, NULL);
            _exit(1);
        }
        MUST(waitpid(child, &status, 0) == child);
        MUST(WIFEXITED(status) && WEXITSTATUS(status) == 7);
        MUST(time(NULL) - began < 100);
    }
}

int main(int argc, char **argv)
{
    struct sigaction action = { .sa_handler = on_signal };
    char path[4096];

    MUST(argc >= 2);
    MUST(sigaction(SIGUSR1, &action, NULL) == 0);
    snprintf(path, sizeof(path), "%s/reapers", argv[1]);
    buffered = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    direct = open(path, O_RDWR | O_DIRECT);
    MUST(buffered >= 0 && direct >= 0);
    for (uint64_t at = 0; at < PAGES; at++) {
        fill_page(page, at);
        MUST(pwrite(buffered, page, PAGE, (off_t)at * PAGE) == PAGE);
    }
    MUST(fsync(buffered) == 0);
    timeout_ns = 100000000;
    for (int depth = 1; depth <= MOST; depth *= 4)
        run(1, 1, depth, 1, 4000, NULL);
    run(1, 1, 32, 8, 8000, NULL);
    run(SUBMITTERS, REAPERS, 1, 1, 4000, NULL);
    run(SUBMITTERS, REAPERS, 8, 3, 8000, NULL);
    run(1, 1, 8, 1, 8000, writes);
    run(SUBMITTERS, 1, 1, 1, 4000, interrupts);
    timeout_ns = 200000;
    run(1, 1, 2, 1, 4000, NULL);
    run(SUBMITTERS, 1, 4, 2, 4000, writes);
    timeout_ns = 20000000;
    destroyed();
    ended();
    unlink(path);
    return 0;
}
