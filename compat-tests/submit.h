/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* io_submit() until all of them are accepted. */
#ifndef SUBMIT_H
#define SUBMIT_H

#include <libaio.h>
#include "must.h"

static void submit_all(io_context_t ctx, int n, struct iocb **list)
{
    for (int at = 0; at < n;) {
        int ret = io_submit(ctx, n - at, list + at);

        if (ret == -EAGAIN)
            continue;
        MUST(ret > 0);
        at += ret;
    }
}

#endif
