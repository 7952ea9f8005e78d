
/*
 * ---- Inline helpers -----------------------------------------------------------------------------
 *
 * They have no state. Any number of threads may call them at once, on different requests, buffers and events; those that
 * take a context also on one context, if nothing else is said. They leave errno alone, and do not fail, if no error is named.
 *
 * For languages that cannot use them libaio2-ffi.so has all of them as functions, by the same names.
 */

/* How they are defined; the build of libaio2-ffi.so defines AIO2_INLINE otherwise. AIO2_INTERNAL: not for programs. */
#if defined(__cplusplus) || (defined(__STDC_VERSION__) && __STDC_VERSION__ >= 199901L)
#define AIO2_INTERNAL static inline
#else
#define AIO2_INTERNAL static __inline__
#endif
#ifndef AIO2_INLINE
#define AIO2_INLINE AIO2_INTERNAL
#endif

/* A number or a pointer from void * as another type; any pointer as another type or a number. */
#ifdef __cplusplus
#define AIO2_CAST(type, value) static_cast<type>(value)
#define AIO2_POINTER_CAST(type, value) reinterpret_cast<type>(value)
#else
#define AIO2_CAST(type, value) ((type)(value))
#define AIO2_POINTER_CAST(type, value) ((type)(value))
#endif

/*
 * With -Weverything clang warns in C++ of NULL (here), or else of nullptr (that C++98 had none), and newer versions of each
 * pointer that is counted on.
 */
#ifdef __clang__
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wzero-as-null-pointer-constant"
#if __has_warning("-Wunsafe-buffer-usage")
#pragma clang diagnostic ignored "-Wunsafe-buffer-usage"
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Of other headers, which a program that does not use them need not include. */
struct msghdr;
struct pollfd;
struct sockaddr;
struct statx;

/*
 * A request with room for attributes: for each that this header knows, or for others of 448 bytes in all. Submit it with
 * io_submit2(ctx, &request.iocb, request.iocb.bytes).
 */
struct iocb2_room {
    struct iocb2 iocb;
    uint64_t attrs[56];
};

/*
 * Room for an event of a request with each attribute that this header knows. An array of n of them has room for n events at least,
 * which lie in it one behind another (io_event2_for_each()), not one in each.
 */
struct io_event2_room {
    struct io_event2 event;
    uint64_t returns[61];
};

/* ---- Requests */

/* A pointer as an argument of io_prep2_syscall(). */
AIO2_INLINE uint64_t io_arg2_pointer(const void *pointer)
{
    return AIO2_POINTER_CAST(uintptr_t, pointer);
}

/* A number as an argument of io_prep2_syscall(): a descriptor, flags, an offset. A negative one keeps its sign. */
AIO2_INLINE uint64_t io_arg2_int(int64_t number)
{
    return AIO2_CAST(uint64_t, number);
}

/* Fills a request without attributes. `data` is set to 0: set it afterwards. */
AIO2_INLINE void io_prep2_syscall(struct iocb2 *iocb, uint32_t nr, uint64_t a0, uint64_t a1,
                                    uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
    iocb->bytes = AIO2_CAST(uint32_t, sizeof(*iocb));
    iocb->nr = nr;
    iocb->data = 0;
    iocb->args[0] = a0;
    iocb->args[1] = a1;
    iocb->args[2] = a2;
    iocb->args[3] = a3;
    iocb->args[4] = a4;
    iocb->args[5] = a5;
}

AIO2_INLINE void io_prep2_nop(struct iocb2 *iocb)
{
    io_prep2_syscall(iocb, IOCB2_NOP, 0, 0, 0, 0, 0, 0);
}

/* pread(2): `count` and `offset` in bytes. */
AIO2_INLINE void io_prep2_pread(struct iocb2 *iocb, int fd, void *buf, size_t count, int64_t offset)
{
    io_prep2_syscall(iocb, SYS_pread64, io_arg2_int(fd), io_arg2_pointer(buf), count,
                     io_arg2_int(offset), 0, 0);
}

/* pwrite(2): `count` and `offset` in bytes. */
AIO2_INLINE void io_prep2_pwrite(struct iocb2 *iocb, int fd, const void *buf, size_t count, int64_t offset)
{
    io_prep2_syscall(iocb, SYS_pwrite64, io_arg2_int(fd), io_arg2_pointer(buf), count,
                     io_arg2_int(offset), 0, 0);
}

