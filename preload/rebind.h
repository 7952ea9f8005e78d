/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef REBIND_H
#define REBIND_H

#include <sys/types.h>

/* This object's own syscall() and so on, even if another object's come first. */
#pragma GCC visibility push(hidden)
long aio2_syscall(long nr, ...);
int aio2_fcntl(int fd, int operation, ...);
int aio2_setfsuid(uid_t user);
int aio2_setfsgid(gid_t group);
int aio2_capset(void *header, const void *data);
#pragma GCC visibility pop

#endif
