/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * A log-linear histogram of nanoseconds: every power of two is cut into 32 buckets, so a percentile is
 * at most 1/32 above the true value. It never allocates.
 */

#ifndef AIO2_HIST_H
#define AIO2_HIST_H

#include <stdint.h>

#define HIST_SUB_BITS 5
#define HIST_SUB (1u << HIST_SUB_BITS)
#define HIST_BUCKETS ((64 - HIST_SUB_BITS + 1) * HIST_SUB)

struct hist {
    uint64_t count;
    uint64_t sum;
    uint64_t max;
    uint64_t bucket[HIST_BUCKETS];
};

static inline unsigned int hist_index(uint64_t ns)
{
    unsigned int shift;

    if (ns < HIST_SUB)
        return (unsigned int)ns;
    shift = 63u - (unsigned int)__builtin_clzll(ns) - HIST_SUB_BITS;
    return shift * HIST_SUB + (unsigned int)(ns >> shift);
}

/* The largest value that belongs to a bucket. */
static inline uint64_t hist_limit(unsigned int index)
{
    unsigned int shift;

    if (index < 2 * HIST_SUB)
        return index;
    shift = index / HIST_SUB - 1;
    /* For the last bucket the shift takes out the one bit too many, and this is 2^64 - 1. */
    return (((uint64_t)(HIST_SUB + index % HIST_SUB) + 1) << shift) - 1;
}

static inline void hist_add(struct hist *hist, uint64_t ns)
{
    hist->count++;
    hist->sum += ns;
    if (ns > hist->max)
        hist->max = ns;
    hist->bucket[hist_index(ns)]++;
}

static inline double hist_mean(const struct hist *hist)
{
    return hist->count ? (double)hist->sum / (double)hist->count : 0.0;
}

/* The value that `percent` of the values do not exceed; 0 if there are none. */
static inline uint64_t hist_percentile(const struct hist *hist, double percent)
{
    double wanted = (double)hist->count * percent / 100.0;
    uint64_t seen = 0;

    for (unsigned int i = 0; i < HIST_BUCKETS; i++) {
        seen += hist->bucket[i];
        if (seen && (double)seen >= wanted)
            return hist_limit(i) < hist->max ? hist_limit(i) : hist->max;
    }
    return hist->max;
}

#endif
