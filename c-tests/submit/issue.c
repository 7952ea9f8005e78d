/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * io_issue2() carries out one request in the calling thread. It writes the result and the attribute returns, and nothing behind
 * them. If the event does not fit, the call is not made. It needs no context and no worker.
 */
#include "test.h"

static volatile sig_atomic_t handled;

static void on_signal(int sig)
{
    (void)sig;
    handled = handled + 1;
}

static void *interrupt_main(void *arg)
{
    (void)arg;
    wait_thread_asleep(getpid());
    CHECK_EQ(syscall(SYS_tgkill, getpid(), getpid(), SIGUSR1), 0);
    return NULL;
}

int main(void)
{
    union iocb_room request;
    union iocb_room before;
    union event_room room;
    struct iocb2 *const iocb = &request.iocb;
    struct sigaction action;
    const struct iocb_attr_ret *ret;
    struct hold hold;
    pthread_t thread;
    char byte = 'q';
    char seen = 0;
    int fd = temp_file(16, 0);

    memset(&request, 0, sizeof(request));
    io_prep2_pwrite(iocb, fd, &byte, 1, 3);
    iocb->data = UINT64_C(0x8877665544332211);
    CHECK(iocb2_add_attr(iocb, 0x8888, 0, 1, "payload", 8) != NULL);
    CHECK(iocb2_add_attr(iocb, IOCB_ATTR_TIMING, 0, 2, NULL, 0) != NULL);
    memcpy(&before, &request, sizeof(before));

    /* One byte too little: not made, nothing written. */
    for (size_t n = 0; n < 24 + 16 + 40; n++) {
        memset(&room, 0xa5, sizeof(room));
        CHECK_EQ(CALL(io_issue2(iocb, &room.event, n)), -ENOBUFS);
        for (size_t i = n; i < 128; i++)
            CHECK_EQ(room.bytes[i], 0xa5);
    }
    CHECK_EQ(pread(fd, &seen, 1, 3), 1);
    CHECK_EQ(seen, 0);

    memset(&room, 0xa5, sizeof(room));
    CHECK_EQ(CALL(io_issue2(iocb, &room.event, 24 + 16 + 40)), 24 + 16 + 40);
    CHECK_EQ(room.bytes[24 + 16 + 40], 0xa5);
    CHECK_EQ(room.event.bytes, 24 + 16 + 40);
    CHECK_EQ(room.event.flags, 0);
    CHECK_EQ(room.event.data, UINT64_C(0x8877665544332211));
    CHECK_EQ(room.event.res, 1);
    ret = (const struct iocb_attr_ret *)(const void *)(&room.event + 1);
    CHECK_EQ(ret->bytes, 16);
    CHECK_EQ(ret->id, 0x8888);
    CHECK_EQ(ret->ret, -EOPNOTSUPP);
    CHECK_EQ(ret->cookie, 1);
    CHECK_EQ(ret[1].bytes, 40);
    CHECK_EQ(ret[1].id, IOCB_ATTR_TIMING);
    CHECK_EQ(ret[1].ret, 0);
    CHECK_EQ(ret[1].cookie, 2);
    CHECK_EQ(pread(fd, &seen, 1, 3), 1);
    CHECK_EQ(seen, 'q');
    CHECK_MEM(&request, &before, sizeof(request));

    /* An error of the call is in res; the call of the library has succeeded. */
    io_prep2_pread(iocb, -1, &byte, 1, 0);
    CHECK_EQ(CALL(io_issue2(iocb, &room.event, sizeof(room))), 24);
    CHECK_EQ(room.event.res, -EBADF);

    io_prep2_nop(iocb);
    iocb->data = 4;
    CHECK_EQ(CALL(io_issue2(iocb, &room.event, 24)), 24);
    CHECK_EQ(room.event.res, 0);
    CHECK_EQ(room.event.data, 4);

    /* It is this thread that is in the call: a handler here interrupts it. */
    memset(&action, 0, sizeof(action));
    action.sa_handler = on_signal;
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    hold_init(&hold, 9);
    thread = thread_start(interrupt_main, NULL);
    CHECK_EQ(CALL(io_issue2(&hold.iocb, &room.event, sizeof(room))), 24);
    thread_join(thread);
    CHECK_EQ(room.event.res, -EINTR);
    CHECK_EQ(room.event.data, 9);
    CHECK_EQ(handled, 1);
    hold_release(&hold);
    CHECK_EQ(CALL(io_issue2(&hold.iocb, &room.event, sizeof(room))), 24);
    CHECK_EQ(room.event.res, 1);
    CHECK_EQ(hold.byte, 'x');
    hold_close(&hold);
    CHECK_EQ(count_workers(), 0);
    return 0;
}
