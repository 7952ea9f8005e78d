/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The ring's memory: the data area is there twice in a row, so that a record is contiguous across the end. The memory is sealed
 * against shrinking and growing. The header has the values of the contract.
 */
#include "test.h"
#include "stress.h"

/* The inode behind an address, as /proc/self/maps shows it. */
static unsigned long inode_at(uintptr_t address, bool *shared)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[PATH_MAX + 128];
    unsigned long inode = 0;

    CHECK(maps != NULL);
    while (fgets(line, sizeof(line), maps) != NULL) {
        unsigned long from;
        unsigned long to;
        unsigned long this_inode;
        char mode[8];

        if (sscanf(line, "%lx-%lx %7s %*x %*s %lu", &from, &to, mode, &this_inode) == 4 && address >= from && address < to) {
            inode = this_inode;
            *shared = mode[3] == 's';
        }
    }
    fclose(maps);
    return inode;
}

static void check_ring(uint32_t ring_bytes)
{
    io_context2_t ctx = setup2(ring_bytes, 0, 1);
    const unsigned char *data = (const unsigned char *)ctx + ctx->header_bytes;
    size_t size = ctx->ring_bytes;
    union event_room room;
    struct stat st;
    bool shared = false;
    bool straddled = false;
    uint64_t n = 0;
    int fd;

    CHECK_EQ(ctx->magic, IO_RING2_MAGIC);
    CHECK_EQ(ctx->version, 2);
    CHECK_EQ(ctx->ring_bytes, ring_bytes);
    CHECK_CMP(ctx->header_bytes, >=, 192);
    CHECK_EQ((uintptr_t)ctx % 4096, 0);
    CHECK_EQ(ctx->header_bytes % 4096, 0);
    for (size_t i = sizeof(struct io_ring2); i < ctx->header_bytes; i++)
        CHECK_EQ(((const unsigned char *)ctx)[i], 0);

    fd = io_ring_fd2(ctx);
    CHECK(fd >= 0);
    CHECK_EQ(fstat(fd, &st), 0);
    CHECK_CMP(st.st_size, >=, ctx->header_bytes + size);
    CHECK_EQ(inode_at((uintptr_t)ctx, &shared), st.st_ino);
    CHECK(shared);
    CHECK_EQ(inode_at((uintptr_t)data, &shared), st.st_ino);
    CHECK(shared);
    CHECK_EQ(inode_at((uintptr_t)data + size, &shared), st.st_ino);
    CHECK(shared);
    CHECK_EQ(inode_at((uintptr_t)data + 2 * size - 1, &shared), st.st_ino);
    CHECK(shared);
    CHECK_EQ(fcntl(fd, F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW), F_SEAL_SHRINK | F_SEAL_GROW);
    close(fd);

    /* Events lie where head says, and go on in the second copy where the first ends. */
    while (!straddled || n < 1000) {
        const struct io_event2 *record;
        size_t pos;

        submit_nops(ctx, n, 1);
        n++;
        CHECK_SOON(ring_completed(ctx) == n);
        CHECK_EQ((uint32_t)(ring_tail(ctx) - ring_head(ctx)), sizeof(*record));
        pos = ring_head(ctx) & (size - 1);
        record = (const struct io_event2 *)(const void *)(data + pos);
        CHECK_EQ(record->bytes, sizeof(*record));
        CHECK_EQ(record->data, n - 1);
        CHECK_EQ(record->res, 0);
        straddled |= pos + sizeof(*record) > size;
        CHECK_EQ(io_ring2_reap(ctx, &room.event, sizeof(room)), sizeof(room.event));
        CHECK_EQ(room.event.data, n - 1);
        if (n % 100 == 0)
            CHECK_MEM(data + size, data, size);
        CHECK_CMP(n, <, 1000000);
    }
    CHECK_MEM(data + size, data, size);
    CHECK_EQ(CALL(io_destroy2(ctx)), 0);
}

int main(void)
{
    check_ring(4096);
    check_ring(65536);
    return 0;
}
