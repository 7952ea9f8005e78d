/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * params of an older, smaller program: fields beyond params.bytes count as zero and are neither read nor written, whatever
 * their content. A size smaller than the size field itself is -EINVAL.
 */
/* with any engine the same */
#include "test.h"

static void setup_with(struct io_setup2_params *params)
{
    io_context2_t ctx = NULL;

    CHECK_EQ(CALL(io_setup2(2, params, &ctx)), 0);
    CHECK(ctx != NULL);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
}

int main(void)
{
    const long page = sysconf(_SC_PAGESIZE);
    unsigned char *area = mmap(NULL, 2 * (size_t)page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(area != MAP_FAILED);
    CHECK_EQ(mprotect(area + page, (size_t)page, PROT_NONE), 0);

    /* Descriptor 0 is no eventfd, so that an eventfd field that is not given (0) means none. */
    close(0);
    CHECK_EQ(open("/dev/null", O_RDONLY), 0);

    for (uint32_t bytes = 0; bytes < 4; bytes++) {
        struct io_setup2_params params = params2();
        io_context2_t ctx = NULL;

        params.bytes = bytes;
        CHECK_EQ(CALL(io_setup2(2, &params, &ctx)), -EINVAL);
        CHECK(ctx == NULL);
    }

    for (uint32_t bytes = 4; bytes < 64; bytes++) {
        struct io_setup2_params params;
        struct io_setup2_params before;

        /* Each field beyond would make the call fail, were it read. */
        memset(&params, 0xff, sizeof(params));
        memset(&params, 0, bytes);
        params.bytes = bytes;
        if (bytes >= offsetof(struct io_setup2_params, features))
            params.eventfd = -1;
        before = params;
        setup_with(&params);
        CHECK_MEM((unsigned char *)&params + bytes, (unsigned char *)&before + bytes, sizeof(params) - bytes);
        /* Of what it was given, only the two outputs change. */
        CHECK_EQ(params.bytes, bytes);
        CHECK_EQ(params.flags, before.flags);
        CHECK_EQ(params.max_requests, before.max_requests);
        CHECK_EQ(params.workers, before.workers);
        CHECK_EQ(params.eventfd, before.eventfd);
        if (bytes >= offsetof(struct io_setup2_params, max_requests))
            CHECK_EQ(params.ring_bytes, 64 * 1024);
        if (bytes >= offsetof(struct io_setup2_params, reserved))
            CHECK((params.features & IO_FEAT2_ATTR_TIMING) != 0);
    }

    /* The byte behind an older structure may not even exist. */
    for (size_t bytes = 8; bytes <= 64; bytes += 8) {
        struct io_setup2_params *params = (struct io_setup2_params *)(void *)(area + page - bytes);
        uint32_t size = (uint32_t)bytes;

        memset(params, 0, bytes);
        memcpy(params, &size, sizeof(size));
        setup_with(params);
    }

    /* The fields that an older program does give are used, and checked. */
    {
        struct io_setup2_params params;
        io_context2_t ctx = NULL;

        memset(&params, 0xff, sizeof(params));
        params.bytes = 12;
        params.flags = 0;
        params.ring_bytes = 5000;
        CHECK_EQ(CALL(io_setup2(2, &params, &ctx)), 0);
        CHECK_EQ(ctx->ring_bytes, 8192);
        CHECK_EQ(params.ring_bytes, 8192);
        CHECK_EQ(params.max_requests, UINT32_MAX);
        CHECK_EQ(CALL(io_destroy2(ctx)), 0);

        ctx = NULL;
        params.bytes = 8;
        params.flags = 1;
        CHECK_EQ(CALL(io_setup2(2, &params, &ctx)), -EINVAL);
        CHECK(ctx == NULL);
    }
    return 0;
}
