/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A request and its attributes are copied at submit: the caller may overwrite or unmap the record at once. */
#include "test.h"

int main(void)
{
    io_context2_t ctx = setup2(0, 0, 1);
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct iocb2 *iocb = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    union event_room room;
    struct hold hold;
    char byte = 'a';
    char seen = 0;
    int fd = temp_file(16, 0);

    CHECK(iocb != MAP_FAILED);
    hold_submit(ctx, &hold, 1);
    hold_wait_running(1);

    /* Queued behind the blocked read. */
    io_prep2_pwrite(iocb, fd, &byte, 1, 5);
    iocb->data = 2;
    CHECK(iocb2_add_attr(iocb, 0x8123, 0, 456, NULL, 0) != NULL);
    submit_one(ctx, iocb);
    memset(iocb, 0xff, page);
    CHECK_EQ(munmap(iocb, page), 0);
    memset(&hold.iocb, 0xff, sizeof(hold.iocb));

    hold_release(&hold);
    for (int i = 0; i < 2; i++) {
        struct timespec limit = { PATIENCE_S, 0 };

        CHECK_CMP(io_getevents2(ctx, 24, &room.event, i == 0 ? 24 : sizeof(room), &limit), >, 0);
        CHECK_EQ(room.event.res, 1);
        CHECK_EQ(room.event.data, i + 1);
    }
    const struct iocb_attr_ret *ret = io_event2_attr(&room.event, 0x8123);

    CHECK(ret != NULL);
    CHECK_EQ(ret->cookie, 456);
    CHECK_EQ(pread(fd, &seen, 1, 5), 1);
    CHECK_EQ(seen, 'a');
    hold_close(&hold);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
