/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* params of a newer, larger program: accepted if the part that the library does not know is zero, else -E2BIG. */
/* with any engine the same */
#include "test.h"

int main(void)
{
    const size_t tails[] = { 1, 4, 7, 8, 16, 64, 100, 1000, 4096 - 64 };
    union {
        struct io_setup2_params params;
        unsigned char bytes[4096];
    } newer;

    for (size_t i = 0; i < sizeof(tails) / sizeof(tails[0]); i++) {
        const size_t size = sizeof(struct io_setup2_params) + tails[i];
        io_context2_t ctx = NULL;

        memset(&newer, 0xff, sizeof(newer));
        memset(&newer, 0, size);
        newer.params.bytes = (uint32_t)size;
        newer.params.eventfd = -1;
        newer.params.ring_bytes = 10000;
        CHECK_EQ(CALL(io_setup2(2, &newer.params, &ctx)), 0);
        CHECK(ctx != NULL);
        CHECK_EQ(newer.params.bytes, size);
        CHECK_EQ(newer.params.ring_bytes, 16384);
        CHECK_EQ(newer.params.features, ctx->features);
        /* The tail is not the library's to write. */
        for (size_t at = sizeof(struct io_setup2_params); at < size; at++)
            CHECK_EQ(newer.bytes[at], 0);
        CHECK_EQ(CALL(io_destroy2(ctx)), 0);

        /* One bit anywhere in the tail is too much: at its first byte, its last, and in the middle. */
        const size_t places[] = { 64, size - 1, 64 + tails[i] / 2 };

        for (size_t p = 0; p < 3; p++) {
            newer.bytes[places[p]] = 0x80;
            newer.params.ring_bytes = 10000;
            ctx = NULL;
            CHECK_EQ(CALL(io_setup2(2, &newer.params, &ctx)), -E2BIG);
            CHECK(ctx == NULL);
            newer.bytes[places[p]] = 0;
        }
    }

    /* More than a page; and a size that the memory behind it does not have. */
    for (int i = 0; i < 3; i++) {
        const size_t bytes = 16 * 4096;
        char *pages = mmap(NULL, 2 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        struct io_setup2_params *params = (struct io_setup2_params *)(void *)pages;
        io_context2_t ctx = NULL;

        CHECK(pages != MAP_FAILED && mprotect(pages, bytes, PROT_READ | PROT_WRITE) == 0);
        *params = params2();
        params->bytes = (uint32_t)(i < 2 ? bytes : 2 * bytes);
        pages[bytes - 1] = i == 1;
        CHECK_EQ(CALL(io_setup2(2, params, &ctx)), i == 0 ? 0 : -E2BIG);
        if (i == 0)
            CHECK_EQ(CALL(io_destroy2(ctx)), 0);
        CHECK_EQ(munmap(pages, 2 * bytes), 0);
    }

    /* A size that cannot be meant, over memory that is not zero: the first byte decides, no crash. */
    memset(&newer, 0xff, sizeof(newer));
    newer.params = params2();
    newer.params.bytes = UINT32_MAX;
    {
        io_context2_t ctx = NULL;

        CHECK_EQ(CALL(io_setup2(2, &newer.params, &ctx)), -E2BIG);
        CHECK(ctx == NULL);
    }
    return 0;
}
