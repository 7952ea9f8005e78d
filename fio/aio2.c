/* SPDX-License-Identifier: GPL-2.0-only
 *
 * aio2: an external fio engine that does its I/O through libaio2.
 *
 *     fio --ioengine=external:PATH/aio2-engine.so [--userspace_reap=1] [--timing=1] [--submit_latency=1] ...
 *
 * Reads, writes, fsync, fdatasync and sync_file_range are asynchronous. A trim is an ioctl, which libaio2 does not carry out: the engine
 * does it at once, as fio's libaio engine does.
 *
 * queue() packs requests one after another into one buffer, and commit() submits them with one io_submit2(). Events are collected into a
 * queue of the engine's own, from which getevents() serves fio. So no event is lost if more arrive than fio asked for, and cancel() can
 * look for the one that it needs.
 */

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <fio.h>
#include <optgroup.h>

#include <aio2.h>

#include "hist.h"

/* The job is given up if requests have been refused for this long although none is in flight. */
#define STALLED_NS 30000000000ull

struct aio2_options {
    void *td; /* fio writes its pointer here, and does not support an option at offset 0 */
    unsigned int ring_bytes;
    unsigned int max_requests;
    unsigned int workers;
    unsigned int userspace_reap;
    unsigned int eventfd;
    unsigned int timing;
    unsigned int submit_latency;
};

static struct fio_option options[] = {
    {
        .name = "ring_bytes",
        .lname = "Completion ring size",
        .type = FIO_OPT_INT,
        .off1 = offsetof(struct aio2_options, ring_bytes),
        .help = "Bytes of the completion ring (0: the library's default)",
        .def = "0",
        .category = FIO_OPT_C_ENGINE,
        .group = FIO_OPT_G_INVALID,
    },
    {
        .name = "max_requests",
        .lname = "Most requests in flight",
        .type = FIO_OPT_INT,
        .off1 = offsetof(struct aio2_options, max_requests),
        .help = "Most requests in flight in the context (0: the library's default, but at least iodepth)",
        .def = "0",
        .category = FIO_OPT_C_ENGINE,
        .group = FIO_OPT_G_INVALID,
    },
    {
        .name = "workers",
        .lname = "Most worker threads",
        .type = FIO_OPT_INT,
        .off1 = offsetof(struct aio2_options, workers),
        .help = "Most worker threads for a job's requests (0: automatic)",
        .def = "0",
        .category = FIO_OPT_C_ENGINE,
        .group = FIO_OPT_G_INVALID,
    },
    {
        .name = "userspace_reap",
        .lname = "Reap from user space",
        .type = FIO_OPT_BOOL,
        .off1 = offsetof(struct aio2_options, userspace_reap),
        .help = "Take events out of the shared ring, and call the library only to wait or for an overflow",
        .def = "0",
        .category = FIO_OPT_C_ENGINE,
        .group = FIO_OPT_G_INVALID,
    },
    {
        .name = "eventfd",
        .lname = "Wait on an eventfd",
        .type = FIO_OPT_BOOL,
        .off1 = offsetof(struct aio2_options, eventfd),
        .help = "Wait for events by poll on an eventfd instead of in io_getevents2",
        .def = "0",
        .category = FIO_OPT_C_ENGINE,
        .group = FIO_OPT_G_INVALID,
    },
    {
        .name = "timing",
        .lname = "Queueing and device time",
        .type = FIO_OPT_BOOL,
        .off1 = offsetof(struct aio2_options, timing),
        .help = "Ask for the times of each request, and print at the end how long requests were queued and how "
                "long the device took",
        .def = "0",
        .category = FIO_OPT_C_ENGINE,
        .group = FIO_OPT_G_INVALID,
    },
    {
        .name = "submit_latency",
        .lname = "Time in io_submit2",
        .type = FIO_OPT_BOOL,
        .off1 = offsetof(struct aio2_options, submit_latency),
        .help = "Print at the end how long the calls of io_submit2 took",
        .def = "0",
        .category = FIO_OPT_C_ENGINE,
        .group = FIO_OPT_G_INVALID,
    },
    {
        .name = NULL,
    },
};

struct completion {
    struct io_u *io_u;
    int64_t res;
};

struct timing {
    struct hist queueing;
    struct hist device;
};

struct aio2_data {
    io_context2_t ctx;
    int eventfd; /* -1: none */

    /* Requests that queue() has packed and commit() has not submitted yet, and the io_u of each. */
    char *records;
    size_t record_bytes;
    struct io_u **queued_io_us;
    unsigned int queued;

