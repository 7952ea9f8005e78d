
/* ---- Inline helpers ------------------------------------------------------------------------ */

#ifdef __cplusplus
extern "C" {
#endif

/* Fills a request without attributes. `data` is set to 0: set it afterwards. */
static inline void io_prep2_syscall(struct iocb2 *iocb, uint32_t nr, uint64_t a0, uint64_t a1,
                                    uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
    iocb->bytes = (uint32_t)sizeof(*iocb);
    iocb->nr = nr;
    iocb->data = 0;
    iocb->args[0] = a0;
    iocb->args[1] = a1;
    iocb->args[2] = a2;
    iocb->args[3] = a3;
    iocb->args[4] = a4;
    iocb->args[5] = a5;
}

static inline void io_prep2_nop(struct iocb2 *iocb)
{
    io_prep2_syscall(iocb, IOCB2_NOP, 0, 0, 0, 0, 0, 0);
}

/* pread(2): `count` and `offset` in bytes. */
static inline void io_prep2_pread(struct iocb2 *iocb, int fd, void *buf, size_t count, int64_t offset)
{
    io_prep2_syscall(iocb, SYS_pread64, (uint64_t)(int64_t)fd, (uint64_t)(uintptr_t)buf, count,
                     (uint64_t)offset, 0, 0);
}

/* pwrite(2): `count` and `offset` in bytes. */
static inline void io_prep2_pwrite(struct iocb2 *iocb, int fd, const void *buf, size_t count, int64_t offset)
{
    io_prep2_syscall(iocb, SYS_pwrite64, (uint64_t)(int64_t)fd, (uint64_t)(uintptr_t)buf, count,
                     (uint64_t)offset, 0, 0);
}

/* preadv2(2): `flags` are RWF_*; an `offset` of -1 reads at the file position, as for a pipe. */
static inline void io_prep2_preadv2(struct iocb2 *iocb, int fd, const struct iovec *iov, int iovcnt,
                                    int64_t offset, int flags)
{
    /* The kernel takes the offset as two longs, low word first; on a 64-bit one the first is all of it. */
    io_prep2_syscall(iocb, SYS_preadv2, (uint64_t)(int64_t)fd, (uint64_t)(uintptr_t)iov,
                     (uint64_t)(int64_t)iovcnt, (uint64_t)offset, 0, (uint64_t)(int64_t)flags);
}

/* pwritev2(2): `flags` are RWF_*; an `offset` of -1 writes at the file position. */
static inline void io_prep2_pwritev2(struct iocb2 *iocb, int fd, const struct iovec *iov, int iovcnt,
                                     int64_t offset, int flags)
{
    io_prep2_syscall(iocb, SYS_pwritev2, (uint64_t)(int64_t)fd, (uint64_t)(uintptr_t)iov,
                     (uint64_t)(int64_t)iovcnt, (uint64_t)offset, 0, (uint64_t)(int64_t)flags);
}

static inline void io_prep2_fsync(struct iocb2 *iocb, int fd)
{
    io_prep2_syscall(iocb, SYS_fsync, (uint64_t)(int64_t)fd, 0, 0, 0, 0, 0);
}

static inline void io_prep2_fdatasync(struct iocb2 *iocb, int fd)
{
    io_prep2_syscall(iocb, SYS_fdatasync, (uint64_t)(int64_t)fd, 0, 0, 0, 0, 0);
}

/*
 * Adds an attribute at the end of a request and returns it; the memory behind the request must
 * have room for it. `payload` has `payload_bytes` bytes (both may be 0) and is padded with zeros to a
 * multiple of 8. NULL if the attributes would exceed IOCB2_ATTR_BYTES_MAX: nothing is added.
 */
static inline struct iocb_attr *iocb2_add_attr(struct iocb2 *iocb, uint16_t id, uint32_t flags, uint64_t cookie,
                                               const void *payload, size_t payload_bytes)
{
    char *record = (char *)iocb;
    struct iocb_attr *attr;
    size_t bytes;

    if (payload_bytes > IOCB2_ATTR_BYTES_MAX)
        return NULL;
    bytes = (sizeof(*attr) + payload_bytes + 7) & ~(size_t)7;
    if (iocb->bytes + bytes > sizeof(*iocb) + IOCB2_ATTR_BYTES_MAX)
        return NULL;
    attr = (struct iocb_attr *)(void *)(record + iocb->bytes);
    memset(attr, 0, bytes);
    attr->bytes = (uint16_t)bytes;
    attr->id = id;
    attr->flags = flags;
    attr->cookie = cookie;
    if (payload_bytes != 0)
        memcpy(attr + 1, payload, payload_bytes);
    iocb->bytes += (uint32_t)bytes;
    return attr;
}

/* The place of the record behind this one. */
static inline struct iocb2 *iocb2_next(struct iocb2 *iocb)
{
    return (struct iocb2 *)(void *)((char *)iocb + iocb->bytes);
}

/* The event behind this one; the caller knows from the bytes it was given whether there is one. */
static inline struct io_event2 *io_event2_next(const struct io_event2 *event)
{
    return (struct io_event2 *)(void *)((char *)(uintptr_t)event + event->bytes);
}

/* The first return of attribute `id` in an event, or NULL; its payload follows it. */
static inline struct iocb_attr_ret *io_event2_attr(const struct io_event2 *event, uint16_t id)
{
    char *at = (char *)(uintptr_t)event + sizeof(*event);
    size_t left = event->bytes > sizeof(*event) ? event->bytes - sizeof(*event) : 0;

    while (left >= sizeof(struct iocb_attr_ret)) {
        struct iocb_attr_ret *ret = (struct iocb_attr_ret *)(void *)at;

        if (ret->bytes < sizeof(*ret) || ret->bytes > left)
            break;
        if (ret->id == id)
            return ret;
        at += ret->bytes;
        left -= ret->bytes;
    }
    return NULL;
}

/*
 * Takes the oldest event out of the ring without a call, and returns its bytes; 0 if the ring is
 * empty; -ENOBUFS if the event has more than `nbytes` bytes (it stays); -EIO if the ring is corrupt.
 * Any number of threads may do so at once, and beside io_getevents2().
 *
 * 0 does not mean that there is no event: if io_ring2_overflowed(), call io_getevents2().
 */
static inline ssize_t io_ring2_reap(io_context2_t ctx, struct io_event2 *event, size_t nbytes)
{
    char *data = (char *)ctx + ctx->header_bytes;
    uint32_t mask = ctx->ring_bytes - 1;

    for (;;) {
        /* Acquire, and before tail: a head that another reaper moved is never newer than our tail. */
        uint32_t head = __atomic_load_n(&ctx->head, __ATOMIC_ACQUIRE);
        /* Acquire: pairs with the library's release of tail, behind which the record is written. */
        uint32_t tail = __atomic_load_n(&ctx->tail, __ATOMIC_ACQUIRE);
        const char *record = data + (head & mask);
        uint32_t used = tail - head;
        uint32_t bytes = 0;
        int valid;

        if (used == 0)
            return 0;
        valid = used <= ctx->ring_bytes && (head & 7) == 0;
        if (valid) {
            bytes = __atomic_load_n((const uint32_t *)(const void *)record, __ATOMIC_RELAXED);
            valid = bytes >= sizeof(*event) && bytes <= used && (bytes & 7) == 0;
        }
        if (valid && bytes <= nbytes) {
            memcpy(event, record, bytes); /* contiguous also across the end: the area is mapped twice */
        } else {
            /* Acquire: if we saw a part of a later record, we see the head that made room for it. */
            __atomic_thread_fence(__ATOMIC_ACQUIRE);
            if (__atomic_load_n(&ctx->head, __ATOMIC_ACQUIRE) == head)
                return valid ? -ENOBUFS : -EIO;
            continue; /* another reaper took it while we looked */
        }
        /* Release: our copy is done before the library may write over the record. */
        if (__atomic_compare_exchange_n(&ctx->head, &head, head + bytes, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            return (ssize_t)bytes;
    }
}

/*
 * Looks at the oldest event where it is, in the ring, without copying it: *event points to it, attribute returns
 * included, until io_ring2_consume() gives its place back. Returns its bytes; 0, if the ring is empty (as with
 * io_ring2_reap(), io_ring2_overflowed() then says whether to call io_getevents2()); -EIO if the ring is corrupt.
 *
 * For a context with ONE consumer: from peek to consume no other thread may take events of this context, neither
 * with these two nor with io_ring2_reap(), io_getevents2() or io_pgetevents2(). Another could give the place back, and
 * the library write over what is being looked at.
 */
static inline ssize_t io_ring2_peek(io_context2_t ctx, const struct io_event2 **event)
{
    const char *data = (const char *)ctx + ctx->header_bytes;
    /* Relaxed: only the one consumer, who is the caller, moves it. */
    uint32_t head = __atomic_load_n(&ctx->head, __ATOMIC_RELAXED);
    /* Acquire: pairs with the library's release of tail, behind which the record is written. */
    uint32_t tail = __atomic_load_n(&ctx->tail, __ATOMIC_ACQUIRE);
    const struct io_event2 *oldest = (const struct io_event2 *)(const void *)(data + (head & (ctx->ring_bytes - 1)));
    uint32_t used = tail - head;

    if (used == 0)
        return 0;
    if (used > ctx->ring_bytes || (head & 7) != 0 || oldest->bytes < sizeof(*oldest) || oldest->bytes > used ||
        (oldest->bytes & 7) != 0)
        return -EIO;
    *event = oldest; /* contiguous also across the end: the area is mapped twice */
    return (ssize_t)oldest->bytes;
}

/* Gives the place of the oldest event back, which io_ring2_peek() has said to have that many bytes. */
static inline void io_ring2_consume(io_context2_t ctx, ssize_t bytes)
{
    uint32_t head = __atomic_load_n(&ctx->head, __ATOMIC_RELAXED);

    /* Release: we are done with the record before the library may write over it. */
    __atomic_store_n(&ctx->head, head + (uint32_t)bytes, __ATOMIC_RELEASE);
}

/*
 * Whether a reaper that found the ring empty has to call io_getevents2(): events wait on the
 * overflow list, or arrived in the ring in between.
 */
static inline int io_ring2_overflowed(io_context2_t ctx)
{
    /* Acquire: pairs with the library's release; once it reads as clear, the tail read next has all events. */
    return (__atomic_load_n(&ctx->flags, __ATOMIC_ACQUIRE) & IO_RING2_OVERFLOW) != 0;
}

#ifdef __cplusplus
}
#endif
