/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Copies a directory tree: copytree FROM TO. TO must not exist.
 *
 * Every system call that touches a file system is a request: directories are read, files opened, copied, given their owner,
 * mode and times, and synced, many at a time, while this one thread only decides the next step. Each file or
 * directory is a job, and each job a row of steps: a step submits one request, and its event leads to the next.
 *
 * Not kept: hard links (they become files), extended attributes, holes. Sockets are left out.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <aio2.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define JOBS_MAX 64 /* entries of directories at once; the directories that they are in are open besides */
#define CHUNK (1 << 20)
#define LIST_BYTES (32 << 10)

enum step {
    STAT, OPEN_SOURCE, OPEN_COPY, COPY, READ, WRITE, READ_LINK, MAKE_LINK, MAKE_NODE, MAKE_DIR, OPEN_DIR, LIST,
    OWNER, MODE, TIMES, SYNC, CLOSE_SOURCE, CLOSE_COPY,
};

/* As getdents64(2) gives them. */
struct entry {
    uint64_t ino;
    int64_t off;
    unsigned short bytes;
    unsigned char type;
    char name[];
};

struct job {
    struct job *parent;
    struct job *next;    /* among those that wait for their turn */
    enum step step;
    int source, copy;    /* descriptors, -1 for none */
    const char *from, *to; /* paths, relative to the parent's descriptors */
    size_t children;     /* a directory's, that are not done */
    size_t have;         /* bytes in `buffer` that are to be written */
    int64_t in, out;     /* positions */
    struct statx stat;
    struct timespec times[2];
    char *buffer;        /* a directory's entries, a link's target, a file's bytes */
    char name[];
};

static io_context2_t ctx;
static struct job *waiting; /* the last come first: deep rather than wide, so that few directories are open */
static size_t active;       /* jobs that have begun, directories whose children are worked on not counted */
static size_t in_flight;
static struct iocb2 batch[256];
static struct job *jobs[256]; /* whose they are */
static size_t batched;
static unsigned long files, failures;

static void *allocate(size_t bytes)
{
    void *memory = calloc(1, bytes);

    if (memory == NULL) {
        perror("copytree");
        exit(2);
    }
    return memory;
}

static void flush(void)
{
    size_t bytes = batched * sizeof(batch[0]);

    for (size_t i = 0; i < batched; i++)
        iocb2_set_pointer(&batch[i], jobs[i]);
    if (bytes != 0 && io_submit2(ctx, batch, bytes) != (ssize_t)bytes) {
        fprintf(stderr, "copytree: cannot submit\n");
        exit(2);
    }
    batched = 0;
}

/* The place of a job's next request, which io_prep2_*() fills; its event ends this step. */
static struct iocb2 *request(struct job *job, enum step step)
{
    if (batched == sizeof(batch) / sizeof(batch[0]))
        flush();
    job->step = step;
    jobs[batched] = job;
    in_flight++;
    return &batch[batched++];
}

static int source_dir(const struct job *job)
{
    return job->parent != NULL ? job->parent->source : AT_FDCWD;
}

static int copy_dir(const struct job *job)
{
    return job->parent != NULL ? job->parent->copy : AT_FDCWD;
}

static void begin(struct job *job)
{
    active++;
    io_prep2_statx(request(job, STAT), source_dir(job), job->from, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &job->stat);
}

static void add(struct job *parent, const char *name)
{
    size_t bytes = strlen(name) + 1;
    struct job *job = allocate(sizeof(*job) + bytes);

    memcpy(job->name, name, bytes);
    job->parent = parent;
    job->from = job->to = job->name;
    job->source = job->copy = -1;
    job->next = waiting;
    waiting = job;
    parent->children++;
}

/* The owner, which not everybody may give away, comes first: it takes bits off the mode. */
static void keep_owner(struct job *job)
{
    if (job->copy >= 0)
        io_prep2_syscall(request(job, OWNER), SYS_fchown, io_arg2_int(job->copy), job->stat.stx_uid,
                         job->stat.stx_gid, 0, 0, 0);
    else
        io_prep2_syscall(request(job, OWNER), SYS_fchownat, io_arg2_int(copy_dir(job)), io_arg2_pointer(job->to),
                         job->stat.stx_uid, job->stat.stx_gid, AT_SYMLINK_NOFOLLOW, 0);
}

static void keep_times(struct job *job)
{
    job->times[0].tv_sec = job->stat.stx_atime.tv_sec;
    job->times[0].tv_nsec = job->stat.stx_atime.tv_nsec;
    job->times[1].tv_sec = job->stat.stx_mtime.tv_sec;
    job->times[1].tv_nsec = job->stat.stx_mtime.tv_nsec;
    if (job->copy >= 0)
        io_prep2_syscall(request(job, TIMES), SYS_utimensat, io_arg2_int(job->copy), 0, io_arg2_pointer(job->times),
                         0, 0, 0);
    else
        io_prep2_syscall(request(job, TIMES), SYS_utimensat, io_arg2_int(copy_dir(job)), io_arg2_pointer(job->to),
                         io_arg2_pointer(job->times), AT_SYMLINK_NOFOLLOW, 0, 0);
}

