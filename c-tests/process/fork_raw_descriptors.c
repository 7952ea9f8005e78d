/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A child made by the bare system call closes what it inherited, as daemons do, opens descriptors of its own,
 * and forks by the C library: the library does not take the new descriptors, which have the numbers of the
 * old, for its own. The same for a child made by fork() itself.
 */
#include "test.h"
#include "stress.h"

/* The numbers that the library's descriptors may have. */
#define NUMBERS 64

static void __attribute__((noreturn)) child(void)
{
    pid_t pid;
    int status = 0;

    alarm(3 * PATIENCE_S);
    for (int fd = 3; fd < NUMBERS; fd++)
        close(fd);
    for (int fd = 3; fd < NUMBERS; fd++) {
        if (open("/dev/null", O_RDONLY) != fd)
            _exit(10);
    }
    pid = fork();
    if (pid == 0) {
        for (int fd = 3; fd < NUMBERS; fd++) {
            if (fcntl(fd, F_GETFD) < 0)
                _exit(11);
        }
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        _exit(12);
    for (int fd = 3; fd < NUMBERS; fd++) {
        if (fcntl(fd, F_GETFD) < 0)
            _exit(13);
    }
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 14);
}

int main(void)
{
    io_context2_t ctxs[8];
    union event_room room;

    /* Not used before the forks: with one thread, the child may use the C library. */
    for (int i = 0; i < 8; i++)
        ctxs[i] = setup2(4096, 0, 0);
    for (int raw = 0; raw < 2; raw++) {
        pid_t pid = raw ? (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : fork();
        int status = 0;

        CHECK(pid >= 0);
        if (pid == 0)
            child();
        CHECK_EQ(waitpid(pid, &status, 0), pid);
        CHECK(WIFEXITED(status));
        if (WEXITSTATUS(status) == 11)
            FAIL("%s: a fork closed descriptors of the child's own", raw ? "clone" : "fork");
        CHECK_EQ(WEXITSTATUS(status), 0);
    }
    for (int i = 0; i < 8; i++) {
        submit_nops(ctxs[i], 1, 1);
        get_one(ctxs[i], &room);
        CHECK_EQ(CALL(io_destroy2(ctxs[i])), 0);
    }
    return 0;
}