/* preadv2(2): `flags` are RWF_*; an `offset` of -1 reads at the file position, as for a pipe. */
AIO2_INLINE void io_prep2_preadv2(struct iocb2 *iocb, int fd, const struct iovec *iov, int iovcnt,
                                    int64_t offset, int flags)
{
    /* The kernel takes the offset as two longs, low word first; on a 64-bit one the first is all of it. */
    io_prep2_syscall(iocb, SYS_preadv2, io_arg2_int(fd), io_arg2_pointer(iov),
                     io_arg2_int(iovcnt), io_arg2_int(offset), 0, io_arg2_int(flags));
}

/* pwritev2(2): `flags` are RWF_*; an `offset` of -1 writes at the file position. */
AIO2_INLINE void io_prep2_pwritev2(struct iocb2 *iocb, int fd, const struct iovec *iov, int iovcnt,
                                     int64_t offset, int flags)
{
    io_prep2_syscall(iocb, SYS_pwritev2, io_arg2_int(fd), io_arg2_pointer(iov),
                     io_arg2_int(iovcnt), io_arg2_int(offset), 0, io_arg2_int(flags));
}

AIO2_INLINE void io_prep2_fsync(struct iocb2 *iocb, int fd)
{
    io_prep2_syscall(iocb, SYS_fsync, io_arg2_int(fd), 0, 0, 0, 0, 0);
}

AIO2_INLINE void io_prep2_fdatasync(struct iocb2 *iocb, int fd)
{
    io_prep2_syscall(iocb, SYS_fdatasync, io_arg2_int(fd), 0, 0, 0, 0, 0);
}

/* read(2) at the file position, or of a pipe or socket: `count` in bytes. */
AIO2_INLINE void io_prep2_read(struct iocb2 *iocb, int fd, void *buf, size_t count)
{
    io_prep2_syscall(iocb, SYS_read, io_arg2_int(fd), io_arg2_pointer(buf), count, 0, 0, 0);
}

/* write(2) at the file position, or to a pipe or socket: `count` in bytes. */
AIO2_INLINE void io_prep2_write(struct iocb2 *iocb, int fd, const void *buf, size_t count)
{
    io_prep2_syscall(iocb, SYS_write, io_arg2_int(fd), io_arg2_pointer(buf), count, 0, 0, 0);
}

/* openat(2): `mode` counts only for a file that is made. The new descriptor is the event's `res`. */
AIO2_INLINE void io_prep2_openat(struct iocb2 *iocb, int dirfd, const char *path, int flags, mode_t mode)
{
    io_prep2_syscall(iocb, SYS_openat, io_arg2_int(dirfd), io_arg2_pointer(path), io_arg2_int(flags), mode, 0, 0);
}

/* close(2). No other request that was submitted and has not ended may use the descriptor. */
AIO2_INLINE void io_prep2_close(struct iocb2 *iocb, int fd)
{
    io_prep2_syscall(iocb, SYS_close, io_arg2_int(fd), 0, 0, 0, 0, 0);
}

/* statx(2): `flags` are AT_*, `mask` is STATX_*. */
AIO2_INLINE void io_prep2_statx(struct iocb2 *iocb, int dirfd, const char *path, int flags, unsigned int mask,
                                struct statx *statx)
{
    io_prep2_syscall(iocb, SYS_statx, io_arg2_int(dirfd), io_arg2_pointer(path), io_arg2_int(flags), mask,
                     io_arg2_pointer(statx), 0);
}

/* fallocate(2): `offset` and `bytes` in bytes. */
AIO2_INLINE void io_prep2_fallocate(struct iocb2 *iocb, int fd, int mode, int64_t offset, int64_t bytes)
{
    io_prep2_syscall(iocb, SYS_fallocate, io_arg2_int(fd), io_arg2_int(mode), io_arg2_int(offset), io_arg2_int(bytes), 0,
                     0);
}

/* ftruncate(2): `bytes` is the file's new size. */
AIO2_INLINE void io_prep2_ftruncate(struct iocb2 *iocb, int fd, int64_t bytes)
{
    io_prep2_syscall(iocb, SYS_ftruncate, io_arg2_int(fd), io_arg2_int(bytes), 0, 0, 0, 0);
}

/* sync_file_range(2): `offset` and `bytes` in bytes, `flags` are SYNC_FILE_RANGE_*. */
AIO2_INLINE void io_prep2_sync_file_range(struct iocb2 *iocb, int fd, int64_t offset, int64_t bytes, unsigned int flags)
{
    io_prep2_syscall(iocb, SYS_sync_file_range, io_arg2_int(fd), io_arg2_int(offset), io_arg2_int(bytes), flags, 0, 0);
}

