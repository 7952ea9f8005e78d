// SPDX-License-Identifier: MIT OR Apache-2.0
//
// libaio2 for C++17 and C++20, in one header that needs nothing else: to be copied and changed.
//
//     aio2::context ctx;
//     std::future<std::int64_t> n = ctx.submit([&](iocb2 *r) { io_prep2_pread(r, fd, buf, size, 0); });
//     std::int64_t n = co_await ctx.async([&](iocb2 *r) { io_prep2_pread(r, fd, buf, size, 0); }); // C++20
//     ctx.run();                                                                                   // until all have ended
//
// A request's result is the value that its system call has returned, or a negative error number. The memory that it reads or writes must
// stay until it has ended; a context waits for that before it is gone. One thread at a time may use a context; the thread that calls
// run() does the work that follows a request.

#ifndef AIO2_HPP
#define AIO2_HPP

#include <aio2.h>

#include <cstddef>
#include <cstdint>
#include <future>
#include <memory>
#include <system_error>
#ifdef __cpp_impl_coroutine
#include <coroutine>
#include <exception>
#include <utility>
#endif

namespace aio2 {

// Returns the value of a call, unless it has failed.
inline ssize_t check(const char *what, ssize_t ret)
{
    if (ret < 0)
        throw std::system_error(static_cast<int>(-ret), std::generic_category(), what);
    return ret;
}

// The receiver of a request's end.
class completion {
public:
    virtual void complete(std::int64_t res) noexcept = 0;

protected:
    ~completion() = default;
};

class context {
public:
    context() { check("io_setup2", io_setup2(IO_SETUP2_VERSION, nullptr, &ctx_)); }
    context(const context &) = delete;
    context &operator=(const context &) = delete;

    ~context()
    {
        try {
            run();
        } catch (const std::system_error &) {
            // The context is broken; io_destroy2() waits for its remaining requests.
        }
        io_destroy2(ctx_);
    }

    // Submits the record that `prepare(iocb2 *)` fills, by one of io_prep2_*(). `end` must stay until it has been called.
    template <class Prepare> void start(Prepare &&prepare, completion &end)
    {
        iocb2 request;

        prepare(&request);
        iocb2_set_pointer(&request, &end);
        check("io_submit2", io_submit2(ctx_, &request, request.bytes));
        in_flight_++;
    }

    template <class Prepare> std::future<std::int64_t> submit(Prepare &&prepare)
    {
        struct promised final : completion {
            std::promise<std::int64_t> promise;

            void complete(std::int64_t res) noexcept override
            {
                const std::unique_ptr<promised> gone(this);

                promise.set_value(res);
            }
        };
        auto end = std::make_unique<promised>();
        auto future = end->promise.get_future();

        start(prepare, *end);
        end.release(); // until it is complete it owns itself
        return future;
    }

#ifdef __cpp_impl_coroutine
    // To be awaited: submits then, and gives the result.
    template <class Prepare> auto async(Prepare prepare)
    {
        struct awaiter final : completion {
            awaiter(context &c, Prepare p) : ctx(c), prepare(std::move(p)) {}

            bool await_ready() const noexcept { return false; }
            void await_suspend(std::coroutine_handle<> waiter)
            {
                handle = waiter;
                ctx.start(prepare, *this);
            }
            std::int64_t await_resume() const noexcept { return result; }
            void complete(std::int64_t res) noexcept override
            {
                result = res;
                handle.resume();
            }

            context &ctx;
            Prepare prepare;
            std::coroutine_handle<> handle;
            std::int64_t result = 0;
        };
        return awaiter(*this, std::move(prepare));
    }
#endif

    // Waits for the end of one request or more.
    void run_some()
    {
        io_event2_room room[16];
        const io_event2 *event = nullptr;
        ssize_t bytes;

        do
            bytes = io_getevents2(ctx_, 1, &room[0].event, sizeof(room), nullptr);
        while (bytes == -EINTR);
        check("io_getevents2", bytes);
        io_event2_for_each (event, room, bytes) {
            in_flight_--;
            static_cast<completion *>(io_event2_pointer(event))->complete(event->res);
        }
    }

    // Until all submitted requests have ended, including those that are submitted meanwhile.
    void run()
    {
        while (in_flight_ != 0)
            run_some();
    }

private:
    io_context2_t ctx_ = nullptr;
    std::size_t in_flight_ = 0;
};

#ifdef __cpp_impl_coroutine
// A coroutine that begins at once and for which nobody waits.
struct detached {
    struct promise_type {
        detached get_return_object() const noexcept { return {}; }
        std::suspend_never initial_suspend() const noexcept { return {}; }
        std::suspend_never final_suspend() const noexcept { return {}; }
        void return_void() const noexcept {}
        void unhandled_exception() const noexcept { std::terminate(); }
    };
};
#endif

} // namespace aio2

#endif