static void finish(struct job *job)
{
    struct job *parent = job->parent;

    if (job->source >= 0) {
        io_prep2_close(request(job, CLOSE_SOURCE), job->source);
        return;
    }
    if (job->copy >= 0) {
        io_prep2_close(request(job, CLOSE_COPY), job->copy);
        return;
    }
    active--;
    free(job->buffer);
    free(job);
    /* The last of a directory's entries: now its times can be set, which making entries has changed. */
    if (parent != NULL && --parent->children == 0) {
        active++;
        keep_owner(parent);
    }
}

static void fail(struct job *job, const char *what, int64_t res)
{
    fprintf(stderr, "copytree: %s: %s: %s\n", job->from, what, strerror((int)-res));
    failures++;
    finish(job);
}

/* The step after STAT. */
static void by_type(struct job *job)
{
    files++;
    switch (job->stat.stx_mode & S_IFMT) {
    case S_IFDIR:
        io_prep2_openat(request(job, OPEN_SOURCE), source_dir(job), job->from,
                        O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
        break;
    case S_IFREG:
        io_prep2_openat(request(job, OPEN_SOURCE), source_dir(job), job->from, O_RDONLY | O_NOFOLLOW | O_CLOEXEC, 0);
        break;
    case S_IFLNK:
        job->buffer = allocate(PATH_MAX);
        io_prep2_syscall(request(job, READ_LINK), SYS_readlinkat, io_arg2_int(source_dir(job)),
                         io_arg2_pointer(job->from), io_arg2_pointer(job->buffer), PATH_MAX - 1, 0, 0);
        break;
    case S_IFSOCK:
        fprintf(stderr, "copytree: %s: a socket, left out\n", job->from);
        finish(job);
        break;
    default:
        io_prep2_syscall(request(job, MAKE_NODE), SYS_mknodat, io_arg2_int(copy_dir(job)), io_arg2_pointer(job->to),
                         job->stat.stx_mode, (uint64_t)makedev(job->stat.stx_rdev_major, job->stat.stx_rdev_minor), 0,
                         0);
    }
}

static void copy_more(struct job *job)
{
    io_prep2_copy_file_range(request(job, COPY), job->source, &job->in, job->copy, &job->out, CHUNK, 0);
}

static void list(struct job *job)
{
    io_prep2_syscall(request(job, LIST), SYS_getdents64, io_arg2_int(job->source), io_arg2_pointer(job->buffer),
                     LIST_BYTES, 0, 0, 0);
}

static void add_entries(struct job *job, int64_t bytes)
{
    for (int64_t at = 0; at < bytes;) {
        const struct entry *entry = (const struct entry *)(const void *)(job->buffer + at);

        if (strcmp(entry->name, ".") != 0 && strcmp(entry->name, "..") != 0)
            add(job, entry->name);
        at += entry->bytes;
    }
}

/* A request of the job has ended with `res`: the next step. */
static void go_on(struct job *job, int64_t res)
{
    switch (job->step) {
    case STAT:
        if (res < 0)
            fail(job, "statx", res);
        else
            by_type(job);
        break;
    case OPEN_SOURCE:
        if (res < 0) {
            fail(job, "open", res);
            break;
        }
        job->source = (int)res;
        if (S_ISDIR(job->stat.stx_mode))
            io_prep2_mkdirat(request(job, MAKE_DIR), copy_dir(job), job->to, 0700);
        else
            io_prep2_openat(request(job, OPEN_COPY), copy_dir(job), job->to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
                            0600);
        break;
    case OPEN_COPY:
        if (res < 0) {
            fail(job, "create", res);
            break;
        }
        job->copy = (int)res;
        copy_more(job);
        break;
    case COPY:
        if (res > 0) {
            copy_more(job);
        } else if (res == 0 && job->in >= (int64_t)job->stat.stx_size) {
            keep_owner(job);
        } else if (res == 0 || res == -EXDEV || res == -EINVAL || res == -EOPNOTSUPP || res == -ENOSYS) {
            /* Not between these files, or, as /proc does, only seemingly: by hand. */
            job->buffer = allocate(CHUNK);
            io_prep2_pread(request(job, READ), job->source, job->buffer, CHUNK, job->in);
        } else {
            fail(job, "copy_file_range", res);
        }
        break;
    case READ:
        if (res < 0) {
            fail(job, "read", res);
        } else if (res == 0) {
            keep_owner(job);
        } else {
            job->in += res;
            job->have = (size_t)res;
            io_prep2_pwrite(request(job, WRITE), job->copy, job->buffer, job->have, job->out);
        }
        break;
    case WRITE:
        if (res <= 0) {
            fail(job, "write", res);
            break;
        }
        job->out += res;
        job->have -= (size_t)res;
        if (job->have != 0) {
            memmove(job->buffer, job->buffer + res, job->have);
            io_prep2_pwrite(request(job, WRITE), job->copy, job->buffer, job->have, job->out);
        } else {
            io_prep2_pread(request(job, READ), job->source, job->buffer, CHUNK, job->in);
        }
        break;
    case READ_LINK:
        if (res < 0)
            fail(job, "readlink", res);
        else
            io_prep2_syscall(request(job, MAKE_LINK), SYS_symlinkat, io_arg2_pointer(job->buffer),
                             io_arg2_int(copy_dir(job)), io_arg2_pointer(job->to), 0, 0, 0);
        break;
    case MAKE_LINK:
    case MAKE_NODE:
        if (res < 0)
            fail(job, "create", res);
        else
            keep_owner(job);
        break;
    case MAKE_DIR:
        if (res < 0)
            fail(job, "mkdir", res);
        else
            io_prep2_openat(request(job, OPEN_DIR), copy_dir(job), job->to, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
        break;
    case OPEN_DIR:
        if (res < 0) {
            fail(job, "open", res);
            break;
        }
        job->copy = (int)res;
        job->buffer = allocate(LIST_BYTES);
        job->children = 1; /* itself, until it has been read */
        list(job);
        break;
    case LIST:
        if (res > 0) {
            add_entries(job, res);
            list(job);
            break;
        }
        if (res < 0) {
            fprintf(stderr, "copytree: %s: %s\n", job->from, strerror((int)-res));
            failures++;
        }
        if (--job->children == 0)
            keep_owner(job);
        else
            active--; /* its entries come first */
        break;
    case OWNER:
        if (res < 0 && res != -EPERM) {
            fail(job, "chown", res);
        } else if (S_ISLNK(job->stat.stx_mode)) {
            keep_times(job); /* a link has no mode of its own */
        } else if (job->copy >= 0) {
            io_prep2_syscall(request(job, MODE), SYS_fchmod, io_arg2_int(job->copy), job->stat.stx_mode & 07777, 0, 0,
                             0, 0);
        } else {
            io_prep2_syscall(request(job, MODE), SYS_fchmodat, io_arg2_int(copy_dir(job)), io_arg2_pointer(job->to),
                             job->stat.stx_mode & 07777, 0, 0, 0);
        }
        break;
    case MODE:
        if (res < 0)
            fail(job, "chmod", res);
        else
            keep_times(job);
        break;
    case TIMES:
        if (res < 0)
            fail(job, "utimensat", res);
        else if (job->copy >= 0)
            io_prep2_fsync(request(job, SYNC), job->copy);
        else
            finish(job);
        break;
    case SYNC:
        if (res < 0)
            fail(job, "fsync", res);
        else
            finish(job);
        break;
    case CLOSE_SOURCE:
        job->source = -1;
        finish(job);
        break;
    case CLOSE_COPY:
        job->copy = -1;
        if (res < 0)
            failures++;
        finish(job);
        break;
    }
}

int main(int argc, char **argv)
{
    static struct io_event2 events[256];
    struct job *top;
    int ret;

    if (argc != 3) {
        fprintf(stderr, "usage: copytree FROM TO\n");
        return 2;
    }
    ret = io_setup2(IO_SETUP2_VERSION, NULL, &ctx);
    if (ret < 0) {
        fprintf(stderr, "copytree: io_setup2: %s\n", strerror(-ret));
        return 2;
    }
    top = allocate(sizeof(*top));
    top->from = argv[1];
    top->to = argv[2];
    top->source = top->copy = -1;
    begin(top);
    while (in_flight != 0) {
        const struct io_event2 *event;
        ssize_t bytes;

        flush();
        bytes = io_getevents2(ctx, sizeof(events[0]), events, sizeof(events), NULL);
        if (bytes < 0) {
            fprintf(stderr, "copytree: io_getevents2: %s\n", strerror((int)-bytes));
            return 2;
        }
        io_event2_for_each (event, events, bytes) {
            in_flight--;
            go_on(io_event2_pointer(event), event->res);
        }
        while (waiting != NULL && active < JOBS_MAX) {
            struct job *job = waiting;

            waiting = job->next;
            begin(job);
        }
    }
    io_destroy2(ctx);
    printf("%lu files and directories, %lu failures\n", files, failures);
    return failures != 0;
}