/* copy_file_range(2): `count` in bytes; the offsets are read and written, or NULL for the file positions. */
AIO2_INLINE void io_prep2_copy_file_range(struct iocb2 *iocb, int fd_in, int64_t *offset_in, int fd_out, int64_t *offset_out,
                                          size_t count, unsigned int flags)
{
    io_prep2_syscall(iocb, SYS_copy_file_range, io_arg2_int(fd_in), io_arg2_pointer(offset_in), io_arg2_int(fd_out),
                     io_arg2_pointer(offset_out), count, flags);
}

/* splice(2): `count` in bytes; the offsets are read and written, NULL for a pipe or the file position. */
AIO2_INLINE void io_prep2_splice(struct iocb2 *iocb, int fd_in, int64_t *offset_in, int fd_out, int64_t *offset_out,
                                 size_t count, unsigned int flags)
{
    io_prep2_syscall(iocb, SYS_splice, io_arg2_int(fd_in), io_arg2_pointer(offset_in), io_arg2_int(fd_out),
                     io_arg2_pointer(offset_out), count, flags);
}

/* unlinkat(2): `flags` 0 or AT_REMOVEDIR. */
AIO2_INLINE void io_prep2_unlinkat(struct iocb2 *iocb, int dirfd, const char *path, int flags)
{
    io_prep2_syscall(iocb, SYS_unlinkat, io_arg2_int(dirfd), io_arg2_pointer(path), io_arg2_int(flags), 0, 0, 0);
}

/* renameat2(2): `flags` are RENAME_*. */
AIO2_INLINE void io_prep2_renameat2(struct iocb2 *iocb, int from_dirfd, const char *from, int to_dirfd, const char *to,
                                    unsigned int flags)
{
    io_prep2_syscall(iocb, SYS_renameat2, io_arg2_int(from_dirfd), io_arg2_pointer(from), io_arg2_int(to_dirfd),
                     io_arg2_pointer(to), flags, 0);
}

/* mkdirat(2). */
AIO2_INLINE void io_prep2_mkdirat(struct iocb2 *iocb, int dirfd, const char *path, mode_t mode)
{
    io_prep2_syscall(iocb, SYS_mkdirat, io_arg2_int(dirfd), io_arg2_pointer(path), mode, 0, 0, 0);
}

/* accept4(2): `addr` and `addr_bytes` (a socklen_t) may be NULL. The new descriptor is the event's `res`. */
AIO2_INLINE void io_prep2_accept4(struct iocb2 *iocb, int fd, struct sockaddr *addr, uint32_t *addr_bytes, int flags)
{
    io_prep2_syscall(iocb, SYS_accept4, io_arg2_int(fd), io_arg2_pointer(addr), io_arg2_pointer(addr_bytes),
                     io_arg2_int(flags), 0, 0);
}

/* connect(2). */
AIO2_INLINE void io_prep2_connect(struct iocb2 *iocb, int fd, const struct sockaddr *addr, uint32_t addr_bytes)
{
    io_prep2_syscall(iocb, SYS_connect, io_arg2_int(fd), io_arg2_pointer(addr), addr_bytes, 0, 0, 0);
}

/* recv(2): `count` in bytes, `flags` are MSG_*. */
AIO2_INLINE void io_prep2_recv(struct iocb2 *iocb, int fd, void *buf, size_t count, int flags)
{
    io_prep2_syscall(iocb, SYS_recvfrom, io_arg2_int(fd), io_arg2_pointer(buf), count, io_arg2_int(flags), 0, 0);
}

/* send(2): `count` in bytes, `flags` are MSG_*. */
AIO2_INLINE void io_prep2_send(struct iocb2 *iocb, int fd, const void *buf, size_t count, int flags)
{
    io_prep2_syscall(iocb, SYS_sendto, io_arg2_int(fd), io_arg2_pointer(buf), count, io_arg2_int(flags), 0, 0);
}

/* recvmsg(2): `flags` are MSG_*. */
AIO2_INLINE void io_prep2_recvmsg(struct iocb2 *iocb, int fd, struct msghdr *message, int flags)
{
    io_prep2_syscall(iocb, SYS_recvmsg, io_arg2_int(fd), io_arg2_pointer(message), io_arg2_int(flags), 0, 0, 0);
}

