/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* For programs that have a pthread_create() of their own, which the library calls, too. */
#ifndef CREATE_H
#define CREATE_H

#include <dlfcn.h>
#include <pthread.h>

/* The C library's. */
static int real_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

    *(void **)(void *)&real = dlsym(RTLD_NEXT, "pthread_create");
    return real(thread, attr, run, arg);
}

#endif
