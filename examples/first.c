/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Reads the beginning of a file, and says how long the request waited and how long it ran. */
#include <aio2.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

static ssize_t check(const char *what, ssize_t ret)
{
    if (ret < 0) {
        fprintf(stderr, "%s: %s\n", what, strerror((int)-ret)); /* the calls leave errno alone */
        exit(1);
    }
    return ret;
}

int main(int argc, char **argv)
{
    static char buf[4096];
    union {
        struct iocb2 iocb;
        char room[sizeof(struct iocb2) + sizeof(struct iocb_attr)];
    } request;
    union {
        struct io_event2 event;
        char room[256];
    } answer;
    io_context2_t ctx = NULL;
    const char *path = argc > 1 ? argv[1] : argv[0];
    int fd = open(path, O_RDONLY);

    if (fd < 0) {
        perror(path);
        return 1;
    }
    check("io_setup2", io_setup2(IO_SETUP2_VERSION, NULL, &ctx));

    io_prep2_pread(&request.iocb, fd, buf, sizeof(buf), 0);
    request.iocb.data = 42; /* given back in the event */
    iocb2_add_attr(&request.iocb, IOCB_ATTR_TIMING, 0, 0, NULL, 0);
    check("io_submit2", io_submit2(ctx, &request.iocb, request.iocb.bytes));
    check("io_getevents2", io_getevents2(ctx, 1, &answer.event, sizeof(answer), NULL));

    check("pread", answer.event.res); /* what the system call returned, apart from what our calls did */
    printf("request %llu read %lld bytes of %s\n", (unsigned long long)answer.event.data,
           (long long)answer.event.res, path);
    struct iocb_attr_ret *ret = io_event2_attr(&answer.event, IOCB_ATTR_TIMING);
    if (ret && ret->ret == 0) {
        struct iocb_timing *t = (struct iocb_timing *)(ret + 1);
        printf("waited %llu ns, ran %llu ns\n", (unsigned long long)(t->start_ns - t->submit_ns),
               (unsigned long long)(t->end_ns - t->start_ns));
    }
    return -io_destroy2(ctx);
}