/* sendmsg(2): `flags` are MSG_*. */
AIO2_INLINE void io_prep2_sendmsg(struct iocb2 *iocb, int fd, const struct msghdr *message, int flags)
{
    io_prep2_syscall(iocb, SYS_sendmsg, io_arg2_int(fd), io_arg2_pointer(message), io_arg2_int(flags), 0, 0, 0);
}

/* poll(2) of `count` descriptors, by ppoll(2): `timeout` is NULL for no limit, and receives the rest of it. */
AIO2_INLINE void io_prep2_poll(struct iocb2 *iocb, struct pollfd *fds, unsigned int count, struct timespec *timeout)
{
    io_prep2_syscall(iocb, SYS_ppoll, io_arg2_pointer(fds), count, io_arg2_pointer(timeout), 0, 0, 0);
}

/* clock_nanosleep(2): `clock` is CLOCK_MONOTONIC or another, `flags` 0 or TIMER_ABSTIME; `left` may be NULL. */
AIO2_INLINE void io_prep2_clock_nanosleep(struct iocb2 *iocb, int clock, int flags, const struct timespec *time,
                                          struct timespec *left)
{
    io_prep2_syscall(iocb, SYS_clock_nanosleep, io_arg2_int(clock), io_arg2_int(flags), io_arg2_pointer(time),
                     io_arg2_pointer(left), 0, 0);
}

/* Sets `data` to a pointer, which io_event2_pointer() gives back. After io_prep2_*(), which set it to 0. */
AIO2_INLINE void iocb2_set_pointer(struct iocb2 *iocb, void *pointer)
{
    iocb->data = io_arg2_pointer(pointer);
}

/*
 * Adds an attribute at the end of a request that lies in `room` bytes, and returns it; its cookie is 0 until it is set there.
 * `flags` are 0 or IOCB_ATTR_F_REQUIRED. `payload` has `payload_bytes` bytes (both may be 0) and is padded with zeros to a
 * multiple of 8. NULL if the room is too small, or the attributes would exceed IOCB2_ATTR_BYTES_MAX: nothing is added.
 */
AIO2_INLINE struct iocb_attr *iocb2_add_attr_within(struct iocb2 *iocb, size_t room, uint16_t id, uint32_t flags,
                                                    const void *payload, size_t payload_bytes)
{
    char *end = AIO2_POINTER_CAST(char *, iocb) + iocb->bytes;
    struct iocb_attr *attr = AIO2_POINTER_CAST(struct iocb_attr *, AIO2_POINTER_CAST(uintptr_t, end));
    size_t bytes;

    if (payload_bytes > IOCB2_ATTR_BYTES_MAX)
        return NULL;
    bytes = (sizeof(*attr) + payload_bytes + 7) & ~AIO2_CAST(size_t, 7);
    if (iocb->bytes > room || bytes > room - iocb->bytes || iocb->bytes + bytes > sizeof(*iocb) + IOCB2_ATTR_BYTES_MAX)
        return NULL;
    memset(end, 0, bytes);
    attr->bytes = AIO2_CAST(uint16_t, bytes);
    attr->id = id;
    attr->flags = flags;
    if (payload_bytes != 0)
        memcpy(attr + 1, payload, payload_bytes);
    iocb->bytes += AIO2_CAST(uint32_t, bytes);
    return attr;
}

/* The bytes that a request has, if the compiler sees that: it does if the request is not from elsewhere. Else SIZE_MAX. */
#ifdef __GNUC__
#define AIO2_ROOM(iocb) __builtin_object_size(iocb, 0)
#else
#define AIO2_ROOM(iocb) SIZE_MAX
#endif

/* The compiler warns of a call that it does not remove, so it has to optimize. */
#if defined(__OPTIMIZE__) && defined(__has_attribute)
#if __has_attribute(__warning__)
static void __attribute__((__noinline__, __warning__("a plain struct iocb2 has no room for an attribute: use struct iocb2_room")))
aio2_warn_of_room(void)
{
    /* Or else the compiler would find that it has no effect, and remove each call. */
    __asm__ volatile("");
}
#define AIO2_WARN_OF_ROOM(room) \
    (__builtin_constant_p(room) && (room) == sizeof(struct iocb2) ? aio2_warn_of_room() : AIO2_CAST(void, 0))
#endif
#endif
#ifndef AIO2_WARN_OF_ROOM
#define AIO2_WARN_OF_ROOM(room) AIO2_CAST(void, 0)
#endif

