/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The process ends when the program's last thread ends, as without the library, whatever its threads do at that time: a read of
 * a pipe that nobody writes to, nothing, or a submit a moment before. The program's handlers run once, the status is 0, and
 * accepted requests on files are carried out. As long as one thread of the program lives, even one that knows nothing of the
 * library, the process does not end.
 */
#include "test.h"

enum { WRITES = 200, BYTES = 64, RACES = 100 };
enum mode { PENDING, IDLE, OTHER_LAST, CALLER_LAST, STRANGER_LAST, WRITING, RACE };

static io_context2_t ctx;
static struct hold hold;
static int handled[2];
static int file;
static unsigned char data[WRITES * BYTES];

static void at_exit(void)
{
    CHECK_EQ(write(handled[1], "x", 1), 1);
}

static void use(void)
{
    union event_room room;
    struct iocb2 iocb;

    io_prep2_pwrite(&iocb, file, data, BYTES, 0);
    submit_one(ctx, &iocb);
    get_one(ctx, &room);
    CHECK_EQ(room.event.res, BYTES);
}

static void write_all(void)
{
    struct iocb2 iocb;

    for (int i = 0; i < WRITES; i++) {
        io_prep2_pwrite(&iocb, file, data + i * BYTES, BYTES, i * BYTES);
        submit_one(ctx, &iocb);
    }
}

/* Ends a while after the other. */
static void *outlive(void *arg)
{
    const pid_t main_thread = getpid();

    if (arg != NULL)
        use();
    CHECK_SOON(thread_state(main_thread) == 'Z');
    if (arg != NULL) {
        struct io_setup2_params params = params2();
        io_context2_t other = NULL;
        int fd;

        use();
        /* What the library finds out by /proc it finds out still. */
        params.eventfd = file;
        CHECK_EQ(CALL(io_setup2(IO_SETUP2_VERSION, &params, &other)), -EINVAL);
        fd = CALL(io_ring_fd2(ctx));
        CHECK_CMP(fd, >=, 0);
        CHECK_EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
        close(fd);
    }
    sleep_ms(100);
    CHECK_EQ(write(handled[1], "y", 1), 1);
    return NULL;
}

static void *stranger(void *arg)
{
    sleep_ms(*(int *)arg);
    return NULL;
}

static void run(enum mode mode)
{
    static int later = 200;
    pthread_t thread;

    CHECK_EQ(atexit(at_exit), 0);
    ctx = setup2(0, 0, 0);
    switch (mode) {
    case PENDING:
        use();
        hold_submit(ctx, &hold, 1);
        hold_wait_running(1);
        break;
    case IDLE:
        write_all();
        CHECK_SOON(ctx->completed == WRITES);
        break;
    case OTHER_LAST:
    case CALLER_LAST:
        hold_submit(ctx, &hold, 1);
        hold_wait_running(1);
        thread = thread_start(outlive, mode == CALLER_LAST ? &later : NULL);
        CHECK_EQ(pthread_detach(thread), 0);
        break;
    case STRANGER_LAST:
        hold_submit(ctx, &hold, 1);
        hold_wait_running(1);
        CHECK_EQ(pthread_detach(thread_start(stranger, &later)), 0);
        break;
    case WRITING:
    case RACE:
        write_all();
        hold_submit(ctx, &hold, 1);
        break;
    }
    pthread_exit(NULL);
}

static void check(enum mode mode)
{
    int64_t end = now_ns() + 60 * NSEC_PER_SEC;
    int status;
    char seen[8];
    pid_t child;

    CHECK_EQ(pipe2(handled, O_CLOEXEC | O_NONBLOCK), 0);
    CHECK_EQ(ftruncate(file, 0), 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0)
        run(mode);
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (now_ns() > end) {
            kill(child, SIGTERM);
            sleep_ms(1000);
            status = waitpid(child, &status, WNOHANG) == 0;
            kill(child, SIGKILL);
            FAIL("part %d: the process does not end%s", mode, status ? ", nor by SIGTERM" : "");
        }
        sleep_ms(2);
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        FAIL("part %d: status %#x", mode, (unsigned)status);
    if (mode == OTHER_LAST || mode == CALLER_LAST) {
        CHECK_EQ(read(handled[0], seen, 1), 1);
        CHECK_EQ(seen[0], 'y');
    }
    CHECK_EQ(read(handled[0], seen, sizeof(seen)), 1);
    CHECK_EQ(seen[0], 'x');
    if (mode == WRITING || mode == RACE) {
        static unsigned char found[sizeof(data)];

        CHECK_EQ(pread(file, found, sizeof(found), 0), sizeof(found));
        CHECK_MEM(found, data, sizeof(data));
    }
    close(handled[0]);
    close(handled[1]);
}

int main(void)
{
    file = temp_file(0, 0);
    fill_pattern(data, sizeof(data), 0, 3);
    for (enum mode mode = PENDING; mode < RACE; mode++)
        check(mode);
    for (int i = 0; i < RACES; i++)
        check(RACE);
    return 0;
}
