/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Sends back all bytes that it receives, to any number of clients: echo [-s] [-n CLIENTS] [PORT]. It listens on 127.0.0.1, prints the
 * port, and with -n ends when CLIENTS clients have gone. With -s it prints each second how many there are.
 *
 * One thread, and one request for each connection. An idle connection costs memory, and no thread. So the request that sleeps for a second
 * does not wait for one.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <aio2.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum step { ACCEPT, RECEIVE, SEND, SLEEP };

struct client {
    enum step step;
    int fd;
    size_t bytes;
    char text[512];
};

static io_context2_t ctx;
static long clients;
static struct client listener;
/* There is no room for another client before one has gone. */
static int is_full;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void request(struct client *client, enum step step)
{
    static const struct timespec second = { .tv_sec = 1 };
    struct iocb2 iocb;

    client->step = step;
    if (step == ACCEPT)
        io_prep2_accept4(&iocb, client->fd, NULL, NULL, SOCK_CLOEXEC);
    else if (step == RECEIVE)
        io_prep2_recv(&iocb, client->fd, client->text, sizeof(client->text), 0);
    else if (step == SEND)
        io_prep2_send(&iocb, client->fd, client->text, client->bytes, MSG_NOSIGNAL);
    else
        io_prep2_clock_nanosleep(&iocb, CLOCK_MONOTONIC, 0, &second, NULL);
    iocb2_set_pointer(&iocb, client);
    if (io_submit2(ctx, &iocb, sizeof(iocb)) != sizeof(iocb)) {
        fprintf(stderr, "echo: there is no room for a request\n");
        exit(1);
    }
}

/* Its request has ended. False: it has gone. */
static int go_on(struct client *client, int64_t res)
{
    if (client->step == ACCEPT) {
        struct client *next = res < 0 ? NULL : calloc(1, sizeof(*next));

        if (next != NULL) {
            next->fd = (int)res;
            clients++;
            request(next, RECEIVE);
        } else if (res >= 0) {
            close((int)res);
        }
        is_full = clients > 0 && (res == -EMFILE || res == -ENFILE || res == -ENOBUFS || res == -ENOMEM);
        if (!is_full)
            request(client, ACCEPT);
        return 1;
    }
    if (client->step == SLEEP) {
        printf("clients %ld\n", clients);
        fflush(stdout);
        request(client, SLEEP);
        return 1;
    }
    if (res <= 0) {
        close(client->fd);
        free(client);
        clients--;
        if (is_full) {
            is_full = 0;
            request(&listener, ACCEPT);
        }
        return 0;
    }
    client->bytes = (size_t)res;
    request(client, client->step == RECEIVE ? SEND : RECEIVE);
    return 1;
}

static int listen_on(long port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    socklen_t length = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, length) != 0 || listen(fd, 512) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) != 0)
        fail("echo: listen");
    printf("port %d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv)
{
    static struct client sleeper;
    static struct io_event2_room room[8];
    struct rlimit files;
    long left = -1;
    int says = 0, ret;

    for (int option; (option = getopt(argc, argv, "n:s")) != -1;) {
        if (option == 'n') {
            left = atol(optarg);
        } else if (option == 's') {
            says = 1;
        } else {
            fprintf(stderr, "usage: echo [-s] [-n CLIENTS] [PORT]\n");
            return 2;
        }
    }
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    listener.fd = listen_on(argv[optind] == NULL ? 0 : atol(argv[optind]));
    ret = io_setup2(IO_SETUP2_VERSION, NULL, &ctx);
    if (ret != 0) {
        fprintf(stderr, "echo: io_setup2: %s\n", strerror(-ret));
        return 1;
    }
    request(&listener, ACCEPT);
    if (says)
        request(&sleeper, SLEEP);
    while (left != 0) {
        const struct io_event2 *event;
        ssize_t bytes = io_getevents2(ctx, 1, &room[0].event, sizeof(room), NULL);

        if (bytes < 0 && bytes != -EINTR) {
            fprintf(stderr, "echo: io_getevents2: %s\n", strerror((int)-bytes));
            return 1;
        }
        io_event2_for_each (event, room, bytes)
            left -= !go_on(io_event2_pointer(event), event->res) && left > 0;
    }
    return io_destroy2(ctx) != 0;
}