AIO2_INTERNAL struct iocb_attr *aio2_add_attr(struct iocb2 *iocb, size_t room, uint16_t id, uint32_t flags, uint64_t cookie,
                                              const void *payload, size_t payload_bytes)
{
    struct iocb_attr *attr = iocb2_add_attr_within(iocb, room, id, flags, payload, payload_bytes);

    AIO2_WARN_OF_ROOM(room);
    if (attr != NULL)
        attr->cookie = cookie;
    return attr;
}

/*
 * The same, without `room`: the caller has made sure that there is enough behind the request. A plain struct iocb2 has none: where the
 * compiler sees that, nothing is added, and it warns if it optimizes. iocb2_add_attr_within(), and the functions below for each attribute,
 * check the room.
 */
AIO2_INLINE struct iocb_attr *iocb2_add_attr(struct iocb2 *iocb, uint16_t id, uint32_t flags, uint64_t cookie,
                                             const void *payload, size_t payload_bytes)
{
    return aio2_add_attr(iocb, AIO2_ROOM(iocb), id, flags, cookie, payload, payload_bytes);
}

/* Also a macro: without optimization, the compiler sees the request's bytes only where the program names it. */
#define iocb2_add_attr(iocb, id, flags, cookie, payload, payload_bytes) \
    aio2_add_attr((iocb), AIO2_ROOM(iocb), (id), (flags), (cookie), (payload), (payload_bytes))

/*
 * An attribute for a request with room, after io_prep2_*(). `flags` are 0 or IOCB_ATTR_F_REQUIRED. They return the attribute,
 * whose cookie is 0 until it is set there; NULL if the room is used up, which each of them once does not do.
 */

/* When it was submitted, began and ended: io_event2_timing(). */
AIO2_INLINE struct iocb_attr *iocb2_add_timing(struct iocb2_room *request, uint32_t flags)
{
    return iocb2_add_attr_within(&request->iocb, sizeof(*request), IOCB_ATTR_TIMING, flags, NULL, 0);
}

/* Whether a read found its bytes in the page cache: io_event2_cache(). */
AIO2_INLINE struct iocb_attr *iocb2_add_cache(struct iocb2_room *request, uint32_t flags)
{
    return iocb2_add_attr_within(&request->iocb, sizeof(*request), IOCB_ATTR_CACHE, flags, NULL, 0);
}

/* An I/O priority, as for ioprio_set(2): the class in bits 13 to 15, the level in the lower ones. */
AIO2_INLINE struct iocb_attr *iocb2_add_ioprio(struct iocb2_room *request, uint32_t flags, uint32_t ioprio)
{
    struct iocb_ioprio payload;

    payload.ioprio = ioprio;
    payload.reserved = 0;
    return iocb2_add_attr_within(&request->iocb, sizeof(*request), IOCB_ATTR_IOPRIO, flags, &payload, sizeof(payload));
}

/* The latest time to begin: CLOCK_MONOTONIC, in nanoseconds. */
AIO2_INLINE struct iocb_attr *iocb2_add_deadline(struct iocb2_room *request, uint32_t flags, uint64_t ns)
{
    struct iocb_deadline payload;

    payload.ns = ns;
    return iocb2_add_attr_within(&request->iocb, sizeof(*request), IOCB_ATTR_DEADLINE, flags, &payload, sizeof(payload));
}

/* After all that was submitted before it, and before all that comes later. */
AIO2_INLINE struct iocb_attr *iocb2_add_drain(struct iocb2_room *request, uint32_t flags)
{
    return iocb2_add_attr_within(&request->iocb, sizeof(*request), IOCB_ATTR_DRAIN, flags, NULL, 0);
}

/* The next request of the same io_submit2() only if this one succeeds in full: iocb2_append() puts them together. */
AIO2_INLINE struct iocb_attr *iocb2_add_link(struct iocb2_room *request, uint32_t flags)
{
    return iocb2_add_attr_within(&request->iocb, sizeof(*request), IOCB_ATTR_LINK, flags, NULL, 0);
}

/* Which thread and processor carried it out: io_event2_worker(). */
AIO2_INLINE struct iocb_attr *iocb2_add_worker(struct iocb2_room *request, uint32_t flags)
{
    return iocb2_add_attr_within(&request->iocb, sizeof(*request), IOCB_ATTR_WORKER, flags, NULL, 0);
}

/* Which way it was carried out: io_event2_route(). */
AIO2_INLINE struct iocb_attr *iocb2_add_route(struct iocb2_room *request, uint32_t flags)
{
    return iocb2_add_attr_within(&request->iocb, sizeof(*request), IOCB_ATTR_ROUTE, flags, NULL, 0);
}

