/* Time. */
#ifndef MR_BASE_CLOCK_H
#define MR_BASE_CLOCK_H

#include <stdint.h>

/* Nanoseconds of the monotonic clock; only differences mean something. */
uint64_t mr_clock_ns(void);

/* Seconds between an earlier mr_clock_ns() and now. */
double mr_clock_since(uint64_t start_ns);

#endif
