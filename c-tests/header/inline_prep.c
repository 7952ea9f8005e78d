/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The header's prep functions fill every field of a request, and nothing behind it. */
/* with any engine the same */
#include "test.h"

struct guarded {
    struct iocb2 iocb;
    unsigned char behind[64];
};

static void check(const struct guarded *g, const char *name, uint32_t nr, const uint64_t expected[6])
{
    if (g->iocb.bytes != 64 || g->iocb.nr != nr || g->iocb.data != 0)
        FAIL("%s: bytes %u, nr %u (expected %u), data %" PRIu64, name, g->iocb.bytes, g->iocb.nr, nr, g->iocb.data);
    for (int i = 0; i < 6; i++) {
        if (g->iocb.args[i] != expected[i])
            FAIL("%s: args[%d]: expected %#" PRIx64 ", seen %#" PRIx64, name, i, expected[i], g->iocb.args[i]);
    }
    for (size_t i = 0; i < sizeof(g->behind); i++) {
        if (g->behind[i] != 0xa5)
            FAIL("%s: wrote behind the request", name);
    }
}

#define PREP(name, nr, call, ...)                                   \
    do {                                                            \
        struct guarded g;                                           \
        struct iocb2 *iocb = &g.iocb;                               \
        const uint64_t expected[6] = { __VA_ARGS__ };               \
        memset(&g, 0xa5, sizeof(g));                                \
        call;                                                       \
        check(&g, name, nr, expected);                              \
    } while (0)

int main(void)
{
    char buf[8];
    struct iovec iov[2];
    const uint64_t b = (uint64_t)(uintptr_t)buf;
    const uint64_t v = (uint64_t)(uintptr_t)iov;
    const int64_t far = INT64_C(0x123456789abcdef0);

    PREP("pread", SYS_pread64, io_prep2_pread(iocb, 3, buf, 8, far), 3, b, 8, (uint64_t)far, 0, 0);
    PREP("pwrite", SYS_pwrite64, io_prep2_pwrite(iocb, 4, buf, SIZE_MAX, 0), 4, b, SIZE_MAX, 0, 0, 0);
    PREP("preadv2", SYS_preadv2, io_prep2_preadv2(iocb, 5, iov, 2, far, 7), 5, v, 2, (uint64_t)far, 0, 7);
    PREP("pwritev2", SYS_pwritev2, io_prep2_pwritev2(iocb, 6, iov, 1, -1, 2), 6, v, 1, UINT64_MAX, 0, 2);
    PREP("fsync", SYS_fsync, io_prep2_fsync(iocb, 7), 7, 0, 0, 0, 0, 0);
    PREP("fdatasync", SYS_fdatasync, io_prep2_fdatasync(iocb, 8), 8, 0, 0, 0, 0, 0);
    PREP("nop", IOCB2_NOP, io_prep2_nop(iocb), 0, 0, 0, 0, 0, 0);
    PREP("syscall", 12345, io_prep2_syscall(iocb, 12345, 1, 2, 3, 4, 5, UINT64_MAX), 1, 2, 3, 4, 5, UINT64_MAX);

    /* Negative ints are sign-extended, as a caller of the system call would pass them. */
    PREP("pread -1", SYS_pread64, io_prep2_pread(iocb, -1, NULL, 0, -2), UINT64_MAX, 0, 0, UINT64_MAX - 1, 0, 0);
    PREP("fsync -9", SYS_fsync, io_prep2_fsync(iocb, -9), (uint64_t)-9, 0, 0, 0, 0, 0);
    PREP("preadv2 -1", SYS_preadv2, io_prep2_preadv2(iocb, -1, NULL, -1, -1, -1), UINT64_MAX, 0, UINT64_MAX,
         UINT64_MAX, 0, UINT64_MAX);
    return 0;
}