/*
 * Copies a request to the end of others, to be submitted with one io_submit2(ctx, batch, *bytes): `batch` is aligned to 8 and has
 * `room` bytes, of which `*bytes` are in use, at first 0. Returns 0, and changes `*bytes`; or -ENOBUFS: the rest of the room
 * is too small, and nothing has changed.
 */
AIO2_INLINE int iocb2_append(struct iocb2 *batch, size_t room, size_t *bytes, const struct iocb2 *iocb)
{
    if (*bytes > room || iocb->bytes > room - *bytes)
        return -ENOBUFS;
    memcpy(AIO2_POINTER_CAST(char *, batch) + *bytes, iocb, iocb->bytes);
    *bytes += iocb->bytes;
    return 0;
}

/* The place of the record behind this one. */
AIO2_INLINE struct iocb2 *iocb2_next(struct iocb2 *iocb)
{
    return AIO2_POINTER_CAST(struct iocb2 *, AIO2_POINTER_CAST(uintptr_t, iocb) + iocb->bytes);
}

/* ---- Events */

/*
 * The most bytes that an event has whose request has these attributes: IO_FEAT2_ATTR_* of each, combined by `|`; 0 for none. `attrs` is
 * evaluated more than once; for a constant it is a constant.
 */
#define IO_EVENT2_ROOM(attrs)                                                                   \
    (sizeof(struct io_event2) + AIO2_RETURN_ROOM(attrs, IO_FEAT2_ATTR_TIMING, sizeof(struct iocb_timing)) + \
     AIO2_RETURN_ROOM(attrs, IO_FEAT2_ATTR_CACHE, sizeof(struct iocb_cache)) +                  \
     AIO2_RETURN_ROOM(attrs, IO_FEAT2_ATTR_IOPRIO, 0u) +                                        \
     AIO2_RETURN_ROOM(attrs, IO_FEAT2_ATTR_DEADLINE, 0u) +                                      \
     AIO2_RETURN_ROOM(attrs, IO_FEAT2_ATTR_DRAIN, 0u) +                                         \
     AIO2_RETURN_ROOM(attrs, IO_FEAT2_ATTR_LINK, 0u) +                                          \
     AIO2_RETURN_ROOM(attrs, IO_FEAT2_ATTR_WORKER, sizeof(struct iocb_worker)) +                \
     AIO2_RETURN_ROOM(attrs, IO_FEAT2_ATTR_ROUTE, sizeof(struct iocb_route)))
#define AIO2_RETURN_ROOM(attrs, attr, payload_bytes) \
    (((attrs) & (attr)) != 0u ? sizeof(struct iocb_attr_ret) + (payload_bytes) : 0u)

/* The event behind this one; the caller knows from the bytes it was given whether there is one. */
AIO2_INLINE struct io_event2 *io_event2_next(const struct io_event2 *event)
{
    return AIO2_POINTER_CAST(struct io_event2 *, AIO2_POINTER_CAST(uintptr_t, event) + event->bytes);
}

/* Events that lie one behind another, and have not been looked at. */
struct io_event2_iter {
    const struct io_event2 *next;
    size_t bytes;
};

/* Those in the `bytes` bytes at `buf`, as io_getevents2() has returned them; none if it has returned 0 or an error. */
AIO2_INLINE struct io_event2_iter io_event2_iter_begin(const void *buf, ssize_t bytes)
{
    struct io_event2_iter iter;

    iter.next = AIO2_CAST(const struct io_event2 *, buf);
    iter.bytes = bytes > 0 ? AIO2_CAST(size_t, bytes) : 0;
    return iter;
}

/* Gives the next one and returns 1; or returns 0: there is none, or it is not whole. */
AIO2_INLINE int io_event2_iter_next(struct io_event2_iter *iter, const struct io_event2 **event)
{
    const struct io_event2 *next = iter->next;

    if (iter->bytes < sizeof(*next) || next->bytes < sizeof(*next) || next->bytes > iter->bytes)
        return 0;
    *event = next;
    iter->bytes -= next->bytes;
    iter->next = io_event2_next(next);
    return 1;
}

#if defined(__cplusplus) || (defined(__STDC_VERSION__) && __STDC_VERSION__ >= 199901L)
/*
 * for (each event in the `bytes` bytes at `buf`, as io_getevents2() has returned them): `event` is a variable of the type
 * `const struct io_event2 *`, and points to each in turn. If `bytes` is 0 or an error there are none. `buf` and `bytes` are evaluated
 * once. (C89 has no such loop: there io_event2_iter_begin() and io_event2_iter_next() do the same.)
 */
