/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* iocb2_add_attr() packs attributes behind a request, refuses what exceeds 4096 bytes, and iocb2_next() finds the place behind. */
/* with any engine the same */
#include "test.h"

static struct {
    union iocb_room room;
    unsigned char behind[64];
} area;

static struct iocb2 *const iocb = &area.room.iocb;

static void start(void)
{
    memset(&area, 0xa5, sizeof(area));
    io_prep2_nop(iocb);
}

static void check_behind(void)
{
    for (size_t i = 0; i < sizeof(area.behind); i++)
        CHECK_EQ(area.behind[i], 0xa5);
}

int main(void)
{
    unsigned char payload[IOCB2_ATTR_BYTES_MAX + 1];
    struct iocb_attr *attr;
    struct iocb_attr *second;

    memset(payload, 0x77, sizeof(payload));

    /* Without a payload. */
    start();
    CHECK((char *)iocb2_next(iocb) == (char *)iocb + 64);
    attr = iocb2_add_attr(iocb, 0x8001, IOCB_ATTR_F_REQUIRED, UINT64_C(0x1122334455667788), NULL, 0);
    CHECK((char *)attr == (char *)iocb + 64);
    CHECK_EQ(attr->bytes, 16);
    CHECK_EQ(attr->id, 0x8001);
    CHECK_EQ(attr->flags, IOCB_ATTR_F_REQUIRED);
    CHECK_EQ(attr->cookie, UINT64_C(0x1122334455667788));
    CHECK_EQ(iocb->bytes, 80);
    CHECK_EQ(iocb->nr, IOCB2_NOP);

    /* A payload is padded with zeros to 8 bytes. */
    for (size_t n = 1; n <= 17; n++) {
        size_t padded = (n + 7) / 8 * 8;

        start();
        attr = iocb2_add_attr(iocb, 9, 0, n, payload, n);
        CHECK(attr != NULL);
        CHECK_EQ(attr->bytes, 16 + padded);
        CHECK_EQ(attr->cookie, n);
        CHECK_EQ(iocb->bytes, 64 + 16 + padded);
        for (size_t i = 0; i < padded; i++)
            CHECK_EQ(((unsigned char *)(attr + 1))[i], i < n ? 0x77 : 0);
        CHECK_EQ(((unsigned char *)(attr + 1))[padded], 0xa5);
    }

    /* The second lies behind the first, which stays as it is; the next record behind both. */
    start();
    attr = iocb2_add_attr(iocb, 1, 0, 1, payload, 24);
    second = iocb2_add_attr(iocb, 2, 0, 2, payload, 8);
    CHECK((char *)second == (char *)attr + 40);
    CHECK_EQ(attr->bytes, 40);
    CHECK_EQ(attr->id, 1);
    CHECK_EQ(second->id, 2);
    CHECK((char *)iocb2_next(iocb) == (char *)second + 24);

    /* 4096 bytes in many attributes: all are taken, one more is refused and changes nothing. */
    start();
    for (int i = 0; i < IOCB2_ATTR_BYTES_MAX / 16; i++)
        CHECK(iocb2_add_attr(iocb, (uint16_t)i, 0, (uint64_t)i, NULL, 0) != NULL);
    CHECK_EQ(iocb->bytes, 64 + 4096);
    CHECK(iocb2_add_attr(iocb, 1, 0, 0, NULL, 0) == NULL);
    CHECK_EQ(iocb->bytes, 64 + 4096);
    check_behind();

    /* 4096 bytes in one, and one byte more. */
    start();
    CHECK(iocb2_add_attr(iocb, 1, 0, 0, payload, 4081) == NULL);
    CHECK_EQ(iocb->bytes, 64);
    CHECK(iocb2_add_attr(iocb, 1, 0, 0, payload, 4096) == NULL);
    CHECK(iocb2_add_attr(iocb, 1, 0, 0, payload, 4097) == NULL);
    CHECK(iocb2_add_attr(iocb, 1, 0, 0, payload, SIZE_MAX) == NULL);
    CHECK(iocb2_add_attr(iocb, 1, 0, 0, payload, SIZE_MAX - 15) == NULL);
    CHECK_EQ(iocb->bytes, 64);
    CHECK_EQ(area.room.bytes[64], 0xa5);
    attr = iocb2_add_attr(iocb, 1, 0, 0, payload, 4080);
    CHECK(attr != NULL);
    CHECK_EQ(attr->bytes, 4096);
    CHECK_EQ(iocb->bytes, 64 + 4096);
    check_behind();

    /* Almost full: what still fits is taken. */
    start();
    CHECK(iocb2_add_attr(iocb, 1, 0, 0, payload, 4056) != NULL);
    CHECK(iocb2_add_attr(iocb, 2, 0, 0, payload, 16) == NULL);
    CHECK_EQ(iocb->bytes, 64 + 4072);
    CHECK(iocb2_add_attr(iocb, 2, 0, 0, payload, 8) != NULL);
    CHECK_EQ(iocb->bytes, 64 + 4096);
    check_behind();
    return 0;
}
