/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* syscall() in the program's place of the C library's, through which the library calls futex. Included after test.h. */
#ifndef AIO2_SYSCALL_HOOK_H
#define AIO2_SYSCALL_HOOK_H

#include <stdarg.h>

/* The program's: called before each. */
static void before_syscall(long nr, const long args[6]);

/* Takes the place of the C library's for the library, too. */
long syscall(long nr, ...)
{
    va_list args;
    long a[6];
    long result;

    va_start(args, nr);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    before_syscall(nr, a);
#ifdef __x86_64__
    {
        register long r10 __asm__("r10") = a[3];
        register long r8 __asm__("r8") = a[4];
        register long r9 __asm__("r9") = a[5];

        __asm__ volatile("syscall"
                         : "=a"(result)
                         : "a"(nr), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
                         : "rcx", "r11", "memory");
    }
#elif defined(__aarch64__)
    {
        register long x8 __asm__("x8") = nr;
        register long x0 __asm__("x0") = a[0];
        register long x1 __asm__("x1") = a[1];
        register long x2 __asm__("x2") = a[2];
        register long x3 __asm__("x3") = a[3];
        register long x4 __asm__("x4") = a[4];
        register long x5 __asm__("x5") = a[5];

        __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
        result = x0;
    }
#else
    (void)a;
    result = -ENOSYS;
    SKIP("system calls of this processor are not known to this test");
#endif
    if (result < 0 && result > -4096) {
        errno = (int)-result;
        return -1;
    }
    return result;
}

#endif /* AIO2_SYSCALL_HOOK_H */
