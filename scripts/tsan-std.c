/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Tells ThreadSanitizer what Rust's precompiled, not instrumented standard library does: see sanitizers.sh.
 *
 * The mutex: locking it without contention, and unlocking it, are inlined into the library and instrumented there; unlocking
 * is a release. A thread that had to wait gets the lock in lock_contended(), and with it, as an acquire, all that was
 * released.
 */
void __tsan_acquire(void *addr);

void real_lock_contended(void *mutex) __asm__("__real_" LOCK_CONTENDED);
void wrap_lock_contended(void *mutex) __asm__("__wrap_" LOCK_CONTENDED);

void wrap_lock_contended(void *mutex)
{
    real_lock_contended(mutex);
    __tsan_acquire(mutex);
}