#define io_event2_for_each(event, buf, bytes)                                                     \
    for (struct io_event2_iter AIO2_ITER(__LINE__) = io_event2_iter_begin((buf), (bytes));        \
         io_event2_iter_next(&AIO2_ITER(__LINE__), &(event));)
#define AIO2_ITER(line) AIO2_ITER_OF(line)
#define AIO2_ITER_OF(line) aio2_iter_##line
#endif

/* `data` as the pointer that iocb2_set_pointer() was given. */
AIO2_INLINE void *io_event2_pointer(const struct io_event2 *event)
{
    return AIO2_POINTER_CAST(void *, event->data);
}

/* The first return of attribute `id` in an event, or NULL; its payload follows it. */
AIO2_INLINE struct iocb_attr_ret *io_event2_attr(const struct io_event2 *event, uint16_t id)
{
    uintptr_t at = AIO2_POINTER_CAST(uintptr_t, event + 1);
    size_t left = event->bytes > sizeof(*event) ? event->bytes - sizeof(*event) : 0;

    while (left >= sizeof(struct iocb_attr_ret)) {
        struct iocb_attr_ret *ret = AIO2_POINTER_CAST(struct iocb_attr_ret *, at);

        if (ret->bytes < sizeof(*ret) || ret->bytes > left)
            break;
        if (ret->id == id)
            return ret;
        at += ret->bytes;
        left -= ret->bytes;
    }
    return NULL;
}

/* How attribute `id` was handled: 0, or the -errno of its return; -ENOENT if the request did not have it. */
AIO2_INLINE int io_event2_handled(const struct io_event2 *event, uint16_t id)
{
    const struct iocb_attr_ret *ret = io_event2_attr(event, id);

    return ret != NULL ? ret->ret : -ENOENT;
}

/* The payload of attribute `id`, of `bytes` bytes at least; NULL if there is none, or the attribute was not handled. */
AIO2_INLINE const void *io_event2_payload(const struct io_event2 *event, uint16_t id, size_t bytes)
{
    const struct iocb_attr_ret *ret = io_event2_attr(event, id);

    return ret != NULL && ret->ret == 0 && ret->bytes - sizeof(*ret) >= bytes ? ret + 1 : NULL;
}

/*
 * The answer of an attribute, where it lies in the event; NULL if the request did not have the attribute, or it was not
 * handled: io_event2_handled() says why.
 */
AIO2_INLINE const struct iocb_timing *io_event2_timing(const struct io_event2 *event)
{
    return AIO2_CAST(const struct iocb_timing *, io_event2_payload(event, IOCB_ATTR_TIMING, sizeof(struct iocb_timing)));
}

AIO2_INLINE const struct iocb_cache *io_event2_cache(const struct io_event2 *event)
{
    return AIO2_CAST(const struct iocb_cache *, io_event2_payload(event, IOCB_ATTR_CACHE, sizeof(struct iocb_cache)));
}

AIO2_INLINE const struct iocb_worker *io_event2_worker(const struct io_event2 *event)
{
    return AIO2_CAST(const struct iocb_worker *, io_event2_payload(event, IOCB_ATTR_WORKER, sizeof(struct iocb_worker)));
}

AIO2_INLINE const struct iocb_route *io_event2_route(const struct io_event2 *event)
{
    return AIO2_CAST(const struct iocb_route *, io_event2_payload(event, IOCB_ATTR_ROUTE, sizeof(struct iocb_route)));
}

/* ---- The ring */

/*
 * Takes the oldest event out of the ring without a call, and returns its bytes; 0 if the ring is
 * empty; -ENOBUFS if the event has more than `nbytes` bytes (it stays); -EIO if the ring is corrupt.
 * Any number of threads may do so at once, and beside io_getevents2().
 *
 * 0 does not mean that there is no event: if io_ring2_overflowed(), call io_getevents2().
 */
AIO2_INLINE ssize_t io_ring2_reap(io_context2_t ctx, struct io_event2 *event, size_t nbytes)
{
    const char *data = AIO2_POINTER_CAST(const char *, ctx) + ctx->header_bytes;
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
            bytes = __atomic_load_n(AIO2_POINTER_CAST(const uint32_t *, AIO2_POINTER_CAST(uintptr_t, record)), __ATOMIC_RELAXED);
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
            return AIO2_CAST(ssize_t, bytes);
    }
}

