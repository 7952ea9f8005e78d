/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* ring_bytes is rounded up to a power of two and a page. The rounded size is reported back, and the ring has it. */
#include "test.h"

static void check(uint32_t asked, uint32_t expected)
{
    struct io_setup2_params params = params2();
    io_context2_t ctx = NULL;

    params.ring_bytes = asked;
    CHECK_EQ(CALL(io_setup2(2, &params, &ctx)), 0);
    if (params.ring_bytes != expected || ctx->ring_bytes != expected)
        FAIL("ring_bytes %u: expected %u, seen %u in params and %u in the ring", asked, expected, params.ring_bytes,
             ctx->ring_bytes);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
}

int main(void)
{
    const uint32_t page = (uint32_t)sysconf(_SC_PAGESIZE);

    check(0, 64 * 1024);
    check(1, page);
    check(24, page);
    check(page - 1, page);
    check(page, page);
    check(page + 1, 2 * page);
    check(2 * page - 8, 2 * page);
    check(3 * page, 4 * page);
    check(64 * 1024 - 1, 64 * 1024);
    check(64 * 1024, 64 * 1024);
    check(64 * 1024 + 1, 128 * 1024);
    check((1 << 20) + 1, 2 << 20);
    check((1 << 28) + 1, 1 << 29);
    /* The largest. It takes addresses, not memory. */
    check((1 << 29) + 1, 1 << 30);
    check(1 << 30, 1 << 30);

    const uint32_t too_large[] = { (1u << 30) + 1, 1u << 31, (1u << 31) + 1, UINT32_MAX - 4095, UINT32_MAX };

    for (size_t i = 0; i < sizeof(too_large) / sizeof(too_large[0]); i++) {
        struct io_setup2_params params = params2();
        io_context2_t ctx = NULL;

        params.ring_bytes = too_large[i];
        CHECK_EQ(CALL(io_setup2(2, &params, &ctx)), -EINVAL);
        CHECK(ctx == NULL);
    }
    return 0;
}
