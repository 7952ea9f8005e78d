/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The inline functions of aio2.h, as functions of the same names: libaio2-ffi.so, for languages that cannot use a C header. */
#define AIO2_INLINE
#include <aio2.h>
