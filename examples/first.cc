// SPDX-License-Identifier: MIT OR Apache-2.0
// Reads the beginnings of files, all at once, with futures (C++17): first PATH...
#include "aio2.hpp"

#include <cstdio>
#include <fcntl.h>
#include <vector>

int main(int argc, char **argv)
{
    struct file {
        const char *path;
        std::vector<char> buf;
        std::future<std::int64_t> read;
    };
    std::vector<file> files;
    aio2::context ctx; // after the buffers: gone before them
    int failed = 0;

    for (int i = 1; i < argc; i++) {
        const int fd = open(argv[i], O_RDONLY | O_CLOEXEC);

        if (fd < 0) {
            std::perror(argv[i]);
            failed = 1;
            continue;
        }
        std::vector<char> buf(4096);
        char *at = buf.data();
        auto read = ctx.submit([&](iocb2 *request) { io_prep2_pread(request, fd, at, 4096, 0); });

        files.push_back({ argv[i], std::move(buf), std::move(read) });
    }
    ctx.run();
    for (file &f : files) {
        const std::int64_t res = f.read.get();

        if (res < 0) {
            std::fprintf(stderr, "%s: %s\n", f.path, std::generic_category().message(static_cast<int>(-res)).c_str());
            failed = 1;
        } else {
            std::printf("%s: read %d bytes\n", f.path, static_cast<int>(res));
        }
    }
    return failed;
}
