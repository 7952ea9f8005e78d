/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Every value of max_requests and workers makes a usable context; neither costs a thread or memory by itself. */
#include "test.h"

static long resident_kb(void)
{
    long size;
    long resident;
    FILE *file = fopen("/proc/self/statm", "re");

    CHECK(file != NULL);
    CHECK_EQ(fscanf(file, "%ld %ld", &size, &resident), 2);
    fclose(file);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

int main(void)
{
    const uint32_t values[] = { 1, 2, 1000, 65536, 1u << 20, 1u << 31, UINT32_MAX };
    union event_room room;
    struct iocb2 iocb;
    long before;

    io_prep2_nop(&iocb);
    for (size_t r = 0; r < sizeof(values) / sizeof(values[0]); r++) {
        for (size_t w = 0; w < sizeof(values) / sizeof(values[0]); w++) {
            io_context2_t ctx = setup2(4096, values[r], values[w]);

            iocb.data = r * 100 + w;
            submit_one(ctx, &iocb);
            get_one(ctx, &room.event);
            CHECK_EQ(room.event.data, iocb.data);
            CHECK_EQ(CALL(io_destroy2(ctx)), 0);
        }
    }

    /* Thousands of contexts are normal: none of them has a thread, and little memory. */
    enum { MANY = 400 };
    static io_context2_t many[MANY];

    CHECK_SOON(count_threads() == 1);
    before = resident_kb();
    for (int i = 0; i < MANY; i++)
        many[i] = setup2(1 << 20, UINT32_MAX, UINT32_MAX);
    CHECK_EQ(count_workers(), 0);
    /* Less than a twentieth of the ring that each was asked for. */
    CHECK_CMP(resident_kb() - before, <, MANY * 50);
    for (int i = 0; i < MANY; i++)
        CHECK_EQ(CALL(io_destroy2(many[i])), 0);
    return 0;
}
