// SPDX-License-Identifier: MIT OR Apache-2.0
// Copies files, all at once, each by a coroutine (C++20): copies FROM TO [FROM TO]...
#include "aio2.hpp"

#include <cstdio>
#include <fcntl.h>
#include <vector>

static int failed;

static void fail(const char *path, std::int64_t res)
{
    std::fprintf(stderr, "%s: %s\n", path, std::generic_category().message(static_cast<int>(-res)).c_str());
    failed = 1;
}

static aio2::detached copy(aio2::context &ctx, const char *from, const char *to)
{
    std::vector<char> buf(1 << 20);
    std::int64_t at = 0, n = 0;
    const int in = static_cast<int>(
        co_await ctx.async([&](iocb2 *r) { io_prep2_openat(r, AT_FDCWD, from, O_RDONLY | O_CLOEXEC, 0); }));

    if (in < 0) {
        fail(from, in);
        co_return;
    }
    const int out = static_cast<int>(co_await ctx.async(
        [&](iocb2 *r) { io_prep2_openat(r, AT_FDCWD, to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666); }));

    if (out < 0)
        fail(to, out);
    while (out >= 0 && (n = co_await ctx.async([&](iocb2 *r) { io_prep2_pread(r, in, buf.data(), buf.size(), at); })) > 0) {
        std::int64_t done = 0;

        while (done < n) {
            const std::int64_t more = co_await ctx.async([&](iocb2 *r) {
                io_prep2_pwrite(r, out, buf.data() + done, static_cast<std::size_t>(n - done), at + done);
            });

            if (more <= 0) {
                fail(to, more);
                break;
            }
            done += more;
        }
        if (done < n)
            break;
        at += n;
    }
    if (n < 0)
        fail(from, n);
    co_await ctx.async([&](iocb2 *r) { io_prep2_close(r, in); });
    if (out >= 0 && (n = co_await ctx.async([&](iocb2 *r) { io_prep2_close(r, out); })) < 0)
        fail(to, n);
}

int main(int argc, char **argv)
{
    aio2::context ctx;

    for (int i = 1; i + 1 < argc; i += 2)
        copy(ctx, argv[i], argv[i + 1]);
    ctx.run();
    return failed;
}
