/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The functions that add an attribute write what iocb2_add_attr() does, and nothing where there is no room: a plain request, or a
 * struct iocb2_room that is full. iocb2_append() copies requests one behind another, as far as there is room.
 */
/* with any engine the same */
#include "test.h"

static struct {
    struct iocb2_room room;
    unsigned char behind[64];
} area;

static struct iocb2_room *const request = &area.room;

static void start(void)
{
    memset(&area, 0xa5, sizeof(area));
    io_prep2_nop(&request->iocb);
}

/* Nothing from `used` on has been written to. */
static void check_from(size_t used)
{
    for (size_t i = used; i < sizeof(area); i++)
        CHECK_EQ(((unsigned char *)&area)[i], 0xa5);
}

static void check_same(const struct iocb_attr *attr, uint16_t id, const void *payload, size_t bytes)
{
    union iocb_room expected;

    CHECK((const char *)attr == (const char *)request + 64);
    check_from(64 + 16 + bytes);
    io_prep2_nop(&expected.iocb);
    CHECK(iocb2_add_attr(&expected.iocb, id, IOCB_ATTR_F_REQUIRED, 0, payload, bytes) != NULL);
    CHECK_EQ(request->iocb.bytes, expected.iocb.bytes);
    CHECK_EQ(memcmp(request, &expected, request->iocb.bytes), 0);
}

#define SAME(call, id, payload, bytes) (start(), check_same(call, id, payload, bytes))
#define REQUIRED IOCB_ATTR_F_REQUIRED

int main(void)
{
    const struct iocb_ioprio ioprio = { .ioprio = 0x4003 };
    const struct iocb_deadline deadline = { .ns = UINT64_C(0x1122334455667788) };
    unsigned char payload[IOCB2_ATTR_BYTES_MAX + 1] = { 1 };
    uint64_t batch[64];
    size_t bytes = 0;
    size_t n;

    SAME(iocb2_add_timing(request, REQUIRED), IOCB_ATTR_TIMING, NULL, 0);
    SAME(iocb2_add_cache(request, REQUIRED), IOCB_ATTR_CACHE, NULL, 0);
    SAME(iocb2_add_ioprio(request, REQUIRED, 0x4003), IOCB_ATTR_IOPRIO, &ioprio, 8);
    SAME(iocb2_add_deadline(request, REQUIRED, deadline.ns), IOCB_ATTR_DEADLINE, &deadline, 8);
    SAME(iocb2_add_drain(request, REQUIRED), IOCB_ATTR_DRAIN, NULL, 0);
    SAME(iocb2_add_link(request, REQUIRED), IOCB_ATTR_LINK, NULL, 0);
    SAME(iocb2_add_worker(request, REQUIRED), IOCB_ATTR_WORKER, NULL, 0);
    SAME(iocb2_add_route(request, REQUIRED), IOCB_ATTR_ROUTE, NULL, 0);

    /* Until it is full, with attributes of each size; then nothing changes. */
    start();
    for (n = 0; iocb2_add_timing(request, 0) != NULL; n++)
        check_from(request->iocb.bytes);
    CHECK_EQ(n, 28);
    CHECK_EQ(request->iocb.bytes, sizeof(*request));
    CHECK(iocb2_add_deadline(request, 0, 1) == NULL);
    CHECK_EQ(request->iocb.bytes, sizeof(*request));
    check_from(sizeof(*request));

    /* With a size of one's own: a plain request has no room, and every size is either enough or refused. */
    for (size_t room = 0; room <= 128; room++) {
        for (size_t more = 0; more <= 40; more++) {
            size_t need = 64 + (16 + more + 7) / 8 * 8;
            struct iocb_attr *attr;

            start();
            attr = iocb2_add_attr_within(&request->iocb, room, 0x8000, 0, payload, more);
            CHECK((attr != NULL) == (room >= need));
            CHECK_EQ(request->iocb.bytes, room >= need ? need : 64);
            check_from(request->iocb.bytes);
        }
    }
    start();
    CHECK(iocb2_add_attr_within(&request->iocb, SIZE_MAX, 0x8000, 0, payload, IOCB2_ATTR_BYTES_MAX + 1) == NULL);
    CHECK(iocb2_add_attr_within(&request->iocb, SIZE_MAX, 0x8000, 0, payload, SIZE_MAX) == NULL);
    CHECK(iocb2_add_attr_within(&request->iocb, SIZE_MAX, 0x8000, 0, payload, IOCB2_ATTR_BYTES_MAX - 8) == NULL);
    CHECK_EQ(request->iocb.bytes, 64);

    /* 64 + 80 + 80 ... bytes into 512. */
    memset(batch, 0xa5, sizeof(batch));
    start();
    CHECK_EQ(iocb2_append((struct iocb2 *)(void *)batch, sizeof(batch) - 8, &bytes, &request->iocb), 0);
    CHECK_EQ(bytes, 64);
    CHECK(iocb2_add_link(request, 0) != NULL);
    for (n = 0; iocb2_append((struct iocb2 *)(void *)batch, sizeof(batch) - 8, &bytes, &request->iocb) == 0; n++)
        CHECK_EQ(memcmp((char *)batch + bytes - 80, request, 80), 0);
    CHECK_EQ(n, 5);
    CHECK_EQ(bytes, 464);
    CHECK_EQ(batch[58], UINT64_C(0xa5a5a5a5a5a5a5a5));
    CHECK_EQ(iocb2_append((struct iocb2 *)(void *)batch, 463, &bytes, &request->iocb), -ENOBUFS);
    CHECK_EQ(bytes, 464);
    return 0;
}
