/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef REBIND_H
#define REBIND_H

/* This object's own syscall(), even if another object's comes first. */
__attribute__((visibility("hidden"))) long aio2_syscall(long nr, ...);

#endif
