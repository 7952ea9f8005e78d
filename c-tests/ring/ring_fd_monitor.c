/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Another program, given the descriptor of io_ring_fd2, maps the ring read-only and sees the header and the
 * counters move while I/O runs, and the records; the descriptor is close-on-exec and outlives the
 * context; it counts as many calls as one likes.
 */
#include "test.h"
#include "stress.h"

struct report {
    uint64_t submitted;
    uint64_t completed;
    uint64_t overflowed;
    uint32_t head;
    uint32_t tail;
    uint32_t flags;
    uint32_t pad;
    struct io_event2 first;
};

static void read_all(int fd, void *buf, size_t n)
{
    CHECK_EQ(read(fd, buf, n), n);
}

/* The other program: maps the ring, then answers each byte on stdin with a report on stdout. */
static int monitor(int fd)
{
    struct stat st;
    struct io_ring2 *ring;
    char order;

    CHECK_EQ(fstat(fd, &st), 0);
    ring = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(ring != MAP_FAILED);
    close(fd);
    CHECK_EQ(ring->magic, IO_RING2_MAGIC);
    CHECK_EQ(ring->version, 2);
    CHECK_EQ(ring->ring_bytes, 4096);
    CHECK_CMP(st.st_size, >=, ring->header_bytes + ring->ring_bytes);
    while (read(STDIN_FILENO, &order, 1) == 1) {
        struct report report;
        const char *data = (const char *)ring + ring->header_bytes;

        if (order == 'w') {
            /* Live: waits until the counter moves, without being told. */
            uint64_t before = ring_completed(ring);

            CHECK_EQ(write(STDOUT_FILENO, "r", 1), 1);
            CHECK_SOON(ring_completed(ring) != before);
        }
        memset(&report, 0, sizeof(report));
        report.submitted = ring_submitted(ring);
        report.completed = ring_completed(ring);
        report.overflowed = ring_overflowed(ring);
        report.head = ring_head(ring);
        report.tail = ring_tail(ring);
        report.flags = __atomic_load_n(&ring->flags, __ATOMIC_ACQUIRE);
        memcpy(&report.first, data + (report.head & (ring->ring_bytes - 1)), sizeof(report.first));
        CHECK_EQ(write(STDOUT_FILENO, &report, sizeof(report)), sizeof(report));
    }
    return 0;
}

int main(int argc, char **argv)
{
    uint64_t in_ring = 4096 / sizeof(struct io_event2);
    io_context2_t ctx;
    int to[2];
    int from[2];
    struct report report;
    union event_room room;
    char byte;
    pid_t child;
    int fd;

    if (argc == 2)
        return monitor(atoi(argv[1]));

    ctx = setup2(4096, 0, 1);
    fd = (int)CALL(io_ring_fd2(ctx));
    CHECK_CMP(fd, >, 2);
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    for (int i = 0; i < 100; i++) {
        int other = (int)CALL(io_ring_fd2(ctx));

        CHECK_CMP(other, >, 2);
        CHECK(other != fd);
        CHECK_EQ(fcntl(other, F_GETFD), FD_CLOEXEC);
        CHECK_EQ(close(other), 0);
    }
    CHECK_EQ(pipe2(to, O_CLOEXEC), 0);
    CHECK_EQ(pipe2(from, O_CLOEXEC), 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char text[16];

        snprintf(text, sizeof(text), "%d", fd);
        CHECK_EQ(fcntl(fd, F_SETFD, 0), 0);
        CHECK_EQ(dup2(to[0], STDIN_FILENO), STDIN_FILENO);
        CHECK_EQ(dup2(from[1], STDOUT_FILENO), STDOUT_FILENO);
        exec_self(text, NULL, NULL);
    }
    close(to[0]);
    close(from[1]);
    close(fd);

    CHECK_EQ(write(to[1], "s", 1), 1);
    read_all(from[0], &report, sizeof(report));
    CHECK_EQ(report.submitted, 0);
    CHECK_EQ(report.completed, 0);
    CHECK_EQ(report.head, report.tail);

    /* It waits until the first event is produced. */
    CHECK_EQ(write(to[1], "w", 1), 1);
    read_all(from[0], &byte, 1);
    submit_nops(ctx, 4711, 1);
    read_all(from[0], &report, sizeof(report));
    CHECK_EQ(report.submitted, 1);
    CHECK_EQ(report.completed, 1);

    /* The record, then head as it is reaped. */
    CHECK_SOON(ring_tail(ctx) != ring_head(ctx));
    CHECK_EQ(write(to[1], "s", 1), 1);
    read_all(from[0], &report, sizeof(report));
    CHECK_EQ(report.tail - report.head, sizeof(struct io_event2));
    CHECK_EQ(report.first.data, 4711);
    CHECK_EQ(report.first.bytes, sizeof(struct io_event2));
    CHECK_EQ(io_ring2_reap(ctx, &room.event, sizeof(room)), sizeof(room.event));
    CHECK_EQ(write(to[1], "s", 1), 1);
    read_all(from[0], &report, sizeof(report));
    CHECK_EQ(report.tail, report.head);
    CHECK_EQ(report.flags, 0);

    /* Overflow. */
    submit_nops(ctx, 0, in_ring + 100);
    CHECK_SOON(ring_completed(ctx) == in_ring + 101);
    CHECK_EQ(write(to[1], "s", 1), 1);
    read_all(from[0], &report, sizeof(report));
    CHECK_EQ(report.submitted, in_ring + 101);
    CHECK_EQ(report.completed, in_ring + 101);
    CHECK_EQ(report.overflowed, 100);
    CHECK_EQ(report.flags & IO_RING2_OVERFLOW, IO_RING2_OVERFLOW);
    CHECK_EQ(report.tail - report.head, in_ring * sizeof(struct io_event2));
    CHECK_EQ(report.first.data, 0);

    /* The monitor's mapping outlives the context. */
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    CHECK_EQ(write(to[1], "s", 1), 1);
    read_all(from[0], &report, sizeof(report));
    CHECK_EQ(report.submitted, in_ring + 101);
    CHECK_EQ(close(to[1]), 0);
    wait_child(child);
    return 0;
}
