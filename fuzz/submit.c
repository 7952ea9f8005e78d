/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * libFuzzer's target: the bytes of io_submit2(). The library is one whose system calls are replaced by a value computed from their
 * arguments (--cfg aio2_fuzz). Whatever the bytes are: submit accepts whole records, each of which has one event, with a
 * return for each attribute. scripts/fuzz.sh builds and runs it.
 *
 * The input is a sequence of operations; most build a record that is nearly right, so that the code behind the checks is reached.
 */
#include <aio2.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define MUST(x)                                                                                                        \
    do {                                                                                                               \
        if (!(x)) {                                                                                                    \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                                                    \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

enum { ROOM = 1 << 16 };

static const uint8_t *in;
static size_t left;
static _Alignas(8) unsigned char records[ROOM];
static size_t used;

static uint8_t byte(void)
{
    if (left == 0)
        return 0;
    left--;
    return *in++;
}

static uint64_t word(void)
{
    uint64_t value = 0;

    /* Small ones, mostly. */
    for (int n = byte() % 9; n > 0; n--)
        value = value << 8 | byte();
    return value;
}

static void add_attr(struct iocb2 *iocb)
{
    static const uint16_t payloads[] = { 0, 0, 0, 8, 8, 0, 0, 0 };
    struct iocb_attr attr = { 0 };
    uint8_t kind = byte();
    uint64_t payload[8] = { 0 };

    attr.id = kind & 0x80 ? (uint16_t)(0x8000 | word()) : kind & 15;
    attr.bytes = (uint16_t)(16 + (attr.id < 8 ? payloads[attr.id] : (kind >> 4 & 3) * 8));
    attr.flags = kind >> 6 & 1;
    attr.cookie = word();
    if ((byte() & 15) == 0)
        attr.bytes = (uint16_t)word();
    if (attr.bytes > 16)
        payload[0] = word();
    if (iocb->bytes + 80 > 64 + 4096 || used + iocb->bytes + 80 > ROOM)
        return;
    unsigned char *at = (unsigned char *)iocb + iocb->bytes;
    memcpy(at, &attr, sizeof(attr));
    memcpy(at + sizeof(attr), payload, sizeof(payload));
    iocb->bytes += attr.bytes >= 16 && attr.bytes <= 80 && attr.bytes % 8 == 0 ? attr.bytes : 16;
}

static void add_record(void)
{
    static const uint32_t calls[] = { IOCB2_NOP, SYS_pread64, SYS_pwrite64, SYS_fsync, SYS_preadv2, SYS_read, SYS_openat, SYS_exit_group };
    struct iocb2 *iocb = (struct iocb2 *)(void *)(records + used);
    uint8_t kind = byte();

    if (used + sizeof(*iocb) > ROOM)
        return;
    memset(iocb, 0, sizeof(*iocb));
    iocb->bytes = sizeof(*iocb);
    iocb->nr = kind & 8 ? (uint32_t)word() : calls[kind & 7];
    iocb->data = byte() & 7;
    for (int i = 0; i < 6 && kind & 16; i++)
        iocb->args[i] = word();
    for (int n = kind >> 5; n > 0; n--)
        add_attr(iocb);
    size_t size = iocb->bytes;
    if ((byte() & 31) == 1)
        iocb->bytes = (uint32_t)word();
    used += size;
}

static void add_raw(void)
{
    for (size_t n = byte() % 128; n > 0 && used < ROOM; n--)
        records[used++] = byte();
    used = (used + 7) & ~(size_t)7;
}

/* How many records are in so many bytes, and how many attributes. */
static size_t count(size_t bytes, size_t *attrs)
{
    size_t n = 0, at = 0;

    for (; at < bytes; n++) {
        const struct iocb2 *iocb = (const struct iocb2 *)(const void *)(records + at);
        MUST(iocb->bytes >= 64 && iocb->bytes % 8 == 0 && iocb->bytes <= bytes - at);
        for (size_t a = 64; a < iocb->bytes; (*attrs)++) {
            const struct iocb_attr *attr = (const struct iocb_attr *)(const void *)(records + at + a);
            MUST(attr->bytes >= 16 && attr->bytes % 8 == 0);
            a += attr->bytes;
        }
        at += iocb->bytes;
    }
    MUST(at == bytes);
    return n;
}

static size_t reap(io_context2_t ctx, size_t n, size_t *returns)
{
    static _Alignas(8) unsigned char out[ROOM];
    const struct timespec limit = { 10, 0 };
    size_t got = 0;

    while (got < n) {
        ssize_t bytes = io_getevents2(ctx, 24, (struct io_event2 *)(void *)out, sizeof(out), &limit);
        /* The fuzzer's own alarm. */
        if (bytes == -EINTR)
            continue;
        MUST(bytes >= 24);
        for (ssize_t at = 0; at < bytes; got++) {
            const struct io_event2 *event = (const struct io_event2 *)(const void *)(out + at);
            MUST(event->bytes >= 24 && event->bytes % 8 == 0 && event->bytes <= bytes - at);
            for (uint32_t a = 24; a < event->bytes; (*returns)++) {
                const struct iocb_attr_ret *ret = (const struct iocb_attr_ret *)(const void *)(out + at + a);
                MUST(ret->bytes >= 16 && ret->bytes % 8 == 0 && ret->bytes <= event->bytes - a);
                MUST(ret->ret <= 0);
                a += ret->bytes;
            }
            at += event->bytes;
        }
    }
    return got;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct io_setup2_params params = { .bytes = sizeof(params), .eventfd = -1 };
    io_context2_t ctx = NULL;
    size_t accepted = 0, attrs = 0, returns = 0, reaped = 0;

    in = data;
    left = size;
    params.ring_bytes = byte() & 1 ? 4096 : 0;
    params.max_requests = byte() & 3 ? 0 : 1 + byte() % 16;
    params.workers = byte() & 3;
    MUST(io_setup2(IO_SETUP2_VERSION, &params, &ctx) == 0);
    while (left > 0) {
        uint8_t operation = byte();

        used = 0;
        for (int n = operation >> 4; n >= 0; n--) {
            if ((byte() & 15) == 0)
                add_raw();
            else
                add_record();
        }
        ssize_t bytes = io_submit2(ctx, (const struct iocb2 *)(const void *)records, used);
        MUST(bytes <= (ssize_t)used);
        if (bytes > 0)
            accepted += count((size_t)bytes, &attrs);
        else
            MUST(used == 0 || bytes == -EINVAL || bytes == -EAGAIN);
        if (operation & 1)
            (void)io_cancel2(ctx, byte() & 7);
        if (operation & 2)
            reaped += reap(ctx, accepted - reaped, &returns);
    }
    if (byte() & 1 || size % 3 != 0) {
        reaped += reap(ctx, accepted - reaped, &returns);
        MUST(returns == attrs);
        MUST(ctx->submitted == accepted);
        /* An event can be reaped a moment before it is counted. */
        for (int i = 0; __atomic_load_n(&ctx->completed, __ATOMIC_ACQUIRE) != accepted; i++) {
            const struct timespec moment = { 0, 1000000 };

            MUST(i < 10000);
            nanosleep(&moment, NULL);
        }
        MUST(io_getevents2(ctx, 0, (struct io_event2 *)(void *)records, sizeof(records), NULL) == 0);
    }
    MUST(io_destroy2(ctx) == 0);
    return 0;
}
