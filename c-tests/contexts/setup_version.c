/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* io_setup2() takes version 2 and refuses every other with -EOPNOTSUPP, and leaves *ctx alone then. */
/* with any engine the same */
#include "test.h"

int main(void)
{
    const uint32_t wrong[] = { 0, 1, 3, 4, 0x102, 0x20000, 0x80000002, UINT32_MAX };
    struct io_setup2_params params = params2();
    io_context2_t ctx = NULL;

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        CHECK_EQ(CALL(io_setup2(wrong[i], &params, &ctx)), -EOPNOTSUPP);
        CHECK(ctx == NULL);
        CHECK_EQ(CALL(io_setup2(wrong[i], NULL, &ctx)), -EOPNOTSUPP);
        CHECK(ctx == NULL);
    }
    CHECK_EQ(CALL(io_setup2(2, &params, &ctx)), 0);
    CHECK(ctx != NULL);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
    return 0;
}