    /* Number of requests that were submitted and whose event was not collected yet. */
    unsigned int in_flight;

    /* Room for as many events as can be in flight. */
    struct io_event2 *events;
    size_t event_bytes;

    /* Collected events: a ring of `done_mask` + 1. fio has been given the first `given` of them. */
    struct completion *done;
    unsigned int done_mask;
    unsigned int done_head;
    unsigned int done_count;
    unsigned int given;

    unsigned int cancelled;
    uint64_t overflowed;
    uint64_t stalled_since;
    unsigned int untimed;
    struct timing *timing; /* [0]: reads and writes, [1]: syncs; NULL: not asked for */
    struct hist *submit;   /* NULL: not asked for */
};

/* fio looks it up by name. */
extern __attribute__((visibility("default"))) struct ioengine_ops ioengine;

/* fio's own min() is a GNU statement expression. */
static unsigned int least(unsigned int a, unsigned int b)
{
    return a < b ? a : b;
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- Submitting ------------------------------------------------------------------------------ */

static void pack(struct thread_data *td, struct aio2_data *ad, struct io_u *io_u)
{
    struct iocb2 *iocb = (struct iocb2 *)(void *)(ad->records + ad->queued * ad->record_bytes);
    struct fio_file *f = io_u->file;

    switch (io_u->ddir) {
    case DDIR_READ:
        io_prep2_pread(iocb, f->fd, io_u->xfer_buf, io_u->xfer_buflen, (int64_t)io_u->offset);
        break;
    case DDIR_WRITE:
        io_prep2_pwrite(iocb, f->fd, io_u->xfer_buf, io_u->xfer_buflen, (int64_t)io_u->offset);
        break;
    case DDIR_SYNC:
        io_prep2_fsync(iocb, f->fd);
        break;
    case DDIR_DATASYNC:
        io_prep2_fdatasync(iocb, f->fd);
        break;
    default:
        /* DDIR_SYNC_FILE_RANGE: the bytes written since the last sync. If none, a no-op: a length of 0 would mean the whole file. */
        if (f->last_write == f->first_write)
            io_prep2_nop(iocb);
        else
            io_prep2_sync_file_range(iocb, f->fd, (int64_t)f->first_write, (int64_t)(f->last_write - f->first_write),
                                     td->o.sync_file_range);
        break;
    }
    iocb2_set_pointer(iocb, io_u);
    if (ad->timing)
        iocb2_add_attr_within(iocb, ad->record_bytes, IOCB_ATTR_TIMING, 0, NULL, 0);
}

static enum fio_q_status fio_aio2_queue(struct thread_data *td, struct io_u *io_u)
{
    struct aio2_data *ad = td->io_ops_data;

    fio_ro_check(td, io_u);

    /* fio has at most iodepth requests out, so this also bounds those in flight and those collected. */
    if (ad->queued == td->o.iodepth)
        return FIO_Q_BUSY;

    switch (io_u->ddir) {
    case DDIR_READ:
    case DDIR_WRITE:
    case DDIR_SYNC:
    case DDIR_DATASYNC:
    case DDIR_SYNC_FILE_RANGE:
        break;
    case DDIR_TRIM:
        /* Requests that were queued before it must be submitted before it. */
        if (ad->queued)
            return FIO_Q_BUSY;
        do_io_u_trim(td, io_u);
        io_u_mark_submit(td, 1);
        io_u_mark_complete(td, 1);
        return FIO_Q_COMPLETED;
    default:
        io_u->error = EINVAL;
        return FIO_Q_COMPLETED;
    }

    pack(td, ad, io_u);
    ad->queued_io_us[ad->queued++] = io_u;
    return FIO_Q_QUEUED;
}

/* Tells fio that the first `nr` queued requests were submitted, and drops them from the buffer. */
static void submitted(struct thread_data *td, struct aio2_data *ad, unsigned int nr)
{
    if (fio_fill_issue_time(td)) {
        struct timespec now;

        fio_gettime(&now, NULL);
        for (unsigned int i = 0; i < nr; i++) {
            ad->queued_io_us[i]->issue_time = now;
            io_u_queued(td, ad->queued_io_us[i]);
        }
        /* Needed only if a log is replayed. */
        if (td->o.read_iolog_file)
            td->last_issue = now;
    }
    io_u_mark_submit(td, nr);

    /* Marks them, so that an event for another request, or a second one for the same, is noticed. */
    for (unsigned int i = 0; i < nr; i++)
        ad->queued_io_us[i]->engine_data = ad;
    ad->in_flight += nr;
    ad->queued -= nr;
    memmove(ad->records, ad->records + nr * ad->record_bytes, ad->queued * ad->record_bytes);
    memmove(ad->queued_io_us, ad->queued_io_us + nr, ad->queued * sizeof(*ad->queued_io_us));
}

/*
 * Submits all queued requests with one io_submit2(), and calls it again only for the rest. If the context accepts no more, the rest stays
 * queued: getevents() tries again when a request has completed.
 */
static int fio_aio2_commit(struct thread_data *td)
{
    struct aio2_data *ad = td->io_ops_data;

    while (ad->queued) {
        const uint64_t began = ad->submit ? now_ns() : 0;
        ssize_t bytes = io_submit2(ad->ctx, (const struct iocb2 *)(const void *)ad->records,
                                   ad->queued * ad->record_bytes);

        if (ad->submit)
            hist_add(ad->submit, now_ns() - began);
        if (bytes == -EAGAIN)
            return 0;
        if (bytes < 0)
            return (int)bytes;
        if (bytes == 0 || (size_t)bytes % ad->record_bytes || (size_t)bytes > ad->queued * ad->record_bytes) {
            log_err("aio2: io_submit2 accepted %zd of %zu bytes\n", bytes, ad->queued * ad->record_bytes);
            return -EIO;
        }
        ad->stalled_since = 0;
        submitted(td, ad, (unsigned int)((size_t)bytes / ad->record_bytes));
    }
    return 0;
}

/* ---- Collecting ------------------------------------------------------------------------------ */

static void account_timing(struct thread_data *td, struct aio2_data *ad, const struct io_u *io_u,
                           const struct io_event2 *event)
{
    const struct iocb_timing *times = io_event2_timing(event);
    struct timing *timing = &ad->timing[ddir_sync(io_u->ddir) ? 1 : 0];

    if (event->res < 0 || in_ramp_time(td))
        return;
    if (!times || times->submit_ns > times->start_ns || times->start_ns > times->end_ns) {
        ad->untimed++;
        return;
    }
    hist_add(&timing->queueing, times->start_ns - times->submit_ns);
    hist_add(&timing->device, times->end_ns - times->start_ns);
}

static int collected(struct thread_data *td, struct aio2_data *ad, const struct io_event2 *event)
{
    struct io_u *io_u = io_event2_pointer(event);
    struct completion *completion;

    if (!io_u || !ad->in_flight || io_u->engine_data != ad) {
        log_err("aio2: an event for no request in flight, data %#llx\n", (unsigned long long)event->data);
        return -EIO;
    }
    io_u->engine_data = NULL;
    ad->in_flight--;
    completion = &ad->done[(ad->done_head + ad->done_count++) & ad->done_mask];
    completion->io_u = io_u;
    completion->res = event->res;
    if (ad->timing)
        account_timing(td, ad, io_u, event);
    return 0;
}

/* Collects about `want` events by a call. Waits until there are `need`, or until the timeout. */
static int collect_by_call(struct thread_data *td, struct aio2_data *ad, unsigned int need, unsigned int want,
                           const struct timespec *timeout)
{
    const struct io_event2 *event;
    /* In events of the smallest size: a wait for more bytes than will ever come would never end. */
    ssize_t bytes = io_getevents2(ad->ctx, need * sizeof(*event), ad->events, want * ad->event_bytes, timeout);

    if (bytes == -EINTR)
        return 0;
    if (bytes < 0)
        return (int)bytes;
    io_event2_for_each (event, ad->events, bytes) {
        int ret = collected(td, ad, event);

        if (ret)
            return ret;
    }
    return 0;
}

/* Collects about `want` events without a call, except for events on the overflow list. */
static int collect_from_ring(struct thread_data *td, struct aio2_data *ad, unsigned int want)
{
    while (want--) {
        ssize_t bytes = io_ring2_reap(ad->ctx, ad->events, ad->event_bytes);
        int ret;

        if (bytes < 0)
            return (int)bytes;
        if (bytes == 0)
            return io_ring2_overflowed(ad->ctx) ? collect_by_call(td, ad, 0, want + 1, NULL) : 0;
        ret = collected(td, ad, ad->events);
        if (ret)
            return ret;
    }
    return 0;
}

/* The eventfd is emptied before the next look at the ring, so an event that arrives after that look makes it readable again. */
static int wait_for_eventfd(struct aio2_data *ad, const struct timespec *timeout)
{
    struct pollfd pollfd = { .fd = ad->eventfd, .events = POLLIN };
    uint64_t count;

    if (ppoll(&pollfd, 1, timeout, NULL) < 0)
        return errno == EINTR ? 0 : -errno;
    if (read(ad->eventfd, &count, sizeof(count)) < 0 && errno != EAGAIN && errno != EINTR)
        return -errno;
    return 0;
}

/* Nothing is in flight, and the queued requests were refused: no event will change that, only freed memory. */
static int wait_out_stall(struct aio2_data *ad)
{
    if (!ad->stalled_since)
        ad->stalled_since = now_ns();
    if (now_ns() - ad->stalled_since > STALLED_NS) {
        log_err("aio2: requests are refused although none is in flight, giving up\n");
        return -EAGAIN;
    }
    usleep(100);
    return 0;
}

static int fio_aio2_getevents(struct thread_data *td, unsigned int min, unsigned int max, const struct timespec *t)
{
    struct aio2_data *ad = td->io_ops_data;
    const struct aio2_options *o = td->eo;
    uint64_t deadline = t ? now_ns() + (uint64_t)t->tv_sec * 1000000000u + (uint64_t)t->tv_nsec : 0;
    int ret;

    /* fio is done with the events that it was given last time. */
    ad->done_head += ad->given;
    ad->done_count -= ad->given;
    ad->given = 0;

    for (;;) {
        struct timespec left = { 0, 0 };
        unsigned int want = max > ad->done_count ? max - ad->done_count : 0;
        unsigned int need = min > ad->done_count ? min - ad->done_count : 0;

        /* No more can come than are in flight, even if more are queued. */
        want = least(want, ad->in_flight);
        need = least(need, want);
        if (t) {
            uint64_t now = now_ns();
            uint64_t ns = deadline > now ? deadline - now : 0;

            left.tv_sec = (time_t)(ns / 1000000000u);
            left.tv_nsec = (long)(ns % 1000000000u);
        }

        if (!want)
            ret = 0;
        else if (o->userspace_reap)
            ret = collect_from_ring(td, ad, want);
        else
            ret = collect_by_call(td, ad, o->eventfd ? 0 : need, want, t ? &left : NULL);
        if (ret)
            return ret;
        if (ad->done_count >= min || (t && !left.tv_sec && !left.tv_nsec))
            break;

        ret = fio_aio2_commit(td);
        if (ret)
            return ret;
        need = least(min - ad->done_count, ad->in_flight);
        if (!need && !ad->queued)
            break;
        if (!need)
            ret = wait_out_stall(ad);
        else if (o->eventfd)
            ret = wait_for_eventfd(ad, t ? &left : NULL);
        else if (o->userspace_reap)
            ret = collect_by_call(td, ad, need, least(max - ad->done_count, ad->in_flight), t ? &left : NULL);
        if (ret)
            return ret;
    }

    ad->given = least(ad->done_count, max);
    return (int)ad->given;
}

static struct io_u *fio_aio2_event(struct thread_data *td, int event)
{
    struct aio2_data *ad = td->io_ops_data;
    const struct completion *completion = &ad->done[(ad->done_head + (unsigned int)event) & ad->done_mask];
    struct io_u *io_u = completion->io_u;

    io_u->error = 0;
    io_u->resid = 0;
    if (completion->res < 0)
        io_u->error = (unsigned int)-completion->res;
    else if (ddir_rw(io_u->ddir))
        io_u->resid = io_u->xfer_buflen - (unsigned long long)completion->res;

    /* fio checks the error only of a read or write, because engines used to do a sync synchronously. */
    if (io_u->error && ddir_sync(io_u->ddir))
        td_verror(td, io_u->error, io_ddir_name(io_u->ddir));
    return io_u;
}

/* ---- Cancelling ------------------------------------------------------------------------------ */

/*
 * If this returns 0, fio forgets the io_u and frees its memory, so 0 is returned only when the event is there. Other events that arrive
 * meanwhile are kept for getevents(), and so is the event of a request that has ended in another way; fio waits for requests that it could
 * not cancel.
 */
static int fio_aio2_cancel(struct thread_data *td, struct io_u *io_u)
{
    struct aio2_data *ad = td->io_ops_data;
    int ret;

    for (unsigned int i = 0; i < ad->queued; i++) {
        if (ad->queued_io_us[i] != io_u)
            continue;
        ad->queued--;
        memmove(ad->records + i * ad->record_bytes, ad->records + (i + 1) * ad->record_bytes,
                (ad->queued - i) * ad->record_bytes);
        memmove(ad->queued_io_us + i, ad->queued_io_us + i + 1, (ad->queued - i) * sizeof(*ad->queued_io_us));
        ad->cancelled++;
        return 0;
    }

    if (io_u->engine_data != ad)
        return -ENOENT;
    ret = io_cancel2(ad->ctx, io_arg2_pointer(io_u));
    if (ret)
        return ret;
    while (io_u->engine_data == ad) {
        ret = collect_by_call(td, ad, 1, 1, NULL);
        if (ret)
            return ret;
    }
    /* It is the last event collected, because the wait ended with it, unless one more event fitted. */
    for (unsigned int i = ad->done_count; i-- > ad->given;) {
        struct completion *completion = &ad->done[(ad->done_head + i) & ad->done_mask];

        if (completion->io_u != io_u)
            continue;
        if (completion->res != -ECANCELED)
            return -EALREADY;
        for (; i + 1 < ad->done_count; i++)
            ad->done[(ad->done_head + i) & ad->done_mask] = ad->done[(ad->done_head + i + 1) & ad->done_mask];
        ad->done_count--;
        ad->cancelled++;
        return 0;
    }
    return -EALREADY;
}

/* ---- The report ------------------------------------------------------------------------------ */

struct text {
    char buf[2048];
    size_t len;
};

static void __attribute__((format(printf, 2, 3))) add(struct text *text, const char *format, ...)
{
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(text->buf + text->len, sizeof(text->buf) - text->len, format, args);
    va_end(args);
    if (len > 0)
        text->len += (size_t)len;
    if (text->len >= sizeof(text->buf))
        text->len = sizeof(text->buf) - 1;
}

static void add_hist(struct text *text, const char *name, const struct hist *hist)
{
    add(text, "    %-8s (usec): mean=%.2f, p50=%.2f, p99=%.2f, p99.9=%.2f, max=%.2f\n", name, hist_mean(hist) / 1000,
        (double)hist_percentile(hist, 50) / 1000, (double)hist_percentile(hist, 99) / 1000,
        (double)hist_percentile(hist, 99.9) / 1000, (double)hist->max / 1000);
}

static void add_timing(struct text *text, const char *job, const char *what, const struct timing *timing)
{
    double total = (double)timing->queueing.sum + (double)timing->device.sum;
    double queueing = total > 0 ? 100.0 * (double)timing->queueing.sum / total : 0.0;

    if (!timing->device.count)
        return;
    add(text, "  aio2 timing: %s: %s: requests=%llu, queueing=%.1f%%, device=%.1f%%\n", job, what,
        (unsigned long long)timing->device.count, queueing, 100.0 - queueing);
    add_hist(text, "queueing", &timing->queueing);
    add_hist(text, "device", &timing->device);
}

/*
 * A job in a process of its own ends by _exit(), which loses the content of stdio's buffer; flushing the buffer would print again what
 * fio's main process had left in it. So this writes directly.
 */
static void print(struct thread_data *td, const struct text *text)
{
    FILE *file = output_format & FIO_OUTPUT_NORMAL ? f_out : f_err;

    if (!text->len)
        return;
    if (is_backend || log_syslog) {
        log_info("%s", text->buf);
        return;
    }
    if (td->o.use_thread) {
        fputs(text->buf, file);
        fflush(file);
        return;
    }
    for (size_t done = 0; done < text->len;) {
        ssize_t ret = write(fileno(file), text->buf + done, text->len - done);

        if (ret < 0 && errno != EINTR)
            return;
        if (ret > 0)
            done += (size_t)ret;
    }
}

static void report(struct thread_data *td, const struct aio2_data *ad)
{
    const char *job = td->o.name ? td->o.name : "job";
    struct text text = { .len = 0 };

    if (ad->cancelled)
        add(&text, "  aio2: %s: cancelled=%u\n", job, ad->cancelled);
    if (ad->overflowed)
        add(&text, "  aio2: %s: overflowed=%llu\n", job, (unsigned long long)ad->overflowed);
    if (ad->timing) {
        add_timing(&text, job, "read/write", &ad->timing[0]);
        add_timing(&text, job, "sync", &ad->timing[1]);
    }
    if (ad->submit) {
        add(&text, "  aio2 io_submit2: %s: calls=%llu\n", job, (unsigned long long)ad->submit->count);
        add_hist(&text, "submit", ad->submit);
    }
    if (ad->untimed)
        add(&text, "  aio2: %s: %u requests came back without their times\n", job, ad->untimed);
    print(td, &text);
}

/* ---- Beginning and end ----------------------------------------------------------------------- */

static void fio_aio2_cleanup(struct thread_data *td)
{
    struct aio2_data *ad = td->io_ops_data;

    if (!ad)
        return;
    if (ad->ctx) {
        int ret;

        ad->overflowed = __atomic_load_n(&ad->ctx->overflowed, __ATOMIC_RELAXED);
        ret = io_destroy2(ad->ctx);
        if (ret)
            log_err("aio2: io_destroy2: %s\n", strerror(-ret));
        report(td, ad);
    }
    if (ad->eventfd >= 0)
        close(ad->eventfd);
    free(ad->submit);
    free(ad->timing);
    free(ad->done);
    free(ad->events);
    free(ad->queued_io_us);
    free(ad->records);
    free(ad);
    td->io_ops_data = NULL;
}

static int fio_aio2_init(struct thread_data *td)
{
    const struct aio2_options *o = td->eo;
    struct io_setup2_params params = { .bytes = sizeof(params), .eventfd = -1 };
    unsigned int entries = td->o.iodepth;
    struct iocb2_room like_all;
    struct aio2_data *ad;
    int ret;

    /* fio checks only a version number, which does not depend on how either side was configured. */
    if (td->io_ops != &ioengine) {
        log_err("aio2: the engine was built for another fio, or for one configured otherwise\n");
        return 1;
    }

    ad = calloc(1, sizeof(*ad));
    if (!ad) {
        td_verror(td, ENOMEM, "aio2 init");
        return 1;
    }
    /* From here on, fio calls cleanup() if this fails. */
    td->io_ops_data = ad;
    ad->eventfd = -1;
    io_prep2_nop(&like_all.iocb);
    if (o->timing)
        iocb2_add_timing(&like_all, 0);
    ad->record_bytes = like_all.iocb.bytes;
    ad->event_bytes = IO_EVENT2_ROOM(o->timing ? IO_FEAT2_ATTR_TIMING : 0);
    ad->done_mask = 1;
    while (ad->done_mask < entries)
        ad->done_mask = 2 * ad->done_mask + 1;
    ad->records = calloc(entries, ad->record_bytes);
    ad->queued_io_us = calloc(entries, sizeof(*ad->queued_io_us));
    ad->events = calloc(entries, ad->event_bytes);
    ad->done = calloc((size_t)ad->done_mask + 1, sizeof(*ad->done));
    if (o->timing)
        ad->timing = calloc(2, sizeof(*ad->timing));
    if (o->submit_latency)
        ad->submit = calloc(1, sizeof(*ad->submit));
    if (!ad->records || !ad->queued_io_us || !ad->events || !ad->done || (o->timing && !ad->timing) || (o->submit_latency && !ad->submit)) {
        td_verror(td, ENOMEM, "aio2 init");
        return 1;
    }

    if (o->eventfd) {
        ad->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (ad->eventfd < 0) {
            td_verror(td, errno, "eventfd");
            return 1;
        }
    }
    params.ring_bytes = o->ring_bytes;
    params.workers = o->workers;
    /* The library's default is below fio's greatest depths. */
    params.max_requests = o->max_requests || entries <= 65536 ? o->max_requests : entries;
    params.eventfd = ad->eventfd;
    ret = io_setup2(IO_SETUP2_VERSION, &params, &ad->ctx);
    if (ret < 0) {
        td_verror(td, -ret, "io_setup2");
        return 1;
    }
    if (o->timing && !(params.features & IO_FEAT2_ATTR_TIMING))
        log_err("aio2: this library does not time requests\n");
    return 0;
}

struct ioengine_ops ioengine = {
    .name = "aio2",
    .version = FIO_IOOPS_VERSION,
    /* Offloaded submits come from fio's own threads, which sometimes hang with asynchronous engines. */
    .flags = FIO_ASYNCIO_SYNC_TRIM | FIO_ASYNCIO_SETS_ISSUE_TIME | FIO_NO_OFFLOAD,
    .init = fio_aio2_init,
    .queue = fio_aio2_queue,
    .commit = fio_aio2_commit,
    .getevents = fio_aio2_getevents,
    .event = fio_aio2_event,
    .cancel = fio_aio2_cancel,
    .cleanup = fio_aio2_cleanup,
    .open_file = generic_open_file,
    .close_file = generic_close_file,
    .get_file_size = generic_get_file_size,
    .options = options,
    .option_struct_size = sizeof(struct aio2_options),
};
