/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef REPORT_H
#define REPORT_H

#include <sys/types.h>

/* The facts about the program that aio2-run has started. */
struct aio2_run {
    /* 0: this process is not that program. */
    pid_t pid;
    /* Whether statistics were asked for. */
    int has_stats;
    /* The file that standard error was at the start. */
    dev_t device;
    ino_t inode;
    int has_forked, has_ended;
};

extern struct aio2_run aio2_run;

/* See preload.c. */
extern void (*aio2_at_process_end)(int goes_on);

/* Reports once, at the end of the process. */
__attribute__((visibility("hidden"))) void aio2_report(void);

#endif
