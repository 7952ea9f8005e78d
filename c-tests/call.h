/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* System calls made through a context of the test's own. Included after test.h. */
#ifndef AIO2_CALL_H
#define AIO2_CALL_H

#define P(pointer) ((uint64_t)(uintptr_t)(pointer))
#define N(number) ((uint64_t)(int64_t)(number))

static io_context2_t call_ctx;

/* Submits one call, whose event will have this data. */
#define start_call(data, ...) test_start_call((data), (const uint64_t[7]){ __VA_ARGS__ })
/* Makes one call through the ring and gives its result. */
#define call_async(...) test_call_async(__FILE__, __LINE__, (const uint64_t[7]){ __VA_ARGS__ })

static TEST_UNUSED void test_start_call(uint64_t data, const uint64_t *call)
{
    struct iocb2 iocb;

    if (call_ctx == NULL)
        call_ctx = setup2(0, 0, 0);
    io_prep2_syscall(&iocb, (uint32_t)call[0], call[1], call[2], call[3], call[4], call[5], call[6]);
    iocb.data = data;
    submit_one(call_ctx, &iocb);
}

/* The result of the one call that is in flight. */
static TEST_UNUSED int64_t end_call(uint64_t data)
{
    union event_room room;

    get_one(call_ctx, &room.event);
    CHECK_EQ(room.event.data, data);
    CHECK_EQ(room.event.bytes, 24);
    return room.event.res;
}

static TEST_UNUSED int64_t test_call_async(const char *file, int line, const uint64_t *call)
{
    test_at(file, line);
    test_start_call(call[0], call);
    return end_call(call[0]);
}

static TEST_UNUSED void call_end(void)
{
    CHECK_EQ(CALL(io_destroy2(call_ctx)), 0);
    call_ctx = NULL;
}

#endif /* AIO2_CALL_H */
