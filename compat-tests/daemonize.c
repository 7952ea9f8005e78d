/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Becomes a daemon as daemons do (fork, setsid, fork, descriptors closed), then writes with libaio and ends. */
#include <fcntl.h>
#include <libaio.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    static char buf[4096];
    char path[4096];
    io_context_t ctx = NULL;
    struct iocb cb, *list = &cb;
    struct io_event ev;
    int fd;

    if (argc < 2)
        return 1;
    /* The parent used it, too. */
    if (io_setup(8, &ctx) != 0)
        return 1;
    if (fork() != 0)
        return 0;
    setsid();
    if (fork() != 0)
        _exit(0);
    for (fd = 0; fd < 1024; fd++)
        close(fd);
    /* And the title that ps shows is written over the environment, which is empty from here on. */
    for (char **string = environ; *string != NULL; string++)
        memset(*string, 'x', strlen(*string));
    environ = NULL;
    memset(argv[0], 'x', strlen(argv[0]));
    for (fd = 0; fd < 3; fd++)
        if (open("/dev/null", O_RDWR) != fd)
            _exit(1);
    if (chdir("/") != 0)
        _exit(1);
    snprintf(path, sizeof(path), "%s/daemon-target", argv[1]);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    ctx = NULL;
    if (fd < 0 || io_setup(8, &ctx) != 0)
        _exit(1);
    for (int i = 0; i < 20; i++) {
        io_prep_pwrite(&cb, fd, buf, sizeof(buf), (long long)i * (long long)sizeof(buf));
        if (io_submit(ctx, 1, &list) != 1 || io_getevents(ctx, 1, 1, &ev, NULL) != 1)
            _exit(1);
    }
    snprintf(path, sizeof(path), "%s/daemon-done", argv[1]);
    fd = open(path, O_RDWR | O_CREAT, 0600);
    prctl(PR_SET_NAME, "another");
    return 0;
}
