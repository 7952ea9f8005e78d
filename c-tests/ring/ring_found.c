/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A monitor finds the rings of another process without that process's help: among its descriptors, by their name. It maps them read-only,
 * sees each context once, and its counters.
 */
#include "test.h"
#include "stress.h"
#include <dirent.h>

enum { CONTEXTS = 3 };

/* The other program: prints the counter of each ring of the process, and ends with how many there are. */
static int monitor(const char *pid)
{
    char path[64];
    int found = 0;
    struct dirent *entry;
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%s/fd", pid);
    dir = opendir(path);
    CHECK(dir != NULL);
    while ((entry = readdir(dir)) != NULL) {
        char link[64] = "";
        struct io_ring2 *ring;
        struct stat st;
        int fd;

        if (readlinkat(dirfd(dir), entry->d_name, link, sizeof(link) - 1) < 0 || strncmp(link, "/memfd:aio2-ring", 16) != 0)
            continue;
        fd = openat(dirfd(dir), entry->d_name, O_RDONLY);
        CHECK(fd >= 0);
        CHECK_EQ(fstat(fd, &st), 0);
        ring = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        CHECK(ring != MAP_FAILED);
        CHECK_EQ(ring->magic, IO_RING2_MAGIC);
        CHECK_EQ(ring->version, IO_RING2_VERSION);
        CHECK_CMP(ring_completed(ring), >=, 1);
        CHECK_CMP(ring_completed(ring), <=, CONTEXTS);
        found += 1 << (4 * (ring_completed(ring) - 1)); /* a digit for each context */
    }
    return found == 0x111 ? CONTEXTS : 99;
}

int main(int argc, char **argv)
{
    int status = 0;
    char text[16];
    pid_t child;

    if (argc == 2)
        return monitor(argv[1]);
    snprintf(text, sizeof(text), "%d", getpid());
    for (uint64_t i = 1; i <= CONTEXTS; i++) {
        io_context2_t ctx = setup2(0, 0, 0);

        submit_nops(ctx, 0, i);
        CHECK_SOON(ring_completed(ctx) == i);
    }
    child = fork();
    CHECK(child >= 0);
    if (child == 0)
        exec_self(text, NULL, NULL);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), CONTEXTS);
    return 0;
}
