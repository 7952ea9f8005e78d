#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Reads the beginnings of files, all at once: examples/first.c for Python, by cffi (python3-cffi) and libaio2-ffi.so.

    first.py PATH...

The library's own functions are found through libaio2-ffi.so, too, which needs libaio2.so.
"""
import os
import sys

import cffi

ffi = cffi.FFI()
# Of aio2.h, what this program uses.
ffi.cdef("""
typedef struct io_ring2 *io_context2_t;
struct iocb2 { uint32_t bytes, nr; uint64_t data, args[6]; };
struct iocb2_room { struct iocb2 iocb; uint64_t attrs[56]; };
struct io_event2 { uint32_t bytes, flags; uint64_t data; int64_t res; };
struct io_event2_room { struct io_event2 event; uint64_t returns[61]; };
struct iocb_timing { uint64_t submit_ns, start_ns, end_ns; };

int io_setup2(uint32_t version, void *params, io_context2_t *ctx);
int io_destroy2(io_context2_t ctx);
ssize_t io_submit2(io_context2_t ctx, const struct iocb2 *iocbs, size_t nbytes);
ssize_t io_getevent2(io_context2_t ctx, struct io_event2 *event, size_t nbytes, const void *timeout);

void io_prep2_pread(struct iocb2 *iocb, int fd, void *buf, size_t count, int64_t offset);
void *iocb2_add_timing(struct iocb2_room *request, uint32_t flags);
const struct iocb_timing *io_event2_timing(const struct io_event2 *event);
""")
aio2 = ffi.dlopen("libaio2-ffi.so.0")


def check(what, ret):
    if ret < 0:
        sys.exit(f"{what}: {os.strerror(-ret)}")
    return ret


def main(paths):
    ctx = ffi.new("io_context2_t *")
    check("io_setup2", aio2.io_setup2(2, ffi.NULL, ctx))
    # The memory must stay until the request's event has come: so it is kept here.
    buffers = [ffi.new("char[4096]") for _ in paths]
    for i, path in enumerate(paths):
        request = ffi.new("struct iocb2_room *")
        aio2.io_prep2_pread(ffi.addressof(request.iocb), os.open(path, os.O_RDONLY), buffers[i], 4096, 0)
        request.iocb.data = i
        aio2.iocb2_add_timing(request, 0)
        check("io_submit2", aio2.io_submit2(ctx[0], ffi.addressof(request.iocb), request.iocb.bytes))
    failed = 0
    for _ in paths:
        room = ffi.new("struct io_event2_room *")
        event = ffi.addressof(room.event)
        check("io_getevent2", aio2.io_getevent2(ctx[0], event, ffi.sizeof("struct io_event2_room"), ffi.NULL))
        path = paths[event.data]
        if event.res < 0:
            print(f"{path}: {os.strerror(-event.res)}", file=sys.stderr)
            failed = 1
            continue
        t = aio2.io_event2_timing(event)
        print(f"{path}: read {event.res} bytes, waited {t.start_ns - t.submit_ns} ns, ran {t.end_ns - t.start_ns} ns")
    check("io_destroy2", aio2.io_destroy2(ctx[0]))
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
