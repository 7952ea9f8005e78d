/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * rights DIRECTORY: a request is carried out with the rights of the thread that submits it: a write of a thread without CAP_FSETID takes the
 * set-user-ID bit away, one of root leaves it. Threads change their rights in each way that changes those of the calling thread alone, and
 * get them back; a child does so, too; and the library's threads get the rights of a thread that has few.
 */
#include <fcntl.h>
#include <libaio.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "must.h"
#include "submit.h"

enum { BLOCK = 4096, ROUNDS = 5, USER = 1000 };

static const char path[] = "rights";
static struct __user_cap_data_struct all[2];

/* Whether a write of this thread leaves the set-user-ID bit. */
static bool leaves_bit(io_context_t ctx, int flags)
{
    static __thread char block[BLOCK] __attribute__((aligned(BLOCK)));
    const int fd = open(path, O_RDWR | flags);
    struct iocb cb, *one = &cb;
    struct io_event event;
    struct stat st;

    MUST(fd >= 0);
    io_prep_pwrite(&cb, fd, block, BLOCK, 0);
    submit_all(ctx, 1, &one);
    MUST(io_getevents(ctx, 1, 1, &event, NULL) == 1 && event.res == BLOCK);
    MUST(fstat(fd, &st) == 0 && close(fd) == 0);
    return (st.st_mode & S_ISUID) != 0;
}

static void set_bit(void)
{
    MUST(chmod(path, 04777) == 0);
}

static void capabilities(bool has)
{
    struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct data[2] = { all[0], all[1] };

    if (!has)
        data[0].effective = data[1].effective = 0;
    MUST(syscall(SYS_capset, &header, data) == 0);
}

static void file_user(bool has)
{
    setfsuid(has ? 0 : USER);
}

static void effective_user(bool has)
{
    MUST(syscall(SYS_setresuid, -1, has ? 0 : USER, -1) == 0);
}

static void (*const changes[])(bool has) = { capabilities, file_user, effective_user };

/* Each way, there and back. */
static void change_all(io_context_t ctx)
{
    for (int round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++)
            for (int direct = 0; direct <= O_DIRECT; direct += O_DIRECT) {
                set_bit();
                MUST(leaves_bit(ctx, direct));
                changes[i](false);
                MUST(!leaves_bit(ctx, direct));
                changes[i](true);
                set_bit();
                MUST(leaves_bit(ctx, direct));
            }
}

static void *thread(void *ctx)
{
    change_all(ctx);
    return NULL;
}

/* Ends with 0 if all is well. */
static void in_child(void (*run)(void))
{
    int status;
    const pid_t child = fork();

    if (child == 0) {
        run();
        _exit(0);
    }
    MUST(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

static void changes_first(void)
{
    io_context_t ctx = NULL;

    file_user(false);
    MUST(io_setup(8, &ctx) == 0);
    MUST(!leaves_bit(ctx, 0));
    file_user(true);
    set_bit();
    MUST(leaves_bit(ctx, 0));
    change_all(ctx);
    MUST(io_destroy(ctx) == 0);
}

static void changes_later(void)
{
    io_context_t ctx = NULL;

    MUST(io_setup(8, &ctx) == 0);
    change_all(ctx);
    MUST(io_destroy(ctx) == 0);
}

int main(int argc, char **argv)
{
    struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
    io_context_t ctx = NULL, other = NULL;
    pthread_t beside;

    MUST(argc >= 2);
    if (geteuid() != 0) {
        fprintf(stderr, "SKIPPED: needs root\n");
        return 77;
    }
    /* The user cannot get there by the directories above it. */
    MUST(chdir(argv[1]) == 0 && chmod(".", 0777) == 0);
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0777);
    MUST(fd >= 0 && ftruncate(fd, BLOCK) == 0 && close(fd) == 0);
    MUST(chown(path, USER, USER) == 0);
    set_bit();
    MUST(syscall(SYS_capget, &header, all) == 0);

    in_child(changes_first);
    in_child(changes_later);
    MUST(io_setup(8, &ctx) == 0 && io_setup(8, &other) == 0);
    change_all(ctx);
    /* In a thread, and then in this one, whose rights stay meanwhile. */
    MUST(pthread_create(&beside, NULL, thread, other) == 0);
    MUST(pthread_join(beside, NULL) == 0);
    set_bit();
    MUST(leaves_bit(ctx, 0));
    in_child(changes_later);
    change_all(ctx);
    MUST(io_destroy(ctx) == 0 && io_destroy(other) == 0);
    MUST(unlink(path) == 0);
    return 0;
}
