/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Reads the beginnings of at most 16 files, all at once, and says of each how long it waited and how long it ran. */
#include <aio2.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define FILES 16

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
    static char buf[FILES][4096];
    struct io_event2_room room[8]; /* for events, which lie in it one behind another */
    io_context2_t ctx = NULL;
    int in_flight = 0, failed = 0;

    check("io_setup2", io_setup2(IO_SETUP2_VERSION, NULL, &ctx));
    for (int i = 0; i < FILES && i < argc - 1; i++) {
        struct iocb2_room request; /* copied by the submit */
        int fd = open(argv[i + 1], O_RDONLY);

        check(argv[i + 1], fd < 0 ? -errno : 0);
        io_prep2_pread(&request.iocb, fd, buf[i], sizeof(buf[i]), 0);
        request.iocb.data = (uint64_t)i; /* given back in the event */
        iocb2_add_timing(&request, 0);
        check("io_submit2", io_submit2(ctx, &request.iocb, request.iocb.bytes));
        in_flight++;
    }
    while (in_flight > 0) { /* events come in any order, and several with one call */
        const struct io_event2 *event;
        ssize_t bytes = check("io_getevents2", io_getevents2(ctx, 1, &room[0].event, sizeof(room), NULL));

        io_event2_for_each (event, room, bytes) {
            const struct iocb_timing *t = io_event2_timing(event);
            const char *path = argv[event->data + 1];

            in_flight--;
            if (event->res < 0) { /* what the read returned, apart from what our calls did */
                fprintf(stderr, "%s: %s\n", path, strerror((int)-event->res));
                failed = 1;
            } else if (t != NULL) {
                printf("%s: read %" PRId64 " bytes, waited %" PRIu64 " ns, ran %" PRIu64 " ns\n", path, event->res,
                       t->start_ns - t->submit_ns, t->end_ns - t->start_ns);
            }
        }
    }
    check("io_destroy2", io_destroy2(ctx));
    return failed;
}