/*
 * Looks at the oldest event where it is, in the ring, without copying it: *event points to it, attribute returns
 * included, until io_ring2_consume() gives its place back. Returns its bytes; 0, if the ring is empty (as with
 * io_ring2_reap(), io_ring2_overflowed() then says whether to call io_getevents2()); -EIO if the ring is corrupt.
 *
 * For a context with ONE consumer: from peek to consume no other thread may take events of this context, neither
 * with these two nor with io_ring2_reap(), io_getevents2() or io_pgetevents2(). Another could give the place back, and
 * the library overwrite the event that is being looked at.
 */
AIO2_INLINE ssize_t io_ring2_peek(io_context2_t ctx, const struct io_event2 **event)
{
    uintptr_t data = AIO2_POINTER_CAST(uintptr_t, ctx) + ctx->header_bytes;
    /* Relaxed: only the one consumer, which is the caller, moves it. */
    uint32_t head = __atomic_load_n(&ctx->head, __ATOMIC_RELAXED);
    /* Acquire: pairs with the library's release of tail, behind which the record is written. */
    uint32_t tail = __atomic_load_n(&ctx->tail, __ATOMIC_ACQUIRE);
    const struct io_event2 *oldest = AIO2_POINTER_CAST(const struct io_event2 *, data + (head & (ctx->ring_bytes - 1)));
    uint32_t used = tail - head;

    if (used == 0)
        return 0;
    if (used > ctx->ring_bytes || (head & 7) != 0 || oldest->bytes < sizeof(*oldest) || oldest->bytes > used ||
        (oldest->bytes & 7) != 0)
        return -EIO;
    *event = oldest; /* contiguous also across the end: the area is mapped twice */
    return AIO2_CAST(ssize_t, oldest->bytes);
}

/* Gives the place of the oldest event back, which io_ring2_peek() has said to have that many bytes. */
AIO2_INLINE void io_ring2_consume(io_context2_t ctx, ssize_t bytes)
{
    uint32_t head = __atomic_load_n(&ctx->head, __ATOMIC_RELAXED);

    /* Release: we are done with the record before the library may write over it. */
    __atomic_store_n(&ctx->head, head + AIO2_CAST(uint32_t, bytes), __ATOMIC_RELEASE);
}

/*
 * Whether a reaper that found the ring empty has to call io_getevents2(): events wait on the
 * overflow list, or arrived in the ring in between.
 */
AIO2_INLINE int io_ring2_overflowed(io_context2_t ctx)
{
    /* Acquire: pairs with the library's release; once it reads as clear, the tail read next has all events. */
    return (__atomic_load_n(&ctx->flags, __ATOMIC_ACQUIRE) & IO_RING2_OVERFLOW) != 0;
}

/*
 * For a context whose eventfd is readable: reads the eventfd, unless `eventfd` is -1, and calls each(event, arg) for every event
 * there is, oldest first, those of the overflow list included, until there is none. So an event that comes later makes the eventfd
 * readable again. `event` is valid until `each` returns. `each` may submit requests; it must not take events of this
 * context, or destroy it.
 *
 * The eventfd should be one that does not block (EFD_NONBLOCK): of one that does, the read waits if it is not readable, or
 * another thread was quicker.
 *
 * Returns how many events there were; or an error of io_getevents2(), or the negative errno of the eventfd's read, also if `each`
 * has been called before.
 */
AIO2_INLINE ssize_t io_ring2_reap_all(io_context2_t ctx, int eventfd, void (*each)(const struct io_event2 *event, void *arg),
                                      void *arg)
{
    struct io_event2_room room[16]; /* more than any event has */
    struct io_event2_iter iter;
    const struct io_event2 *event = NULL;
    uint64_t added;
    ssize_t events = 0;
    ssize_t bytes;

    if (eventfd != -1) {
        int saved = errno;
        int failed;

        do
            failed = read(eventfd, &added, sizeof(added)) < 0 ? errno : 0;
        while (failed == EINTR);
        errno = saved;
        if (failed != 0 && failed != EAGAIN)
            return -failed;
    }
    while ((bytes = io_getevents2(ctx, 0, &room[0].event, sizeof(room), NULL)) > 0) {
        iter = io_event2_iter_begin(room, bytes);
        while (io_event2_iter_next(&iter, &event)) {
            each(event, arg);
            events++;
        }
    }
    return bytes < 0 ? bytes : events;
}

#ifdef __cplusplus
}
#endif

#ifdef __clang__
#pragma clang diagnostic pop
#endif
